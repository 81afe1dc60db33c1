"""The Grafana dashboard: it asks for what the search exports, for all of it and for nothing else."""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from results import Run
from search import metrics

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster" / "deploy" / "grafana-dashboard.json").read_text()

Series = dict[str, set[str]]  # as Prometheus has them: the name to the labels
# What Prometheus makes of a metric's name, and the labels that it adds.
SUFFIXES = {
    "Gauge": {"": set()},
    "Counter": {"_total": set()},
    "Histogram": {"_bucket": {"le"}, "_sum": set(), "_count": set()},
}


@pytest.fixture(scope="module")
def made() -> dict[str, Series]:
    """The metrics that a search makes, each with its series, as its constructors are called."""
    found: dict[str, Series] = {}

    def recorder(kind: str) -> Callable[..., None]:
        def made_(name: str, description: str, *rest: Any) -> None:
            labels = set(rest[-1])
            found[name] = {f"ray_{name}{suffix}": labels | more for suffix, more in SUFFIXES[kind].items()}

        return made_

    with pytest.MonkeyPatch.context() as patch:
        for kind in SUFFIXES:
            patch.setattr(metrics, kind, recorder(kind))
        metrics.Metrics(Run(study={"name": "any"}), "cpu")
    return found


# The checks: what is wrong with a dashboard's text, a line each


def expressions(text: str) -> Iterator[tuple[str, str, str]]:
    """The panel's title, the expression and its legend."""
    for panel in json.loads(text)["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def metric_problems(text: str, made: dict[str, Series]) -> list[str]:
    known = {name for series in made.values() for name in series}
    asked = {(title, name) for title, expression, _ in expressions(text) for name in names_in(expression)}
    variables = json.loads(text)["templating"]["list"]
    asked |= {("the variables", name) for variable in variables for name in names_in(json.dumps(variable))}
    problems = [f"{title}: {name} is not made" for title, name in sorted(asked) if name not in known]
    shown = {name for title, name in asked if title != "the variables"}
    return problems + [f"no panel shows {name}" for name, series in made.items() if not shown & set(series)]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", expression))


def label_problems(text: str, made: dict[str, Series]) -> list[str]:
    """A legend has only what the expression groups by; every series is asked for one study."""
    labels = {name: labels for series in made.values() for name, labels in series.items()}
    problems = []
    for title, expression, legend in expressions(text):
        selected = re.findall(r"\b(ray_\w+)(?:\{(.*?)\})?", expression)
        grouped = {word for words in re.findall(r"\bby \((.*?)\)", expression) for word in words.split(", ")}
        for name, matchers in selected:
            asked = set(re.findall(r'(\w+)=~?"', matchers)) | grouped
            problems += [f"{title}: {name} has no label {label}" for label in sorted(asked - labels.get(name, asked))]
            problems += [f"{title}: {name} of every study"] * ('study="$study"' not in matchers)
        problems += [f"{title}: {word} is not grouped by" for word in re.findall(r"\{\{(.*?)\}\}", legend) if word not in grouped]  # fmt: skip
        problems += [f"{title}: a quantile needs le"] * ("histogram_quantile" in expression and "le" not in grouped)
    for variable in json.loads(text)["templating"]["list"]:
        for name, label in re.findall(r"label_values\((\w+), (\w+)\)", json.dumps(variable)):
            problems += [f"the variable {variable['name']}: {name} has no label {label}"] * (label not in labels[name])
    return problems


def syntax_problems(text: str) -> list[str]:
    return [f"{title}: {expression}" for title, expression, _ in expressions(text) if not sound(expression)]


def sound(expression: str) -> bool:
    """Whether all that opens is closed, in its order; a text in quotes may hold anything."""
    open_: list[str] = []
    for mark in re.findall(r'"[^"]*"|["(){}\[\]]', expression):
        if mark in "([{":
            open_.append(")]}"["([{".index(mark)])
        elif mark == '"' or (mark in ")]}" and (not open_ or open_.pop() != mark)):
            return False
    return not open_


def panel_problems(text: str) -> list[str]:
    dashboard = json.loads(text)
    times = Counter(panel["id"] for panel in dashboard["panels"])
    problems = [f"{times[id_]} panels have the id {id_}" for id_ in times if times[id_] > 1]
    for panel in dashboard["panels"]:
        if not panel["fieldConfig"]["defaults"].get("unit"):
            problems.append(f"{panel['title']}: no unit")
        if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            problems.append(f"{panel['title']}: a data source of its own")
    taken = Counter(cell for panel in dashboard["panels"] for cell in cells(**panel["gridPos"]))
    return problems + ["panels lie on one another"] * (max(taken.values()) > 1)


def cells(x: int, y: int, w: int, h: int) -> list[tuple[int, int]]:
    return [(column, row) for column in range(x, x + w) for row in range(y, y + h)]


def variable_problems(text: str) -> list[str]:
    """What is put in for $name: a variable of the dashboard, or one of Grafana's own."""
    known = {variable["name"] for variable in json.loads(text)["templating"]["list"]}
    return [
        f"no variable {name}" for name in sorted(set(re.findall(r"\$\{?(\w+)", text)) - known - {"__rate_interval"})
    ]


# The file


def test_what_is_asked_for_is_made_and_all_that_is_made_is_shown(made: dict[str, Series]) -> None:
    assert not metric_problems(TEXT, made)
    assert not label_problems(TEXT, made)


def test_expressions_panels_and_variables_are_sound() -> None:
    assert not syntax_problems(TEXT) + panel_problems(TEXT) + variable_problems(TEXT)


def test_it_is_the_same_dashboard_after_an_update() -> None:
    dashboard = json.loads(TEXT)
    assert dashboard["uid"] == "digitsearch" and "id" not in dashboard
    assert {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]} == {
        "datasource": "datasource",
        "study": "query",
    }


