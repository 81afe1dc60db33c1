"""A private cluster, which one is joined, and what is said of one that falls silent."""

import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from cluster import connect, head, no_agent, ray_internals
from cluster.connect import connected
from cluster.errors import ClusterError, ClusterWarning
from cluster.ray_internals import latest_started, num_cores

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[1]


def test_a_cluster_of_our_own_has_no_process_that_is_of_no_use_to_it(ray_cluster: None) -> None:
    import ray.dashboard.optional_deps  # it is there for whoever wants it, like `digitsearch submit`
    from ray._private.node import Node

    assert ray.dashboard.optional_deps
    lines = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    raylets = [line for line in lines if "raylet_socket_name" in line]
    assert raylets
    assert all("--minimal" in line for line in raylets)
    agents = [line for line in lines if "/dashboard/agent.py " in line and line not in raylets]
    assert [line.split()[1:4] for line in agents] == [["-I", "-S", no_agent.__file__]]
    others = {"dashboard.py": "start_api_server", "monitor.py": "start_monitor", "log_monitor.py": "start_log_monitor"}
    for script, method in others.items():
        assert not any(f"/{script} " in line for line in lines)
        assert getattr(Node, method).__name__ == method  # for clusters that others start from this process


def test_no_search_joins_the_private_cluster_of_another(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private.services import find_gcs_addresses

    private = ray.get_runtime_context().gcs_address
    assert private in find_gcs_addresses(), "Ray itself would take it"
    monkeypatch.setenv("RAY_TMPDIR", "/nowhere")  # where `ray start` leaves a note
    assert latest_started() != private
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for found, message in (
        (None, "for the address 'auto', got none; start one"),
        ("127.0.0.1:1", "at '127.0.0.1:1', got"),
    ):
        monkeypatch.setattr(connect, "latest_started", lambda found=found: found)
        with pytest.raises(ClusterError, match=message), connected("auto"):
            pytest.fail("it was joined")


@pytest.mark.parametrize(("name", "value"), [("PYTHONOPTIMIZE", "2"), ("PYTHONWARNINGS", "error")])
def test_what_ray_does_not_start_with_is_said(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv(name, value)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    message = f"^{name} must not be '{value}', with which Ray does not start; unset it$"
    with pytest.raises(ClusterError, match=message), connected():
        pytest.fail("it was started")


LISTENED = """
import os, signal, sys
from cluster import connect
from search import workloads

settle, put, prepare, added = connect.settle_environment, os.putenv, workloads.prepared, None


def settled(address=None):
    global added
    settle(address)
    added = [] if added is None else added


def putenv(name, value):
    if added is not None and os.fsdecode(name) not in os.environ:
        added.append(name)
    put(name, value)


def prepared(*given, **named):
    assert added is not None, "the data must be loaded later"
    return prepare(*given, **named)


handlers, handle = [], signal.signal


def handled(number, handler):
    if number == signal.SIGTERM:
        handlers.append(getattr(handler, "__qualname__", ""))
    return handle(number, handler)


connect.settle_environment, os.putenv, workloads.prepared = settled, putenv, prepared
signal.signal = handled
os.environ.pop("RAY_AUTH_MODE", None)
from search import load_study, run

run(load_study("quickstart", ["budget.trials=1", "early_stop.max_epochs=2", f"output={sys.argv[1]}"]))
print("added:", added)
print("handlers:", sorted(set(handlers) - {""}))
"""


def test_a_search_adds_nothing_to_the_environment_as_others_read_it_and_nobody_else_is_told_of_a_signal(
    tmp_path: Path,
) -> None:
    # numpy's own, for a moment, as it is imported: by the thread that loads the data.
    command = [sys.executable, "-c", "import numpy" + LISTENED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    # Ray's handler ends the process from wherever the signal comes.
    assert done.stdout.endswith("added: []\nhandlers: ['Interrupts._handle']\n"), done.stdout


# A script, since what is set there stays.
HAS_A_TOKEN = """
import os, sys
from cluster.connect import settle_environment
settle_environment()
print(os.environ.get("RAY_AUTH_TOKEN") is not None)
"""


@pytest.mark.parametrize(
    ("home", "variables", "makes_one"),
    [
        ("/proc", {}, True),  # as root finds it, too
        ("/proc", {"RAY_AUTH_TOKEN_PATH": "/nowhere"}, False),
        ("/proc", {"RAY_ADDRESS": "127.0.0.1:1"}, False),
        ("/proc", {"RAY_AUTH_MODE": "disabled"}, False),
        (None, {}, False),
    ],
)
def test_a_home_that_cannot_be_written_needs_no_token_there(
    home: str | None, variables: dict[str, str], makes_one: bool, tmp_path: Path
) -> None:
    names = ("PATH", "PYTHONPATH")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"HOME": home or str(tmp_path), **variables}
    command = [sys.executable, "-c", HAS_A_TOKEN]
    typed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert typed.stdout == f"{makes_one}\n", typed.stderr
    if home is None:
        (file,) = (tmp_path / ".ray").iterdir()
        assert file.name == "auth_token" and file.stat().st_mode & 0o777 == 0o600
        token = file.read_text()
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        assert len(token) == 64 and file.read_text() == token


# Ray Client's own server does not always come up (2.60).
OUTSIDE = """
import ray
from ray.cluster_utils import Cluster
from search import run
from tests.several_nodes import free_port
port = free_port()
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "ray_client_server_port": port})
for _ in range(5):
    try:
        ray.init(f"ray://127.0.0.1:{port}", log_to_driver=False)
        break
    except (ConnectionError, RuntimeError) as err:
        print(err)
try:
    run("quickstart")
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.chaos
def test_a_program_that_is_connected_from_outside_cannot_search(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command, streams = [sys.executable, "-c", OUTSIDE], {"capture_output": True, "text": True}
    done = subprocess.run(command, cwd=tmp_path, env=environment, timeout=300, **streams)  # type: ignore[call-overload]
    assert "ClusterError: a search must be driven by a process of the cluster, got one that " in done.stderr, (
        done.stdout
    )
    assert not (tmp_path / "runs" / "quickstart").exists()


def test_a_program_that_is_connected_from_outside_is_told_to_send_a_job(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.util.client import ray as client

    monkeypatch.setattr(client, "is_connected", lambda: True)
    message = (
        r"connected from outside, by Ray Client; .* send a job: digitsearch submit STUDY --address http://HEAD:8265$"
    )
    with pytest.raises(ClusterError, match=message), connected():
        pytest.fail("it was taken for a process of the cluster")


@pytest.mark.parametrize(
    ("address", "joined", "are_one"),
    [
        ("192.0.2.2:6379", "192.0.2.2:6379", True),
        ("127.0.0.1:6379", "192.0.2.2:6379", True),  # typed on the head
        ("[::1]:6379", "[2001:db8::1]:6379", True),
        ("192.0.2.3:6379", "192.0.2.2:6379", False),
        ("192.0.2.2:6380", "192.0.2.2:6379", False),
        ("[2001:db8::2]:6379", "[2001:db8::1]:6379", False),
        ("head.invalid:6379", "192.0.2.2:6379", False),
        ("head", "192.0.2.2:6379", False),
    ],
)
def test_what_is_named_is_what_was_joined(address: str, joined: str, are_one: bool) -> None:
    assert connect._are_one(address, joined) is are_one


def test_an_address_besides_that_of_the_cluster_that_was_joined_is_refused(ray_cluster: None) -> None:
    import ray

    joined = ray.get_runtime_context().gcs_address
    for same in (joined, joined.replace("127.0.0.1", "localhost")):
        with connected(same):
            pass
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        message = f"which this process has joined by ray.init, {joined}, got '{address}'; leave it out, or"
        with pytest.raises(ClusterError, match=message), connected(address):
            pytest.fail("it was taken for another")


def test_a_head_that_falls_silent_is_told_of_and_so_is_its_return(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    service = next(process for process in psutil.Process().children() if process.name() == "gcs_server")
    # As long as one that answers may take on a busy machine.
    for module, name, seconds in ((head, "_EVERY_S", 0.1), (head, "_SILENCE_S", 3), (ray_internals, "_ANSWER_S", 2)):
        monkeypatch.setattr(module, name, seconds)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")

        def messages() -> list[str]:
            return [str(warning.message) for warning in said if warning.category is ClusterWarning]

        def heard(words: str) -> bool:
            deadline = time.monotonic() + 20
            while not any(words in message for message in messages()) and time.monotonic() < deadline:
                time.sleep(0.05)
            return any(words in message for message in messages())

        with head.watched(address):
            time.sleep(1)
            assert not messages()
            service.suspend()
            try:
                assert heard(f"the cluster's head at {address} must answer, and has not for ")
            finally:
                service.resume()
            assert heard(f"the cluster's head at {address} answers again")
    assert len(messages()) == 2, "each is said once"


@pytest.mark.parametrize(("counted", "may", "taken"), [(64, {3, 5}, 2), (2, {0, 1, 2, 3}, 2), (0, {0, 1}, 1)])
def test_no_more_cores_are_taken_than_may_be_used(
    counted: int, may: set[int], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray._private.utils.get_num_cpus", lambda **_: counted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: may)
    assert num_cores() == taken


ON_ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from cluster.connect import connected
with connected():
    import ray
    print(ray.cluster_resources()["CPU"])
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux, which tells who may use which cores")
def test_a_search_that_may_use_one_core_has_one() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    typed = subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert typed.stdout == "1.0\n", typed.stderr
