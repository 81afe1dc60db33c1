"""The Gaussian process sampler as it is here: what was stopped or runs counts too."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import GPSampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.optuna_view import CONSTRAINTS

pytest.importorskip("torch")
from search.suggest.gp_sampler import ReportedGPSampler

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

STARTUP = 6
SPACE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}
Make = Callable[..., GPSampler]


def new_study(**directions: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(**directions)


def searched(objective: Callable[[Trial], float], make: Make, num_trials: int = 20) -> list[FrozenTrial]:
    study = new_study(direction="maximize")
    for number in range(num_trials):
        study.sampler = make(seed=number, n_startup_trials=STARTUP)
        study.optimize(objective, n_trials=1)
    return study.trials


def valley(trial: Trial) -> float:
    return -((trial.suggest_float("x", 0.0, 1.0) - 0.3) ** 2) - (trial.suggest_float("y", 0.0, 1.0) - 0.6) ** 2


def nearly_all_stopped(trial: Trial) -> float:
    trial.report(valley(trial), 1)
    if trial.number:
        raise optuna.TrialPruned
    return valley(trial)


def off(params: Mapping[str, float]) -> float:
    return abs(params["x"] - 0.3) + abs(params["y"] - 0.6)


def test_what_is_stopped_early_tells_where_the_good_are() -> None:
    found = [t.params for t in searched(nearly_all_stopped, partial(ReportedGPSampler, {}))]
    others = [t.params for t in searched(nearly_all_stopped, GPSampler)]
    assert found[:STARTUP] == others[:STARTUP]
    assert min(map(off, found[STARTUP:])) < 0.1 and sum(off(params) < 0.15 for params in found[STARTUP:]) >= 3
    assert sum(off(params) < 0.15 for params in others[STARTUP:]) <= 2, "at random it is one in 25"


def test_where_none_was_stopped_it_is_optunas() -> None:
    found = [t.params for t in searched(valley, partial(ReportedGPSampler, {}))]
    assert found == [t.params for t in searched(valley, GPSampler)]
    assert all(off(params) < 0.05 for params in found[-5:])


def ended(state: TrialState, x: float, *reported: float, **system_attrs: Any) -> FrozenTrial:
    curve: Mapping[int, float] = dict(enumerate(reported, start=1))
    value = max(reported) if state == TrialState.COMPLETE else None
    return create_trial(
        state=state, value=value, params={"x": x, "y": 0.5}, distributions=SPACE, intermediate_values=dict(curve),
        system_attrs=system_attrs,
    )  # fmt: skip


def seen_by(study: optuna.Study, reports: Mapping[int, Any]) -> list[tuple[TrialState, list[float] | None]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = ReportedGPSampler(reports, seed=0, n_startup_trials=3)
        found = sampler._shown(study).get_trials(deepcopy=False)
        study.sampler = sampler
        assert set(study.ask().relative_params) == set(SPACE)
    return [(trial.state, None if trial.state == TrialState.RUNNING else trial.values) for trial in found]


def test_a_trial_is_as_good_as_its_place() -> None:
    study = new_study(direction="minimize")
    study.add_trial(ended(TrialState.COMPLETE, 0.1, 0.9, 0.5))
    study.add_trial(ended(TrialState.PRUNED, 0.2, 0.95))
    study.add_trial(ended(TrialState.COMPLETE, 0.3, 0.8, 0.7))
    study.ask(dict(SPACE))
    study.ask(dict(SPACE))
    whole = TrialState.COMPLETE
    assert seen_by(study, {3: {1: (0.1,)}}) == [
        (whole, [2 / 3]), (whole, [0.0]), (whole, [1 / 3]), (whole, [1.0]), (TrialState.RUNNING, None)
    ]  # fmt: skip
    assert study.trials[3].state == TrialState.RUNNING and study.trials[0].value == 0.9


def test_of_very_many_the_best_and_the_latest_are_told() -> None:
    study = new_study(direction="maximize")
    values = [*range(800, 0, -1), *range(801, 1001)]
    study.add_trials([ended(TrialState.PRUNED, value / 1000, float(value)) for value in values])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = ReportedGPSampler({}, seed=0, n_startup_trials=3)._shown(study).get_trials(deepcopy=False)
    numbers = [trial.number for trial in shown]
    assert numbers == [*range(50), *range(550, 1000)], "the best 250, and of the others the latest 250"
    assert shown[-1].values == [1.0] and shown[0].values == [pytest.approx(799 / 999)]


def test_of_bounds_is_known_what_has_ended() -> None:
    study = new_study(direction="maximize")
    study.add_trial(ended(TrialState.COMPLETE, 0.1, 0.9, **{CONSTRAINTS: [1.0]}))
    study.add_trial(ended(TrialState.PRUNED, 0.2, 0.5, **{CONSTRAINTS: [-1.0]}))
    study.add_trial(ended(TrialState.PRUNED, 0.3, **{CONSTRAINTS: [2.0]}))
    study.add_trial(ended(TrialState.COMPLETE, 0.4, 0.7, **{CONSTRAINTS: [-1.0]}))
    study.ask(dict(SPACE))
    whole = TrialState.COMPLETE
    assert seen_by(study, {4: {1: (0.6,)}}) == [
        (whole, [1.0]), (whole, [0.0]), (whole, [0.0]), (whole, [2 / 3]), (TrialState.RUNNING, None)
    ]  # fmt: skip


def test_bounds_are_learned_from_stopped_trials_too() -> None:
    def bounded(trial: Trial) -> float:
        worth = trial.suggest_float("x", 0.0, 1.0) - trial.suggest_float("y", 0.0, 1.0) / 10
        trial.storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, [trial.params["x"] - 0.5])
        trial.report(worth, 1)
        if trial.number:
            raise optuna.TrialPruned
        return worth

    found = [t.params["x"] for t in searched(bounded, partial(ReportedGPSampler, {}))]
    assert max(x for x in found[STARTUP:] if x <= 0.5) > 0.45
    assert sum(0.3 < x <= 0.55 for x in found[STARTUP:]) >= 7, "at random it is one in four"
