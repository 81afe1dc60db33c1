"""A Gaussian process over configurations: how much is to be expected of some candidates."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from threadpoolctl import ThreadpoolController

Floats = NDArray[np.float64]

_NORMAL = NormalDist()
# What a change of a choice, and one over so much of a number's range, means at first; then the values tell.
_CHOICE_SCALE, _NUMBER_SCALE, _NOISE = 1.5, 0.3, 0.1
_LEAST_SCALE, _MOST_SCALE = 0.05, 20.0
_LEAST_NOISE, _MOST_NOISE = 1e-3, 1.0
_SWEEPS = 2
_TINY = 1e-300
# Held at a time, of each parameter from each known place to each candidate: 64 MB.
_MOST_DIFFERENCES = 8_000_000


class GaussianProcess:
    """What is expected of configurations, by those that are known.

    The process has a Matérn kernel of order 3/2 with a scale for each parameter, fitted to what is known (Rasmussen and
    Williams 2006, "Gaussian Processes for Machine Learning", sections 2.3 and 5.4.1). Of the values only their ranks
    count, as normal scores: a diverged trial weighs no more than a bad one. What is pending is taken to come out as
    expected (the kriging believer of Ginsbourger, Le Riche and Carraro 2010).

    Args:
        known: Configurations, one at least; a parameter that does not apply to one is left out.
        values: What they came to, the more the better.
        pending: Configurations that are being tried.
        space: Of all parameters.
    """

    def __init__(
        self,
        known: Sequence[Mapping[str, Any]],
        values: Sequence[float],
        pending: Sequence[Mapping[str, Any]],
        space: Mapping[str, BaseDistribution],
    ) -> None:
        self._space = space
        self._is_choice = np.array(
            [isinstance(distribution, CategoricalDistribution) for distribution in space.values()]
        )
        self._at, self._scores = _places(known, space), _normal_scores(np.asarray(values, float))
        self._best = self._scores.max()
        with _one_thread():
            differences = _differences(self._at, self._at, self._is_choice)
            self._scales, self._noise = _fitted(differences, self._scores, self._is_choice)
            self._learn()
            if pending:
                pending_at = _places(pending, space)
                expected, _ = self._expected(pending_at)
                self._at = np.concatenate([self._at, pending_at])
                self._scores = np.concatenate([self._scores, expected])
                self._learn()

    def improvements(self, candidates: Sequence[Mapping[str, Any]], *, of_outcome: bool = False) -> Floats:
        """By how much each candidate is expected to improve on the best that is known (Jones, Schonlau and Welch 1998).

        Args:
            candidates: Configurations, N of them.
            of_outcome: Whether the improvement is one of what a trial would come to, with the noise of trials: that
                leads to where much is known to be good. Otherwise it is one of what is behind the noise: that leads
                away from what is known.

        Returns:
            (N,), in shares of the greatest. Candidates that are alike get the same: they differ in the last digits
            alone, which are not the same on each processor.
        """
        with _one_thread():
            mean, variance = self._expected(_places(candidates, self._space))
        deviation = np.sqrt(variance + self._variance * self._noise * of_outcome)
        ahead = (mean - self._best) / deviation
        improvement = deviation * (ahead * _cdf(ahead) + np.exp(-0.5 * ahead**2) / math.sqrt(2 * math.pi))
        shares: Floats = np.round(improvement / max(improvement.max(), _TINY), 6)
        return shares

    def _learn(self) -> None:
        """Prepare to expect, by the places and scores as they are now."""
        covariance = _kernel(_differences(self._at, self._at, self._is_choice), self._scales)
        self._root = np.linalg.cholesky(covariance + self._noise * np.eye(len(self._scores)))
        self._whitened = np.linalg.solve(self._root, self._scores)
        # None where all scores are equal.
        self._variance = max(float(self._whitened @ self._whitened) / len(self._scores), _TINY)

    def _expected(self, at: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the process at some places, (N,) each."""
        at_once = max(_MOST_DIFFERENCES // self._at.size, 1)
        parts = [at[first : first + at_once] for first in range(0, len(at), at_once)]
        across = [_kernel(_differences(self._at, part, self._is_choice), self._scales) for part in parts]
        towards = np.linalg.solve(self._root, np.concatenate(across, axis=1))
        left = np.maximum(1 - (towards**2).sum(axis=0), 1e-9)
        return towards.T @ self._whitened, self._variance * left


@cache
def _libraries() -> ThreadpoolController:
    """Those that numpy calculates with: to find them takes longer than to calculate."""
    return ThreadpoolController()


def _one_thread() -> Any:
    """Hold BLAS to one: on matrices so small its threads wait for each other, and for the trials with the cores."""
    return _libraries().limit(limits=1, user_api="blas")


def _places(configs: Sequence[Mapping[str, Any]], space: Mapping[str, BaseDistribution]) -> Floats:
    """Where configurations lie, (N, parameters): a choice's number, else in [0, 1]; nan for what does not apply."""
    places = np.empty((len(configs), len(space)))
    for column, (name, distribution) in enumerate(space.items()):
        to_place = _placed(distribution)
        places[:, column] = [to_place(config[name]) if name in config else np.nan for config in configs]
    return places


def _placed(distribution: Any) -> Any:
    """The function from a value of a parameter to its place."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.to_internal_repr
    scale = math.log if distribution.log else float
    low, high = scale(distribution.low), scale(distribution.high)
    return lambda value: (scale(value) - low) / ((high - low) or 1.0)


def _differences(rows: Floats, columns: Floats, is_choice: NDArray[np.bool_]) -> Floats:
    """Squared differences, (parameters, rows, columns); 1 between choices, and where only one of two has a value."""
    one, other = rows.T[:, :, None], columns.T[:, None, :]
    gap: Floats = (one - other) ** 2
    gap[is_choice] = one[is_choice] != other[is_choice]
    has_one, has_other = ~np.isnan(one), ~np.isnan(other)
    if has_one.all() and has_other.all():
        return gap
    return np.where(has_one & has_other, gap, (has_one != has_other).astype(float))


def _kernel(differences: Floats, scales: Floats) -> Floats:
    distance = np.sqrt(3 * np.tensordot(scales**-2, differences, axes=1))
    return (1 + distance) * np.exp(-distance)


def _fitted(differences: Floats, scores: Floats, is_choice: NDArray[np.bool_]) -> tuple[Floats, float]:
    """The scales and the noise that make the scores likely: halved and doubled in turn, one by one and all together."""
    scales, noise = np.where(is_choice, _CHOICE_SCALE, _NUMBER_SCALE), _NOISE
    best = _unlikelihood(differences, scores, scales, noise)
    one_by_one = list(np.eye(len(scales)))
    for powers in _SWEEPS * [*one_by_one, np.ones(len(scales)), None]:
        for factor in (0.5, 2.0):
            if powers is None:
                tried, noise_tried = scales, float(np.clip(noise * factor**2, _LEAST_NOISE, _MOST_NOISE))
            else:
                tried, noise_tried = np.clip(scales * factor**powers, _LEAST_SCALE, _MOST_SCALE), noise
            so = _unlikelihood(differences, scores, tried, noise_tried)
            if so < best:
                best, scales, noise = so, tried, noise_tried
    return scales, noise


def _unlikelihood(differences: Floats, scores: Floats, scales: Floats, noise: float) -> float:
    """The negative logarithm of the marginal likelihood, but for a constant; the variance is the likeliest one."""
    root = np.linalg.cholesky(_kernel(differences, scales) + noise * np.eye(len(scores)))
    whitened = np.linalg.solve(root, scores)
    variance = max(float(whitened @ whitened) / len(scores), _TINY)
    return float(0.5 * len(scores) * math.log(variance) + np.log(np.diag(root)).sum())


def _cdf(at: Floats) -> Floats:
    return np.array([_NORMAL.cdf(value) for value in at])


def _normal_scores(values: Floats) -> Floats:
    """What values of such ranks would be if they were drawn from a normal distribution; equals get the same."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(count) - (count + 1) / 2 + 0.5) / len(values)
    return np.array([_NORMAL.inv_cdf(share) for share in middle])[place]
