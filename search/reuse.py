"""Whether a process can train one trial after another, which a study's own code decides."""

import warnings
from collections.abc import Mapping
from typing import Any

from results.errors import RunWarning

# One that succeeds in a new process may have done so by chance: a download, a GPU that others use too.
_NUM_CHANCE = 1


class Reuse:
    """Learns from failures whether a process that has trained a trial can train the next.

    A slot brings its process back to what it was, and some code works once in a process nevertheless: libraries that
    are configured before their first use and then refuse to be, memory that is never given back. So a failure in a
    process that has trained before is not believed. The trial is tried again in a new one: if it fails there too, at
    the same place of the code, others that do are believed at once; if not, and not for the first time, no process
    trains a second trial any more.
    """

    def __init__(self) -> None:
        self._never = False
        self._doubted: dict[int, str] = {}  # trial -> where it failed
        self._believed: set[str] = set()
        self._num_blamed = 0

    def wants_new_process(self, number: int) -> bool:
        """Whether a process that has trained before may not train this trial."""
        return self._never or number in self._doubted

    def doubts(self, number: int, failure: Mapping[str, Any]) -> bool:
        """Whether a trial that has failed should be tried again in a new process.

        Args:
            number: The trial's.
            failure: As `Session.next` gave it: of an exception, `where` it was raised and whether its process is
                `reused`.
        """
        where = failure.get("where")
        if where is None:
            return False
        if not failure["reused"]:
            self._believed.add(where)
            self._doubted.pop(number, None)
        elif where not in self._believed:
            self._doubted[number] = where
            return True
        return False

    def succeeded(self, number: int) -> None:
        """A trial has ended without a failure."""
        where = self._doubted.pop(number, None)
        if where is None or self._never:
            return
        self._num_blamed += 1
        self._never = self._num_blamed > _NUM_CHANCE
        if self._never:
            warnings.warn(
                f"trial {number} failed in a process that had trained before, and did not in a new one, and is not the "
                f"first that did so: {where}; each trial gets a new process from now on, which takes seconds; have the "
                "function do nothing that works only once in a process",
                category=RunWarning,
                stacklevel=2,
            )
