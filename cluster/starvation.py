"""Tasks that a cluster has no room for: a trial that has started some, and waits for them, may wait for ever."""

from contextlib import suppress


def num_waiting() -> int:
    """How many tasks and actors wait for room, whoever has started them; 0 if the cluster doesn't say."""
    import ray

    with suppress(Exception):  # it only helps to say what is wrong
        from ray.autoscaler.v2.sdk import get_cluster_status  # works without an autoscaler, too (2.60)

        demands = get_cluster_status(ray.get_runtime_context().gcs_address).resource_demands.ray_task_actor_demand
        return sum(request.count for demand in demands for request in demand.bundles_by_count)
    return 0
