"""Ray Tune at work: holds the slots, actors that train one trial after another by the engine's word."""

import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import ray
from ray import cloudpickle, tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune import Callback, PlacementGroupFactory, Stopper
from ray.tune.error import TuneError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher
from ray.widgets.util import in_notebook

from cluster import starvation
from cluster.connect import num_fitting
from cluster.errors import ClusterError
from cluster.ray_internals import dead_processes
from results.errors import RunWarning
from search import workloads
from search.deaths import NOT_IMPORTED, Deaths
from search.engine import Engine
from search.errors import StudyError, StudyFailed
from search.study import Resources, Study
from search.trial import trial_log
from search.trial.actor import NewProcessWanted, ProcessSpoilt, TrialActor, WorkersLost
from search.trial.failures import DISK_FAULTS, DataWritten
from search.trial.shared_data import SharedData
from search.trial.terms import Terms, stopping

# The search ends by the engine's word, never by Tune's count.
_MANY = 10**9
# Tune 2.60 itself breaks off, with a RuntimeError, when Ray's memory guard kills an actor.
_MOST_BREAKS = 20
# After a wish to stop, running trials have so long to come to their next report, and write a checkpoint there.
_GRACE_S = 3.0
# Python's own is 5 ms, and an event needs the interpreter ten times over.
_TURN_S = 0.0002

# What Ray's head node has and no other: a placement group can't ask for nothing.
_ON_THE_HEAD = {"node:__internal_head__": 0.0001}

# Nodes come and go; where a slot does not wait for one itself, they are counted.
_COUNT_SLOTS_EVERY_S = 3.0

# After so long without a word of any trial it is looked whether they wait for tasks of their own.
_SILENCE_S = 30.0

Answer = TypeVar("Answer")


def share(data: Any, study: Study) -> SharedData:
    """Put what a study's trials train on into the object store: once a node, and what NumPy holds is not copied there.

    Raises:
        StudyError: It can't leave its process; nor can a function that has to be sent along.
    """
    try:
        cloudpickle.dumps(workloads.unimportable(study.workload))
    except Exception as err:
        must = "must be a function that can be sent to another process, with all that it uses"
        raise StudyError(f"workload {study.workload!r} {must}, got {workloads.first_line(err)}") from err
    try:
        return SharedData(ray.put(data))
    except Exception as err:  # its own code may say how it is to be sent
        raise workloads.not_sent(study, data, err) from err


def dispatch(engine: Engine, terms: Terms, data: SharedData, resources: Resources) -> None:
    """Run the search until the engine has nothing more to try or wants to end.

    What Tune calls a trial is a slot here: an actor that lives on and trains one trial after another. So Tune's cost
    of a trial (20 ms and 40 KB, growing with their number) is paid once a slot.

    Args:
        engine: Decides.
        terms: What all trials have in common.
        data: As `share` gave it.
        resources: What each trial is given.

    Raises:
        StudyFailed: Ray itself broke off, again and again.
        OSError: The log or the tables could not be written; as the engine raised it, not wrapped by Tune.
    """
    with tempfile.TemporaryDirectory(prefix="digitsearch-", ignore_cleanup_errors=True) as scratch, _quick_turns():
        bridge = _Bridge(engine, scratch, resources)
        trainable = tune.with_parameters(TrialActor, terms=replace(terms, scratch=scratch), data=data)
        trainable.__qualname__ = TrialActor.__qualname__  # else Ray's dashboard shows the name of Tune's wrapper
        for attempt in range(_MOST_BREAKS):
            try:
                _tune(trainable, bridge, resources, f"{scratch}/tune-{attempt}")
            except (TuneError, RayError, RuntimeError) as err:
                if bridge.error is None:
                    bridge.broke_off(err)
                    continue
            if bridge.error is not None:
                raise bridge.error
            return
        raise StudyFailed(f"Ray Tune broke off {_MOST_BREAKS} times, at last with: {bridge.last_break}")


def num_slots_of(resources: Resources, *, wait: bool) -> int:
    """How many trials the cluster can run at once, and the study wants to.

    Raises:
        ClusterError: None, and no node is waited for.
    """
    count = num_fitting(resources.each, workers=resources.workers, wait=wait)
    return count if resources.concurrent == "auto" else min(count, resources.concurrent)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Threads hand over to one another at once: a free slot must not wait while a suggestion is being made."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _tune(trainable: type[TrialActor], bridge: "_Bridge", resources: Resources, folder: str) -> None:
    tune.run(
        trainable,
        name="tune",
        storage_path=folder,
        search_alg=_Slots(bridge),
        stop=_Reports(bridge),
        callbacks=[_Starts(bridge)],
        num_samples=_MANY,
        # Where a trial has several workers, Ray Train finds them their places; the slot itself needs none.
        resources_per_trial=PlacementGroupFactory([resources.each if resources.workers == 1 else _ON_THE_HEAD]),
        # A slot without a trial keeps no crew from those that have one: Tune would cache it, and its workers with it.
        reuse_actors=resources.workers == 1,
        trial_dirname_creator=lambda slot: slot.trial_id,
        raise_on_failed_trial=False,
        verbose=0,
        # Tune's own for a notebook clears the cell as it begins, of all that was shown there.
        progress_reporter=tune.CLIReporter() if in_notebook() else None,
    )


