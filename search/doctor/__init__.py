"""Looks at all that a search stands on, and says of each what is there and what to do; changes and starts nothing."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from results import Place
from search.doctor import clusters, gpu, machine, output, versions
from search.doctor.finding import CHECKS, Check, Finding, State

__all__ = ["CHECKS", "Check", "Finding", "State", "examine"]

_ROOT = Path(__file__).parents[2]


def examine(place: Place, address: str | None, environment: Mapping[str, str]) -> list[Finding]:
    """One finding for each of CHECKS, in their order.

    Takes a second or two; longer only where a GPU, a cluster or shared storage keeps it waiting. Ray is not started,
    and what is tried at the output is deleted again.

    Args:
        place: Where runs are to lie.
        address: Of a Ray cluster, host:port of its head or http://host:port of its dashboard; else variables say it.
        environment: The variables that a search would be started with.
    """
    named = clusters.named_address(address, environment)
    subjects: list[Callable[[], list[Finding]]] = [
        lambda: versions.findings(_ROOT),
        lambda: machine.findings(environment),
        lambda: gpu.findings(environment, versions.Installed()),
        lambda: clusters.findings(address, environment, machine.ray_folder(environment)),
        lambda: output.findings(place, named),
    ]
    with ThreadPoolExecutor(len(subjects)) as beside:
        return [finding for found in beside.map(lambda look: look(), subjects) for finding in found]
