"""The trials of a run: all of them, the best, how far it has come, and one beside its repetition."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from results import Place, Run, Trial
from search.progress import configuration, figure, time_left
from search.show.text import cell, rows, text_table


def trials(run: Run, format_: str, top: int | None = None) -> str:
    """All trials that have started, by number; or so many of those that may win, the best first."""
    listed = run.ranking()[:top] if top else [trial for _, trial in sorted(run.trials.items()) if trial.state]
    asked = _asked(run)
    if format_ == "table":
        headings = ("number", "state", "reason", "epochs", *run.objectives.names, *asked, "configuration")
        return text_table(headings, [_row(run, trial, asked) for trial in listed])
    return rows([_record(run, trial, asked) for trial in listed], format_)


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
    lines = [("trial", str(trial.number)), (run.metric, cell(value))]
    if run.winner:
        lines += [
            (name, cell(value)) for name, value in run.winner["metrics"].items() if name not in ("trial", run.metric)
        ]
        lines.append(("model", str(run_directory / "best")))
    lines += [(name, cell(value)) for name, value in trial.config.items()]
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
    lines = [(name, cell(value)) for name, value in record.items()]
    if run.ended is None:
        lines.append(("left", time_left(run)))
    return text_table(("what", "value"), lines)


def rerun(found: Any, format_: str) -> str:
    """A trial beside its repetition: for people its last epoch, for programs every figure that differs."""
    if format_ != "table":
        return rows([vars(difference) for difference in found.differences], format_)
    last = found.recorded[-1]
    differing = {difference.metric for difference in found.differences}
    lines = [(name, repr(last.metrics[name]), "differs" if name in differing else "the same") for name in found.metrics]
    head = f"trial {found.number}, {last.epoch} epochs; recorded at the last one, and how it came out now:\n"
    return head + text_table(("metric", "recorded", "in all epochs"), lines)


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
