"""Which precision a training computes in, and how the machine's answer is remembered."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables import precision
from trainables.precision import Verdict, choose_bits


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where verdicts are remembered; nothing is remembered yet, neither there nor in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    precision._remembered.cache_clear()
    return tmp_path / "digitsearch"


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The families that are probed, instead of probing them: all are found faster in bfloat16."""
    asked: list[str] = []

    def probe(family: str, device: str) -> Verdict:
        asked.append(family)
        return Verdict(16, 100.0, 200.0, 1.0, 1.0)

    monkeypatch.setattr(precision, "probe", probe)
    return asked


def forget() -> None:
    """Be another process."""
    precision._remembered.cache_clear()


@pytest.mark.parametrize(("name", "bits"), [("bf16", 16), ("fp32", 32)])
def test_who_names_a_precision_gets_it(name: str, bits: int, folder: Path, probes: list[str]) -> None:
    assert choose_bits(name, "cnn", "cpu", 1) == bits
    assert not probes and not folder.exists()


@pytest.mark.parametrize(
    ("bf16_speed", "bf16_fall", "bits"),
    [(200.0, 1.0, 16), (110.0, 1.0, 32), (200.0, 0.5, 32), (200.0, float("nan"), 32), (120.0, 0.9, 16)],
)
def test_bf16_must_be_clearly_faster_and_learn_as_well(bf16_speed: float, bf16_fall: float, bits: int) -> None:
    assert Verdict.of({32: 100.0, 16: bf16_speed}, {32: 1.0, 16: bf16_fall}).bits == bits


def test_each_family_is_probed_once_a_machine(folder: Path, probes: list[str]) -> None:
    for family in ("cnn", "mlp", "cnn"):
        assert choose_bits("auto", family, "cpu", 1) == 16
        forget()
    assert probes == ["cnn", "mlp"]
    assert len(json.loads((folder / "precision.json").read_text())) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["precision.json", "precision.lock"]


def test_what_was_found_is_believed(folder: Path, probes: list[str]) -> None:
    choose_bits("auto", "cnn", "cpu", 1)
    path = folder / "precision.json"
    path.write_text(path.read_text().replace('"bits": 16', '"bits": 32'))
    forget()
    assert choose_bits("auto", "cnn", "cpu", 1) == 32
    assert choose_bits("auto", "cnn", "cpu", 2) == 16, "with more threads another answer may hold"


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', '{"a": {"bits": 8}}', "\0"])
def test_a_damaged_memory_is_written_anew(content: str, folder: Path, probes: list[str]) -> None:
    folder.mkdir()
    (folder / "precision.json").write_text(content)
    assert choose_bits("auto", "cnn", "cpu", 1) == 16
    forget()
    assert choose_bits("auto", "cnn", "cpu", 1) == 16
    assert probes == ["cnn"]


def test_without_a_place_to_remember_the_process_does(folder: Path, probes: list[str]) -> None:
    folder.write_text("a file where the folder should be")
    assert [choose_bits("auto", "cnn", "cpu", 1) for _ in range(2)] == [16, 16]
    assert probes == ["cnn"]


@pytest.mark.parametrize("family", ["mlp", "cnn", "resnet"])
def test_a_real_probe_sees_both_learn(family: str) -> None:
    import torch

    before = torch.get_rng_state()
    verdict: Any = precision.probe(family, "cpu")
    assert verdict.bits in (16, 32) and min(verdict.fp32_images_per_s, verdict.bf16_images_per_s) > 0
    assert verdict.fp32_fall > 0.1 and verdict.bf16_fall > 0.1
    assert torch.equal(before, torch.get_rng_state()), "a probe draws from no trial's randomness"


@pytest.mark.parametrize(("bf16_s", "num_steps"), [(0.3, 2), (0.02, precision._STEPS)])
def test_a_probe_ends_early_where_bf16_is_hopelessly_slow(
    bf16_s: float, num_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def stepper(family: str, device: str, bits: int) -> Callable[[int], float]:
        def step(number: int) -> float:
            time.sleep(bf16_s if bits == 16 else 0.002)
            done.append(bits)
            return 2.0 - number

        return step

    monkeypatch.setattr(precision, "_stepper", stepper)
    verdict = precision.probe("cnn", "cpu")
    assert done.count(16) == done.count(32) == num_steps
    assert verdict.bits == 32 and verdict.fp32_fall == num_steps - 1
