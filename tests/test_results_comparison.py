"""Where trials stand among all, that came to different numbers of epochs."""

import math

import pytest

from results.comparison import places


def placed(*curves: tuple[list[float], str], sign: int = 1) -> list[float]:
    """Of curves from the first epoch on, and of what has become of their trials."""
    reported = [{epoch: (-sign * value,) for epoch, value in enumerate(values, start=1)} for values, _ in curves]
    return [float(place) for (place,) in places(reported, [state == "whole" for _, state in curves])]


def test_trials_are_compared_at_the_last_epoch_that_they_came_to() -> None:
    trials = [
        ([0.1, 0.2, 0.3], "whole"),  # the first: early stopping had nothing to compare it with
        ([0.5], "stopped"),
        ([0.6, 0.7, 0.9], "whole"),
        ([0.5, 0.55], "running"),
    ]
    assert placed(*trials) == [0.0, 0.5, 1.0, 0.5]
    assert placed(*trials, sign=-1) == [1.0, 0.5, 0.0, 0.5]


def test_who_comes_further_changes_places_with_others_that_did() -> None:
    trials = [([0.1, 0.8], "whole"), ([0.2], "stopped"), ([0.3], "stopped"), ([0.4, 0.7], "whole"), ([0.5], "stopped")]
    assert placed(*trials) == [0.75, 0.25, 0.5, 0.0, 1.0]


def test_a_curve_counts_by_the_best_so_far_and_one_that_is_not_known_by_its_end() -> None:
    curves = [{1: (-0.2,), 2: (-0.8,), 3: (-0.4,)}, {1: (-0.3,), 2: (-0.7,), 3: (-0.5,)}, {2: (-0.1,)}, {0: (-0.6,)}]
    assert places(curves, [True, True, False, True])[:, 0] == pytest.approx([1, 2 / 3, 0, 1 / 3])


def test_what_returned_early_is_whole() -> None:
    assert placed(([0.9], "whole"), ([0.1, 0.2], "whole"), ([0.3, 0.8], "running")) == [1.0, 0.0, 0.5]


def test_what_never_reported_has_no_place() -> None:
    assert placed(([], "stopped"), ([0.1], "whole"), ([], "running")) == pytest.approx(
        [math.nan, 0.0, math.nan], nan_ok=True
    )
    assert placed() == []
