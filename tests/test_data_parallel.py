"""One trial on several workers: the same training, the same reports, stops, checkpoints and failures as on one."""

import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Generator, Tensor, nn

from cluster.errors import ClusterError
from results import Event, Run, open_run, read_events
from results.errors import RunWarning
from search import NoTrialSucceeded, Study, load_study, resume, run
from tests.faults import Search
from tests.test_search_runs import made
from trainables.epoch import num_steps, place, train_epoch
from trainables.trial import Data, Trial
from trainables.workers import data_parallel

ROOT = Path(__file__).parents[1]
_NUM_IMAGES, _BATCH = 203, 32  # the last batch has 11, an odd number: one worker's share is larger
# Two-sided, for 8 degrees of freedom, and a false alarm in 1,000 (Student 1908).
_T_1_IN_1000 = 5.041


def _data() -> Data:
    generator = np.random.default_rng(7)
    images = generator.integers(0, 256, (_NUM_IMAGES, 4, 4), dtype=np.uint8)
    labels = generator.integers(0, 3, _NUM_IMAGES).astype(np.uint8)
    return Data(images, labels, images[:9], labels[:9], num_classes=3, mean=0.5, std=0.3)


def _trained(rank: int, num_workers: int) -> tuple[list[Tensor], float]:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    trial = Trial(None, 0, "cpu", 1, 1, lambda *_: None, rank=rank, num_workers=num_workers)
    loss = train_epoch(
        data_parallel(network, trial),
        place(_data(), "cpu"),
        lambda _: optimizer.step(),
        batch_size=_BATCH,
        generator=Generator().manual_seed(5),
        rank=rank,
        num_workers=num_workers,
    )
    return [parameter.detach() for parameter in network.parameters()], loss


def _worker(rank: int, port: int, num_workers: int, folder: str) -> None:
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=num_workers)
    torch.save(_trained(rank, num_workers), f"{folder}/{rank}.pt")
    os._exit(0)  # gloo's threads may abort a process that ends otherwise


@pytest.mark.parametrize("num_workers", [2, pytest.param(3, marks=pytest.mark.chaos)])
def test_an_epoch_of_several_workers_is_that_of_one(num_workers: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (port, num_workers, str(tmp_path)), nprocs=num_workers)
    alone, alone_loss = _trained(0, 1)
    for rank in range(num_workers):
        weights, loss = torch.load(tmp_path / f"{rank}.pt")
        assert loss == pytest.approx(alone_loss, rel=1e-5)
        for one, other in zip(weights, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "num_workers", "steps"),
    [(100, 32, 1, 4), (97, 32, 1, 3), (98, 32, 1, 4), (98, 32, 2, 3), (99, 32, 2, 3), (100, 32, 2, 4), (3, 32, 2, 1)],
)
def test_no_workers_share_of_a_batch_is_one_image(
    num_images: int, batch_size: int, num_workers: int, steps: int
) -> None:
    assert num_steps(num_images, batch_size, num_workers) == steps
    last = num_images - (steps - 1) * batch_size
    assert last // num_workers >= 2 or num_images < 2 * num_workers


