"""Ctrl-C and SIGTERM: the first ends a search in good order, the second at once, a third breaks it off."""

import signal
import sys
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Turns signals into a request to stop while a search goes on. A context manager; does nothing off the main thread.

    `caught` holds the signals that came while it went on.
    """

    def __init__(self) -> None:
        self.caught: list[int] = []
        self._stop: Any = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: set from C, and can't be put back
                signal.signal(number, handler)

    def request_with(self, stop: Any) -> None:
        """From now on the first and the second signal call `stop()`; with None, every signal ends the process."""
        self._stop = stop

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.caught.append(number)
        if self._stop is not None and len(self.caught) <= 2:
            self._stop()
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)
