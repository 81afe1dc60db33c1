"""What all sections of a study file are, and how each complains of its values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from spaces.errors import did_you_mean

# Beyond it a float has not all whole numbers.
_LARGEST = 2**53


class Section(BaseModel):
    """A mapping of a study file: a frozen value that takes no key and no value but those it knows."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_whole(cls, value: Any, of: ValidationInfo) -> Any:
        """1e3 is 1000 where a whole number is asked for: YAML has no other way to write it so."""
        wanted = cls.model_fields[of.field_name or ""].annotation
        kinds = {wanted, *get_args(wanted)}
        is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST
        return int(value) if is_whole and int in kinds and float not in kinds else value


def complaint(key: str, message: str) -> PydanticCustomError:
    """A complaint about one key, found where several had to be looked at together."""
    return PydanticCustomError("together", "{m}", {"m": message, "key": key})


def or_auto(least: int) -> BeforeValidator:
    """The check of a number that may be left to us; one complaint, where a union has one for each of its members."""

    def checked(value: object) -> object:
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            return value
        raise PydanticCustomError("auto", f"must be a whole number of at least {least}, or auto")

    return BeforeValidator(checked)


def unknown(what: str, got: str, known: Sequence[str] | Mapping[str, object], elsewhere: str = "") -> str:
    """The complaint about a name that is none of those, with the one that was meant, maybe, or one elsewhere."""
    meant = did_you_mean(got, known) or (f" (did you mean {elsewhere!r}?)" if elsewhere else "")
    return f"unknown {what} {got!r}; known: {', '.join(known)}{meant}"


def plain(value: Any) -> Any:
    """What a program writes where a study file has plain values: the same as these. All else is as it was."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def name_of(value: Any) -> str | None:
    """Which of several kinds of section it is."""
    return value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
