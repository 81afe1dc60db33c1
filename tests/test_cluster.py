"""On a cluster: a real one of three nodes with a token, and a fake client for what a real one can't be made to do."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import requests
import yaml

from benchmarks.suggestions import waits
from cluster import packing
from cluster.connect import connected
from cluster.errors import ClusterError
from cluster.jobs import Jobs, check_version, jobs_at
from results import RunError, open_run, read_events
from search import submission
from search.errors import UsageError

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-for-tests-0123456789abcdef0123456789"
Typed = Callable[..., subprocess.CompletedProcess[str]]
Say = Callable[..., tuple[int, str, str]]


# What is sent


def test_ignore_files_say_what_is_sent(tmp_path: Path) -> None:
    for name in ("a.py", "data/x", "deep/keep.py", "deep/runs/y", "deep/z.log", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12345")
    (tmp_path / ".gitignore").write_text(".venv/\n/data/\n")
    (tmp_path / ".rayignore").write_text("runs/\n")
    (tmp_path / "deep" / ".rayignore").write_text("*.log\n")
    sent = {path.relative_to(tmp_path).as_posix() for path in packing.files_sent(tmp_path)}
    assert sent == {".gitignore", ".rayignore", "a.py", "deep/.rayignore", "deep/keep.py"}


@pytest.mark.parametrize("pattern", [b"[z-a]\n", b"\xff\xfe\n"])
def test_an_ignore_file_that_is_none_is_one_message(pattern: bytes, tmp_path: Path) -> None:
    (tmp_path / ".rayignore").write_bytes(pattern)
    with pytest.raises(
        ClusterError, match=r"\.rayignore' must hold patterns like runs/ or \*\.log, a line each, got: "
    ):
        packing.check_size(tmp_path)


def test_links_are_followed_as_ray_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("elsewhere/big", "studies/mine.yaml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("budget: {trials: 2}\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "mine.yaml").symlink_to(tmp_path / "studies" / "mine.yaml")
    monkeypatch.chdir(tmp_path / "here")
    assert packing.check_size(Path.cwd())[0] == 2
    assert submission.begun("mine.yaml", []).words == ("run", "mine.yaml")


@pytest.mark.parametrize("address", ["json://head", "ftp://head:21", "http://", "http://[x"])
def test_an_address_that_is_none(address: str) -> None:
    message = f"a cluster's address must be like http://head:8265, got '{address}'"
    with pytest.raises(ClusterError, match=re.escape(message)):
        jobs_at(address)


def test_this_checkout_is_small() -> None:
    num_files, num_bytes = packing.check_size(ROOT)
    assert num_files < 500 and num_bytes < 10 * 2**20


def test_a_folder_that_is_too_large_is_refused_with_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big.bin").write_bytes(b"x" * 2**20)
    monkeypatch.setattr(packing, "_MOST_BYTES", 2**20)
    message = re.escape(
        f"the folder that a job is sent must be smaller than 1 MiB, got 1 MiB in {str(tmp_path)!r}, the largest being "
        "big.bin (1 MiB); name what is not needed there in .rayignore"
    )
    with pytest.raises(ClusterError, match=message):
        packing.check_size(tmp_path)


def test_a_pipe_in_the_folder_is_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events")
    message = f"the folder that a job is sent must hold no pipe, got '{tmp_path / 'events'}'; name it in .rayignore"
    with pytest.raises(ClusterError, match=f"^{re.escape(message)}$"):
        packing.check_size(tmp_path)


def test_a_study_that_would_not_be_sent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for file in (tmp_path / "there.yaml", tmp_path / "here" / "ignored.yaml", tmp_path / "here" / "mine.yaml"):
        file.write_text("budget: {trials: 2}\n")
    Path(".rayignore").write_text("ignored.yaml\n")
    for name in ("../there.yaml", "ignored.yaml"):
        with pytest.raises(UsageError, match="a study must lie in the folder that is sent"):
            submission.begun(name, [])
    sent = submission.begun("mine.yaml", ["output=/shared"])
    assert (sent.words, sent.name, sent.run_directory) == (
        ("run", "mine.yaml", "--set=output=/shared"), "mine", "/shared/mine",
    )  # fmt: skip
    with pytest.raises(UsageError, match="must be named by its whole path, got 'runs/mine'"):
        submission.resumed("runs/mine", [])
    assert submission.resumed("s3://bucket/runs/mine", []).words == ("resume", "s3://bucket/runs/mine")
    with pytest.raises(RunError, match="keys and servers come from the environment") as refused:
        submission.resumed("s3://key:secret@bucket/runs/mine", [])
    assert "secret" not in str(refused.value)


# A fake client, for what a real cluster can't be made to do


class FakeClient:
    """Ray's job client as far as it is used; each answer may be an error to raise."""

    def __init__(self, error: Exception | None = None, ends: bool = True) -> None:
        self.jobs: dict[str, SimpleNamespace] = {}
        self.error = error
        self.ends = ends

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: Any, metadata: Any) -> str:
        self._answer()
        facts = {"entrypoint": entrypoint, "metadata": metadata, "runtime_env": runtime_env}
        state = {"status": "RUNNING", "message": "", "driver_exit_code": None, "start_time": 1000, "end_time": None}
        self.jobs[submission_id] = SimpleNamespace(submission_id=submission_id, **facts, **state)
        return submission_id

    def list_jobs(self) -> list[Any]:
        self._answer()
        return list(self.jobs.values())

    def get_job_info(self, job_id: str) -> Any:
        self._answer()
        if job_id not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: no {job_id}.")
        return self.jobs[job_id]

    def get_job_logs(self, job_id: str) -> str:
        self._answer()
        return "one\ntwo\n"

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        yield "one\n"
        raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def stop_job(self, job_id: str) -> bool:
        if self.ends:
            self.jobs[job_id].status = "STOPPED"
        return True


