"""A trial on a worker: the process that Ray Tune starts, gives one trial after another, and asks for reports."""

import faulthandler
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from cluster.imports import no_collection
from cluster.reaper import share_fate
from search import workloads
from search.trial import libraries, trial_log
from search.trial.clean_slate import CleanSlate
from search.trial.failures import DataWritten, Failed
from search.trial.session import Session
from search.trial.shared_data import SharedData
from search.trial.terms import Terms
from trainables import Train

if TYPE_CHECKING:
    from search.trial.data_parallel import DataParallel

# A stopped function ends at its next report; one that does not within this time gets its process replaced.
_PATIENCE_S = 2.0
# So often a slot asks for something to do, where it has to wait for other trials to end.
_IDLE_S = 0.05
_WORKERS_PATIENCE_S = 20.0  # Ray Train takes some seconds to end them


class ProcessSpoilt(Exception):
    """The last trial left something in the process that the next would notice; another process has to train it."""


class NewProcessWanted(ProcessSpoilt):
    """The next trial is to have a process of its own."""


class WorkersLost(Exception):
    """One of the workers that train a trial together has died.

    Args:
        kind: worker_lost, oom or node_lost; or that what it needs can't be imported where it was to be.
        message: What is known of it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """A slot: trains one trial after another. Tune sees only the slot; its trials come by `assign`."""

    def setup(self, config: dict[str, Any], *, terms: Terms, data: SharedData) -> None:
        """Get ready for any trial of the study."""
        terms = replace(terms, making=share_fate())
        self._terms, self._data = terms, data
        libraries.settle(terms.num_threads, terms.gpu)
        self._together: DataParallel | None = None
        with no_collection():
            self._train: Train = terms.train
            if terms.num_workers > 1:
                self._train = self._together = _on_several_workers(terms, data)
            else:
                self._prepare(terms, data.load())
        self._slate = CleanSlate(terms.num_threads)
        self._node = ray.util.get_node_ip_address()
        self._next: Mapping[str, Any] | None = None
        self._rests = False
        self._session: Session | None = None
        self._lost: WorkersLost | None = None
        self._number = -1  # of the trial that it trains, or trained last
        self._num_printed = 0  # so many bytes of what it has printed have been handed on
        self._is_reused = False  # what trains has trained another before
        self._threads = set(threading.enumerate())
        self._left_s: float | None = None
        self._armed_at: float | None = None
        self._timer: threading.Timer | None = None

    def __repr__(self) -> str:
        """What Ray's dashboard calls the slot. Ray asks once, so that no trial's number can be in it."""
        return f"slot of {PurePath(self._terms.run_directory).name}"

    def _prepare(self, terms: Terms, data: Any) -> None:
        workloads.warm_up(
            terms.workload, data, gpu=terms.gpu > 0, num_threads=terms.num_threads, precision=terms.precision
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Be another slot of the same study.

        Raises:
            ProcessSpoilt: As `step`.
        """
        self._clear()
        return True

    def assign(self, assignment: Mapping[str, Any] | None) -> None:
        """What the next step is to begin; None to let go of the last trial, and wait."""
        self._next, self._rests = assignment, assignment is None

    def step(self) -> dict[str, Any]:
        """Begin the trial that has been assigned, or give what the running one has reported.

        Returns:
            `{"reports": […]}` as `Session.next` gives them, each with the `node` that made it; `{"began": True}`; or
            `{"idle": True}` when there is nothing to train.

        Raises:
            ProcessSpoilt: The last trial can't be brought to an end or left something behind.
            WorkersLost: One of several workers has died, and with it the attempt.
            DataWritten: A trial wrote to what it shares with others.
        """
        if self._next is not None:
            assignment, self._next = self._next, None
            self._begin(assignment)
            return {"began": True}
        if self._lost:
            raise self._lost
        if self._rests:
            self._clear()
            self._rests = False
        if self._session is None:
            time.sleep(_IDLE_S)
            return {"idle": True}
        self._arm()
        reports = self._session.next()
        if self._session.waits:  # else it trains on, and its time goes on
            self._disarm()
        failure = reports[-1].get("failure")
        if failure and failure.get("died"):
            self._lost = WorkersLost(failure["kind"], failure["message"])
            reports.pop()  # what was reported before it counts
            if not reports:
                raise self._lost
            failure = None
        if failure or reports[-1]["done"]:
            self._check_data()
        self._slate.flush()
        if self._terms.scratch:
            reports[0]["printed"], self._num_printed = trial_log.since(
                self._terms.scratch, self._number, self._num_printed, is_last=reports[-1]["done"]
            )
        if failure:
            reports[-1]["failure"] = {**failure, "reused": self._is_reused}
        if failure and self._terms.scratch:  # here, for what is printed lies on this machine
            reports[-1]["log_tail"] = trial_log.tail(self._terms.scratch, self._number)
        # In a list, Tune takes them as they are; what it finds in a mapping it flattens and averages.
        node = self._together.node if self._together else self._node
        return {"reports": [{**report, "node": node} for report in reports]}

    def cleanup(self) -> None:
        """Let go of the trial, and of the workers that trained it together."""
        if self._end() and not self._together:
            self._slate.leftovers(self._threads)  # what they have still to write is written
        if self._together:
            self._together.close()

    def _begin(self, assignment: Mapping[str, Any]) -> None:
        self._clear()
        self._lost = None
        self._is_reused = self._number >= 0 if self._together is None else self._together.is_gathered
        if self._is_reused and assignment["new_process"]:
            if self._together is None:
                raise NewProcessWanted(f"trial {assignment['number']} is not for a process that has trained before")
            self._together.close()
            self._is_reused = False
        self._number = assignment["number"]
        self._slate.flush()
        if self._terms.scratch:
            trial_log.capture(self._terms.scratch, assignment["number"])
            self._num_printed = 0
        data = None if self._together else self._data.for_trial()
        self._slate.wipe(assignment["seed"])
        self._threads = set(threading.enumerate())
        self._left_s = self._terms.trial_wall_s
        if self._together:
            try:
                self._together.gather()
            except Failed as err:
                raise WorkersLost(err.facts["kind"], err.facts["message"]) from err
        self._arm()
        self._session = Session(self._train, self._terms, data, assignment)

    def _clear(self) -> None:
        if not self._end():
            if self._together:
                self._together.end_at_once()
            raise ProcessSpoilt(f"trial {self._number} did not end when it was stopped")
        self._check_data()
        # A study's own code runs in the workers, where there are several, and not here.
        leftovers = None if self._together else self._slate.leftovers(self._threads)
        if leftovers:
            raise ProcessSpoilt(f"trial {self._number} left {leftovers} behind")

    def _check_data(self) -> None:
        if self._together and self._together.has_written_data:
            raise DataWritten
        self._data.check()

    def _end(self) -> bool:
        self._disarm()
        session, self._session = self._session, None
        if session is None:
            return True
        session.close()
        has_ended = session.join(_WORKERS_PATIENCE_S if self._together else _PATIENCE_S)
        if self._terms.scratch and has_ended:
            trial_log.forget(self._terms.scratch, self._number)
        return has_ended

    def _arm(self) -> None:
        """Start the clock that ends the process: from outside Python, so that a loop that never yields ends too."""
        if self._left_s is not None and self._armed_at is None:
            self._armed_at = time.monotonic()
            if self._together:
                # What trains is not this process, and what the workers hold would stay theirs if it just ended.
                self._timer = threading.Timer(self._left_s, self._end_all)
                self._timer.daemon = True
                self._timer.start()
            else:
                faulthandler.dump_traceback_later(max(self._left_s, 0.001), exit=True, file=2)

    def _disarm(self) -> None:
        if self._left_s is not None and self._armed_at is not None:
            if self._timer:
                self._timer.cancel()
            faulthandler.cancel_dump_traceback_later()
            self._left_s -= time.monotonic() - self._armed_at
            self._armed_at = None

    def _end_all(self) -> None:
        assert self._together is not None
        self._together.end_at_once()
        os._exit(1)


def _on_several_workers(terms: Terms, data: SharedData) -> "DataParallel":
    from search.trial.data_parallel import DataParallel  # Ray Train takes a second to import

    return DataParallel(terms, data)
