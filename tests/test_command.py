"""The command line as it is typed: whole messages, exit codes, and nothing half-written left behind."""

import csv
import gzip
import importlib
import importlib.metadata
import inspect
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from results import open_run
from search import Outcome
from search.command import EXIT_CODES
from search.show.text import to_type
from trainables.datasets import PartName, load_part

Typed = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[1]


Say = Callable[..., tuple[int, str, str]]


def test_every_exception_of_every_folder_has_an_exit_code() -> None:
    found = set()
    for folder in ("search", "spaces", "trainables", "cluster", "results"):
        module = importlib.import_module(f"{folder}.errors")
        own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
        assert own, f"{folder} owns no exception"
        found |= {kind for kind in own if issubclass(kind, Exception) and not issubclass(kind, Warning)}
    assert found == set(EXIT_CODES)


def test_help_names_every_verb_and_each_has_help_of_its_own(say: Say) -> None:
    verbs = re.findall(r"^  ([a-z]+)  ", say("--help")[1], re.M)
    assert verbs == [
        "data", "init", "validate", "plan", "run", "resume", "confirm", "trials", "best", "status", "report", "watch",
        "dashboard", "rerun", "train", "predict", "export", "serve",
        "submit", "jobs", "logs", "stop", "doctor",
    ]  # fmt: skip
    for verb in verbs:
        code, out, _ = say(verb, "--help")
        assert code == 0 and "Usage: " in out and say(verb, "-h") == (0, out, "")


def test_its_version_is_that_of_the_package(say: Say) -> None:
    assert say("--version") == (0, f"digitsearch {importlib.metadata.version('digitsearch')}\n", "")


def test_nothing_typed_shows_help_and_is_wrong_usage(type_in: Typed) -> None:
    typed = type_in()
    assert typed.returncode == 2 and "Usage: " in typed.stdout + typed.stderr


STUDY = "name: mine\n"
BAD_STUDIES = [
    (["run", "quickstrat"], "error: unknown study 'quickstrat': no such file, and the built-in ones are mnist, mnist-best, mnist-small, quickstart (did you mean 'quickstart'?)\n"),
    (["run", "quickstart", "--set", "budget.trails=1"], "error: --set: unknown key 'trails' in budget; known: trials, wall, trial_wall, plateau (did you mean 'trials'?)\n"),
    (["run", "quickstart", "--set", "data.dataset=mnsit"], "error: unknown dataset 'mnsit'; known: optdigits, mnist, fashion_mnist, kmnist, qmnist, emnist_digits (did you mean 'mnist'?), or the path of a folder\n"),
    (["run", "quickstart", "--set", "space=digit"], "error: --set: unknown space 'digit'; known: digits (did you mean 'digits'?); or package.module:name, or a mapping\n"),
    (["run", "quickstart", "--set", "workload=digit"], "error: --set: unknown workload 'digit'; known: digits (did you mean 'digits'?); or package.module:function\n"),
    (["run", "quickstart", "--set", "workload=nowhere:train", "--set", "data=null"], "error: workload 'nowhere:train' must be importable as package.module:function, got No module named 'nowhere'; it is looked for in the folder where this is typed, in PYTHONPATH, and among what is installed\n"),
    (["run", "quickstart", "--set", "sampler.name=tpee"], "error: --set: unknown sampler 'tpee'; known: tpe, gp, cmaes, random, qmc, grid, nsga2, nsga3 (did you mean 'tpe'?)\n"),
    (["run", "quickstart", "--set", "budget.trials=many"], "error: --set: budget.trials must be a whole number, got 'many'\n"),
    (["run", "quickstart", "--set", "budget.trials=0"], "error: --set: budget.trials must be at least 1, got 0\n"),
    (["run", "quickstart", "--set", "space={width: {choice: []}}"], "error: --set: space.width: choice needs at least one option, got []; list the values to choose from\n"),
    (["run", "quickstart", "--set", "space={dropout: {float: [0.5, 0.5]}}"], "error: --set: space.dropout: float range needs low < high, got low=0.5, high=0.5; swap or widen them\n"),
    (["run", "quickstart", "--set", "space={weight_decay: {float: [0, 1], log: true}}"], "error: --set: space.weight_decay: a log range needs low > 0, got low=0; raise low or drop log\n"),
    (["run", "mnist"], "error: data set 'mnist' is not prepared in 'data': run `digitsearch data mnist --dir data` once, with a network or with --from FOLDER\n"),
    (["run", "quickstart", "--set", "data.validation=5000"], "error: validation must be a number of images from 1 to 1436 or a share between 0 and 1, got 5000 of 1437 images\n"),
    (["validate", "quickstart", "--set", "data.dataset=mnits"], "error: unknown dataset 'mnits'; known: optdigits, mnist,"),
    (["resume", "runs/nothing"], "error: 'runs/nothing' is not a run directory: it has no events/log.jsonl; name one, like runs/quickstart\n"),
    (["trials", "nothing"], "error: 'nothing' is not a run directory: it has no events/log.jsonl; name one, like runs/quickstart\n"),
    (["best", "nothing"], "error: 'nothing' is not a run directory"),
    (["status", "nothing"], "error: 'nothing' is not a run directory"),
    (["report", "nothing"], "error: 'nothing' is not a run directory"),
    (["predict", "nothing", "x.png"], "error: 'nothing' must be a model folder with model.safetensors and config.json; name a run directory whose search has ended, or what `digitsearch train --out` wrote\n"),
    (["export", "nothing"], "error: 'nothing' must be a model folder with model.safetensors and config.json; name a run directory whose search has ended, or what `digitsearch train --out` wrote\n"),
    (["train", "--set", "widht=3"], "error: --set: unknown parameter 'widht'; known: "),
    (["train", "--set", "width=3000"], "error: --set: width must be a whole number in [1, 1024], got 3000\n"),
    (["train", "--set", "activation=tanh"], "error: --set: activation must be one of relu, gelu, silu, got 'tanh'\n"),
    (["train", "--set", "hidden=64"], "error: --set: hidden does not apply here, got 64; leave it out\n"),
    (["train", "--set", "width"], "error: --set needs name=value, got 'width'; like --set width=16\n"),
    (["train", "--data", "mnsit"], "error: unknown dataset 'mnsit'; known: optdigits, mnist,"),
    (["data", "mnsit"], "error: unknown dataset 'mnsit'; known: optdigits, mnist,"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), BAD_STUDIES)