def sent_to(client: FakeClient, folder: Path) -> tuple[Jobs, str]:
    jobs = Jobs(client, "http://head:8265")
    words = ("run", "my study.yaml", "--set=a={b: 1}")
    return jobs, jobs.submit(words, folder, packages=[], study="mine", run_directory="~/runs/mine")


def test_what_a_job_is_sent(tmp_path: Path) -> None:
    client = FakeClient()
    jobs, job_id = sent_to(client, tmp_path)
    assert re.fullmatch(r"mine-\d{8}-\d{6}-\d{6}", job_id)
    assert client.jobs[job_id].entrypoint == "python -m search run 'my study.yaml' '--set=a={b: 1}'"
    # Ray's own patience, 3 s, is too little for a checkpoint.
    assert client.jobs[job_id].runtime_env["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "30"}
    assert jobs.get(job_id).run_directory == "~/runs/mine" and jobs.get(job_id).study == "mine"
    assert [job.id for job in jobs.all()] == [job_id]
    assert jobs.stop(job_id).status == "STOPPED"


def test_a_job_that_does_not_stop_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, job_id = sent_to(FakeClient(ends=False), tmp_path)
    monkeypatch.setattr("cluster.jobs._STOP_WAIT_S", -10)
    assert not jobs.stop(job_id).ended


def test_a_machine_too_busy_to_start_ray_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise Exception(
            "The current node timed out during startup. This could happen because some of the raylet failed"
        )

    monkeypatch.setattr("ray.init", late)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=r"^Ray must start on this machine within half a minute"), connected("local"):
        pass


