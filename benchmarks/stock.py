"""The stock programs as the benchmarks run them: each as a user would, in a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

_FOLDER = Path(__file__).parent


def tune(**options: object) -> pd.DataFrame:
    """What the trials of `stock_tune.py` reported, as `benchmarks.timing` takes it."""
    return _reported("stock_tune.py", options)


def optuna(**options: object) -> pd.DataFrame:
    """What the trials of `stock_optuna.py` reported, as `benchmarks.timing` takes it."""
    return _reported("stock_optuna.py", options)


def _word(name: str, value: object) -> str:
    option = f"--{name.replace('_', '-')}"
    return option if value is True else f"{option}={value}"


def _reported(program: str, options: dict[str, object]) -> pd.DataFrame:
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        out = Path(folder) / "reports.csv"
        words = [_word(name, value) for name, value in options.items()]
        command = [sys.executable, str(_FOLDER / program), *words, f"--storage={folder}", f"--out={out}"]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"{program} must exit with 0, got {ended.returncode}: {ended.stderr[-2000:]}")
        return pd.read_csv(out)
