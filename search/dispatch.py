"""Ray Tune at work: asks the engine what to train, trains it on actors that are used again, hands it the reports."""

import tempfile
import time
from collections.abc import Callable
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

from search import trial_log
from search.actor import ProcessSpoilt, TrialActor
from search.deaths import Deaths
from search.engine import Engine
from search.errors import StudyFailed
from search.session import Terms, stopping
from search.study import Resources
from trainables import Data

# The search ends by the engine's word, never by Tune's count.
_MANY = 10**9
# Tune 2.60 itself breaks off, with a RuntimeError, when Ray's memory guard kills an actor.
_MOST_BREAKS = 20
# After a wish to stop, running trials have so long to come to their next report, and write a checkpoint there.
_GRACE_S = 3.0

Answer = TypeVar("Answer")


def dispatch(engine: Engine, terms: Terms, data: Data | None, resources: Resources) -> None:
    """Run the search until the engine has nothing more to try or wants to end.

    Args:
        engine: Decides.
        terms: What all trials have in common.
        data: Put into the object store once, and read there by all trials without a copy.
        resources: What each trial is given.

    Raises:
        StudyFailed: Ray itself broke off, again and again.
        OSError: The log or the tables could not be written; as the engine raised it, not wrapped by Tune.
    """
    with tempfile.TemporaryDirectory(prefix="digitsearch-") as scratch:
        bridge = _Bridge(engine, scratch)
        trainable = tune.with_parameters(TrialActor, terms=replace(terms, scratch=scratch), data=data)
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


def _tune(trainable: type[TrialActor], bridge: "_Bridge", resources: Resources, folder: str) -> None:
    tune.run(
        trainable,
        name="tune",
        storage_path=folder,
        search_alg=_Searcher(bridge),
        stop=_Stopper(bridge),
        callbacks=[_Starts(bridge)],
        num_samples=_MANY,
        resources_per_trial=PlacementGroupFactory([_bundle(resources)]),
        max_concurrent_trials=None if resources.concurrent == "auto" else resources.concurrent,
        reuse_actors=True,
        trial_dirname_creator=lambda trial: trial.trial_id,
        raise_on_failed_trial=False,
        verbose=0,
    )


def _bundle(resources: Resources) -> dict[str, float]:
    return {"CPU": resources.cpu, **({"GPU": resources.gpu} if resources.gpu else {})}


class _Bridge:
    """The engine as Tune's three interfaces share it, with the first error that it raised."""

    def __init__(self, engine: Engine, scratch: str) -> None:
        self.engine = engine
        self.scratch = scratch
        self.error: Exception | None = None
        self.last_break = ""
        self.deaths = Deaths()
        self.assignments: dict[str, dict[str, Any]] = {}
        self._actors: dict[int, ActorHandle] = {}  # of the trials that run

    def call(self, function: Callable[[], Answer], otherwise: Answer) -> Answer:
        """The function's answer; once something has gone wrong, `otherwise`."""
        if self.error is not None:
            return otherwise
        try:
            return function()
        except Exception as err:
            self.error = err
            return otherwise

    def started(self, trial: TuneTrial) -> None:
        """A trial has begun on an actor."""
        assignment = self.assignments[trial.trial_id]
        self._actors[assignment["number"]] = trial.temporary_state.ray_actor
        self.call(lambda: self.engine.started(assignment), None)

    def ended(self, trial_id: str) -> None:
        """Forget a trial that runs no more."""
        assignment = self.assignments.pop(trial_id)
        self._actors.pop(assignment["number"], None)
        trial_log.forget(self.scratch, assignment["number"])

    def lost(self, trial_id: str, err: Exception | None) -> None:
        """Tell the engine of a trial whose process has died."""
        assignment = self.assignments[trial_id]
        if isinstance(err, ProcessSpoilt):
            self.call(lambda: self.engine.given_back(assignment), None)
        else:
            kind, message = self.deaths.cause(err)
            log_tail = trial_log.tail(self.scratch, assignment["number"])
            self.call(lambda: self.engine.lost(assignment, kind, message, log_tail), None)
        self.ended(trial_id)

    def broke_off(self, err: Exception) -> None:
        """Tune has broken off and has ended its actors: who was killed is lost, the others go on where they were."""
        text = str(err)
        self.last_break = text.strip().splitlines()[-1] if text.strip() else type(err).__name__
        killed = {n for n, actor in self._actors.items() if _id(actor) in text}
        for trial_id, assignment in list(self.assignments.items()):
            if assignment["number"] in killed:
                self.lost(trial_id, RuntimeError(text))
            else:
                self.call(lambda assignment=assignment: self.engine.given_back(assignment), None)  # type: ignore[misc]
                self.ended(trial_id)

    def kill_running(self) -> None:
        """End the processes of all running trials."""
        for actor in self._actors.values():
            ray.kill(actor)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles what it is handed into its scratch folder. The log is the truth: there is nothing to keep.
        return {}


class _Searcher(Searcher):  # type: ignore[misc]
    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        assignment = self._bridge.call(self._bridge.engine.next_assignment, None)
        if assignment is None:
            over = self._bridge.call(lambda: self._bridge.engine.exhausted, True)
            return Searcher.FINISHED if over else None
        self._bridge.assignments[trial_id] = assignment
        return assignment

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass  # An end has been recorded with the report that brought it; a lost process comes by the callback.

    def save(self, checkpoint_path: str) -> None:
        pass

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a run is resumed from its log")


class _Stopper(Stopper):  # type: ignore[misc]
    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge
        self._deadline: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        bridge, assignment = self._bridge, self._bridge.assignments.get(trial_id)
        if assignment is None:
            return True
        if "failure" in result:
            result["log_tail"] = trial_log.tail(bridge.scratch, assignment["number"])
        over = bridge.call(lambda: bridge.engine.reported(assignment, result), True)
        if over:
            bridge.ended(trial_id)
        return over

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
    """Starts and deaths: the two things that Tune tells only its callbacks."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        self._bridge.started(trial)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        if trial.trial_id in self._bridge.assignments:
            self._bridge.lost(trial.trial_id, _exception(trial))


def _exception(trial: TuneTrial) -> Exception | None:
    """What Tune wrote of a trial's death, in its scratch folder, moments ago."""
    try:
        with open(trial.pickled_error_file, "rb") as file:
            return cloudpickle.load(file)  # type: ignore[no-any-return]
    except (OSError, TypeError):
        return None


def _id(actor: ActorHandle) -> str:
    # The handle gives its identity only so; Ray's messages name an actor by nothing else.
    return str(actor._actor_id.hex())
