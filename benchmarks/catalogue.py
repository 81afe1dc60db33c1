"""All benchmarks by name, in the order in which they are run."""

from benchmarks import (
    accuracy,
    gpu,
    growth,
    hand,
    loop,
    objectives,
    quality,
    reports,
    serving,
    slots,
    suggestions,
    trials,
    two,
)
from benchmarks.figures import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    "trials": trials.BENCHMARK,
    "slots": slots.BENCHMARK,
    "reports": reports.BENCHMARK,
    "loop": loop.BENCHMARK,
    "accuracy": accuracy.BENCHMARK,
    "two": two.BENCHMARK,
    "gpu": gpu.BENCHMARK,
    "growth": growth.BENCHMARK,
    "suggestions": suggestions.BENCHMARK,
    "hand": hand.BENCHMARK,
    "serving": serving.BENCHMARK,
    "objectives": objectives.BENCHMARK,
    "quality": quality.BENCHMARK,
}
