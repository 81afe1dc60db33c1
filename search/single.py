"""Train one model, without a search and without Ray."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search import classifier, yaml_text
from search.errors import StudyError, UsageError
from search.study import DataSection, Study
from search.workloads import load_images, whole_configuration
from spaces import DIGITS_PARAMETERS, SpaceError
from trainables import Data, Save, Trial
from trainables.memory import is_exhausted

# One epoch of MNIST, twenty of the 1,437 images of optdigits.
_IMAGES_SHOWN, _MOST_EPOCHS = 30_000, 20


def train(
    out: Path,
    study: Study,
    config: Mapping[str, Any],
    *,
    num_threads: int | None,
    on_epoch: Callable[[int, Mapping[str, float]], None],
) -> dict[str, Any]:
    """Train one model and write it as the same kind of folder as a run's `best/`.

    Args:
        out: The folder to make; must not exist.
        study: Its data, seed and `early_stop.max_epochs` are used.
        config: A whole configuration of the space `digits`.
        num_threads: CPU threads; None for PyTorch's own choice, OMP_NUM_THREADS or all cores.
        on_epoch: Called after each epoch with its number and metrics.

    Returns:
        What metrics.json says: figures of the best epoch by validation, of the test part, read once, at the end, and
        of what all epochs cost, `train_s` and `num_threads`.

    Raises:
        UsageError: `out` exists already, or can't be written; or there is not enough memory.
    """
    import torch

    from trainables import digits

    if out.exists():
        raise UsageError(f"--out: {str(out)!r} is there already; name another folder or delete it")
    num_threads = num_threads or torch.get_num_threads()
    assert isinstance(study.data, DataSection), "the workload digits has a data set"
    data = load_images(study.data)
    seed, max_epochs = study.sampler.seed, study.early_stop.max_epochs
    with tempfile.TemporaryDirectory(prefix="digitsearch-") as scratch:
        keeper = _Best(Path(scratch), on_epoch)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        digits.warm_up(data, device, num_threads, study.precision, families=[config["model"]])
        trial = Trial(data, seed, device, num_threads, max_epochs, keeper.report, precision=study.precision)
        try:
            digits.train(config, trial)
        except Exception as err:
            if not is_exhausted(err):
                raise
            parameters = digits.size(config, data)
            raise UsageError(
                f"network and batch must fit into memory, got {parameters:,} parameters and "
                f"{config['batch_size']} images; set smaller ones"
            ) from err
        cost = {"train_s": len(data.train_labels) * keeper.s_per_image, "num_threads": num_threads}
        return _write(out, study, config, data, keeper, cost)


class _Best:
    """Takes the reports and keeps the checkpoint of the best epoch; of equal ones the latest."""

    def __init__(self, folder: Path, on_epoch: Callable[[int, Mapping[str, float]], None]) -> None:
        self.folder = folder
        self.epoch = 0
        self.metrics: Mapping[str, float] = {"val_accuracy": 0.0}
        self.s_per_image = 0.0  # over all epochs
        self._num_epochs = 0
        self._on_epoch = on_epoch

    def report(self, metrics: Mapping[str, float], save: Save | None = None) -> None:
        self._num_epochs += 1
        self.s_per_image += 1 / metrics["images_per_s"]
        self._on_epoch(self._num_epochs, metrics)
        if save and metrics["val_accuracy"] >= self.metrics["val_accuracy"]:
            self.epoch, self.metrics = self._num_epochs, metrics
            save(self.folder)


def _write(
    out: Path, study: Study, config: Mapping[str, Any], data: Data, best: _Best, cost: Mapping[str, float]
) -> dict[str, Any]:
    assert isinstance(study.data, DataSection)
    kept = {name: best.metrics[name] for name in ("num_parameters", "precision_bits")}
    seed = study.sampler.seed
    try:
        return classifier.write(
            out,
            study.data,
            data,
            classifier.load_test_part(study.data, data.sha256),
            best.folder,
            config,
            seed=seed,
            epochs=best.epoch,
            first={"epoch": best.epoch, "seed": seed},
            last={**kept, **cost},
        )
    except OSError as err:
        raise UsageError(f"--out: {str(out)!r} must be a folder that can be written, got: {err.strerror}") from err


def usual_epochs(dataset: str, directory: Path) -> int:
    """How many epochs the default configuration is meant for: few where there are many images.

    Args:
        dataset: Prepared in `directory`.
        directory: Where prepared data sets lie.

    Raises:
        DataError: It isn't there.
    """
    from trainables.datasets import describe

    return max(1, min(_MOST_EPOCHS, round(_IMAGES_SHOWN / describe(dataset, directory).train.count)))


def configuration(overrides: Sequence[str]) -> dict[str, Any]:
    """The default configuration of the workload `digits` with `width=32` and the like put in.

    Raises:
        StudyError: An override names no parameter, one that does not apply, or a value out of range.
    """
    given: dict[str, Any] = {}
    for override in overrides:
        name, sign, value = override.partition("=")
        if not sign:
            raise StudyError(f"--set needs name=value, got {override!r}; like --set width=16")
        given[name] = yaml_text.load(value)
    config = whole_configuration(given)
    try:
        DIGITS_PARAMETERS.check({**config, **given})
    except SpaceError as err:
        raise StudyError(f"--set: {err}") from err
    return config
