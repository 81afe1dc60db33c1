"""The built-in space `digits`: architecture and optimizer together, for digit images of any size.

Ranges hold what trains within a few epochs on 28 x 28 images; every family and optimizer in it can win.
"""

from dataclasses import replace

from spaces.parameters import Choice, Float, Int, When
from spaces.space import Space

_IMAGE_NETS = {"model": ("cnn", "resnet")}

DIGITS = Space(
    {
        "model": Choice(("mlp", "cnn", "resnet")),
        "hidden": Int(64, 512, log=True, when={"model": ("mlp",)}),
        "depth": Int(1, 2),
        "width": Int(8, 24, log=True, when=_IMAGE_NETS),
        "stem": Choice(("pool", "stride"), when=_IMAGE_NETS),
        "convolutions": Int(1, 2, when={"model": ("cnn",)}),
        "activation": Choice(("relu", "gelu", "silu")),
        "dropout": Float(0.0, 0.4),
        "optimizer": Choice(("sgd", "adamw", "muon")),
        "learning_rate_sgd": Float(0.02, 1.0, log=True, when={"optimizer": ("sgd",)}),
        "learning_rate_adam": Float(5e-4, 2e-2, log=True, when={"optimizer": ("adamw", "muon")}),
        "momentum": Float(0.8, 0.97, when={"optimizer": ("sgd", "muon")}),
        "weight_decay": Float(1e-5, 5e-2, log=True),
        "schedule": Choice(("one_cycle", "cosine")),
        "batch_size": Choice((64, 128, 256)),
        "label_smoothing": Float(0.0, 0.15),
        "augment": Choice((True, False)),
        "rotation_deg": Float(0.0, 20.0, when={"augment": (True,)}),
        "shift": Float(0.0, 0.12, when={"augment": (True,)}),
        "scale": Float(0.0, 0.2, when={"augment": (True,)}),
        "averaging": Float(0.0, 1.0),
        "elastic": Float(0.0, 0.06, when={"augment": (True,)}),
    }
)

# How far the workload goes beyond what is worth a search, and what is not worth its cost unless somebody asks for it.
_LIMITS: dict[str, Int | Float] = {
    "hidden": Int(1, 65_536),
    "depth": Int(1, 8),
    "width": Int(1, 1024),
    "convolutions": Int(1, 8),
    "dropout": Float(0.0, 0.95),
    "learning_rate_sgd": Float(0.0, 100.0),
    "learning_rate_adam": Float(0.0, 10.0),
    "momentum": Float(0.0, 0.9999),
    "weight_decay": Float(0.0, 10.0),
    "batch_size": Int(2, 65_536),
    "label_smoothing": Float(0.0, 0.95),
    "rotation_deg": Float(0.0, 180.0),
    "shift": Float(0.0, 1.0),
    "scale": Float(0.0, 0.95),
    "elastic": Float(0.0, 0.5),
    "averaging": Float(0.0, 1000.0),
    "ensemble_size": Int(1, 64),
}


def _when(name: str) -> When:
    return DIGITS.parameters[name].when if name in DIGITS else {}


# All that a configuration of the workload may say.
DIGITS_PARAMETERS = Space(
    {
        **DIGITS.parameters,
        **{name: replace(limits, when=_when(name)) for name, limits in _LIMITS.items()},
    }
)

MEANINGS = {
    "model": "Family of the network: multilayer perceptron, convolutional, residual.",
    "hidden": "Units of each hidden layer.",
    "depth": "Hidden layers, or stages: each halves the side of what it is given and doubles its channels.",
    "width": "Channels of the first convolution.",
    "stem": "How images above 16 x 16 are halved at first: by the maximum after a convolution, or by its steps of two.",
    "convolutions": "In each stage.",
    "activation": "After each normalisation.",
    "dropout": "Share of outputs that a step leaves out, before the last layer; in an mlp after each hidden one.",
    "optimizer": "Muon moves matrices and filters, and leaves the rest to AdamW.",
    "learning_rate_sgd": "Peak of the schedule.",
    "learning_rate_adam": "Peak of the schedule.",
    "momentum": "Share of the last step that goes into the next.",
    "weight_decay": "Of weights; gains and biases have none.",
    "schedule": "The learning rate rises for a quarter of the training and falls to nothing, or only falls.",
    "batch_size": "Images in a step.",
    "label_smoothing": "Share of the target that is spread over all classes.",
    "augment": "Whether training images are moved and bent, each by its own random amount.",
    "rotation_deg": "Largest angle, in degrees.",
    "shift": "Largest shift along each side, as a share of it.",
    "scale": "Largest change of size, as a share of it.",
    "averaging": "Memory of the averaged weights, which are what is evaluated, in epochs.",
    "elastic": "Standard deviation of the bends, as a share of the side.",
    "ensemble_size": "Networks that learn side by side from the same batches; their mean logits are the answer.",
}
