"""How well, and how fast, `digitsearch train` learns MNIST."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import mnist
from benchmarks.figures import Benchmark, Figure, Line, Size

_ROOT = Path(__file__).parents[1]


def trained(seed: int, **variables: str) -> dict[str, Any]:
    """What metrics.json says after one epoch of `digitsearch train` on MNIST: on a GPU where it sees one.

    Args:
        seed: Of the training.
        variables: Of its environment, besides those of this process.
    """
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        out = Path(folder) / "model"
        options = [f"--dir={mnist.folder()}", "--epochs=1", f"--seed={seed}", f"--out={out}"]
        command = [sys.executable, "-m", "search", "train", "--data=mnist", "--threads=1", *options]
        ended = subprocess.run(command, cwd=_ROOT, env={**os.environ, **variables}, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(f"digitsearch train must exit with 0, got {ended.returncode}: {ended.stderr[-2000:]}")
        return json.loads((out / "metrics.json").read_text())  # type: ignore[no-any-return]


def _ours(size: Size, repeat: int) -> list[Figure]:
    metrics = trained(repeat, CUDA_VISIBLE_DEVICES="")
    return [
        Figure("test_accuracy", metrics["test_accuracy"], ""),
        Figure("core_s", metrics["train_s"] * metrics["num_threads"], "s"),
    ]


BENCHMARK = Benchmark(
    about="`digitsearch train --data mnist` for one epoch on one core, each repeat with a seed of its own: accuracy on "
    "the 10,000 test images, and seconds of training times cores.",
    variants={"ours": _ours},
    lines=[
        Line("test accuracy", "test_accuracy", "ours", at_least=0.99),
        Line("core-seconds of training", "core_s", "ours", at_most=8),
    ],
)
