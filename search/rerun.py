"""A trial of a run, trained again here as it was there, and held against what was recorded."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from results import Epoch, Place, Run, RunError, Trial, open_run
from results.storage import Storage
from search import environment, workloads
from search.errors import NotReproduced, UsageError
from search.study import Study
from search.trial import here
from search.trial.terms import Terms
from trainables import Save

# What a clock measures is never the same twice.
_BY_THE_CLOCK = {"images_per_s"}
_BF16_BITS = 16
# So much of a digest is shown.
_DIGITS = 8


@dataclass(frozen=True)
class Difference:
    """A metric that came out otherwise.

    Args:
        epoch: Of the report.
        metric: Its name.
        recorded: What the log says.
        now: What was reported now; None where nothing was.
    """

    epoch: int
    metric: str
    recorded: float
    now: float | None


@dataclass(frozen=True)
class Rerun:
    """A trial beside its repetition.

    Args:
        number: The trial's.
        recorded: Its reports, from epoch 1 on.
        metrics: The names that were compared.
        differences: In the order of the epochs.
        elsewhere: What the run was made with and this process is not: (name, then, now).
        on_gpu: It was trained on a GPU, then and now.
    """

    number: int
    recorded: list[Epoch]
    metrics: list[str]
    differences: list[Difference]
    elsewhere: list[tuple[str, str, str]]
    on_gpu: bool

    def check(self) -> None:
        """Raise NotReproduced if a metric differs."""
        if self.differences:
            first = self.differences[0]
            raise NotReproduced(
                f"trial {self.number} must come out as it was recorded, got {first.metric} {first.now!r} at epoch "
                f"{first.epoch} where {first.recorded!r} was; {_why(self.elsewhere, self.on_gpu)}"
            )


def _why(elsewhere: list[tuple[str, str, str]], on_gpu: bool) -> str:
    if not elsewhere:
        # https://docs.pytorch.org/docs/stable/notes/randomness.html
        itself = "a GPU adds up gradients in no fixed order" if on_gpu else "the function itself is not repeatable"
        return f"nothing that is recorded of the machine and its packages differs: {itself}"
    return "other than then: " + "; ".join(f"{name} {now} (then {then})" for name, then, now in elsewhere)


def rerun(place: Place, number: int, on_epoch: Callable[[int], None]) -> Rerun:
    """Train a trial again, from its seed, up to the last epoch that it reported; the run is not touched.

    Args:
        place: Of the run; its data and its workload must be here too.
        number: The trial's.
        on_epoch: Called after each epoch.

    Raises:
        RunError: It is no run directory.
        UsageError: There is nothing to compare with, or it can't be trained in one process here.
        StudyError: The workload can't be imported.
        DataError: The data set is not here.
        StudyFailed: The function raises before it has come so far.
    """
    from search.fingerprint import fingerprint  # imports Ray, and most mistakes are told without it

    run = open_run(place)
    study = Study.from_mapping(run.study)
    trial = _trial(run, number)
    _check_can(study, trial)
    terms = replace(Terms.of(study, place), precision=_precision(study, trial))
    data = workloads.load_data(study, run.data_sha256)
    data_sha256 = fingerprint(data)
    now = _trained(study, terms, data, trial, on_epoch)
    metrics = [name for name in trial.epochs[0].metrics if name not in _BY_THE_CLOCK]
    differences = [
        Difference(epoch.epoch, name, epoch.metrics[name], now.get(epoch.epoch, {}).get(name))
        for epoch in trial.epochs
        for name in metrics
        if name in epoch.metrics and not _alike(epoch.metrics[name], now.get(epoch.epoch, {}).get(name))
    ]
    return Rerun(
        number, trial.epochs, metrics, differences, _elsewhere(place, trial, data_sha256), study.resources.gpu > 0
    )


def _alike(recorded: float, now: float | None) -> bool:
    return now is not None and (recorded == now or (math.isnan(recorded) and math.isnan(now)))


def _trial(run: Run, number: int) -> Trial:
    trial = run.trials.get(number)
    if trial is None or not trial.state:
        most = max((n for n, t in run.trials.items() if t.state), default=None)
        there = "none" if most is None else f"0 to {most}"
        raise UsageError(f"--trial: must be the number of a trial that was begun ({there}), got {number}")
    if trial.repeat_of is not None:
        raise UsageError(f"trial {number} took the result of trial {trial.repeat_of}; name that one")
    if not trial.epochs:
        raise UsageError(f"trial {number} reported nothing that could be compared: {trial.error or trial.stop_reason}")
    return trial


def _check_can(study: Study, trial: Trial) -> None:
    if trial.copied_from is not None:
        raise UsageError(
            f"trial {trial.number} went on from a checkpoint of trial {trial.copied_from}: it can't be trained alone"
        )
    here.check_can_train(study)


def _precision(study: Study, trial: Trial) -> str:
    """What it was computed in: what `auto` meant there."""
    bits = trial.epochs[0].metrics.get("precision_bits")
    if study.precision != "auto" or bits is None:
        return study.precision
    return "bf16" if bits == _BF16_BITS else "fp32"


def _trained(
    study: Study, terms: Terms, data: Any, trial: Trial, on_epoch: Callable[[int], None]
) -> dict[int, dict[str, float]]:
    """The metrics by epoch, as they come out now."""
    found: dict[int, dict[str, float]] = {}

    def on_report(epoch: int, metrics: dict[str, float], save: Save | None) -> None:
        found[epoch] = metrics
        on_epoch(epoch)

    last = trial.epochs[-1].epoch
    here.train(terms, data, trial.config, trial.seed, last, on_report, f"trial {trial.number} fails now")
    return found


def _elsewhere(place: Place, trial: Trial, data_sha256: str | None) -> list[tuple[str, str, str]]:
    then, now = _about(place), environment.describe({})
    pairs: list[tuple[str, Any, Any]] = []
    if trial.data_sha256:  # the log did not always say it
        pairs.append(("data", trial.data_sha256[:_DIGITS], str(data_sha256)[:_DIGITS]))
    pairs += [(name, then.get(name), now[name]) for name in ("python", "platform", "processor", "git_commit")]
    if "gpus" in then:  # environment.json did not always say it
        pairs.append(("gpus", ", ".join(then["gpus"]) or "none", ", ".join(now["gpus"]) or "none"))
    packages = then.get("packages", {})
    pairs += [(name, packages.get(name), version) for name, version in now["packages"].items()]
    return [(name, str(before), str(after)) for name, before, after in pairs if before != after]


def _about(place: Place) -> dict[str, Any]:
    """What environment.json says; nothing if it is not there."""
    try:
        name = "environment.json"
        said = json.loads(place.read(name) if isinstance(place, Storage) else (place / name).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise RunError(f"'{place}': environment.json can't be read: {err}") from err
    return said if isinstance(said, dict) else {}
