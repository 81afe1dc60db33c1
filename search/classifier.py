"""The folder of a trained digit classifier, with its figures on the test part, which is read for them and only then.

A search has it written by a process of its own: PyTorch takes seconds of a core to import, and the driver has no other
use for it. Where trials are forked from a process that has PyTorch already, so is that one. A driver that has it too,
in a notebook or to foresee what a constraint bounds, writes the folder itself.

python classifier.py      writes one for each line on its standard input, and answers it with a line
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from results import Epoch, Event, Run, Trial
from results.intervals import wilson
from search.errors import StudyFailed
from search.predictions import PREDICTIONS, predictions
from search.workloads import load_images, whole_configuration
from trainables import Data, DataError

if TYPE_CHECKING:
    from search.study import DataSection
    from trainables.datasets import Part


_Parts: TypeAlias = "tuple[Data, Part]"


def write(
    folder: Path,
    section: "DataSection",
    data: Data,
    test: "Part",
    checkpoint: Path,
    config: Mapping[str, Any],
    *,
    seed: int,
    epochs: int,
    first: Mapping[str, Any],
    last: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the folder of what a checkpoint of the workload `digits` makes.

    Args:
        folder: Replaced, if it is there.
        section: The data set.
        data: Of that section.
        test: Of that section.
        checkpoint: The folder that holds it.
        config: What was trained.
        seed: The trial's.
        epochs: After which the checkpoint was written.
        first: What metrics.json says before the figures.
        last: What it says after them.

    Returns:
        What metrics.json says: with figures of the validation and test parts, the latter with their 95 % interval.

    Raises:
        DataError: The data set is missing or damaged.
        OSError: The folder can't be written.
    """
    from trainables import digits, model
    from trainables.datasets import describe

    about = describe(section.dataset, Path(section.dir), data.sha256)
    _, repeated = about.repeated or (0, 0)
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
    trained = model.make(card, digits.averaged_weights(checkpoint))
    val_loss, val_accuracy = trained.evaluate(data.val_images, data.val_labels)
    test_loss, test_accuracy = trained.evaluate(test.images, test.labels)
    metrics = {
        **first,
        "val_accuracy": val_accuracy,
        "val_loss": val_loss,
        "num_validation": len(data.val_labels),
        "test_accuracy": test_accuracy,
        "test_loss": test_loss,
        "test_accuracy_interval": list(wilson(test_accuracy, len(test.labels))),
        "num_test": len(test.labels),
        **({"num_test_repeated": repeated} if repeated else {}),
        **last,
    }
    model.write(folder, trained, metrics, {PREDICTIONS: predictions(trained, test.images, test.labels)})
    return metrics


def load_test_part(section: "DataSection", sha256: str) -> "Part":
    """The images that nothing but this reads.

    Args:
        section: The data set.
        sha256: Of the data set that was trained on.

    Raises:
        DataError: They are missing or damaged.
    """
    from trainables.datasets import load_part

    return load_part(section.dataset, Path(section.dir), "test", sha256)


class Writer:
    """Has the folders of a search's winners written by another process, for the time of the block.

    Args:
        section: The data set that was searched on.
        sha256: What it was then.
        num_trials: Of the search. That process starts when the last one does: nobody waits for what it imports.
        python: What is typed to have it.
    """

    def __init__(self, section: "DataSection", sha256: str, num_trials: int, python: Sequence[str]) -> None:
        self._section, self._sha256, self._num_trials, self._python = section, sha256, num_trials, python
        self._process: subprocess.Popen[str] | None = None
        self._parts = cache(_parts)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            with suppress(BrokenPipeError):  # what it was asked as it died is still to be sent
                self._process.__exit__(None, None, None)

    def view(self, run: Run, event: Event) -> None:
        """See that the last trial has started."""
        is_last = event["event"] == "trial_started" and event["number"] >= self._num_trials - 1
        if is_last and not _has_pytorch():
            self._started()

    def __call__(
        self, folder: Path, checkpoint: Path | None, trial: Trial, epoch: Epoch, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Have a folder written, and give what its metrics.json says: the facts first.

        Raises:
            DataError: As `write`.
            OSError: As `write`.
            StudyFailed: The process has died over it.
        """
        assert checkpoint is not None, "digits saves its best epoch"
        asked = {
            "folder": str(folder),
            "section": self._section.model_dump(),
            "sha256": self._sha256,
            "checkpoint": str(checkpoint),
            "config": dict(trial.config),
            "seed": trial.seed,
            "epochs": epoch.epoch,
            "first": dict(facts),
            "last": {"num_parameters": epoch.metrics["num_parameters"]},
        }
        if _has_pytorch():
            return _written(asked, self._parts)
        answer = self._answer(json.dumps(asked))
        if "os_error" in answer:
            raise OSError(*answer["os_error"])
        if "data_error" in answer:
            raise DataError(answer["data_error"])
        return dict(answer["metrics"])

    def _answer(self, line: str) -> dict[str, Any]:
        process = self._started()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return dict(json.loads(process.stdout.readline()))
        except (BrokenPipeError, ValueError) as err:
            raise StudyFailed(
                "the process that reads the test part must live until best/ is written, but it died; resume the run "
                "(digitsearch doctor says how much memory there is)"
            ) from err

    def _started(self) -> "subprocess.Popen[str]":
        if not self._process:
            self._process = subprocess.Popen(
                [*self._python, __file__],
                # It finds what this process does; what lies in this file's folder is no module, whatever its name.
                env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                process_group=0,  # Ctrl-C is the driver's
            )
        return self._process


def _serve(asked: IO[str], answers: IO[str]) -> None:
    import torch

    from trainables import model  # noqa: F401  what takes seconds, before anything is asked

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(_num_cores())  # a fork has as many as a trial
    parts = cache(_parts)
    for line in asked:
        try:
            answer: dict[str, Any] = {"metrics": _written(json.loads(line), parts)}
        except OSError as err:
            answer = {"os_error": [err.errno, err.strerror, err.filename]}
        except DataError as err:
            answer = {"data_error": str(err)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _has_pytorch() -> bool:
    return "torch" in sys.modules


def _parts(section: "DataSection", sha256: str) -> "_Parts":
    return load_images(section, sha256), load_test_part(section, sha256)


def _written(asked: Mapping[str, Any], parts: Callable[["DataSection", str], "_Parts"]) -> dict[str, Any]:
    from search.study import DataSection

    folder, checkpoint, section = Path(asked["folder"]), Path(asked["checkpoint"]), DataSection(**asked["section"])
    facts = {name: asked[name] for name in ("config", "seed", "epochs", "first", "last")}
    return write(folder, section, *parts(section, asked["sha256"]), checkpoint, **facts)


def _num_cores() -> int:
    """PyTorch's own choice of threads."""
    import psutil

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, psutil.cpu_count(logical=False) or available)


if __name__ == "__main__":
    _answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    _serve(sys.stdin, _answers)
