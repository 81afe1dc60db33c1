"""A served model: what it answers, what it refuses, how it begins and ends, and that a crowd costs it nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from asyncio import QueueFull, gather, run, sleep
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from PIL import Image
from served import trained

from benchmarks import serving
from search.serve.batches import Batches
from trainables import model
from trainables.images import to_input

ROOT = Path(__file__).parents[1]
Say = Callable[..., tuple[int, str, str]]
PICTURE = serving.picture(280)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the bundled digits."""
    return trained(tmp_path_factory.mktemp("models") / "small", ["model=cnn"], max_epochs=3)


@pytest.fixture(scope="module")
def started(folder: Path) -> Iterator[tuple[str, int]]:
    """A server of it: its address and the id of its process."""
    with serving.server(folder) as found:
        yield found


@pytest.fixture(scope="module")
def url(started: tuple[str, int]) -> str:
    return started[0]


def png(grey: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(grey).save(content, "PNG")
    return content.getvalue()


def post(url: str, body: Any = None, kind: str = "image/png", **more: Any) -> requests.Response:
    return requests.post(f"{url}/predict", data=body, headers={"Content-Type": kind, **more}, timeout=60)


# What it answers


def test_a_picture_is_read_as_the_model_reads_it(url: str, folder: Path) -> None:
    answer = requests.post(f"{url}/predict?seen=true", data=PICTURE, headers={"Content-Type": "image/png"}, timeout=60)
    (prediction,) = answer.json()["predictions"]
    seen = to_input(np.array(Image.open(BytesIO(PICTURE))), 8, 8)
    expected = model.load(folder).probabilities(seen[np.newaxis])[0]
    assert prediction["seen"] == seen.tolist() and prediction["name"] is None
    assert list(prediction["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert prediction["digit"] == str(expected.argmax())
    assert prediction["probability"] == pytest.approx(float(expected.max()), abs=1e-5)


def test_many_images_are_answered_in_their_order(url: str, folder: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 8, 8)).astype(np.uint8)
    as_seen = np.stack([to_input(image, 8, 8) for image in images])
    expected = [str(best) for best in model.load(folder).probabilities(as_seen).argmax(axis=1)]
    assert len(set(expected)) > 1
    said = post(url, json.dumps({"images": images.tolist()}), "application/json").json()["predictions"]
    assert [prediction["digit"] for prediction in said] == expected
    files = [("images", (f"{number}.png", png(image), "image/png")) for number, image in enumerate(images)]
    form = requests.post(f"{url}/predict", files=files, timeout=60).json()["predictions"]
    assert [(one["name"], one["digit"]) for one in form] == [(f"{n}.png", digit) for n, digit in enumerate(expected)]
    one = post(url, json.dumps({"images": images[0].tolist()}), "application/json").json()["predictions"]
    assert [one["digit"] for one in one] == expected[:1]


def test_it_says_what_it_is_and_counts(url: str) -> None:
    facts = requests.get(f"{url}/healthz", timeout=60).json()
    assert (facts["status"], facts["dataset"], facts["height"]) == ("ok", "optdigits", 8)

    def count(line: str) -> float:
        lines = requests.get(f"{url}/metrics", timeout=60).text.splitlines()
        return sum(float(one.rpartition(" ")[2]) for one in lines if one.startswith(line))

    answered, refused = (f'digitsearch_requests_total{{path="/predict",status="{code}"}}' for code in (200, 400))
    before = count("digitsearch_images_total"), count(answered), count(refused)
    post(url, json.dumps({"images": [[[0, 255], [255, 255]]] * 3}), "application/json")
    post(url, b"")
    after = count("digitsearch_images_total"), count(answered), count(refused)
    assert after == (before[0] + 3, before[1] + 1, before[2] + 1)
    schema = requests.get(f"{url}/openapi.json", timeout=60).json()
    assert set(schema["paths"]) == {"/predict", "/healthz", "/metrics"}


# What it refuses


def bomb(side: int) -> bytes:
    """A PNG file of side x side pixels in black and white: kilobytes that unpack to megabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    header = side.to_bytes(4) + side.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(bytes(1 + (side + 7) // 8) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def images_of(*images: Any) -> str:
    return json.dumps({"images": images})


THOUSAND = images_of(*[[[0, 255], [255, 0]]] * 1000)
BAD: dict[str, tuple[Any, str, int, str]] = {
    "a decompression bomb": (bomb(30_000), "image/png", 422, "must have at most 13 megapixels"),
    "fifty megapixels": (bomb(7_072), "image/png", 422, "must have at most 13 megapixels"),
    "a text file": (b"seven\n", "image/png", 422, "must be a picture"),
    "a text file, said to be one": (b"seven\n", "text/plain", 415, "Content-Type must be"),
    "an empty body": (b"", "image/png", 400, "got an empty one"),
    "a thousand images": (THOUSAND, "application/json", 413, "at most 64 images, got 1000"),
    "nine megabytes": (bytes(9 << 20), "image/png", 413, "at most 8 MiB"),
    "half a picture": (PICTURE[: len(PICTURE) // 2], "image/png", 422, "must be a whole picture"),
    "a blank picture": (png(np.full((50, 50), 255, np.uint8)), "image/png", 422, "got a blank picture"),
    "no JSON": (b"{", "application/json", 400, "JSON must be well-formed"),
    "JSON of something else": ('{"image": 7}', "application/json", 422, 'JSON must be {"images"'),
    "no images": (images_of(), "application/json", 422, 'JSON must be {"images"'),
    "words for levels": (images_of([["a", "b"]]), "application/json", 422, "whole numbers from 0 to 255"),
    "levels too high": (images_of([[0, 256], [0, 0]]), "application/json", 422, "whole numbers from 0 to 255"),
    "levels between": (images_of([[0, 0.5], [0, 0]]), "application/json", 422, "whole numbers from 0 to 255"),
    "rows of two lengths": (images_of([[0, 1], [2]]), "application/json", 422, "rows of one length"),
    "a form without a boundary": (b"x", "multipart/form-data", 400, "must name its boundary"),
    "a damaged form": (b"x", "multipart/form-data; boundary=y", 400, "a form must"),
    "JSON a thousand deep": ('{"images": ' + "[" * 1000 + "]" * 1000 + "}", "application/json", 400, "recursion limit"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_gets_a_sentence(what: str, url: str) -> None:
    body, kind, status, said = BAD[what]
    answer = post(url, body, kind)
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text[:500]
    sentence = answer.json()["error"]
    assert said in sentence and "\n" not in sentence and "Error" not in sentence


def test_a_form_is_refused_like_the_rest(url: str) -> None:
    many = [("images", (f"{number}.png", PICTURE)) for number in range(65)]
    answer = requests.post(f"{url}/predict", files=many, timeout=60)
    assert answer.status_code == 413 and "at most 64 pictures" in answer.json()["error"]
    field = requests.post(f"{url}/predict", data={"images": "seven"}, files={"other": PICTURE}, timeout=60)
    assert field.status_code == 400 and "files only, got the field 'images'" in field.json()["error"]


def test_other_addresses_and_methods_get_a_sentence_too(url: str) -> None:
    assert "must be one of /, /predict" in requests.get(f"{url}/elsewhere", timeout=60).json()["error"]
    refused = requests.get(f"{url}/predict", timeout=60)
    assert refused.status_code == 405 and refused.json()["error"] == "/predict must be asked for with POST, got GET"
    packed = post(url, PICTURE, **{"Content-Encoding": "gzip"})
    assert packed.status_code == 415 and "Content-Encoding must be left out" in packed.json()["error"]


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.example:8000", ""])
def test_on_loopback_it_answers_to_its_names_alone(host: str, url: str) -> None:
    answer = requests.get(f"{url}/healthz", headers={"Host": host}, timeout=60)
    assert answer.status_code in (400, 421), answer.text
    named = {"Host": f"localhost:{url.rpartition(':')[2]}"}
    assert requests.get(f"{url}/healthz", headers=named, timeout=60).ok


# A crowd


def crowd(url: str, process: psutil.Process, seconds: float) -> tuple[serving.Answers, int]:
    """A load of 64 clients, and how many bytes the process holds after it."""
    answers = serving.load(url, PICTURE, "image/png", clients=64, seconds=seconds)
    return answers, process.memory_info().rss


def refuse_all(url: str) -> None:
    for body, kind, _, _ in BAD.values():
        post(url, body, kind)


@pytest.mark.parametrize("seconds", [1.5, pytest.param(30, marks=pytest.mark.chaos)])
def test_a_crowd_is_answered_and_leaves_nothing_behind(seconds: float, started: tuple[str, int]) -> None:
    url, process = started[0], psutil.Process(started[1])
    refuse_all(url)
    crowd(url, process, seconds)
    refuse_all(url)
    answers, before = crowd(url, process, seconds)
    assert len(answers.seconds) > 64 and not answers.problems
    refuse_all(url)
    answers, after = crowd(url, process, seconds)
    assert not answers.problems
    assert after < before + (16 << 20), f"{before >> 20} MiB before, {after >> 20} after"


def test_more_than_can_wait_is_told_to_come_again() -> None:
    def slowly(images: np.ndarray) -> np.ndarray:
        time.sleep(0.2)
        return images.reshape(len(images), -1)[:, :1].astype(np.float32)

    sizes: list[int] = []

    async def ask() -> None:
        batches = Batches(slowly, sizes.append)
        thousand = np.arange(1000, dtype=np.uint8).repeat(4).reshape(1000, 2, 2)
        asked = [gather(batches.probabilities(thousand), return_exceptions=True) for _ in range(10)]
        await sleep(0)
        answers = [(await one)[0] for one in asked]
        assert [isinstance(answer, QueueFull) for answer in answers] == [False] * 8 + [True] * 2
        assert all((answer[:, 0] == thousand[:, 0, 0]).all() for answer in answers[:8])
        # What came while it was busy is one batch.
        few = [batches.probabilities(thousand[n : n + 1]) for n in range(20)]
        assert [float(found[0, 0]) for found in await gather(*few)] == list(range(20))

    run(ask())
    assert sizes == [1000] * 8 + [20]


# How it begins and ends


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, ()),
        (signal.SIGTERM, 143, ()),
        pytest.param(signal.SIGINT, 130, ("--ray", "--replicas=2"), marks=pytest.mark.ray),
    ],
)
def test_it_ends_with_a_signal(number: int, code: int, words: tuple[str, ...], folder: Path) -> None:
    command = [sys.executable, "-m", "search", "serve", str(folder), "--port=0", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-1) as process,
        ExitStack() as at_end,
    ):
        at_end.callback(process.kill)  # one that did not end would be waited for without end
        assert process.stdout is not None and process.stderr is not None
        said = {}
        for line in process.stdout:
            name, _, what = line.strip().partition(":")
            said[name] = what.strip()
            if line.startswith("Ctrl-C"):
                break
        answers = [post(said["page"].rstrip("/"), PICTURE).json() for _ in range(4)]
        bad = post(said["page"].rstrip("/"), b"seven")
        process.send_signal(number)
        assert process.wait(60) == code and process.stderr.read() == ""
    assert said["API"] == f"{said['page']}docs" and said["model"].startswith(f"{folder}, validation accuracy 0.")
    assert all(answer == answers[0] and len(answer["predictions"]) == 1 for answer in answers)
    assert bad.status_code == 422 and "must be a picture" in bad.json()["error"]


def test_what_is_typed_wrong_is_one_message(say: Say, url: str, folder: Path, tmp_path: Path) -> None:
    code, _, err = say("serve", "nothing")
    assert code == 2 and err.startswith("error: 'nothing' must be a model folder")
    code, _, err = say("serve", str(folder), f"--port={url.rpartition(':')[2]}")
    assert code == 2 and "--port: must be one that is free" in err
    code, _, err = say("serve", str(folder), "--host=1.2.3.4")
    assert code == 2 and "must be an address of this machine" in err
    code, _, err = say("serve", str(folder), "--replicas=2")
    assert code == 2 and err.startswith("error: --address and --replicas are for --ray")
    shutil.copytree(folder, tmp_path / "mine")
    (tmp_path / "mine" / "metrics.json").write_text("[")
    code, _, err = say("serve", "mine")
    assert code == 2 and "metrics.json' is damaged" in err
    (tmp_path / "mine" / "config.json").write_text('{"workload": "mine:train"}')
    code, _, err = say("serve", "mine")
    assert code == 2 and "must hold a model of the workload digits" in err
