"""Training functions that leave their process in a bad state."""

import logging
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed
import torch.multiprocessing

from trainables import Trial

_configured = threading.Event()


def works_once(config: Mapping[str, Any], trial: Trial) -> None:
    """Configures a library that can't be configured again, as some can't."""
    if _configured.is_set():
        raise RuntimeError("it has been configured already")
    _configured.set()
    trial.report({"score": config["x"], "process": os.getpid()})


def leaves_what_can_be_put_back(config: Mapping[str, Any], trial: Trial) -> None:
    """Does what scripts do in a process that is theirs; some of it is refused the second time."""
    torch.multiprocessing.set_start_method("spawn")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / "spoilt"
    folder.mkdir(exist_ok=True)
    logging.basicConfig(filename=folder / "trial.log", level=logging.DEBUG, format=f"%(message)s of {trial.seed}")
    logging.debug("words")
    logging.disable()
    words = (folder / "trial.log").read_text().splitlines()[-1]
    sys.argv.append("--flag")
    metrics = {"logged": int(words == f"words of {trial.seed}"), "flags": sys.argv.count("--flag")}
    trial.report({"score": config["x"], "process": os.getpid(), **metrics})
    sys.stdout.write("to be seen\n")
    sys.stdout = (folder / "printed.txt").open("w")
    sys.stdout.close()
    if config["x"] > 0.8:
        raise ValueError("as it must")


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
