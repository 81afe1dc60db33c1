"""A training function that leaves its process in a bad state."""

import os
import random
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from trainables import Trial


def spoils_its_process(config: Mapping[str, Any], trial: Trial) -> None:
    """Says whether it found the process as new, and leaves it in a bad state."""
    found = (
        torch.get_default_dtype() == torch.float32,
        torch.get_num_threads() == trial.num_threads,
        "SPOILT" not in os.environ,
        not os.getcwd().endswith("spoilt"),
        not any(thread.name == "spoiler" for thread in threading.enumerate()),
        not psutil.Process().children(),
        not torch.nn.modules.module._global_forward_hooks,
        torch.is_grad_enabled(),
        random.random() == random.Random(trial.seed).random(),
        np.random.random() == np.random.RandomState(trial.seed % 2**32).random_sample(),
        torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(trial.seed)).item(),
    )
    trial.report({"score": config["x"], "fresh": int(all(found))}, None)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    os.environ["SPOILT"] = "1"
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / "spoilt"
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    warnings.simplefilter("error")
    if config["x"] > 0.8:
        subprocess.Popen(["sleep", "60"])
    elif config["x"] > 0.6:
        threading.Thread(target=time.sleep, args=(60,), name="spoiler", daemon=True).start()
    elif config["x"] > 0.3:
        torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
