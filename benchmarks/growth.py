"""Whether the ten-thousandth trial costs more than the first."""

import gc
import os
import tempfile
from pathlib import Path

from benchmarks import ours, timing
from benchmarks.figures import Benchmark, Figure, Line, Size
from results import Event, Run

_SLOTS = 2
_TRIALS: dict[Size, int] = {"full": 10_000, "fast": 1_000, "tiny": 30}
_PART = 10  # the first tenth of the trials is compared with the last


class _Watch:
    """A view that looks, when so many trials have ended, at the driver's memory and the run's files.

    Args:
        folder: The run directory.
        marks: Numbers of ended trials.
    """

    def __init__(self, folder: Path, marks: tuple[int, ...]) -> None:
        self.memory_bytes: list[int] = []
        self.num_files: list[int] = []
        self._folder = folder
        self._marks = marks
        self._num_ended = 0

    def __call__(self, run: Run, event: Event) -> None:
        """Take in an event."""
        if event["event"] != "trial_ended":
            return
        self._num_ended += 1
        if self._num_ended in self._marks:
            gc.collect()
            self.memory_bytes.append(_resident_bytes())
            self.num_files.append(sum(path.is_file() for path in self._folder.rglob("*")))


def _resident_bytes() -> int:
    """Of this process; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _ours(size: Size, repeat: int) -> list[Figure]:
    num_trials = _TRIALS[size]
    part = num_trials // _PART
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        study = ours.study(Path(folder), "benchmarks.workloads:nothing", num_trials, sampler={"name": "random"})
        watch = _Watch(Path(study.output) / study.name, (part, num_trials))
        run = ours.searched(study, _SLOTS, [watch]).run
    reports = ours.reports(run).sort_values("ended")
    # The tenth of the first part in which processes start is left out.
    first_s = timing.trial_s(reports.head(part), max(part // 10, 1))
    last_s = timing.trial_s(reports.tail(part), 1)
    grown_bytes = watch.memory_bytes[1] - watch.memory_bytes[0]
    return [
        Figure("last_over_first", last_s / first_s, "x"),
        Figure("trial_ms", 1000 * last_s, "ms"),
        Figure("kb_a_trial", grown_bytes / 1000 / (num_trials - part), "kB"),
        Figure("more_files", watch.num_files[1] - watch.num_files[0], ""),
    ]


BENCHMARK = Benchmark(
    about="10,000 trials that do nothing, drawn at random, in two slots (1,000 in a fast run): the last tenth of them "
    "over the first; the driver's resident memory and the run's files after the last over those after the first tenth.",
    variants={"ours": _ours},
    lines=[
        Line("cost of a trial, last tenth over first", "last_over_first", "ours", at_most=1.3),
        Line("cost of a trial in the last tenth", "trial_ms", "ours"),
        Line("driver's memory that a trial takes", "kb_a_trial", "ours", at_most=15),
        Line("files more after the last than after a tenth", "more_files", "ours", at_most=0),
    ],
)
