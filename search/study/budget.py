"""How long a search and its trials may take."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from search.study.section import Section

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)\s*([smhd])"
_PATTERN = rf"(?:{_PART}\s*)+"


def _seconds(value: object) -> float:
    parts = re.findall(_PART, value) if isinstance(value, str) and re.fullmatch(_PATTERN, value) else []
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if seconds < 0.001 or seconds > 1e9:
        raise PydanticCustomError("duration", "must be a duration like 90s, 30m or 1h30m")
    return seconds


def duration_text(seconds: float) -> str:
    """Seconds as a study file writes them, in the largest unit that leaves a whole number: 90s, 30m, 2h."""
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS_S[unit] and seconds % _UNITS_S[unit] == 0:
            return f"{seconds / _UNITS_S[unit]:.0f}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(duration_text),
    WithJsonSchema({"type": "string", "pattern": f"^{_PATTERN}$", "examples": ["90s", "30m", "1h30m"]}),
]


class Plateau(Section):
    """When more of the same is no use."""

    trials: int = Field(20, ge=1, description="Give up after so many ended trials without progress.")
    min_delta: float = Field(0.0, ge=0, description="What counts as progress.")


class Budget(Section):
    """When the search ends."""

    trials: int = Field(20, ge=1, description="How many configurations are tried.")
    wall: Duration | None = Field(None, description="How long the search may take, over all its sessions.")
    trial_wall: Duration | None = Field(None, description="How long one trial may take; then its process is ended.")
    plateau: Plateau | None = Field(None, description="End when the best has not moved for a while.")
