"""What verbs print, as text: made from a run, for people (table) and for programs (json, csv)."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.cells import cell_len

from cluster.connect import listed
from results import Place, Run, Trial
from search.progress import configuration, figure, time_left, valued, wall_s
from search.references import is_of_program, to_resume

if TYPE_CHECKING:
    from cluster.jobs import Job, Jobs

_LINES_OF_A_FAILED_JOB = 20


def trials(run: Run, format_: str) -> str:
    """All trials that have started, by number."""
    started, asked = [trial for _, trial in sorted(run.trials.items()) if trial.state], _asked(run)
    if format_ == "table":
        headings = ("number", "state", "reason", "epochs", *run.objectives.names, *asked, "configuration")
        return text_table(headings, [_row(run, trial, asked) for trial in started])
    return rows([_record(run, trial, asked) for trial in started], format_)


# What a study asks of each trial, by the name of the question.
_Asked: TypeAlias = Mapping[str, Callable[[Trial], bool | None]]


def _asked(run: Run) -> _Asked:
    """What constraints and several objectives ask, where there are any."""
    asked: dict[str, Callable[[Trial], bool | None]] = {}
    if run.objectives.constraints:
        asked["feasible"] = run.is_feasible
    if run.objectives.are_several:
        front = {trial.number for trial in run.front()}
        asked["pareto"] = lambda trial: trial.number in front
    return asked


def best(run: Run, run_directory: Place, format_: str) -> str | None:
    """The best trial, and the winner's figures once it is crowned; None while no trial may win.

    Of several objectives it is the Pareto set, with its knee named.
    """
    trial = run.best()
    if trial is None:
        return None
    if run.objectives.are_several:
        return _pareto_set(run, run_directory, trial, format_)
    if run.winner:  # which need not be the best of the search, once the best were trained again
        trial = run.trials[run.winner["number"]]
    record, figures = _record(run, trial, _asked(run)), run.winner["metrics"] if run.winner else {}
    if format_ == "csv":
        return rows([{**record, **{f"winner_{name}": value for name, value in figures.items()}}], format_)
    if format_ == "json":
        return json.dumps({**record, "winner": figures or None}, indent=2) + "\n"
    value = figures.get(run.metric, run.value(trial))
    lines = [("trial", str(trial.number)), (run.metric, _figure(value))]
    if run.winner:
        lines += [
            (name, _figure(value)) for name, value in run.winner["metrics"].items() if name not in ("trial", run.metric)
        ]
        lines.append(("model", str(run_directory / "best")))
    lines += [(name, _figure(value)) for name, value in trial.config.items()]
    return text_table(("what", "value"), lines)


def _pareto_set(run: Run, run_directory: Place, knee: Trial, format_: str) -> str:
    members, asked = (run.winner or {}).get("members") or [], _asked(run)
    found = [
        {"knee": trial is knee, "folder": f"best/{trial.folder}" if trial.number in members else None,
         **_record(run, trial, asked)}
        for trial in run.front()
    ]  # fmt: skip
    if format_ != "table":
        return rows(found, format_)
    lines = [
        (
            str(trial.number),
            "knee" if trial is knee else "",
            *_values(run, trial),
            record["folder"] or "",
            configuration(trial.config),
        )
        for trial, record in zip(run.front(), found, strict=True)
    ]
    table = text_table(("trial", "", *run.objectives.names, "model", "configuration"), lines)
    return table if run.winner is None else table + f"models: {run_directory / 'best'}\n"


def status(run: Run, run_directory: Place, format_: str) -> str:
    """How far a run has come."""
    states = ("running", "finished", "stopped", "failed", "interrupted")
    top = run.best()
    best_values = run.values(top) if top else None
    record: dict[str, Any] = {
        "name": run.study["name"],
        "run": str(run_directory),
        "planned": run.study["budget"]["trials"],
        **({"not_trained": run.num_spared} if run.objectives.constraints else {}),
        **{state: run.count(state) for state in states},
        "best_trial": top.number if top else None,
        **{f"best_{name}": best_values[i] if best_values else None for i, name in enumerate(run.objectives.names)},
        **({"pareto_set": len(run.front())} if run.objectives.are_several else {}),
        "searched_s": round(run.searched_s, 1),
        "ended": run.ended,
    }
    if format_ != "table":
        return rows([record], format_) if format_ == "csv" else json.dumps(record, indent=2) + "\n"
    lines = [(name, _figure(value)) for name, value in record.items()]
    if run.ended is None:
        lines.append(("left", time_left(run)))
    return text_table(("what", "value"), lines)


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


def size(num_bytes: float) -> str:
    """Bytes for people: 0.4 MB."""
    return f"{num_bytes / 1e6:.2g} MB" if num_bytes < 1e8 else f"{num_bytes / 1e6:,.0f} MB"


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


def outcome(ended: Any) -> str:
    """The last lines of a search: what was found, where it lies, what to type next."""
    if ended.reason == "user":
        return found(ended)
    run, directory, me = ended.run, ended.run_directory, program()
    lines = [found(ended), "next:", *(f"  {me} {verb} {directory}" for verb in ("trials", "best", "report"))]
    if run.has_printed:
        lines.append(f"  {me} logs {directory}")
    if "test_accuracy" in run.winner["metrics"]:
        lines += [f"  {me} predict {directory} digit.png", f"  {me} serve {directory}"]
    return "\n".join(lines)


def found(ended: Any) -> str:
    """What a search found, and where it lies; or how it goes on."""
    run, directory = ended.run, ended.run_directory
    num_ended = run.count("finished", "stopped", "failed") - run.num_spared
    counts = ", ".join(f"{run.count(s)} {s}" for s in ("finished", "stopped", "failed", "interrupted") if run.count(s))
    planned = run.study["budget"]["trials"]
    spared = f"; {run.num_spared} of the stopped were not trained" if run.num_spared else ""
    head = f"{run.study['name']}: {num_ended} of {planned} trials in {run.searched_s:.0f} s ({counts}{spared})"
    if ended.reason == "user":
        is_typed = not is_of_program(run.study["workload"])
        how = f"{program()} resume {directory}" if is_typed else to_resume(directory, run.study["workload"])
        return f"{head}\ninterrupted; go on with: {how}"
    metrics = run.winner["metrics"]
    lines = [head, f"ended by: {ended.reason}{_more_time(run, directory)}", *_reported_once(run)]
    members, role = run.winner["members"], "winner"
    if members is not None:
        lines.append(f"Pareto set: {len(members)} trials that none beats in {' and '.join(run.objectives.names)}")
        role = "its knee"
    if "confirmed_n" in metrics:
        lines.append(f"confirmed: {_confirmed(run, metrics)}")
    lines.append(f"{role}: trial {run.winner['number']}, {_winner_figures(run, metrics)}")
    lines.append(f"  {configuration(run.trials[run.winner['number']].config)}")
    lines += [
        f"model:  {directory / 'best'}",
        f"tables: {directory / 'trials.parquet'}, {directory / 'epochs.parquet'}",
    ]
    return "\n".join(lines)


def _more_time(run: Run, directory: Any) -> str:
    if run.ended != "wall" or not run.count("interrupted"):
        return ""
    from search.study import duration_text

    spent_s = wall_s(run.study["budget"])
    assert spent_s is not None, "it has ended the search"
    more = duration_text(2 * spent_s)
    return f"; the interrupted go on with more: {program()} resume {directory} --set budget.wall={more}"


def _reported_once(run: Run) -> list[str]:
    """What to write in the study file, where trials were stopped after the one report that they would ever make."""
    reported = [trial for trial in run.trials.values() if trial.counts and trial.epochs]
    num_stopped = sum(trial.stop_reason == "early_stop" for trial in reported)
    some_returned = any(trial.stop_reason == "returned" for trial in reported)
    if not num_stopped or not some_returned or any(trial.epochs[-1].epoch > 1 for trial in reported):
        return []
    return [
        f"each trial reported once, and {num_stopped} were stopped by that; for a function that does so, write "
        "early_stop: {name: none, max_epochs: 1}"
    ]


def _confirmed(run: Run, metrics: Mapping[str, Any]) -> str:
    low, high = metrics["confirmed_interval"]
    mean, count = figure(metrics["confirmed_mean"]), metrics["confirmed_n"]
    return (
        f"{run.metric} {mean} on average of {count} new seeds (95 % interval {figure(low)} to {figure(high)}); "
        f"surest of {len(run.confirmed)} configurations"
    )


def submitted(job_id: str, run_directory: str, address: str | None) -> str:
    """What to type once a job has been sent."""
    me, there = program(), _there(address)
    return (
        f"submitted {job_id}; its run will lie in {run_directory} on the cluster\nnext:\n"
        f"  {me} logs {job_id} --follow{there}\n  {me} status {job_id}{there}\n  {me} stop {job_id}{there}"
    )


def stopped(before: "Job", after: "Job", address: str | None) -> str:
    """What came of telling a job to stop."""
    if before.ended:
        return f"{before.id}: had ended already: {before.status}"
    if not after.ended:
        return f"{after.id}: was told to stop and still runs; `{program()} status {after.id}` tells more"
    line = f"{after.id}: {after.status}"
    if after.run_directory is None:
        return line
    return f"{line}; go on with: {program()} submit --resume '{after.run_directory}'{_there(address)}"


def jobs(found: "Sequence[Job]", format_: str) -> str:
    """A cluster's jobs, oldest first."""
    records = [_job_record(job) for job in found]
    if format_ != "table":
        return rows(records, format_)
    names = ("job", "status", "study", "started_at", "run_directory")
    return text_table(names, [[_figure(record[name]) for name in names] for record in records])