def test_a_log_that_breaks_off_is_one_message(tmp_path: Path) -> None:
    jobs, job_id = sent_to(FakeClient(), tmp_path)
    heard: list[str] = []
    with pytest.raises(ClusterError, match="could not do that: WebSocket connection closed unexpectedly"):
        jobs.follow(job_id, heard.append)
    assert heard == ["one\n"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (requests.ConnectionError("x"), "a Ray cluster's dashboard must answer at 'http://head:8265', got nothing"),
        (requests.Timeout("x"), "a Ray cluster's dashboard must answer at 'http://head:8265', got nothing"),
        (RuntimeError("Request failed with status code 500: boom.\nmore"), "could not do that: Request failed with status code 500: boom."),
    ],
)  # fmt: skip
def test_a_cluster_that_fails_is_one_message(error: Exception, message: str) -> None:
    with pytest.raises(ClusterError, match=re.escape(message)):
        Jobs(FakeClient(error), "http://head:8265").all()


def test_another_version_of_ray_is_refused() -> None:
    check_version("2.60.0", "2.60.0", "a")
    message = "the cluster at 'a' must have this Ray, 2.60.0, got 2.9.3; install the versions of requirements.txt there"
    with pytest.raises(ClusterError, match=re.escape(message)):
        check_version("2.60.0", "2.9.3", "a")


def test_nobody_at_the_address(say: Say) -> None:
    for words in (["jobs"], ["logs", "x"], ["stop", "x"], ["status", "x"], ["watch", "x"], ["submit", "quickstart"]):
        code, _, err = say(*words, "--address", "http://127.0.0.1:9")
        assert code == 2
        assert err == (
            "error: a Ray cluster's dashboard must answer at 'http://127.0.0.1:9', got nothing; "
            "name its head with --address, like http://head:8265\n"
        )


@pytest.mark.parametrize("proxy", ["http://me:secret@127.0.0.1:9", "127.0.0.1:9"])
def test_it_is_said_that_a_proxy_was_asked(proxy: str, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    assert say("jobs", "--address", "10.1.2.3") == (
        2,
        "",
        "error: a Ray cluster's dashboard must answer at 'http://10.1.2.3', got nothing "
        "(the proxy 127.0.0.1:9 was asked: with 10.1.2.3 in NO_PROXY the cluster itself is); "
        "name its head with --address, like http://head:8265\n",
    )


# A real cluster


@contextmanager
def nodes(home: Path, *each: str) -> Iterator[SimpleNamespace]:
    """Nodes as tests.several_nodes has them, that ask for a token: their addresses, and the environment that has it."""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "HOME": str(home)}
    environment["RAY_metrics_report_interval_ms"] = "500"
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "tests.several_nodes", *each]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    holder = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **streams)  # type: ignore[call-overload]
    try:
        addresses = json.loads(holder.stdout.readline())

        def tell(line: str) -> None:
            holder.stdin.write(f"{line}\n")
            holder.stdin.flush()

        yield SimpleNamespace(home=home, environment=environment, tell=tell, **addresses)
    finally:
        holder.communicate("", timeout=60)


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Three nodes of one CPU each."""
    with nodes(tmp_path_factory.mktemp("home"), "1", "1", "1") as found:
        yield found


@pytest.fixture
def on_cluster(three_nodes: SimpleNamespace) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Type a command in this checkout, with the token and the cluster's address in the environment."""

    def type_(*words: str, cwd: Path = ROOT, timeout: float = 180, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {**three_nodes.environment, "RAY_ADDRESS": three_nodes.dashboard, **changes}
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)

    return type_


# On two of the three nodes.
SMALL = (
    "--set=budget.trials=6", "--set=early_stop.max_epochs=4", "--set=budget.wall=5m", "--set=resources.concurrent=2",
)  # fmt: skip


def job_of(typed: subprocess.CompletedProcess[str]) -> str:
    assert typed.returncode == 0, typed.stderr
    found = re.match(r"submitted (\S+);", typed.stdout)
    assert found, typed.stdout
    return found[1]


