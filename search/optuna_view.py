"""A run in Optuna's terms: its trials as Optuna's own, and a storage for all that reads studies and changes none."""

import copy
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy  # what a storage must give has no public name
from optuna.trial import FrozenTrial, TrialState, create_trial

from results import Event, Place, Run, Trial, open_run, place
from search.errors import UsageError
from search.study import Study
from spaces import Choice, Int, Parameter

# Optuna has no state for a trial that may yet go on; one that was interrupted counts for nothing until then.
STATES = {
    "running": TrialState.RUNNING,
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "interrupted": TrialState.FAIL,
}
# The only study of its storage.
STUDY_ID = 0
# Where Optuna's samplers and its dashboard look for what a trial's constraints are: one number each, at most 0 if kept.
CONSTRAINTS = "constraints"


def optuna_study(run_directory: str | Place) -> optuna.Study:
    """The Optuna study of a run, in memory, made from its log; for Optuna's own plots and importances.

    Raises:
        RunError: It is not a run directory.
    """
    run = open_run(place(run_directory) if isinstance(run_directory, str) else run_directory)
    study = Study.from_mapping(run.study)
    made = empty(study)
    may_go_on = TrialState.RUNNING if run.ended is None else TrialState.FAIL
    for number in range(num_begun(run)):
        made.add_trial(frozen(run, number, study, may_go_on))
    return made


def empty(study: Study) -> optuna.Study:
    """An Optuna study, in memory, of the same name and objectives, and without trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=directions(study), study_name=study.name)


def directions(study: Study) -> list[StudyDirection]:
    """Of each objective, whether more of it is better."""
    modes = (objective.mode for objective in study.objectives)
    return [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in modes]


def curve(run: Run, trial: Trial) -> dict[int, float]:
    """A trial's curve for Optuna, which has none where there are several objectives."""
    return {} if run.objectives.are_several else run.curve(trial)


def num_begun(run: Run) -> int:
    """How many trials the run has for Optuna.

    Suggestions that nobody began are no trials; one between others keeps its place, so that numbers agree.
    """
    return max((number for number, trial in run.trials.items() if trial.state), default=-1) + 1


def frozen(
    run: Run, number: int, study: Study, may_go_on: TrialState = TrialState.RUNNING, untold: bool = False
) -> FrozenTrial:
    """A trial of a run as Optuna's own; what the tables say of it besides is in its user attributes.

    Args:
        run: The trial's.
        number: The trial's.
        study: The run's, of which its space is used.
        may_go_on: The state of a trial that has not begun, or was interrupted.
        untold: Whether the trial is held as running, though it may have ended.
    """
    trial = run.trials[number]
    state = TrialState.RUNNING if untold else _state(run, trial, may_go_on)
    origin = run.origin(trial) if state.is_finished() else trial
    began_at, ended_at = _times(run, trial, state)
    # Of a trial that was set aside nothing holds in the changed space: only its number is taken.
    config, reported = (dict(trial.config), curve(run, origin)) if trial.counts else ({}, {})
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=_values(run, origin, state),
        datetime_start=began_at,
        datetime_complete=ended_at,
        params=config,
        distributions={name: _distribution(study.space.parameters[name]) for name in config},
        user_attrs=_facts(run, trial),
        # What a trial that waits will be trained with stands where Optuna puts it for one that is enqueued.
        system_attrs={"fixed_params": config} if state == TrialState.WAITING else _bounds(run, origin, state),
        intermediate_values=reported,
    )


def earlier(trials: Sequence[Mapping[str, Any]], study: Study) -> list[FrozenTrial]:
    """Finished trials of an earlier run, as `search.suggest.warm_start.taken` has them, as trials of this study."""
    return [
        create_trial(
            values=trial["values"] if "values" in trial else [trial["value"]],
            params=dict(trial["config"]),
            distributions={name: _distribution(study.space.parameters[name]) for name in trial["config"]},
            system_attrs={CONSTRAINTS: trial[CONSTRAINTS]} if CONSTRAINTS in trial else {},
        )
        for trial in trials
    ]


def _state(run: Run, trial: Trial, may_go_on: TrialState) -> TrialState:
    if not trial.counts or (trial.state == "finished" and run.value(trial) is None):
        return TrialState.FAIL
    if run.ended and trial.stop_reason == "budget":
        return TrialState.PRUNED  # Unless there is more time one day, that was all of it.
    return may_go_on if trial.state in (None, "interrupted") else STATES[str(run.origin(trial).state)]


