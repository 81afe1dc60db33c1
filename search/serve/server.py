"""The web application on one machine, by uvicorn."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results import Place
from search.environment import installed_version
from search.listening import is_loopback, listening, url
from search.reading import model_folder

if TYPE_CHECKING:
    from search.serve.app import Served

# What is being answered when the end comes may be answered still.
_GRACE_S = 5


@dataclass(frozen=True)
class Serving:
    """A server that listens, and answers from `run` on.

    Args:
        served: The model.
        listener: Where it listens.
    """

    served: "Served"
    listener: socket.socket

    @property
    def url(self) -> str:
        """The address of the page to draw on, without its path."""
        return url(self.listener)

    def run(self) -> None:
        """Answer until Ctrl-C or SIGTERM, which is raised then as without a server."""
        import uvicorn

        from search.serve.app import application

        config = uvicorn.Config(
            application(self.served, names_of(self.listener)),
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        uvicorn.Server(config).run(sockets=[self.listener])


@contextmanager
def serving(run: Place, host: str, port: int) -> Iterator[Serving]:
    """Load the winner of a run and listen; call `run` of what is yielded.

    Args:
        run: A run directory, or a model folder.
        host: The address to listen on; on a loopback one, nobody is answered who calls it by another name.
        port: 0 for any free one.

    Raises:
        ModelError: There is no model that reads images.
        UsageError: It can't listen there.
    """
    with listening(host, port) as listener:  # first: of a port that is taken one wants to know before a model is loaded
        yield Serving(served(run), listener)


def served(run: Place) -> "Served":
    """The winner of a run, or the model of a folder, as the application wants it.

    Raises:
        ModelError: There is no model that reads images.
    """
    from search.serve.app import Served
    from trainables import model

    with model_folder(run) as folder:
        return Served(model.load(folder), str(run), model.read_metrics(folder), installed_version("digitsearch"))


def names_of(listener: socket.socket) -> list[str] | None:
    """The names that a server may be called by: of this machine where it is for this machine alone, else any."""
    address = listener.getsockname()[0]
    return ["127.0.0.1", "localhost", "::1", address] if is_loopback(address) else None
