"""A trial on a worker: the process that Ray Tune starts, gives one trial after another, and asks for reports."""

import faulthandler
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from search import trial_log, workloads
from search.clean_slate import CleanSlate
from search.session import Session, Terms
from trainables import Data

# A stopped function ends at its next report; one that does not within this time gets its process replaced.
_PATIENCE_S = 2.0


class ProcessSpoilt(Exception):
    """The last trial left something in the process that the next would notice; another process has to train it."""


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """Trains one trial at a time and is used again for the next."""

    def setup(self, config: dict[str, Any], *, terms: Terms, data: Data | None) -> None:
        """Get ready for any trial of the study, and begin the first."""
        self._terms, self._data = terms, data
        self._train = workloads.find(terms.workload)
        self._slate = CleanSlate(terms.num_threads)
        self._node = ray.util.get_node_ip_address()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial.

        Raises:
            ProcessSpoilt: The last one can't be brought to an end or left something behind.
        """
        if not self._end():
            raise ProcessSpoilt("the last trial does not end")
        leftovers = self._slate.leftovers(self._threads)
        if leftovers:
            raise ProcessSpoilt(leftovers)
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The running trial's next report, as `Session.next` gives it, and the node that made it."""
        began = time.monotonic()
        if self._left_s is not None:
            # Ends the process from outside Python, so that a loop that never reports, or never yields, ends too.
            faulthandler.dump_traceback_later(max(self._left_s, 0.001), exit=True, file=2)
        report = self._session.next()
        if self._left_s is not None:
            faulthandler.cancel_dump_traceback_later()
            self._left_s -= time.monotonic() - began
        sys.stdout.flush()
        sys.stderr.flush()
        return {**report, "node": self._node}

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._end()

    def _begin(self, assignment: Mapping[str, Any]) -> None:
        if self._terms.scratch:
            trial_log.capture(self._terms.scratch, assignment["number"])
        self._slate.wipe(assignment["seed"])
        self._threads = set(threading.enumerate())
        self._left_s = self._terms.trial_wall_s
        self._session = Session(self._train, self._terms, self._data, assignment)

    def _end(self) -> bool:
        self._session.close()
        return self._session.join(_PATIENCE_S)