@pytest.mark.ray
@pytest.mark.slow
def test_submit_and_ray_job_submit_do_what_a_local_run_does(on_cluster: Typed, three_nodes: SimpleNamespace) -> None:
    ours = on_cluster("search", "submit", "quickstart", "--follow", "--set=name=ours", *SMALL)
    assert ours.returncode == 0, ours.stdout + ours.stderr
    assert "~/runs/ours on the cluster" in ours.stdout and "winner: trial" in ours.stdout
    words = ["python", "-m", "search", "run", "quickstart", "--set=name=rays", *SMALL]
    rays = on_cluster("ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--", *words)
    assert rays.returncode == 0, rays.stdout + rays.stderr
    for name in ("ours", "rays"):
        run = three_nodes.home / "runs" / name
        trials = pd.read_parquet(run / "trials.parquet")
        assert (
            len(trials) == 6 and trials["node"].nunique() >= 2 and not trials["state"].isin(["failed", "running"]).any()
        )
        assert {path.name for path in run.iterdir()} == {
            "study.yaml", "environment.json", "events", "trials.parquet", "epochs.parquet", "checkpoints", "best",
        }  # fmt: skip
    listed = on_cluster("search", "jobs", "--format", "json")
    assert TOKEN not in listed.stdout + ours.stdout + ours.stderr
    jobs = json.loads(listed.stdout)
    assert [(job["status"], job["study"]) for job in jobs] == [("SUCCEEDED", "ours"), ("SUCCEEDED", None)]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.chaos
def test_a_job_is_stopped_in_good_order_and_resumed(on_cluster: Typed, three_nodes: SimpleNamespace) -> None:
    long = ("--set=budget.trials=400", "--set=budget.wall=5m", "--set=name=long", "--set=early_stop.name=none")
    job_id = job_of(on_cluster("search", "submit", "quickstart", *long))
    run = three_nodes.home / "runs" / "long"
    deadline = time.monotonic() + 90
    while not (run / "epochs.parquet").exists() or pd.read_parquet(run / "epochs.parquet").empty:
        assert time.monotonic() < deadline, on_cluster("search", "logs", job_id).stdout
        time.sleep(0.5)
    assert "RUNNING" in on_cluster("search", "status", job_id).stdout
    stopped = on_cluster("search", "stop", job_id)
    assert stopped.returncode == 0 and stopped.stdout.startswith(f"{job_id}: STOPPED; go on with: "), stopped.stdout
    assert open_run(run).ended == "user" and not open_run(run).count("running")
    again = on_cluster("search", "stop", job_id)
    assert again.stdout == f"{job_id}: had ended already: STOPPED\n"
    grown = on_cluster("search", "submit", "~/runs/long", "--resume", "--follow", "--set=budget.trials=3")
    assert grown.returncode == 0, grown.stdout + grown.stderr
    assert open_run(run).ended == "trials"


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_that_fails_shows_the_end_of_its_log(on_cluster: Typed, tmp_path: Path) -> None:
    # From a folder that is no checkout: the packages are sent along, the workload is in the folder.
    (tmp_path / "mine.py").write_text("def train(config, trial):\n    raise ValueError('no luck today')\n")
    (tmp_path / "mine.yaml").write_text(
        "workload: mine:train\ndata: null\nobjective: {metric: loss, mode: min}\nspace: {x: {float: [0, 1]}}\n"
        "budget: {trials: 2}\n"
    )
    followed = on_cluster("search", "submit", "mine.yaml", "--follow", cwd=tmp_path)
    assert followed.returncode == 3, followed.stdout + followed.stderr
    job_id = re.match(r"submitted (\S+);", followed.stdout)[1]  # type: ignore[index]
    shown = on_cluster("search", "status", job_id).stdout
    assert "FAILED" in shown and "the end of what it printed:" in shown and "no luck today" in shown
    assert "no luck today" in on_cluster("search", "logs", job_id).stdout


