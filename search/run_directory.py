"""A run directory's beginning: made whole or not at all, and taken up again by a resume."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from results import Event, EventLog, Place, Run, RunError, Storage, StorageError, open_run, stored_log
from results.errors import RunWarning
from results.events import SCHEMA, log_path
from results.mirror import MirroredLog
from search import environment, references, yaml_text
from search.errors import StudyError, UsageError
from search.study import MAY_CHANGE, Study, changes, may_change
from search.suggest import samplers
from spaces import Choice, Int, Parameter, SpaceError

_TRIED = "events/can-be-written"
_STUDY = "study.yaml"


@contextmanager
def working_copy(run: Place) -> Iterator[Path]:
    """The folder that is written: the run directory itself, or what stands for one in shared storage."""
    if isinstance(run, Path):
        yield run.resolve()  # a link to it may be put elsewhere meanwhile
        return
    folder = Path(tempfile.mkdtemp(prefix="digitsearch-run-"))
    try:
        yield folder
    except StorageError as err:
        if log_path(folder).exists():
            raise StorageError(f"{err}; {folder} has the log and the tables as they were at last") from err
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def open_log(run: Place, directory: Path) -> EventLog:
    """The log of a run, held by this process.

    Args:
        run: Where it lies.
        directory: Its working copy.
    """
    return MirroredLog(run, directory) if isinstance(run, Storage) else EventLog(directory)


def named(study: Study) -> Study:
    """A study that was given no name, as a program may, by the first one that is free: study, study-2, …

    Raises:
        UsageError: Where its runs lie can't be looked into.
    """
    if "name" in study.model_fields_set:
        return study
    names = (study.name if number == 1 else f"{study.name}-{number}" for number in count(1))
    each = (study.model_copy(update={"name": name}) for name in names)
    try:
        return next(study for study in each if not _is_there(study.run_directory))
    except OSError as err:
        raise _unwritable(study.run_directory, err) from err


def _is_there(run: Place) -> bool:
    return run.exists() if isinstance(run, Path) else stored_log.exists(run)


def check_new(study: Study) -> None:
    """Raise UsageError if there is such a run, or none can be made; before anything is started, and making none."""
    run = study.run_directory
    try:
        if _is_there(run):
            raise _taken(study)
        if isinstance(run, Path):
            parent = next(path for path in run.absolute().parents if path.exists())
            tempfile.TemporaryFile(dir=parent).close()
        else:
            run.write(_TRIED, b"")
            run.delete(_TRIED)
    except OSError as err:
        raise _unwritable(run, err) from err


def _taken(study: Study) -> UsageError:
    run = study.run_directory
    another = f"{study.name}-2"
    if not references.is_of_program(study.workload):
        another = f"--set name={another}"
    try:
        begun = open_run(run).study
        different = changes(begun, study.to_mapping())
        if study.budget.trials < begun["budget"]["trials"]:  # it has been grown: a run does not shrink
            different.pop("budget.trials", None)
    except (OSError, RunError):  # it can't be read, and may be something else
        different = {}
    fixed = [key for key in different if not may_change(key)]
    how = references.to_resume(run, study.workload, {} if fixed else different)
    of_another = f", of a study with another {fixed[0]}" if fixed else ""
    return UsageError(
        f"{str(run)!r} is there already{of_another}; go on with {how}, or give this run another name: {another}"
    )


def check_unedited(study: Study, run: Place, directory: Path, past: Run) -> None:
    """Raise StudyError if somebody has written into the study file of a run, which goes by its log.

    Args:
        study: With which it is to go on: a file that says just this is not what keeps it from that.
        run: Where it lies.
        directory: Its working copy.
        past: As its log tells it.
    """
    path = directory / _STUDY
    try:
        written = yaml_text.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (StudyError, UnicodeDecodeError):
        written = None
    if written in [yaml_text.load(yaml_text.dump(known)) for known in (past.study, study.to_mapping())]:
        return
    known = changes(past.study, written) if isinstance(written, dict) else {}
    fixed = [key for key in known if not may_change(key)]
    if fixed:
        how = f"{fixed[0]} must stay as it was, change {MAY_CHANGE}, or run a study of another name"
    elif known:
        how = f"type {references.to_resume(run, past.study['workload'], known)}"
    else:
        how = "change it with --set"
    raise StudyError(
        f"{str(run / _STUDY)!r} was edited, and a run goes on by its log: {how}; delete the file to go on as it was"
    )


def create(
    study: Study, directory: Path, data_sha256: str | None = None, *, warm_start: Sequence[Mapping[str, Any]] = ()
) -> tuple[EventLog, Run, Event]:
    """Make the run directory of a study: its log, held by this process, the run, and the event that began it.

    Args:
        study: What is to be searched.
        directory: The working copy of its run directory.
        data_sha256: Of what its trials train on.
        warm_start: What earlier runs give, as `search.suggest.warm_start.taken` has it.

    Raises:
        UsageError: It can't be made; nothing is left behind.
    """
    place = study.run_directory
    try:
        directory.mkdir(parents=True, exist_ok=isinstance(place, Storage))
    except OSError as err:
        raise _unwritable(place, err) from err
    log: EventLog | None = None
    try:
        _write_about(study, directory)
        log, run = open_log(place, directory), Run()
        if log_path(directory).stat().st_size:
            raise _taken(study)
        facts = {"study": study.to_mapping(), "parameters": _columns(study), "warm_start": list(warm_start)}
        event = log.append("study_started", schema=SCHEMA, **facts, data_sha256=data_sha256)
        run.apply(event)
    except BaseException as err:
        if log:
            with suppress(OSError, RunError):
                log.close()
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(err, OSError):
            raise _unwritable(place, err) from err
        raise
    return log, run, event


def take_up(
    study: Study, directory: Path, data_sha256: str | None, *, log: EventLog, past: Run
) -> tuple[EventLog, Run, Event]:
    """Begin another session of a run: the same three as `create` gives.

    Trials that lie outside of a changed space are set aside: they stay in the tables, and count for nothing else.
    """
    if isinstance(study.data, str) and past.data_sha256 not in (None, data_sha256) and past.trials:
        warnings.warn(
            f"data {study.data!r} gives other arrays than the trials of this run have trained on: what they came to "
            "can't be compared with what others will; bring the old data back, seed it if it is drawn, or begin a new "
            "run",
            category=RunWarning,
            stacklevel=2,
        )
    aside = [trial.number for trial in past.trials.values() if not _fits(study, dict(trial.config))]
    # Before the log tells of it: a process that dies in between leaves a file that says what it was told.
    _write_about(study, directory)
    facts = {"study": study.to_mapping(), "parameters": _columns(study), "set_aside": aside}
    event = log.append("study_resumed", **facts, data_sha256=data_sha256)
    past.apply(event)
    return log, past, event


def _fits(study: Study, config: dict[str, object]) -> bool:
    try:
        study.space.check(config)
    except SpaceError:
        return False
    return True


def _write_about(study: Study, directory: Path) -> None:
    _write_whole(directory / _STUDY, study.to_yaml())
    about = environment.describe({**study.sampler.model_dump(), **samplers.arguments(study.sampler)})
    _write_whole(directory / "environment.json", json.dumps(about, indent=2) + "\n")


def _unwritable(run: Place, err: OSError) -> UsageError:
    return UsageError(
        f"output: {str(run)!r} must be a folder that can be made and written, got: {err.strerror or err}; "
        "choose another with --set output=FOLDER"
    )


def _columns(study: Study) -> dict[str, str]:
    return {name: _column(parameter) for name, parameter in study.space.parameters.items()}


def _column(parameter: Parameter) -> str:
    """The type of a parameter's column in trials.parquet."""
    if not isinstance(parameter, Choice):
        return "int" if isinstance(parameter, Int) else "float"
    kinds = {type(option) for option in parameter.options}
    if kinds == {int, float}:
        return "float"
    return {bool: "bool", int: "int", float: "float"}.get(kinds.pop(), "text") if len(kinds) == 1 else "text"


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