def test_a_mistake_is_one_message_and_exit_2(words: list[str], message: str, say: Say, tmp_path: Path) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert err == message if message.endswith("\n") else err.startswith(message) and err.count("\n") == 1
    assert "Traceback" not in err and not list(tmp_path.iterdir()), "a mistake must leave nothing behind"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "Missing argument 'STUDY'"),
        (["rnu", "quickstart"], "No such command 'rnu'"),
        (["train", "--epochs", "0"], "Invalid value for '--epochs': 0 is not in the range x>=1"),
        (["trials", "x", "--format", "xml"], "'xml' is not one of 'table', 'json', 'csv'"),
        (["run", "quickstart", "--nothing"], "No such option: --nothing"),
    ],
)
def test_wrong_words_are_exit_2(words: list[str], message: str, type_in: Typed) -> None:
    typed = type_in(*words)
    assert typed.returncode == 2 and message in re.sub(r"\s*\n[│ ]*", " ", typed.stderr)
    assert "Traceback" not in typed.stderr


@pytest.mark.ray
def test_an_output_folder_that_cannot_be_written(type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    typed = type_in("run", "quickstart", "--set", "output=file/runs")
    assert typed.returncode == 2
    assert typed.stderr == (
        "error: output: 'file/runs/quickstart' must be a folder that can be made and written, got: Not a directory; "
        "choose another with --set output=FOLDER\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.ray
def test_a_gpu_where_there_is_none(type_in: Typed, tmp_path: Path) -> None:
    typed = type_in("run", "quickstart", "--set", "resources.gpu=1")
    assert typed.returncode == 2
    assert re.fullmatch(
        r"error: resources: a node must have 1 CPU and 1 GPU for one trial, got \d+ CPU and 0 GPU; "
        r"lower resources.cpu or resources.gpu, or --wait for a node that joins\n",
        typed.stderr,
    )
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_nearly_named(say: Say, tmp_path: Path) -> None:
    log = tmp_path / "runs" / "mine" / "events" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.touch()
    for typed in ("mine", "mine.yaml", "runs", "runs/mine/mine-1"):
        code, out, err = say("predict", typed, "x.png")
        told = f"error: {typed!r} is neither a run directory nor a model folder; did you mean runs/mine?\n"
        assert (code, out, err) == (2, "", told)
    code, _, err = say("predict", "runs/mine", "x.png")
    assert code == 2 and err.startswith("error: 'runs/mine' must be a model folder")


def test_a_cluster_that_is_not_there(type_in: Typed, tmp_path: Path) -> None:
    typed = type_in("run", "quickstart", "--address", "127.0.0.1:1")
    assert typed.returncode == 2 and typed.stderr.startswith("error: a Ray cluster must be reachable at '127.0.0.1:1'")
    assert "Traceback" not in typed.stderr and not list(tmp_path.iterdir())


def idx_folder(folder: Path) -> Path:
    """A data set of our own, as four idx files of 8 x 8 digits."""
    return fill_with_idx(folder, "train", "test")


def fill_with_idx(folder: Path, train: PartName, test: PartName) -> Path:
    folder.mkdir()
    for part, prefix in ((train, "train"), (test, "t10k")):
        taken = load_part("optdigits", Path("data"), part)
        images = struct.pack(">HBBIII", 0, 8, 3, *taken.images.shape) + taken.images.tobytes()
        labels = struct.pack(">HBBI", 0, 8, 1, len(taken.labels)) + taken.labels.tobytes()
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    return folder


def test_a_folder_of_idx_files_is_prepared_described_and_trained(say: Say, tmp_path: Path) -> None:
    idx_folder(tmp_path / "mine")
    code, out, err = say("data", "./mine")
    assert (code, err) == (0, "") and "8 x 8 pixels, 10 classes" in out and re.search(r"^all +1437 +360$", out, re.M)
    shutil.rmtree(tmp_path / "data")  # it needs no `data` before it
    code, out, err = say("train", "--data", "./mine", "--epochs", "1", "--set", "model=mlp", "--out", "m")
    assert (code, err) == (0, "") and (tmp_path / "m" / "model.safetensors").is_file()
    assert len(pd.read_parquet(tmp_path / "m" / "predictions.parquet")) == 360


def test_a_test_part_that_is_trained_on_is_told_of(say: Say, tmp_path: Path) -> None:
    fill_with_idx(tmp_path / "mine", "train", "train")
    code, out, err = say("data", "./mine")
    assert (code, err) == (0, "") and out.endswith(
        "\nwarning: ./mine: of 1437 test images, 1437 are training images too, to the pixel: the winner's test figure "
        "is too good; keep one of each\n"
    )
    code, out, _ = say("train", "--data", "./mine", "--epochs", "1", "--set", "model=mlp", "--out", "m")
    assert code == 0 and "(n=1437, 1437 of them training images too, 95 % interval 0." in out


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"])
def test_a_truncated_data_file_is_named(file: str, say: Say, tmp_path: Path) -> None:
    path = idx_folder(tmp_path / "mine") / file
    path.write_bytes(path.read_bytes()[:-50])
    code, out, err = say("data", "./mine")
    assert (code, out) == (2, "") and file in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


def test_a_missing_data_file_is_named(say: Say, tmp_path: Path) -> None:
    (idx_folder(tmp_path / "mine") / "t10k-labels-idx1-ubyte").unlink()
    code, out, err = say("data", "./mine")
    assert (code, out) == (2, "") and "t10k-labels-idx1-ubyte" in err


def test_a_prepared_data_set_that_is_damaged_is_named_or_prepared_anew(say: Say, tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "mine")
    assert say("data", "./mine")[0] == 0
    (prepared,) = (tmp_path / "data").glob("*/train.safetensors")
    whole = prepared.read_bytes()
    prepared.write_bytes(whole[:1000])
    words = ("train", "--data", "./mine", "--epochs", "1", "--set", "model=mlp", "--out", "m")
    folder.rename(tmp_path / "gone")
    code, _, err = say(*words)
    assert code == 2 and "train.safetensors" in err and not (tmp_path / "m").exists()
    (tmp_path / "gone").rename(folder)
    code, _, err = say(*words)
    assert (code, err) == (0, "") and prepared.read_bytes() == whole and (tmp_path / "m").is_dir()


@pytest.fixture(scope="module")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    words = ["train", "--epochs", "3", "--set", "model=mlp", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "search", *words], cwd=ROOT, check=True, capture_output=True)
    return out


def test_train_writes_the_same_kind_of_folder_as_best(trained_model: Path, finished: Outcome) -> None:
    names = {path.name for path in trained_model.iterdir()}
    assert names == {path.name for path in (finished.run_directory / "best").iterdir()}
    ours, theirs = (
        json.loads((folder / "config.json").read_text()) for folder in (trained_model, finished.run_directory / "best")
    )
    assert set(ours) == set(theirs)
    metrics = json.loads((trained_model / "metrics.json").read_text())
    assert metrics["test_accuracy"] > 0.8 and metrics["num_test"] == 360
    assert metrics["num_threads"] == int(os.environ["OMP_NUM_THREADS"])


def test_a_network_that_does_not_fit_into_memory_is_one_message(tmp_path: Path) -> None:
    code = "import resource, runpy; resource.setrlimit(resource.RLIMIT_AS, (8 << 30,) * 2); runpy.run_module('search', run_name='__main__')"
    words = ["train", "--set", "model=mlp", "--set", "hidden=65536", "--set", "depth=2", "--out", str(tmp_path / "m")]
    typed = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert (typed.returncode, typed.stderr) == (
        2,
        "error: network and batch must fit into memory, got 4,300,079,114 parameters and 128 images; "
        "set smaller ones\n",
    )


def test_train_does_not_start_ray_and_does_not_write_over_a_model(trained_model: Path, say: Say) -> None:
    code, out, err = say("train", "--out", str(trained_model))
    assert (code, out) == (2, "")
    assert err == f"error: --out: {str(trained_model)!r} is there already; name another folder or delete it\n"
    code = "import sys, search.single, trainables.digits; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_predict_names_what_it_cannot_read_and_goes_on(trained_model: Path, say: Say, tmp_path: Path) -> None:
    image = load_part("optdigits", Path("data"), "test").images[0]
    Image.fromarray(image).save(tmp_path / "good.png")
    Image.fromarray(255 - image).resize((200, 200)).save(tmp_path / "big.jpg")
    (tmp_path / "text.png").write_text("I am no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    names = ["text.png", "good.png", "empty.png", "cut.png", "nothing.png", "big.jpg"]
    code, out, err = say("predict", str(trained_model), *names, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 1 and [row["image"] for row in rows] == ["good.png", "big.jpg"]
    assert all(0.1 < float(row["probability"]) <= 1 and row["digit"] in "0123456789" for row in rows)
    assert [line.split(":")[0] for line in err.splitlines()] == ["text.png", "empty.png", "cut.png", "nothing.png"]
    assert "Traceback" not in err


def test_predict_reads_folders_and_idx_files_and_writes_parquet(trained_model: Path, say: Say, tmp_path: Path) -> None:
    test = load_part("optdigits", Path("data"), "test")
    folder = idx_folder(tmp_path / "idx")
    (tmp_path / "pictures").mkdir()
    for index in range(3):
        Image.fromarray(test.images[index]).save(tmp_path / "pictures" / f"{index}.png")
    path = str(folder / "t10k-images-idx3-ubyte.gz")
    code, out, err = say("predict", str(trained_model), "pictures", path, "--format", "json", "--out", "p.parquet")
    rows = json.loads(out)
    assert (code, err, len(rows)) == (0, "", 363)
    assert [row["digit"] for row in rows[:3]] == [row["digit"] for row in rows[3:6]], "the same images, read two ways"
    right = sum(row["digit"] == str(label) for row, label in zip(rows[3:], test.labels, strict=True))
    assert right / 360 == json.loads((trained_model / "metrics.json").read_text())["test_accuracy"]
    assert pd.read_parquet(tmp_path / "p.parquet").columns.tolist() == ["image", "digit", "probability"]


def test_init_writes_a_commented_study_that_validates(say: Say, tmp_path: Path) -> None:
    code, out, err = say("init", "mine.yaml")
    assert (code, err) == (0, "") and "wrote mine.yaml" in out
    assert (tmp_path / "mine.yaml").read_text().count("#") > 15
    code, out, err = say("validate", "mine.yaml")
    assert (
        code == 0
        and "keep_best: 3" in out
        and err == "mine.yaml: a valid study; `digitsearch run mine.yaml` searches it\n"
    )
    code, _, err = say("init", "mine.yaml")
    assert (code, err) == (2, "error: 'mine.yaml' is there already; name another file\n")


def test_a_command_to_be_typed_next_is_this_environment_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It need not be activated, and may lie in a folder with spaces in its name."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "an env" / "bin" / "digitsearch"
    script.parent.mkdir(parents=True)
    for file in (script, script.with_name("python")):
        file.write_text("")
        file.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert to_type("best", "my runs/a") == "'an env/bin/digitsearch' best 'my runs/a'"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "search" / "__main__.py")])
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    assert to_type("best", Path("a")) == "'an env/bin/python' -m search best a"
    monkeypatch.setenv("PATH", str(script.parent))
    assert to_type("best", "a") == "digitsearch best a"
    script.unlink()
    assert to_type("best", "a") == "python -m search best a"


