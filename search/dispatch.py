"""Ray Tune at work: asks the engine what to train, trains it on actors that are used again, hands it the reports."""

import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

from ray import tune
from ray.exceptions import OutOfMemoryError, RayError
from ray.tune import Callback, PlacementGroupFactory, Stopper
from ray.tune.error import TuneError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from search.actor import TrialActor
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
    bridge = _Bridge(engine)
    trainable = tune.with_parameters(TrialActor, terms=terms, data=data)
    with tempfile.TemporaryDirectory(prefix="digitsearch-") as scratch:
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

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
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
        assignment = self._bridge.assignments[trial_id]
        return self._bridge.call(lambda: self._bridge.engine.reported(assignment, result), True)

    def stop_all(self) -> bool:
        return self._bridge.call(lambda: self._bridge.engine.reason_to_end() is not None, True)


class _Starts(Callback):  # type: ignore[misc]
    """Starts and deaths: the two things that Tune tells only its callbacks."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        assignment = self._bridge.assignments[trial.trial_id]
        self._bridge.call(lambda: self._bridge.engine.started(assignment), None)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        assignment = self._bridge.assignments[trial.trial_id]
        kind, message = _cause(trial)
        self._bridge.call(lambda: self._bridge.engine.lost(assignment, kind, message), None)


def _cause(trial: TuneTrial) -> tuple[str, str]:
    err = trial.get_pickled_error() or trial.get_error()
    kind = "oom" if isinstance(err, OutOfMemoryError) else "worker_lost"
    return kind, str(err).strip().splitlines()[0] if err else "the process that trained it died"
