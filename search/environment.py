"""What a run was made with: versions, hardware, git commit. Never the environment's variables: they hold secrets."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("digitsearch", "ray", "optuna", "torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn")


def describe(sampler: dict[str, Any]) -> dict[str, Any]:
    """What environment.json says.

    Args:
        sampler: The sampler's resolved arguments.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "gpus": _gpus(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "git_commit": _git_commit(),
        "sampler": sampler,
    }


def installed_version(package: str) -> str | None:
    """The version of a package; None where it is not installed, as a checkout that is sent to a cluster is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _gpus() -> list[str]:
    """The names of the GPUs here, as NVIDIA's driver says them: asking torch would take seconds."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU \d+: (.+?) \(UUID", listed, re.M)


def _git_commit() -> str | None:
    """The commit of the folder that the search is run in, with a mark where it has been changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
