"""The workload `digits`: the loop, the networks, the optimizers, the model folder."""

import contextlib
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search import load_study
from search.workloads import whole_configuration
from spaces import DIGITS, DIGITS_PARAMETERS
from trainables import Data, ModelError, Save, Trial, digits, epoch, model, networks
from trainables.augment import warp
from trainables.datasets import carve, load_part
from trainables.muon import MuonInFloat32, orthogonalised
from trainables.optimizers import Optimizer, learning_rate_factor


@pytest.fixture(scope="module")
def data() -> Data:
    part = load_part("optdigits", Path("nowhere"), "train")
    training, validation = carve(part.labels, 300, 0)
    images = part.images[training]
    return Data(
        train_images=images,
        train_labels=part.labels[training],
        val_images=part.images[validation],
        val_labels=part.labels[validation],
        num_classes=10,
        mean=float(images.mean() / 255),
        std=float(images.std() / 255),
    )


def trained(data: Data, folder: Path, *, epochs: int, most: int | None = None, **given: Any) -> list[dict[str, float]]:
    """The reports of a training; each epoch's checkpoint is `folder`/epoch."""
    reports: list[dict[str, float]] = []
    start, precision = given.pop("start", 0), given.pop("precision", "fp32")

    class Enough(Exception):
        pass

    def report(metrics: Mapping[str, float], save: Save | None = None) -> None:
        reports.append(dict(metrics))
        target = folder / str(start + len(reports))
        target.mkdir(parents=True)
        assert save is not None
        save(target)
        if len(reports) == most:
            raise Enough

    checkpoint = folder / str(start) if start else None
    config = DIGITS_PARAMETERS.walk(lambda name, _: given.get(name, digits.DEFAULTS[name]))
    with contextlib.suppress(Enough):
        digits.train(config, Trial(data, 5, "cpu", 1, epochs, report, start, checkpoint, precision))
    return reports


FAMILIES = list(itertools.product(("mlp", "cnn", "resnet"), ("sgd", "adamw", "muon")))


@pytest.mark.parametrize(("family", "optimizer"), FAMILIES)
def test_every_family_learns_with_every_optimizer(family: str, optimizer: str, data: Data, tmp_path: Path) -> None:
    reports = trained(data, tmp_path, epochs=4, model=family, optimizer=optimizer, batch_size=64)
    assert reports[-1]["val_accuracy"] > 0.8, "ten classes: chance is 0.1"
    assert reports[-1]["train_loss"] < reports[0]["train_loss"]
    assert list(reports[0]) == [
        "train_loss",
        "val_loss",
        "val_accuracy",
        "num_parameters",
        "images_per_s",
        "precision_bits",
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_numbers(precision: str, data: Data, tmp_path: Path) -> None:
    first, again = (trained(data, tmp_path / name, epochs=2, precision=precision) for name in ("first", "again"))
    assert [without_speed(r) for r in first] == [without_speed(r) for r in again]
    assert first[0]["precision_bits"] == {"fp32": 32, "bf16": 16}[precision]


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        ("sgd", "fp32"),
        ("adamw", "fp32"),
        ("muon", "fp32"),
        ("muon", "bf16"),
        # Without units for it, bfloat16 takes ten seconds each.
        pytest.param("sgd", "bf16", marks=pytest.mark.chaos),
        pytest.param("adamw", "bf16", marks=pytest.mark.chaos),
    ],
)
def test_a_resumed_training_repeats_the_uninterrupted_one(
    optimizer: str, precision: str, data: Data, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"epochs": 3, "optimizer": optimizer, "precision": precision}
    whole = trained(data, tmp_path / "whole", **given)
    trained(data, tmp_path / "parted", most=1, **given)
    rest = trained(data, tmp_path / "parted", start=1, **given)
    assert [without_speed(r) for r in whole[1:]] == [without_speed(r) for r in rest]


def test_warming_up_draws_from_no_trial_s_randomness(data: Data) -> None:
    before = torch.get_rng_state()
    digits.warm_up(data, "cpu", 1, "fp32")
    assert torch.equal(before, torch.get_rng_state())
    assert epoch.place(data, "cpu") is epoch.place(data, "cpu")


def without_speed(report: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in report.items() if name != "images_per_s"}


@pytest.mark.parametrize(("family", "side"), list(itertools.product(("mlp", "cnn", "resnet"), (8, 12, 17, 28))))
def test_networks_take_images_of_any_size(family: str, side: int) -> None:
    for stem in ("pool", "stride"):
        network = networks.build({**digits.DEFAULTS, "model": family, "stem": stem}, side, side, 7)
        assert network(torch.zeros(2, 1, side, side)).shape == (2, 7)
        assert networks.num_parameters(network) == sum(p.numel() for p in network.parameters())


