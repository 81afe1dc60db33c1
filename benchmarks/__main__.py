"""Measure speed side by side with the stock libraries, and print the ratios.

python -m benchmarks                     all of it, five repeats
python -m benchmarks --size fast         a few minutes, one repeat
python -m benchmarks --only trials       one benchmark; repeatable
python -m benchmarks --report            write docs/explanation/benchmarks.md from what was measured
"""

import argparse
import signal
from contextlib import suppress
from pathlib import Path

import pandas as pd

from benchmarks import report, results_file
from benchmarks.catalogue import BENCHMARKS
from benchmarks.figures import SIZES
from benchmarks.session import Row, measured

_PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "benchmarks.md"
# What fits into about two minutes.
_FAST = ("trials", "reports", "loop", "accuracy", "hand")
_REPEATS = {"full": 5, "fast": 1, "tiny": 1}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="a benchmark; repeatable")
    parser.add_argument("--size", choices=SIZES, default="full", help="how much is run")
    parser.add_argument("--repeats", type=int, help="how often  [default: 5, or 1 if not full]")
    parser.add_argument("--results", type=Path, default=results_file.RESULTS, help="the file that rows are added to")
    parser.add_argument("--report", action="store_true", help="measure nothing; write the page from the results")
    parser.add_argument("--page", type=Path, default=_PAGE, help="with --report: the page")
    return parser.parse_args()


def _measure(typed: argparse.Namespace) -> int:
    num_repeats = typed.repeats or _REPEATS[typed.size]
    names = typed.only or list(_FAST if typed.size == "fast" else BENCHMARKS)
    if typed.size != "full":
        left_out = ", ".join(name for name in BENCHMARKS if name not in names) or "nothing"
        _say(f"a {typed.size} run, for a first look: smaller sizes, n = {num_repeats}, left out: {left_out}")
    rows: list[Row] = []
    exit_code = 130
    with suppress(KeyboardInterrupt):  # what has been measured until then stays measured
        for row in measured(names, typed.size, num_repeats, _say):
            rows.append(row)
        exit_code = 0 if rows else 1
    if rows:
        results_file.append(typed.results, rows)
        table = report.aligned(report.lines(pd.DataFrame(rows), names))
        print(f"\nmedian and spread (smallest to largest) of n repeats:\n\n{table}")
        print(f"\nrows: {typed.results}; `python -m benchmarks --report` writes {typed.page}")
    return exit_code


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Do what was typed.

    Returns:
        0, 1 if nothing could be measured, 130 if it was interrupted.
    """
    typed = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is running is ended in good order
    if not typed.report:
        return _measure(typed)
    typed.page.write_text(report.page(results_file.latest(typed.results)), encoding="utf-8")
    print(f"wrote {typed.page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
