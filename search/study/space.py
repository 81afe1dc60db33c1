"""The space that is searched: named, in a module, or written out; and what a study may ask of it."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from search import references
from search.errors import StudyError
from search.study.section import complaint, plain, unknown
from spaces import DIGITS_PARAMETERS, NAMED, Choice, Float, Int, Space, SpaceError


def _space(value: object) -> Space:
    if isinstance(value, Space):
        return value
    if references.is_reference(value):
        return _space_of_a_module(str(value))
    if isinstance(value, str):
        if value not in NAMED:
            message = unknown("space", value, NAMED) + "; or package.module:name, or a mapping"
            raise PydanticCustomError("space", "{m}", {"m": message})
        return NAMED[value]
    try:
        return Space.from_mapping(value)
    except SpaceError as err:
        raise PydanticCustomError("space", "{m}", {"m": str(err)}) from err


def _space_of_a_module(reference: str) -> Space:
    try:
        found = references.look_up("space", reference)
        return found if isinstance(found, Space) else Space.from_mapping(plain(found))
    except StudyError as err:
        raise PydanticCustomError("together", "{m}", {"m": str(err)}) from err
    except SpaceError as err:
        raise PydanticCustomError("together", "{m}", {"m": f"space {reference!r}: {err}"}) from err


def check_digits_space(space: Space) -> None:
    """A space of the workload's own may have fewer parameters (the rest keep their defaults) and other ranges."""
    known = DIGITS_PARAMETERS.parameters
    for name, parameter in space.parameters.items():
        if name not in known:
            message = unknown("parameter", name, known).replace(";", " of the workload digits;", 1)
            raise complaint(f"space.{name}", f"space: {message}")
        theirs, options = known[name], getattr(parameter, "options", None)
        values = [parameter.low, parameter.high] if isinstance(parameter, Int | Float) else list(options or ())
        if isinstance(theirs, Choice):
            wrong = [value for value in values if not theirs.contains(value)]
            must = f"choose among {', '.join(map(str, theirs.options))}"
        else:
            least, most, whole = theirs.low, theirs.high, isinstance(theirs, Int)
            wrong = [v for v in values if not isinstance(v, int if whole else int | float) or isinstance(v, bool)]
            wrong = wrong or [value for value in values if not least <= value <= most]
            wrong = wrong or ["a range of real numbers"] * (whole and isinstance(parameter, Float))
            must = f"hold {'whole ' if whole else ''}numbers in [{least}, {most}]"
        if wrong:
            raise complaint(f"space.{name}", f"space.{name} must {must}, got {wrong[0]!r}")


# What a net of the workload digits can go on with from a checkpoint that was trained with another value of it.
DIGITS_CAN_CHANGE = (
    "learning_rate_sgd", "learning_rate_adam", "weight_decay", "label_smoothing", "dropout", "rotation_deg", "shift",
    "scale", "elastic",
)  # fmt: skip


def check_change(change: Sequence[str] | None, space: Space, *, is_digits: bool) -> None:
    """Raise unless a study says what may change during training, and it can."""
    key, decide = "early_stop.change", {name for parameter in space.parameters.values() for name in parameter.when}
    can = [name for name in space if name not in decide and (not is_digits or name in DIGITS_CAN_CHANGE)]
    if change is None and not is_digits:
        raise complaint(
            key, f"{key} must name what may change during training, say [learning_rate]; here only you know"
        )
    for name in change or ():
        if name not in can:
            raise complaint(key, f"{key} must be among {', '.join(can) or 'nothing in this space'}, got {name!r}")
    if not can:
        raise complaint(key, f"{key} must name something, and nothing in this space can change during training")


SpaceField = Annotated[
    Space,
    BeforeValidator(_space),
    PlainSerializer(lambda space: space.to_mapping()),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": sorted(NAMED)},
                {"type": "string", "pattern": f"^{references.PATTERN}$", "examples": ["mine:SPACE"]},
                {"type": "object"},
            ]
        }
    ),
]