class _Bridge:
    """The engine as Tune's three interfaces share it, with the first error that it raised."""

    def __init__(self, engine: Engine, scratch: str, resources: Resources) -> None:
        self.engine = engine
        self.scratch = scratch
        self.error: Exception | None = None
        self.last_break = ""
        self._most = math.inf if resources.concurrent == "auto" else resources.concurrent
        self._resources = resources
        self._count_slots_at = 0.0
        self._waits_for_nodes = resources.workers == 1  # else a slot holds no resources that it could wait for
        self._deaths = Deaths()
        self._warned = False
        self._heard_at = time.monotonic()
        self._is_starved = False
        self._waiting: set[str] = set()  # slots that have no actor yet
        self._actors: dict[str, ActorHandle] = {}  # of the slots that have one
        self._assignments: dict[str, dict[str, Any]] = {}  # of the slots that train, or are about to

    def call(self, function: Callable[[], Answer], otherwise: Answer) -> Answer:
        """The function's answer; once something has gone wrong, `otherwise`."""
        if self.error is not None:
            return otherwise
        try:
            return function()
        except Exception as err:
            self.error = err
            return otherwise

    def wants_slot(self, slot: str) -> bool:
        """Whether another slot would have something to do; it is counted as waiting from then on."""
        if not self._waits_for_nodes and time.monotonic() >= self._count_slots_at:
            self.engine.num_slots = num_slots_of(self._resources, wait=True)
            self._count_slots_at = time.monotonic() + _COUNT_SLOTS_EVERY_S
        num_slots = len(self._waiting) + len(self._actors)
        # Beyond what fits now one slot waits, for a node that joins.
        room = num_slots < self.engine.num_slots or (
            self._waits_for_nodes and not self._waiting and num_slots < self._most
        )
        if not room or self.engine.num_to_begin <= len(self._waiting):
            return False
        self._waiting.add(slot)
        return True

    def slot_started(self, slot: str, actor: ActorHandle) -> None:
        """A slot has its actor."""
        self._waiting.discard(slot)
        self._actors[slot] = actor
        self._assign_next(slot)

    def slot_ended(self, slot: str) -> None:
        """A slot is no more, and trained nothing at its end."""
        self._waiting.discard(slot)
        self._actors.pop(slot, None)

    def slot_died(self, slot: str, err: Exception | None) -> None:
        """The process of a slot has died, or could not begin."""
        assignment = self._assignments.get(slot)
        if slot in self._waiting:
            # One that can't even begin fails the trial that it would have trained: else it would be tried for ever.
            assignment = self.call(self.engine.next_assignment, None)
        self.slot_ended(slot)
        if assignment is None:
            return
        cause = getattr(err, "cause", err)
        if isinstance(cause, OSError) and cause.errno in DISK_FAULTS:  # no trial's fault
            self.error = self.error or cause
        elif isinstance(cause, DataWritten):
            self.error = self.error or StudyFailed(str(cause))
        elif isinstance(err, ProcessSpoilt):
            if not self._warned and not isinstance(err, NewProcessWanted):
                self._warned = True
                warnings.warn(
                    f"{cause}, so a new process trains the next one, which takes seconds; have the function end all "
                    "that it starts (this is said once)",
                    category=RunWarning,
                    stacklevel=1,
                )
            self.call(lambda: self.engine.given_back(assignment), None)
        else:
            log_tail = trial_log.tail(self.scratch, assignment["number"])
            if isinstance(cause, WorkersLost):
                kind, message = cause.kind, cause.message
            else:
                kind, message = self._deaths.cause(err, log_tail)
            if kind == NOT_IMPORTED:  # the node's fault, and no trial's
                self._end_for_what_is_not_there(message)
            else:
                self.call(lambda: self.engine.lost(assignment, kind, message, log_tail), None)
        self._forget(slot, assignment)

    def _end_for_what_is_not_there(self, what: str) -> None:
        """End a search whose trials a node could never train; whoever puts that right goes on with it."""
        self.error = self.error or ClusterError(
            f"each node must have what trials need, as it is here, got {what}; install it there, or have it in a "
            "folder of the same path, or sent along (digitsearch submit), then resume the run"
        )

    def check_cluster(self) -> None:
        """Raise StudyFailed if a cluster of our own is no more: Ray notices later, and ends the process wordless."""
        if dead := dead_processes():
            raise StudyFailed(
                f"Ray's own processes must live as long as the search, got the end of {', '.join(dead)}; what was "
                "reported is kept: resume the run"
            )

    def warn_if_starved(self) -> None:
        """Say, once, that trials seem to wait for what can't begin, or can't begin themselves."""
        if self._is_starved or time.monotonic() < self._heard_at + _SILENCE_S:
            return
        self._heard_at = time.monotonic()  # looked at again when as much time has gone by
        if why := self._starved():
            self._is_starved = True
            warnings.warn(why, category=RunWarning, stacklevel=1)

    def _starved(self) -> str | None:
        if not self._assignments:
            # One more slot than fits waits anyway.
            if not self._waiting or self._actors or starvation.num_groups_waiting() < len(self._waiting):
                return None
            return (
                f"no trial could begin for {_SILENCE_S:.0f} s: others hold what the cluster has; the search goes on "
                "when there is room, and its wall budget runs (`ray status` tells more)"
            )
        count = starvation.num_waiting()
        if not count:
            return None
        return (
            f"no trial has reported for {_SILENCE_S:.0f} s, and the cluster has {count} Ray tasks or actors and no "
            "room for them; if the trials have started them, they wait for ever: leave room by a lower "
            "resources.concurrent, and start them with scheduling_strategy='SPREAD', since what a trial holds is "
            "full; or with num_cpus=0"
        )

    def result(self, slot: str, result: Mapping[str, Any]) -> bool:
        """Take in what a slot's actor gave, and say whether the slot has nothing more to do."""
        self._heard_at = time.monotonic()
        assignment = self._assignments.get(slot)
        if assignment is None:
            return not (self._assign_next(slot) or self._rest(slot))
        if "began" in result:
            self.call(lambda: self.engine.started(assignment), None)
            return False
        # Any of them may end the trial; what comes after it is not heard.
        reports = result["reports"]
        if not self.call(lambda: any(self.engine.reported(assignment, report) for report in reports), True):
            return False
        self._forget(slot, assignment)
        return not (self._assign_next(slot) or self._rest(slot))

    def broke_off(self, err: Exception) -> None:
        """Tune has broken off and has ended its actors: who was killed is lost, the others go on where they were."""
        text = str(err)
        self.last_break = text.strip().splitlines()[-1] if text.strip() else type(err).__name__
        for slot, actor in list(self._actors.items()):
            assignment = self._assignments.get(slot)
            if assignment is not None and _id(actor) in text:
                self.slot_died(slot, RuntimeError(text))
            elif assignment is not None:
                self.call(lambda assignment=assignment: self.engine.given_back(assignment), None)  # type: ignore[misc]
                self._forget(slot, assignment)
        self._actors.clear()
        self._waiting.clear()

    def kill_running(self) -> None:
        """End the processes of all running trials."""
        for slot in self._assignments:
            if slot in self._actors:
                ray.kill(self._actors[slot])

    def _assign_next(self, slot: str) -> bool:
        assignment = self.call(self.engine.next_assignment, None)
        if assignment is None:
            return False
        self._assignments[slot] = assignment
        # Calls of an actor are done in their order: this one before the step that Tune is about to ask for.
        self._actors[slot].assign.remote(assignment)
        return True

    def _rest(self, slot: str) -> bool:
        """Have a slot wait for something to do, if there will be something."""
        if not self.call(lambda: self.engine.waits, False):
            return False
        self._actors[slot].assign.remote(None)
        return True

    def _forget(self, slot: str, assignment: Mapping[str, Any]) -> None:
        self._assignments.pop(slot, None)
        trial_log.forget(self.scratch, assignment["number"])

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles what it is handed into its scratch folder. The log is the truth: there is nothing to keep.
        return {}


