"""What a study would do: the study resolved, how much there is to try, and where."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.connect import listed
from search.show.text import rows, size, text_table


def plan(study: Any, planned: Any, format_: str) -> str:
    """The study resolved, how much there is to try, the nodes of a cluster with what would run on each."""
    workers = study.resources.workers
    fits = "trials at once" if workers == 1 else "workers at once"
    names = list(dict.fromkeys(["CPU", "GPU", *study.resources.each]))
    records = [
        {"node": node.address, **{name: node.resources.get(name, 0.0) for name in names}, fits: node.num_workers}
        for node in planned.nodes
    ]
    if format_ == "csv":
        return rows(records, format_)
    if format_ == "json":
        return json.dumps(_plan_record(study, planned, records), indent=2) + "\n"
    lines = [[f"{value:g}" if isinstance(value, float) else str(value) for value in row.values()] for row in records]
    asked = listed(study.resources.each) + (f" on each of {workers} workers" if workers > 1 else "")
    most = f"up to {study.budget.trials} trials of up to {study.early_stop.max_epochs} epochs"
    parts = [
        study.to_yaml(),
        text_table(list(records[0]), lines),
        f"{study.name}: {most}, each with {asked}; {planned.num_slots} at once\n",
        _price_of_determinism(study, planned),
        _much(study, planned),
        _takes(study, planned),
    ]
    return "".join(parts)


def _plan_record(study: Any, planned: Any, nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds, probe = planned.seconds, planned.probe
    return {
        "study": study.to_mapping(),
        "nodes": list(nodes),
        "slots": planned.num_slots,
        "configurations": planned.num_configurations,
        "rungs": [{"epochs": epochs, "trials": count} for epochs, count in planned.rungs],
        "epochs": planned.num_epochs,
        "epochs_at_most": planned.most_epochs,
        "files": planned.num_files,
        "log_and_table_bytes": planned.log_bytes,
        "checkpoints_at_most": planned.num_checkpoints(study.checkpoints.keep_best),
        "probe": vars(probe) if probe else None,
        "seconds_at_least": seconds[0] if seconds else None,
        "seconds_at_most": seconds[1] if seconds else None,
    }


def _much(study: Any, planned: Any) -> str:
    count = planned.num_configurations
    space = "more configurations than can be counted" if count is None else f"{count:,} configurations"
    reach = ", ".join(f"{count} to epoch {epochs}" for epochs, count in planned.rungs)
    confirming = f", and {planned.num_confirming} whole trainings to confirm" if planned.num_confirming else ""
    return (
        f"the space has {space}; if {study.early_stop.name} lets on as many as it intends, trials come: {reach}"
        f"{confirming}: {planned.num_epochs:,} epochs (at most {planned.most_epochs:,})\n"
    )


def _takes(study: Any, planned: Any) -> str:
    num_checkpoints = planned.num_checkpoints(study.checkpoints.keep_best)
    files = (
        f"{planned.num_files} files, about {size(planned.log_bytes)} of log and tables; at most {num_checkpoints} "
        "checkpoints at a time"
    )
    if planned.probe is None:
        return f"{files}; --probe tells how large they are, and how long all of it takes\n"
    low, high = planned.seconds
    wall = f"; budget.wall ends it after {study.budget.wall:g} s" if study.budget.wall else ""
    largest = size(max(planned.probe.checkpoint_bytes))
    fastest, slowest = min(planned.probe.epoch_s), max(planned.probe.epoch_s)
    return (
        f"{files}, of up to {largest} each\n"
        f"probe: an epoch took {fastest:.2f} to {slowest:.2f} s (n={len(planned.probe.epoch_s)}, one at a time), so "
        f"about {low:.0f} to {high:.0f} s on {planned.num_slots} slots, and more where slots hold each other up{wall}\n"
    )


def _price_of_determinism(study: Any, planned: Any) -> str:
    if not study.sampler.deterministic or not planned.num_slots:
        return ""
    from search.idle import idle_share
    from search.study import LAG

    idle = idle_share(study, planned.num_slots)
    anyway = idle_share(study, planned.num_slots, lag=study.budget.trials)
    return (
        f"deterministic: at most {LAG} trials at once, each begins when all {LAG} or more before it have ended; "
        f"so about {idle:.0%} of the slots' time would be idle, and {anyway:.0%} without (simulated)\n"
    )