def test_muon_moves_filters_as_matrices_and_leaves_the_last_layer_to_adamw() -> None:
    network = networks.build(digits.DEFAULTS, 28, 28, 10).to(memory_format=torch.channels_last)
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = Optimizer(network, {**digits.DEFAULTS, "optimizer": "muon"})
    network(torch.randn(4, 1, 28, 28)).square().mean().backward()
    optimizer.step(0.5)
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert [type(part) for part in optimizer._parts] == [MuonInFloat32, torch.optim.AdamW]


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (16, 16)])
def test_muon_in_float32_moves_as_pytorchs(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    moved = {}
    for kind in (MuonInFloat32, torch.optim.Muon):
        matrix = torch.nn.Parameter(start.clone())
        muon = kind([matrix], lr=1.0, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
        for step in range(3):
            matrix.grad = torch.randn(shape, generator=torch.Generator().manual_seed(step))
            muon.step()
        moved[kind] = matrix.detach()
    ours, pytorchs = moved.values()
    # bfloat16 has three digits.
    torch.testing.assert_close(ours, pytorchs, rtol=0.02, atol=0.02)
    assert (start - ours).abs().mean() > 0.3, "the tolerance is small beside the way"
    assert "momentum_buffer" in muon.state[matrix]


def test_where_the_network_computes_in_bfloat16_so_does_muon() -> None:
    network = networks.build(digits.DEFAULTS, 28, 28, 10).to(memory_format=torch.channels_last)
    muon, _ = Optimizer(network, {**digits.DEFAULTS, "optimizer": "muon"}, bits=16)._parts
    assert type(muon) is torch.optim.Muon


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (16, 16)])
def test_orthogonalised_has_singular_values_of_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert values.min() > 0.5 and values.max() < 1.3


def test_muon_leaves_the_last_layer_of_each_member_to_adamw() -> None:
    network = networks.build({**digits.DEFAULTS, "ensemble_size": 2}, 28, 28, 10).to(memory_format=torch.channels_last)
    _, adamw = Optimizer(network, {**digits.DEFAULTS, "optimizer": "muon"})._parts
    assert [tuple(p.shape) for p in adamw.param_groups[0]["params"]] == [(10, 576), (10, 576)]


def test_an_ensemble_answers_with_the_mean_of_its_members() -> None:
    torch.manual_seed(0)
    one, ensemble = (networks.build({**digits.DEFAULTS, "ensemble_size": size}, 28, 28, 10) for size in (1, 3))
    assert networks.num_parameters(ensemble) == 3 * networks.num_parameters(one)
    images = torch.randn(4, 1, 28, 28)
    answers = [member(images) for member in networks.members(ensemble.eval())]
    torch.testing.assert_close(ensemble(images), sum(answers) / 3)
    assert not torch.allclose(answers[0], answers[1])
    assert networks.members(one) == [one]


def test_each_member_of_an_ensemble_learns_as_it_would_alone() -> None:
    torch.manual_seed(0)
    ensemble = networks.build({**digits.DEFAULTS, "ensemble_size": 2, "dropout": 0.0}, 28, 28, 10)
    images, labels = torch.randn(8, 1, 28, 28), torch.arange(8)
    digits._loss(ensemble(images), labels, label_smoothing=0.1).backward()
    for member in networks.members(ensemble):
        together = [p.grad for p in member.parameters()]
        member.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(member(images), labels, label_smoothing=0.1).backward()
        torch.testing.assert_close(together, [p.grad for p in member.parameters()])


def test_an_ensemble_is_trained_and_resumed_as_one_network_is(data: Data, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 4, "ensemble_size": 2, "width": 8}
    whole = trained(data, tmp_path / "whole", **settings)
    assert whole[-1]["val_accuracy"] > 0.8 and 0 < whole[-1]["train_loss"] < whole[0]["train_loss"] < 3
    trained(data, tmp_path / "parted", most=2, **settings)
    rest = trained(data, tmp_path / "parted", start=2, **settings)
    assert [without_speed(report) for report in whole[2:]] == [without_speed(report) for report in rest]


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_schedules_end_with_the_training(schedule: str) -> None:
    curve = [learning_rate_factor(schedule, progress / 100) for progress in range(101)]
    assert max(curve) == pytest.approx(1.0) and curve[-1] == pytest.approx(0.0, abs=1e-9)
    assert (curve[0] < 0.1) == (schedule == "one_cycle")


def test_warp_moves_each_image_by_its_own_amount() -> None:
    images = torch.zeros(64, 1, 28, 28)
    images[:, :, 10:18, 13:15] = 1.0
    moved = warp(images, torch.Generator().manual_seed(0), rotation_deg=10, shift=0.1, scale=0.1)
    assert moved.shape == images.shape and len({tuple(image.flatten().tolist()) for image in moved}) == 64
    rows = (moved * torch.arange(28.0).view(1, 1, 28, 1)).sum((1, 2, 3)) / moved.sum((1, 2, 3))
    assert (rows - 13.5).abs().max() <= 0.1 * 28 + 1
    still = warp(images, torch.Generator().manual_seed(0), rotation_deg=0, shift=0, scale=0)
    assert torch.allclose(still, images, atol=1e-5)


