"""What failed, and which trials there were."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from results.report.blocks import Block, Details, Listing, Section, Table, Text, number, plural
from results.report.charts import is_drawn_of
from results.report.material import Material
from results.report.standing import standing

_MOST_KINDS = 20
_MOST_NUMBERS = 8
_MOST_ROWS = 10_000
_LONGEST_ERROR, _LONGEST_LOG = 500, 4_000


def failures(material: Material) -> Section | None:
    """The failed trials by what was wrong, most frequent first; None if there are none."""
    failed = material.trials[material.trials["state"] == "failed"]
    if failed.empty:
        return None
    groups = grouped(failed)
    text = Markup("{} of {} failed.{}").format(
        number("num-failed", len(failed)),
        plural(len(material.trials), "trial"),
        is_drawn_of(min(len(groups), _MOST_KINDS), len(groups), "kinds, the most frequent"),
    )
    groups = groups[:_MOST_KINDS]
    lines = [(kind, f"{len(group):,}", _numbers(group), error[:_LONGEST_ERROR]) for kind, error, group in groups]
    table = Table("failures", ("kind", "trials", "their numbers", "error"), lines)
    logs = [log for kind, _, group in groups for log in _log(kind, group)]
    return Section("failures", "What failed?", [Text(text), table, *logs])


def grouped(failed: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Failed trials with the same kind and the same first line of the error: kind, the first one's error, trials."""
    kind, error = failed["error_kind"].fillna("unknown"), failed["error"].fillna("")
    first_line = error.str.split("\n", n=1).str[0]
    groups = [
        (str(kind.loc[group.index[0]]), str(error.loc[group.index[0]]), group)
        for _, group in failed.groupby([kind.rename("kind"), first_line.rename("line")], sort=True)
    ]
    return sorted(groups, key=lambda entry: -len(entry[2]))


def _numbers(group: pd.DataFrame) -> str:
    numbers = ", ".join(str(number) for number in group["number"].head(_MOST_NUMBERS))
    return numbers + (", …" if len(group) > _MOST_NUMBERS else "")


def _log(kind: str, group: pd.DataFrame) -> list[Details]:
    """The end of what the first trial of a group printed that printed something."""
    printed = group.set_index("number")["log_tail"].dropna()
    if printed.empty:
        return []
    summary = f"{kind}: the end of what trial {printed.index[0]} printed"
    return [Details(summary, str(printed.iloc[0])[-_LONGEST_LOG:])]


def trials(material: Material) -> Section:
    """The table of all trials."""
    question, frame = "Which trials were there?", material.trials
    if frame.empty:
        return Section("trials", question, [Text(Markup("None yet."))])
    text = Markup(
        "Click a heading to sort. The filter takes words, and conditions like <code>state=finished</code> or "
        "<code>epochs&gt;2</code>.{}"
    ).format(is_drawn_of(_MOST_ROWS, len(frame), "trials, the best"))
    if len(frame) > _MOST_ROWS:
        order = frame["number"].map(standing(material)).sort_values(ascending=False, kind="stable", na_position="last")
        frame = frame.loc[order.index[:_MOST_ROWS]].sort_values("number")
    columns = _columns(material)
    cells = [[_cell(value) for value in frame[column]] for column in columns.values()]
    blocks: list[Block] = [Text(text), Listing(list(columns), list(zip(*cells, strict=True)))]
    return Section("trials", question, blocks)


def _columns(material: Material) -> dict[str, str]:
    """What the table shows: by heading, the columns of trials.parquet that say anything."""
    found = {"trial": "number", "state": "state", "reason": "stop_reason", "error": "error_kind", "epochs": "epochs"}
    objectives, columns = [f"metric_{name}" for name in material.objectives.names], material.trials.columns
    params = [column for column in columns if column.startswith("param_")]
    metrics = [column for column in columns if column.startswith("metric_") and column not in objectives]
    standing_ = [column for column in ("feasible", "pareto") if column in columns]
    for column in (*objectives, *standing_, "train_s", *params, *metrics):
        name = column.removeprefix("param_").removeprefix("metric_")
        found[column if name in found else name] = column
    return {name: column for name, column in found.items() if material.trials[column].notna().any()}


def _cell(value: Any) -> Any:
    """A value for JSON; nobody compares trials by a seventh digit."""
    if value is None or value != value:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) != float("inf") else str(value)
    return value