def test_trials_best_and_status_as_table_json_and_csv(finished: Outcome, say: Say) -> None:
    directory = str(finished.run_directory)
    code, out, err = say("trials", directory)
    assert (code, err) == (0, "") and len(out.splitlines()) == 13 and "early_stop" in out
    rows = json.loads(say("trials", directory, "--format", "json")[1])
    assert [row["number"] for row in rows] == list(range(12))
    lines = list(csv.DictReader(io.StringIO(say("trials", directory, "--format", "csv")[1])))
    assert [line["state"] for line in lines] == [row["state"] for row in rows]
    top = json.loads(say("trials", directory, "--top", "3", "--format", "json")[1])
    finished_ones = [row for row in rows if row["state"] == "finished"]
    assert top == sorted(finished_ones, key=lambda row: -row["metric_val_accuracy"])[:3] and len(top) == 3
    assert len(say("trials", directory, "--top", "99")[1].splitlines()) == len(finished_ones) + 1
    best = json.loads(say("best", directory, "--format", "json")[1])
    winner = finished.run.winner
    assert winner is not None and best["number"] == winner["number"] == top[0]["number"]
    assert best["winner"]["test_accuracy"] == winner["metrics"]["test_accuracy"]
    assert f"trial                   {winner['number']}\n" in say("best", directory)[1]
    status = json.loads(say("status", directory, "--format", "json")[1])
    assert status["finished"] + status["stopped"] == status["planned"] == 12 and status["ended"] == "trials"