def job(there: "Jobs", job_id: str, format_: str) -> str:
    """One job; of a failed one the end of what it printed."""
    found = there.get(job_id)
    record = _job_record(found)
    if format_ != "table":
        return rows([record], format_) if format_ == "csv" else json.dumps(record, indent=2) + "\n"
    text = text_table(("what", "value"), [(name, _figure(value)) for name, value in record.items()])
    if found.status != "FAILED":
        return text
    end = there.logs(job_id).splitlines()[-_LINES_OF_A_FAILED_JOB:]
    return "\n".join([text.rstrip("\n"), "the end of what it printed:", *(f"  {line}" for line in end)]) + "\n"


def findings(found: Sequence[Any], format_: str) -> str:
    """What the doctor found: a line for each check, and below those that are not well what to do."""
    if format_ != "table":
        return rows(
            [{"code": f.code, "state": f.state.value, "found": f.found, "to_do": f.to_do} for f in found], format_
        )
    lines = []
    for finding in found:
        lines.append((finding.state.value, finding.code, finding.found))
        if finding.to_do:
            lines.append(("", "", f"-> {finding.to_do}"))
    return text_table(("state", "code", "found"), lines)


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


def _there(address: str | None) -> str:
    return f" --address {address}" if address else ""


def program() -> str:
    """How to type this program here: an environment that is not activated has no `digitsearch` on its path."""
    if shutil.which("digitsearch"):
        return "digitsearch"
    typed = Path(sys.argv[0]).absolute()
    if typed.name != "digitsearch":
        return "python -m search"
    return str(typed.relative_to(Path.cwd()) if typed.is_relative_to(Path.cwd()) else typed)


