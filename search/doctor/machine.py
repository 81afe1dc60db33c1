"""Memory, files, ports and folders of this machine, beside what Ray wants of them (numbers: Ray 2.60)."""

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from search.doctor.finding import Finding, fault, ok, warning

_GIB = 2**30
# What the process of a trial of `quickstart` has to itself: 0.5 to 0.55 GiB (torch 2.15.0, two slots, 12 trials).
_TRIAL_GIB = 0.55
# Ray ends trials above this share of the memory, unless RAY_memory_usage_threshold says otherwise.
_MOST_USED = 0.95
# The store gets this share of what is available, no more than the first of these or the larger of the others.
_STORE_SHARE, _MOST_STORE, _SMALL_STORE, _SHM_SHARE = 0.3, 200 * 10**9, 10**10, 0.95
# `ray.init` warns below the first. Below the second Ray's own processes don't start: they did with 64, not with 40.
_ENOUGH_FILES, _LEAST_FILES = 4096, 64
# Raised by `ray.init` up to this, where the hard limit allows it.
_RAISED_FILES = 65_536
# Ray puts no objects on a disk that is fuller than that.
_MOST_FULL = 0.95
# `ray start --head`: where nodes join, where the dashboard and `submit` are, and where a node takes jobs.
PORTS = {6379: "joining", 8265: "dashboard", 52365: "jobs"}
# How Ray names a session's folder: with a time and the number of a process.
_SOCKET = "session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
_LONGEST_PID = 4_194_304  # Linux
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
# A container's limit, its use, and what of that is files that can be given back: cgroup's second version and first.
_CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


@dataclass(frozen=True)
class Memory:
    """The memory that Ray sees: the machine's, or its container's where that has less.

    Args:
        total: In bytes.
        used: In bytes; files that are only kept in case do not count.
    """

    total: int
    used: int


def findings(environment: Mapping[str, str]) -> list[Finding]:
    """All of this page.

    Args:
        environment: The variables that Ray would be started with.
    """
    here, ray = memory_here(), ray_folder(environment)
    return [
        memory(here, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, environment),
        shared_memory(here, Path("/dev/shm")),
        descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        ports(PORTS),
        temp(ray),
        temp_space(ray),
        socket_path(ray),
    ]


def memory_here(cgroup: Path = Path("/sys/fs/cgroup")) -> Memory:
    """The memory of this machine, or of the container that this process is in."""
    import psutil

    machine = psutil.virtual_memory()
    for limit, current, stat, reclaimable in _CGROUPS:
        with suppress(OSError, ValueError, KeyError):  # ValueError: no limit, which is written `max`
            total = int((cgroup / limit).read_text())
            if total < machine.total:
                kept = dict(line.split() for line in (cgroup / stat).read_text().splitlines())[reclaimable]
                return Memory(total, int((cgroup / current).read_text()) - int(kept))
    return Memory(machine.total, machine.total - machine.available)


def memory(here: Memory, num_cores: int, environment: Mapping[str, str]) -> Finding:
    """Whether trials have room before Ray ends them."""
    most = _number(environment.get("RAY_memory_usage_threshold"), _MOST_USED)
    room_gib = (most * here.total - here.used) / _GIB
    found = f"{here.used / _GIB:.1f} of {here.total / _GIB:.1f} GiB used; Ray ends trials at {most:.0%}"
    if room_gib < _TRIAL_GIB:
        return fault("memory", f"{found}, and one takes some {_TRIAL_GIB} GiB")
    if room_gib < _TRIAL_GIB * num_cores:
        return warning(
            "memory", f"{found}; {num_cores} at once, one a core, take some {_TRIAL_GIB * num_cores:.1f} GiB"
        )
    return ok("memory", found)


def shared_memory(here: Memory, shm: Path) -> Finding:
    """Whether Ray's object store fits into shared memory; else it lies on a disk, and is slow."""
    if sys.platform != "linux":
        return ok("shared-memory", "Ray uses none on this system")
    try:
        free = shutil.disk_usage(shm).free
    except OSError as err:
        return fault("shared-memory", f"{shm} must be there for Ray to start, got: {err.strerror}")
    wanted = object_store_bytes(here.total - here.used, free)
    found = f"{free / _GIB:.1f} GiB free in {shm}, and Ray's object store would take {wanted / _GIB:.1f}"
    return ok("shared-memory", found) if free >= wanted else warning("shared-memory", found)


