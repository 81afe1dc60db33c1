"""Trains in this process, as a slot of a search would: to look, not to search."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from search import workloads
from search.errors import StudyFailed, UsageError
from search.interrupts import Signalled
from search.study import Study
from search.trial import libraries
from search.trial.clean_slate import CleanSlate
from search.trial.contract import called, plain_numbers
from search.trial.failures import Failed, failure_of
from search.trial.session import Unwind
from search.trial.terms import Terms
from trainables import Data, Save

# Given the epoch, its metrics, and what would save it.
OnReport = Callable[[int, dict[str, float], Save | None], None]


def check_can_train(study: Study) -> None:
    """Raise UsageError unless a trial of the study can be trained by one process of this machine."""
    if study.resources.workers > 1:
        raise UsageError(f"a trial of {study.resources.workers} workers can't be trained in one process")
    if study.resources.gpu:
        import torch

        if not torch.cuda.is_available():
            raise UsageError("a trial of this study is trained on a GPU, and there is none here")


def lent(study: Study, data: Any) -> Callable[[], Any]:
    """What gives the data to one trial after another as `SharedData` does: its arrays read-only, the rest anew.

    Raises:
        StudyError: It could not be sent to a trial's process.
    """
    from ray import cloudpickle  # it takes half a second, and nothing else here needs it

    if isinstance(data, Data):
        return lambda: data
    buffers: list[Any] = []
    try:
        sent = cloudpickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    except Exception as err:  # its own code may say how it is to be sent
        raise workloads.not_sent(study, data, err) from err
    return lambda: cloudpickle.loads(sent, buffers=[buffer.raw().toreadonly() for buffer in buffers])


def train(
    terms: Terms, data: Any, config: Mapping[str, Any], seed: int, epochs: int, on_report: OnReport, it_fails: str
) -> None:
    """Train a configuration from its seed, for so many epochs of its whole budget.

    Args:
        terms: Of its study.
        data: As `search.workloads.load_data` gives it.
        config: What to train with.
        seed: The trial's.
        epochs: After so many reports it is ended.
        on_report: Called with each.
        it_fails: How the message begins if it does: "trial 3 fails now", say.

    Raises:
        StudyFailed: The function raises before that, or its report is none.
    """
    function, num_reports = terms.train, 0

    def report(metrics: Mapping[str, float], save: Save | None = None) -> None:
        nonlocal num_reports
        num_reports += 1
        on_report(num_reports, plain_numbers(metrics), save)
        if num_reports == epochs:
            raise Unwind

    assignment: dict[str, Any] = {"seed": seed, "epoch": 0}
    libraries.settle(terms.num_threads, terms.gpu)
    arguments = list(sys.argv)
    CleanSlate(terms.num_threads).wipe(seed)  # as a slot is before each of its trials
    try:
        called(function, dict(config), terms.trial(assignment, data, report))
    except Unwind:
        pass
    except Failed as err:
        raise StudyFailed(f"{it_fails}: {err.facts['message']}") from err
    except Signalled:
        raise
    except (Exception, SystemExit) as err:
        raise StudyFailed(f"{it_fails}: {failure_of(err)['message']}") from err
    finally:
        sys.argv[:] = arguments
