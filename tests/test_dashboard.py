"""optuna-dashboard on a run: the same trials as everywhere else, live in a real browser, and nothing to be changed."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from browser import opened
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from optuna_dashboard import wsgi
from playwright.sync_api import Browser, Page

from results import Run, Storage, fold, open_run, read_events, stored_log
from results.events import log_path
from results.mirror import MirroredLog
from search import UsageError, dashboard, optuna_view
from search.optuna_view import STUDY_ID, RunStorage, optuna_study
from tests.bucket import served
from tests.drivers import Driver, made
from tests.test_watch import traces

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A run that has ended, with every kind of trial, one of them set aside by its second session."""
    driver = Driver(tmp_path / "w").begin()
    driver.every_kind_of_trial()
    driver.tell("study_ended", reason="user")
    narrower = made(space={"kind": {"choice": ["a", "b"]}, "x": {"float": [0.0, 0.9]}})
    driver.resume(narrower, set_aside=(2, 5))
    driver.train(4, 0.5, attempt=2, epoch=1)
    driver.end(4, "stopped", "early_stop")
    driver.suggest(6)
    driver.train(6, 0.2, 0.3, 0.4)
    driver.end(6)
    driver.suggest(7)  # nobody took it up
    driver.crown(0, 0.5)
    driver.close()
    return tmp_path / "w"


def as_told(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[Any, ...]]:
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.intermediate_values, t.user_attrs, t.datetime_start, t.datetime_complete)
        for t in trials
    ]  # fmt: skip


def test_the_storage_and_the_study_and_the_log_agree(run_directory: Path) -> None:
    run = open_run(run_directory)
    storage = RunStorage(run, run_directory)
    study = optuna_study(run_directory)
    trials = storage.get_all_trials(STUDY_ID)
    assert as_told(trials) == as_told(study.trials) and len(trials) == 7
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "PRUNED", "FAIL", "COMPLETE"]
    assert storage.get_best_trial(STUDY_ID).number == study.best_trial.number == run.best().number == 0  # type: ignore[union-attr]
    assert [t.value for t in trials] == [0.5, 0.1, None, None, 0.5, None, 0.4]
    # What the second attempt trained again counts once.
    assert trials[4].intermediate_values == {1: 0.3, 2: 0.5} and trials[4].user_attrs["attempts"] == 2
    assert trials[3].user_attrs == {
        "epochs": 0, "stop_reason": "error", "error_kind": "exception", "error": "[red]no[/red]", "attempts": 1, "train_s": 0,
    }  # fmt: skip
    assert trials[1].params == {"kind": "a", "x": 0.5} and trials[1].user_attrs["metric_loss"] == 1.0
    assert (trials[5].params, trials[5].user_attrs["epochs"]) == ({}, 3), "set aside: its number is taken, no more"
    for trial in trials:
        ours = run.trials[trial.number]
        assert ours.started_at and ours.ended_at and trial.duration == ours.ended_at - ours.started_at
        assert trial.datetime_start == ours.started_at.astimezone().replace(tzinfo=None)
    assert storage.get_study_user_attrs(STUDY_ID) == {
        "run": str(run_directory), "ended": "trials",
        "winner_trial": 0, "winner_epoch": 3, "winner_seed": 0, "winner_score": 0.5,
    }  # fmt: skip
    optuna.load_study(study_name="w", storage=storage).trials_dataframe()  # Optuna's own readers take it


def test_a_storage_that_follows_is_the_one_that_is_made_anew(run_directory: Path) -> None:
    events = list(read_events(run_directory))
    run = fold(events[:1])
    following = RunStorage(run, run_directory)
    for event in events[1:]:
        run.apply(event)
        following.take_in([event])
        anew = RunStorage(run, run_directory)
        assert as_told(following.get_all_trials(STUDY_ID)) == as_told(anew.get_all_trials(STUDY_ID))
        running = following.get_all_trials(STUDY_ID, states=[TrialState.RUNNING])
        assert {t.number for t in running} == {
            t.number for t in run.trials.values() if t.state == "running" and t.counts
        }
        assert all(t.intermediate_values == run.curve(run.trials[t.number]) for t in running)


