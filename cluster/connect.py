"""Where a study runs: a cluster that is there, or a private one on this machine."""

import gc
import ipaddress
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from cluster import token
from cluster.errors import ClusterError, ClusterWarning
from cluster.forkserver import forkserver
from cluster.head import watched
from cluster.imports import as_if_missing, import_meanwhile, no_collection
from cluster.ray_internals import deaths_unsaid, fewer_processes, latest_started, num_cores, own_handler

# Read by Ray Tune in the driver and its workers. Tune's own records are scratch here: no loggers (five files a
# trial), no snapshots of its state while it runs, no change of folder, no handler for Ctrl-C.
_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Slots start side by side, not one after the other; how many there are is `search.dispatch`'s to say.
    "TUNE_MAX_PENDING_TRIALS_PG": "64",
    # A new process a GPU share would cost seconds a trial; the devices that Ray assigns stay as they are.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray Train would print twice what one of several workers prints.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}

# What Ray, and threadpoolctl, set as they start, which is the same where it is there before them.
_SET_BY_RAY = {
    "RAY_CLIENT_MODE": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONBREAKPOINT": "",
    "KMP_DUPLICATE_LIB_OK": "True",
}

_FROM_OUTSIDE = "from outside of the cluster, send a job: digitsearch submit STUDY --address http://HEAD:8265"
_ANSWER_S = 5.0
_TOO_SLOW = "timed out during startup"  # Ray's words (2.60)
# Makes a cluster of our own listen on loopback alone. Ray reads it as it is imported, and nowhere offers it otherwise:
# `_node_ip_address="127.0.0.1"` is turned into the machine's own address (2.60).
_ON_LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# So Ray has it of a cluster that it starts; it reads it as it is imported, too.
_WITH_A_TOKEN = ("RAY_AUTH_MODE", "token")
_OWN_SETTINGS = {
    # Ray starts a process for each core before it is asked for one. None of these can become a slot, which Tune wants
    # with variables of its own: they would import Ray beside those that do, and end (2.60).
    "prestart_worker_first_driver": False,
    # Ray's workers give way to whatever else a machine does, 28 to 1: a search beside two busy programs on two cores
    # took 67 s instead of 17. Who wants that types `nice digitsearch run`.
    "worker_niceness": 0,
}
# Ray's own processes die of these, and half a minute later it says that it came to nothing (2.60).
_NOT_WITH = {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"}
# Ray imports it to see whether packages for its dashboard are installed: a second of a core before Ray's own processes
# start, for what a cluster of our own is started without (2.60).
_FOR_THE_DASHBOARD = "ray.dashboard.optional_deps"
# What Ray and Tune import besides themselves that takes long, for the forkserver (2.60).
_ALSO_PRELOADED = ("pandas", "jsonschema", "requests")


class Cluster(NamedTuple):
    """What has been joined.

    Args:
        is_joined: Whether it was there, with Ray's dashboard and metrics, and is not one of our own.
        python: What is typed to have a Python that has imported `preload`, if one is forked here; else it is Python.
    """

    is_joined: bool
    python: Sequence[str]


def settle_environment(address: str | None = None) -> None:
    """Set the variables that Ray is to have, and those that it sets, before any thread begins that goes on beside it.

    C adds a variable to the environment by moving all of it (until glibc 2.41), and a thread that reads one at that
    moment, as PyTorch does in its first step, may take the process along.

    Args:
        address: As for `connected`.
    """
    os.environ.update(_TUNE_SETTINGS)
    for name, value in _SET_BY_RAY.items():
        os.environ.setdefault(name, value)
    if meant(address) == "local" and "ray" not in sys.modules:
        os.environ.setdefault(*_ON_LOOPBACK)
        os.environ.setdefault(*_WITH_A_TOKEN)
        token.have_one()


def meant(address: str | None) -> str:
    """The address that is joined; `local` for a cluster of our own."""
    return address or os.environ.get("RAY_ADDRESS") or "local"


@contextmanager
def connected(
    address: str | None = None,
    imported: Callable[[], None] = lambda: None,
    *,
    meanwhile: Sequence[str] = (),
    preload: Sequence[str] = (),
    num_threads: int = 1,
) -> Iterator[Cluster]:
    """Join a cluster for the time of the block; without an address, one of our own on this machine.

    Args:
        address: As for `ray.init`; the environment's RAY_ADDRESS is the default.
        imported: Called once Ray has been imported, and before the longer part, joining or starting a cluster.
        meanwhile: Modules that are imported while it starts or is joined; they may import Ray.
        preload: Modules that the trials import, and that need not be imported by each of a cluster's workers that is
            our own: see `forkserver`.
        num_threads: Of each of these workers.

    Raises:
        ClusterError: There is no cluster at the address, or none can be started on this machine; or this process has
            joined another one already, or this one from outside.
    """
    named = address
    settle_environment(address)
    # What Ray and Tune would log as an error is told by the one message of ours that says what became of it.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    address = meant(address)
    check_answers(address)
    # Ray is imported while the forkserver imports what it is to, not before.
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        imported()
        _check_joined(named)
        # Of a search that was broken off here Tune's slots hold their places until nothing refers to them any more.
        gc.collect()
        with watched(_head()):
            yield Cluster(address != "local", [sys.executable])
        return
    preload = [*preload, *_ALSO_PRELOADED] if preload and address == "local" else ()
    with forkserver(preload, num_threads) as python, _joined(address, imported, meanwhile, python):
        yield Cluster(address != "local", shlex.split(python) if python else [sys.executable])


@contextmanager
def _joined(address: str, imported: Callable[[], None], meanwhile: Sequence[str], python: str | None) -> Iterator[None]:
    with no_collection():
        import ray

    imported()
    if address == "local":
        _check_it_can_start()
    else:
        token.send_where_asked(_started_here() if address == "auto" else address)
    # A cluster that is joined was started without the settings: its workers get them with this job.
    options: dict[str, Any] = {"runtime_env": {"env_vars": _TUNE_SETTINGS}}
    if address == "local":
        options = {"include_dashboard": False, "_system_config": _OWN_SETTINGS, "num_cpus": num_cores()}
        if python:
            options["runtime_env"] = {"py_executable": python}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with ExitStack() as stack:
            stack.enter_context(no_collection())
            stack.enter_context(own_handler())
            if address == "local":
                stack.enter_context(as_if_missing(_FOR_THE_DASHBOARD))
                stack.enter_context(fewer_processes())
            # What fails there fails again, and is told, where it is used.
            stack.enter_context(ThreadPoolExecutor(1)).submit(import_meanwhile, meanwhile)
            joined = ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except ray.exceptions.AuthenticationError as err:  # its text is long, and may tell where a token lies
        raise ClusterError(token.must_be_given(address)) from err
    except (OSError, ValueError, RuntimeError) as err:
        raise ClusterError(_unreachable(address, err)) from err
    except Exception as err:  # by no other type is it told that a cluster of our own did not come up
        if _TOO_SLOW not in str(err):
            raise
        raise ClusterError(
            "Ray must start on this machine within half a minute, got no sign of life; when the machine is less busy, "
            "type the same again (digitsearch doctor looks for other reasons)"
        ) from err
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)  # should a Ray of another version have put one of its own in its place
    if address != "local":
        _warn_if_open(_head())
    # Whether a cluster of our own is alive a search sees by its processes.
    with deaths_unsaid(), watched(_head()) if address != "local" else nullcontext():
        try:
            yield
        finally:
            ray.shutdown()
    if address == "local":
        # Ray keeps the logs of every cluster that there was; what trials have printed is in the run's own.
        shutil.rmtree(joined.address_info["session_dir"], ignore_errors=True)