def object_store_bytes(available: int, shm_free: int) -> int:
    """How large Ray makes the object store of a machine by itself.

    Args:
        available: Memory, in bytes.
        shm_free: What is free in /dev/shm, in bytes.
    """
    return int(min(_STORE_SHARE * available, _MOST_STORE, max(_SMALL_STORE, _SHM_SHARE * shm_free)))


def descriptors(soft: int, hard: int) -> Finding:
    """Whether a process may have enough files open, once Ray has raised the limit as far as it may."""
    soft, hard = (sys.maxsize if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))
    most = max(soft, min(hard, _RAISED_FILES))
    found = f"{most} files a process, and Ray wants {_ENOUGH_FILES} at least"
    if most < _LEAST_FILES:
        return fault("descriptors", found)
    return ok("descriptors", found) if most >= _ENOUGH_FILES else warning("descriptors", found)


def ports(wanted: Mapping[int, str]) -> Finding:
    """Whether the ports of a cluster that would be started here are free, or Ray's.

    Args:
        wanted: Ports, and what each is for.
    """
    import psutil

    try:
        listening = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ok("ports", "not looked at: this system tells only its administrator who holds them")
    holders = {c.laddr.port: c.pid for c in listening if c.status == psutil.CONN_LISTEN and c.laddr.port in wanted}
    said = {port: _holder(pid) for port, pid in sorted(holders.items())}
    found = ", ".join(f"{port} ({wanted[port]}) is held by {who}" for port, who in said.items())
    if all(who.startswith("Ray") for who in said.values()):
        return ok("ports", found or f"{', '.join(map(str, wanted))} are free")
    return warning("ports", found)


def _holder(pid: int | None) -> str:
    import psutil

    try:
        process = psutil.Process(pid) if pid else None
        if process is None:
            return "another user's process"
        words = process.cmdline()
        is_ray = process.name() == "gcs_server" or any(
            word.startswith("ray::") or "/ray/" in word for word in words[:3]
        )
        return f"{'Ray' if is_ray else process.name()}, process {pid}"
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return f"process {pid}"


def ray_folder(environment: Mapping[str, str]) -> Path:
    """Where Ray keeps its sessions and the note of its latest cluster."""
    return Path(environment.get("RAY_TMPDIR") or environment.get("TMPDIR") or "/tmp") / "ray"


def temp(folder: Path) -> Finding:
    """Whether Ray can make its folder, and write in it."""
    try:
        with tempfile.NamedTemporaryFile(dir=existing(folder)) as file:
            file.write(b"\0")
            file.flush()
    except OSError as err:
        return fault("temp", f"{str(folder)!r} must be a folder that can be made and written, got: {err.strerror}")
    return ok("temp", f"{folder} can be written")


def temp_space(folder: Path) -> Finding:
    """Whether the disk of Ray's folder has room, as Ray judges it."""
    try:
        disk = shutil.disk_usage(existing(folder))
    except OSError as err:
        return fault("temp-space", f"{str(folder)!r} can't be looked at: {err.strerror}")
    full = 1 - disk.free / disk.total
    found = f"{full:.0%} full, {disk.free / _GIB:.1f} GiB free; Ray puts no objects there above {_MOST_FULL:.0%}"
    return ok("temp-space", found) if full < _MOST_FULL else warning("temp-space", found)


def socket_path(folder: Path) -> Finding:
    """Whether Ray's sockets can have their paths."""
    length = len(os.fsencode(longest_socket(folder)))
    found = f"up to {length} bytes in {folder}, and the system allows {_LONGEST_SOCKET}"
    return ok("socket-path", found) if length <= _LONGEST_SOCKET else fault("socket-path", found)


def longest_socket(folder: Path) -> Path:
    """The longest path that a socket of Ray's may have."""
    return folder / _SOCKET.format(pid=_LONGEST_PID)


def existing(path: Path) -> Path:
    """The path, or the nearest above it that is there: where it would be made."""
    return next(above for above in (path.absolute(), *path.absolute().parents) if os.path.lexists(above))


def _number(text: str | None, otherwise: float) -> float:
    with suppress(TypeError, ValueError):
        return float(text)  # type: ignore[arg-type]
    return otherwise
