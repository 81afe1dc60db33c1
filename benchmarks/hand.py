"""What a person waits for."""

import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.figures import Benchmark, Figure, Line, Size
from results import read_events

_ROOT = Path(__file__).parents[1]
_TRIALS = 4  # of quickstart: enough of a run to look at


def _typed(*words: str) -> float:
    """Seconds that a command takes."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, "-m", "search", *words], env=environment, capture_output=True, text=True)
    taken_s = time.perf_counter() - started
    if ended.returncode:
        raise RuntimeError(f"digitsearch {' '.join(words)} must exit with 0, got {ended.returncode}: {ended.stderr}")
    return taken_s


def _first_epoch_s(folder: Path) -> float:
    """Seconds from the command to the first report of `quickstart`."""
    from search import load_study  # the time it takes to read a study is in the command's own

    overrides = [f"budget.trials={_TRIALS}", "name=run", f"output={folder}"]
    run_directory = load_study("quickstart", overrides).run_directory
    started = time.time()
    _typed("run", "quickstart", *(word for override in overrides for word in ("--set", override)))
    first = next(event for event in read_events(run_directory) if event["event"] == "epoch_reported")
    return datetime.fromisoformat(first["at"]).timestamp() - started


def _ours(size: Size, repeat: int) -> list[Figure]:
    _typed("--help")  # once before it counts: its files come from the disk the first time
    help_s = _typed("--help")
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        first_epoch_s = _first_epoch_s(Path(folder))
        trials_s = _typed("trials", str(Path(folder) / "run"))
    return [
        Figure("help_s", help_s, "s"),
        Figure("trials_s", trials_s, "s"),
        Figure("first_epoch_s", first_epoch_s, "s"),
    ]


BENCHMARK = Benchmark(
    about="Seconds from a command to its end, or to the first report of `digitsearch run quickstart`, starting Python "
    "and Ray included.",
    variants={"ours": _ours},
    lines=[
        Line("digitsearch --help", "help_s", "ours", at_most=0.5),
        Line("digitsearch trials RUN", "trials_s", "ours", at_most=0.5),
        Line("first epoch of digitsearch run quickstart", "first_epoch_s", "ours", at_most=10),
    ],
)
