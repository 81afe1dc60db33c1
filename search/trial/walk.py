"""Comes by all that data holds."""

from collections.abc import Callable
from typing import Any

from ray import cloudpickle


class Walk(cloudpickle.Pickler):  # type: ignore[misc]
    """Goes through data as if to send it, and writes nothing.

    Args:
        found: Called with the memory of each array.
    """

    def __init__(self, found: Callable[[Any], None]) -> None:
        super().__init__(_Nowhere(), protocol=5, buffer_callback=found)


class _Nowhere:
    def write(self, content: bytes) -> int:
        return len(content)
