"""What all trials of a study have in common, and what a training function is handed of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import Objectives, Place
from search.trial.contract import told_how
from trainables import Report, Train, Trial

if TYPE_CHECKING:
    from search.study import Study


@dataclass(frozen=True)
class Terms:
    """What all trials of a study have in common.

    Args:
        workload: `digits` or package.module:function.
        run_directory: Where checkpoints are written; an absolute path, or an address in shared storage.
        wanted: The objectives and constraints, whose metrics each report must have.
        max_epochs: The whole budget of a trial.
        every_epochs: How often a checkpoint is wanted at least.
        trial_wall_s: After so many seconds the process is ended; None for never.
        num_threads: CPU threads of a worker.
        gpu: GPUs of a worker; a fraction for a share of one, 0 for none.
        rungs: The epochs after which a trial may be given up, or ends a generation.
        saves_at_rungs: Whether it goes on from a checkpoint there.
        precision: `auto`, `bf16` or `fp32`.
        num_workers: Workers of a trial.
        resources_per_worker: What each asks of Ray, by Ray's names.
        scratch: A folder for what trials print; None leaves it where Ray puts it.
        making: A process's own folder for what is in the making; None for the one for all temporary files.
        function: The workload's function itself, where it is one that other processes can't import.
    """

    workload: str
    run_directory: str
    wanted: Objectives
    max_epochs: int
    every_epochs: int
    trial_wall_s: float | None
    num_threads: int
    gpu: float
    rungs: tuple[int, ...] = ()
    saves_at_rungs: bool = False
    precision: str = "auto"
    num_workers: int = 1
    resources_per_worker: Mapping[str, float] = field(default_factory=dict)
    scratch: str | None = None
    making: str | None = None
    function: Train | None = None

    @classmethod
    def of(cls, study: "Study", run_directory: Place) -> "Terms":
        """What a study says to its trials, and where they write."""
        from search import workloads
        from search.early_stop import rungs  # with what checks a study, which a trial's process has no use for

        return cls(
            workload=study.workload,
            run_directory=str(run_directory.resolve() if isinstance(run_directory, Path) else run_directory),
            wanted=study.wanted,
            max_epochs=study.early_stop.max_epochs,
            every_epochs=study.checkpoints.every_epochs,
            trial_wall_s=study.budget.trial_wall,
            num_threads=study.resources.cpu,
            gpu=study.resources.gpu,
            rungs=tuple(rungs(study.early_stop)),
            saves_at_rungs=study.early_stop.name == "pbt",
            precision=study.precision,
            num_workers=study.resources.workers,
            resources_per_worker=study.resources.each,
            function=workloads.unimportable(study.workload),
        )

    @property
    def train(self) -> Train:
        """The training function.

        Raises:
            StudyError: It can't be imported.
        """
        from search import workloads

        return self.function or workloads.find(self.workload)

    def trial(
        self,
        assignment: Mapping[str, Any],
        data: Any,
        report: Report,
        *,
        checkpoint: Path | None = None,
        rank: int | None = None,
    ) -> Trial:
        """A trial as its training function sees it.

        Args:
            assignment: Of it, at least `seed` and `epoch` are used.
            data: What the function finds in `trial.data`.
            report: What it calls after each epoch.
            checkpoint: The folder to go on from.
            rank: Of one of several workers; None for one that trains alone.
        """
        return Trial(
            data=data,
            seed=assignment["seed"],
            device="cuda" if self.gpu else "cpu",
            num_threads=self.num_threads,
            max_epochs=self.max_epochs,
            report=told_how(report),
            epoch=int(assignment["epoch"]),
            checkpoint=checkpoint,
            precision=self.precision,
            rank=rank or 0,
            num_workers=1 if rank is None else self.num_workers,
        )


def stopping(scratch: str) -> Path:
    """The file whose presence tells trials that the search is about to stop."""
    return Path(scratch) / "stopping"
