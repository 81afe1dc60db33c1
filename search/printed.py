"""What trials have printed, as a run's log tells it."""

from results import Event


class Printed:
    """Takes in a run's events, and gives the lines that each brings.

    Args:
        number: Of the trial that is asked for, whose lines stand alone; None for all, each after its trial's number.
    """

    def __init__(self, number: int | None = None) -> None:
        self._number = number
        self._last: dict[int, str] = {}  # trial -> the last line of it that was given

    def lines(self, event: Event) -> list[str]:
        """What an event adds."""
        number = event.get("number")
        if number is None or self._number not in (None, number):
            return []
        if event["event"] == "printed":
            found = event["text"].splitlines()
        else:
            found = self._new(number, (event.get("log_tail") or "").splitlines())
        if found:
            self._last[number] = found[-1]
        return found if self._number is not None else [f"trial {number}: {line}" for line in found]

    def _new(self, number: int, tail: list[str]) -> list[str]:
        """Of the end of what a trial has printed, the part that came after its last report."""
        last = self._last.get(number)
        return tail[len(tail) - tail[::-1].index(last) :] if last in tail else tail
