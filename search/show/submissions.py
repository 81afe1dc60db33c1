"""A cluster's jobs."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.show.text import cell, rows, text_table, to_type

if TYPE_CHECKING:
    from cluster.jobs import Job, Jobs


_LINES_OF_A_FAILED_JOB = 20


def submitted(job_id: str, run_directory: str, address: str | None) -> str:
    """What to type once a job has been sent."""
    words = (["logs", job_id, "--follow"], ["status", job_id], ["stop", job_id])
    lines = [f"submitted {job_id}; its run will lie in {run_directory} on the cluster", "next:"]
    return "\n".join([*lines, *(f"  {to_type(*command, *_there(address))}" for command in words)])


def stopped(before: "Job", after: "Job", address: str | None) -> str:
    """What came of telling a job to stop."""
    if before.ended:
        return f"{before.id}: had ended already: {before.status}"
    if not after.ended:
        status = to_type("status", after.id, *_there(address))
        return f"{after.id}: was told to stop and still runs; `{status}` tells more"
    line = f"{after.id}: {after.status}"
    if after.run_directory is None:
        return line
    return f"{line}; go on with: {to_type('submit', '--resume', after.run_directory, *_there(address))}"


def jobs(found: "Sequence[Job]", format_: str) -> str:
    """A cluster's jobs, oldest first."""
    records = [_job_record(job) for job in found]
    if format_ != "table":
        return rows(records, format_)
    names = ("job", "status", "study", "started_at", "run_directory")
    return text_table(names, [[cell(record[name]) for name in names] for record in records])


def job(there: "Jobs", job_id: str, format_: str) -> str:
    """One job; of a failed one the end of what it printed."""
    found = there.get(job_id)
    record = _job_record(found)
    if format_ != "table":
        return rows([record], format_) if format_ == "csv" else json.dumps(record, indent=2) + "\n"
    text = text_table(("what", "value"), [(name, cell(value)) for name, value in record.items()])
    if found.status != "FAILED":
        return text
    end = there.logs(job_id).splitlines()[-_LINES_OF_A_FAILED_JOB:]
    return "\n".join([text.rstrip("\n"), "the end of what it printed:", *(f"  {line}" for line in end)]) + "\n"


def _job_record(found: "Job") -> dict[str, Any]:
    at = {"started_at": found.started_at, "ended_at": found.ended_at}
    return {
        "job": found.id,
        "status": found.status,
        "study": found.study,
        "run_directory": found.run_directory,
        "command": found.command,
        **{name: time.isoformat(timespec="seconds") if time else None for name, time in at.items()},
        "exit_code": found.exit_code,
        "message": found.said,
    }


def _there(address: str | None) -> list[str]:
    return ["--address", address] if address else []
