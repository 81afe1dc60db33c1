"""The file of all measurements that were ever made here: a row a figure."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

RESULTS = Path(__file__).parent / "results" / "results.parquet"


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows, and make the file if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = pd.DataFrame(list(rows))
    whole = pd.concat([pd.read_parquet(path), new], ignore_index=True) if path.exists() else new
    unfinished = path.with_suffix(".parquet.tmp")
    whole.to_parquet(unfinished, index=False)
    os.replace(unfinished, path)


def latest(path: Path) -> pd.DataFrame:
    """The rows of each benchmark's latest session.

    Raises:
        FileNotFoundError: Nothing has been measured yet.
    """
    rows = pd.read_parquet(path)
    return rows[rows["session"] == rows.groupby("benchmark")["session"].transform("max")]
