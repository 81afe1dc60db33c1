"""Run a study, or go on with one: from a study to a finished run directory."""

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import EventLog, Run, View, open_run
from results.events import SCHEMA
from search import environment
from search.errors import StudyError, StudyFailed, UsageError
from search.study import Study, overridden
from spaces import Choice, Int, Parameter

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
    _check_writable(directory)
    return _session(study, None, address, views)


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
    past = open_run(run_directory)
    mapping = {**past.study, "name": run_directory.resolve().name, "output": str(run_directory.parent)}
    study = Study.from_mapping(overridden(mapping, overrides), source=str(run_directory), overrides=overrides)
    before = Study.from_mapping(past.study)
    _check_may_go_on(before, study)
    if past.winner and study.budget == before.budget and study.objective == before.objective:
        return Outcome(past, run_directory, past.ended or "trials")
    return _session(study, past, address, views)


def _check_may_go_on(before: Study, after: Study) -> None:
    """Raise StudyError if old and new trials could not be compared."""
    fixed = ("workload", "data", "space", "sampler", "early_stop")
    changed = [name for name in fixed if getattr(before, name) != getattr(after, name)]
    if before.objective.model_copy(update={"target": after.objective.target}) != after.objective:
        changed.append("objective")
    if changed:
        raise StudyError(
            f"--set: {', '.join(changed)} must stay as it was in a run that has begun; "
            "change budget, objective.target, resources, failures or checkpoints, or run a study of another name"
        )


def _session(study: Study, past: Run | None, address: str | None, views: Sequence[View]) -> Outcome:
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
        log, so_far = _opened(study, past)
        stack.callback(log.close)
        engine = Engine(study, directory, log, so_far, views)
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


def _opened(study: Study, past: Run | None) -> tuple[EventLog, Run]:
    """The log, ready for a session's events, and the run with the event that begins it."""
    directory = study.run_directory
    if past is None:
        return _created(study)
    log = EventLog(directory)
    past.apply(log.append("study_resumed", study=study.to_mapping()))
    _write_whole(directory / "study.yaml", study.to_yaml())
    return log, past


def _created(study: Study) -> tuple[EventLog, Run]:
    from search.suggest import sampler_arguments

    directory = study.run_directory
    try:
        directory.mkdir(parents=True)
    except OSError as err:
        raise _unwritable(directory, err) from err
    try:
        _write_whole(directory / "study.yaml", study.to_yaml())
        about = environment.describe({**study.sampler.model_dump(), **sampler_arguments(study.sampler)})
        _write_whole(directory / "environment.json", json.dumps(about, indent=2) + "\n")
        log, run_ = EventLog(directory), Run()
        columns = {name: _column(parameter) for name, parameter in study.space.parameters.items()}
        run_.apply(log.append("study_started", schema=SCHEMA, study=study.to_mapping(), parameters=columns))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return log, run_


def _check_writable(directory: Path) -> None:
    """Raise UsageError if the directory can't be made, before anything is started for it; leaves nothing behind."""
    parent = next(path for path in directory.absolute().parents if path.exists())
    try:
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as err:
        raise _unwritable(directory, err) from err


def _unwritable(directory: Path, err: OSError) -> UsageError:
    return UsageError(
        f"output: {str(directory)!r} must be a folder that can be made and written, got: {err.strerror}; "
        "choose another with --set output=FOLDER"
    )


def _column(parameter: Parameter) -> str:
    """The type of a parameter's column in trials.parquet."""
    if isinstance(parameter, Choice):
        kinds = {type(option) for option in parameter.options}
        if kinds == {int, float}:
            return "float"
        return {bool: "bool", int: "int", float: "float"}.get(kinds.pop(), "text") if len(kinds) == 1 else "text"
    return "int" if isinstance(parameter, Int) else "float"


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


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
