"""optuna-dashboard on a run, live: its pages are served from the log alone, and can change nothing."""

import json
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from results import Place, RunError
from results.errors import RunWarning
from results.follow import Follower
from search.errors import StudyError
from search.listening import is_loopback, listening, name_in, url
from search.optuna_view import STUDY_ID, RunStorage

_AT_ONCE = 2**16

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server(ThreadingMixIn, WSGIServer):
    """An HTTP server of a thread a request.

    Args:
        listener: Where it listens.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        address = listener.getsockname()
        super().__init__(address, _Quiet, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = address[:2]
        self.setup_environ()

    @property
    def url(self) -> str:
        """The page of the run."""
        return f"{url(self.socket)}/dashboard/studies/{STUDY_ID}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone away is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of requests."""


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
    with Server(listening(host, port)) as server:
        from optuna_dashboard import wsgi  # seconds, which no mistake has to wait for

        server.set_app(guarded(wsgi(storage), for_this_machine=is_loopback(str(server.server_name))))
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


def guarded(application: Application, *, for_this_machine: bool) -> Application:
    """Let only those requests through that read.

    Args:
        application: Of optuna-dashboard.
        for_this_machine: Whether it is for this machine alone. Then a request must call it by a name of this machine:
            else a page from elsewhere, whose name leads here, could read along.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = name_in(environ.get("HTTP_HOST", ""))
        if for_this_machine and not is_loopback(name):
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