def _head() -> str:
    """Where the joined cluster's own service is, as host:port."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _warn_if_open(address: str) -> None:
    """Warn of a cluster that others on the network can join as we did: with no token."""
    host = address.rpartition(":")[0].strip("[]")
    if os.environ.get("RAY_AUTH_MODE") != "token" and not host.startswith("127.") and host not in ("localhost", "::1"):
        warnings.warn(
            f"the cluster at {address} was joined without a token, so whoever reaches it can run what they like there; "
            "start it with RAY_AUTH_MODE=token and a token in ~/.ray/auth_token on each node",
            category=ClusterWarning,
            stacklevel=4,
        )


def _check_joined(named: str | None) -> None:
    """Raise ClusterError if what this process has joined is not what was named, or can't be driven from it."""
    from ray.util.client import ray as client

    if client.is_connected():  # it hands what it is given to another process
        raise ClusterError(
            "a search must be driven by a process of the cluster, got one that ray.init has connected from outside, by "
            f"Ray Client; {_FROM_OUTSIDE}"
        )
    if named and named not in ("auto", "local") and not _are_one(named, _head()):
        raise ClusterError(
            f"the address must be that of the cluster which this process has joined by ray.init, {_head()}, got "
            f"{named!r}; leave it out, or ray.shutdown() first"
        )


