"""How much a Gaussian process expects of candidates, and of which most."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.suggest.gaussian_process import GaussianProcess

SPACE: Mapping[str, BaseDistribution] = {
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "n": IntDistribution(0, 10),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
}


def worth(config: Mapping[str, Any]) -> float:
    return {"a": 0.0, "b": 1.0, "c": 3.0}[config["kind"]] - abs(config["n"] - 7) - (math.log10(config["rate"]) + 2) ** 2


def drawn(count: int, seed: int = 0) -> list[dict[str, Any]]:
    chance = np.random.default_rng(seed)
    return [
        {
            "kind": str(chance.choice(["a", "b", "c"])),
            "n": int(chance.integers(0, 11)),
            "rate": 10 ** chance.uniform(-4, 0),
        }
        for _ in range(count)
    ]


def chosen(
    candidates: Sequence[Mapping[str, Any]],
    known: Sequence[Mapping[str, Any]],
    pending: Sequence[Mapping[str, Any]] = (),
    values: Sequence[float] | None = None,
) -> Mapping[str, Any]:
    found = [worth(config) for config in known] if values is None else values
    return candidates[int(GaussianProcess(known, found, pending, SPACE).improvements(candidates).argmax())]


@pytest.mark.parametrize("seed", range(5))
def test_it_expects_most_of_what_is_good(seed: int) -> None:
    known, candidates = drawn(40, seed), drawn(100, seed + 100)
    ranked = sorted(candidates, key=worth, reverse=True)
    assert ranked.index(dict(chosen(candidates, known))) < 10


def test_only_ranks_count() -> None:
    known, candidates = drawn(30), drawn(50, 1)
    values = [worth(config) for config in known]
    worst = min(range(30), key=values.__getitem__)
    diverged = [-1e300 if number == worst else value for number, value in enumerate(values)]
    assert chosen(candidates, known) == chosen(candidates, known, values=diverged)
    assert chosen(candidates, known) == chosen(candidates, known, values=[math.exp(value) for value in values])


def test_what_is_being_tried_is_not_tried_again_beside_it() -> None:
    known, candidates = drawn(30), drawn(50, 1)
    first = chosen(candidates, known)
    assert chosen(candidates, known, [first]) != first


def test_a_parameter_that_does_not_apply_is_told_from_each_of_its_values() -> None:
    without = [{name: config[name] for name in ("kind", "rate")} for config in drawn(20)]
    known = [*without, *drawn(20, 1)]
    values = [1.0 + 0.01 * number for number in range(20)] + [0.01 * number for number in range(20)]
    candidates = drawn(10, 2)
    candidates += [{name: config[name] for name in ("kind", "rate")} for config in candidates]
    assert "n" not in chosen(candidates, known, values=values)
    assert "n" in chosen(candidates, known, values=[-value for value in values])


@pytest.mark.parametrize("known", [drawn(1), drawn(12), [drawn(1)[0]] * 12])
def test_where_all_are_equal_it_chooses_what_is_far_from_them(known: list[dict[str, Any]]) -> None:
    far = {"kind": "c" if known[0]["kind"] != "c" else "a", "n": 0 if known[0]["n"] > 5 else 10, "rate": 1.0}
    found = chosen([known[0], far], known, values=[2.0] * len(known))
    assert found == far


def test_of_outcomes_it_keeps_to_what_is_known_to_be_good_and_of_what_is_behind_them_not_always() -> None:
    space = {"n": IntDistribution(0, 100)}
    found: dict[bool, list[int]] = {False: [], True: []}
    for seed in range(6):
        chance = np.random.default_rng(seed)
        known = [{"n": int(n)} for n in chance.permutation(101)[:60]]
        values = [-abs(config["n"] - 30) / 20 + chance.normal() for config in known]
        candidates = [{"n": n} for n in range(101) if {"n": n} not in known]
        for of_outcome, chosen in found.items():
            promise = GaussianProcess(known, values, [], space).improvements(candidates, of_outcome=of_outcome)
            chosen.append(abs(candidates[int(promise.argmax())]["n"] - 30))
    assert max(found[True]) <= 10 and max(found[False]) > 20


def test_of_equals_it_expects_the_same_and_of_the_best_all_there_is() -> None:
    one, other = drawn(2, 3)
    promise = GaussianProcess(drawn(20), list(range(20)), [], SPACE).improvements([one, other, dict(one)])
    assert promise[0] == promise[2] != promise[1] and promise.max() == 1.0


def test_it_knows_how_good_it_can_be_and_that_it_is_not_there_yet() -> None:
    """Suggestions one after another, out of a hundred, come to the best of them."""
    candidates, known = drawn(100, 4), drawn(5, 5)
    for _ in range(25):
        known = [*known, dict(chosen([one for one in candidates if one not in known], known))]
    assert max(map(worth, known)) == max(map(worth, candidates))


def test_many_candidates_are_weighed_in_parts_as_they_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known, candidates = drawn(30), drawn(100, 1)
    process = GaussianProcess(known, [worth(config) for config in known], [], SPACE)
    at_once = process.improvements(candidates)
    monkeypatch.setattr("search.suggest.gaussian_process._MOST_DIFFERENCES", 7 * process._at.size)
    assert process.improvements(candidates) == pytest.approx(at_once, abs=2e-6)
