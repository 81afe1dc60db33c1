"""Tells what a study's own code has loaded from what it loaded before."""

import hashlib
import sys
from typing import Any

import numpy as np

from search.trial.walk import Walk
from trainables import Data


def fingerprint(data: Any) -> str | None:
    """A SHA-256 of the arrays, tables and tensors that data holds; of `Data` that of its images; None without any.

    What is no array is left out: a set, say, has another order in each process. It takes 0.7 s per GB.
    """
    if isinstance(data, Data):
        return data.sha256
    walk = _Reading()
    try:
        walk.dump(data)
    except Exception:  # how others' code sends itself may fail; whether it can be sent is told elsewhere
        return None
    return walk.digest.hexdigest() if walk.has_any else None


class _Reading(Walk):
    def __init__(self) -> None:
        super().__init__(lambda buffer: self._take(buffer.raw()))
        self.digest, self.has_any = hashlib.sha256(), False

    def reducer_override(self, obj: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch and isinstance(obj, torch.Tensor) and obj.layout == torch.strided:
            what, content = obj.dtype, obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        elif isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            what, content = obj.dtype, np.ascontiguousarray(obj).reshape(-1).view(np.uint8)
        else:
            return super().reducer_override(obj)
        self.digest.update(f"{what} {tuple(obj.shape)} ".encode())
        self._take(content)
        return bool, ()

    def _take(self, content: Any) -> None:
        self.has_any = True
        self.digest.update(content)
