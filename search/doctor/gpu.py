"""The GPUs of this machine: NVIDIA's driver, and whether torch gets to see through it what is there."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.doctor.finding import Finding, ok, warning
from search.doctor.versions import Installed, cuda_of_torch

_CODES = ("gpu", "gpu-driver", "gpu-hidden", "gpu-torch")
_PATIENCE_S = 20.0
# In a process of its own: importing torch takes seconds, and CUDA keeps memory of a GPU until its process ends.
_COUNT = "import sys, torch; torch.cuda.init(); sys.stdout.write(str(torch.cuda.device_count()))"


@dataclass(frozen=True)
class Driver:
    """What `nvidia-smi` says.

    Args:
        gpus: Name of each GPU, by its UUID, in the order of their numbers.
        cuda: The latest CUDA that the driver knows, like (13, 2); None where it is not said.
        trouble: What it says instead, where it does not work.
    """

    gpus: Mapping[str, str]
    cuda: tuple[int, ...] | None = None
    trouble: str | None = None


def findings(environment: Mapping[str, str], there: Installed) -> list[Finding]:
    """All of this page; where there is no GPU, that.

    Args:
        environment: The variables that a search would be started with.
        there: The installed packages.
    """
    driver = driver_here(environment)
    if driver is None:
        return [ok(code, "no NVIDIA driver here, so no GPU") for code in _CODES]
    if driver.trouble:
        return [warning("gpu", driver.trouble), *(ok(code, "not looked at: see gpu") for code in _CODES[1:])]
    if not driver.gpus:
        return [ok(code, "the driver knows of no GPU") for code in _CODES]
    cuda, shown = cuda_of_torch(there), visible(list(driver.gpus), environment.get("CUDA_VISIBLE_DEVICES"))
    found = [ok("gpu", ", ".join(driver.gpus.values())), new_enough(driver, cuda), hidden(driver, shown, environment)]
    if any(finding.to_do for finding in found):
        return [*found, ok("gpu-torch", "not looked at: the above comes first")]
    return [*found, used_by_torch(cuda, len(shown), environment)]


def driver_here(environment: Mapping[str, str]) -> Driver | None:
    """What the driver says, or None where there is none."""
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return None
    try:
        listed, table = (_said([program, *options], environment) for options in (["-L"], []))
    except (OSError, subprocess.SubprocessError) as err:
        return Driver({}, trouble=f"nvidia-smi: {err}")
    text = (listed.stdout + listed.stderr).strip()
    if listed.returncode and "no devices" not in text.lower():
        return Driver({}, trouble=f"nvidia-smi: {text.partition(chr(10))[0] or 'it says nothing'}")
    gpus = re.findall(r"^GPU \d+: (.+?) \(UUID: (.+?)\)", listed.stdout, re.M)
    cuda = re.search(r"CUDA[\w ]*Version *: *(\d+)\.(\d+)", table.stdout)
    return Driver({uuid: name for name, uuid in gpus}, tuple(map(int, cuda.groups())) if cuda else None)


def new_enough(driver: Driver, cuda: tuple[int, ...] | None) -> Finding:
    """Whether the driver knows torch's CUDA; within one first number the newer work on the older."""
    if not cuda or not driver.cuda:
        return ok("gpu-driver", "nothing to compare: torch or the driver names no CUDA")
    found = f"the driver knows CUDA {_dotted(driver.cuda)}, torch was built with {_dotted(cuda)}"
    return ok("gpu-driver", found) if driver.cuda[0] >= cuda[0] else warning("gpu-driver", found)


def visible(uuids: Sequence[str], said: str | None) -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves: those before the first that is not there, as CUDA reads it."""
    if said is None:
        return list(uuids)
    shown = []
    for word in (part.strip() for part in said.split(",")):
        numbered = [uuid for number, uuid in enumerate(uuids) if word == str(number)]
        matching = numbered or [uuid for uuid in uuids if word and uuid.startswith(word)]
        if word.startswith("MIG-"):  # a part of one
            matching = [word]
        if not matching:
            break
        shown.append(matching[0])
    return shown


def hidden(driver: Driver, shown: Sequence[str], environment: Mapping[str, str]) -> Finding:
    """Whether anything is left to be seen."""
    said = environment.get("CUDA_VISIBLE_DEVICES")
    if said is None:
        return ok("gpu-hidden", "CUDA_VISIBLE_DEVICES is not set")
    found = f"CUDA_VISIBLE_DEVICES={said!r} leaves {len(shown)} of {len(driver.gpus)}"
    return ok("gpu-hidden", found) if shown else warning("gpu-hidden", found)


def used_by_torch(cuda: tuple[int, ...] | None, num_shown: int, environment: Mapping[str, str]) -> Finding:
    """Whether torch, asked in a process of its own, finds as many GPUs as there are."""
    if cuda == ():
        return warning("gpu-torch", f"{num_shown} visible, and torch was built without CUDA")
    try:
        said = _said([sys.executable, "-c", _COUNT], environment)
    except (OSError, subprocess.SubprocessError) as err:
        return warning("gpu-torch", f"{num_shown} visible, and torch does not answer: {err}")
    if said.returncode:
        return warning(
            "gpu-torch", f"{num_shown} visible, and torch says: {said.stderr.strip().rpartition(chr(10))[2]}"
        )
    found = f"torch finds {said.stdout.strip()} of {num_shown} visible"
    return ok("gpu-torch", found) if said.stdout.strip() == str(num_shown) else warning("gpu-torch", found)


def _said(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, env=dict(environment))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
