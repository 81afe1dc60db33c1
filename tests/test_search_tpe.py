"""TPE as it is here: what is known is drawn anew, and now and then neighbours of the best compete with it."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, create_trial
from test_search_engine import Driver, made

from results.comparison import places
from search.suggest.gaussian_process import GaussianProcess
from search.suggest.tpe import FreshTPESampler, _others, _weighed

pytestmark = pytest.mark.filterwarnings("ignore:Argument ``:optuna.exceptions.ExperimentalWarning")

STARTUP = 6
NEIGHBOURS = range(STARTUP, 40, 3)


def searched(objective: Callable[[Trial], float], direction: str = "maximize", **arguments: Any) -> list[FrozenTrial]:
    """Forty trials one after the other, none suggested twice if that can be."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction)

    def is_known(drawn: Mapping[str, Any]) -> bool:
        return any(drawn.items() <= trial.params.items() for trial in study.trials)

    for number in range(40):
        given = {"n_startup_trials": STARTUP, "neighbour_every": 3, "multivariate": True, "group": True, **arguments}
        study.sampler = FreshTPESampler(is_known, dict, {}, seed=number, **given)
        study.optimize(objective, n_trials=1)
    return study.trials


def exchanged(trial: FrozenTrial, other: FrozenTrial) -> list[str]:
    return [name for name in trial.params if trial.params[name] != other.params.get(name)]


def value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def mixed(trial: Trial) -> float:
    kind, x = trial.suggest_categorical("kind", ["a", "b", "c"]), trial.suggest_float("x", 0.0, 1.0)
    n, many = trial.suggest_int("n", 0, 12, step=3), trial.suggest_int("many", 0, 10_000)
    trial.suggest_categorical("only", ["one"])
    return {"a": 0.0, "b": 1.0, "c": 2.0}[kind] - (x - 0.3) ** 2 - abs(n - 6) / 10 - many / 10_000


def few(trial: Trial) -> float:
    """As `mixed`, and no number has many values."""
    kind, x = trial.suggest_categorical("kind", ["a", "b", "c"]), trial.suggest_float("x", 0.0, 1.0, step=0.1)
    n, m = trial.suggest_int("n", 0, 12, step=3), trial.suggest_int("m", 1, 20, log=True)
    trial.suggest_categorical("only", ["one"])
    return {"a": 0.0, "b": 1.0, "c": 2.0}[kind] - (x - 0.3) ** 2 - abs(n - 6) / 10 - m / 20


def is_neighbour(trial: FrozenTrial, other: FrozenTrial) -> bool:
    """Whether a choice is exchanged, or a number for the next."""
    steps = {"x": 0.1, "n": 3, "m": 1}
    names = exchanged(trial, other)
    return names == ["kind"] or any(
        names == [name] and abs(trial.params[name] - other.params[name]) == pytest.approx(step)
        for name, step in steps.items()
    )


def is_mixed(trial: FrozenTrial, one: FrozenTrial, other: FrozenTrial) -> bool:
    return all(value in (one.params[name], other.params[name]) for name, value in trial.params.items())


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_at_every_third_suggestion_what_is_near_the_best_may_win(direction: str, sign: int) -> None:
    trials = searched(lambda trial: sign * few(trial), direction)
    neighbours, mixtures = 0, 0
    for number in NEIGHBOURS:
        best = sorted(trials[:number], key=value, reverse=sign > 0)[:10]
        neighbours += any(is_neighbour(trials[number], one) for one in best)
        mixtures += any(is_mixed(trials[number], one, other) for one, other in combinations(best, 2))
    assert neighbours >= 8 and mixtures >= 3, "of twelve"
    between = [n for n in range(STARTUP, 40) if n % 3]
    assert any(len(exchanged(trials[n], max(trials[:n], key=value))) > 1 for n in between)


