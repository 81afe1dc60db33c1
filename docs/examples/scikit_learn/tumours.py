"""A scikit-learn model on a data set that scikit-learn ships: which classifier, with which settings.

There are no epochs: each trial reports once, and the study says `max_epochs: 1`. No trial of it imports PyTorch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from trainables import Trial

# What is behind `when` is asked for only where it applies, and is null in the tables elsewhere.
SPACE = {
    "classifier": {"choice": ["svm", "forest"]},
    "penalty": {"float": [1e-2, 1e2], "log": True, "when": {"classifier": ["svm"]}},
    "gamma": {"float": [1e-4, 1.0], "log": True, "when": {"classifier": ["svm"]}},
    "trees": {"int": [10, 60], "when": {"classifier": ["forest"]}},
    "depth": {"int": [1, 12], "when": {"classifier": ["forest"]}},
}

# An object in the place of a function: it is made as the module is imported.
DATA = load_breast_cancer(return_X_y=True)


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Report the accuracy in five-fold cross-validation, the same folds for every trial."""
    features, labels = trial.data
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracies = cross_val_score(classifier(config, trial.seed), features, labels, cv=folds)
    trial.report({"accuracy": np.mean(accuracies), "accuracy_of_worst_fold": np.min(accuracies)})


def classifier(config: Mapping[str, Any], seed: int) -> Any:
    """The model that a configuration describes. The search's result is that of best/config.json, fitted to all data."""
    if config["classifier"] == "svm":
        return make_pipeline(StandardScaler(), SVC(C=config["penalty"], gamma=config["gamma"]))
    return RandomForestClassifier(config["trees"], max_depth=config["depth"], random_state=seed)