def test_best_of_a_run_without_a_finished_trial_is_exit_3(finished: Outcome, say: Say, tmp_path: Path) -> None:
    copy = tmp_path / "begun"
    (copy / "events").mkdir(parents=True)
    lines = (finished.run_directory / "events" / "log.jsonl").read_text().splitlines(keepends=True)
    (copy / "events" / "log.jsonl").write_text("".join(lines[:4]))
    assert say("best", str(copy)) == (3, "", f"error: {copy}: no trial has had the whole budget of epochs yet\n")
    assert say("status", str(copy))[0] == 0


def test_a_damaged_log_is_one_message(finished: Outcome, say: Say, tmp_path: Path) -> None:
    shutil.copytree(finished.run_directory / "events", tmp_path / "bad" / "events")
    log = tmp_path / "bad" / "events" / "log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'{"event":"trial_started"', b'{"event":trial_started"', 1))
    code, out, err = say("trials", str(tmp_path / "bad"))
    assert (code, out) == (2, "") and "must be a JSON object, got" in err and err.count("\n") == 1


@pytest.mark.ray
@pytest.mark.slow
def test_run_prints_a_line_for_each_trial_and_what_to_type_next(
    type_in: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tempfile.TemporaryDirectory(prefix="dr-", dir="/tmp")  # Ray's sockets have short names
    monkeypatch.setenv("RAY_TMPDIR", folder.name)
    words = [
        "output=my runs",
        "budget.trials=3",
        "budget.wall=5m",
        "early_stop.max_epochs=2",
        "objective.target=0.9999",
    ]
    typed = type_in("run", "quickstart", *(f"--set={word}" for word in words), "--require-target")
    lines = typed.stdout.splitlines()
    assert [line.split(":")[0].split()[0] for line in lines[:3]] == ["trial"] * 3
    assert sum(" of 3: " in line for line in lines) == 3
    assert any(
        re.match(r"winner: trial \d, validation accuracy 0\.\d{4} \(n=300\), test accuracy 0\.\d{4} \(n=360, ", x)
        for x in lines
    )
    commands = lines[lines.index("next:") + 1 :]
    verbs = [line.partition(" -m search ")[2].split()[0] for line in commands]
    assert verbs == ["trials", "best", "report", "predict", "serve"]
    in_a_shell = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "shell": True, "check": True}
    table = subprocess.run(f"{commands[0]} --format csv", capture_output=True, text=True, **in_a_shell)
    assert len(table.stdout.splitlines()) == 1 + 3
    reached = open_run(tmp_path / "my runs" / "quickstart").reaches(0.9999)
    assert typed.returncode == (0 if reached else 4)
    assert reached or typed.stderr == "error: val_accuracy must reach 0.9999; the winner has it not\n"
    with folder:
        assert os.listdir(folder.name) == ["ray"]
        assert not [path for path in Path(folder.name).rglob("*") if path.is_file()], "Ray's logs go with its cluster"
    typed = type_in("run", "quickstart", "--set=output=my runs")
    assert typed.returncode == 2 and typed.stderr == (
        "error: 'my runs/quickstart' is there already, of a study with another early_stop.max_epochs; go on with `digitsearch resume 'my runs/quickstart'`, "
        "or give this run another name: --set name=quickstart-2\n"
    )


