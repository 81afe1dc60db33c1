"""The web application on a cluster: processes that answer, and an address in front of them, by Ray Serve."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster import connect
from results import Place
from search.errors import StudyFailed, UsageError
from search.listening import is_loopback, listening, url
from search.serve.server import names_of, served

if TYPE_CHECKING:
    from search.serve.app import Served

# A replica computes what came meanwhile as one batch: Ray's own five at once would keep batches small.
_AT_ONCE = 256
_WAITING = 1024


@dataclass(frozen=True)
class ServingOnRay:
    """An application that Ray Serve answers for, until the block is left that it was started in.

    Args:
        served: The model.
        url: The address of the page to draw on, without its path.
    """

    served: "Served"
    url: str

    def run(self) -> None:
        """Wait for Ctrl-C or SIGTERM, which is raised."""
        threading.Event().wait()


@contextmanager
def serving_on_ray(run: Place, host: str, port: int, address: str | None, replicas: int) -> Iterator[ServingOnRay]:
    """Start replicas of the application on a cluster, and an HTTP server on its head; both end with the block.

    Args:
        run: A run directory, or a model folder; read here, and sent to the replicas.
        host: The address to listen on, of the cluster's head.
        port: Of the head; 0 for any free one where the cluster is one of our own.
        address: Of the cluster, as for `cluster.connect.connected`; by default one of our own.
        replicas: How many processes answer.

    Raises:
        ModelError: There is no model that reads images.
        UsageError: It can't listen there, Ray Serve is at work there already, or the replicas do not fit.
        ClusterError: There is no cluster.
        StudyFailed: Ray Serve could not start them.
    """
    found = served(run)
    host, port, names = _address(host, port, address)
    with connect.connected(address) as cluster:
        _check_room(replicas)
        from ray import serve

        for name in ("ray", "ray.serve"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if serve.status().proxies:
            raise UsageError(
                "--ray: Ray Serve must not be at work on that cluster yet, but it is; `serve shutdown` there"
            )
        try:
            serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "ERROR"})
            serve.run(_deployment(found, names, replicas), name="digitsearch", logging_config={"log_level": "ERROR"})
            yield ServingOnRay(found, f"http://{_head() if cluster.is_joined else host}:{port}")
        except RuntimeError as err:
            raise StudyFailed(f"Ray Serve could not start the replicas: {str(err).splitlines()[0]}") from err
        finally:
            if cluster.is_joined:  # a cluster of our own ends as a whole
                serve.shutdown()


def _address(host: str, port: int, address: str | None) -> tuple[str, int, list[str] | None]:
    """Where the head is to listen, and the names that it may be called by."""
    if address and not port:
        raise UsageError("--port: must be named with --address, got 0: a free one of another machine can't be found")
    if address:
        return host, port, [host, "localhost"] if is_loopback(host) else None
    # Ray Serve says of a port that is taken only in its log.
    with listening(host, port) as listener:
        return listener.getsockname()[0], int(url(listener).rpartition(":")[2]), names_of(listener)


def _check_room(replicas: int) -> None:
    room = connect.num_fitting({"CPU": 1})
    if replicas > room:
        raise UsageError(f"--replicas: must be at most {room}, the free cores of the cluster, got {replicas}")


def _head() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address).rpartition(":")[0]


class _Replica:
    """One of the processes that answer."""

    def __init__(self, served: "Served", names: list[str] | None) -> None:
        self._served = served
        self._names = names

    def __serve_build_asgi_app__(self) -> Any:
        # The name by which Ray Serve asks for the application, once the replica is where it is to run.
        from search.serve.app import application

        return application(self._served, self._names)


def _deployment(found: "Served", names: list[str] | None, replicas: int) -> Any:
    from ray import serve

    deployment = serve.deployment(
        serve.ingress()(_Replica),
        name="replica",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=_AT_ONCE,
        max_queued_requests=_WAITING,
    )
    return deployment.bind(found, names)
