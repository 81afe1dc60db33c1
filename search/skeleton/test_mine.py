"""The workload in mine.py: by itself, from a checkpoint, and in a search of one trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mine
import pytest

from search import load_study, run
from trainables import Save, Trial

HERE = Path(__file__).parent
CONFIG = {"degree": 3, "method": "momentum", "learning_rate": 0.1, "momentum": 0.9}
EPOCHS, SAVE_AT = 6, 2


def losses(folder: Path, **where: Any) -> list[float]:
    """What a trial reports, without Ray; the checkpoint of one epoch is written into the folder."""
    found: list[float] = []

    def report(metrics: Mapping[str, float], save: Save | None = None) -> None:
        found.append(float(metrics["val_loss"]))
        if save and len(found) == SAVE_AT and not where:
            save(folder)

    trial = Trial(mine.load(), seed=1, device="cpu", num_threads=1, max_epochs=EPOCHS, report=report, **where)
    mine.train(CONFIG, trial)
    return found


def test_it_reports_each_epoch_and_learns(tmp_path: Path) -> None:
    found = losses(tmp_path)
    assert len(found) == EPOCHS and found[-1] < found[0]


def test_a_trial_that_goes_on_is_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    whole = losses(tmp_path)
    assert losses(tmp_path, epoch=SAVE_AT, checkpoint=tmp_path) == whole[SAVE_AT:]


def test_a_search_of_one_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    outcome = run(load_study("mine.yaml", ["budget.trials=1", f"output={tmp_path}"]), address="local")
    assert outcome.run.count("finished") == 1 and (tmp_path / "mine" / "best" / "checkpoint").is_dir()