def _winner_figures(run: Run, metrics: Mapping[str, Any]) -> str:
    known = [name for name in run.objectives.names if name in metrics]
    if "test_accuracy" not in metrics:
        return valued(run, [metrics[name] for name in known])
    others = [f", {name} {figure(metrics[name])}" for name in known if name not in ("val_accuracy", "test_accuracy")]
    return accuracies(metrics) + "".join(others if run.objectives.are_several else [])


def accuracies(metrics: Mapping[str, Any]) -> str:
    """The two figures of metrics.json that matter, with what they were measured on."""
    low, high = metrics["test_accuracy_interval"]
    return (
        f"validation accuracy {metrics['val_accuracy']:.4f} (n={metrics['num_validation']}), "
        f"test accuracy {metrics['test_accuracy']:.4f} (n={metrics['num_test']}, 95 % interval {low:.4f} to {high:.4f})"
    )


def description(about: Any) -> str:
    """What a data set holds."""
    lines = [f"{about.name}: {about.height} x {about.width} pixels, {len(about.class_names)} classes, in {about.where}"]
    counts = [
        (name, str(about.train.per_class[i]), str(about.test.per_class[i])) for i, name in enumerate(about.class_names)
    ]
    counts.append(("all", str(about.train.count), str(about.test.count)))
    return "\n".join(lines) + "\n" + text_table(("class", "training images", "test images"), counts).rstrip("\n")


def epoch_line(epoch: int, epochs: int, metrics: Mapping[str, float]) -> str:
    """One epoch of `digitsearch train`."""
    return (
        f"epoch {epoch} of {epochs}: train_loss {metrics['train_loss']:.4f}, val_loss {metrics['val_loss']:.4f}, "
        f"val_accuracy {metrics['val_accuracy']:.4f}, {metrics['images_per_s']:.0f} images/s"
    )


def trained(out: Path, metrics: Mapping[str, Any]) -> str:
    """The last lines of `digitsearch train`."""
    found = f"best epoch {metrics['epoch']}: {accuracies(metrics)}"
    train_s, num_threads = metrics["train_s"], metrics["num_threads"]
    threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
    cost = f"training: {train_s:.1f} s on {threads}, {train_s * num_threads:.1f} core-seconds"
    return f"{found}\n{cost}\nmodel: {out}\nnext:\n  {program()} predict {out} digit.png"


