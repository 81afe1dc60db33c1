"""A file of tensors."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, as open to others as any file that is made there.

    Args:
        path: Replaced, if it is there.
        tensors: By name; made contiguous.

    Raises:
        OSError, SafetensorError: It can't be written.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(mode)  # safetensors 0.8 makes it for one user alone
