"""Each sampler on a space that it can search, and refused on one that it can't; known configurations; earlier runs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from drivers import Driver as Log
from test_search_engine import Driver, made

from results import open_run
from search import Study, StudyError, load_study
from search.suggest import samplers
from search.suggest.samplers import SAMPLERS
from search.suggest.warm_start import taken, told

NUMBERS = {"x": {"float": [0.0, 1.0]}, "n": {"int": [1, 9]}}
CHOICES = {**NUMBERS, "kind": {"choice": ["a", "b"]}}
CONDITIONS = {"kind": {"choice": ["a", "b"]}, "x": {"float": [0.0, 1.0]}, "n": {"int": [1, 9], "when": {"kind": "b"}}}
FINITE = {
    "kind": {"choice": ["a", "b"]},
    "x": {"float": [0.0, 1.0], "step": 0.5},
    "n": {"int": [1, 2], "when": {"kind": "b"}},
}
# By the end of the budget none is at its beginning any more, where all draw at random.
OPTIONS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 5},
    "gp": {"n_startup_trials": 3},
    "cmaes": {"popsize": 4},
    "nsga2": {"population_size": 4},
    "nsga3": {"population_size": 4},
}
BUDGETS = {"gp": 6}


def space_for(sampler: str) -> dict[str, Any]:
    can = SAMPLERS[sampler]
    return FINITE if not can.endless else CONDITIONS if can.conditions else CHOICES if can.choices else NUMBERS


def needs(sampler: str) -> None:
    missing = [package for package in SAMPLERS[sampler].packages if find_spec(package) is None]
    if missing:
        pytest.skip(f"{sampler} needs the package {missing[0]}")


def study_of(kind: str, tmp_path: Path, **sections: Any) -> Study:
    """A study of a sampler, on the hardest space that it can search."""
    settings = {"name": kind, "seed": 3, **OPTIONS.get(kind, {}), **sections.pop("sampler", {})}
    budget = {"trials": BUDGETS.get(kind, 16)}
    early_stop = {"name": "none", "max_epochs": 2}
    plan = {"space": space_for(kind), "sampler": settings, "budget": budget, "early_stop": early_stop}
    return made(tmp_path, **{**plan, **sections})


def configurations(driver: Driver) -> list[Any]:
    return [dict(trial.config) for _, trial in sorted(driver.end().trials.items())]


def check_it_goes_on(sampler: str, tmp_path: Path, **sections: Any) -> None:
    """Kill a search of the sampler halfway; resumed, it must come to the configurations of one that was not killed."""
    needs(sampler)
    whole = Driver(study_of(sampler, tmp_path, name="whole", **sections))
    whole.train()
    parted = Driver(study_of(sampler, tmp_path, name="parted", **sections))
    parted.train(most=whole.engine.run.study["budget"]["trials"] * 2 // 3)
    parted.log.close()
    again = Driver(parted.study, past=open_run(parted.study.run_directory))
    again.train()
    found = configurations(whole)
    assert configurations(again) == found
    for config in found:
        whole.study.space.check(config)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_killed_search_goes_on_to_the_very_suggestions_of_the_whole_one(sampler: str, tmp_path: Path) -> None:
    check_it_goes_on(sampler, tmp_path)


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if can.reports])
def test_what_it_knew_of_running_and_stopped_trials_too(sampler: str, tmp_path: Path) -> None:
    early_stop = {"name": "asha", "grace_epochs": 1, "max_epochs": 4, "reduction": 2}
    check_it_goes_on(sampler, tmp_path, early_stop=early_stop, budget={"trials": 10})


@pytest.mark.parametrize(
    ("sampler", "space", "why"),
    [
        ("gp", CONDITIONS, "can't do conditions, and n has one (it would be drawn at random)"),
        ("qmc", CONDITIONS, "can't do conditions, and n has one (it would be drawn at random)"),
        ("nsga2", CONDITIONS, "can't do conditions, and n has one (it would be drawn at random)"),
        ("nsga3", CONDITIONS, "can't do conditions, and n has one (it would be drawn at random)"),
        ("cmaes", CONDITIONS, "can't do conditions, and n has one (it would be drawn at random)"),
        ("grid", CONDITIONS, "tries all values, and x has too many to list; give it a step"),
    ],
)
def test_a_sampler_that_cannot_do_conditions_is_refused_with_those_that_can(
    sampler: str, space: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as raised:
        study_of(sampler, tmp_path, space=space)
    assert str(raised.value) == (
        f"study: sampler {sampler!r} {why}; those that can do all that this study asks: tpe, random"
    )


def test_a_choice_is_not_for_cmaes(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        study_of("cmaes", tmp_path, space=CHOICES)
    assert str(raised.value) == (
        "study: sampler 'cmaes' can't do choices, and kind is one (it would be drawn at random); "
        "those that can do all that this study asks: tpe, gp, random, qmc, nsga2, nsga3"
    )
    study_of("cmaes", tmp_path, space={**NUMBERS, "kind": {"choice": ["a"]}})


def test_a_grid_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="lists all configurations, at most 100,000, and there are more"):
        study_of("grid", tmp_path, space={"a": {"int": [1, 1000]}, "b": {"int": [1, 1000]}})


def test_what_is_drawn_at_random_is_refused_and_nothing_else_is(tmp_path: Path) -> None:
    """What the table says of Optuna, asked of Optuna: after its beginning, a sampler draws nothing independently."""
    for sampler in ("tpe", "cmaes", "qmc"):
        driver = Driver(study_of(sampler, tmp_path, name=sampler))
        driver.train(most=12)
        suggester = driver.engine._suggester
        suggester.suggest(len(driver.engine.run.trials))
        trial = suggester._trials[max(suggester._trials)]
        drawn = {name for name in trial.params if name not in trial.relative_params}
        assert not drawn, sampler
        driver.end()


def test_a_grid_ends_when_every_configuration_was_tried(tmp_path: Path) -> None:
    driver = Driver(study_of("grid", tmp_path, budget={"trials": 50}))
    driver.train()
    assert driver.engine.exhausted
    found = configurations(driver)
    assert len(found) == 3 * 2 + 3  # x in three steps, with n where kind is b
    assert sorted(map(str, found)) == sorted(map(str, driver.study.space.configurations()))


def test_known_configurations_come_first_and_are_completed(tmp_path: Path) -> None:
    known = [{"kind": "b", "n": 4, "x": 0.25}, {"x": 1}, {"kind": "a"}]
    driver = Driver(study_of("tpe", tmp_path, sampler={"known": known}))
    driver.train(most=4)
    found = configurations(driver)
    assert found[0] == known[0]
    assert (found[1]["x"], type(found[1]["x"]), found[2]["kind"]) == (1.0, float, "a")
    for config in found:
        driver.study.space.check(config)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"y": 1}, "sampler.known.1: unknown parameter 'y'; known: kind, x, n"),
        ({"x": 3}, "sampler.known.1: x must be a number in [0.0, 1.0], got 3"),
        ({"n": 3}, "sampler.known.1: n applies only when kind is b; say so beside it, or leave it out"),
    ],
)
def test_a_known_configuration_that_does_not_fit_is_refused(
    known: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as raised:
        study_of("tpe", tmp_path, sampler={"known": [{}, known]})
    assert str(raised.value) == f"study: {message}"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(samplers, "find_spec", lambda name: None if name == "cmaes" else "there")
    with pytest.raises(StudyError) as raised:
        samplers.check_installed(study_of("cmaes", tmp_path).sampler)
    assert str(raised.value) == (
        "sampler 'cmaes' needs the package cmaes, which is not installed; `pip install cmaes`, or choose one of "
        "tpe, gp, random, qmc, grid, nsga2, nsga3"
    )


def earlier(tmp_path: Path, *configs: dict[str, Any]) -> Path:
    """A run of which these configurations have finished, each as good as its x."""
    log = Log(tmp_path / "earlier").begin()
    for number, config in enumerate(configs):
        log.tell("trial_suggested", number=number, config=config, seed=number)
        log.train(number, config["x"])
        log.end(number)
    log.close()
    return tmp_path / "earlier"


def test_an_earlier_run_is_taken_over_and_what_does_not_fit_is_said(tmp_path: Path) -> None:
    fits, other = {"kind": "b", "x": 0.25, "n": 4}, {"kind": "a", "x": 0.5, "momentum": 0.9}
    run = earlier(tmp_path, fits, other, {"kind": "b", "x": 0.5}, {"kind": "a", "x": 7.0}, {"kind": "a", "x": 8.0})
    study = study_of("tpe", tmp_path, sampler={"warm_start": [str(run)]})
    (given,) = taken(study)
    assert given["trials"] == [{"config": {"kind": "a", "x": 0.5}, "value": 0.5}, {"config": fits, "value": 0.25}]
    assert told(given) == (
        f"warm start: 2 finished trials of {run}; left out: 2 trials whose x lies outside of this space, "
        "1 value of momentum, which does not apply here, 1 trial without a value of n"
    )


@pytest.mark.parametrize("sampler", [name for name, can in SAMPLERS.items() if can.learns])
def test_a_sampler_learns_from_an_earlier_run_and_a_resume_needs_it_no_more(sampler: str, tmp_path: Path) -> None:
    needs(sampler)
    run = earlier(tmp_path, *({"kind": "a", "x": x / 100, "n": 5} for x in range(40, 60)))
    settings = {"warm_start": [str(run)], **({"n_startup_trials": 5} if sampler != "cmaes" else {})}
    plan = {"budget": {"trials": 4}, "sampler": settings}
    space = {name: CHOICES[name] for name in space_for(sampler)}  # no conditions, so that all trials fit
    whole, parted = (study_of(sampler, tmp_path, name=name, space=space, **plan) for name in ("whole", "parted"))
    cold = study_of(sampler, tmp_path, name="cold", space=space, budget={"trials": 4})
    given = taken(whole)
    assert len(given[0]["trials"]) == 20
    driver, unknowing = Driver(whole, warm_start=given), Driver(cold)
    driver.train()
    unknowing.train()
    found = configurations(driver)
    assert len(found) == 4 and found != configurations(unknowing)
    half = Driver(parted, warm_start=given)
    half.train(most=2)
    half.log.close()
    again = Driver(parted, past=open_run(parted.run_directory))
    again.train()
    assert configurations(again) == found


def test_who_does_not_learn_is_refused_a_warm_start(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as raised:
        study_of("nsga2", tmp_path, sampler={"warm_start": ["runs/x"]})
    assert str(raised.value) == (
        "study: sampler 'nsga2' can't learn from earlier runs, and sampler.warm_start names some; "
        "those that can do all that this study asks: tpe, gp"
    )


def test_a_run_that_searched_for_something_else_is_no_start(tmp_path: Path) -> None:
    run = earlier(tmp_path, {"kind": "a", "x": 0.5})
    study = study_of("tpe", tmp_path, objective={"metric": "score", "mode": "min"}, sampler={"warm_start": [str(run)]})
    with pytest.raises(StudyError, match=r"must have searched for min score, got max score; leave it out"):
        taken(study)


def test_what_is_no_run_or_named_twice_is_no_start(tmp_path: Path) -> None:
    run = earlier(tmp_path, {"kind": "a", "x": 0.5})
    for names, message in (
        ([str(run), f"{run}/"], f"sampler.warm_start: a run must be named once, got '{run}/' again"),
        ([str(run / "events")], f"sampler.warm_start: '{run}/events' is not a run directory: .*; did you mean {run}"),
        ([str(run), f"{tmp_path}/none"], f"sampler.warm_start: '{tmp_path}/none' is not a run directory: "),
    ):
        with pytest.raises(StudyError, match=message):
            taken(study_of("tpe", tmp_path, sampler={"warm_start": names}))


def test_the_space_of_quickstart_is_for_those_that_can_do_its_conditions() -> None:
    assert [name for name in SAMPLERS if refused(name) is None] == ["tpe", "random"]
    for name in set(SAMPLERS) - {"tpe", "random"}:
        assert str(refused(name)).startswith(f"--set: sampler {name!r} ")


def refused(sampler: str) -> str | None:
    try:
        load_study("quickstart", [f"sampler.name={sampler}"])
    except StudyError as err:
        return str(err)
    return None
