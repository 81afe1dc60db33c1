"""The built-in space `digits`: architecture and optimizer together, for digit images of any size.

Ranges hold what trains within a few epochs on 28 x 28 images; every family and optimizer in it can win.
"""

from spaces.parameters import Choice, Float, Int
from spaces.space import Space

_IMAGE_NETS = {"model": ("cnn", "resnet")}

DIGITS = Space(
    {
        "model": Choice(("mlp", "cnn", "resnet")),
        "hidden": Int(64, 512, log=True, when={"model": ("mlp",)}),
        "depth": Int(1, 2),
        "width": Int(8, 24, log=True, when=_IMAGE_NETS),
        "stem": Choice(("pool", "stride"), when=_IMAGE_NETS),  # how images above 16 x 16 are halved at first
        "convolutions": Int(1, 2, when={"model": ("cnn",)}),  # in each stage
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
        "averaging": Float(0.0, 1.0),  # memory of the averaged weights, in epochs
        "elastic": Float(0.0, 0.06, when={"augment": (True,)}),
    }
)

# All that a configuration of the workload may say; what is added is not worth its cost unless somebody asks for it.
DIGITS_PARAMETERS = Space({**DIGITS.parameters, "ensemble_size": Int(1, 16)})