def test_series_are_named_as_a_real_scrape_names_them(made: dict[str, Series]) -> None:
    """What the test on a real cluster finds there."""
    strings = [node.value for node in ast.walk(ast.parse((ROOT / "tests" / "test_cluster.py").read_text())) if isinstance(node, ast.Constant)]  # fmt: skip
    scraped = {found[1] for text in strings if (found := re.match(r"(digitsearch_\w+)", str(text)))}
    assert len(scraped) >= len(made)
    assert {f"ray_{name}" for name in scraped} <= {name for series in made.values() for name in series}


def documented(text: str) -> dict[str, set[str]]:
    rows = re.findall(r"^\| `ray_(\w+)` \| (.*?) \|", text, re.M)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_the_page_on_monitoring_has_each_metric_with_its_labels(made: dict[str, Series]) -> None:
    text = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    expected = {}
    for name, series in made.items():  # of a histogram the name alone, and what its parts have in common
        shown = next(iter(series)).removeprefix("ray_") if len(series) == 1 else name
        expected[shown] = set.intersection(*series.values())
    assert documented(text) == expected
    assert documented(text.replace("`study`, `device`", "`study`")) != expected
    assert all((ROOT / "docs" / picture).is_file() for picture in re.findall(r"\]\((pictures/.*?)\)", text))


# What each check would find


def mutated(old: str, new: str) -> str:
    assert old in TEXT, f"the dashboard has no {old!r} any more: mutate something else"
    return TEXT.replace(old, new, 1)


@pytest.mark.parametrize(
    ("check", "old", "new", "problem"),
    [
        (metric_problems, "ray_digitsearch_epochs_total{", "ray_digitsearch_epochs{", ["Epochs reported per second: ray_digitsearch_epochs is not made", "no panel shows digitsearch_epochs"]),
        (metric_problems, "(ray_digitsearch_slots_busy{", "(ray_digitsearch_trials{", ["no panel shows digitsearch_slots_busy"]),
        (metric_problems, "label_values(ray_digitsearch_trials,", "label_values(ray_digitsearch_trial,", ["the variables: ray_digitsearch_trial is not made"]),
        (metric_problems, "wait_seconds_bucket", "wait_seconds", ["A free slot's wait: ray_digitsearch_slot_wait_seconds is not made"]),
        (label_problems, "max by (state)", "max by (status)", ["Trials by state: ray_digitsearch_trials has no label status", "Trials by state: state is not grouped by"]),
        (label_problems, 'busy{study=\\"$study\\"}', 'busy{study=\\"$study\\", device=\\"cpu\\"}', ["Slots busy: ray_digitsearch_slots_busy has no label device"]),
        (label_problems, 'busy{study=\\"$study\\"}', "busy", ["Slots busy: ray_digitsearch_slots_busy of every study"]),
        (label_problems, "sum by (le)", "sum by (study)", ["A free slot's wait: a quantile needs le"]),
        (label_problems, "{{device}}", "{{node}}", ["Training time by device: node is not grouped by"]),
        (label_problems, "ray_digitsearch_trials, study)", "ray_digitsearch_trials, name)", ["the variable study: ray_digitsearch_trials has no label name"]),
    ],
)  # fmt: skip
def test_another_metric_or_label_is_found(
    check: Callable[..., list[str]], old: str, new: str, problem: list[str], made: dict[str, Series]
) -> None:
    assert check(mutated(old, new), made) == problem


def test_a_metric_that_no_panel_shows_is_found(made: dict[str, Series]) -> None:
    more = made | {"digitsearch_retries": {"ray_digitsearch_retries_total": {"study"}}}
    assert metric_problems(TEXT, more) == ["no panel shows digitsearch_retries"]


@pytest.mark.parametrize(
    ("check", "old", "new", "problem"),
    [
        (syntax_problems, "[$__rate_interval]))", "[$__rate_interval])", "Epochs reported per second: sum by"),
        (syntax_problems, "[$__rate_interval])", "[$__rate_interval)]", "Epochs reported per second: sum by"),
        (syntax_problems, 'busy{study=\\"$study\\"}', 'busy{study=\\"$study}', "Slots busy: max by"),
        (syntax_problems, 'busy{study=\\"$study\\"})', 'busy{study=\\"$study\\"}))', "Slots busy: max by"),
        (panel_problems, '"id": 2', '"id": 1', "2 panels have the id 1"),
        (panel_problems, '"unit": "cps", ', "", "Epochs reported per second: no unit"),
        (panel_problems, '"uid": "${datasource}"},\n      "gridPos": {"x": 0, "y": 0', '"uid": "PBFA97CFB590B2093"},\n      "gridPos": {"x": 0, "y": 0', "Trials by state: a data source of its own"),
        (panel_problems, '{"x": 12, "y": 16', '{"x": 12, "y": 12', "panels lie on one another"),
        (variable_problems, '"name": "study"', '"name": "search"', "no variable study"),
        (variable_problems, "$__rate_interval", "$interval", "no variable interval"),
    ],
)  # fmt: skip
def test_an_unsound_dashboard_is_found(check: Callable[[str], list[str]], old: str, new: str, problem: str) -> None:
    (found,) = check(mutated(old, new))
    assert found.startswith(problem)