def _five_seeds(tmp_path: Path, workers: int) -> Study:
    """Five trials of one configuration: the trials' seeds are all that differs between them."""
    space = {
        "model": {"choice": ["cnn"]}, "depth": {"choice": [2]}, "width": {"choice": [8]}, "stem": {"choice": ["stride"]},
        "convolutions": {"choice": [1]}, "activation": {"choice": ["gelu"]}, "dropout": {"choice": [0.1]},
        "optimizer": {"choice": ["sgd"]}, "learning_rate_sgd": {"choice": [0.2]}, "momentum": {"choice": [0.9]},
        "weight_decay": {"choice": [0.0005]}, "schedule": {"choice": ["one_cycle"]}, "batch_size": {"choice": [64]},
        "label_smoothing": {"choice": [0.1]}, "augment": {"choice": [False]}, "averaging": {"choice": [0.1]},
    }  # fmt: skip
    return Study.from_mapping(
        {
            "name": f"workers-{workers}",
            "data": {"dataset": "optdigits", "validation": 500},
            "space": space,
            "sampler": {"repeats": "reseed"},
            "early_stop": {"name": "none", "max_epochs": 5},
            "budget": {"trials": 5, "wall": "5m"},
            "resources": {"workers": workers},
            "precision": "fp32",
            "output": str(tmp_path),
        }
    )


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_reach_the_accuracy_of_one(tmp_path: Path) -> None:
    values: dict[int, Any] = {}
    for workers in (1, 2):
        outcome = run(_five_seeds(tmp_path, workers))
        frame = pd.read_parquet(str(outcome.run_directory / "trials.parquet"))
        assert frame["state"].tolist() == ["finished"] * 5 and frame["epochs"].tolist() == [5] * 5
        values[workers] = frame["metric_val_accuracy"]
    # Equal means give a difference beyond this once in 1,000 runs.
    noise = math.sqrt((values[1].var() + values[2].var()) / 5)
    assert abs(values[1].mean() - values[2].mean()) <= _T_1_IN_1000 * noise
    assert values[2].mean() > 0.9
    print(  # noqa: T201
        f"5 seeds each: {values[1].mean():.4f} ({values[1].std():.4f}) and {values[2].mean():.4f} ({values[2].std():.4f})"
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.chaos
def test_a_worker_that_dies_costs_an_attempt_and_the_trial_goes_on(tmp_path: Path) -> None:
    outcome = run(made(tmp_path, "a_worker_dies_once", budget={"trials": 1}, resources={"workers": 2}))
    frame = pd.read_parquet(str(outcome.run_directory / "trials.parquet"))
    assert frame["state"].tolist() == ["finished"] and frame["attempts"].tolist() == [2]
    # The first worker may have reported its second epoch before it missed the other.
    assert frame["last_began_after"].tolist() in ([1], [2]), "the second attempt goes on from a checkpoint"
    failed = [event for event in read_events(outcome.run_directory) if event["event"] == "attempt_failed"]
    assert failed[0]["error_kind"] == "worker_lost"
    assert failed[0]["error"] == "one of the processes that trained it died"


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("how", "kind", "error"),
    [
        # Not that another lost the connection to it, and not lost for looking like that.
        ("raises", "exception", "RuntimeError: Connection to the fish was refused (workloads_for_tests.py"),
        ("memory", "oom", "MemoryError: no room for a fish"),
    ],
)
def test_a_worker_that_fails_fails_its_trial_with_its_message(how: str, kind: str, error: str, tmp_path: Path) -> None:
    space = {"how": {"choice": [how]}}
    with pytest.raises(NoTrialSucceeded):
        run(made(tmp_path, "a_worker_raises", budget={"trials": 1}, resources={"workers": 2}, space=space))
    trial = pd.read_parquet(tmp_path / "run" / "trials.parquet").iloc[0]
    assert (trial["attempts"], trial["error_kind"], trial["last_num_workers"]) == (1, kind, 2)
    assert error in trial["error"]


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.usefixtures("ray_cluster")
def test_workers_that_can_train_once_are_replaced(tmp_path: Path) -> None:
    study = made(
        tmp_path, "", workload="workload_that_spoils:works_once", budget={"trials": 4}, resources={"workers": 2},
        early_stop={"name": "none", "max_epochs": 1},
    )  # fmt: skip
    with pytest.warns(RunWarning, match="each trial gets a new process from now on"):
        frame = pd.read_parquet(run(study).run_directory / "trials.parquet")
    assert set(frame["state"]) == {"finished"} and frame["attempts"].tolist() == [1, 2, 2, 1]


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.usefixtures("ray_cluster")
def test_workers_that_hang_are_ended_and_make_room_for_the_next(tmp_path: Path) -> None:
    study = made(
        tmp_path, "hangs", budget={"trials": 3, "trial_wall": "2s", "wall": "3m"}, resources={"workers": 2},
        sampler={"name": "random", "seed": 3},
    )  # fmt: skip
    frame = pd.read_parquet(str(run(study).run_directory / "trials.parquet"))
    hung = frame["param_x"] > 0.5
    assert hung.tolist() == [True, True, False], "the seed must have some hang before a good one"
    assert set(frame.loc[hung, "error_kind"]) == {"timeout"} and set(frame.loc[~hung, "state"]) == {"finished"}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_more_workers_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ClusterError,
        match=r"nodes must have 1 CPU for each of a trial's 99 workers, got \d+ CPU and 0 GPU; "
        r"lower resources\.cpu or resources\.workers, or --wait for a node that joins",
    ):
        run(load_study("quickstart", ["resources.workers=99", f"output={tmp_path}"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_of_two_workers_a_trial(tmp_path: Path) -> None:
    study = made(
        tmp_path, "talks", budget={"trials": 2}, resources={"workers": 2}, sampler={"known": [{"x": 0.4}, {"x": 0.3}]},
        early_stop={"name": "asha", "grace_epochs": 1, "max_epochs": 2, "reduction": 2},
    )  # fmt: skip
    outcome = run(study)
    frame = pd.read_parquet(str(outcome.run_directory / "trials.parquet"))
    assert frame["state"].tolist() == ["finished", "stopped"] and frame["epochs"].tolist() == [2, 1]
    said = [
        (e["number"], e["text"].splitlines()) for e in read_events(outcome.run_directory) if e["event"] == "printed"
    ]
    first = ["worker 0 of 2", "100 % of epoch 1"]
    assert said == [(0, first), (0, ["100 % of epoch 2", "the last word"]), (1, first)]


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_of_two_workers_a_trial_is_stopped_early_interrupted_and_resumed(tmp_path: Path) -> None:
    def strikes(run_: Run, event: Event) -> None:
        if event["event"] == "epoch_reported" and (event["number"], event["epoch"]) == (1, 1):
            signal.raise_signal(signal.SIGINT)

    study = made(
        tmp_path, "sleeps", budget={"trials": 2}, resources={"workers": 2}, sampler={"name": "random", "seed": 5},
        early_stop={"name": "asha", "grace_epochs": 2, "max_epochs": 8, "reduction": 2},
    )  # fmt: skip
    first = run(study, views=[strikes])
    assert first.signal == signal.SIGINT and first.run.count("interrupted") == 1
    assert first.run.trials[0].config["x"] > first.run.trials[1].config["x"], "the seed must have the second stopped"
    frame = pd.read_parquet(str(resume(first.run_directory).run_directory / "trials.parquet"))
    assert set(frame["state"]) == {"finished", "stopped"} and "early_stop" in set(frame["stop_reason"])
    begun = [event["epoch"] for event in read_events(first.run_directory) if event["event"] == "trial_started"]
    assert [epoch > 0 for epoch in begun].count(True) == 1, "the interrupted trial goes on from its checkpoint"


@pytest.mark.ray
@pytest.mark.chaos
def test_a_search_of_two_workers_a_trial_is_stopped_early_killed_and_resumed(tmp_path: Path) -> None:
    study = load_study("quickstart", ["budget.trials=6", "budget.wall=10m", "resources.workers=2", "name=chaos"])
    search = Search(tmp_path, study.to_yaml())
    search.kill_at(14)
    search.check_tables_open()
    search.finish()
    search.check_nothing_was_done_twice()
    frame = pd.read_parquet(search.run_directory / "trials.parquet")
    assert frame["number"].tolist() == list(range(6)) and set(frame["state"]) == {"finished", "stopped"}
    assert "early_stop" in set(frame["stop_reason"])
    resumed = [event["epoch"] for event in read_events(search.run_directory) if event["event"] == "trial_started"]
    assert any(epoch > 0 for epoch in resumed), "a trial goes on from its checkpoint"
    assert (search.run_directory / "best" / "model.safetensors").is_file()


@pytest.mark.ray
@pytest.mark.chaos
def test_a_node_that_lacks_this_project_ends_a_search_of_two_workers_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "older" / "search").mkdir(parents=True)
    (tmp_path / "older" / "search" / "__init__.py").touch()
    study = made(tmp_path, "sleeps", budget={"trials": 2}, resources={"workers": 2})
    (tmp_path / "study.yaml").write_text(study.to_yaml())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    code = (
        "import os\nfrom ray.cluster_utils import Cluster\nfrom search import load_study, run\n"
        "cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})\n"
        f"os.environ['PYTHONPATH'] = {str(tmp_path / 'older')!r}\n"
        "cluster.add_node(num_cpus=1)\ncluster.wait_for_nodes()\n"
        "run(load_study('study.yaml'), address=cluster.address)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert "ClusterError: each node must have what trials need, as it is here, got ModuleNotFoundError" in done.stderr
    broken_off = open_run(study.run_directory)
    assert broken_off.ended == "error" and not broken_off.count("failed")