def test_bends_displace_by_a_share_of_the_side_and_smoothly() -> None:
    ramp = torch.arange(28.0).expand(256, 1, 28, 28).contiguous()  # each pixel says where it comes from
    bent = warp(ramp, torch.Generator().manual_seed(0), rotation_deg=0, shift=0, scale=0, elastic=0.03)
    by_px = (bent - ramp)[:, 0, 6:-6, 6:-6]  # away from the frame's edge, beyond which there is nothing
    assert by_px.std().item() == pytest.approx(0.03 * 28, rel=0.4) and abs(by_px.mean().item()) < 0.1
    assert by_px.diff(dim=1).abs().max() < 1, "neighbours go the same way: nothing is torn"


def test_normalising_gives_mean_0_and_deviation_1(data: Data) -> None:
    normal = epoch.normalise(torch.from_numpy(data.train_images), data.mean, data.std)
    assert normal.shape == (len(data.train_images), 1, 8, 8)
    assert abs(normal.mean().item()) < 1e-5 and abs(normal.std().item() - 1) < 1e-3


def test_evaluation_counts_nats_per_image(data: Data) -> None:
    class Even(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(images), 10)

    images, labels = torch.from_numpy(data.val_images), torch.from_numpy(data.val_labels).long()
    loss, accuracy = digits.evaluate(Even(), images, labels, data.mean, data.std)
    assert loss == pytest.approx(math.log(10), rel=1e-6)
    assert accuracy == (data.val_labels == 0).mean()


def card(config: Mapping[str, Any], data: Data) -> model.Card:
    names = tuple("0123456789")
    return model.Card(config, 8, 8, names, data.mean, data.std, "optdigits", seed=5, epochs=2)


def test_a_model_folder_reproduces_the_figures_to_the_last(data: Data, tmp_path: Path) -> None:
    reports = trained(data, tmp_path / "run", epochs=2, averaging=0.5)
    config = DIGITS.walk(lambda name, _: digits.DEFAULTS[name])
    made = model.make(card(config, data), digits.averaged_weights(tmp_path / "run" / "2"))
    model.write(tmp_path / "best", made, {"val_accuracy": 1})
    loaded = model.load(tmp_path / "best")
    assert loaded.card == card(config, data)
    assert loaded.evaluate(data.val_images, data.val_labels) == (reports[1]["val_loss"], reports[1]["val_accuracy"])
    probabilities = loaded.probabilities(data.val_images)
    assert probabilities.shape == (300, 10) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == [
        "config.json", "metrics.json", "model.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda best: (best / "model.safetensors").write_bytes(b"\0" * 40), "is damaged: SafetensorError: "),
        (lambda best: (best / "config.json").write_text("{"), "is damaged: JSONDecodeError: "),
        (lambda best: (best / "config.json").write_text(json.dumps({"workload": "digits"})), "is damaged: "),
        (lambda best: (best / "config.json").unlink(), "must be a model folder with model.safetensors and config.json"),
    ],
)
def test_a_damaged_model_folder_is_refused(damage: Any, message: str, data: Data, tmp_path: Path) -> None:
    network = networks.build(digits.DEFAULTS, 8, 8, 10)
    model.write(tmp_path / "best", model.make(card(digits.DEFAULTS, data), network.state_dict()), {})
    damage(tmp_path / "best")
    with pytest.raises(ModelError, match=message):
        model.load(tmp_path / "best")


def test_the_study_of_small_networks_holds_no_other() -> None:
    space = load_study("mnist-small").space
    assert set(space.parameters["model"].options) == {"cnn"}, "others need a count of their own here"  # type: ignore[union-attr]
    widest = {name: getattr(p, "high", None) or p.options[-1] for name, p in space.parameters.items()}  # type: ignore[union-attr]
    for stem in ("pool", "stride"):
        network = networks.build({**digits.DEFAULTS, **widest, "stem": stem}, 28, 28, 10)
        assert networks.num_parameters(network) <= 20_000


def test_training_imports_no_compiler() -> None:
    code = (
        "import sys, torch; from torch import nn\n"
        "from search.trial.clean_slate import CleanSlate\n"
        "from trainables import digits; from trainables.optimizers import Optimizer\n"
        "CleanSlate(1).wipe(0)\n"
        "network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))\n"
        "for name in ('sgd', 'adamw', 'muon'):\n"
        "    optimizer = Optimizer(network, {**digits.DEFAULTS, 'optimizer': name})\n"
        "    network(torch.ones(1, 4)).sum().backward()\n"
        "    optimizer.step(0.5)\n"
        "    optimizer.load(optimizer.tensors())\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n", done.stderr


def test_a_model_folder_says_all_that_was_trained_with() -> None:
    config = whole_configuration({"model": "resnet", "optimizer": "adamw", "depth": 3})
    assert (config["depth"], config["activation"]) == (3, digits.DEFAULTS["activation"])
    assert {"stem", "learning_rate_adam"} <= set(config) and not {"hidden", "convolutions", "momentum"} & set(config)
