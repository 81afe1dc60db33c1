"""The Optuna study behind a search: asked for configurations, told the state and the curve of every trial."""

import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from results import Place, Run, open_run, place
from search.optuna_view import STATES, direction, frozen, num_begun
from search.seeds import derived
from search.study import Sampler, Study
from spaces import Choice, Int, Parameter, Value


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
            known = frozen(run, trial.number, study, untold=trial.number in untold)
            if known.state == TrialState.RUNNING:
                known.intermediate_values = {}  # told with its end
            self.optuna_study.add_trial(known)
            if known.state == TrialState.RUNNING:
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
        self.optuna_study.tell(trial, value if state == "finished" else None, state=STATES[state])


def optuna_study(run_directory: str | Place) -> optuna.Study:
    """The Optuna study of a run, in memory, made from its log; for Optuna's own plots and importances.

    Raises:
        RunError: It is not a run directory.
    """
    run = open_run(place(run_directory) if isinstance(run_directory, str) else run_directory)
    study = Study.from_mapping(run.study)
    made = _empty(study)
    may_go_on = TrialState.RUNNING if run.ended is None else TrialState.FAIL
    for number in range(num_begun(run)):
        made.add_trial(frozen(run, number, study, may_go_on))
    return made


def _empty(study: Study) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction=direction(study), study_name=study.name)


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
