"""A real S3 server (moto's) on loopback in a process of its own, with faults: `python s3_server.py PORT SHARE SEED`.

SHARE of the requests go wrong by turns of chance: answered late, answered 500 or 503, not answered at all (before or
after they have been done), or cut off in the middle of the answer. It prints a line when it listens, then one a fault,
and ends with the process that started it.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

FAULTS = ("late", "500", "503", "unanswered before", "unanswered after", "cut")
_LATE_S = 0.7


class Faulty:
    """A WSGI application that hands most requests on to another."""

    def __init__(self, application: Callable[..., Iterable[bytes]], share: float, seed: int) -> None:
        self._application = application
        self._share = share
        self._generator = random.Random(seed)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        fault = self._generator.choice(FAULTS) if self._generator.random() < self._share else None
        if fault:
            print(f"fault {fault}: {environ['REQUEST_METHOD']} {environ['PATH_INFO']}", flush=True)
        if fault in ("500", "503"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{fault} Fault", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>a fault</Message></Error>"]
        if fault == "late":
            time.sleep(_LATE_S)
        if fault == "unanswered before":
            return _cut(environ, b"")
        answer = self._application(environ, start_response)
        if fault == "unanswered after":
            return _cut(environ, b"")
        return _cut(environ, b"".join(answer)) if fault == "cut" else answer


def _cut(environ: dict[str, Any], answer: bytes) -> Iterator[bytes]:
    if answer:
        yield answer[: len(answer) // 2]
    environ["werkzeug.socket"].shutdown(2)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *arguments: Any) -> None:
        pass


def main(port: int, share: float, seed: int) -> None:
    """Serve until the process that started this one is gone."""
    application = Faulty(DomainDispatcherApplication(create_backend_app), share, seed)
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=_Quiet)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    print(f"listens on {server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
