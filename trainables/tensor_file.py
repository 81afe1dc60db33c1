"""A file of tensors."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, as open to others as any file that is made there.

    Args:
        path: Replaced, if it is there.
        tensors: By name; made contiguous.

    Raises:
        OSError: It can't be written.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as err:
        number = re.search(r"\(os error (\d+)\)", str(err))  # 0.8 says it in words alone
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from err
    path.chmod(mode)  # 0.8 makes it for one user alone
