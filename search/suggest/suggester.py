"""The Optuna study behind a search: asked for configurations, told the state and the curve of every trial."""

import json
import math
import random
import time
from collections import deque
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import optuna
from optuna.trial import TrialState

from results import Run, Trial
from search.optuna_view import CONSTRAINTS, STATES, curve, earlier, empty, frozen
from search.seeds import derived
from search.study import LAG, Sampler, Study
from search.suggest import samplers
from spaces import Choice, Int, Parameter, Value


class Suggester:
    """Suggests configurations from what is known.

    Each is drawn with a seed of its own, made from the study's seed and the trial's number: a suggestion depends on
    those two and on what is known so far, not on how often the process was restarted. Known is how trials have ended,
    and to some samplers also what those have reported that are running, unless the search is deterministic.

    Args:
        study: Its space, sampler and objective.
        run: The run so far. What it took from earlier runs and its own trials are told first; those that may go on are
            held as running.
        untold: Numbers of trials that are held as running too, to be told later.
    """

    def __init__(self, study: Study, run: Run, untold: Collection[int] = ()) -> None:
        self._settings = study.sampler
        self._space = study.space
        self._takes_reports = samplers.SAMPLERS[study.sampler.name].reports
        self._has_conditions = any(parameter.when for parameter in study.space.parameters.values())
        self._run, self._study, self._untold = run, study, untold
        self.optuna_study = empty(study)
        self._trials: dict[int, optuna.Trial] = {}
        # The objectives that trials have reported, by their numbers in the Optuna study and by epoch, where that has no
        # curve of them: of several objectives those of all that it was told of; and these and those that are running.
        self._told: dict[int, dict[int, tuple[float, ...]]] = {}
        self._reports: dict[int, dict[int, tuple[float, ...]]] = {}
        self._suggested: set[str] = set()
        self._took_s: deque[float] = deque([0.0], maxlen=2)
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="suggest")
        # Configurations that are not the sampler's to suggest, by the numbers of their trials.
        self._given = [*study.sampler.known, *(_grid(study) if study.sampler.name == "grid" else [])]
        self._earlier = [known for taken in run.warm_start for known in earlier(taken["trials"], study)]
        for known in self._earlier:
            self.optuna_study.add_trial(known)
        if samplers.SAMPLERS[study.sampler.name].remembers:
            self._remember()
        else:
            for number in sorted(run.trials):
                self._add(number)

    @property
    def most(self) -> float:
        """How many suggestions there are."""
        return len(self._given) if self._settings.name == "grid" else math.inf

    @property
    def took_s(self) -> float:
        """How long the longer one of the last two suggestions took: of TPE's every second one may be a contest."""
        return max(self._took_s)

    def _add(self, number: int) -> None:
        """Take in a trial of the run as it stands."""
        self._suggested.add(key(self._run.trials[number].config))
        known = frozen(self._run, number, self._study, untold=number in self._untold)
        if known.state == TrialState.PRUNED:
            known.state = self._state(self._run.origin(self._run.trials[number]))
        if known.state == TrialState.RUNNING:
            known.intermediate_values = {}  # told with its end
        self.optuna_study.add_trial(known)
        if known.state.is_finished() and self._run.trials[number].counts:
            self._note(number, self._run.origin(self._run.trials[number]))
        if known.state == TrialState.RUNNING:
            self._trials[number] = optuna.Trial(self.optuna_study, len(self._earlier) + number)

    def _remember(self) -> None:
        """Ask for each suggestion of the run again, each time told of what was known then.

        So the notes that the sampler keeps with its trials are those that it had; the configurations are the run's.
        """
        ended = [t for t in self._run.trials.values() if t.ended and t.counts and t.number not in self._untold]
        ended.sort(key=self._known_from)
        for number, trial in sorted(self._run.trials.items()):
            while ended and self._known_from(ended[0]) <= number:
                self.tell(ended.pop(0))
            if trial.counts:
                self._ask(number, trial.config)
            else:
                self._add(number)
        for trial in ended:
            self.tell(trial)

    def _known_from(self, trial: Trial) -> int:
        return known_from(trial, self._settings)

    def begin(self, number: int) -> "Future[dict[str, Value]]":
        """Begin to make the suggestion for the trial of this number, which must be the next, beside all else.

        Take its result before the next `tell`: it must not be told of anything halfway.
        """
        self._reports = self._known_reports(number)
        return self._ahead.submit(self.suggest, number)

    def _known_reports(self, number: int) -> dict[int, dict[int, tuple[float, ...]]]:
        """What the suggestion of this number knows that Optuna has no place for."""
        # In a population a trial reports of other configurations than the one that was suggested.
        if not self._takes_reports or self._settings.deterministic or self._study.early_stop.name == "pbt":
            return dict(self._told)
        running = {len(self._earlier) + n: self._reported(self._run.trials[n], number) for n in self._trials}
        return self._told | {n: reported for n, reported in running.items() if reported}

    def _reported(self, trial: Trial, number: float = math.inf) -> dict[int, tuple[float, ...]]:
        """The objectives by epoch, but for what breaks a constraint, as the suggestion of a number knows them."""
        objectives = self._run.objectives
        return {
            epoch.epoch: values
            for epoch in trial.epochs
            if epoch.known_from <= number and not objectives.violation(epoch.metrics)
            if (values := objectives.values(epoch.metrics))
        }

    def _note(self, number: int, ended: Trial) -> None:
        """Keep the curve of the trial of this number: of several objectives Optuna has no place for it.

        Args:
            number: In the run.
            ended: Itself, or the one that it repeats.
        """
        if self._takes_reports and self._run.objectives.are_several and ended.state in ("finished", "stopped"):
            self._told[len(self._earlier) + number] = self._reported(ended)

    def suggest(self, number: int) -> dict[str, Value]:
        """A configuration for the trial of this number, which must be the next."""
        began = time.monotonic()
        config = self._ask(number, self._given[number] if number < len(self._given) else {})
        self._took_s.append(time.monotonic() - began)
        return config

    def _ask(self, number: int, given: Mapping[str, Value]) -> dict[str, Value]:
        """A configuration of which some values are given, and the sampler suggests the rest."""
        seed = self._settings.seed
        self.optuna_study.sampler = samplers.made(
            self._settings,
            derived(seed, "suggest", number),
            derived(seed, "suggest"),
            self._is_known,
            self._applying,
            self._reports,
            self._earlier,
        )
        if given:
            self.optuna_study.enqueue_trial(dict(given))
        trial = self.optuna_study.ask()
        assert trial.number == len(self._earlier) + number, "trials are numbered without gaps"
        self._trials[number] = trial
        if samplers.SAMPLERS[self._settings.name].remembers:
            _ = trial.relative_params  # Optuna draws when it is first asked, and never if all is given: no notes then
        config = self._space.walk(lambda name, parameter: _suggested(trial, name, parameter))
        self._forget_what_does_not_apply(trial)
        self._suggested.add(key(config))
        return config

    def _is_known(self, drawn: Mapping[str, Value]) -> bool:
        """Whether what a sampler has drawn makes a configuration that was suggested before, and is not wanted twice."""
        if self._settings.repeats == "reseed":
            return False
        try:
            return key(self._space.walk(lambda name, parameter: _taken(drawn, name, parameter))) in self._suggested
        except KeyError:
            return False  # it has not drawn all that this configuration needs

    def _applying(self, drawn: dict[str, Value]) -> dict[str, Value]:
        """Of all that a sampler has drawn, what applies; all of it, where it has not drawn what would tell."""
        if not self._has_conditions:
            return drawn
        try:
            config = self._space.walk(lambda name, parameter: _taken(drawn, name, parameter))
        except KeyError:
            return drawn
        return {name: value for name, value in config.items() if name in drawn}

    def _forget_what_does_not_apply(self, trial: optuna.Trial) -> None:
        """Take from a trial the note of all that TPE drew for it.

        While the trial runs, TPE reads there also what does not apply to it. A trial made from the log has no such
        note, and a resumed search would go another way.
        """
        if self._settings.name == "tpe":
            storage = self.optuna_study._storage
            for note in storage.get_trial_system_attrs(trial._trial_id):
                if note.startswith("tpe:"):
                    storage.set_trial_system_attr(trial._trial_id, note, "")

    def tell(self, trial: Trial) -> None:
        """Take in how a trial of the run has ended; one that repeats another, as that one."""
        told, origin = self._trials.pop(trial.number), self._run.origin(trial)
        for epoch, reported in curve(self._run, origin).items():
            told.report(reported, epoch)
        if self._run.objectives.constraints and origin.state in ("finished", "stopped"):
            self.optuna_study._storage.set_trial_system_attr(told._trial_id, CONSTRAINTS, self._run.excesses(origin))
        values = self._run.values(origin) if origin.state == "finished" else None
        self.optuna_study.tell(told, values, state=self._state(origin))
        self._note(trial.number, origin)

    def _state(self, ended: Trial) -> TrialState:
        """An ended trial's state as the sampler should have it.

        Of several objectives Optuna takes all stopped trials to be equally bad, having no curve to tell them apart, and
        keeps away from where they were: near the front, once a search has come there. So it is not told of them.
        """
        is_judged = self._run.objectives.are_several and not ended.was_spared
        return TrialState.FAIL if is_judged and ended.state == "stopped" else STATES[str(ended.state)]


