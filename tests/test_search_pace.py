"""How many suggestions lie ready: few, for early ones know less, and enough that slots hardly wait."""

import random
from collections import deque

import pytest

from search.suggest.pace import Pace


def paced(*ends: float) -> Pace:
    pace = Pace()
    for at in ends:
        pace.ended(at)
    return pace


def idle_share(num_ahead: int, between_s: float, took_s: float, num_slots: int) -> float:
    """What share of their time slots wait, which fall free at random; simulated over 20,000 suggestions."""
    rng = random.Random(0)
    now, made_at, waited = 0.0, 0.0, 0.0
    taken: deque[float] = deque([0.0] * num_ahead)  # when the last ones were taken: the next can be begun then
    for _ in range(20_000):
        now += rng.expovariate(1 / between_s)
        made_at = max(made_at, taken.popleft()) + took_s
        waited += max(made_at - now, 0.0)
        now = max(now, made_at)
        taken.append(now)
    return waited / (now * num_slots)


def test_one_lies_ready_where_nothing_is_known_or_suggestions_are_quick() -> None:
    assert paced().num_ahead(1.0, 8) == paced(5.0).num_ahead(1.0, 8) == 1
    assert paced(0.0, 10.0, 20.0).num_ahead(0.05, 8) == 1


def test_as_many_as_slots_lie_ready_where_they_fall_free_faster_than_one_is_made() -> None:
    assert paced(0.0, 0.1, 0.2).num_ahead(0.2, 8) == 8


@pytest.mark.parametrize("num_slots", [2, 8, 32])
@pytest.mark.parametrize("busy", [0.1, 0.3, 0.5, 0.7])
def test_slots_wait_for_hardly_any_of_their_time(busy: float, num_slots: int) -> None:
    number = paced(0.0, 1.0, 2.0).num_ahead(busy, num_slots)
    assert 1 <= number <= num_slots
    assert number == num_slots or idle_share(number, 1.0, busy, num_slots) < 0.0075


def test_the_longer_one_takes_the_more_lie_ready() -> None:
    numbers = [paced(0.0, 1.0, 2.0).num_ahead(took_s / 100, 8) for took_s in range(1, 120)]
    assert numbers == sorted(numbers) and numbers[-1] == 8
