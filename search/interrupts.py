"""Ctrl-C and SIGTERM: the first ends a search in good order, the second at once, a third breaks it off."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn


class Signalled(SystemExit):
    """A signal ends the process, which is no fault of the code that it came into; with the shell's exit code for it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def leave(number: int, _: FrameType | None = None) -> NoReturn:
    """End the process as a signal of this number does; a handler."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Signalled(number)


class Interrupts:
    """Turns signals into a request to stop while a search goes on. A context manager; does nothing off the main thread.

    `caught` holds the signals that came while it went on.
    """

    def __init__(self) -> None:
        self.caught: list[int] = []
        self._stop: Any = None
        self._before: dict[int, Any] = {}
        self._unraisable_before = sys.unraisablehook
        # Python writes each signal's number here, whoever's handler it meets.
        self._came, self._tell = os.pipe()
        os.set_blocking(self._came, False)
        os.set_blocking(self._tell, False)

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
            signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
            sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.set_wakeup_fd(-1)
            sys.unraisablehook = self._unraisable_before
        os.close(self._came)
        os.close(self._tell)
        for number, handler in self._before.items():
            if handler is not None:  # None: set from C, and can't be put back
                signal.signal(number, handler)

    def request_with(self, stop: Any) -> None:
        """From now on the first and the second signal call `stop()`; with None, every signal ends the process."""
        self._stop = stop

    def heed(self) -> None:
        """End the process now if a signal came that should have.

        A signal that comes while others' code is imported or called raises an exit, which may be caught there, or lost.
        """
        with suppress(BlockingIOError):
            for number in os.read(self._came, 100):
                if number in self._before:
                    leave(number)

    def _unraisable(self, what: "sys.UnraisableHookArgs") -> None:
        # An exit from within what Python calls by itself, as it imports or frees something: printed, and gone.
        if not isinstance(what.exc_value, SystemExit | KeyboardInterrupt):
            self._unraisable_before(what)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.caught.append(number)
        if self._stop is not None and len(self.caught) <= 2:
            self._stop()
            return
        leave(number)
