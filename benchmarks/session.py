"""A session of measurements: every repeat of every variant, in alternation, each in a process of its own."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.catalogue import BENCHMARKS
from benchmarks.figures import Size
from search import environment

Row = dict[str, Any]

_ROOT = Path(__file__).parents[1]
# The longest, 10,000 trials, takes some minutes; a measurement that hangs must not hold up the rest for ever.
_MOST_S = 1800
_PATIENCE_S = 30


def measured(names: Sequence[str], size: Size, num_repeats: int, say: Callable[[str], None]) -> Iterator[Row]:
    """Measure, and give a row for each figure as it comes.

    Ours and the stock ones alternate within each repeat, so that a machine that is slow for a while is so for all.

    Args:
        names: Of benchmarks.
        size: How much is run.
        num_repeats: How often.
        say: Called with what is going on, a line at a time.
    """
    about = _about(size)
    reasons: dict[str, str] = {}  # where each was seen first
    for repeat in range(num_repeats):
        for name in [name for name in names if BENCHMARKS[name].is_timed or not repeat]:
            for variant in BENCHMARKS[name].variants:
                where = f"repeat {repeat + 1} of {num_repeats}, {name}, {variant}"
                at, began = datetime.now(UTC), time.monotonic()
                try:
                    figures = _figures(name, variant, size, repeat)
                except (subprocess.SubprocessError, ValueError) as err:
                    first = reasons.setdefault(str(err), where)
                    say(f"{where}: not measured{f': {err}' if first == where else f', as {first}'}")
                    continue
                taken_s = time.monotonic() - began
                say(f"{where}: {', '.join(_said(figure) for figure in figures)} (took {taken_s:.0f} s)")
                for figure in figures:
                    yield {"benchmark": name, "variant": variant, "repeat": repeat, **figure, "at": at, **about}


def _about(size: Size) -> Row:
    """What all rows of a session have in common."""
    facts = environment.describe({})
    cores, memory_gib = facts["cpu_cores"], facts["memory_gib"]
    gpus = "".join(f", {gpu}" for gpu in facts["gpus"])
    system = f"{platform.system()} {platform.machine()}"
    return {
        "session": datetime.now(UTC),
        "size": size,
        "commit": facts["git_commit"],
        "machine": f"{facts['processor']}, {cores} cores, {memory_gib} GiB of memory{gpus}, {system}",
        "versions": json.dumps({"python": facts["python"], **facts["packages"]}),
    }


def _figures(name: str, variant: str, size: Size, repeat: int) -> list[Row]:
    # Loopback only, and never a cluster that somebody left running.
    variables = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PYTHONPATH": str(_ROOT)}
    variables.pop("RAY_ADDRESS", None)
    words = ["-m", "benchmarks.measure", name, variant, f"--size={size}", f"--repeat={repeat}"]
    child = subprocess.Popen(
        [sys.executable, *words], cwd=_ROOT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = child.communicate(timeout=_MOST_S)
    except BaseException:
        _end(child)
        raise
    if child.returncode:
        raise ValueError((errors.strip().splitlines() or [f"exit code {child.returncode}"])[-1])
    return json.loads(output.splitlines()[-1])  # type: ignore[no-any-return]


def _end(child: "subprocess.Popen[str]") -> None:
    """End a measurement, so that it can end its cluster."""
    child.terminate()
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _said(figure: Row) -> str:
    return f"{figure['quantity']} {figure['value']:.4g} {figure['unit']}".strip()
