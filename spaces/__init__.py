"""What may vary: typed parameters, the conditions between them, and the built-in spaces."""

from spaces.digits import DIGITS, DIGITS_PARAMETERS
from spaces.errors import SpaceError
from spaces.parameters import Choice, Float, Int, Parameter, Value
from spaces.space import Space

NAMED = {"digits": DIGITS}

__all__ = [
    "DIGITS",
    "DIGITS_PARAMETERS",
    "NAMED",
    "Choice",
    "Float",
    "Int",
    "Parameter",
    "Space",
    "SpaceError",
    "Value",
]
