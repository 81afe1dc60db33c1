"""Fronts, ranks, knees and hypervolumes, beside brute force and Optuna's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume

from results import pareto


def _costs(most: int = 25, objectives: int | None = None) -> st.SearchStrategy[pareto.Costs]:
    shape = st.tuples(st.integers(1, most), st.just(objectives) if objectives else st.integers(1, 4))
    # Few different values: ties are where such code goes wrong.
    return shape.flatmap(lambda both: arrays(np.float64, both, elements=st.integers(0, 6).map(float)))


def _beats(one: pareto.Costs, other: pareto.Costs) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


@given(_costs())
def test_the_front_is_what_brute_force_finds(costs: pareto.Costs) -> None:
    by_force = [not any(_beats(other, one) for other in costs) for one in costs]
    assert pareto.front(costs).tolist() == by_force


@given(_costs())
def test_ranks_peel_fronts_off(costs: pareto.Costs) -> None:
    ranks = pareto.ranks(costs)
    for index, one in enumerate(costs):
        above = [ranks[k] for k, other in enumerate(costs) if _beats(other, one)]
        assert ranks[index] == max(above, default=-1) + 1


@settings(max_examples=60)
@given(_costs(12), st.integers(3, 8))
def test_the_hypervolume_is_that_of_optuna(costs: pareto.Costs, edge: int) -> None:
    reference = np.full(costs.shape[1], float(edge))
    inside = costs[(costs <= reference).all(axis=1)]  # Optuna's wants none beyond
    theirs = compute_hypervolume(inside, reference) if len(inside) else 0.0
    assert pareto.hypervolume(costs, reference) == pytest.approx(theirs)


@settings(max_examples=60)
@given(_costs(12))
def test_it_grows_to_the_whole(costs: pareto.Costs) -> None:
    reference = np.full(costs.shape[1], 7.0)
    grown = pareto.hypervolumes(costs, reference)
    assert grown == pytest.approx([pareto.hypervolume(costs[: k + 1], reference) for k in range(len(costs))])


def test_the_knee_of_a_bent_front_is_its_bend() -> None:
    front = pareto.costs([[0.90, 10], [0.98, 20], [0.985, 500], [0.99, 1000]], ["max", "min"])
    assert pareto.front(front).all()
    assert pareto.knee(front) == 1
    assert pareto.knee(front[:1]) == 0
    # Scales do not matter.
    assert pareto.knee(front * [1000, 0.001]) == 1


def test_costs_turn_what_shall_be_more() -> None:
    assert pareto.costs([[0.9, 5]], ["max", "min"]).tolist() == [[-0.9, 5.0]]
    assert pareto.costs([], ["max", "min"]).shape == (0, 2)
    assert pareto.hypervolume(pareto.costs([], ["max", "min"]), np.zeros(2)) == 0.0
