"""What is sent to a cluster: a folder, and the words that have a study of it searched there."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from cluster.jobs import Jobs
from cluster.packing import files_sent
from results import Storage, place
from search import workloads
from search.errors import UsageError
from search.study import load_study

# The import packages, wherever they lie: a folder that is sent from elsewhere has them sent along.
_PACKAGES = ("search", "spaces", "trainables", "cluster", "results")


@dataclass(frozen=True)
class Submission:
    """A search for a cluster.

    Args:
        words: What follows `python -m search` there.
        folder: Sent to it; where the words are said.
        name: Of the study.
        run_directory: Where its run lies, there.
    """

    words: tuple[str, ...]
    folder: Path
    name: str
    run_directory: str


def begun(study: str, overrides: Sequence[str], options: Sequence[str] = ()) -> Submission:
    """A new search, of a study that is checked here first.

    Args:
        study: A built-in one, or a file in the folder that is sent.
        overrides: As for `run`.
        options: Of `run`, like --wait.

    Raises:
        StudyError: It is none.
        UsageError: Its file would not be sent.
    """
    checked = load_study(study, overrides)
    workloads.check(checked)
    folder = Path.cwd()
    if Path(study).is_file():
        study = _sent(Path(study), folder)
    # In a job, what is relative lies in the home folder: see the verb `run`.
    lies = checked.run_directory
    lies_there = str(lies) if isinstance(lies, Storage) or lies.is_absolute() else f"~/{lies}"
    words = ("run", study, *options, *(f"--set={override}" for override in overrides))
    return Submission(words, folder, checked.name, lies_there)


def resumed(run_directory: str, overrides: Sequence[str], options: Sequence[str] = ()) -> Submission:
    """More of a run that lies on the cluster.

    Args:
        run_directory: There; absolute, or in the home folder, like ~/runs/mnist.
        overrides: As for `resume`.
        options: Of `resume`, like --wait.

    Raises:
        UsageError: It is relative to a folder that goes when a job is over.
        RunError: It is an address that is none.
    """
    lies = place(run_directory)
    if isinstance(lies, Path) and not run_directory.startswith(("/", "~/", "file:///")):
        raise UsageError(
            f"a run on a cluster must be named by its whole path, got {run_directory!r}; "
            "`digitsearch jobs` says where runs lie, like '~/runs/quickstart'"
        )
    words = ("resume", run_directory.removeprefix("~/"), *options, *(f"--set={override}" for override in overrides))
    return Submission(words, Path.cwd(), Path(run_directory).name, run_directory)


def send(jobs: Jobs, submission: Submission) -> str:
    """Send it.

    Returns:
        The job's id.

    Raises:
        ClusterError: The folder is too large, or the cluster does not take it.
    """
    folders = [Path(str(import_module(name).__file__)).parent for name in _PACKAGES]
    return jobs.submit(
        submission.words,
        submission.folder,
        packages=[folder for folder in folders if folder.parent != submission.folder],
        study=submission.name,
        run_directory=submission.run_directory,
    )


def _sent(file: Path, folder: Path) -> str:
    path = Path(os.path.abspath(file))  # a link that is sent is as good as a file
    if path not in files_sent(folder):
        raise UsageError(
            f"a study must lie in the folder that is sent, {str(folder)!r}, and not be left out by .rayignore or "
            f".gitignore, got {str(file)!r}; copy it there"
        )
    return path.relative_to(folder).as_posix()
