"""A Ray cluster's jobs: sent, listed, followed and stopped over HTTP, at the address of its dashboard."""

import asyncio
import logging
import os
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cluster import token
from cluster.connect import check_answers
from cluster.errors import ClusterError
from cluster.packing import check_size

# A driver that is told to stop has its running trials write a checkpoint first; Ray would kill it after 3 s.
_STOP_WAIT_S = 30
_START_S = 30.0
_POLL_S = 0.5
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
# They tell of each file that they leave out.
_CHATTY = (
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
# In the environment of whatever runs inside of a job (Ray 2.60).
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class JobClient(Protocol):
    """What is used of `ray.job_submission.JobSubmissionClient`."""

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: Any, metadata: Any) -> str: ...
    def list_jobs(self) -> list[Any]: ...
    def get_job_info(self, job_id: str) -> Any: ...
    def get_job_logs(self, job_id: str) -> str: ...
    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]: ...
    def stop_job(self, job_id: str) -> bool: ...


@dataclass(frozen=True)
class Job:
    """One job as the cluster tells of it.

    Args:
        id: Its submission id.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        command: What it runs.
        message: What Ray says of it.
        study: The name of the study, if `submit` sent it.
        run_directory: Where the study's run lies, if `submit` sent it.
        exit_code: Of the command; None until it has ended by itself.
        started_at: When it was begun.
        ended_at: When it ended.
    """

    id: str
    status: str
    command: str
    message: str
    study: str | None
    run_directory: str | None
    exit_code: int | None
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def said(self) -> str:
        """The first line of the message: of a failed job the rest is a traceback, or what it printed."""
        return self.message.strip().partition("\n")[0]

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _ENDED


class Jobs:
    """The jobs of one cluster.

    Every method raises ClusterError where the cluster does not answer, refuses the token, or knows no such job.

    Args:
        client: Ray's, or one like it.
        address: The client's, for messages.
    """

    def __init__(self, client: JobClient, address: str) -> None:
        self._client = client
        self._address = address

    def submit(
        self, words: Sequence[str], folder: Path, *, packages: Sequence[Path], study: str, run_directory: str
    ) -> str:
        """Send a folder and have `python -m search` run in it.

        Args:
            words: What follows `python -m search`.
            folder: Sent as it is, less what its ignore files leave out; its size is checked first.
            packages: Folders of Python packages to send besides.
            study: The study's name, kept with the job.
            run_directory: Where its run will lie, kept with the job.

        Returns:
            The job's id.
        """
        check_size(folder)
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S)}
        environment: dict[str, Any] = {"working_dir": str(folder), "env_vars": variables}
        if packages:  # Ray takes no empty list
            environment["py_modules"] = list(map(str, packages))
        with self._asked():
            return self._as_soon_as_it_is_up(
                entrypoint=shlex.join(["python", "-m", "search", *words]),
                submission_id=f"{study}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
                runtime_env=environment,
                metadata={"study": study, "run_directory": run_directory},
            )

    def _as_soon_as_it_is_up(self, **job: Any) -> str:
        """Submit; a cluster that has just been started takes jobs some seconds later."""
        deadline = time.monotonic() + _START_S
        while True:
            try:
                return self._client.submit_job(**job)
            except RuntimeError as err:
                if "No available agent" not in str(err) or time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_S)

    def all(self) -> list[Job]:
        """All jobs that were submitted to the cluster, oldest first."""
        with self._asked():
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.started_at is None, job.started_at, job.id))

    def get(self, job_id: str) -> Job:
        """One job."""
        with self._asked(job_id):
            return _job(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """All that a job has printed so far."""
        self.get(job_id)
        with self._asked(job_id):
            return self._client.get_job_logs(job_id)

    def follow(self, job_id: str, write: Callable[[str], object]) -> Job:
        """Hand on what a job prints until it has ended.

        Returns:
            The job as it ended.
        """

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job_id):
                write(text)

        self.get(job_id)
        with self._asked(job_id):
            asyncio.run(tail())
        return self._when_ended(job_id, _STOP_WAIT_S)

    def stop(self, job_id: str) -> Job:
        """Have a job end in good order, and wait for that.

        Returns:
            The job; it had ended before, or it could be told to stop and has ended now, unless that takes too long.
        """
        if self.get(job_id).ended:
            return self.get(job_id)
        with self._asked(job_id):
            self._client.stop_job(job_id)
        return self._when_ended(job_id, _STOP_WAIT_S + 10)

    def _when_ended(self, job_id: str, most_s: float) -> Job:
        deadline = time.monotonic() + most_s
        while not (job := self.get(job_id)).ended and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return job

    @contextmanager
    def _asked(self, job_id: str | None = None) -> Iterator[None]:
        with _explained(self._address):
            try:
                yield
            except RuntimeError as err:
                if job_id and "status code 404" in str(err):
                    known = ", ".join(job.id for job in self.all()[-5:]) or "none"
                    raise ClusterError(f"unknown job {job_id!r} at {self._address!r}; the latest are: {known}") from err
                raise