def test_a_trial_that_may_go_on_is_waiting_and_then_runs(run_directory: Path) -> None:
    events = list(read_events(run_directory))
    at = next(i for i, event in enumerate(events) if event["event"] == "study_ended")
    run = fold(events[: at + 1])
    storage = RunStorage(run, run_directory)
    waiting = storage.get_trial(4)
    assert waiting.state == TrialState.WAITING and waiting.intermediate_values == {1: 0.3, 2: 0.4}
    assert waiting.system_attrs == {"fixed_params": waiting.params}, "where the page looks for them"
    for event in events[at + 1 : at + 3]:
        run.apply(event)
        storage.take_in([event])
    assert storage.get_trial(4).state == TrialState.RUNNING
    assert storage.get_trial(4).intermediate_values == {1: 0.3}, "what was lost is gone"


def test_only_trials_that_changed_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(tmp_path).begin()
    for number in range(200):
        driver.finish_trial(number, 0.5)
    driver.close()
    events = list(read_events(tmp_path))
    run, asked, frozen = fold(events[:-5]), [], optuna_view.frozen
    storage = RunStorage(run, tmp_path)

    def counted(run: Run, number: int, *rest: Any) -> optuna.trial.FrozenTrial:
        asked.append(number)
        return frozen(run, number, *rest)

    monkeypatch.setattr(optuna_view, "frozen", counted)
    for event in events[-5:]:
        run.apply(event)
    storage.take_in(events[-5:])
    assert asked == [199] and len(storage.get_all_trials(STUDY_ID)) == 200


def test_nothing_can_be_written_into_the_storage(run_directory: Path) -> None:
    storage = RunStorage(open_run(run_directory), run_directory)
    writers = [name for name in BaseStorage.__abstractmethods__ if re.match("create|delete|set", name)]
    assert len(writers) == 10
    for name in writers:
        with pytest.raises(UsageError, match="a run is changed by its search alone; this is a view of it"):
            getattr(storage, name)(STUDY_ID, "x", 1)
    study = optuna.load_study(study_name="w", storage=storage)
    with pytest.raises(UsageError, match="a run is changed by its search alone"):
        study.ask()


class Answer:
    """What a WSGI application answers."""

    def __init__(
        self, application: dashboard.Application, method: str, path: str, host: str, body: bytes = b""
    ) -> None:
        environment = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": host, "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr, "SERVER_NAME": "x", "SERVER_PORT": "1",
            "wsgi.url_scheme": "http", "QUERY_STRING": "", "CONTENT_TYPE": "application/json",
        }  # fmt: skip

        def start(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            self.status, self.headers = status, dict(headers)

        self.body = b"".join(application(environment, start))


def test_every_route_that_would_write_is_refused(run_directory: Path) -> None:
    pages = wsgi(RunStorage(open_run(run_directory), run_directory))
    application = dashboard.guarded(pages, for_this_machine=True)
    writing = [route for route in pages.routes if route.method != "GET"]
    assert len(writing) > 15, "optuna-dashboard has other routes now: look at them"
    for route in writing:
        path = re.sub(r"<[^>]*>", "0", route.rule)
        answer = Answer(application, route.method, path, "127.0.0.1:8080", b'{"state": "Complete", "values": [9]}')
        assert answer.status == "405 Method Not Allowed" and answer.headers["Allow"] == "GET, HEAD"
        assert json.loads(answer.body) == {
            "reason": "a run is changed by its search alone: these pages show it, and change nothing"
        }
    assert Answer(application, "HEAD", "/api/meta", "localhost").status == "200 OK"


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("127.0.0.1:8080", True), ("localhost:8080", True), ("LOCALHOST", True), ("[::1]:8080", True), ("127.0.0.7", True),
        ("rebound.example", False), ("127.0.0.1.rebound.example:8080", False), ("", False), ("[::1", False),
        ("localhost@rebound.example", False), ("10.0.0.1:8080", False),
    ],
)  # fmt: skip
def test_a_page_from_elsewhere_cannot_read_along(host: str, is_answered: bool, run_directory: Path) -> None:
    pages = wsgi(RunStorage(open_run(run_directory), run_directory))
    answer = Answer(dashboard.guarded(pages, for_this_machine=True), "GET", "/api/studies", host)
    assert answer.status == ("200 OK" if is_answered else "403 Forbidden")
    assert (b"winner_score" in answer.body) is is_answered
    # Who asks for another address has said that others may call.
    assert Answer(dashboard.guarded(pages, for_this_machine=False), "GET", "/api/studies", host).status == "200 OK"


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def api(url: str) -> str:
    """Where the study is asked for, by the address of its page."""
    return url.replace("/dashboard/", "/api/")