@pytest.mark.ray
@pytest.mark.slow
def test_mistakes_are_one_message(on_cluster: Typed) -> None:
    for words in (["logs", "nothing"], ["stop", "nothing"], ["status", "nothing"], ["logs", "nothing", "--follow"]):
        typed = on_cluster("search", *words)
        assert typed.returncode == 2 and typed.stderr.startswith("error: unknown job 'nothing' at 'http://127.0.0.1:")
        assert typed.stderr.count("\n") == 1
    for mode, found in (
        ("token", "that in RAY_AUTH_TOKEN, which it refused"),
        ("disabled", "RAY_AUTH_MODE=disabled, which sends none; unset it"),
    ):
        token = "another-token-for-tests-0123456789abcdef"
        refused = on_cluster("search", "jobs", RAY_AUTH_TOKEN=token, RAY_AUTH_MODE=mode)
        assert refused.returncode == 2 and f"must be given its token, got {found}; have the one of" in refused.stderr
        assert "Traceback" not in refused.stderr and token not in refused.stderr
    wrong = on_cluster("search", "submit", "quickstrat")
    assert wrong.returncode == 2 and "(did you mean 'quickstart'?)" in wrong.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_what_was_typed_goes_before_the_environment(
    three_nodes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ClusterError, match=r"must answer at 'http://127\.0\.0\.1:9'"):
        jobs_at(None)
    with pytest.raises(ClusterError, match=f"the cluster at '{three_nodes.dashboard}' must be given its token"):
        jobs_at(three_nodes.dashboard)


JOINS = """
import sys
from cluster.connect import connected
with connected(sys.argv[1]):
    import ray
    print(len(ray.nodes()))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_is_sent_it(three_nodes: SimpleNamespace, tmp_path: Path) -> None:
    environment = {name: value for name, value in three_nodes.environment.items() if name != "RAY_AUTH_MODE"}
    command = [sys.executable, "-c", JOINS, three_nodes.address]
    joined = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert joined.stdout == "3\n", joined.stderr
    command = [sys.executable, "-m", "search", "jobs", "--address", three_nodes.dashboard]
    listed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert listed.returncode == 0, listed.stderr

    del environment["RAY_AUTH_TOKEN"]
    command = [sys.executable, "-m", "search", "run", "quickstart", "--address", three_nodes.address]
    for variables, found in (
        ({}, "none"),
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE=disabled, which sends none; unset it"),
        ({"RAY_AUTH_TOKEN": f"{TOKEN}1"}, "that in RAY_AUTH_TOKEN, which it refused"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "/nowhere must hold the token, got: No such file or directory"),
    ):
        typed = subprocess.run(
            command, cwd=tmp_path, env=environment | variables, capture_output=True, text=True, timeout=60
        )
        assert typed.returncode == 2 and typed.stderr == (
            f"error: the cluster at {three_nodes.address!r} must be given its token, got {found}; have the one of the "
            "cluster in ~/.ray/auth_token, or in the file that RAY_AUTH_TOKEN_PATH names\n"
        )
    assert not list(tmp_path.iterdir())


HOLDS_AT_ITS_END = """
import json, sys, time
import ray
from search import load_study, run

def hold(run_, event):
    if event["event"] == "study_ended":
        nodes = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes()]
        print(json.dumps(nodes), flush=True)
        sys.stdin.read()

