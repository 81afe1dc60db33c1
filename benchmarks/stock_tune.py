"""Search MNIST with Ray Tune and Optuna the way their documentation shows it; nothing of digitsearch is in here.

The network and its training are PyTorch's MNIST example. `python benchmarks/stock_tune.py --train --data data`
searches; without --train a trial only sleeps and reports, which leaves what Tune itself costs.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import torch
import torch.nn.functional as F
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class Net(nn.Module):
    """The network of PyTorch's MNIST example: 1,199,882 parameters; (N, 1, 28, 28) in, log-probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities, float (N, 10)."""
        hidden = F.relu(self.conv2(F.relu(self.conv1(images))))
        hidden = torch.flatten(self.dropout1(F.max_pool2d(hidden, 2)), 1)
        hidden = self.dropout2(F.relu(self.fc1(hidden)))
        return F.log_softmax(self.fc2(hidden), dim=1)


def mnist_loader(folder: str, batch_size: int, *, train: bool, num_images: int | None = None) -> DataLoader[Any]:
    """A DataLoader over torchvision's MNIST.

    Args:
        folder: Holds MNIST/raw.
        batch_size: Images a batch.
        train: The training part, shuffled, or the test part.
        num_images: Only the first so many.
    """
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    part: Any = datasets.MNIST(folder, train=train, transform=transform)
    if num_images is not None:
        part = Subset(part, range(num_images))
    return DataLoader(part, batch_size=batch_size, shuffle=train)


def train_epoch(model: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer) -> None:
    """Pass over the images once."""
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.nll_loss(model(images), labels)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader[Any]) -> float:
    """The share of images that are read rightly."""
    model.eval()
    rights = [(model(images).argmax(dim=1) == labels).float().mean().item() for images, labels in loader]
    return float(sum(rights) / len(rights))


def train_mnist(config: dict[str, Any]) -> None:
    """Train the network and report after each epoch."""
    torch.set_num_threads(1)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=10 ** (-4 + 3 * config["x"]))
    training = mnist_loader(config["data"], 64, train=True, num_images=config["images"])
    validation = mnist_loader(config["data"], 1000, train=False)
    for _ in range(config["reports"]):
        began = time.time()
        train_epoch(model, training, optimizer)
        tune.report({"score": accuracy(model, validation), "began": began, "ended": time.time()})


def idle(config: dict[str, Any]) -> None:
    """Sleep and report, so often and so long."""
    if config["meeting"]:
        wait_for_others(Path(config["meeting"]), config["slots"])
    for _ in range(config["reports"]):
        began = time.time()
        time.sleep(config["sleep_s"])
        score = -((config["x"] - 0.3) ** 2) - (config["y"] - 0.3) ** 2
        tune.report({"score": score, "began": began, "ended": time.time()})


def wait_for_others(meeting: Path, num_trials: int) -> None:
    """Wait until so many trials are here."""
    meeting.mkdir(parents=True, exist_ok=True)
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < num_trials:
        time.sleep(0.01)


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="how many trials")
    parser.add_argument("--slots", type=int, default=2, help="trials at once, of one CPU each")
    parser.add_argument("--reports", type=int, default=1, help="reports a trial: its epochs with --train")
    parser.add_argument("--train", action="store_true", help="train on MNIST instead of sleeping")
    parser.add_argument("--sleep-s", type=float, default=0.0, help="seconds of sleep before each report")
    parser.add_argument("--together", action="store_true", help="trials wait until all slots have one")
    parser.add_argument("--data", type=Path, default=Path("data"), help="with --train: a folder with MNIST/raw")
    parser.add_argument("--images", type=int, default=None, help="with --train: only the first so many images")
    parser.add_argument("--scheduler", choices=["asha", "fifo"], default="asha", help="fifo stops no trial early")
    parser.add_argument("--loggers", choices=["default", "none"], default="default", help="Tune's own")
    parser.add_argument("--reuse-actors", action="store_true", help="keep a process for the next trial")
    parser.add_argument("--storage", type=Path, default=Path("ray_results"), help="where Tune writes")
    parser.add_argument("--out", type=Path, default=None, help="a CSV file to write: a row a report")
    return parser.parse_args()


def main() -> None:
    """Search, and write down what was reported."""
    typed = arguments()
    if typed.loggers == "none":
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # A private cluster that listens on loopback only; read by Ray as its processes start.
    ray.init(address="local", num_cpus=typed.slots, include_dashboard=False)
    space = {
        "x": tune.uniform(0.0, 1.0),
        "y": tune.uniform(0.0, 1.0),
        "reports": typed.reports,
        "sleep_s": typed.sleep_s,
        "data": str(typed.data.absolute()),
        "images": typed.images,
        "slots": typed.slots,
        "meeting": str(typed.storage.absolute() / "meeting") if typed.together else None,
    }
    scheduler = ASHAScheduler(max_t=max(typed.reports, 1)) if typed.scheduler == "asha" else FIFOScheduler()
    tuner = tune.Tuner(
        tune.with_resources(train_mnist if typed.train else idle, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            search_alg=OptunaSearch(),
            scheduler=scheduler,
            num_samples=typed.trials,
            reuse_actors=typed.reuse_actors,
        ),
        run_config=tune.RunConfig(name="stock", storage_path=str(typed.storage.absolute())),
    )
    results = tuner.fit()
    print(results.get_best_result().config)
    if typed.out:
        reported(results).to_csv(typed.out, index=False)
    ray.shutdown()


def reported(results: tune.ResultGrid) -> pd.DataFrame:
    """A row a report; without Tune's loggers, or where they wrote nothing, only the last of each trial is known."""
    frames: list[pd.DataFrame] = []
    for number, result in enumerate(results):
        frame = result.metrics_dataframe
        if frame is None or "ended" not in frame:  # a fresh trial's file is now and then still empty
            frame = pd.DataFrame([result.metrics])
        frames.append(frame[["score", "began", "ended"]].assign(trial=number))
    return pd.concat(frames)


if __name__ == "__main__":
    main()
