"""Search with Optuna alone: some processes that share a study through a journal file, as its documentation shows.

Nothing of digitsearch is in here. Without --train a trial only sleeps, which leaves what Optuna itself costs.
"""

import argparse
import importlib
import multiprocessing
import time
from pathlib import Path

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

_STUDY = "stock"


def work(typed: argparse.Namespace, num_trials: int) -> None:
    """One process's part of the trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=_STUDY, storage=storage(typed.storage))
    study.optimize(lambda trial: objective(trial, typed), n_trials=num_trials)


def objective(trial: optuna.Trial, typed: argparse.Namespace) -> float:
    """A trial's value; when it began and ended is left in its attributes."""
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)
    trial.set_user_attr("began", time.time())
    if typed.train:
        value = trained(x, typed)
    else:
        time.sleep(typed.sleep_s)
        value = -((x - 0.3) ** 2) - (y - 0.3) ** 2
    trial.set_user_attr("ended", time.time())
    return value


def trained(x: float, typed: argparse.Namespace) -> float:
    """The accuracy of PyTorch's MNIST example after some epochs."""
    # By name: a script's own folder is where Python looks, so its neighbour is no part of a package here.
    stock = importlib.import_module("stock_tune")
    stock.torch.set_num_threads(1)
    model = stock.Net()
    optimizer = stock.torch.optim.Adam(model.parameters(), lr=10 ** (-4 + 3 * x))
    training = stock.mnist_loader(typed.data, 64, train=True, num_images=typed.images)
    for _ in range(typed.epochs):
        stock.train_epoch(model, training, optimizer)
    return float(stock.accuracy(model, stock.mnist_loader(typed.data, 1000, train=False)))


def storage(folder: Path) -> JournalStorage:
    """The journal file that all processes append to."""
    return JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="how many trials, over all processes")
    parser.add_argument("--slots", type=int, default=2, help="processes")
    parser.add_argument("--train", action="store_true", help="train on MNIST instead of sleeping")
    parser.add_argument("--epochs", type=int, default=1, help="with --train: epochs a trial")
    parser.add_argument("--sleep-s", type=float, default=0.0, help="seconds that a trial sleeps")
    parser.add_argument("--data", type=Path, default=Path("data"), help="with --train: a folder with MNIST/raw")
    parser.add_argument("--images", type=int, default=None, help="with --train: only the first so many images")
    parser.add_argument("--storage", type=Path, default=Path("."), help="where the journal is made")
    parser.add_argument("--out", type=Path, default=None, help="a CSV file to write: a row a trial")
    return parser.parse_args()


def main() -> None:
    """Search, and write down what became of the trials."""
    typed = arguments()
    study = optuna.create_study(study_name=_STUDY, storage=storage(typed.storage), direction="maximize")
    shares = [len(range(slot, typed.trials, typed.slots)) for slot in range(typed.slots)]
    processes = [multiprocessing.Process(target=work, args=(typed, share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process of the search has failed; what it said is above")
    print(study.best_params)
    if typed.out:
        rows = [{"trial": t.number, "score": t.value, **t.user_attrs} for t in study.trials]
        pd.DataFrame(rows).to_csv(typed.out, index=False)


if __name__ == "__main__":
    main()
