"""Ray Tune at work: asks the engine what to train, trains it on actors that are used again, hands it the reports."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ray import cloudpickle, tune
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
from search.session import Terms
from search.study import Resources
from trainables import Data

# The search ends by the engine's word, never by Tune's count.
_MANY = 10**9

Answer = TypeVar("Answer")


def dispatch(engine: Engine, terms: Terms, data: Data | None, resources: Resources) -> None:
    """Run the search until the engine has nothing more to try or wants to end.

    Args:
        engine: Decides.
        terms: What all trials have in common.
        data: Put into the object store once, and read there by all trials without a copy.
        resources: What each trial is given.

    Raises:
        StudyFailed: Ray itself broke off.
        OSError: The log or the tables could not be written; as the engine raised it, not wrapped by Tune.
    """
    with tempfile.TemporaryDirectory(prefix="digitsearch-") as scratch:
        bridge = _Bridge(engine, scratch)
        trainable = tune.with_parameters(TrialActor, terms=replace(terms, scratch=scratch), data=data)
        try:
            tune.run(
                trainable,
                name="tune",
                storage_path=scratch,
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
        except (TuneError, RayError) as err:
            if bridge.error is None:
                raise StudyFailed(f"Ray Tune broke off, with: {str(err).strip().splitlines()[-1]}") from err
        if bridge.error is not None:
            raise bridge.error


def _bundle(resources: Resources) -> dict[str, float]:
    return {"CPU": resources.cpu, **({"GPU": resources.gpu} if resources.gpu else {})}


class _Bridge:
    """The engine as Tune's three interfaces share it, with the first error that it raised."""

    def __init__(self, engine: Engine, scratch: str) -> None:
        self.engine = engine
        self.scratch = scratch
        self.error: Exception | None = None
        self.assignments: dict[str, dict[str, Any]] = {}

    def call(self, function: Callable[[], Answer], otherwise: Answer) -> Answer:
        """The function's answer; once something has gone wrong, `otherwise`."""
        if self.error is not None:
            return otherwise
        try:
            return function()
        except Exception as err:
            self.error = err
            return otherwise

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

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        bridge, assignment = self._bridge, self._bridge.assignments[trial_id]
        if "failure" in result:
            result["log_tail"] = trial_log.tail(bridge.scratch, assignment["number"])
        over = bridge.call(lambda: bridge.engine.reported(assignment, result), True)
        if over:
            trial_log.forget(bridge.scratch, assignment["number"])
        return over

    def stop_all(self) -> bool:
        return self._bridge.call(lambda: self._bridge.engine.reason_to_end() is not None, True)


class _Starts(Callback):  # type: ignore[misc]
    """Starts and deaths: the two things that Tune tells only its callbacks."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge
        self._deaths = Deaths()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        assignment = self._bridge.assignments[trial.trial_id]
        self._bridge.call(lambda: self._bridge.engine.started(assignment), None)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        bridge, assignment = self._bridge, self._bridge.assignments[trial.trial_id]
        err = _exception(trial)
        if isinstance(err, ProcessSpoilt):
            bridge.call(lambda: bridge.engine.given_back(assignment), None)
            return
        kind, message = self._deaths.cause(err)
        log_tail = trial_log.tail(bridge.scratch, assignment["number"])
        bridge.call(lambda: bridge.engine.lost(assignment, kind, message, log_tail), None)
        trial_log.forget(bridge.scratch, assignment["number"])


def _exception(trial: TuneTrial) -> Exception | None:
    """What Tune wrote of a trial's death, in its scratch folder, moments ago."""
    try:
        with open(trial.pickled_error_file, "rb") as file:
            return cloudpickle.load(file)  # type: ignore[no-any-return]
    except (OSError, TypeError):
        return None