def test_real_numbers_are_moved_to_where_more_is_expected() -> None:
    def off(target: float, every: int) -> float:
        def objective(trial: Trial) -> float:
            at = [trial.suggest_float(f"x{number}", 0.0, 1.0) for number in range(3)]
            rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
            off = sum(abs(x - (target + 0.3 * number) % 1) for number, x in enumerate(at))
            return -off - abs(math.log10(rate) + 5 * target) / 5

        return -max(map(value, searched(objective, neighbour_every=every)))

    targets = [0.15, 0.35, 0.55, 0.75, 0.95]
    assert 1.4 * sum(off(target, 2) for target in targets) < sum(off(target, 0) for target in targets)


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(-3.0, 5.0),
        FloatDistribution(1e-4, 1.0, log=True),
        FloatDistribution(0.0, 0.5, step=0.1),
        FloatDistribution(0.0, 50.0, step=0.1),
        IntDistribution(2, 5),
        IntDistribution(1, 4, log=True),
        IntDistribution(0, 994, step=7),
        IntDistribution(8, 4096, log=True),
        CategoricalDistribution(["a", True, 1, None]),
        CategoricalDistribution(["only"]),
    ],
    ids=str,
)
def test_what_is_next_to_a_value_is_another_one_of_the_parameter(distribution: BaseDistribution) -> None:
    draw = optuna.samplers.RandomSampler(seed=0)
    study, chance = optuna.create_study(sampler=draw), random.Random(0)
    found = set()
    for _ in range(30):
        value = study.ask({"p": distribution}).params["p"]
        for other in _others(distribution, value, chance):
            assert distribution._contains(distribution.to_internal_repr(other))
            assert isinstance(distribution, CategoricalDistribution) or type(other) is type(value)
            found.add(repr(other))
    most = len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 4
    assert len(found) >= most or distribution.single()