class _Slots(Searcher):  # type: ignore[misc]
    """What Tune takes for a searcher: asked for another slot whenever there may be room for one."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        bridge = self._bridge
        if bridge.call(lambda: bridge.wants_slot(trial_id), False):
            return {}
        over = bridge.call(lambda: bridge.engine.exhausted, True)
        return Searcher.FINISHED if over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error:  # a death comes by the callback, with its cause
            self._bridge.slot_ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a run is resumed from its log")


class _Reports(Stopper):  # type: ignore[misc]
    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge
        self._deadline: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._bridge.result(trial_id, result)

    def stop_all(self) -> bool:
        bridge = self._bridge
        if bridge.error is None and bridge.engine.reason_to_end() is None:
            return False
        if self._deadline is None:
            self._deadline = time.monotonic() + _GRACE_S
            stopping(bridge.scratch).touch()
        patient = bridge.error is None and not bridge.engine.hurried and time.monotonic() < self._deadline
        if patient and bridge.engine.num_running:
            return False
        bridge.kill_running()
        return True


class _Starts(Callback):  # type: ignore[misc]
    """Starts and deaths, which Tune tells only its callbacks, and the time between two events."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._bridge.slot_started(trial.trial_id, trial.temporary_state.ray_actor)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._bridge.slot_died(trial.trial_id, _exception(trial))

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        self._bridge.call(self._bridge.check_cluster, None)
        self._bridge.call(self._bridge.engine.prepare, None)
        self._bridge.call(self._bridge.warn_if_starved, None)


def _exception(slot: TuneTrial) -> Exception | None:
    """What Tune wrote of a slot's death, in its scratch folder, moments ago."""
    try:
        with open(slot.pickled_error_file, "rb") as file:
            return cloudpickle.load(file)  # type: ignore[no-any-return]
    except (OSError, TypeError):
        return None


def _id(actor: ActorHandle) -> str:
    # The handle gives its identity only so; Ray's messages name an actor by nothing else.
    return str(actor._actor_id.hex())
