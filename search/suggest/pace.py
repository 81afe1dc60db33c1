"""How many suggestions must lie ready, so that no slot waits for one."""

import math
from collections import deque

# How fast slots fall free is told from so many ends. Such a share of their time they may wait for suggestions.
_NUM_ENDS, _IDLE = 16, 0.005


class Pace:
    """How fast slots fall free, told by the last few times that one did."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_NUM_ENDS)

    def ended(self, at: float) -> None:
        """A trial has ended in a slot, at so many seconds."""
        self._ends.append(at)

    def num_ahead(self, took_s: float, num_slots: int) -> int:
        """How many suggestions must lie ready: one, and more where slots would wait for longer than they may.

        Slots fall free independently of each other, as it were: how many others do so while a suggestion is made is a
        matter of Poisson's distribution. One that finds none waits for half of the time that it takes to make, and
        longer where hardly a moment passes without one being made. What is made early knows less: with eight slots,
        eight of them ahead cost TPE half of what it gains.

        Args:
            took_s: How long a suggestion takes to make.
            num_slots: How many trials run at once; never are more ready.
        """
        if len(self._ends) < 2:
            return 1
        between_s = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        if between_s <= took_s:
            return num_slots
        others = took_s / between_s
        number, chance = 1, math.exp(-others)
        find_none = 1 - chance
        while find_none * others / (1 - others) > 2 * _IDLE * num_slots and number < num_slots:
            chance *= others / number
            find_none -= chance
            number += 1
        return number
