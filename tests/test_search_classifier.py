"""The winner's folder, written by a process of its own."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from results import Epoch, Event, Run, Trial
from search import Outcome, StudyFailed, classifier, load_study, resume, run
from search.classifier import Writer
from search.rerun import rerun
from search.study import DataSection
from trainables import DataError, datasets

pytestmark = pytest.mark.ray
OPTDIGITS = datasets.sha256("optdigits", Path("data"))


def section(**changes: Any) -> DataSection:
    data = load_study("quickstart").data
    assert isinstance(data, DataSection)
    return data.model_copy(update=changes)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if "classifier.py" in " ".join(child.cmdline())}


def of_few_pictures(tmp_path: Path) -> tuple[str, Path]:
    """A data set of one's own, and the folder that it is prepared in."""
    part = datasets.load_part("optdigits", Path("data"), "train")
    for index in range(200):
        path = tmp_path / "mine" / ("train" if index < 150 else "test") / str(part.labels[index]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part.images[index]).save(path)
    return str(tmp_path / "mine"), datasets.prepare(str(tmp_path / "mine"), tmp_path)


@pytest.fixture(autouse=True)
def _in_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "_has_pytorch", lambda: False)  # these tests have it


@pytest.fixture
def writer() -> Iterator[Writer]:
    with Writer(section(), OPTDIGITS, 2, [sys.executable]) as writer:
        yield writer
    assert not children()


@pytest.fixture
def won(finished: Outcome) -> tuple[Path, Trial, Epoch]:
    """The winner's checkpoint, the trial and the epoch."""
    winner = finished.run.winner
    assert winner is not None
    trial = finished.run.trials[winner["number"]]
    epoch = trial.epochs[winner["epoch"] - 1]
    assert epoch.checkpoint is not None
    return Path(finished.run_directory) / epoch.checkpoint, trial, epoch


@pytest.mark.usefixtures("ray_cluster")
def test_the_test_part_is_read_after_the_search(tmp_path: Path) -> None:
    pictures, data = of_few_pictures(tmp_path)
    hidden, test = tmp_path / "hidden", data / "test.safetensors"
    test.rename(hidden)

    def give_back(run_: Run, event: Event) -> None:
        if event["event"] == "study_ended":
            hidden.rename(test)

    few = ["budget.trials=1", "budget.wall=5m", "early_stop.max_epochs=2", f"output={tmp_path}"]
    mine = [f"data.dataset={pictures}", f"data.dir={tmp_path}", "data.validation=50"]
    outcome = run(load_study("quickstart", [*few, *mine]), views=[give_back])
    assert outcome.run.winner is not None and outcome.run.winner["metrics"]["num_test"] == 50


FEW = (
    "budget.trials=1",
    "budget.wall=5m",
    "early_stop.max_epochs=2",
    "space={model: {choice: [mlp]}}",
    "data.validation=50",
)


@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_is_prepared_by_a_search_and_a_run_goes_on_with_its_own_images_alone(tmp_path: Path) -> None:
    pictures, prepared = of_few_pictures(tmp_path)
    shutil.rmtree(prepared)
    mine = [*FEW, f"output={tmp_path}", f"data.dataset={pictures}", f"data.dir={tmp_path}"]
    first = run(load_study("quickstart", [*mine, "name=first"]))
    recorded = datasets.sha256(pictures, tmp_path)
    assert first.run.data_sha256 == recorded and first.run.winner
    for part in ("train", "test"):
        next((tmp_path / "mine" / part).glob("*/*.png")).unlink()
    assert resume(first.run_directory, "budget.trials=2").run.winner["metrics"]["num_test"] == 50  # type: ignore[index]

    second = run(load_study("quickstart", [*mine, "name=second"]))
    assert second.run.data_sha256 == datasets.sha256(pictures, tmp_path) != recorded
    assert second.run.winner and second.run.winner["metrics"]["num_test"] == 49
    assert rerun(first.run_directory, 0, lambda epoch: None).differences == []
    again = resume(first.run_directory, "budget.trials=3")
    assert again.run.winner and again.run.winner["metrics"]["num_test"] == 50
    shutil.rmtree(prepared.with_name(f"{prepared.name}-{recorded[:8]}"))
    with pytest.raises(DataError, match="must be what the run began with, got other images under its name"):
        resume(first.run_directory, "budget.trials=4")