@contextmanager
def shown(run: Path | str, folder: Path, *words: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`digitsearch dashboard` in a process of its own, and the address of its page."""
    command = [sys.executable, "-m", "search", "dashboard", str(run), *(words or ("--port", "0"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **streams)  # type: ignore[call-overload]
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, line.split(": ")[1].strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_says_where_it_listens_and_ends_in_good_order(number: int, code: int, run_directory: Path) -> None:
    before = traces(run_directory)
    with shown("w", run_directory.parent) as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+/dashboard/studies/0", url)
        assert process.stdout.readline() == "Ctrl-C ends these pages, and no search\n"  # type: ignore[union-attr]
        assert len(asked(api(url))["trials"]) == 7
        request = urllib.request.Request(api(url), method="DELETE", data=b"{}" * 2_000_000)
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(request, timeout=20)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (code, "", "")
    assert traces(run_directory) == before


def test_where_it_cannot_listen_is_one_message(
    run_directory: Path, type_in: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        typed = type_in("dashboard", str(run_directory), "--port", str(port))
    assert (typed.returncode, typed.stdout) == (2, "")
    assert typed.stderr == (
        f"error: --port: must be one that is free, got {port}, which is in use; choose another, or 0 for any free one\n"
    )
    typed = type_in("dashboard", str(run_directory), "--host", "192.0.2.1", "--port", "0")
    assert typed.returncode == 2
    assert typed.stderr.startswith(
        "error: --host and --port: must be an address of this machine, got '192.0.2.1' and 0: "
    )
    typed = type_in("dashboard", "nothing")
    assert typed.returncode == 2
    assert typed.stderr.startswith("error: 'nothing' is not a run directory: it has no events/log.jsonl; name one")


def test_another_loopback_address(run_directory: Path) -> None:
    with dashboard.dashboard(run_directory, "::1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        assert server.url.startswith("http://[::1]:") and asked(api(server.url))["name"] == "w"
        server.shutdown()
        serving.join()


def test_pages_of_a_deleted_run_stay_and_it_is_told(run_directory: Path) -> None:
    with shown("w", run_directory.parent) as (process, url):
        log_path(run_directory).unlink()
        assert process.stderr.readline() == (  # type: ignore[union-attr]
            "warning: 'w' was deleted while it was followed; the pages stay as they are\n"
        )
        assert len(asked(api(url))["trials"]) == 7


def test_a_run_in_a_bucket_is_shown_as_it_goes_on(tmp_path: Path) -> None:
    with served():
        run = Storage("s3://bucket/runs/w")
        driver = Driver(tmp_path, MirroredLog(run, tmp_path)).begin()
        driver.finish_trial(0, 0.5)
        until(lambda: stored_log.exists(run))
        with shown(str(run), tmp_path) as (_, url):
            driver.suggest(1)
            driver.train(1, 0.125)
            until(lambda: len(asked(api(url))["trials"]) == 2)
            trial = asked(api(url))["trials"][1]
            assert (trial["state"], trial["intermediate_values"]) == ("Running", [{"step": 1, "value": 0.125}])
        driver.close()


STUDY = """\
name: live
workload: workloads_for_tests:sleeps_and_waits
data: null
objective: {metric: score, mode: max}
space:
  x: {float: [0.0, 1.0]}
  kind: {choice: [a, b]}
  n: {int: [1, 9], when: {kind: [b]}}
  word: {choice: [WORD]}
early_stop: {name: none, max_epochs: 50}
budget: {trials: 6}
"""


@contextmanager
def searched(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A search in a process of its own, once it has begun; its trials wait for the file `word`."""
    (folder / "live.yaml").write_text(STUDY.replace("WORD", str(folder / "word")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-m", "search", "run", "live.yaml"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    search = subprocess.Popen(command, cwd=folder, env=environment, text=True, **streams)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 60
        while not (log := log_path(folder / "runs" / "live")).exists() or b"trial_started" not in log.read_bytes():
            assert search.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield search
    finally:
        search.send_signal(signal.SIGTERM)
        search.communicate(timeout=60)


def values_shown(page: Page) -> list[float]:
    """The intermediate values of the trial whose page is open."""
    text = page.get_by_text("Intermediate Values").locator("xpath=../..").inner_text()
    return [float(value) for value in re.findall(r"^\d+ (\d\.\d+)$", text, re.M)]


def num_listed(page: Page) -> int:
    """How many trials the list of a page has."""
    text = page.get_by_text(re.compile(r"^\d+ Trials?$")).first.inner_text()
    return int(text.split()[0])


def until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_is_seen_in_the_browser_as_it_goes_on(tmp_path: Path, browser: Browser) -> None:
    directory = tmp_path / "runs" / "live"
    watch = [sys.executable, "-m", "search", "watch", "runs/live"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    with (
        searched(tmp_path) as search,
        subprocess.Popen(watch, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE) as watching,
        shown("runs/live", tmp_path) as (_, url),
        opened(browser, viewport={"width": 1400, "height": 2300}) as (page, record),
    ):
        latest = open_run(directory).count("running", "finished") - 1
        page.goto(f"{url}/trials?numbers={latest}")
        page.get_by_text("Intermediate Values").wait_for()
        first, listed = values_shown(page), num_listed(page)
        assert page.get_by_text("Running").count() and 1 <= listed < 6 and first
        # Not a click, not a reload: the page follows the run, trials and curves alike.
        (tmp_path / "word").touch()
        until(lambda: num_listed(page) > listed and len(values_shown(page)) > len(first))
        assert values_shown(page)[: len(first)] == first
        running = open_run(directory)
        until(lambda: num_listed(page) >= sum(trial.state is not None for trial in running.trials.values()))
        until(lambda: open_run(directory).best() is not None)

        page.goto(url)
        page.get_by_text(re.compile(r"^Best Trial \(number=\d+\)$")).wait_for()
        (best,) = asked(api(url))["best_trials"]
        trial = open_run(directory).trials[best["number"]]
        assert trial.state == "finished" and best["values"] == [open_run(directory).value(trial)]
        page.get_by_text(str(best["values"][0]), exact=True).wait_for()
        assert page.get_by_text("Intermediate values", exact=True).is_visible()

        output, errors = search.communicate(timeout=60)
        assert search.returncode == 0, errors
        before = traces(directory)
        run = open_run(directory)
        until(lambda: all(t["state"] == "Complete" for t in asked(f"{api(url)}?after=0")["trials"]))
        page.reload()
        page.get_by_text(f"Best Trial (number={run.winner['number']})", exact=True).wait_for()  # type: ignore[index]
        page.get_by_text("winner_trial").wait_for()
        page.goto(f"{url}/analytics")
        page.get_by_text("Hyperparameter Relationships").wait_for()
        for address in record.requests:
            assert address.startswith((url.split("/dashboard")[0], "blob:", "data:"))
        assert record.complaints == []
        assert as_told(optuna_study(directory).trials) == as_told(RunStorage(run, directory).get_all_trials(STUDY_ID))

        seen, _ = watching.communicate(timeout=20)
        assert watching.returncode == 0
        told = [line for line in output.splitlines() if line.startswith("trial ")]
        from_here = [line for line in seen.splitlines() if line.startswith("trial ")]
        assert len(from_here) >= 3 and from_here == told[-len(from_here) :], "the very lines of the search itself"
        assert seen.splitlines()[-8:] == output.splitlines()[-8:]
        assert traces(directory) == before
