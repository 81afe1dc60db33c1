"""What a study would do, before it does it: how much there is to try, where it would run, and what it would take."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from results.storage import Storage
from search import workloads
from search.early_stop import rungs
from search.seeds import derived
from search.study import Halving, Study
from search.suggest import samplers
from search.trial import here
from search.trial.terms import Terms
from spaces import Space, SpaceError

if TYPE_CHECKING:
    from cluster.connect import Node

_MOST_COUNTED = 1_000_000
_NUM_PROBED = 3
# Measured over three runs of the workload digits: what the log and the tables take, empty, for a trial, for a report.
_EMPTY_BYTES, _TRIAL_BYTES, _REPORT_BYTES = 40_000, 1_300, 450
# study.yaml, environment.json, the log with its driver's name, two tables, and the four of best/.
_NUM_FILES = 10


@dataclass(frozen=True)
class Probe:
    """What one epoch of a few configurations took.

    Args:
        epoch_s: Of each.
        checkpoint_bytes: Of each, 0 where none is saved.
        checkpoint_files: Of each.
    """

    epoch_s: list[float]
    checkpoint_bytes: list[int]
    checkpoint_files: list[int]


@dataclass(frozen=True)
class Plan:
    """What a study would do.

    Args:
        nodes: Of the cluster, as they are now.
        num_slots: How many trials would run at once.
        num_configurations: That the space holds; None for more than can be counted.
        rungs: Epochs, and how many trials would come so far if early stopping lets on as many as it intends; the last
            is the whole budget.
        num_epochs: Of all trials together, by the same.
        most_epochs: The same if nobody were stopped.
        num_confirming: Trials that `confirm` adds, of the whole budget of epochs.
        probe: What was measured, or None.
    """

    nodes: "Sequence[Node]"
    num_slots: int
    num_configurations: int | None
    rungs: list[tuple[int, int]]
    num_epochs: int
    most_epochs: int
    num_confirming: int
    probe: Probe | None

    @property
    def seconds(self) -> tuple[float, float] | None:
        """How long all of it would take on the slots, by the fastest and by the slowest of what was probed."""
        if self.probe is None or not self.num_slots:
            return None
        shares = [self.num_epochs * epoch_s / self.num_slots for epoch_s in self.probe.epoch_s]
        return min(shares), max(shares)

    def num_checkpoints(self, keep_best: int) -> int:
        """How many there are at most at a time: the best trials', and two of each that runs."""
        return keep_best + 2 * self.num_slots

    @property
    def log_bytes(self) -> int:
        """Of the log and the tables at the end, about."""
        num_trials = self.rungs[0][1] if self.rungs else 0
        return _EMPTY_BYTES + num_trials * _TRIAL_BYTES + self.num_epochs * _REPORT_BYTES

    @property
    def num_files(self) -> int:
        """Of a run directory without its checkpoints."""
        return _NUM_FILES


def plan(study: Study, *, address: str | None = None, wait_for_nodes: bool = False, probes: bool = False) -> Plan:
    """Look what a study would do, and begin no run.

    Args:
        study: As for `search.run`.
        address: As for `search.run`.
        wait_for_nodes: As for `search.run`.
        probes: Whether one epoch of three configurations is trained here, to tell what an epoch takes.

    Raises:
        StudyError: As for `search.run`.
        ClusterError: As for `search.run`.
        UsageError: Its trials can't be probed here.
        StudyFailed: A probed configuration fails.
    """
    workloads.check(study)
    samplers.check_installed(study.sampler)
    if probes:
        here.check_can_train(study)
    from cluster.connect import connected, nodes

    with connected(address, meanwhile=["search.dispatch"]):
        from search.dispatch import num_slots_of

        there, num_slots = nodes(study.resources.each), num_slots_of(study.resources, wait=wait_for_nodes)
    reach = _reach(study)
    confirming = study.confirm.top * study.confirm.seeds if study.confirm else 0
    whole = study.early_stop.max_epochs
    return Plan(
        nodes=there,
        num_slots=num_slots,
        num_configurations=_count(study.space),
        rungs=reach,
        num_epochs=_epochs(reach) + confirming * whole,
        most_epochs=(study.budget.trials + confirming) * whole,
        num_confirming=confirming,
        probe=_probe(study) if probes else None,
    )


def _count(space: Space) -> int | None:
    try:
        count = sum(1 for _ in islice(space.configurations(), _MOST_COUNTED + 1))
    except SpaceError:
        return None
    return count if count <= _MOST_COUNTED else None


def _reach(study: Study) -> list[tuple[int, int]]:
    """How many trials would come to each rung, and to the end."""
    settings, left = study.early_stop, study.budget.trials
    found = []
    if isinstance(settings, Halving):  # of hyperband its first bracket, which stops most
        for epochs in rungs(settings):
            found.append((epochs, left))
            left = max(round(left / settings.reduction), 1)
    return [*found, (settings.max_epochs, left)]


def _epochs(reach: Sequence[tuple[int, int]]) -> int:
    before, total = 0, 0
    for epochs, num_trials in reach:
        total += num_trials * (epochs - before)
        before = epochs
    return total


def _probe(study: Study) -> Probe:
    """Train an epoch of a few configurations, drawn at random, one after another."""
    from search.suggest.suggester import drawn

    data = workloads.load_data(study)
    terms = Terms.of(study, study.run_directory)
    terms = replace(terms, run_directory="") if isinstance(study.run_directory, Storage) else terms
    gpu = terms.gpu > 0
    workloads.warm_up(terms.workload, data, gpu=gpu, num_threads=terms.num_threads, precision=terms.precision)
    probe, lend = Probe([], [], []), here.lent(study, data)
    for number, config in enumerate(drawn(study, _NUM_PROBED)):
        began = time.perf_counter()

        def on_report(epoch: int, metrics: dict[str, float], save: object, began: float = began) -> None:
            probe.epoch_s.append(time.perf_counter() - began)
            with tempfile.TemporaryDirectory(prefix="digitsearch-probe-") as folder:
                if callable(save):
                    save(Path(folder))
                files = [path for path in Path(folder).rglob("*") if path.is_file()]
                probe.checkpoint_files.append(len(files))
                probe.checkpoint_bytes.append(sum(path.stat().st_size for path in files))

        here.train(
            terms,
            lend(),
            config,
            derived(study.sampler.seed, "probe", number),
            1,
            on_report,
            f"the probe of {config} fails",
        )
    return probe
