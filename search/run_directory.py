"""A run directory's beginning: made whole or not at all, and taken up again by a resume."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from results import Event, EventLog, Run
from results.events import SCHEMA
from search import environment
from search.errors import UsageError
from search.study import Study
from spaces import Choice, Int, Parameter, SpaceError


def check_writable(directory: Path) -> None:
    """Raise UsageError if the directory can't be made, before anything is started for it; leaves nothing behind."""
    parent = next(path for path in directory.absolute().parents if path.exists())
    try:
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as err:
        raise _unwritable(directory, err) from err


def create(study: Study) -> tuple[EventLog, Run, Event]:
    """Make the run directory of a study: its log, held by this process, the run, and the event that began it.

    Raises:
        UsageError: It can't be made; nothing is left behind.
    """
    directory = study.run_directory
    try:
        directory.mkdir(parents=True)
    except OSError as err:
        raise _unwritable(directory, err) from err
    try:
        _write_about(study, directory)
        log, run = EventLog(directory), Run()
        event = log.append("study_started", schema=SCHEMA, study=study.to_mapping(), parameters=_columns(study))
        run.apply(event)
    except BaseException as err:
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(err, OSError):
            raise _unwritable(directory, err) from err
        raise
    return log, run, event


def take_up(study: Study, directory: Path, log: EventLog, past: Run) -> tuple[EventLog, Run, Event]:
    """Begin another session of a run: the same three as `create` gives.

    Trials that lie outside of a changed space are set aside: they stay in the tables, and count for nothing else.
    """
    aside = [trial.number for trial in past.trials.values() if not _fits(study, dict(trial.config))]
    event = log.append("study_resumed", study=study.to_mapping(), parameters=_columns(study), set_aside=aside)
    past.apply(event)
    _write_about(study, directory)
    return log, past, event


def _fits(study: Study, config: dict[str, object]) -> bool:
    try:
        study.space.check(config)
    except SpaceError:
        return False
    return True


def _write_about(study: Study, directory: Path) -> None:
    from search.suggest import sampler_arguments

    _write_whole(directory / "study.yaml", study.to_yaml())
    about = environment.describe({**study.sampler.model_dump(), **sampler_arguments(study.sampler)})
    _write_whole(directory / "environment.json", json.dumps(about, indent=2) + "\n")


def _unwritable(directory: Path, err: OSError) -> UsageError:
    return UsageError(
        f"output: {str(directory)!r} must be a folder that can be made and written, got: {err.strerror}; "
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
