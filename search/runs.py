"""Run a study, or go on with one: from a study to a finished run directory."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import Event, EventLog, Run, View, open_run
from search.errors import StudyError, StudyFailed, UsageError
from search.run_directory import check_writable, create, take_up
from search.study import Study, overridden

if TYPE_CHECKING:
    from search.engine import Engine


@dataclass(frozen=True)
class Outcome:
    """How a session of a search ended.

    Args:
        run: As its log tells it.
        run_directory: Where all of it lies.
        reason: trials, target, plateau, wall, failures or user.
        signal: The signal that ended it, or None.
    """

    run: Run
    run_directory: Path
    reason: str
    signal: int | None = None


def run(study: Study, *, address: str | None = None, views: Sequence[View] = ()) -> Outcome:
    """Search, from the beginning to the winner.

    Args:
        study: What to search; `load_study` reads one.
        address: Of a Ray cluster; without one, RAY_ADDRESS, else a private cluster on this machine.
        views: Called with the run and each new event.

    Raises:
        UsageError: The run directory exists already or can't be made.
        StudyError: The workload can't be imported.
        DataError: The data set is not there.
        ClusterError: There is no cluster, or it lacks what a trial asks for.
        NoTrialSucceeded: The search ended without a winner.
        StudyFailed: The search broke off midway.
    """
    directory = study.run_directory
    if directory.exists():
        other = f"--set name={study.name}-2"
        raise UsageError(
            f"{str(directory)!r} is there already; go on with `digitsearch resume {directory}`, "
            f"or give this run another name: {other}"
        )
    check_writable(directory)
    return _session(study, lambda: create(study), address, views)


def resume(
    run_directory: Path, overrides: Sequence[str] = (), *, address: str | None = None, views: Sequence[View] = ()
) -> Outcome:
    """Go on with a run that was interrupted, or that is to be grown. Trials that have ended are not run again.

    Args:
        run_directory: Of an earlier `run`, moved or not.
        overrides: `budget.trials=120` and the like.
        address: As for `run`.
        views: As for `run`.

    Raises:
        RunError: It is no run directory, or its log is damaged.
        The same as `run`.
    """
    open_run(run_directory)  # says what is wrong with it before anything is written there
    with closing(EventLog(run_directory)) as log:
        past = open_run(run_directory)  # as it is now that nobody else can write
        mapping = {**past.study, "name": run_directory.resolve().name, "output": str(run_directory.parent)}
        study = Study.from_mapping(overridden(mapping, overrides), source=str(run_directory), overrides=overrides)
        before = Study.from_mapping(past.study)
        _check_may_go_on(before, study)
        grown = any(getattr(before, name) != getattr(study, name) for name in ("budget", "objective", "space"))
        if past.winner and not grown:
            return Outcome(past, run_directory, past.ended or "trials")
        return _session(study, lambda: take_up(study, log, past), address, views)


def _check_may_go_on(before: Study, after: Study) -> None:
    """Raise StudyError if old and new trials could not be compared."""
    fixed = ("workload", "data", "sampler", "early_stop")
    changed = [name for name in fixed if getattr(before, name) != getattr(after, name)]
    if before.objective.model_copy(update={"target": after.objective.target}) != after.objective:
        changed.append("objective")
    if changed:
        raise StudyError(
            f"--set: {', '.join(changed)} must stay as it was in a run that has begun; change budget, space, "
            "objective.target, resources, failures or checkpoints, or run a study of another name"
        )


def _session(
    study: Study, begin: Callable[[], tuple[EventLog, Run, Event]], address: str | None, views: Sequence[View]
) -> Outcome:
    from cluster.connect import check_resources, connected
    from search import workloads
    from search.dispatch import dispatch
    from search.engine import Engine
    from search.session import Terms
    from search.winner import crown

    workloads.find(study.workload)
    data = workloads.load_data(study)
    directory = study.run_directory
    with ExitStack() as stack:
        stack.enter_context(connected(address))
        check_resources(cpu=study.resources.cpu, gpu=study.resources.gpu)
        log, so_far, first = begin()
        stack.callback(log.close)
        engine = Engine(study, directory, log, so_far, views)
        for view in views:
            view(so_far, first)
        try:
            with _signals(engine) as caught:
                dispatch(engine, Terms.of(study), data, study.resources)
            reason = engine.reason_to_end() or "trials"
            engine.finish(reason)
            if reason != "user":
                engine.record("winner_chosen", **crown(study, directory, engine.run, data))
        except (OSError, StudyFailed) as err:
            with suppress(OSError):
                engine.finish("error")
            if isinstance(err, StudyFailed):
                raise
            raise StudyFailed(
                f"{str(directory)!r} must stay readable and writable, got: {err}; what was reported before is kept: "
                f"put that right, then `digitsearch resume {directory}`"
            ) from err
        return Outcome(engine.run, directory, reason, caught[0] if caught else None)


@contextmanager
def _signals(engine: "Engine") -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM end the search in good order; a second one ends it at once, still to be resumed."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def handle(number: int, frame: Any) -> None:
        caught.append(number)
        engine.stop_requested = "user"
        if len(caught) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    except KeyboardInterrupt:
        if not caught:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
