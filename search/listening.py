"""Where pages are served: an address of this machine, and the names that it may be called by."""

import errno
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from search.errors import UsageError

# Connections that wait to be taken while a server is busy.
_BACKLOG = 1024


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: A name or address of this machine.
        port: 0 for any free one.

    Raises:
        UsageError: It can't listen there.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
    except OSError as err:
        raise UsageError(_why_not(host, port, err)) from err
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as err:
        found.close()
        raise UsageError(_why_not(host, port, err)) from err
    return found


def url(listener: socket.socket) -> str:
    """The address of a page, without its path: http://127.0.0.1:8000."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(name: str) -> bool:
    """Whether a name or address of a host means this machine alone."""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def name_in(host: str) -> str:
    """The name in a request's header Host, which may have a port behind it."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host


def _why_not(host: str, port: int, err: OSError) -> str:
    if err.errno == errno.EADDRINUSE:
        return f"--port: must be one that is free, got {port}, which is in use; choose another, or 0 for any free one"
    return f"--host and --port: must be an address of this machine, got {host!r} and {port}: {err.strerror or err}"
