"""A run is followed: each event once, as it comes, with nothing written and nobody disturbed."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from results import Event, EventLog, RunError, Storage, events, fold, follow, open_run, read_events, stored_log
from results.events import holder, is_held, log_path
from results.follow import Follower
from results.mirror import MirroredLog
from results.stored_log import StoredLog
from tests.bucket import SEED, served
from tests.drivers import Driver

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_PAUSE_S", 0.02)
    monkeypatch.setattr(follow, "_PAUSE_STORED_S", 0.05)
    monkeypatch.setattr(follow, "_BEGIN_S", 1.0)


@pytest.fixture
def log(tmp_path: Path) -> bytes:
    """A whole log."""
    driver = Driver(tmp_path / "whole").begin()
    driver.every_kind_of_trial()
    driver.crown(5, 0.6)
    driver.close()
    return log_path(tmp_path / "whole").read_bytes()


def as_if_written(run_directory: Path, content: bytes) -> None:
    log_path(run_directory).parent.mkdir(parents=True, exist_ok=True)
    with log_path(run_directory).open("ab") as file:
        file.write(content)


def test_a_log_that_grows_byte_by_byte_is_read_once_and_a_torn_line_waits_for_its_rest(
    log: bytes, tmp_path: Path
) -> None:
    generator, seen, at = random.Random(SEED), [], log.index(b"\n") + 5
    as_if_written(tmp_path / "run", log[:at])
    follower = Follower(tmp_path / "run")
    assert follower.run.study["name"] == "w" and not follower.run.trials
    while at < len(log):
        size = generator.choice([1, 10, 200, 1000])
        as_if_written(tmp_path / "run", log[at : at + size])
        at += size
        for event in follower.new():
            seen.append(event)
            number = event.get("number")
            assert event["event"] != "trial_ended" or follower.run.trials[number].state == event["state"]
    everything = list(read_events(tmp_path / "whole"))
    # A number that is none is not equal to itself.
    assert repr(seen) == repr(everything[1:]) and repr(follower.run) == repr(fold(everything))
    assert list(follower.new()) == []


def in_the_background(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_it_ends_when_the_driver_is_gone_and_has_then_seen_all(tmp_path: Path) -> None:
    driver = Driver(tmp_path).begin()
    follower = Follower(tmp_path)

    def search() -> None:
        driver.every_kind_of_trial()
        time.sleep(0.2)
        driver.tell("study_ended", reason="trials")
        time.sleep(0.4)  # the winner meets the test part
        driver.tell("winner_chosen", number=5, epoch=3, metrics={})
        driver.close()

    searching = in_the_background(search)
    kinds = [event["event"] for event in follower.until_over()]
    searching.join()
    assert kinds[-2:] == ["study_ended", "winner_chosen"] and follower.run.winner
    assert list(follower.until_over()) == []  # over at once


def test_a_run_that_is_taken_up_again_is_followed_on(tmp_path: Path) -> None:
    driver = Driver(tmp_path).begin()
    driver.every_kind_of_trial()
    driver.tell("study_ended", reason="user")
    follower = Follower(tmp_path)  # the driver still lives

    def resume() -> None:
        time.sleep(0.2)
        driver.resume(set_aside=(0,))
        driver.train(4, 0.5, attempt=2, epoch=1)
        driver.close()

    resuming = in_the_background(resume)
    seen = list(follower.until_over())
    resuming.join()
    assert [event["event"] for event in seen] == ["study_resumed", "trial_started", "epoch_reported"]
    trial = follower.run.trials[4]
    assert [epoch.metrics["score"] for epoch in trial.epochs] == [0.3, 0.5], "the epochs that were lost are gone"
    assert not follower.run.trials[0].counts and follower.run.ended is None


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A driver that lives until it is killed; of tmp_path / "run"."""
    code = f"from pathlib import Path\nfrom tests.drivers import drive_for_ever\ndrive_for_ever(Path({str(tmp_path / 'run')!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 30
    log = log_path(tmp_path / "run")
    while not log.exists() or b"epoch_reported" not in log.read_bytes().rpartition(b'{"event"')[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_a_driver_that_is_killed_is_noticed(other_process: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    follower = Follower(tmp_path / "run")
    assert follower.is_driven() is True and holder(tmp_path / "run")["pid"] == other_process.pid  # type: ignore[index]
    killing = threading.Timer(0.3, other_process.send_signal, [signal.SIGKILL])
    killing.start()
    began = time.monotonic()
    assert list(follower.until_over()) == [] and time.monotonic() - began >= 0.3
    assert follower.is_driven() is False and follower.run.ended is None and follower.run.count("running") == 1


def test_what_cannot_be_told_from_here_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(tmp_path).begin()
    text = (tmp_path / "events" / "driver.json").read_text()
    elsewhere = text.replace('"host": "', '"host": "not-')
    assert elsewhere != text
    (tmp_path / "events" / "driver.json").write_text(elsewhere)
    seen, driver_seen = Follower(tmp_path), Follower(tmp_path)
    assert driver_seen.is_driven() is True  # a shared folder whose locks reach to here
    driver.close()
    assert driver_seen.is_driven() is False
    assert seen.is_driven() is None  # one whose locks may not

    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("results.events.fcntl.flock", no_locks)
    assert driver_seen.is_driven() is None


def test_a_driver_that_takes_over_between_two_looks_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Driver(tmp_path).begin().close()
    said = tmp_path / "events" / "driver.json"
    said.write_text(said.read_text().replace('"host": "', '"host": "not-'))
    follower, drivers = Follower(tmp_path), []

    def held_until_now(directory: Path) -> bool:
        is_so = is_held(directory)
        drivers.append(Driver(directory))
        return is_so

    monkeypatch.setattr(follow, "is_held", held_until_now)
    assert not follower.is_over() and len(drivers) == 1
    monkeypatch.undo()
    assert follower.is_driven() is True
    drivers[0].close()
    assert follower.is_over()


@pytest.mark.parametrize(
    ("what", "is_over"),
    [
        ("nothing", False),
        ("ended", False),
        ("crowned", True),
        ("interrupted", True),
        ("without a winner", True),
    ],
)
def test_without_sight_of_the_driver_the_log_says_whether_more_will_come(
    what: str, is_over: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(tmp_path).begin()
    if what != "without a winner":
        driver.finish_trial(0, 0.5)
    if what == "crowned":
        driver.crown(0, 0.5)
    elif what != "nothing":
        driver.tell("study_ended", reason="user" if what == "interrupted" else "trials")
    follower = Follower(tmp_path)
    looks = iter([None, None, False])
    monkeypatch.setattr(follower, "is_driven", lambda: next(looks))
    assert list(follower.until_over()) == []
    assert (len(list(looks)) == 2) is is_over


def test_who_looks_does_not_keep_a_driver_from_beginning(tmp_path: Path) -> None:
    Driver(tmp_path).begin().close()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.001):
            is_held(tmp_path)

    looking = [in_the_background(look) for _ in range(4)]
    try:
        for _ in range(150):
            EventLog(tmp_path).close()
    finally:
        over.set()
        for thread in looking:
            thread.join()


def test_a_second_driver_is_still_refused(tmp_path: Path) -> None:
    driver = Driver(tmp_path).begin()
    assert is_held(tmp_path)
    with pytest.raises(RunError, match=f"must have one driver at a time, got a second: process {os.getpid()} on "):
        EventLog(tmp_path)
    driver.close()
    assert not is_held(tmp_path)


def test_a_log_that_has_only_just_been_made_is_waited_for(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    beginning = threading.Timer(0.3, driver.begin)
    beginning.start()
    assert Follower(tmp_path).run.study["name"] == "w"
    beginning.join()
    (tmp_path / "empty" / "events").mkdir(parents=True)
    log_path(tmp_path / "empty").touch()
    with pytest.raises(RunError, match="the log must begin with study_started; nothing can be read from it"):
        Follower(tmp_path / "empty")


def test_what_is_no_run_or_is_one_no_more_is_said(log: bytes, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"is not a run directory: it has no events/log.jsonl; name one, like runs/quick"
    ):
        Follower(tmp_path / "none")
    as_if_written(tmp_path / "run", log)
    deleted, replaced, damaged = (Follower(tmp_path / "run") for _ in range(3))
    as_if_written(tmp_path / "run", b"not an event\n")
    last = log.count(b"\n") + 1
    with pytest.raises(RunError, match=rf"log\.jsonl: line {last} must be a JSON object, got b'not an event'"):
        list(damaged.new())
    log_path(tmp_path / "run").unlink()
    with pytest.raises(RunError, match=r"was deleted while it was followed$"):
        list(deleted.new())
    as_if_written(tmp_path / "run", log[: log.index(b"\n") + 1])
    with pytest.raises(RunError, match="was deleted while it was followed, and is another run now"):
        list(replaced.new())


def test_a_linked_log_is_refused(log: bytes, tmp_path: Path) -> None:
    as_if_written(tmp_path / "other", log)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events").symlink_to(tmp_path / "other" / "events")
    with pytest.raises(RunError, match="must be a part of its run directory, got a link"):
        Follower(tmp_path / "run")


@pytest.fixture(scope="module")
def bucket() -> Iterator[None]:
    with served():
        yield


@pytest.fixture
def folder(bucket: None) -> Storage:
    """A folder of its own in a bucket."""
    return Storage(f"s3://bucket/{uuid.uuid4().hex}")


def test_of_a_log_in_storage_only_what_is_new_is_fetched(
    log: bytes, folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_log, "_MOST_SEGMENTS", 3)
    generator, path, lines = random.Random(SEED), tmp_path / "log.jsonl", log.splitlines(keepends=True)
    fetched, read = [0], Storage.read

    def counted(self: Storage, name: str) -> bytes:
        content = read(self, name)
        fetched[0] += len(content)
        return content

    path.write_bytes(lines.pop(0))
    stored = StoredLog(folder, path)
    stored.append(path.stat().st_size)
    follower, seen = Follower(folder), []
    monkeypatch.setattr(Storage, "read", counted)
    while lines:
        size = min(generator.randint(1, 5), len(lines))
        for _ in range(generator.choice([1, 1, 4])):  # segments are merged under the reader too
            taken, lines = lines[:size], lines[size:]
            path.write_bytes(path.read_bytes() + b"".join(taken))
            stored.append(path.stat().st_size)
        seen += list(follower.new())
        before = fetched[0]
        assert list(follower.new()) == [] and fetched[0] == before, "nothing new is nothing fetched"
    assert repr(seen) == repr(list(read_events(tmp_path / "whole"))[1:])
    for _, _, name in stored_log._segments(folder):
        folder.delete(name)
    with pytest.raises(RunError, match="its log has become shorter: the run was deleted, or is another one now"):
        list(follower.new())


def test_a_run_in_storage_is_followed_to_its_end_and_a_silent_driver_is_dead(
    folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"_BEAT_S": 0.2, "SILENCE_S": 4.0, "_SETTLING_S": 0.1}.items():
        monkeypatch.setattr(stored_log, name, seconds)
    with pytest.raises(RunError, match="is not a run directory: it has no log; name one, like s3://bucket/mnist"):
        Follower(folder)
    (tmp_path / "copy").mkdir()
    driver = Driver(tmp_path / "copy", MirroredLog(folder, tmp_path / "copy")).begin()
    deadline = time.monotonic() + 10
    while not stored_log.exists(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    follower = Follower(folder)

    def search() -> None:
        driver.every_kind_of_trial()
        time.sleep(5)  # longer than a dead driver is silent
        driver.crown(5, 0.6)
        driver.close()

    searching = in_the_background(search)
    seen: list[Event] = list(follower.until_over())
    searching.join()
    assert follower.run.winner and len(seen) == log_path(tmp_path / "copy").read_bytes().count(b"\n") - 1
    assert repr(follower.run) == repr(open_run(folder))

    # A driver that was killed leaves its last beat.
    folder.write("events/driver.json", b'{"driver": "d", "beat": 7}')
    began = time.monotonic()
    assert list(follower.until_over()) == [] and 3 < time.monotonic() - began < 15


def test_the_pauses_of_a_driver_that_begins_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(tmp_path).begin().close()
    monkeypatch.setattr(events, "_PAUSES_S", (0.0,))
    with log_path(tmp_path).open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_SH)
        with pytest.raises(RunError, match="must have one driver at a time"):
            EventLog(tmp_path)
        monkeypatch.setattr(events, "_PAUSES_S", (0.0, 0.5))
        letting_go = threading.Timer(0.2, fcntl.flock, [log, fcntl.LOCK_UN])
        letting_go.start()
        EventLog(tmp_path).close()
        letting_go.join()
