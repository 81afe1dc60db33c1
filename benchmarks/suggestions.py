"""How long a free slot waits when the sampler has much to look back on."""

import os
import tempfile
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

from benchmarks import ours, workloads
from benchmarks.figures import Benchmark, Figure, Line, Size
from results import Event, read_events
from search import resume

_SLOTS = 2
# Trials that do nothing, then trials that sleep; the waits before the first few of the latter are left out.
_TRIALS: dict[Size, tuple[int, int]] = {"full": (2000, 100), "fast": (300, 30), "tiny": (6, 10)}
_NUM_WARM_UP = 5
_SLEEP_S = "0.3"
_SPACE = {f"x{number}": {"float": [0.0, 1.0]} for number in range(8)}


def _ours(size: Size, repeat: int) -> list[Figure]:
    num_before, num_asleep = _TRIALS[size]
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        study = ours.study(Path(folder), "benchmarks.workloads:sleeps_if_told", num_before, space=_SPACE)
        ours.searched(study, _SLOTS)
        os.environ[workloads.SLEEP_VARIABLE] = _SLEEP_S  # seen by the processes of the second cluster
        with ours.cluster(_SLOTS):
            resume(study.run_directory, f"budget.trials={num_before + num_asleep}", views=())
        events = list(read_events(study.run_directory))
    waits_ms = [1000 * wait_s for wait_s in waits(events, num_before)][_NUM_WARM_UP:]
    return [
        Figure("wait_median_ms", median(waits_ms), "ms"),
        Figure("wait_p95_ms", quantiles(waits_ms, n=20, method="inclusive")[-1], "ms"),
    ]


def waits(events: Iterable[Event], first: int) -> list[float]:
    """Seconds from each end of a trial to the start of the trial that takes its slot.

    Args:
        events: Of a run.
        first: Trials of lower numbers are left out.
    """
    free: deque[datetime] = deque()
    found = []
    for event in events:
        if event.get("number", -1) < first:
            continue
        at = datetime.fromisoformat(event["at"])
        if event["event"] in ("trial_ended", "attempt_failed"):
            free.append(at)
        elif event["event"] == "trial_started" and free:
            found.append((at - free.popleft()).total_seconds())
    return found


BENCHMARK = Benchmark(
    about="TPE over eight parameters with 2,000 trials behind it (300 in a fast run), two slots, trials that sleep for "
    f"{_SLEEP_S} s: from the end of a trial to the start of the next in its slot.",
    variants={"ours": _ours},
    lines=[
        Line("a free slot's wait, median", "wait_median_ms", "ours", at_most=20),
        Line("a free slot's wait, 95th percentile", "wait_p95_ms", "ours", at_most=20),
    ],
)
