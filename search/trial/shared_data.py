"""What the trials of a study train on: for each of them as it was loaded, whatever another has done to it."""

import sys
import zlib
from typing import Any

import numpy as np
import ray
from ray import ObjectRef

from search.trial.failures import DataWritten
from search.trial.walk import Walk
from trainables import Data

# Of a large array so many pieces are looked at: who scales one in place, or turns its pictures, writes to all of it.
_PIECES = 4096
_PIECE_BYTES = 64


class SharedData:
    """Data in Ray's object store: once a node what lies in arrays, which can't be written to; the rest once a trial.

    Whoever is sent one has it for itself.

    Args:
        reference: Of the data.
    """

    def __init__(self, reference: ObjectRef) -> None:
        self._reference = reference
        self._next: list[Any] = []
        self._buffers: list[memoryview] = []
        self._marks: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedData, (self._reference,)

    def load(self) -> Any:
        """Fetch what the next trial is to have; a second call changes nothing."""
        if not self._next:
            self._next.append(ray.get(self._reference))
            if not self._buffers:
                self._buffers = _shared_buffers(self._next[0])
                self._marks = [_mark(buffer) for buffer in self._buffers]
        return self._next[0]

    def for_trial(self) -> Any:
        """The data for one trial, which may write to what is no array of NumPy's."""
        data = self.load()
        if not isinstance(data, Data):  # ours has arrays alone, and what is made of it is found again by its identity
            self._next.clear()
        return data

    def check(self) -> None:
        """Raise DataWritten if what is shared is no longer as it was when it was loaded here."""
        if [_mark(buffer) for buffer in self._buffers] != self._marks:
            raise DataWritten


def _shared_buffers(data: Any) -> list[memoryview]:
    """The memory of those of its arrays that can't be written to, which is that of the object store."""
    found: list[Any] = []
    try:
        _Searching(found.append).dump(data)
    except Exception:  # it has been sent once; what has been received need not let itself be sent on
        return []
    views = (buffer.raw() for buffer in found)
    return [view for view in views if view.readonly and view.nbytes]


class _Searching(Walk):
    def reducer_override(self, obj: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch and isinstance(obj, torch.Tensor):  # its process has it for itself, and would copy it now
            return bool, ()
        return super().reducer_override(obj)


def _mark(buffer: memoryview) -> int:
    """A checksum of the memory, or of pieces of it, which takes a millisecond whatever its size."""
    content = np.frombuffer(buffer, np.uint8)
    step = len(content) // _PIECES
    if step > _PIECE_BYTES:
        content = np.lib.stride_tricks.as_strided(content, (_PIECES, _PIECE_BYTES), (step, 1), writeable=False)
    return zlib.crc32(content.tobytes())
