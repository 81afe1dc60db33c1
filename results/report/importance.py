"""How much each parameter mattered: what a random forest loses when it is told a shuffled one (Breiman 2001)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.report.space import Parameter

# Below this, intervals are as wide as the axis.
FEWEST = 20
# What is beyond is drawn at random: the intervals are narrow by then, and the time would grow.
MOST = 500
NUM_SAMPLES = 30
_TREES = {"n_estimators": 40, "min_samples_leaf": 2, "max_features": 0.5}
_NUM_SHUFFLES = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """What was found.

    Args:
        frame: `parameter`, `share` (the loss of explained variance; the middle one of all samples), `low` and `high`
            (95 of 100 samples lie between), the most important first.
        num_trials: How many trials it is from.
        explained: The share of the variance of trials that a forest has not seen which it explains; at most 1.
    """

    frame: pd.DataFrame
    num_trials: int
    explained: float

    @property
    def order(self) -> list[str]:
        """The parameters' names, the most important first."""
        return [str(name) for name in self.frame["parameter"]]


def importance(parameters: Sequence[Parameter], standing: pd.Series) -> Importance:
    """Importances, with what another sample of trials would have made of them.

    A forest learns a trial's standing from its configuration, on a bootstrap sample of the trials; on those outside of
    the sample, one parameter at a time is shuffled, and what the forest explains then is compared with before. A
    parameter that does not apply everywhere is shuffled among the trials to which it applies: that it applies at all is
    the doing of another one.

    Args:
        parameters: At least one.
        standing: Of at least `FEWEST` trials, by number.
    """
    draw = np.random.default_rng(0)
    numbers = standing.index.to_numpy()
    if len(numbers) > MOST:
        numbers = np.sort(draw.choice(numbers, MOST, replace=False))
    places = pd.DataFrame({p.name: p.places for p in parameters}).reindex(numbers)
    applies, table = places.notna().to_numpy(), places.fillna(places.median()).to_numpy(dtype=float)
    target = standing.loc[numbers].to_numpy()
    samples = [_one(table, applies, target, draw) for _ in range(NUM_SAMPLES)]
    losses = np.array([loss for loss, _ in samples])
    low, share, high = np.quantile(losses, [0.025, 0.5, 0.975], axis=0)
    frame = pd.DataFrame({"parameter": list(places.columns), "share": share, "low": low, "high": high})
    order = frame.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)
    return Importance(order, len(numbers), float(np.median([explained for _, explained in samples])))


def _one(
    table: Floats, applies: npt.NDArray[np.bool_], target: Floats, draw: np.random.Generator
) -> tuple[Floats, float]:
    """Of one bootstrap sample: the loss for each parameter, and what is explained with all of them."""
    from sklearn.ensemble import RandomForestRegressor

    chosen = draw.integers(len(target), size=len(target))
    outside = np.setdiff1d(np.arange(len(target)), chosen)
    forest = RandomForestRegressor(**_TREES, random_state=int(draw.integers(2**31)))
    forest.fit(table[chosen], target[chosen])
    unseen, truth = table[outside], target[outside]
    shuffles = [unseen]
    for column in range(table.shape[1]):
        where = np.flatnonzero(applies[outside, column])
        for _ in range(_NUM_SHUFFLES):
            shuffled = unseen.copy()
            shuffled[where, column] = draw.permutation(unseen[where, column])
            shuffles.append(shuffled)
    # All at once: a call costs as much as a hundred rows.
    found = forest.predict(np.concatenate(shuffles)).reshape(len(shuffles), len(truth))
    unexplained = ((found - truth) ** 2).mean(axis=1) / (float(truth.var()) or 1.0)
    losses = unexplained[1:].reshape(-1, _NUM_SHUFFLES).mean(axis=1) - unexplained[0]
    return losses, 1.0 - float(unexplained[0])