def _values(run: Run, trial: Trial, state: TrialState) -> Sequence[float] | None:
    """The objectives: of a trial that had the whole budget its best, of a stopped one its last, if it has a curve."""
    if state == TrialState.COMPLETE:
        return run.values(trial)
    reported = curve(run, trial)
    return [reported[max(reported)]] if state == TrialState.PRUNED and reported else None


def _bounds(run: Run, trial: Trial, state: TrialState) -> dict[str, Any]:
    if not run.objectives.constraints or state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return {}
    return {CONSTRAINTS: run.excesses(trial)}


def _times(run: Run, trial: Trial, state: TrialState) -> tuple[datetime | None, datetime | None]:
    """When it began and when it ended, as Optuna has times: on this machine's clock, without a zone."""
    # Optuna wants both of a trial that has ended; a suggestion that nobody took up has none.
    began_at = trial.started_at if state == TrialState.WAITING else trial.started_at or run.last_at
    ended_at = trial.ended_at or began_at if state.is_finished() else None
    began, ended = (at.astimezone().replace(tzinfo=None) if at else None for at in (began_at, ended_at))
    return began, ended


def _facts(run: Run, trial: Trial) -> dict[str, Any]:
    """What the table says of a trial and Optuna has no place for, by the names of its columns."""
    top = run.best_epoch(trial)
    facts = {
        "epochs": trial.epochs[-1].epoch if trial.epochs else 0,
        "best_epoch": top.epoch if top else None,
        "stop_reason": trial.stop_reason,
        "error_kind": trial.error_kind,
        "error": trial.error,
        "attempts": trial.attempts,
        "train_s": round(sum(epoch.epoch_s for epoch in trial.epochs), 3),
        "node": trial.node,
        **{f"metric_{name}": value for name, value in (top.metrics if top else {}).items()},
    }
    return {name: value for name, value in facts.items() if value is not None}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


class RunStorage(BaseStorage):
    """A run as a storage that holds one study. It is read; whoever would write is refused with UsageError.

    A trial that may go on later is waiting: of those that have ended, a page does not ask again.

    Args:
        run: As it stands; it may go on.
        place: Where it lies.
    """

    def __init__(self, run: Run, place: Place) -> None:
        self._run = run
        self._place = place
        self._study = Study.from_mapping(run.study)
        self._trials: list[FrozenTrial] = []
        self._bring_up_to_date(set(run.trials))

    def take_in(self, events: Iterable[Event]) -> None:
        """Bring the trials up to date that events tell of; the run knows them already."""
        changed: set[int] = set()
        for event in events:
            if event["event"] == "study_resumed":  # the space may have changed, and trials may have been set aside
                self._study = Study.from_mapping(self._run.study)
                changed.update(self._run.trials)
            elif "number" in event:
                changed.add(event["number"])
        self._bring_up_to_date(changed)

    def _bring_up_to_date(self, numbers: set[int]) -> None:
        begun = num_begun(self._run)
        new = range(len(self._trials), begun)
        for number in sorted(numbers.union(new)):
            if number < begun:
                # A list of its own for each reader, and trials that nobody changes: no reader needs a lock.
                self._trials[number : number + 1] = [frozen(self._run, number, self._study, TrialState.WAITING)]

    def get_all_studies(self) -> list[FrozenStudy]:
        """The one."""
        return [
            FrozenStudy(
                self._study.name,
                None,
                directions=directions(self._study),
                user_attrs=self.get_study_user_attrs(STUDY_ID),
                system_attrs=self.get_study_system_attrs(STUDY_ID),
                study_id=STUDY_ID,
            )
        ]

    def get_study_id_from_name(self, study_name: str) -> int:
        """Its id."""
        if study_name != self._study.name:
            raise KeyError(study_name)
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        """Its name."""
        _check(study_id)
        return self._study.name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Those of its objectives."""
        _check(study_id)
        return directions(self._study)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Where it lies, how it ended, and the figures of its winner."""
        _check(study_id)
        facts = {"run": str(self._place)}
        if self._run.ended:
            facts["ended"] = self._run.ended
        figures = self._run.winner["metrics"] if self._run.winner else {}
        return {**facts, **{f"winner_{name}": value for name, value in figures.items()}}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The names of the objectives, as Optuna's `Study.set_metric_names` writes it."""
        _check(study_id)
        return {"study:metric_names": self._run.objectives.names}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial; its id is its number."""
        if not 0 <= trial_id < len(self._trials):
            raise KeyError(trial_id)
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials, by number."""
        _check(study_id)
        trials = [trial for trial in list(self._trials) if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise UsageError("a run is changed by its search alone; this is a view of it")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = create_new_trial = _refuse
    set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


def _check(study_id: int) -> None:
    if study_id != STUDY_ID:
        raise KeyError(study_id)
