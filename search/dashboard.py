"""optuna-dashboard on a run, live: its pages are served from the log alone, and can change nothing."""

import errno
import json
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from results import Place, RunError
from results.errors import RunWarning
from results.follow import Follower
from search.errors import StudyError, UsageError
from search.optuna_view import STUDY_ID, RunStorage

_AT_ONCE = 2**16

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server(ThreadingMixIn, WSGIServer):
    """An HTTP server of a thread a request.

    Args:
        host: To listen on.
        port: 0 for any free one.

    Raises:
        UsageError: It can't listen there.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Quiet)
        except OSError as err:
            raise UsageError(_why_not(host, port, err)) from err

    @property
    def url(self) -> str:
        """The page of the run."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/dashboard/studies/{STUDY_ID}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone away is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of requests."""


def _why_not(host: str, port: int, err: OSError) -> str:
    if err.errno == errno.EADDRINUSE:
        return f"--port: must be one that is free, got {port}, which is in use; choose another, or 0 for any free one"
    return f"--host and --port: must be an address of this machine, got {host!r} and {port}: {err.strerror or err}"


@contextmanager
def dashboard(place: Place, host: str, port: int) -> Iterator[Server]:
    """A server, already listening, whose pages show a run and follow it; call its `serve_forever`.

    Args:
        place: Of the run.
        host: The address to listen on; on a loopback one, nobody is answered who calls it by another name.
        port: 0 for any free one.

    Raises:
        RunError: It is no run directory, or its log is damaged.
        StorageError: Shared storage can't be read.
        UsageError: It can't listen there.
    """
    follower = Follower(place)
    storage = RunStorage(follower.run, place)
    over = threading.Event()
    with Server(host, port) as server:
        from optuna_dashboard import wsgi  # seconds, which no mistake has to wait for

        server.set_app(guarded(wsgi(storage), is_loopback=_is_loopback(str(server.server_address[0]))))
        thread = threading.Thread(target=_follow, args=(follower, storage.take_in, over), name="follow", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            over.set()


def _follow(follower: Follower, take_in: Callable[[Iterable[Any]], None], over: threading.Event) -> None:
    """Keep a view up to date, also of a run that has ended: it may be resumed."""
    while not over.wait(follower.pause_s):
        try:
            take_in(follower.new())
        except OSError as err:
            warnings.warn(f"{err}; the pages show what was read before", category=RunWarning, stacklevel=1)
        except (RunError, StudyError) as err:
            warnings.warn(f"{err}; the pages stay as they are", category=RunWarning, stacklevel=1)
            return


def guarded(application: Application, *, is_loopback: bool) -> Application:
    """Let only those requests through that read.

    Args:
        application: Of optuna-dashboard.
        is_loopback: Whether it is for this machine alone. Then a request must call it by a name of this machine: else
            a page from elsewhere, whose name leads here, could read along.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = _host_name(environ.get("HTTP_HOST", ""))
        if is_loopback and not _is_loopback(name):
            reason = f"Host must be a name of this machine, like 127.0.0.1, got {name!r}"
            return _refused(environ, start_response, "403 Forbidden", reason)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            reason = "a run is changed by its search alone: these pages show it, and change nothing"
            return _refused(environ, start_response, "405 Method Not Allowed", reason)
        return application(environ, start_response)

    return answer


def _refused(environ: dict[str, Any], start_response: Callable[..., Any], status: str, reason: str) -> Iterable[bytes]:
    # What was sent along is read first: else a browser may never see the answer.
    size = environ.get("CONTENT_LENGTH") or "0"
    left = int(size) if size.isdigit() else 0
    while left and (read := len(environ["wsgi.input"].read(min(left, _AT_ONCE)))):
        left -= read
    # As optuna-dashboard's own pages expect to be told.
    body = json.dumps({"reason": reason}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Allow", "GET, HEAD")]
    start_response(status, headers)
    return [body]


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