def key(config: Mapping[str, Value]) -> str:
    """The same for the same configuration; a text, since 1 and true are two options and the same key."""
    return json.dumps(config, sort_keys=True)


def known_from(trial: Trial, settings: Sampler) -> int:
    """The first suggestion that knows of an ended trial's end.

    By `deterministic` it is the one so far on, whenever the trial has ended. Else it is the next that was begun.
    """
    if settings.deterministic:
        return trial.number + LAG
    assert trial.known_from is not None, "it has ended"
    return trial.known_from


def drawn(study: Study, count: int) -> list[dict[str, Value]]:
    """Configurations of a study's space, drawn at random; always the same ones."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = []
    for number in range(count):
        sampler = optuna.samplers.RandomSampler(seed=derived(study.sampler.seed, "drawn", number))
        trial = optuna.create_study(sampler=sampler).ask()
        found.append(study.space.walk(lambda name, parameter, trial=trial: _suggested(trial, name, parameter)))  # type: ignore[misc]
    return found


def _grid(study: Study) -> list[dict[str, Value]]:
    configurations = list(study.space.configurations())
    random.Random(derived(study.sampler.seed, "grid")).shuffle(configurations)
    return configurations


def _taken(drawn: Mapping[str, Value], name: str, parameter: Parameter) -> Value:
    """A parameter's value of those that a sampler has drawn; it does not draw the only one that there is.

    Raises:
        KeyError: It was not drawn, and could be another.
    """
    if name not in drawn and isinstance(parameter, Choice) and len(parameter.options) == 1:
        return parameter.options[0]
    return drawn[name]


def _suggested(trial: optuna.Trial, name: str, parameter: Parameter) -> Value:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.options)  # type: ignore[return-value]
    if isinstance(parameter, Int):
        return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return float(trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log, step=parameter.step))
