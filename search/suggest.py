"""The Optuna study behind a search: asked for configurations, told the state and the curve of every trial."""

import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from results import Place, Run, open_run, place
from search.seeds import derived
from search.study import Sampler, Study
from spaces import Choice, Int, Parameter, Value

# Optuna has no state for a trial that may yet go on; one that was interrupted counts for nothing until then.
_STATES = {
    "running": TrialState.RUNNING,
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "interrupted": TrialState.FAIL,
}


class Suggester:
    """Suggests configurations from what is known.

    Each is drawn with a seed of its own, made from the study's seed and the trial's number: a suggestion depends on
    those two and on what has been told so far, not on how often the process was restarted.

    Args:
        study: Its space, sampler and objective.
        run: The run so far. Its trials are told first; those that may go on are held as running.
        untold: Numbers of trials that are held as running too, to be told later.
    """

    def __init__(self, study: Study, run: Run, untold: Collection[int] = ()) -> None:
        self._settings = study.sampler
        self._space = study.space
        self.optuna_study = _empty(study)
        self._trials: dict[int, optuna.Trial] = {}
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="suggest")
        for _, trial in sorted(run.trials.items()):
            frozen = _frozen(run, trial.number, study, untold=trial.number in untold)
            if frozen.state == TrialState.RUNNING:
                frozen.intermediate_values = {}  # told with its end
            self.optuna_study.add_trial(frozen)
            if frozen.state == TrialState.RUNNING:
                self._trials[trial.number] = optuna.Trial(self.optuna_study, trial.number)

    def begin(self, number: int) -> "Future[dict[str, Value]]":
        """Begin to make the suggestion for the trial of this number, which must be the next, beside all else.

        Take its result before the next `tell`: it must not be told of anything halfway.
        """
        return self._ahead.submit(self.suggest, number)

    def suggest(self, number: int) -> dict[str, Value]:
        """A configuration for the trial of this number, which must be the next."""
        self.optuna_study.sampler = _sampler(self._settings, derived(self._settings.seed, "suggest", number))
        trial = self.optuna_study.ask()
        assert trial.number == number, "trials are numbered without gaps"
        self._trials[number] = trial
        return self._space.walk(lambda name, parameter: _suggested(trial, name, parameter))

    def tell(self, number: int, state: str, value: float | None, curve: Mapping[int, float]) -> None:
        """How a trial ended.

        Args:
            number: The trial's.
            state: As in trials.parquet.
            value: The objective at its best epoch, for a finished one.
            curve: The objective at each epoch where it was finite.
        """
        trial = self._trials.pop(number)
        for epoch, reported in curve.items():
            trial.report(reported, epoch)
        self.optuna_study.tell(trial, value if state == "finished" else None, state=_STATES[state])


def optuna_study(run_directory: str | Place) -> optuna.Study:
    """The Optuna study of a run, in memory, made from its log; for Optuna's own plots and importances.

    Raises:
        RunError: It is not a run directory.
    """
    run = open_run(place(run_directory) if isinstance(run_directory, str) else run_directory)
    study = Study.from_mapping(run.study)
    made = _empty(study)
    # Suggestions that nobody began are no trials; one between others keeps its place, so that numbers agree.
    begun = max((number for number, trial in run.trials.items() if trial.state), default=-1)
    for number in range(begun + 1):
        made.add_trial(_frozen(run, number, study, going_on=run.ended is None))
    return made


def _empty(study: Study) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = StudyDirection.MAXIMIZE if study.objective.mode == "max" else StudyDirection.MINIMIZE
    return optuna.create_study(direction=direction, study_name=study.name)


def _frozen(
    run: Run, number: int, study: Study, going_on: bool = True, untold: bool = False
) -> optuna.trial.FrozenTrial:
    trial = run.trials[number]
    if not trial.counts:  # Its number is taken; of what it found, nothing holds in the changed space.
        return optuna.trial.create_trial(state=TrialState.FAIL)
    state = _STATES[trial.state or "interrupted"]
    if untold or (going_on and trial.state in (None, "interrupted")):
        state = TrialState.RUNNING
    curve = run.curve(trial)
    value = run.value(trial) if state == TrialState.COMPLETE else None
    if state == TrialState.COMPLETE and value is None:
        state = TrialState.FAIL
    if state == TrialState.PRUNED and curve:
        value = curve[max(curve)]
    space = study.space.parameters
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params=dict(trial.config),
        distributions={name: _distribution(space[name]) for name in trial.config},
        intermediate_values=curve,
    )


def sampler_arguments(settings: Sampler) -> dict[str, Any]:
    """The arguments of Optuna's sampler, seed aside: spelled out, since its defaults have changed between versions."""
    if settings.name == "random":
        return {}
    # `group` models each set of parameters that apply together; without it those behind a condition would be
    # drawn at random. Ten random trials first and 24 candidates are Optuna's own choice.
    return {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 10, "n_ei_candidates": 24}


def _sampler(settings: Sampler, seed: int) -> BaseSampler:
    kind: Callable[..., BaseSampler] = {"tpe": TPESampler, "random": RandomSampler}[settings.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return kind(seed=seed, **sampler_arguments(settings))


def _suggested(trial: optuna.Trial, name: str, parameter: Parameter) -> Value:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.options)  # type: ignore[return-value]
    if isinstance(parameter, Int):
        return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
