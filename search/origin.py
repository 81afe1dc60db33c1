"""What an exception says to people, and where in a user's own code it came from."""

import site
import sysconfig
import traceback
from pathlib import Path

_PACKAGES = Path(__file__).parents[1]
_NOT_THEIRS = (
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    Path(site.getusersitepackages()),
    *(_PACKAGES / name for name in ("search", "spaces", "trainables", "cluster", "results")),
)


def origin(err: BaseException) -> str | None:
    """File and line of the innermost call that is neither ours nor a library's, like `mine.py, line 7`; None if none.

    An array of a wrong shape is complained of deep in NumPy; what has to be changed is the line that handed it over.
    """
    frames = traceback.extract_tb(err.__traceback__)
    theirs = [frame for frame in frames if is_theirs(frame.filename)]
    return f"{Path(theirs[-1].filename).name}, line {theirs[-1].lineno}" if theirs else None


def is_theirs(file: str) -> bool:
    """Whether a file of Python is a user's own, and neither ours nor a library's."""
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in _NOT_THEIRS)


def described(err: BaseException) -> str:
    """Its type, what it says, and where in a user's own code it came from, if anywhere."""
    where = origin(err)
    return f"{type(err).__name__}: {said(err)}" + (f" ({where})" if where else "")


def said(err: BaseException) -> str:
    """What it says, whatever it is."""
    try:
        return str(err).encode("utf-8", "replace").decode()  # half a character has no place in a table
    except Exception:
        return "(it can't say what)"
