"""The winner of a run as one file for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

from results import Place
from search.environment import installed_version
from search.errors import UsageError
from search.reading import load_model

if TYPE_CHECKING:
    from trainables.export import Exported, Format

_SUFFIXES: dict["Format", str] = {"onnx": ".onnx", "torch": ".pt2"}


def export(run: Place, format_: "Format", out: Path | None = None) -> "Exported":
    """Write the model of a run, or of a model folder, as one file; it is checked, or it is not there.

    Args:
        run: A run directory, or a model folder.
        format_: Of the file.
        out: The file, which must not exist; by default it lies in the current folder and is named like the run.

    Raises:
        ModelError: There is no model.
        ExportError: The file does not compute what the model does.
        UsageError: `out` exists already, or can't be written.
    """
    trained = load_model(run)
    out = out or Path(f"{name_of(run)}{_SUFFIXES[format_]}")
    if out.exists():
        raise UsageError(f"--out: {str(out)!r} is there already; name another file or delete it")
    from trainables import export

    try:
        return export.export(trained, out, format_, installed_version("digitsearch"))
    except OSError as err:
        raise UsageError(f"--out: {str(out)!r} must be a file that can be written, got: {err.strerror or err}") from err


def name_of(run: Place) -> str:
    """The name of a run directory or model folder: `mnist` for runs/mnist, and for runs/mnist/best too."""
    parts = [part for part in str(run.resolve() if isinstance(run, Path) else run).split("/") if part]
    return parts[-2] if parts[-1] == "best" else parts[-1]
