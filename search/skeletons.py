"""Files to start from: a study, or a workload of one's own with its study and its test."""

import keyword
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from search.errors import UsageError


def write_study(path: Path) -> None:
    """Write a commented study file.

    Raises:
        UsageError: It is there already, or can't be written.
    """
    _write({path: files("search").joinpath("template.yaml").read_text(encoding="utf-8")})


def write_workload(path: Path) -> list[Path]:
    """Write a training function that runs, a study that searches it, and a test.

    Args:
        path: A Python file in the folder where commands are typed; the other two are named after it.

    Returns:
        The three files.

    Raises:
        UsageError: One of them is there already or can't be written, or the name is no module's, or another module's.
    """
    name = path.stem
    if path.suffix != ".py" or len(path.parts) > 1 or not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"a workload must be a Python file in this folder, like mine.py, got {str(path)!r}")
    hidden = name in sys.stdlib_module_names or getattr(find_spec(name), "origin", None)  # a mere folder has none
    if hidden and not path.exists():
        raise UsageError(f"{str(path)!r} would hide the module {name!r}, which is there already; choose another name")
    texts = {}
    for file in ("mine.py", "mine.yaml", "test_mine.py"):
        text = files("search").joinpath("skeleton", file).read_text(encoding="utf-8")
        texts[Path(file.replace("mine", name))] = text.replace("mine", name)
    _write(texts)
    return list(texts)


def _write(texts: dict[Path, str]) -> None:
    """Write all files, or none if one is there already."""
    for path in texts:
        if path.exists() or path.is_symlink():
            raise UsageError(f"{str(path)!r} is there already; name another file")
    for path, text in texts.items():
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as err:
            raise UsageError(f"{str(path)!r} must be a file that can be written, got: {err.strerror}") from err