@pytest.mark.ray
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_search_goes_on_when_nobody_watches_it_any_more(is_terminal: bool, tmp_path: Path) -> None:
    study = {
        "workload": "workloads_for_tests:rises_slowly", "data": None, "objective": {"metric": "score"},
        "space": {"x": {"float": [0.0, 1.0]}}, "early_stop": {"name": "none", "max_epochs": 10}, "budget": {"trials": 6},
    }  # fmt: skip
    (tmp_path / "slow.yaml").write_text(json.dumps(study))
    reader, writer = pty.openpty() if is_terminal else os.pipe()
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}', "TERM": "xterm"}
    environment["HOME"] = "/proc"  # nor does it need a home that can be written
    with (tmp_path / "said").open("w") as said:
        words = [sys.executable, "-m", "search", "run", "slow.yaml"]
        typed = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=writer, stderr=said)
    os.close(writer)
    seen = b""
    while b"of 6" not in seen:
        piece = os.read(reader, 10_000)
        assert piece, (tmp_path / "said").read_text()
        seen += piece
    os.close(reader)
    code = typed.wait(timeout=60)
    run = open_run(tmp_path / "runs" / "slow")
    assert run.winner and run.count("finished") == 6
    if not is_terminal:
        assert code == 0
        assert (tmp_path / "said").read_text() == "warning: who read standard output is gone; the work goes on\n"


