"""How fast a served model answers, beside the bare model."""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Benchmark, Figure, Line, Size

if TYPE_CHECKING:
    from trainables.model import Model

_ROOT = Path(__file__).parents[1]
_CLIENTS = 64
_BATCH = 64
# How long each of the three loads lasts.
_SECONDS: dict[Size, float] = {"full": 30.0, "fast": 5.0, "tiny": 0.5}
_WARM_UP_S = 0.5


@dataclass
class Answers:
    """What a load was answered.

    Args:
        seconds: From each request to the end of its answer, of those with status 200.
        problems: What else came back.
        over_s: How long the load lasted.
    """

    seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    over_s: float = 0.0


def load(url: str, body: bytes, content_type: str, *, clients: int, seconds: float) -> Answers:
    """Ask /predict the same from several clients at once, each as soon as it has been answered."""
    return asyncio.run(_load(url, body, content_type, clients, seconds))


async def _load(url: str, body: bytes, content_type: str, clients: int, seconds: float) -> Answers:
    from aiohttp import ClientError, ClientSession, TCPConnector

    answers = Answers()

    async def client(session: ClientSession, until: float) -> None:
        while (asked := time.perf_counter()) < until:
            try:
                async with session.post(f"{url}/predict", data=body, headers={"Content-Type": content_type}) as answer:
                    said = await answer.text()
            except ClientError as err:
                answers.problems.append(repr(err))
                continue
            if answer.status == 200:
                answers.seconds.append(time.perf_counter() - asked)
            else:
                answers.problems.append(f"{answer.status} {said[:200]}")

    began = time.perf_counter()
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session, began + seconds) for _ in range(clients)))
    answers.over_s = time.perf_counter() - began
    return answers


@contextmanager
def server(model: Path) -> Iterator[tuple[str, int]]:
    """`digitsearch serve` for the time of the block: its address and the id of its process."""
    command = [sys.executable, "-m", "search", "serve", str(model), "--port=0"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if said := re.match(r"page: +(http://\S+?)/$", line):
                break
        else:
            raise RuntimeError(f"digitsearch serve must listen, but exited with {process.wait()}")
        try:
            yield said[1], process.pid
        finally:
            process.terminate()


def picture(size: int) -> bytes:
    """A drawn seven, dark on light, as a PNG file of size x size pixels."""
    from PIL import Image, ImageDraw

    drawn = Image.new("L", (size, size), 255)
    points = [(size * x, size * y) for x, y in ((0.3, 0.25), (0.7, 0.25), (0.45, 0.8))]
    ImageDraw.Draw(drawn).line(points, fill=0, width=size // 12, joint="curve")
    content = BytesIO()
    drawn.save(content, "PNG")
    return content.getvalue()


def _images() -> np.ndarray:
    """Images as the data set has them, uint8 (64, 28, 28)."""
    grey = np.zeros((_BATCH, 28, 28), np.uint8)
    grey[:, 4:24, 6:22] = np.random.default_rng(0).integers(0, 256, (_BATCH, 20, 16))
    return grey


def _model() -> "Model":
    """The default network, not trained: what it says does not matter for how long it takes."""
    from trainables import digits, networks
    from trainables.model import Card, make

    names = tuple("0123456789")
    card = Card({}, 28, 28, names, mean=0.13, std=0.31, dataset="mnist", seed=0, epochs=0)
    return make(card, networks.build(digits.DEFAULTS, 28, 28, len(names)).state_dict())


def _ours(size: Size, repeat: int) -> list[Figure]:
    from trainables import model

    body = json.dumps({"images": _images().tolist()}).encode()
    seconds = _SECONDS[size]
    with tempfile.TemporaryDirectory(prefix="digitsearch-benchmark-") as folder:
        model.write(Path(folder) / "model", _model(), {})
        with server(Path(folder) / "model") as (url, _):
            load(url, picture(280), "image/png", clients=8, seconds=_WARM_UP_S)
            alone = load(url, picture(280), "image/png", clients=1, seconds=seconds)
            crowd = load(url, picture(280), "image/png", clients=_CLIENTS, seconds=seconds)
            batches = load(url, body, "application/json", clients=4, seconds=seconds)
    return [
        Figure("alone_p50_ms", 1000 * median(alone.seconds), "ms"),
        Figure("crowd_p99_ms", 1000 * quantiles(crowd.seconds, n=100, method="inclusive")[-1], "ms"),
        Figure("crowd_requests_per_s", len(crowd.seconds) / crowd.over_s, "requests/s"),
        Figure("problems", len(alone.problems) + len(crowd.problems) + len(batches.problems), ""),
        Figure("images_per_s", _BATCH * len(batches.seconds) / batches.over_s, "images/s"),
    ]


def _bare(size: Size, repeat: int) -> list[Figure]:
    bare, images = _model(), _images()
    began, num_batches = 0.0, 0
    for number in range(1_000_000):
        if number == 5:  # the first are slow
            began, num_batches = time.perf_counter(), 0
        bare.probabilities(images)
        num_batches += 1
        if began and time.perf_counter() > began + _SECONDS[size]:
            break
    return [Figure("images_per_s", _BATCH * num_batches / (time.perf_counter() - began), "images/s")]


BENCHMARK = Benchmark(
    about="`digitsearch serve` on loopback with the default network, untrained: pictures of 280 x 280 pixels from one "
    f"client and from {_CLIENTS} at once for 30 s (5 in a fast run), then JSON with {_BATCH} images of 28 x 28 a "
    "request from four; the clients share the cores. Bare: the same network and batches, in a loop in one process.",
    variants={"ours": _ours, "bare": _bare},
    lines=[
        Line("one picture alone, median", "alone_p50_ms", "ours", at_most=10),
        Line(f"{_CLIENTS} clients, 99th percentile", "crowd_p99_ms", "ours", at_most=200),
        Line(f"{_CLIENTS} clients, pictures a second", "crowd_requests_per_s", "ours"),
        Line("requests that failed", "problems", "ours", at_most=0),
        Line("throughput in batches over the bare network's", "images_per_s", "ours", over="bare", at_least=0.25),
    ],
)