run(load_study("quickstart", sys.argv[2:]), address=sys.argv[1], views=[hold])
"""


def samples(study: str, endpoints: list[str]) -> dict[str, float]:
    """What Ray's endpoints say of a study: the metric's name and labels, Ray's own left out, to the value."""
    found: dict[str, float] = {}
    for endpoint in endpoints:
        for line in requests.get(f"http://{endpoint}/metrics", timeout=10).text.splitlines():
            named = re.match(r"ray_(digitsearch_\w+)\{(.*)\} (\S+)$", line)
            if named and f'study="{study}"' in named[2]:
                labels = re.findall(r'\b(state|device|le)="([^"]*)"', named[2])
                key = named[1] + "".join(f" {name}={value}" for name, value in sorted(labels))
                found[key] = float(named[3])
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_metrics_agree_with_the_tables(three_nodes: SimpleNamespace, tmp_path: Path) -> None:
    words = [three_nodes.address, *(word.removeprefix("--set=") for word in SMALL), f"output={tmp_path}", "name=seen"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLDS_AT_ITS_END, *words], cwd=tmp_path, env=three_nodes.environment, text=True, **streams  # type: ignore[call-overload]
    )  # fmt: skip
    try:
        endpoints = json.loads(driver.stdout.readline())
        num_epochs = sum(event["event"] == "epoch_reported" for event in read_events(tmp_path / "seen"))
        seen: dict[str, float] = {}
        deadline = time.monotonic() + 30
        # Counters are told as they count, gauges twice a second, and both are scraped later: all come to the end.
        last = {
            "digitsearch_epochs_total": num_epochs,
            "digitsearch_trials state=running": 0,
            "digitsearch_slots_busy": 0,
        }
        while any(seen.get(name) != value for name, value in last.items()) and time.monotonic() < deadline:
            time.sleep(0.5)
            seen = samples("seen", endpoints)
    finally:
        errors = driver.communicate("", timeout=60)[1]
    assert driver.returncode == 0, errors
    trials, epochs = (pd.read_parquet(tmp_path / "seen" / f"{name}.parquet") for name in ("trials", "epochs"))
    for state in ("running", "finished", "stopped", "failed", "interrupted"):
        assert seen[f"digitsearch_trials state={state}"] == (trials["state"] == state).sum()
    finished = trials[trials["state"] == "finished"]
    assert seen["digitsearch_best_value"] == finished["metric_val_accuracy"].max()
    assert seen["digitsearch_epochs_total"] == len(epochs)
    assert seen["digitsearch_slots_busy"] == 0
    assert seen["digitsearch_train_seconds_total device=cpu"] == pytest.approx(epochs["epoch_s"].sum())
    assert seen["digitsearch_slot_wait_seconds_count"] == len(waits(read_events(tmp_path / "seen"), 0)) > 0


@pytest.mark.ray
@pytest.mark.chaos
def test_shares_of_gpus(tmp_path: Path) -> None:
    (tmp_path / "shares.yaml").write_text(
        "workload: workloads_for_tests:says_its_gpu\ndata: null\nobjective: {metric: score}\nspace: {x: {float: [0, 1]}}\n"
        "early_stop: {name: none, max_epochs: 1}\nbudget: {trials: 24}\nresources: {gpu: 0.25}\n"
    )
    with nodes(tmp_path, "4:1", "4:1") as two_nodes:

        def search(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "search", "run", "shares.yaml", "--address", two_nodes.address, *words]
            return subprocess.run(
                command, cwd=tmp_path, env=two_nodes.environment, capture_output=True, text=True, timeout=120
            )

        began = time.monotonic()
        refused = search("--set=resources.gpu=2", "--set=name=refused")
        assert time.monotonic() - began < 10
        assert (refused.returncode, refused.stderr) == (
            2,
            "error: resources: a node must have 1 CPU and 2 GPU for one trial, got 4 CPU and 1 GPU; 4 CPU and 1 GPU; "
            "lower resources.cpu or resources.gpu, or --wait for a node that joins\n",
        )
        done = search()
        assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(tmp_path / "runs" / "shares" / "trials.parquet")
    assert len(trials) == 24 and (trials["metric_gpu"] == 0).all(), "the one GPU that each node has"
    for node, here in trials.groupby("node"):
        at_once = [((here["started_at"] <= at) & (at < here["ended_at"])).sum() for at in here["started_at"]]
        assert max(at_once) == 4, (node, at_once)
    assert trials["node"].nunique() == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.chaos
