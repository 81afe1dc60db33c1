"""Runs in shared storage: against moto's S3 server, a real one on loopback, that also answers late, wrongly or not."""

import os
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import made_runs
import pandas as pd
import pytest
from drivers import Driver, made
from pyarrow import NativeFile
from pyarrow.fs import FileSystem

from results import Epoch, Run, Storage, Trial, open_run, read_events, storage, stored_log
from results.errors import RunError, StorageError
from results.events import log_path
from results.mirror import MirroredLog
from results.report import write_report
from results.storage import place
from results.stored_log import Lease, StoredLog, read_log
from search import UsageError, load_study
from search.checkpoints import checkpoints_of
from search.run_directory import check_new, create
from search.suggest.warm_start import taken
from tests.bucket import SEED, Server, served
from tests.faults import Search

TYPED = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["sound", "faulty"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(request.param) as started:
        yield started


@pytest.fixture
def folder(server: Server) -> Storage:
    """A folder of its own in the bucket."""
    return Storage(f"s3://bucket/{uuid.uuid4().hex}")


def test_what_is_written_is_read_listed_and_deleted(folder: Storage, server: Server, tmp_path: Path) -> None:
    generator, content = random.Random(SEED), {}
    for number in range(15):
        name = f"{generator.choice(['a', 'b/c', 'd'])}/{number}"
        content[name] = generator.randbytes(generator.choice([0, 10, 300_000]))
        folder.write(name, content[name])
    assert folder.names() == sorted(content)
    assert {name: folder.read(name) for name in content} == content
    for name in [name for name in content if name.startswith("a/")]:
        folder.delete(name)
        folder.delete(name)  # gone is gone
    folder.delete_below("b/c")
    left = {name: data for name, data in content.items() if name.startswith("d/")}
    assert folder.names() == sorted(left)
    folder.download("d", tmp_path)
    assert {f"d/{file.name}": file.read_bytes() for file in tmp_path.iterdir()} == left
    folder.upload(tmp_path, "copy/of")
    assert folder.names("copy") == sorted(f"copy/of/{file.name}" for file in tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        folder.read("a/nothing")
    assert folder.names("nothing") == []
    assert not server.share or len(server.faults) > 5


class ReplacedOnce:
    """pyarrow's files, where another process replaces a file once, between the asking for its size and for its bytes."""

    def __init__(self, files: FileSystem, replace: Callable[[], None]) -> None:
        self._files = files
        self._replace: Callable[[], None] | None = replace

    def __getattr__(self, name: str) -> object:
        return getattr(self._files, name)

    def open_input_stream(self, path: str) -> NativeFile:
        stream = self._files.open_input_stream(path)
        if self._replace:
            replace, self._replace = self._replace, None
            replace()
        return stream


@pytest.mark.parametrize("then", [b"a longer one", b"1"])
def test_a_file_that_is_replaced_while_it_is_read_is_the_old_or_the_new(folder: Storage, then: bytes) -> None:
    folder.write("f", b"before")
    read = Storage(str(folder))
    read.__dict__["_files"] = ReplacedOnce(folder._files, lambda: folder.write("f", then))
    assert read.read("f") == then


def test_a_log_grows_and_reads_the_same_at_each_step(
    folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_log, "_MOST_SEGMENTS", 4)
    generator, path = random.Random(SEED), tmp_path / "log.jsonl"
    path.touch()
    log = StoredLog(folder, path)
    for step in range(14):
        with path.open("ab") as file:
            for _ in range(generator.randint(0, 3)):
                file.write(b"x" * generator.randint(1, 50) + b"\n")
            file.write(b"half a li")
        log.append(path.stat().st_size)
        whole = path.read_bytes()[: -len(b"half a li")]
        os.truncate(path, len(whole))
        if step % 4 == 0:
            assert read_log(folder) == whole
    assert len(folder.names("events")) <= 4
    again = StoredLog(folder, path, len(whole))
    with path.open("ab") as file:
        file.write(b"more\n")
    again.append(path.stat().st_size)
    assert read_log(folder) == whole + b"more\n"


def test_a_merge_that_was_cut_short_changes_nothing(folder: Storage) -> None:
    for begin, content in ((0, b"one\n"), (4, b"two\n"), (8, b"three\n")):
        folder.write(f"events/{begin:012d}.jsonl", content)
    folder.write("events/000000000000.jsonl", b"one\ntwo\nthree\n")  # and the two others are still there
    assert read_log(folder) == b"one\ntwo\nthree\n"
    folder.delete("events/000000000004.jsonl")
    assert read_log(folder) == b"one\ntwo\nthree\n"


def test_a_log_with_a_hole_is_refused(folder: Storage) -> None:
    folder.write("events/000000000000.jsonl", b"one\n")
    folder.write("events/000000000008.jsonl", b"three\n")
    with pytest.raises(RunError, match=r"the log lacks what comes before events/000000000008\.jsonl"):
        list(read_events(folder))


@pytest.fixture
def quick_beat(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_log, "_BEAT_S", 0.4)
    monkeypatch.setattr(stored_log, "SILENCE_S", 20.0 if server.share else 2.0)
    monkeypatch.setattr(stored_log, "_SETTLING_S", 0.1)


@pytest.mark.usefixtures("quick_beat")
def test_a_run_has_one_driver_and_a_dead_one_is_followed(
    folder: Storage, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = MirroredLog(folder, tmp_path)
    with pytest.raises(RunError, match=f"process {os.getpid()} on .* holds it; wait for it to end, or stop it"):
        Lease(folder)
    first.append("study_ended", reason="user")
    first.close()
    began = time.monotonic()
    dead = Lease(folder)  # a driver that closed has said so
    assert server.share or time.monotonic() - began < 1.5
    monkeypatch.setattr(stored_log, "SILENCE_S", 1.0)
    second = Lease(folder)
    with pytest.raises(RunError, match="must have one driver at a time"):
        dead._next = 0.0
        dead.beat()
    second.release()


@pytest.mark.usefixtures("quick_beat")
def test_nothing_is_deleted_before_the_log_there_says_so(folder: Storage, tmp_path: Path) -> None:
    log, seen = MirroredLog(folder, tmp_path), []
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model").write_bytes(b"m" * 100_000)
    for number in range(5):
        log.append("study_ended", reason=str(number))
        log.later(lambda number=number: seen.append((number, read_log(folder).count(b"\n"))))  # type: ignore[misc]
        time.sleep(0.15)
    log.close()
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert all(num_events > number for number, num_events in seen)
    assert read_log(folder) == log_path(tmp_path).read_bytes()
    assert folder.read("best/model") == b"m" * 100_000
    assert "events/driver.json" not in folder.names()


@pytest.mark.usefixtures("quick_beat")
def test_a_log_that_cannot_be_brought_to_its_end_says_so(
    folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MirroredLog(folder, tmp_path)
    log.append("study_ended", reason="first")
    monkeypatch.setattr(storage, "_PATIENCE_S", 0.1)

    def out_of_order(self: Storage, path: str, content: bytes) -> None:
        raise StorageError(f"{self}: {path} can't be written: it is out of order")

    monkeypatch.setattr(Storage, "write", out_of_order)
    with pytest.raises(StorageError, match="out of order"):
        for _ in range(50):
            log.append("study_ended", reason="again")
            time.sleep(0.1)
    with pytest.raises(StorageError, match="out of order"):
        log.close()
    log.close()  # said once


@pytest.mark.usefixtures("quick_beat")
def test_a_driver_that_was_asleep_does_not_write_over_its_successors_log(
    folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = MirroredLog(folder, tmp_path)
    asleep._lease._write = lambda: None  # type: ignore[method-assign]  # its beat is heard no more
    monkeypatch.setattr(stored_log, "SILENCE_S", 1.0)
    successor = Lease(folder)
    deleted: list[int] = []
    with pytest.raises(RunError, match="must have one driver at a time"):
        for _ in range(100):
            asleep.append("study_ended", reason="asleep")
            asleep.later(lambda: deleted.append(1))
            time.sleep(0.1)
    with pytest.raises(RunError, match="must have one driver at a time"):
        asleep.close()
    successor.check()  # it holds the run still
    successor.release()


@pytest.mark.usefixtures("quick_beat")
def test_a_run_is_not_begun_on_top_of_another(folder: Storage, tmp_path: Path) -> None:
    study = load_study("quickstart", [f"output={folder}"])
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    log, _, _ = create(study, tmp_path / "first")
    log.close()
    with pytest.raises(UsageError, match="is there already; go on with `digitsearch resume s3://bucket/"):
        check_new(study)
    with pytest.raises(UsageError, match="is there already"):  # both saw that there was none
        create(study, tmp_path / "second")
    assert [event["event"] for event in read_events(study.run_directory)] == ["study_started"]


@pytest.mark.usefixtures("quick_beat")
def test_checkpoints_are_kept_by_what_the_log_names(folder: Storage, tmp_path: Path) -> None:
    log = MirroredLog(folder, tmp_path)
    checkpoints = checkpoints_of(folder, log.later)
    named = {}
    for epoch in (1, 2, 3):
        written = tmp_path / "written"
        (written / "part").mkdir(parents=True)
        (written / "part" / "weights").write_bytes(bytes([epoch]) * 1000)
        (written / "state").write_text(str(epoch))
        named[epoch] = checkpoints.publish(f"checkpoints/trial-0000/epoch-{epoch:04d}", written)
    epochs = [
        Epoch(0, 1, epoch, datetime.now(UTC), 0.1, {}, 0, saved["path"], saved["sha256"])
        for epoch, saved in named.items()
    ]
    with checkpoints.fetched(named[2]["path"]) as fetched:
        assert (fetched / "part" / "weights").read_bytes() == b"\x02" * 1000
    copied = checkpoints.copy(named[2]["path"], "checkpoints/trial-0001/epoch-0002")
    assert copied == {"path": "checkpoints/trial-0001/epoch-0002", "sha256": named[2]["sha256"]}
    assert checkpoints.is_whole(Epoch(1, 1, 2, datetime.now(UTC), 0.1, {}, 0, copied["path"], copied["sha256"]))
    run = Run(trials={0: Trial(0, {}, 1, epochs=epochs[1:])})
    checkpoints.delete_unknown(run)  # of the first epoch no event tells
    checkpoints.delete([named[3]["path"]])
    log.close()
    assert [checkpoints.is_whole(epoch) for epoch in epochs] == [False, True, False]
    folder.write(f"{named[2]['path']}/state", b"other")
    assert not checkpoints.is_whole(epochs[1])


def test_an_earlier_run_in_storage_is_a_start(folder: Storage, tmp_path: Path) -> None:
    log = Driver(tmp_path / "earlier").begin()
    log.finish_trial(2, 0.5)
    log.close()
    folder.write("events/000000000000.jsonl", log_path(tmp_path / "earlier").read_bytes())
    (given,) = taken(made(sampler={"warm_start": [str(folder)]}))
    assert given == {
        "run": str(folder), "trials": [{"config": {"kind": "b", "x": 0.02, "n": 3}, "value": 0.5}], "dropped": []
    }  # fmt: skip


def test_a_report_is_made_where_the_run_lies(folder: Storage, tmp_path: Path) -> None:
    run = made_runs.Search(12).write(tmp_path)
    folder.write("events/000000000000.jsonl", log_path(run).read_bytes())
    folder.write("figures/of-an-earlier-report.png", b"")
    written = write_report(folder)
    assert str(written.page) == f"{folder}/report.html" and str(written.figures) == f"{folder}/figures"
    assert folder.names("figures") == sorted(f"figures/{name}" for name in written.names)
    write_report(run)
    assert folder.read("report.html") == (run / "report.html").read_bytes()
    assert folder.read("figures/curves.png") == (run / "figures" / "curves.png").read_bytes()


@pytest.mark.parametrize(
    ("said", "has_answered", "may_pass"),
    [
        ("When listing in bucket 'forbidden-credentials': AWS Error SLOW_DOWN during X operation", True, True),
        ("AWS Error REQUEST_TIMEOUT (HTTP status 400) during PutObject operation: slow", True, True),
        ("AWS Error NETWORK_CONNECTION during X operation: curlCode: 6, Could not resolve hostname", False, False),
        ("AWS Error NETWORK_CONNECTION during X operation: curlCode: 6, Could not resolve hostname", True, True),
        ("AWS Error ACCESS_DENIED during PutObject operation: no", True, False),
        ("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: none", True, False),
    ],
)
def test_what_waiting_may_mend_is_tried_again(said: str, has_answered: bool, may_pass: bool) -> None:
    assert storage._may_pass(OSError(said), has_answered) is may_pass


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3:///x",
        "ftp://host/x",
        "s3://key:secret@bucket/x",
        "s3://bucket/../x",
        "s3://bucket/x?endpoint=y",
        "file://x/y",
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(address: str) -> None:
    with pytest.raises(RunError, match=r"shared storage must be named like s3://bucket/prefix") as caught:
        place(address)
    assert "secret" not in str(caught.value)


def test_places_are_folders_or_storage() -> None:
    assert place("runs/x") == Path("runs/x") and place("file:///runs/x") == Path("/runs/x")
    assert str(Storage("s3://bucket/a/") / "b") == "s3://bucket/a/b" and place("gs://b/x") == Storage("gs://b/x/")


def test_azure_without_an_account_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    storage._file_system.cache_clear()
    with pytest.raises(StorageError, match="az:// needs AZURE_STORAGE_ACCOUNT"):
        place("az://container/x").read("y")  # type: ignore[union-attr]


class StoredSearch(Search):
    """A search that lies in the bucket, and is resumed from another folder than it was begun in."""

    def __init__(self, folders: tuple[Path, Path], words: list[str], run: Storage) -> None:
        self.folders, self.words, self.run_directory = folders, words, run  # type: ignore[assignment]
        self.folder = folders[0]

    def begin(self) -> "subprocess.Popen[str]":
        if not self.num_events():
            return self.start("run", *self.words)
        self.folder = self.folders[1]
        return self.start("resume", str(self.run_directory))

    def num_events(self) -> int:
        return read_log(self.run_directory).count(b"\n")  # type: ignore[arg-type]


def whole(run: Storage, tmp_path: Path) -> SimpleNamespace:
    """What lies there after the end: both tables, and every event."""
    for name in ("trials", "epochs"):
        (tmp_path / f"{name}.parquet").write_bytes(run.read(f"{name}.parquet"))
    tables = {name: pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("trials", "epochs")}
    return SimpleNamespace(**tables, events=list(read_events(run)), files=run.names())


@pytest.mark.ray
@pytest.mark.parametrize("server", [0.2], indirect=True, ids=["faulty"])
def test_a_small_search_in_a_bucket_is_whole(server: Server, type_in: TYPED, tmp_path: Path) -> None:
    few = ("budget.trials=3", "budget.wall=5m", "early_stop.max_epochs=2", "output=s3://bucket/small")
    typed = type_in("run", "quickstart", *(f"--set={word}" for word in few))
    assert typed.returncode == 0 and "model:  s3://bucket/small/quickstart/best" in typed.stdout, typed.stderr
    found = whole(Storage("s3://bucket/small/quickstart"), tmp_path)
    assert list(found.trials["number"]) == [0, 1, 2] and found.events[-1]["event"] == "winner_chosen"
    assert len(found.epochs) == found.trials["epochs"].sum() and "best/predictions.parquet" in found.files
    assert not (tmp_path / "runs").exists()


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.parametrize("server", [0.2], indirect=True, ids=["faulty"])
def test_a_run_in_a_bucket_is_confirmed_there(server: Server, type_in: TYPED, tmp_path: Path) -> None:
    few = ("--set=budget.trials=3", "--set=early_stop.max_epochs=2", "--set=output=s3://bucket/sure")
    assert type_in("run", "quickstart", *few).returncode == 0
    typed = type_in("confirm", "s3://bucket/sure/quickstart", "--top", "1", "--seeds", "2")
    assert typed.returncode == 0 and "confirmed: val_accuracy" in typed.stdout, typed.stderr
    assert whole(Storage("s3://bucket/sure/quickstart"), tmp_path).trials["confirmed_n"].max() == 2
    (tmp_path / "inside").mkdir()
    inside = whole(Storage("s3://bucket/sure/quickstart/confirm-1"), tmp_path / "inside")
    assert list(inside.trials["state"]) == ["finished"] * 2


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.parametrize("num_trials", [8, 24])
def test_quickstart_in_a_bucket_with_faults_is_killed_and_resumed_elsewhere(
    num_trials: int, type_in: TYPED, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto", reason="moto's S3 server is needed: pip install 'moto[s3]' flask flask-cors")
    server = Server(0.05)
    server.make_bucket()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    storage._file_system.cache_clear()
    try:
        run = Storage("s3://bucket/runs/quickstart")
        folders = tmp_path / "first", tmp_path / "second"
        for folder in folders:
            folder.mkdir()
        words = ["quickstart", "--set=output=s3://bucket/runs", "--set=budget.wall=10m"]
        if num_trials != load_study("quickstart").budget.trials:
            words.append(f"--set=budget.trials={num_trials}")
        search = StoredSearch(folders, words, run)
        search.kill_at(40)
        before = list(read_events(run))
        assert len(before) >= 40 and open_run(run).winner is None
        output = search.finish(timeout_s=400)
        assert f"model:  {run}/best" in output
        search.check_nothing_was_done_twice()

        found = whole(run, tmp_path)
        assert found.events[: len(before)] == before  # what had been told is still told
        assert list(found.trials["number"]) == list(range(num_trials))
        assert set(found.trials["state"]) <= {"finished", "stopped"}
        assert not found.epochs.duplicated(["number", "epoch"]).any()
        assert len(found.epochs) == found.trials["epochs"].sum()
        for number, rows in found.epochs.groupby("number"):
            assert list(rows["epoch"]) == list(range(1, len(rows) + 1)), number
        assert any(event["event"] == "trial_started" and event["epoch"] > 0 for event in found.events[len(before) :])
        assert "best/predictions.parquet" in found.files
        kept = {event.rpartition("/")[0] for event in found.files if event.startswith("checkpoints/")}
        named = {epoch.checkpoint for trial in open_run(run).trials.values() for epoch in trial.checkpoints}
        assert kept == named and len(kept) <= 3
        assert not any(folder.joinpath("runs").exists() for folder in folders)
        assert len(server.faults) > 5, "a test of faults that had none"

        assert f"{num_trials}" in type_in("status", str(run)).stdout
        assert type_in("trials", str(run), "--format", "csv").stdout.count("\n") == num_trials + 1
        picture = tmp_path / "digit.png"
        from PIL import Image

        Image.linear_gradient("L").resize((8, 8)).save(picture)
        assert "digit.png" in type_in("predict", str(run), str(picture)).stdout
        assert "digit.png" in type_in("predict", f"{run}/best", str(picture)).stdout
        nothing = type_in("predict", "s3://bucket/nothing", str(picture))
        assert nothing.returncode == 2 and "'s3://bucket/nothing' must be a run that has a winner" in nothing.stderr
        again = type_in("run", "quickstart", "--set=output=s3://bucket/runs")
        assert again.returncode == 2 and f"'{run}' is there already" in again.stderr
    finally:
        server.stop()
        storage._file_system.cache_clear()


def test_storage_that_cannot_be_reached_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    storage._file_system.cache_clear()
    monkeypatch.setattr(storage, "_PATIENCE_S", 0.5)
    with pytest.raises(StorageError, match=r"s3://bucket/x: it can't be listed: AWS Error NETWORK_CONNECTION"):
        open_run(Storage("s3://bucket/x"))
    storage._file_system.cache_clear()