def jobs_at(address: str | None) -> Jobs:
    """The jobs of the cluster whose dashboard is at an address.

    Args:
        address: Like http://head:8265; None is RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else this machine's cluster.

    Raises:
        ClusterError: Nobody answers there, the token is refused, or the cluster has another version of Ray.
    """
    said = address or named_address() or "http://127.0.0.1:8265"
    if address and "://" not in address:
        said = f"http://{address}"
    if "://" not in said:
        check_answers(said)  # Ray itself would go on trying for minutes
    elif said.partition("://")[0] not in ("http", "https", "ray") or not _host(said):
        raise ClusterError(f"a cluster's address must be like http://head:8265, got {said!r}")
    with _explained(said), _alone_at(said):
        # Seconds: the command line imports this module when it has to.
        import ray
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            client = JobSubmissionClient(said)
        except AuthenticationError:
            if not token.send():
                raise
            client = JobSubmissionClient(said)
    # Ray's client knows it and has no public way to say it: `get_version` gives that of its interface.
    check_version(ray.__version__, client._server_ray_version, said)
    return Jobs(client, said)


def named_address() -> str | None:
    """The address that Ray's own variables name, if they do."""
    return next((os.environ[name] for name in _ADDRESSES if os.environ.get(name)), None)


def check_version(ours: str, theirs: str | None, address: str) -> None:
    """Raise ClusterError unless a cluster has our version of Ray: what is tried here must hold there."""
    if theirs != ours:
        raise ClusterError(
            f"the cluster at {address!r} must have this Ray, {ours}, got {theirs}; "
            "install the versions of requirements.txt there, or that one here"
        )


def inside_a_job() -> bool:
    """Whether this process was started by `ray job submit` or the like: its folder goes when the job is over."""
    return _JOB_VARIABLE in os.environ


@contextmanager
def _alone_at(address: str) -> Iterator[None]:
    """Ray puts what these variables say before the address that it is given; what was typed goes first here."""
    before = {name: os.environ.pop(name) for name in _ADDRESSES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError, RayError
    from requests import RequestException

    try:
        yield
    except AuthenticationError as err:  # its text is long, and is Ray's to keep: it may tell where a token lies
        raise ClusterError(token.must_be_given(address)) from err
    except (ConnectionError, RequestException) as err:
        raise ClusterError(
            f"a Ray cluster's dashboard must answer at {address!r}, got nothing{_by_proxy(address)}; "
            "name its head with --address, like http://head:8265"
        ) from err
    except (ClientError, RayError, RuntimeError, ValueError) as err:
        said = next(iter(str(err).strip().splitlines()), type(err).__name__)
        raise ClusterError(f"the cluster at {address!r} could not do that: {said}{_by_proxy(address)}") from err


def _by_proxy(address: str) -> str:
    """That the environment has a proxy asked: most know nothing of what lies within, this machine or a cluster."""
    from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

    host = _host(address)
    proxy = select_proxy(address, get_environ_proxies(address)) if host else None
    if not proxy:
        return ""
    # Only that: before it a name and a password may stand.
    name = urlsplit(prepend_scheme_if_needed(proxy, "http")).netloc.rpartition("@")[2]
    return f" (the proxy {name} was asked: with {host} in NO_PROXY the cluster itself is)"


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # [ without ]
        return None


def _job(details: Any) -> Job:
    metadata: Mapping[str, str] = details.metadata or {}
    return Job(
        id=details.submission_id,
        status=str(details.status),
        command=details.entrypoint,
        message=details.message or "",
        study=metadata.get("study"),
        run_directory=metadata.get("run_directory"),
        exit_code=details.driver_exit_code,
        started_at=_time(details.start_time),
        ended_at=_time(details.end_time),
    )


def _time(unix_ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(unix_ms / 1000, UTC) if unix_ms else None