def test_a_node_that_joins_is_waited_for_and_used(tmp_path: Path) -> None:
    words = ["run", "quickstart", "--wait", "--set=resources.cpu=2", "--set=name=late", *SMALL]
    with nodes(tmp_path, "1") as one_node:
        command = [sys.executable, "-m", "search", *words, "--address", one_node.address]
        driver = subprocess.Popen(
            command, cwd=tmp_path, env=one_node.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        log = tmp_path / "runs" / "late" / "events" / "log.jsonl"
        deadline = time.monotonic() + 60
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        assert driver.poll() is None and "trial_started" not in log.read_text()
        one_node.tell("2")
        _, errors = driver.communicate(timeout=120)
        assert driver.returncode == 0, errors
    trials = pd.read_parquet(tmp_path / "runs" / "late" / "trials.parquet")
    assert len(trials) == 6 and set(trials["node"]) == {"127.0.0.2"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.chaos
def test_the_trials_of_a_node_that_dies_go_on_elsewhere(tmp_path: Path) -> None:
    study = {
        "name": "nodes", "workload": "workloads_for_tests:sleeps", "data": None, "objective": {"metric": "score"},
        "space": {"x": {"float": [0.0, 1.0]}}, "sampler": {"name": "random"}, "budget": {"trials": 5},
        "early_stop": {"name": "none", "max_epochs": 40},
    }  # fmt: skip
    (tmp_path / "nodes.yaml").write_text(yaml.safe_dump(study))
    run_directory = tmp_path / "runs" / "nodes"
    with nodes(tmp_path, "1", "1", "1") as there:
        command = [sys.executable, "-m", "search", "run", "nodes.yaml", "--address", there.address]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        driver = subprocess.Popen(command, cwd=tmp_path, env=there.environment, text=True, **pipes)  # type: ignore[call-overload]
        reported: list[str] = []
        deadline = time.monotonic() + 90
        while reported.count("127.0.0.3") < 10 and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.1)
            events = list(read_events(run_directory)) if (run_directory / "events" / "log.jsonl").exists() else []
            reported = [event["node"] for event in events if event["event"] == "epoch_reported"]
        there.tell("kill 127.0.0.3")
        _, errors = driver.communicate(timeout=150)
        assert driver.returncode == 0, errors
    events = list(read_events(run_directory))
    trials = pd.read_parquet(run_directory / "trials.parquet")
    assert trials["number"].tolist() == list(range(5)) and set(trials["state"]) == {"finished"}
    assert set(trials["epochs"]) == {40}
    lost = [event for event in events if event["event"] == "attempt_failed"]
    assert {event["error_kind"] for event in lost} == {"node_lost"}
    for event in lost:
        again = [e for e in events if e["event"] == "trial_started" and e["number"] == event["number"]][1]
        assert again["epoch"] >= 9, "it goes on from its checkpoint"
    after = {e["node"] for e in events[events.index(lost[-1]) :] if e["event"] == "epoch_reported"}
    assert after == {"127.0.0.1", "127.0.0.2"}


@pytest.mark.ray
def test_a_plan_names_the_nodes_and_what_fits_on_each(three_nodes: SimpleNamespace, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search", "plan", "quickstart", "--address", three_nodes.address]
    environment = three_nodes.environment

    def plan(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], cwd=tmp_path, env=environment, text=True, capture_output=True)

    shown = plan("--set=resources.workers=2").stdout
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        assert re.search(rf"^{re.escape(address)} +1 +0 +1$", shown, re.M), shown
    assert "each with 1 CPU on each of 2 workers; 1 at once" in shown
    assert json.loads(plan("--format=json").stdout)["nodes"][0]["trials at once"] == 1
    refused = plan("--set=resources.cpu=2")
    assert refused.returncode == 2 and "a node must have 2 CPU for one trial" in refused.stderr
    assert list(tmp_path.iterdir()) == []
