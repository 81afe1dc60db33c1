"""Attributes of Ray's own (2.60), where it offers no other way: mostly to hold back what a search does without.

That is passed over where Ray has it no longer: a cluster takes a moment longer to start, or a word too many is said.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Start a process each: statistics for Ray's makers, an autoscaler, and what hands a driver the output of its workers.
_FOR_OTHERS = ("start_api_server", "start_monitor", "start_log_monitor")
_OF_A_DEATH = "A worker died or was killed"


@contextmanager
def fewer_processes() -> Iterator[None]:
    """Have a cluster start, in this block, without what one of our own has no use for: two seconds of a core."""
    from ray._private.node import Node

    with _replaced(Node, {name: lambda *_, **__: None for name in _FOR_OTHERS}):
        yield


@contextmanager
def deaths_unsaid() -> Iterator[None]:
    """Have Ray print nothing, in this block, of a process that has died: the search says what becomes of its trial."""
    from ray._private import worker

    said = getattr(worker, "print_to_stdstream", None)

    def say(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        if said and not any(_OF_A_DEATH in line for line in data["lines"]):
            said(data, ignore_prefix)

    with _replaced(worker, {"print_to_stdstream": say}):
        yield


def latest_started() -> str | None:
    """The host:port of the cluster that was started last on this machine for others to join; None if there is none.

    Without a note of one, "auto" has Ray take any that runs here, the private one of another search too, and wait for
    it for minutes: that one listens on loopback, where Ray does not look.
    """
    from ray._private.services import find_bootstrap_address, find_gcs_addresses

    noted: str | None = find_bootstrap_address(None)
    return noted or next((found for found in find_gcs_addresses() if not is_private(found)), None)


def is_private(address: str) -> bool:
    """Whether a cluster of this machine that has no note is a search's own: those listen on loopback."""
    return address.startswith("127.")


@contextmanager
def _replaced(owner: Any, attributes: Mapping[str, Any]) -> Iterator[None]:
    there = {name: getattr(owner, name) for name in attributes if hasattr(owner, name)}
    for name in there:
        setattr(owner, name, attributes[name])
    try:
        yield
    finally:
        for name, attribute in there.items():
            setattr(owner, name, attribute)
