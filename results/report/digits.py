"""What does the winner misread? Its predictions on the test part, class by class and picture by picture."""

import altair as alt
import pandas as pd
from markupsafe import Markup

from results.intervals import wilson
from results.report.blocks import Block, Chart, Grid, Picture, Pictures, Section, Text, number, percent, plural
from results.report.charts import chart, rows, told
from results.report.material import Material

_QUESTION = "What does the winner misread?"
_MOST_MISTAKES = 24
# With more classes the counts would not fit into their squares.
_MOST_COUNTS = 15
# More classes than these make charts that nobody sees at once: then it is about those that are misread most.
_MOST_CLASSES, _HARDEST = 40, 20
# The names of more would lie over one another.
_MOST_LETTERS = 60
_WIDTH_PX = 560


def section(material: Material) -> Section | None:
    """Confusion matrix, accuracy by class and the most confident mistakes; None for a workload without pictures."""
    if material.study.get("workload") != "digits" or not material.winner:
        return None
    read = material.predictions
    if read is None:
        text = "What the winner read on the test part was not kept: this run is older than that, or best/ is not whole."
        return Section("digits", _QUESTION, [Text(Markup(text))])
    wrong = mistakes(read)
    text = Markup("Of {} it misreads {}.").format(plural(len(read), "test image"), number("num-mistakes", len(wrong)))
    classes = _classes(read)
    if len(classes) > _MOST_CLASSES:
        text += Markup(" Shown are those {} of its {} classes that most of these have to do with.").format(
            _HARDEST, len(classes)
        )
        classes = _hardest(wrong, classes)
    blocks: list[Block] = [Text(text), Grid([_confusion_chart(read, classes), _per_class_chart(read, classes)])]
    if len(wrong):
        first = "All of them" if len(wrong) <= _MOST_MISTAKES else f"The {_MOST_MISTAKES} of which it was surest"
        said = Markup("{}, surest first: the label, what it read, and how probable that seemed to it.").format(first)
        blocks += [Text(said), Pictures(_pictures(wrong.head(_MOST_MISTAKES)))]
    return Section("digits", _QUESTION, blocks)


def mistakes(read: pd.DataFrame) -> pd.DataFrame:
    """The images that were misread, those first of which the winner was surest."""
    return read[read["label"] != read["digit"]].sort_values("probability", ascending=False, kind="stable")


def confusion(read: pd.DataFrame) -> pd.DataFrame:
    """How often each label was read as each class: `label`, `digit`, `count`, without zeros."""
    return read.groupby(["label", "digit"], as_index=False).size().rename(columns={"size": "count"})


def per_class(read: pd.DataFrame) -> pd.DataFrame:
    """Of each label: `count`, `accuracy`, and its 95 % interval `low` and `high`."""
    right = (read["label"] == read["digit"]).groupby(read["label"])
    frame = pd.DataFrame({"accuracy": right.mean(), "count": right.size()}).rename_axis("label").reset_index()
    bounds = [wilson(*pair) for pair in zip(frame["accuracy"].tolist(), frame["count"].tolist(), strict=True)]
    return frame.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])


def _pictures(wrong: pd.DataFrame) -> list[Picture]:
    columns = (wrong[name].tolist() for name in ("image", "label", "digit", "probability"))
    return [
        Picture(png or b"", Markup("<b>{}</b> read as <b>{}</b>, {}").format(label, digit, percent(probability)))
        for png, label, digit, probability in zip(*columns, strict=True)
    ]


def _classes(read: pd.DataFrame) -> list[str]:
    names = set(read["label"]) | set(read["digit"])
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _hardest(wrong: pd.DataFrame, classes: list[str]) -> list[str]:
    """The classes that most images were misread of or as, in their order."""
    has_to_do = pd.concat([wrong["label"], wrong["digit"]]).value_counts()
    ranked = sorted(classes, key=lambda name: has_to_do.get(name, 0), reverse=True)[:_HARDEST]
    return [name for name in classes if name in ranked]


def _step(classes: list[str]) -> int:
    return 30 if len(classes) <= _MOST_COUNTS else 14


def _confusion_chart(read: pd.DataFrame, classes: list[str]) -> Chart:
    frame = confusion(read[read["label"].isin(classes) & read["digit"].isin(classes)])
    frame["is_right"] = frame["label"] == frame["digit"]
    # Mistakes are few beside what is right: each of the two has its own depth of colour.
    frame["depth"] = 0.15 + 0.75 * frame["count"] / frame.groupby("is_right")["count"].transform("max")
    angle = 0 if max(map(len, classes)) * len(classes) <= _MOST_LETTERS else -90
    scale, above = alt.Scale(domain=classes), alt.Axis(labelAngle=angle, labelOverlap=False, orient="top")
    base = rows("cells").encode(
        x=alt.X("digit:N", title="read as", scale=scale, axis=above),
        y=alt.Y("label:N", title="label", scale=scale),
        tooltip=told(label="label:N", read_as="digit:N", images="count:Q"),
    )
    squares = base.encode(opacity=alt.Opacity("depth:Q", scale=None, legend=None))
    right = squares.transform_filter("datum.is_right").mark_rect(style="right")
    wrong = squares.transform_filter("!datum.is_right").mark_rect(style="wrong")
    counts = [base.mark_text().encode(text="count:Q")] if len(classes) <= _MOST_COUNTS else []
    note = "Images by label and by what was read: blue is right, orange is wrong, each the deeper the more."
    frames, height = {"cells": frame}, _step(classes) * len(classes)
    drawn = alt.layer(right, wrong, *counts)
    return chart("confusion", "Confusion matrix (count)", note, drawn, frames, height=height, width=_WIDTH_PX)


def _per_class_chart(read: pd.DataFrame, classes: list[str]) -> Chart:
    frame = per_class(read[read["label"].isin(classes)])
    base = rows("classes").encode(
        y=alt.Y("label:N", title="label", sort=classes),
        tooltip=told(label="label:N", accuracy="accuracy:Q", low="low:Q", high="high:Q", images="count:Q"),
    )

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="test accuracy (share of images)", scale=alt.Scale(zero=False))

    drawn = alt.layer(
        base.mark_rule(style="estimate").encode(x=x("low"), x2="high:Q"),
        base.mark_point(style="estimate", filled=True, size=70).encode(x=x("accuracy")),
    )
    note = "The line is the 95 % interval (Wilson 1927): classes whose lines overlap may be equally hard."
    frames, height = {"classes": frame}, _step(classes) * len(frame)
    return chart("per_class", "Accuracy by class", note, drawn, frames, height=height, width=_WIDTH_PX)