def test_what_is_expected_is_asked_in_two_ways_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Indifferent:
        def __init__(self, *_: Any) -> None:
            pass

        def improvements(self, candidates: Sequence[Any], *, of_outcome: bool) -> Any:
            asked.append(of_outcome)
            return np.ones(len(candidates))

    monkeypatch.setattr("search.suggest.tpe.GaussianProcess", Indifferent)
    searched(few)
    assert asked == [number // 3 % 2 == 1 for number in NEIGHBOURS]


def test_of_very_many_neighbours_some_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    class Counting(GaussianProcess):
        def improvements(self, candidates: Sequence[Mapping[str, Any]], *, of_outcome: bool = False) -> Any:
            looked_at.append(len(candidates))
            return super().improvements(candidates, of_outcome=of_outcome)

    monkeypatch.setattr("search.suggest.tpe.GaussianProcess", Counting)
    monkeypatch.setattr("search.suggest.tpe._MOST_NEIGHBOURS", 50)
    searched(lambda trial: sum(trial.suggest_float(f"x{number}", 0.0, 1.0) for number in range(20)))
    # Not the 600 neighbours of the best ten: with mixtures, what was drawn, and the moves of the three most promising.
    assert 50 < max(looked_at) < 300


def test_zero_is_never() -> None:
    never, every_third = ([t.params for t in searched(mixed, neighbour_every=every)] for every in (0, 3))
    assert never[:STARTUP] == every_third[:STARTUP] and never != every_third
    assert any(
        min(sum(value != other[name] for name, value in never[n].items()) for other in never[:n]) > 1
        for n in NEIGHBOURS
    )


def test_what_was_stopped_early_has_neighbours_too() -> None:
    def objective(trial: Trial) -> float:
        worth = mixed(trial)
        trial.report(worth, 1)
        if trial.number % 10:
            raise optuna.TrialPruned
        return worth

    trials = searched(objective)
    others = searched(objective, neighbour_every=0)
    assert [t.params for t in trials[:STARTUP]] == [t.params for t in others[:STARTUP]]
    assert sum(min(len(exchanged(trials[n], one)) for one in trials[:n]) == 1 for n in NEIGHBOURS) >= 6
    assert max(t.intermediate_values[1] for t in trials) > max(t.intermediate_values[1] for t in others)


RUNNING = {"x": 0.73, "y": 3}


def suggested(reports: Mapping[int, Mapping[int, Sequence[float]]], seed: int, **arguments: Any) -> dict[str, Any]:
    """After thirty trials, all bad, and another that is running."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    space: dict[str, Any] = {"x": FloatDistribution(0.0, 1.0), "y": IntDistribution(0, 9)}
    for number in range(30):
        params, reported = {"x": number / 29, "y": number % 10}, {1: 0.1 + number % 7 / 100}
        study.add_trial(create_trial(value=0.2, params=params, distributions=space, intermediate_values=reported))
    study.enqueue_trial(RUNNING)
    study.ask(space)
    given = {"n_startup_trials": 10, "neighbour_every": 0, "multivariate": True, "group": True, **arguments}
    study.sampler = FreshTPESampler(lambda drawn: False, dict, reports, seed=seed, **given)
    return study.ask(space).params


def test_what_is_running_is_as_good_as_what_it_has_reported() -> None:
    off = {
        name: [abs(suggested(reports, seed)["x"] - 0.73) for seed in range(40)]
        for name, reports in {"good": {30: {1: (0.5,)}}, "bad": {30: {1: (0.01,)}}, "none": {}}.items()
    }
    assert sum(gap < 0.1 for gap in off["good"]) > 2 * max(
        sum(gap < 0.1 for gap in off[name]) for name in ("bad", "none")
    )
    asked = []

    class Asked(GaussianProcess):
        def __init__(self, known: Any, values: Any, pending: Any, space: Any) -> None:
            super().__init__(known, values, pending, space)
            asked.append((dict(zip(map(str, known), values, strict=True)), pending))

        def improvements(self, candidates: Any, **_: Any) -> Any:
            near.append({"x": 0.73, "y": 4} in candidates)
            return super().improvements(candidates)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("search.suggest.tpe.GaussianProcess", Asked)
        for reports in ({30: {1: (0.5,)}}, {}):
            near: list[bool] = []
            suggested(reports, 0, neighbour_every=1)
            assert near[0] is bool(reports)
    (values, pending), (others, waited) = asked
    assert values[str(RUNNING)] == max(values.values()) == 1.0 and pending == []
    assert str(RUNNING) not in others and waited == [RUNNING]


def test_what_does_not_apply_to_the_best_is_drawn() -> None:
    def objective(trial: Trial) -> float:
        if trial.suggest_categorical("kind", ["a", "b"]) == "a":
            return 1.0 - trial.suggest_float("x", 0.0, 1.0) / 10
        return 0.95 + trial.suggest_float("y", 0.0, 1.0) / 20

    trials = searched(objective)
    others = [trials[n] for n in NEIGHBOURS if "y" in trials[n].params]
    assert others and all(set(trial.params) == {"kind", "y"} for trial in others)


@pytest.mark.filterwarnings("ignore:`constraints_func`:FutureWarning")
def test_what_breaks_a_constraint_is_worth_nothing() -> None:
    def objective(trial: Trial) -> float:
        n = trial.suggest_int("n", 0, 20)
        trial.suggest_int("m", 0, 20)
        trial.set_user_attr("excess", n - 10)
        return float(n)

    trials = searched(objective, constraints_func=lambda trial: [trial.user_attrs["excess"]])
    assert max(trial.params["n"] for trial in trials[:STARTUP]) > 12
    later = [trials[n].params["n"] for n in NEIGHBOURS[3:]]
    assert sum(n <= 11 for n in later) >= 7 and len(later) == 9
    assert max(trial.params["n"] for trial in trials if trial.params["n"] <= 10) == 10
    assert all(trials[n].params != other.params for n in NEIGHBOURS[:8] for other in trials[:n])


def test_where_all_neighbours_are_known_it_is_as_drawn() -> None:
    trials = searched(lambda trial: trial.suggest_int("n", 0, 2))
    assert len(trials) == 40 and {trial.params["n"] for trial in trials} == {0, 1, 2}


def two(trial: Trial) -> tuple[float, float]:
    """More of `t` is more of the first and less of the second; the rest should be 0.3."""
    t, x, y = (trial.suggest_float(name, 0.0, 1.0) for name in ("t", "x", "y"))
    off = abs(x - 0.3) + abs(y - 0.3)
    return t - off, t + off


def searched_for_two(neighbour_every: int | str, num_trials: int = 80) -> list[dict[str, float]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for number in range(num_trials):
        given: dict[str, Any] = {"n_startup_trials": 10, "multivariate": True, "neighbour_every": neighbour_every}
        study.sampler = FreshTPESampler(lambda drawn: False, dict, {}, seed=number, **given)
        study.optimize(two, n_trials=1)
    return [trial.params for trial in study.trials]


def test_left_to_us_every_second_suggestion_is_a_contest_and_of_several_objectives_each() -> None:
    one, other = ([trial.params for trial in searched(mixed, neighbour_every=every)] for every in ("auto", 2))
    assert one == other
    left_to_us, each, every_second = (searched_for_two(every, 20) for every in ("auto", 1, 2))
    assert left_to_us == each != every_second


def test_of_several_objectives_one_suggestion_after_another_looks_for_another_part_of_the_front() -> None:
    found = {}
    for every in (0, 2):
        later = searched_for_two(every)[40:]
        found[every] = float(np.median([abs(one["x"] - 0.3) + abs(one["y"] - 0.3) for one in later]))
    assert min(one["t"] for one in later) < 0.2 and max(one["t"] for one in later) > 0.8
    assert sum(0.2 < one["t"] < 0.8 for one in later) >= 8
    assert found[2] < found[0] < 0.4, "drawn at random it would be 0.6"


def test_of_several_objectives_a_trial_has_a_place_for_each() -> None:
    curves: list[dict[int, tuple[float, ...]]] = [
        {1: (0.9, 5.0), 2: (0.1, 5.0)},
        {1: (0.5, 1.0)},
        {1: (0.4, 9.0), 2: (0.2, 9.0)},
        {},
    ]
    for_each = places(curves, [True, False, True, False], 2)
    assert for_each[:3].tolist() == [[1.0, 0.5], [0.5, 1.0], [0.0, 0.0]] and np.isnan(for_each[3]).all()
    for seed in range(20):
        weighed = _weighed(for_each, random.Random(seed))
        assert weighed[3] == -1.0 and 0 <= weighed[2] < min(weighed[:2]) and max(weighed) <= 1
    drawn = [_weighed(for_each, random.Random(seed)) for seed in range(20)]
    assert {first > second for first, second, *_ in drawn} == {True, False}


def test_one_objective_has_all_the_weight() -> None:
    assert _weighed(np.array([[0.25], [np.nan], [1.0]]), random.Random(0)) == pytest.approx([0.25, -1.0, 1.0])


def test_a_choice_of_one_changes_nothing(tmp_path: Path) -> None:
    numbers = {"x": {"int": [0, 9]}, "y": {"int": [0, 9]}}
    found = []
    for name, space in (("without", numbers), ("with", {**numbers, "z": {"choice": [True]}})):
        sections: dict[str, Any] = {"early_stop": {"name": "none", "max_epochs": 1}, "budget": {"trials": 60}}
        driver = Driver(made(tmp_path, name=name, space=space, sampler={"name": "tpe", "seed": 1}, **sections))
        driver.train()
        trials = sorted(driver.end().trials.items())
        found.append([(trial.config["x"], trial.config["y"]) for _, trial in trials])
    assert found[0] == found[1]