def test_a_winner_meets_no_test_part_of_other_images(won: tuple[Path, Trial, Epoch], tmp_path: Path) -> None:
    pictures, _ = of_few_pictures(tmp_path)
    mine = section(dataset=pictures, dir=str(tmp_path), validation=0.5)
    must = "must be what the run began with"
    with Writer(mine, "another", 2, [sys.executable]) as writer, pytest.raises(DataError, match=must):
        writer(tmp_path / "best", *won, {})
    assert not (tmp_path / "best").exists()


def test_the_process_starts_with_the_last_trial(writer: Writer) -> None:
    before = children()
    writer.view(Run(), {"event": "trial_started", "number": 0})
    assert children() == before
    writer.view(Run(), {"event": "trial_started", "number": 1})
    (started,) = children() - before
    writer.view(Run(), {"event": "trial_started", "number": 1})  # another attempt
    assert children() - before == {started}


@pytest.mark.parametrize("by_itself", [False, True])
def test_it_writes_what_the_search_has_written_and_reads_the_test_part_once(
    by_itself: bool,
    writer: Writer,
    won: tuple[Path, Trial, Epoch],
    finished: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    real = datasets.load_part

    def watched(name: str, folder: Path, part: Any, sha256: str) -> Any:
        read.append(part)
        return real(name, folder, part, sha256)

    monkeypatch.setattr(datasets, "load_part", watched)
    if by_itself:
        monkeypatch.setattr(classifier, "_has_pytorch", lambda: True)
    writer.view(Run(), {"event": "trial_started", "number": 1})
    assert len(children()) == (not by_itself)
    checkpoint, trial, epoch = won
    facts = {"trial": trial.number, "epoch": epoch.epoch, "seed": trial.seed}
    for name in ("one", "two"):  # of a Pareto set
        metrics = writer(tmp_path / name, checkpoint, trial, epoch, facts)
        files = {path.name: path.read_bytes() for path in (Path(finished.run_directory) / "best").iterdir()}
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == files
        assert json.loads((tmp_path / name / "metrics.json").read_text()) == metrics
    assert read == ["train", "test"] * by_itself


def test_what_can_not_be_read_or_written_is_told_as_if_by_this_process(
    writer: Writer, won: tuple[Path, Trial, Epoch], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as written:
        writer(tmp_path / "file" / "best", *won, {})
    assert written.value.filename == str(tmp_path / "file" / "best.tmp")
    pictures, data = of_few_pictures(tmp_path)
    (data / "test.safetensors").unlink()
    mine = section(dataset=pictures, dir=str(tmp_path), validation=0.5)
    with Writer(mine, datasets.sha256(pictures, tmp_path), 2, [sys.executable]) as another:
        with pytest.raises(DataError, match=r"test\.safetensors") as read:
            another(tmp_path / "best", *won, {})
        with pytest.raises(DataError) as here:
            datasets.load_part(pictures, tmp_path, "test")
        assert str(read.value) == str(here.value)
    assert not (tmp_path / "best").exists()


def test_a_process_that_dies_loses_nothing_but_the_folder(
    writer: Writer, won: tuple[Path, Trial, Epoch], tmp_path: Path
) -> None:
    before = children()
    writer.view(Run(), {"event": "trial_started", "number": 1})
    (started,) = children() - before
    os.kill(started, 9)
    psutil.wait_procs([psutil.Process(started)], timeout=10)
    with pytest.raises(StudyFailed, match=r"must live until best/ is written, but it died; resume the run"):
        writer(tmp_path / "best", *won, {})
    assert not (tmp_path / "best").exists()
