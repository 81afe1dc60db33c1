"""Ray on this machine and where it is named: clusters that run, notes of those that are gone, and the token."""

import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cluster.connect import check_answers
from cluster.errors import ClusterError
from cluster.ray_internals import is_private
from cluster.token import Token, token
from search.doctor.finding import Finding, fault, ok, some, warning

_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
_SERVERS = ("raylet", "gcs_server")
_NOTE = "ray_current_cluster"
_LISTENS_S = 1.0
_WEB = {"http": 80, "https": 443}
_MODES = ("token", "disabled")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster with processes on this machine.

    Args:
        session: Ray's name of it, which ends with the process that began it.
        processes: Name and id of each of its servers here.
        address: Of its head, host:port; None where no process here tells it.
        driven: Whether the process that began it is still there, as that of a search is.
    """

    session: str
    processes: Mapping[str, int]
    address: str | None
    driven: bool

    def __str__(self) -> str:
        servers = ", ".join(f"{name} {pid}" for name, pid in self.processes.items())
        return f"at {self.address or 'an unknown address'} (process {servers})"


def findings(address: str | None, environment: Mapping[str, str], note: Path) -> list[Finding]:
    """All of this page.

    Args:
        address: Of a cluster, as it was typed.
        environment: The variables that a search would be started with.
        note: The folder where Ray notes its latest cluster.
    """
    named, here, noted, token_ = (
        named_address(address, environment),
        clusters(),
        noted_address(note),
        token(environment),
    )
    return [
        reachable(named, here, noted),
        leftover(here, noted, named),
        stale(note / _NOTE, noted, here),
        token_state(token_, named),
        token_open(token_),
    ]


def named_address(address: str | None, environment: Mapping[str, str]) -> str | None:
    """Where a cluster is said to be; None for a private one on this machine."""
    said = address or next((environment[name] for name in _VARIABLES if environment.get(name)), None)
    return None if said == "local" else said


def clusters() -> list[Cluster]:
    """The clusters that have a server process on this machine that we may see."""
    import psutil

    found: dict[str, list[tuple[str, int, int, dict[str, str]]]] = {}
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        words = process.info["cmdline"] or [""]
        name = os.path.basename(words[0])
        flags = dict(
            word.removeprefix("--").split("=", 1) for word in words[1:] if word.startswith("--") and "=" in word
        )
        if name in _SERVERS and "session-name" in flags:
            server = (name, process.info["pid"], process.info["ppid"], flags)
            found.setdefault(flags["session-name"], []).append(server)
    return [_cluster(session, servers) for session, servers in sorted(found.items())]


def _cluster(session: str, servers: Sequence[tuple[str, int, int, dict[str, str]]]) -> Cluster:
    beginner = session.rpartition("_")[2]
    return Cluster(
        session,
        {name: pid for name, pid, _, _ in servers},
        next((flags["gcs-address"] for _, _, _, flags in servers if flags.get("gcs-address")), None),
        any(str(parent) == beginner for _, _, parent, _ in servers),
    )


def noted_address(folder: Path) -> str | None:
    """The cluster that `ray.init()` joins when no address is given: the latest of `ray start`, as Ray noted it."""
    try:
        return (folder / _NOTE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def reachable(named: str | None, here: Sequence[Cluster], noted: str | None) -> Finding:
    """Whether a cluster answers at the address that is named."""
    if named is None:
        return ok("address", "none is named: a search runs on a private cluster of its own")
    if named == "auto":
        running = [one for one in here if one.address and (one.address == noted or not is_private(one.address))]
        if not running:
            return fault("address", "'auto' needs a cluster that was started on this machine, got none")
        return ok("address", f"'auto', and one runs {running[0]}")
    try:
        _ask(named)
    except ClusterError as err:
        return fault("address", str(err))
    return ok("address", f"{named} answers")


def _ask(named: str) -> None:
    """Raise ClusterError unless a cluster answers."""
    try:
        url = urlsplit(named)
        port = url.port or _WEB.get(url.scheme)
    except ValueError as err:
        raise ClusterError(f"a cluster's address must be host:port or http://host:port, got {named!r}: {err}") from err
    if url.scheme not in _WEB or not url.hostname:
        check_answers(named)
        if not re.search(r":\d+$", named):
            raise ClusterError(f"a cluster's address must be host:port or http://host:port, got {named!r}")
        return
    check_answers(f"{url.hostname}:{port}")
    from cluster.jobs import jobs_at

    jobs_at(named)


def leftover(here: Sequence[Cluster], noted: str | None, named: str | None) -> Finding:
    """Whether a cluster runs here that is neither named nor a living process's own."""
    wanted = noted if named == "auto" else named
    left = [cluster for cluster in here if not cluster.driven or (noted and cluster.address == noted)]
    unnamed = [str(cluster) for cluster in left if not wanted or cluster.address != wanted]
    if unnamed:
        return warning("leftover", f"a Ray cluster runs {some(unnamed)}")
    others = len(here) - len(left)
    return ok("leftover", f"none, beside {others} of searches or programs that run" if others else "none")


def stale(note: Path, noted: str | None, here: Sequence[Cluster]) -> Finding:
    """Whether the note that Ray keeps is of a cluster that still is."""
    if noted is None:
        return ok("stale", f"no note in {note}")
    if any(cluster.address == noted for cluster in here) or _listens(noted):
        return ok("stale", f"{note} names {noted}, which runs")
    return warning("stale", f"{note} names {noted}, where nobody listens")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENS_S).close()
    except (OSError, ValueError):
        return False
    return True


def token_state(here: Token, named: str | None) -> Finding:
    """Whether a cluster would be given the token that it asks for."""
    mode = here.mode.lower() if here.mode else None
    if mode not in (None, *_MODES):
        return fault(
            "token", f"RAY_AUTH_MODE must be token or disabled, got {here.mode!r}, which Ray takes for disabled"
        )
    if here.trouble:
        return fault("token", here.trouble)
    said = f"RAY_AUTH_MODE is {mode or 'not set'}, " + (f"a token is in {here.source}" if here.source else "no token")
    if named and mode == "token" and not here.source:
        return fault("token", f"{said}, and a cluster is named")
    if mode is None and here.source:
        said += ", which a cluster that asks for one is sent"
    return ok("token", said)


def token_open(here: Token) -> Finding:
    """Whether the file with the token is this user's alone."""
    if here.file is None:
        return ok("token-open", "no file with a token")
    mode = stat.S_IMODE(here.file.stat().st_mode)
    found = f"{here.file} has mode {mode:o}"
    return warning("token-open", found) if mode & 0o077 else ok("token-open", found)