def test_a_training_goes_on_when_nobody_watches(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "search",
        "train",
        "--epochs",
        "3",
        "--set",
        "model=mlp",
        "--out",
        str(tmp_path / "m"),
    ]
    reader, writer = os.pipe()
    os.close(reader)
    typed = subprocess.run(words, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert typed.returncode == 0 and (tmp_path / "m" / "model.safetensors").is_file()
    assert typed.stderr == "warning: who read standard output is gone; the work goes on\n"


def test_a_wide_range_without_log_is_hinted_at(say: Say, tmp_path: Path) -> None:
    space = "{a: {float: [1.0e-4, 0.1]}, b: {float: [1.0e-4, 0.1], log: true}, c: {float: [0.0, 9.0]}, d: {int: [1, 1024]}, "
    space += "e: {int: [1, 999]}, f: {float: [0.001, 9.001], step: 0.5}, g: {choice: [1, 9999]}}"
    (tmp_path / "wide.py").write_text("def train(config, trial):\n    pass\n")
    (tmp_path / "wide.yaml").write_text(f"workload: wide:train\ndata: null\nspace: {space}\n")
    code, out, err = say("validate", "wide.yaml")
    assert (
        code == 0
        and "wide" in out
        and err.splitlines()
        == [
            "hint: space.a is drawn evenly from 0.0001 to 0.1, nine in ten above 0.01009; with log: true each power of ten is "
            "as likely",
            "hint: space.d is drawn evenly from 1 to 1024, nine in ten above 103.3; with log: true each power of ten is as likely",
            "wide.yaml: a valid study; `digitsearch run wide.yaml` searches it",
        ]
    )


@pytest.fixture
def mnist() -> Path:
    folder = os.environ.get("DIGITSEARCH_MNIST")
    if not folder:
        pytest.skip(
            "the real MNIST files are needed: set DIGITSEARCH_MNIST to the folder that holds the four .gz files"
        )
    return Path(folder)


@pytest.mark.mnist
def test_mnist_from_a_folder_then_a_network_that_reads_it(mnist: Path, say: Say, tmp_path: Path) -> None:
    code, out, err = say("data", "mnist", "--from", str(mnist))
    assert (code, err) == (0, "") and out.startswith("mnist: 28 x 28 pixels, 10 classes, in data/mnist\n")
    assert re.search(r"^all +60000 +10000$", out, re.M) and re.search(r"^7 +6265 +1028$", out, re.M)
    code, out, err = say("train", "--data", "mnist", "--epochs", "1", "--set", "model=mlp", "--out", "m")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "m" / "metrics.json").read_text())["test_accuracy"] > 0.95
