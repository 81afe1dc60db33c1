"""Bad input, widely: study files, spaces and logs that are valid, broken, or made to do harm."""

import json
import os
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from results import EventLog, RunError, fold, open_run, read_events
from results.events import log_path
from results.tables import epochs_table, trials_table
from search import Outcome, Study, StudyError, load_study, resume, yaml_text
from spaces import Choice, Float, Int, Space, SpaceError
from trainables import ModelError
from trainables.model import load

NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8).filter(str.isidentifier)
REALS = st.floats(-1e6, 1e6, allow_nan=False)
SCALARS = st.one_of(st.booleans(), st.integers(-(10**6), 10**6), st.text(max_size=8), REALS)
PLAIN = st.recursive(
    st.one_of(st.none(), SCALARS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def parameters(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["choice", "int", "float"]))
    if kind == "choice":
        options = draw(st.lists(SCALARS, min_size=1, max_size=4, unique_by=lambda v: (type(v), v)))
        return Choice(tuple(options))
    if kind == "int":
        low, steps, step = draw(st.integers(1, 100)), draw(st.integers(1, 10)), draw(st.integers(1, 5))
        return Int(low, low + steps * step, step=step)
    low = draw(st.floats(1e-6, 1e3))
    return Float(low, low + draw(st.floats(0.1, 1e3)), log=draw(st.booleans()))


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    made: dict[str, Any] = {}
    for name in names:
        parameter = draw(parameters())
        choices = [(other, p) for other, p in made.items() if isinstance(p, Choice)]
        if choices and draw(st.booleans()):
            other, condition = draw(st.sampled_from(choices))
            parameter = type(parameter)(**{**vars(parameter), "when": {other: (condition.options[0],)}})
        made[name] = parameter
    return Space(made)


@QUICK
@given(spaces())
def test_any_space_round_trips_through_json_and_yaml(space: Space) -> None:
    mapping = space.to_mapping()
    assert Space.from_mapping(json.loads(json.dumps(mapping))) == space
    assert Space.from_mapping(yaml_text.load(yaml_text.dump(mapping))) == space


@QUICK
@given(
    spaces(), st.integers(1, 10**6), st.floats(0.01, 1e7), st.integers(1, 50), st.sampled_from(["tpe", "random"]), st.booleans()
)  # fmt: skip
def test_any_study_round_trips_through_its_file(
    space: Space, trials: int, wall: float, epochs: int, sampler: str, target: bool
) -> None:
    mapping = {
        "name": "any",
        "workload": "a.b:c",
        "data": None,
        "space": space.to_mapping(),
        "objective": {"metric": "m", "target": 0.5 if target else None},
        "sampler": {"name": sampler},
        "early_stop": {"grace_epochs": 1, "max_epochs": epochs},
        "budget": {"trials": trials, "wall": f"{wall:.6f}s", "plateau": {"trials": 3}},
    }
    study = Study.from_mapping(mapping)
    assert Study.from_mapping(yaml_text.load(study.to_yaml())) == study
    assert Study.from_mapping(json.loads(json.dumps(study.to_mapping()))) == study


@QUICK
@given(st.sampled_from(sorted(set(Study.model_fields) - {"name", "workload", "output", "data"})), PLAIN)
@example("constraints", {"\r": {"": None}})
def test_a_study_with_anything_in_it_is_valid_or_refused_by_key(key: str, value: Any) -> None:
    try:
        Study.from_mapping({"name": "any", key: value})
    except StudyError as err:
        assert all(line.startswith("study: ") and key in line for line in str(err).splitlines()), err


@QUICK
@given(st.dictionaries(st.text(max_size=6), PLAIN, max_size=3))
def test_a_space_of_anything_is_valid_or_refused(mapping: dict[str, Any]) -> None:
    try:
        Space.from_mapping(mapping)
    except SpaceError as err:
        assert str(err)


@QUICK
@given(text=st.text(max_size=60))
def test_any_text_is_a_study_file_or_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load_study(str(path))
    except StudyError as err:
        assert str(err).startswith(str(path))


@pytest.fixture(scope="module")
def log(finished: Outcome) -> bytes:
    return log_path(finished.run_directory).read_bytes()


@QUICK
@given(data=st.data())
def test_a_log_cut_anywhere_opens_or_says_what_is_wrong(data: st.DataObject, log: bytes, tmp_path: Path) -> None:
    path = log_path(tmp_path)
    path.parent.mkdir(exist_ok=True)
    cut = data.draw(st.integers(0, len(log)))
    path.write_bytes(log[:cut])
    whole = log[:cut].count(b"\n")
    if whole == 0:
        with pytest.raises(RunError, match="the log must begin with study_started"):
            _opened_quietly(tmp_path)
        return
    run = _opened_quietly(tmp_path)
    assert trials_table(run).num_rows <= 12 and epochs_table(run).num_rows <= whole


@QUICK
@given(data=st.data())
def test_a_log_with_a_byte_changed_opens_or_is_refused(data: st.DataObject, log: bytes, tmp_path: Path) -> None:
    path = log_path(tmp_path)
    path.parent.mkdir(exist_ok=True)
    where = data.draw(st.integers(0, len(log) - 1))
    path.write_bytes(log[:where] + bytes([data.draw(st.integers(0, 255))]) + log[where + 1 :])
    try:
        run = _opened_quietly(tmp_path)
        trials_table(run), epochs_table(run)
    except RunError as err:
        assert str(err)


def _opened_quietly(directory: Path) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_run(directory)


def test_a_log_round_trips_event_by_event(finished: Outcome, tmp_path: Path) -> None:
    again = EventLog(tmp_path)
    for event in read_events(finished.run_directory):
        facts = {name: value for name, value in event.items() if name not in ("event", "at")}
        again.append(event["event"], **facts)
    again.close()
    first, second = fold(read_events(finished.run_directory)), open_run(tmp_path)
    assert [t.config for t in first.trials.values()] == [t.config for t in second.trials.values()]
    assert first.winner == second.winner and first.study == second.study


# Each makes a copy of a good run hostile; the second is what a reader must say.
Harm = Callable[[Path], object]


def _event(directory: Path, kind: str, **changes: Any) -> None:
    """Change the first event of a kind."""
    path = log_path(directory)
    lines = path.read_text().splitlines()
    index = next(i for i, line in enumerate(lines) if f'"event":"{kind}"' in line)
    lines[index] = json.dumps({**json.loads(lines[index]), **changes})
    path.write_text("\n".join(lines) + "\n")


def _link(path: Path, target: str) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    path.symlink_to(target)


HOSTILE_RUNS: list[tuple[str, Harm, str]] = [
    ("a pickle as the log", lambda d: log_path(d).write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.\n"), "must be a JSON object, got"),
    ("a path outside", lambda d: _event(d, "epoch_reported", checkpoint={"path": "../../etc", "sha256": "0"}), "a checkpoint must be named like checkpoints/trial-0000/epoch-0001-attempt-1, got '../../etc'"),
    ("an absolute path", lambda d: _event(d, "epoch_reported", checkpoint={"path": "/etc", "sha256": "0"}), "a checkpoint must be named like"),
    ("a huge whole number", lambda d: _event(d, "trial_suggested", seed=10**400), "seed of trial_suggested must lie in [0, 2**53], got"),
    ("a huge number in a configuration", lambda d: _event(d, "trial_suggested", config={"width": 10**400}), "width in config must be a number below 2**53 or text, got"),
    ("a negative number", lambda d: _event(d, "trial_suggested", number=-1), "number of trial_suggested must lie in [0, 2**53], got -1"),
    ("a wrong type", lambda d: _event(d, "epoch_reported", epoch="three"), "epoch of epoch_reported must be a whole number, got 'three'"),
    ("a state that is none", lambda d: _event(d, "trial_ended", state="won"), "state of trial_ended must be one of running, finished, stopped, failed, interrupted, got 'won'"),
    ("a future schema version", lambda d: _event(d, "study_started", schema=2), "the log must have schema 1, got 2; open it with the version of digitsearch that wrote it"),
    ("an unknown event", lambda d: _event(d, "study_ended", event="exec"), "unknown event 'exec'; open it with the version that wrote it"),
    ("a link as the log", lambda d: _link(log_path(d), "/etc/passwd"), "must be a part of its run directory, got a link; copy the run itself"),
    ("a link as the folder of events", lambda d: _link(log_path(d).parent, "/etc"), "must be a part of its run directory, got a link; copy the run itself"),
    ("nesting without end", lambda d: log_path(d).write_text("[" * 100_000 + "\n"), "must be a JSON object, got"),
    ("a study that is none", lambda d: _event(d, "study_started", study={"objective": 3}), "does not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "harm", "message"), HOSTILE_RUNS, ids=[name for name, _, _ in HOSTILE_RUNS])
def test_a_hostile_run_directory_executes_nothing_and_is_refused_by_name(
    name: str, harm: Harm, message: str, finished: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished.run_directory, tmp_path / "run")
    harm(tmp_path / "run")
    for read in (lambda: trials_table(open_run(Path("run"))), lambda: resume(Path("run"), ["budget.trials=20"])):
        with pytest.raises((RunError, StudyError)) as raised:
            read()
        assert message in str(raised.value)
    assert not (tmp_path / "owned").exists()


HOSTILE_MODELS: list[tuple[str, Harm, str]] = [
    ("a pickle as weights", lambda b: (b / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR."), "is damaged: "),
    ("a network too wide for any memory", lambda b: _config(b, config={"model": "cnn", "width": 10**9}), "is damaged: "),
    ("a depth without end", lambda b: _config(b, config={"model": "cnn", "depth": 10**9}), "is damaged: "),
    ("a picture too large", lambda b: _config(b, height=10**9, width=10**9), "is damaged: "),
    ("a class name that is none", lambda b: _config(b, class_names=3), "is damaged: "),
    ("a network of an unknown family", lambda b: _config(b, config={"model": "os.system"}), "is damaged: "),
    ("another key", lambda b: _config(b, __class__="x"), "is damaged: "),
    ("a link as weights", lambda b: _link(b / "model.safetensors", "/etc/passwd"), "must be files of their folder, got a link"),
]  # fmt: skip


def _config(best: Path, **changes: Any) -> None:
    said = json.loads((best / "config.json").read_text())
    (best / "config.json").write_text(json.dumps({**said, **changes}))


@pytest.mark.parametrize(("name", "harm", "message"), HOSTILE_MODELS, ids=[name for name, _, _ in HOSTILE_MODELS])
def test_a_hostile_model_folder_executes_nothing_and_is_refused(
    name: str, harm: Harm, message: str, finished: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished.run_directory / "best", tmp_path / "best")
    harm(tmp_path / "best")
    with pytest.raises(ModelError, match=message):
        load(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_checkpoints_behind_a_link_are_not_deleted(finished: Outcome, tmp_path: Path) -> None:
    from search.checkpoints import InFolder

    precious = tmp_path / "precious" / "trial-0000" / "epoch-0001"
    precious.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "precious")
    InFolder(tmp_path / "run").delete(["checkpoints/trial-0000/epoch-0001"])
    assert precious.is_dir() and os.path.islink(tmp_path / "run" / "checkpoints")
