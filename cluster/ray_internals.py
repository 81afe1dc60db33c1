"""Attributes of Ray's own (2.60), where it offers no other way: mostly to hold back what a search does without.

What Ray has no longer is passed over: then a cluster takes a moment longer to start, a word too many is said, or that
its processes have died, may use few cores, or ask for a token, is not seen.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

# Start a process each: statistics for Ray's makers, an autoscaler, and what hands a driver the output of its workers.
_FOR_OTHERS = ("start_api_server", "start_monitor", "start_log_monitor")
# The version whose raylet can do with `cluster.no_agent`: one that waits for more would not start.
_HAS_PORTS_IN_FILES = "2.60."
_BUILDS_COMMAND = "_build_python_executable_command_memory_profileable"
# What Ray's own client asks a cluster first.
_FIRST_QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_ANSWER_S = 5.0
# The last two are of a node, and up to two screens long.
_OF_A_DEATH = ("A worker died or was killed", "has been marked dead", "Raylet is terminated")


@contextmanager
def fewer_processes() -> Iterator[None]:
    """Have a cluster start, in this block, without what one of our own has no use for: three seconds of a core."""
    import ray
    from ray._private import services
    from ray._private.node import Node

    with ExitStack() as stack:
        stack.enter_context(_replaced(Node, {name: lambda *_, **__: None for name in _FOR_OTHERS}))
        if ray.__version__.startswith(_HAS_PORTS_IN_FILES) and hasattr(services, _BUILDS_COMMAND):
            command = _without_agent(getattr(services, _BUILDS_COMMAND))
            stack.enter_context(_replaced(services, {_BUILDS_COMMAND: command}))
        yield


def _without_agent(command: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """What is typed before one of Ray's scripts; before its dashboard agent's, what stands in its place."""
    stand_in = [sys.executable, "-I", "-S", str(Path(__file__).with_name("no_agent.py"))]

    def typed(component: str, *args: Any, **options: Any) -> list[str]:
        return stand_in if component == "dashboard_agent" else command(component, *args, **options)

    return typed


@contextmanager
def own_handler() -> Iterator[None]:
    """Have Ray leave, in this block, the handler of SIGTERM that this process has.

    Its own ends the process from wherever the signal comes; where that is in logging, say, what is imported in another
    thread meanwhile waits for ever for logging's lock, and the process for that thread.
    """
    from ray._private import utils

    with _replaced(utils, {"set_sigterm_handler": lambda handler: None}):
        yield


@contextmanager
def deaths_unsaid() -> Iterator[None]:
    """Have Ray print nothing, in this block, of what has died: the search says what becomes of its trials."""
    from ray._private import worker

    said = getattr(worker, "print_to_stdstream", None)

    def say(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        if said and not any(death in line for line in data["lines"] for death in _OF_A_DEATH):
            said(data, ignore_prefix)

    with _replaced(worker, {"print_to_stdstream": say}):
        yield


def refuses(address: str) -> bool:
    """Whether the cluster at host:port asks for another token than what Ray sends; False also if it doesn't say."""
    return _answer(address) == "UNAUTHENTICATED"


def is_silent(address: str) -> bool:
    """Whether nothing answers for the cluster at host:port, within five seconds."""
    return _answer(address) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def _answer(address: str) -> str:
    """How a cluster's head answers: by gRPC's name, `OK` also where there is no way to ask."""
    import grpc
    from ray._private import grpc_utils

    open_channel = getattr(grpc_utils, "init_grpc_channel", None)
    if open_channel is None:
        return "OK"
    with open_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_FIRST_QUESTION)(b"", timeout=_ANSWER_S)
        except grpc.RpcError as err:
            return str(err.code().name)
    return "OK"


def read_variables() -> None:
    """Have Ray read its variables of the environment once more, as when it is imported."""
    from ray import _raylet

    config = getattr(_raylet, "Config", None)
    if config is not None:
        config.initialize("")


def num_cores() -> int | None:
    """How many cores a cluster that this process starts may use, one at least; None to let Ray say.

    Ray counts the machine's, or those of a container's quota, of which half a core is none. Where a batch system,
    `taskset` or a set of cores of a container leaves this process fewer, it would have as many trials as the machine
    has cores share them.
    """
    from ray._private import utils

    counted = getattr(utils, "get_num_cpus", None)
    if counted is None or not hasattr(os, "sched_getaffinity"):
        return None
    return max(min(int(counted(override_docker_cpu_warning=True)), len(os.sched_getaffinity(0))), 1)


def dead_processes() -> list[str]:
    """What of the cluster that this process has started has died, by Ray's names; nothing of one that it has joined."""
    from ray._private import worker

    found: list[Any] = getattr(getattr(worker, "_global_node", None), "dead_processes", list)()
    return [f"{kind} ({process.returncode})" for kind, process in found]


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
