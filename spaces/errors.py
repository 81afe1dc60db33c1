"""What can be wrong with a space, and the words for what is wrong."""

import difflib
from collections.abc import Iterable

_LONGEST = 80


class SpaceError(ValueError):
    """A parameter or a space can't be what it says it is."""


def shown(value: object) -> str:
    """A value as a message shows it; the beginning of one that is longer than a line, like a whole file."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, if any is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
