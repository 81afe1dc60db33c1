"""The winner: the best of the trials that had the whole budget. It alone meets the test part, once, at the end."""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from results import Epoch, Run, Trial
from results.errors import RunWarning
from results.intervals import wilson
from search.checkpoints import Checkpoints
from search.errors import NoTrialSucceeded, StudyFailed
from search.predictions import PREDICTIONS, predictions
from search.study import DataSection, Study
from search.workloads import whole_configuration
from trainables import Data


def crown(study: Study, run_directory: Path, checkpoints: Checkpoints, run: Run, data: Any) -> dict[str, Any]:
    """Make `best/` of the winner's best checkpoint.

    Args:
        study: What was searched.
        run_directory: Gets `best/`.
        checkpoints: Of the run.
        run: Ended.
        data: As the trials had it; its validation part is evaluated again.

    Returns:
        `number`, `epoch` and `metrics`, the facts of the event winner_chosen.

    Raises:
        NoTrialSucceeded: No trial had the whole budget.
        StudyFailed: The winner's checkpoint is missing or damaged.
    """
    candidates = run.ranking()
    if not candidates:
        raise NoTrialSucceeded(why_none(run))
    trial, epoch = _first_whole(study.name, checkpoints, run, candidates)
    facts: dict[str, Any] = {"trial": trial.number, "epoch": epoch.epoch, "seed": trial.seed}
    best = run_directory / "best"
    with checkpoints.fetched(epoch.checkpoint) if epoch.checkpoint else nullcontext() as saved:
        if study.workload == "digits" and isinstance(study.data, DataSection):
            assert saved is not None, "digits saves its best epoch"
            metrics = _write_digits(study.data, best, saved, trial, epoch, data, facts)
        else:
            metrics = _write_other(study, best, saved, trial, epoch, facts)
    return {"number": trial.number, "epoch": epoch.epoch, "metrics": metrics}


def why_none(run: Run) -> str:
    """Why a run that has ended has no winner."""
    failed, stopped = run.count("failed"), run.count("stopped", "interrupted")
    if failed > stopped:
        errors = [trial.error or "" for trial in run.trials.values() if trial.state == "failed"]
        commonest = max(set(errors), key=errors.count)
        return f"no trial succeeded: {failed} failed, {errors.count(commonest)} of them with: {commonest}"
    return (
        f"no trial had the whole budget of epochs: {stopped} were stopped, {failed} failed; "
        "give the search more budget.wall or budget.trials, or fewer early_stop.max_epochs"
    )


def _first_whole(name: str, checkpoints: Checkpoints, run: Run, candidates: Sequence[Trial]) -> tuple[Trial, Epoch]:
    """The best candidate whose best checkpoint can be used; those passed over are named in a warning."""
    damaged: list[str] = []
    for trial in candidates:
        epoch = run.best_epoch(trial, saved=True) or run.best_epoch(trial)
        assert epoch is not None, "a ranked trial has a best epoch"
        if epoch.sha256 is None and not damaged:
            return trial, epoch  # It never saved one: a workload need not.
        if checkpoints.is_whole(epoch):
            if damaged:
                warnings.warn(
                    f"{name}: {damaged[0]}; trial {trial.number}, the next best, wins",
                    category=RunWarning,
                    stacklevel=2,
                )
            return trial, epoch
        damaged.append(f"the checkpoint of trial {trial.number} at epoch {epoch.epoch} is damaged or gone")
    raise StudyFailed(f"the run of {name!r} must hold a whole checkpoint of a good trial, got none: {damaged[0]}")


def _write_digits(
    section: DataSection,
    best: Path,
    checkpoint: Path,
    trial: Trial,
    epoch: Epoch,
    data: Data,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    from trainables import model
    from trainables.datasets import load_part

    winner = digits_model(section, checkpoint, trial.config, data, seed=trial.seed, epochs=epoch.epoch)
    test = load_part(section.dataset, Path(section.dir), "test")
    metrics = {**facts, **scores(winner, data, test.images, test.labels)}
    metrics["num_parameters"] = epoch.metrics["num_parameters"]
    model.write(best, winner, metrics, {PREDICTIONS: predictions(winner, test.images, test.labels)})
    return metrics


def digits_model(
    section: DataSection, checkpoint: Path, config: Mapping[str, Any], data: Data, *, seed: int, epochs: int
) -> Any:
    """The `trainables.model.Model` that a checkpoint of the workload `digits` makes."""
    from trainables import digits, model
    from trainables.datasets import describe

    about = describe(section.dataset, Path(section.dir))
    card = model.Card(
        config=whole_configuration(config),  # defaults may change; what was trained does not
        height=about.height,
        width=about.width,
        class_names=tuple(about.class_names),
        mean=data.mean,
        std=data.std,
        dataset=section.dataset,
        seed=seed,
        epochs=epochs,
    )
    return model.make(card, digits.averaged_weights(checkpoint))


def scores(trained: Any, data: Data, test_images: Any, test_labels: Any) -> dict[str, Any]:
    """What metrics.json says of a model: validation and test figures, the latter with their 95 % interval."""
    val_loss, val_accuracy = trained.evaluate(data.val_images, data.val_labels)
    test_loss, test_accuracy = trained.evaluate(test_images, test_labels)
    return {
        "val_accuracy": val_accuracy,
        "val_loss": val_loss,
        "num_validation": len(data.val_labels),
        "test_accuracy": test_accuracy,
        "test_loss": test_loss,
        "test_accuracy_interval": list(wilson(test_accuracy, len(test_labels))),
        "num_test": len(test_labels),
    }


def _write_other(
    study: Study, best: Path, checkpoint: Path | None, trial: Trial, epoch: Epoch, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """A workload of one's own: its checkpoint, if it saves any, as it saved it, with its configuration and metrics."""
    unfinished = best.with_name(best.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    if checkpoint:
        shutil.copytree(checkpoint, unfinished / "checkpoint")
    config = {"workload": study.workload, "config": dict(trial.config), "seed": trial.seed}
    (unfinished / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    metrics = {**facts, **epoch.metrics, **facts}  # a function may report an `epoch` of its own; the tables have it
    (unfinished / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(best, ignore_errors=True)
    unfinished.rename(best)
    return metrics