_SNIPPETS = {
    "onnx": """import numpy, onnxruntime
session = onnxruntime.InferenceSession({path!r})
images = numpy.zeros((1, {height}, {width}), numpy.uint8)  # one or many, light ink on dark
probabilities = session.run(None, {{"images": images}})[0]  # a row of {classes} an image""",
    "torch": """import torch
program = torch.export.load({path!r}).module()
images = torch.zeros(1, {height}, {width}, dtype=torch.uint8)  # one or many, light ink on dark
probabilities = program(images)  # a row of {classes} an image""",
}


def exported(file: Any) -> str:
    """What `digitsearch export` says of a `trainables.export.Exported`: what was written, and how it is run."""
    card = file.card
    opset = f"ONNX, opset {file.opset}" if file.opset else "torch.export"
    snippet = _SNIPPETS[file.format].format(
        path=str(file.path), height=card.height, width=card.width, classes=len(card.class_names)
    )
    return (
        f"wrote {file.path}: {opset}, {file.num_bytes:,} bytes\n"
        f"checked: read again, its probabilities differ from the model's by at most {file.difference:.1g} "
        f"(n={file.num_images})\n"
        f"in Python:\n\n{snippet}\n"
    )


def serving(started: Any) -> str:
    """What `digitsearch serve` says as it begins."""
    metrics = started.served.metrics
    model = f"model: {started.served.name}"
    model += f", {accuracies(metrics)}" if "test_accuracy" in metrics else ""
    return (
        f"{model}\npage:  {started.url}/\nAPI:   {started.url}/docs\n"
        f"try:   curl -F images=@digit.png {started.url}/predict\nCtrl-C ends it"
    )


def rerun(found: Any, format_: str) -> str:
    """A trial beside its repetition: for people its last epoch, for programs every figure that differs."""
    if format_ != "table":
        return rows([vars(difference) for difference in found.differences], format_)
    last = found.recorded[-1]
    differing = {difference.metric for difference in found.differences}
    lines = [(name, repr(last.metrics[name]), "differs" if name in differing else "the same") for name in found.metrics]
    head = f"trial {found.number}, {last.epoch} epochs; recorded at the last one, and how it came out now:\n"
    return head + text_table(("metric", "recorded", "in all epochs"), lines)


def text_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A plain table for people; as wide as it needs to be."""
    # Rich's table would take a millisecond a line, and there may be ten thousand.
    parts = [
        part
        for line in (headings, *lines)
        for part in zip_longest(*(cell.splitlines() or [""] for cell in line), fillvalue="")
    ]
    widths = [max(map(cell_len, column)) for column in zip(*parts, strict=True)]
    return "".join("  ".join(map(_filled, part, widths)).rstrip() + "\n" for part in parts)


def _filled(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def rows(records: Sequence[Mapping[str, Any]], format_: str) -> str:
    """Records for programs: a JSON list, or CSV with a heading."""
    if format_ == "json":
        return json.dumps(list(records), indent=2) + "\n"
    names = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _row(run: Run, trial: Trial, asked: _Asked) -> tuple[str, ...]:
    reason = trial.error_kind or trial.stop_reason or ""
    num_epochs = str(trial.epochs[-1].epoch if trial.epochs else 0)
    said = [{True: "yes", False: "no", None: ""}[ask(trial)] for ask in asked.values()]
    start = (str(trial.number), trial.state or "", reason, num_epochs)
    return (*start, *_values(run, trial), *said, configuration(trial.config))


def _values(run: Run, trial: Trial) -> list[str]:
    """The objectives at a trial's best epoch, for people."""
    values = run.values(trial)
    return [figure(value) for value in values] if values else [""] * len(run.objectives.names)


def _record(run: Run, trial: Trial, asked: _Asked) -> dict[str, Any]:
    top = run.best_epoch(trial)
    return {
        "number": trial.number,
        "state": trial.state,
        "stop_reason": trial.stop_reason,
        "error_kind": trial.error_kind,
        "error": trial.error,
        "attempts": trial.attempts,
        "epochs": trial.epochs[-1].epoch if trial.epochs else 0,
        "best_epoch": top.epoch if top else None,
        **{name: ask(trial) for name, ask in asked.items()},
        **{f"param_{name}": trial.config.get(name) for name in run.parameters},
        **{f"metric_{name}": value for name, value in (top.metrics if top else {}).items()},
    }


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, list):
        return " to ".join(_figure(entry) for entry in value)
    return "" if value is None else str(value)
