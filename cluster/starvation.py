"""What a cluster has no room for: a trial's tasks, for which it may wait for ever; a trial, while others hold all."""

from contextlib import suppress
from typing import Any


def num_waiting() -> int:
    """How many tasks and actors wait for room, whoever has started them; 0 if the cluster doesn't say."""
    return sum(request.count for demand in _demands("ray_task_actor_demand") for request in demand.bundles_by_count)


def num_groups_waiting() -> int:
    """How many placement groups wait for room, as trials' own are, whoever has asked for them; 0 if it doesn't say."""
    return len(_demands("placement_group_demand"))


def _demands(kind: str) -> list[Any]:
    import ray

    with suppress(Exception):  # it only helps to say what is wrong
        from ray.autoscaler.v2.sdk import get_cluster_status  # works without an autoscaler, too (2.60)

        return list(getattr(get_cluster_status(ray.get_runtime_context().gcs_address).resource_demands, kind))
    return []
