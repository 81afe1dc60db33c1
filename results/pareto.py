"""Several objectives at once. All figures here are costs: less is better; (N, M) holds N trials' M objectives."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Costs = NDArray[np.float64]


def costs(values: Sequence[Sequence[float]], modes: Sequence[str]) -> Costs:
    """Objectives as costs.

    Args:
        values: (N, M).
        modes: `max` or `min` for each of the M.
    """
    signs = np.array([-1.0 if mode == "max" else 1.0 for mode in modes])
    found: Costs = np.asarray(values, dtype=np.float64).reshape(-1, len(modes)) * signs
    return found


def is_dominated(point: Costs, others: Costs) -> bool:
    """Whether one of `others`, (N, M), is at least as good as `point`, (M,), in all objectives and better in one."""
    return bool(((others <= point).all(axis=1) & (others < point).any(axis=1)).any())


def front(all_costs: Costs) -> NDArray[np.bool_]:
    """Which of the (N, M) no other dominates, (N,); of those alike all are, or none."""
    on_front = np.zeros(len(all_costs), dtype=bool)
    # Whoever dominates a point comes before it in this order, and if anybody does, one of the front does.
    order = np.lexsort(all_costs.T[::-1])
    members: list[int] = []
    for index in order:
        if not is_dominated(all_costs[index], all_costs[members]):
            members.append(index)
    on_front[members] = True
    return on_front


def ranks(all_costs: Costs) -> NDArray[np.int64]:
    """Non-dominated ranks, (N,): 0 for the front, 1 for the front of what is left, … (Deb et al. 2002, NSGA-II)."""
    found, layers = np.zeros(len(all_costs), dtype=np.int64), Layers()
    # In this order nobody is driven out of a layer by one that comes later (Zhang et al. 2015).
    for index in np.lexsort(all_costs.T[::-1]):
        found[index] = layers.add(all_costs[index])
    return found


class Layers:
    """Points by their non-dominated rank, kept so as they come one after another.

    A point looks for its layer by bisection: whoever is not dominated by a layer is not dominated by any further one.
    Those of the layer that it dominates move to the next one, as a group, and so on (Li et al. 2017, "Efficient
    nondomination level update").
    """

    def __init__(self) -> None:
        self._layers: list[Costs] = []  # by rank, (N, M) each

    def add(self, point: Costs) -> int:
        """Take in a point, (M,), and give its rank."""
        rank = self.rank(point)
        moving, at = point[np.newaxis], rank
        while len(moving):
            if at == len(self._layers):
                self._layers.append(moving)
                break
            there = self._layers[at]
            beaten = _dominated_by(there, moving)
            self._layers[at] = np.vstack([there[~beaten], moving])
            moving, at = there[beaten], at + 1
        return rank

    def rank(self, point: Costs) -> int:
        """The rank that a point, (M,), has among those that are there."""
        return bisect_left(self._layers, True, key=lambda layer: not is_dominated(point, layer))

    def num_before(self, rank: int) -> int:
        """How many points have a lower rank."""
        return sum(len(layer) for layer in self._layers[:rank])

    def layer(self, rank: int) -> Costs:
        """The points of a rank, (N, M)."""
        return self._layers[rank]


def _dominated_by(points: Costs, others: Costs) -> NDArray[np.bool_]:
    """Which of the (N, M) one of the others, (K, M), dominates, (N,)."""
    found = np.zeros(len(points), dtype=bool)
    for other in others:
        found |= (other <= points).all(axis=1) & (other < points).any(axis=1)
    return found


def crowding(layer_costs: Costs) -> NDArray[np.float64]:
    """How far apart each of a layer, (N, M), lies from its neighbours, (N,); infinite at the ends (Deb et al. 2002)."""
    distances = np.zeros(len(layer_costs))
    for column in layer_costs.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        if span > 0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
        distances[order[[0, -1]]] = np.inf
    return distances


class Front:
    """The points that no other dominates, kept so as they come one after another."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self.costs: Costs = np.empty((0, 0))  # of the members, in their order, (F, M)

    def add(self, name: int, point: Sequence[float]) -> bool:
        """Take in a point, unless one that is there dominates it, and say whether it was; those it dominates go."""
        new = np.asarray(point, dtype=np.float64)
        if not self.members:
            self.members, self.costs = [name], new[np.newaxis]
            return True
        if is_dominated(new, self.costs):
            return False
        stays = ~_dominated_by(self.costs, new[np.newaxis])
        self.members = [member for member, there in zip(self.members, stays, strict=True) if there] + [name]
        self.costs = np.vstack([self.costs[stays], new])
        return True

    def knee(self) -> int:
        """The name of the member at the knee; of equal ones the first by its costs, then by its name."""
        order = sorted(range(len(self.members)), key=lambda index: (self.costs[index].tolist(), self.members[index]))
        return self.members[order[knee(self.costs[order])]]


def order(all_costs: Sequence[Sequence[float]]) -> list[int]:
    """The indices of the (N, M): first the knee of the front, then all others by their rank, equals as they come."""
    found = np.array(all_costs)
    by_rank = ranks(found)
    indices: list[int] = np.argsort(by_rank, kind="stable").tolist()
    indices.insert(0, indices.pop(knee(found[by_rank == 0])))
    return indices


def knee(front_costs: Costs) -> int:
    """The member of a front, (F, M), that gives up least: going either way from it costs more than it brings.

    It is the one that lies furthest below the plane through the front's extremes, each objective scaled to the front's
    range (Das 1999, "On characterizing the knee of the Pareto curve"). Of equal ones the first.
    """
    least, most = front_costs.min(axis=0), front_costs.max(axis=0)
    span = np.where(most > least, most - least, 1.0)
    return int(np.argmin(((front_costs - least) / span).sum(axis=1)))


def hypervolume(some_costs: Costs, reference: Costs) -> float:
    """The volume between the (N, M) and a reference point, (M,), that at least one of them dominates.

    What lies beyond the reference in an objective adds nothing (Zitzler and Thiele 1998). The last objective is cut
    into slices, and each slice is a volume of one dimension less (While et al. 2006).
    """
    inside = some_costs[(some_costs < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    inside = inside[front(inside)]
    if inside.shape[1] == 1:
        return float(reference[0] - inside[:, 0].min())
    if inside.shape[1] == 2:
        return _area(inside, reference)
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    tops = np.append(inside[1:, -1], reference[-1])
    slices = ((index, top - low) for index, (low, top) in enumerate(zip(inside[:, -1], tops, strict=True)))
    return sum(
        float(depth) * hypervolume(inside[: index + 1, :-1], reference[:-1]) for index, depth in slices if depth > 0
    )


def _area(members: Costs, reference: Costs) -> float:
    """The hypervolume of a front of two objectives: rectangles side by side."""
    first, second = np.unique(members, axis=0).T  # a front in the order of its first falls in its second
    above = np.append(reference[1], second[:-1])
    return float(((reference[0] - first) * (above - second)).sum())


def hypervolumes(all_costs: Costs, reference: Costs) -> list[float]:
    """The hypervolume of the first, the first two, … of the (N, M): how it grew. See `hypervolume`."""
    grown: list[float] = []
    members = np.empty((0, len(reference)))
    for point in all_costs:
        # Only a point that nobody dominates, nor is alike, adds to the volume.
        if len(members) and (members <= point).all(axis=1).any():
            grown.append(grown[-1])
            continue
        members = np.vstack([members[~(point <= members).all(axis=1)], point])
        grown.append(hypervolume(members, reference))
    return grown