def _are_one(address: str, joined: str) -> bool:
    """Whether two addresses, each host:port, may be one; by name, or of this machine, a host has several."""
    (host, _, port), (other, _, other_port) = address.rpartition(":"), joined.rpartition(":")
    ours, theirs = _resolved(host), _resolved(other)
    is_here = any(one.is_loopback for one in ours | theirs)
    return port == other_port and (is_here or bool(ours & theirs))


def _resolved(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found}


def check_answers(address: str) -> None:
    """Raise ClusterError if nobody listens at host:port; Ray itself would go on trying for minutes."""
    if address.startswith(("ray://", "http://", "https://")):
        raise ClusterError(f"a cluster's address must be host:port of its head, got {address!r}; {_FROM_OUTSIDE}")
    host, sign, port = address.rpartition(":")
    if not sign or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, ValueError) as err:
        raise ClusterError(_unreachable(address, err)) from err


def _check_it_can_start() -> None:
    """Raise ClusterError if the environment has what Ray's own processes do not bear."""
    for name, value in _NOT_WITH.items():
        if os.environ.get(name) == value:
            raise ClusterError(f"{name} must not be {value!r}, with which Ray does not start; unset it")


def _started_here() -> str:
    """The host:port of the cluster that others may join on this machine; ClusterError if none runs."""
    found = latest_started()
    if found is None:
        must = "a Ray cluster must have been started on this machine for the address 'auto', got none"
        raise ClusterError(f"{must}; start one (ray start --head), or leave the address out to run without")
    check_answers(found)
    return found


def _unreachable(address: str, err: Exception) -> str:
    if address == "local":
        return f"Ray must start on this machine, got: {err}; digitsearch doctor looks for reasons"
    return f"a Ray cluster must be reachable at {address!r}, got: {err}; leave the address out to run on this machine"


@dataclass(frozen=True)
class Node:
    """A node of the joined cluster.

    Args:
        address: Of the node, without a port.
        resources: What it was started with, by Ray's names.
        num_workers: How many workers of a trial fit on it at once.
    """

    address: str
    resources: Mapping[str, float]
    num_workers: int


def nodes(asked: Mapping[str, float]) -> list[Node]:
    """The nodes of the joined cluster that are alive.

    Args:
        asked: What each worker of a trial asks for, by Ray's names: CPU, GPU, and what nodes were started with besides.
    """
    import ray

    alive = [(node["NodeManagerAddress"], node["Resources"]) for node in ray.nodes() if node["Alive"]]
    return [Node(address, has, min(_times(has.get(name, 0), asked[name]) for name in asked)) for address, has in alive]


def num_fitting(asked: Mapping[str, float], *, workers: int = 1, wait: bool = False) -> int:
    """How many trials the joined cluster can run at once.

    Args:
        asked: As for `nodes`.
        workers: Of a trial, on one node or several.
        wait: Whether a node that could run one may come later; then there is one at least.

    Raises:
        ClusterError: No node could run one, and none is waited for.
    """
    found = nodes(asked)
    count = sum(node.num_workers for node in found) // workers
    if count or wait:
        return max(count, 1)
    names = list(dict.fromkeys(["CPU", "GPU", *asked]))
    has = "; ".join(listed({name: node.resources.get(name, 0) for name in names}) for node in found)
    needed = f"a node must have {listed(asked)} for one trial"
    if workers > 1:
        needed = f"nodes must have {listed(asked)} for each of a trial's {workers} workers"
    keys = [*(f"resources.{_key(name)}" for name in asked), *(["resources.workers"] if workers > 1 else [])]
    raise ClusterError(f"resources: {needed}, got {has}; lower {' or '.join(keys)}, or --wait for a node that joins")


def listed(amounts: Mapping[str, float]) -> str:
    """Resources as a message names them: 1 CPU and 0.25 GPU."""
    return " and ".join(f"{amount:g} {name}" for name, amount in amounts.items())


def _key(name: str) -> str:
    return name.lower() if name in ("CPU", "GPU") else f"custom.{name}"


def _times(there: float, asked: float) -> int:
    return int(there / asked + 1e-9)  # three thirds of a GPU are one
