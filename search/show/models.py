"""Data sets and models: what is trained on, what came of it, how it is exported and served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import is_tested
from search.show.endings import accuracies
from search.show.text import text_table, to_type


def description(about: Any) -> str:
    """What a data set holds."""
    head = f"{about.name}: {about.height} x {about.width} pixels, {len(about.class_names)} classes, in {about.where}\n"
    counts = [
        (name, str(about.train.per_class[i]), str(about.test.per_class[i])) for i, name in enumerate(about.class_names)
    ]
    counts.append(("all", str(about.train.count), str(about.test.count)))
    table = text_table(("class", "training images", "test images"), counts).rstrip("\n")
    return head + table + "".join(f"\nwarning: {what}" for what in about.doubts)


def epoch_line(epoch: int, epochs: int, metrics: Mapping[str, float]) -> str:
    """One epoch of `digitsearch train`."""
    return (
        f"epoch {epoch} of {epochs}: train_loss {metrics['train_loss']:.4f}, val_loss {metrics['val_loss']:.4f}, "
        f"val_accuracy {metrics['val_accuracy']:.4f}, {metrics['images_per_s']:.0f} images/s"
    )


def trained(out: Path, metrics: Mapping[str, Any]) -> str:
    """The last lines of `digitsearch train`."""
    found = f"best epoch {metrics['epoch']}: {accuracies(metrics)}"
    train_s, num_threads = metrics["train_s"], metrics["num_threads"]
    threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
    cost = f"training: {train_s:.1f} s on {threads}, {train_s * num_threads:.1f} core-seconds"
    return f"{found}\n{cost}\nmodel: {out}\nnext:\n  {to_type('predict', out, 'digit.png')}"


_SNIPPETS = {
    "onnx": """import numpy, onnxruntime
session = onnxruntime.InferenceSession({path!r})
images = numpy.zeros((1, {height}, {width}), numpy.uint8)  # one or many, light ink on dark
probabilities = session.run(None, {{"images": images}})[0]  # a row of {classes} an image""",
    "torch": """import torch
program = torch.export.load({path!r}).module()
images = torch.zeros(1, {height}, {width}, dtype=torch.uint8)  # one or many, light ink on dark
probabilities = program(images)  # a row of {classes} an image""",
}


def exported(file: Any) -> str:
    """What `digitsearch export` says of a `trainables.export.Exported`: what was written, and how it is run."""
    card = file.card
    opset = f"ONNX, opset {file.opset}" if file.opset else "torch.export"
    snippet = _SNIPPETS[file.format].format(
        path=str(file.path), height=card.height, width=card.width, classes=len(card.class_names)
    )
    return (
        f"wrote {file.path}: {opset}, {file.num_bytes:,} bytes\n"
        f"checked: read again, its probabilities differ from the model's by at most {file.difference:.1g} "
        f"(n={file.num_images})\n"
        f"in Python:\n\n{snippet}\n"
    )


def serving(started: Any) -> str:
    """What `digitsearch serve` says as it begins."""
    metrics = started.served.metrics
    model = f"model: {started.served.name}"
    model += f", {accuracies(metrics)}" if is_tested(metrics) else ""
    return (
        f"{model}\npage:  {started.url}/\nAPI:   {started.url}/docs\n"
        f"try:   curl -F images=@digit.png {started.url}/predict\nCtrl-C ends it"
    )
