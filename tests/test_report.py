"""The report, as its readers have it: in a real browser without a network, and beside the tables that it is made from."""

import json
import math
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import vl_convert
from browser import opened
from made_runs import PARAMETERS, SPACE, Search, draw, learned, study, telling
from PIL import Image
from playwright.sync_api import Browser, Page

from results import RunError
from results.intervals import rank_correlation, wilson
from results.objectives import Objective
from results.report import digits, sections_of, timeline, write_report
from results.report.blocks import shown as shown_as
from results.report.charts import chart, log_ticks, metric_axis, rows, thinned, whole
from results.report.importance import importance
from results.report.material import read
from results.report.page import charts_of
from results.report.space import Parameter, searched
from results.report.standing import standing, standings
from results.report.style import on_paper
from results.report.trade_off import non_dominated
from search import Outcome
from trainables import model
from trainables.datasets import load_part

EVIL = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">{{ 7 * 7 }}"
FISH = ("exception", "ValueError: the learning rate is a fish\nand no mistake")


def one_in_twenty(chance: random.Random) -> tuple[str, str] | None:
    return FISH if chance.random() < 0.05 else None


def one_of_three(chance: random.Random) -> tuple[str, str]:
    return chance.choice([FISH, ("oom", "a trial must fit into memory"), ("nan", "score is nan at epoch 1")])


def evil_metrics(config: Mapping[str, Any], epoch: int, chance: random.Random) -> dict[str, Any]:
    """A loss from 1e-12 to 1e12 that may be nan, one that no axis can be named after, and sizes of all kinds."""
    loss = math.nan if config["rate"] > 0.6 else 10 ** chance.gauss(0, 4)
    return {EVIL: loss, "a.b[0]": -(10 ** chance.gauss(0, 8)), "num_parameters": int(10 ** chance.uniform(1, 9))}


def evil_draw(chance: random.Random) -> dict[str, Any]:
    return draw(chance) | {"batch": chance.choice([64, EVIL])}


def evil_failure(chance: random.Random) -> tuple[str, str] | None:
    return ("exception", f"{EVIL}\n{EVIL}") if chance.random() < 0.1 else None


def only(config: Mapping[str, Any], epoch: int, chance: random.Random) -> dict[str, Any]:
    """A metric on both sides of zero, and nothing else."""
    return {"gain": 10 ** (6 * config["x"]) * (-1) ** epoch}


def both_wanted(config: Mapping[str, Any], epoch: int, chance: random.Random) -> dict[str, Any]:
    """A score, a size and a time; a tenth of the times is over nine milliseconds."""
    return {**learned(config, epoch, chance), "latency_ms": chance.uniform(0, 10)}


ONE_EPOCH = {"name": "none", "grace_epochs": 1, "max_epochs": 4, "reduction": 3}
EVIL_STUDY = study(
    name=EVIL,
    workload=EVIL,
    objective={"metric": EVIL, "mode": "min", "target": 0.001},
    space={**SPACE, "batch": {"choice": [64, EVIL]}},
)
CASES = {
    "sixty": Search(60, nodes=("10.0.0.1", "10.0.0.2"), fails=one_in_twenty),
    "one": Search(1, study=study(early_stop=ONE_EPOCH)),
    "failures": Search(12, fails=one_of_three),
    "unfinished": Search(40, nodes=("10.0.0.1", "10.0.0.2", "10.0.0.3"), until_s=8),
    "nothing": Search(3, until_s=0.1),
    "nasty": Search(40, (EVIL, "n2"), evil_failure, evil_metrics, evil_draw, EVIL_STUDY),
    "one parameter": Search(
        30,
        metrics=only,
        draw=lambda chance: {"x": chance.random()},
        study=study(objective={"metric": "gain", "mode": "max"}, space={"x": {"float": [0, 1]}}),
        parameters={"x": "float"},
    ),
    "several": Search(
        60,
        metrics=both_wanted,
        study=study(
            objective=[{"metric": "score", "mode": "max"}, {"metric": "num_parameters", "mode": "min"}],
            constraints={"latency_ms": {"max": 9.0}},
        ),
    ),
    "ten thousand": Search(
        10_000, tuple(f"10.0.0.{node}" for node in range(1, 5)), one_in_twenty, study=study(budget={"trials": 10_000, "wall": None})
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run directory of a case, with its report, and a file with the seconds that it took to make."""
    folder, made = tmp_path_factory.mktemp("reports"), {}

    def run_of(name: str) -> Path:
        if name not in made:
            made[name] = CASES[name].write(folder / name.replace(" ", "-"))
            started = time.monotonic()
            write_report(made[name])
            (made[name] / "took.txt").write_text(f"{time.monotonic() - started:.1f}")
        return made[name]

    return run_of


@pytest.fixture(scope="module")
def reported(finished: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small finished search with its report, in a copy."""
    run = tmp_path_factory.mktemp("reported") / "small"
    shutil.copytree(finished.run_directory, run, ignore=shutil.ignore_patterns("checkpoints"))
    write_report(run)
    return run


def figures_of(run: Path) -> dict[str, float | None]:
    """What the page says, by id: the values that stand behind the figures."""
    found = re.findall(r'<data id="([^"]+)" value="([^"]*)">', (run / "report.html").read_text())
    assert len({name for name, _ in found}) == len(found), "an id is there twice"
    return {name: float(value) if value else None for name, value in found}


# In the browser


@pytest.fixture
def page_of(browser: Browser) -> Iterator[Callable[[Path], Page]]:
    """Open a report; in the end nothing must have been asked for but it, and nothing complained of."""
    closing = []

    def page_(run: Path) -> Page:
        session = opened(browser, viewport={"width": 1400, "height": 900}, color_scheme="light")
        page, record = session.__enter__()
        closing.append((session, record, f"file://{run}/report.html"))
        page.goto(f"file://{run}/report.html")
        page.wait_for_selector("body[data-drawn]", timeout=30_000)
        return page

    yield page_
    for session, record, address in closing:
        session.__exit__(None, None, None)
        assert record.requests == [address] and record.complaints == []


def look(page: Page, name: str) -> None:
    """Keep a picture of the page where somebody wants to look at it: REPORT_SHOTS=folder."""
    if folder := os.environ.get("REPORT_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def check_it_opens(page: Page, name: str) -> None:
    charts = page.locator("[data-chart]")
    drawn = page.evaluate(
        "[...document.querySelectorAll('[data-chart]')].map((p) => p.querySelectorAll('svg path').length)"
    )
    assert len(drawn) == charts.count() and all(count > 2 for count in drawn)
    grounds = set()
    for width in (1400, 400):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.wait_for_function(f"innerWidth == {width} && document.body.dataset.drawn")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width}"
            grounds.add(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
            look(page, f"{name}-{width}-{scheme}")
        too_wide = "[...document.querySelectorAll('.drawing svg')].filter((s) => s.getBoundingClientRect().right > innerWidth).length"
        assert page.evaluate(too_wide) == 0
    assert len(grounds) == 2, "light and dark must differ"
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", CASES)
def test_it_opens_alone_in_both_themes_and_at_both_widths(
    name: str, reports: Callable[[str], Path], page_of: Callable[[Path], Page]
) -> None:
    check_it_opens(page_of(reports(name)), name)


@pytest.mark.ray
def test_the_report_of_a_real_search_opens_too(reported: Path, page_of: Callable[[Path], Page]) -> None:
    page = page_of(reported)
    check_it_opens(page, "quickstart")
    assert page.locator(".pictures img").count() == min(24, int(figures_of(reported)["num-mistakes"] or 0))


def test_what_names_and_errors_hold_is_text(reports: Callable[[str], Path], page_of: Callable[[Path], Page]) -> None:
    page = page_of(reports("nasty"))
    assert page.title() == f"{EVIL}: report" and page.locator("h1").text_content() == EVIL
    assert page.locator("img").count() == 0 and EVIL in (page.locator("#table-failures").text_content() or "")
    page.locator("[data-chart=timeline] path[aria-label]").first.hover()
    assert "trial" in (page.locator("#vg-tooltip-element").text_content() or "")
    assert page.title() == f"{EVIL}: report"


def test_the_table_of_trials_sorts_filters_and_leafs(
    reports: Callable[[str], Path], page_of: Callable[[Path], Page]
) -> None:
    page = page_of(reports("ten thousand"))
    frame = read(reports("ten thousand")).trials

    def first(heading: str) -> str:
        names = [name.rstrip(" ▲▼") for name in page.locator("#listing th").all_text_contents()]
        cells = page.locator("#listing tbody tr:first-child td").all_text_contents()
        return dict(zip(names, cells, strict=True))[heading]

    assert page.locator("#listing tbody tr").count() == 50 and first("trial") == "0"
    page.get_by_role("button", name="Later rows").click()
    assert first("trial") == "50"
    page.locator("#listing thead button", has_text="score").click()
    assert float(first("score")) == pytest.approx(frame["value"].min(), rel=1e-3)
    page.locator("#listing thead button", has_text="score").click()
    assert first("trial") == str(frame["number"][frame["value"].idxmax()])
    page.get_by_role("searchbox").fill("state=finished width>40 cnn")
    found = frame[(frame["state"] == "finished") & (pd.to_numeric(frame["param_width"]) > 40)]
    assert page.locator("#listing .note").text_content() == f"1 to 50 of {len(found)}"
    page.get_by_role("searchbox").fill("a fish")
    assert page.locator("#listing .note").text_content() == "no trial is like that"


def test_pointing_at_a_curve_names_its_trial_and_dragging_over_an_axis_keeps_its_trials(
    reports: Callable[[str], Path], page_of: Callable[[Path], Page]
) -> None:
    page = page_of(reports("sixty"))
    curves = page.locator("[data-chart=curves]")
    curves.scroll_into_view_if_needed()
    box = curves.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    assert curves.locator("path[stroke-width='3'][stroke-opacity='1']").count() == 1, "one curve stands out"
    parallel = page.locator("[data-chart=parallel]")
    parallel.scroll_into_view_if_needed()
    faint = parallel.locator("path[stroke-opacity='0.04']")
    assert faint.count() == 0
    box = parallel.bounding_box()
    assert box
    first_axis = parallel.locator("path[aria-label*='axis: rate']").first.bounding_box()
    assert first_axis
    y = first_axis["y"] + first_axis["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, y - 8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, y + 8, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "document.querySelectorAll('[data-chart=parallel] path[stroke-opacity=\"0.04\"]').length > 0"
    )
    assert 0 < faint.count() < parallel.locator("path[stroke-opacity]").count()


# Beside the tables


@pytest.mark.ray
def test_the_figures_are_those_of_the_tables_and_of_the_winner(reported: Path) -> None:
    trials, said = pd.read_parquet(reported / "trials.parquet"), figures_of(reported)
    metrics = json.loads((reported / "best" / "metrics.json").read_text())
    predictions = pd.read_parquet(reported / "best" / "predictions.parquet")
    finished = trials[trials["state"] == "finished"]
    top = finished.sort_values(["metric_val_accuracy", "number"], ascending=[False, True]).iloc[0]
    assert said["winner-trial"] == top["number"] == metrics["trial"]
    assert said["winner-value"] == top["metric_val_accuracy"] == metrics["val_accuracy"]
    assert said["test-accuracy"] == metrics["test_accuracy"] == (predictions["label"] == predictions["digit"]).mean()
    assert [said["test-low"], said["test-high"]] == metrics["test_accuracy_interval"]
    assert said["num-test"] == metrics["num_test"] == len(predictions) == 360
    assert said["num-mistakes"] == (predictions["label"] != predictions["digit"]).sum()
    assert said["num-parameters"] == metrics["num_parameters"] == top["metric_num_parameters"]
    assert said["seed"] == metrics["seed"] == top["seed"]
    low, high = wilson(metrics["val_accuracy"], metrics["num_validation"])
    assert said.get("validation-low", low) == low and said.get("validation-high", high) == high
    others = finished[finished["number"] != top["number"]]["metric_val_accuracy"]
    assert said.get("num-rivals", 0) == (others >= low).sum()
    check_the_tables(said, trials, pd.read_parquet(reported / "epochs.parquet"), max_epochs=6, metric="val_accuracy")


def test_the_figures_of_a_made_run_are_those_of_its_tables(reports: Callable[[str], Path]) -> None:
    run = reports("sixty")
    material, said = read(run), figures_of(run)
    assert (material.trials["state"] == "failed").any() and said["num-failed"] == (
        material.trials["state"] == "failed"
    ).sum()
    check_the_tables(said, material.trials, material.epochs, max_epochs=9, metric="score")


def check_the_tables(
    said: Mapping[str, float | None], trials: pd.DataFrame, epochs: pd.DataFrame, *, max_epochs: int, metric: str
) -> None:
    """Compute what a page says anew, as a reader with pandas would."""
    stopped = trials[(trials["state"] == "stopped") & (trials["stop_reason"] == "early_stop")]
    left = max_epochs - stopped["epochs"]
    saved = (left * stopped["train_s"] / stopped["epochs"]).sum()
    assert said["num-stopped-early"] == len(stopped) and said["saved-epochs"] == left.sum()
    assert said["saved-s"] == pytest.approx(saved)
    assert said["saved-share"] == pytest.approx(saved / (saved + epochs["epoch_s"].sum()))
    rungs = sorted(int(name.split("-")[1]) for name in said if name.startswith("reached-"))
    assert rungs and rungs[-1] < max_epochs
    for rung, after in zip(rungs, [*rungs[1:], max_epochs], strict=True):
        assert said[f"reached-{rung}"] == (trials["epochs"] >= rung).sum()
        assert said[f"stopped-{rung}"] == ((stopped["epochs"] >= rung) & (stopped["epochs"] < after)).sum()
    held = (trials["ended_at"] - trials["started_at"]).dt.total_seconds()
    assert said["busy-share"] == pytest.approx(held.sum() / (said["num-slots"] * said["searched-s"]))  # type: ignore[operator]
    for state, group in trials.groupby("state"):
        assert said[f"count-{state}"] == len(group)
        assert said[f"train-s-{state}"] == pytest.approx(group["train_s"].sum())
        assert said[f"slot-s-{state}"] == pytest.approx(held[group.index].sum(), abs=1e-3)
    ended = trials.sort_values("ended_at").reset_index(drop=True)
    best = ended[f"metric_{metric}"].where(ended["state"] == "finished").cummax().ffill()
    last = best[best != best.shift()].dropna().index[-1]
    assert said["last-improved"] == ended["number"][last] and said["trials-since"] == len(trials) - 1 - last
    comparable = trials["state"].isin(["finished"]) | trials["number"].isin(stopped["number"])
    assert said["num-compared"] == comparable.sum()


def test_the_rank_correlation_is_spearmans(reports: Callable[[str], Path]) -> None:
    material, said = read(reports("ten thousand")), figures_of(reports("ten thousand"))
    ends = material.trials[material.trials["state"] == "finished"].set_index("number")["metric_score"]
    for rung in (1, 3):
        values = material.epochs[material.epochs["epoch"] == rung].set_index("number")["metric_score"].loc[ends.index]
        assert said[f"correlation-{rung}"] == pytest.approx(values.corr(ends, method="spearman"))
        ranks = (
            material.epochs[material.epochs["epoch"] == rung].set_index("number")["metric_score"].rank(ascending=False)
        )
        assert said[f"rank-{rung}"] == ranks[ends.idxmax()]


def test_of_very_many_classes_those_are_shown_that_are_misread() -> None:
    names = [f"class {number}" for number in range(50)]
    read_as = {f"class {number}": "class 49" for number in range(19)}
    predictions = pd.DataFrame(
        [(n, read_as.get(n, n) if image else n, 0.9, b"") for n in names for image in range(2)],
        columns=["label", "digit", "probability", "image"],
    )
    material = SimpleNamespace(study={"workload": "digits"}, winner={"number": 0}, predictions=predictions)
    said = digits.section(material)  # type: ignore[arg-type]
    assert said and "it misreads" in said.blocks[0].html and "those 20 of its 50 classes" in said.blocks[0].html  # type: ignore[union-attr]
    confusion, per_class = said.blocks[1].charts  # type: ignore[union-attr]
    shown = [*names[:19], "class 49"]
    assert {(row["label"], row["digit"], row["count"]) for row in confusion.spec["datasets"]["cells"]} == {
        *((name, name, 1) for name in names[:19]), *((name, "class 49", 1) for name in names[:19]), ("class 49", "class 49", 2),
    }  # fmt: skip
    assert {row["label"]: row["accuracy"] for row in per_class.spec["datasets"]["classes"]} == {
        name: 1.0 if name == "class 49" else 0.5 for name in shown
    }


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"int": [1, 1_234_567], "log": True}, "1 to 1234567, even in the logarithm"),
        ({"int": [1, 9], "step": 2}, "1 to 9, in steps of 2"),
        ({"int": [1, 9], "step": 1}, "1 to 9"),
        ({"float": [0.0, 1.0], "step": 0.25}, "0 to 1, in steps of 0.25"),
        ({"float": [1e-5, 0.1], "step": None, "log": True}, "1e-05 to 0.1, even in the logarithm"),
        ({"choice": [True, 1.0, "a"]}, "True, 1, a"),
    ],
)
def test_what_was_searched_is_said_whole(entry: dict[str, Any], said: str) -> None:
    assert searched(entry) == said


@pytest.mark.parametrize("last", [2, 3, 9, 40])
def test_an_axis_of_whole_numbers_has_no_halves(last: int) -> None:
    x = alt.X("x:Q", axis=whole(1, last), scale=alt.Scale(domain=[1, last], nice=False))
    drawn = chart("few", "Few", "", rows("few").mark_point().encode(x=x), {"few": pd.DataFrame({"x": [1, last]})})
    ticks = re.findall(
        r">(\d[\d.]*)</text>", vl_convert.vegalite_to_svg({**drawn.still, "width": 600}, config=on_paper())
    )
    assert len(ticks) >= 2 and ticks == [str(int(tick)) for tick in sorted({float(tick) for tick in ticks})]


def test_predictions_are_the_winners(finished: Outcome) -> None:
    test, winner = load_part("optdigits", Path("data"), "test"), model.load(finished.run_directory)  # type: ignore[arg-type]
    path = finished.run_directory / "best" / "predictions.parquet"  # type: ignore[operator]
    frame, kinds = pd.read_parquet(path), pq.read_schema(path)
    assert {field.name: str(field.type) for field in kinds} == {
        "index": "int64", "label": "string", "digit": "string", "probability": "float",
        "probabilities": "list<element: float>", "image": "binary",
    }  # fmt: skip
    assert kinds.metadata[b"digitsearch_schema"] == b"1"
    expected = winner.probabilities(test.images)
    assert frame["index"].tolist() == list(range(360)) and frame["label"].tolist() == list(map(str, test.labels))
    assert np.array_equal(np.stack(frame["probabilities"]), expected)
    assert frame["digit"].tolist() == list(map(str, expected.argmax(axis=1)))
    assert np.array_equal(frame["probability"], expected.max(axis=1))
    wrong = frame["label"] != frame["digit"]
    assert wrong.any() and frame["image"].notna().equals(wrong)
    for index, png in frame[wrong]["image"].items():
        assert np.array_equal(np.array(Image.open(BytesIO(png))), test.images[index])


def test_it_is_the_same_when_made_again_and_its_pictures_are_pictures(reports: Callable[[str], Path]) -> None:
    run = reports("sixty")
    before = {path: path.read_bytes() for path in [run / "report.html", *(run / "figures").iterdir()]}
    (run / "figures" / "of-an-earlier-run.png").write_bytes(b"")
    written = write_report(run)
    assert {path: path.read_bytes() for path in [run / "report.html", *(run / "figures").iterdir()]} == before
    assert (
        sorted(written.names) == sorted(path.name for path in (run / "figures").iterdir()) and len(written.names) > 10
    )
    for name in written.names:
        with Image.open(run / "figures" / name) as picture:
            assert picture.width in (840, 1440) and len(picture.getcolors(1 << 24) or []) > 20


def test_ten_thousand_trials_fit_and_what_is_left_out_is_said(
    reports: Callable[[str], Path], record_property: Callable[[str, object], None]
) -> None:
    run = reports("ten thousand")
    # Under 20 s on two cores; not asserted, as other tests run beside it.
    record_property("seconds", (run / "took.txt").read_text())
    size = (run / "report.html").stat().st_size
    record_property("bytes", size)
    assert size < 15e6
    text = (run / "report.html").read_text()
    for said in (
        "Drawn: 800 of 10,000 trials", "learned from", "of 9,", "Drawn: 300 of 9,", "Drawn: 500 of 9,",
        "Drawn: 120 of 9,", "Too many trials for a bar each",
    ):  # fmt: skip
        assert said in text, said


def test_an_interrupted_and_resumed_run_counts_its_sessions_alone(tmp_path: Path) -> None:
    report = {"number": 0, "epoch_s": 10.0, "node": "a", "checkpoint": None}
    end = {"error_kind": None, "error": None, "log_tail": None}
    night = 30_000
    with telling(tmp_path) as teller:
        settings = study(early_stop={"name": "none", "max_epochs": 3})
        teller.tell(0, "study_started", schema=1, study=settings, parameters=PARAMETERS)
        teller.tell(0, "trial_suggested", number=0, config=draw(random.Random(0)), seed=1)
        teller.tell(0, "trial_started", number=0, attempt=1, epoch=0)
        for epoch in (1, 2):
            teller.tell(10 * epoch, "epoch_reported", attempt=1, epoch=epoch, metrics={"score": 0.1 * epoch}, **report)
        # Killed without a word, and resumed the next morning.
        teller.tell(night, "study_resumed", study=settings, parameters=PARAMETERS, set_aside=[])
        teller.tell(night + 5, "trial_started", number=0, attempt=2, epoch=2)
        teller.tell(night + 15, "epoch_reported", attempt=2, epoch=3, metrics={"score": 0.3}, **report)
        teller.tell(night + 15, "trial_ended", number=0, state="finished", stop_reason="max_epochs", **end)
        teller.tell(night + 20, "study_ended", reason="trials")
    held = timeline.segments(read(tmp_path))
    assert held[["start_s", "end_s", "slot"]].to_numpy().tolist() == [[0, 20, 1], [25, 35, 1]]
    write_report(tmp_path)
    said = figures_of(tmp_path)
    assert said["searched-s"] == 40 and said["busy-share"] == 0.75 and said["slot-s-finished"] == 30
    assert ", in 2 sessions, the time between them aside." in (tmp_path / "report.html").read_text()


def test_trials_that_a_resume_set_aside_do_not_win(tmp_path: Path) -> None:
    run = Search(30, until_s=1000).write(tmp_path)
    best = read(run).candidates["number"].iloc[0]
    with telling(tmp_path) as teller:
        teller.tell(1000, "study_resumed", study=study(), parameters=PARAMETERS, set_aside=[int(best)])
    material = read(run)
    assert best not in set(material.candidates["number"]) and best not in standing(material).index
    assert best in set(material.trials["number"])


def test_an_objective_that_the_model_folder_does_not_name_comes_from_the_tables(tmp_path: Path) -> None:
    run = Search(12, until_s=1000).write(tmp_path)
    best = read(run).candidates.iloc[0]
    test = {"test_accuracy": 0.75, "test_accuracy_interval": [0.5, 0.875], "num_test": 20, "num_validation": 10}
    test["num_test_repeated"] = 3
    with telling(tmp_path) as teller:
        teller.tell(1001, "study_ended", reason="trials")
        teller.tell(1001, "winner_chosen", number=int(best["number"]), epoch=9, metrics={"seed": 1, **test})
    write_report(run)
    said = figures_of(run)
    assert said["winner-value"] == best["value"] and said["test-accuracy"] == 0.75 and said["test-high"] == 0.875
    assert said["num-test-repeated"] == 3


@pytest.mark.ray
@pytest.mark.parametrize("damage", ["no table", "no such columns", "gone"])
def test_without_kept_predictions_the_page_says_so(damage: str, reported: Path, tmp_path: Path) -> None:
    run = tmp_path / "older"
    shutil.copytree(reported, run)
    path = run / "best" / "predictions.parquet"
    path.unlink()
    if damage == "no table":
        path.write_bytes(b"PAR1 and nothing more")
    elif damage == "no such columns":
        pd.DataFrame({"label": [1], "digit": [None]}).to_parquet(path)
    write_report(run)
    text = (run / "report.html").read_text()
    assert "What the winner read on the test part was not kept" in text and "confusion" not in text


def test_a_folder_that_cannot_be_written_is_one_message_and_stays_as_it_was(tmp_path: Path) -> None:
    run = CASES["one"].write(tmp_path / "run")
    (run / "figures").write_text("a file of the user's")
    with pytest.raises(
        RunError,
        match=r"run' must be a folder that can be written, to hold a report, got: Not a directory; copy the run to one$",
    ):
        write_report(run)
    assert sorted(path.name for path in run.iterdir()) == ["events", "figures"]
    assert (run / "figures").read_text() == "a file of the user's"


@pytest.mark.ray
def test_the_verb_writes_it_and_says_where(finished: Outcome, type_in: Callable[..., Any], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "small"
    shutil.copytree(finished.run_directory, run, ignore=shutil.ignore_patterns("checkpoints", "trials.parquet"))
    typed = type_in("report", "runs/small")
    assert (typed.returncode, typed.stderr) == (0, "")
    count = len(list((run / "figures").iterdir()))
    assert typed.stdout == f"page:    runs/small/report.html\nfigures: runs/small/figures ({count} pictures)\n"
    assert (run / "report.html").is_file() and not (run / "trials.parquet").exists(), "made from the log alone"
    typed = type_in("report", "runs/small/best")
    assert typed.returncode == 2 and typed.stderr.startswith("error: 'runs/small/best' is not a run directory")
    typed = type_in("report", "runs/small/study.yaml")
    assert typed.returncode == 2 and typed.stderr.startswith("error: 'runs/small/study.yaml' is not a run directory")


# What it computes


def test_trials_stand_as_they_were_where_both_came_to(reports: Callable[[str], Path]) -> None:
    material = read(reports("sixty"))
    frame = material.trials.set_index("number").assign(standing=standing(material)).dropna(subset=["standing"])
    assert frame["standing"].max() == 1 and frame["standing"].min() == 0
    so_far = material.epochs.set_index(["number", "epoch"])["value"].groupby("number").cummax()
    for epochs, group in frame.groupby("epochs"):
        there = so_far.loc[[(number, epochs) for number in group.index]]
        assert there.rank().tolist() == group["standing"].rank().tolist()
    assert frame["standing"].idxmax() == material.ranking[0]
    assert not set(material.trials[material.trials["state"] == "failed"]["number"]) & set(frame.index)


def test_of_several_objectives_trials_stand_by_their_non_dominated_rank(reports: Callable[[str], Path]) -> None:
    material = read(reports("several"))
    each, all_ = standings(material), standing(material)
    assert list(each) == ["score", "num_parameters"] and set(each.index) == set(all_.index) and len(all_) > 20
    sizes = material.trials.set_index("number")["metric_num_parameters"].loc[each.index].astype(float)
    assert (-sizes).corr(each["num_parameters"], method="spearman") > 0.99, "a size is the same after each epoch"
    left, before = each.to_dict("index"), 1.01
    while left:
        front = {
            number: places
            for number, places in left.items()
            if not any(
                all(other[m] >= places[m] for m in places) and any(other[m] > places[m] for m in places)
                for other in left.values()
            )
        }
        assert before > all_[list(front)].max(), "those that more beat come later"
        before = all_[list(front)].min()
        left = {number: places for number, places in left.items() if number not in front}


def test_importance_finds_what_matters_and_its_interval_narrows() -> None:
    widths = []
    for count in (40, 400):
        draws = np.random.default_rng(3)
        model_ = pd.Series(draws.choice(["a", "b"], count))
        slope = pd.Series(draws.uniform(size=count)).where(model_ == "a")
        others = [Parameter(f"noise{n}", pd.Series(draws.uniform(size=count))) for n in range(6)]
        rate = pd.Series(draws.uniform(size=count))
        truth = 3 * rate + 1.5 * slope.fillna(0) + 0.3 * draws.normal(size=count)
        searched = [*others, Parameter("rate", rate), Parameter("slope", slope), Parameter("model", model_, ("a", "b"))]
        found = importance(searched, truth.rank(pct=True))
        frame = found.frame.set_index("parameter")
        assert found.order[0] == "rate" and frame.loc["rate", "low"] > 0 and found.num_trials == count
        assert all(frame.loc[f"noise{n}", "low"] < 0.02 for n in range(6)), "chance must look like chance"
        widths.append(frame.loc["rate", "high"] - frame.loc["rate", "low"])
    assert {"slope", "model"} == set(found.order[1:3]) and found.explained > 0.7 and widths[1] < widths[0]


def test_the_front_is_what_no_other_beats() -> None:
    chance = np.random.default_rng(5)
    for modes in (("min", "max"), ("max", "max"), ("min", "min")):
        frame = pd.DataFrame(chance.integers(0, 12, size=(60, 2)), columns=["metric_x", "metric_y"]).astype(float)
        costs = frame.to_numpy() * [-1 if mode == "max" else 1 for mode in modes]
        beaten = [any((other <= one).all() and (other < one).any() for other in costs) for one in costs]
        front = non_dominated(frame, [Objective(name, mode) for name, mode in zip("xy", modes, strict=True)])
        assert sorted(front.index) == [index for index, lost in enumerate(beaten) if not lost]


def test_several_objectives_show_their_pareto_set(reports: Callable[[str], Path]) -> None:
    run = reports("several")
    table = read(run).trials
    may = table[(table["state"] == "finished") & table["feasible"]]
    costs = list(zip(-may["metric_score"], may["metric_num_parameters"], may["number"], strict=True))
    front = {number for a, b, number in costs if not any(x <= a and y <= b and (x < a or y < b) for x, y, _ in costs)}
    shown = figures_of(run)
    assert len(front) > 1 and shown["num-front"] == len(front) and shown["knee"] in front
    for name in ("score", "num_parameters"):
        values = may.set_index("number")[f"metric_{name}"]
        assert {n: shown[f"front-{n}-{name}"] for n in front} == {n: values[n] for n in front}
    assert not table["feasible"].all() and not set(table["number"][~table["feasible"].astype(bool)]) & front
    page = (run / "report.html").read_text()
    assert "latency_ms at most 9" in page and "Hypervolume over the trials" in page
    assert (run / "figures" / "trade_off.png").exists()


def test_each_of_several_objectives_has_its_own_importances(reports: Callable[[str], Path]) -> None:
    run = reports("several")
    assert figures_of(run)["explained-score"] > 0.3 and figures_of(run)["explained-num_parameters"] > 0.6  # type: ignore[operator]
    charts = {chart.name: chart for chart in charts_of(sections_of(read(run)))}
    found = pd.DataFrame(charts["importance"].spec["datasets"]["importance"])
    shares = found.pivot(index="parameter", columns="objective", values="share")
    assert shares["score"].idxmax() == "rate" and set(shares["num_parameters"].nlargest(2).index) == {"width", "model"}
    axes = {row["axis"] for row in charts["parallel"].spec["datasets"]["axes"]}
    assert {"score, best", "num_parameters, best", "rate", "width"} <= axes
    sizes = charts["slice_2_width"].spec["datasets"]["trials"]
    assert {row["value"] for row in sizes} == {1000.0 * row["x"] for row in sizes}
    assert "slice_rate" in charts and (run / "figures" / "slice_2_width.png").exists()


def test_objectives_may_have_any_names(tmp_path: Path) -> None:
    def renamed(config: Mapping[str, Any], epoch: int, chance: random.Random) -> dict[str, Any]:
        found = both_wanted(config, epoch, chance)
        return {"../val/score": found["score"], EVIL: found["num_parameters"]}

    objective = [{"metric": "../val/score", "mode": "max"}, {"metric": EVIL, "mode": "min"}]
    run = Search(40, metrics=renamed, study=study(objective=objective)).write(tmp_path / "run")
    written = write_report(run)
    assert "slice_2_width" in {name.removesuffix(".png") for name in written.names}
    assert sorted(written.names) == sorted(path.name for path in (run / "figures").iterdir())
    assert EVIL not in (run / "report.html").read_text()


def test_each_of_several_objectives_says_whether_rungs_foretold_it(reports: Callable[[str], Path]) -> None:
    material, said = read(reports("several")), figures_of(reports("several"))
    ends = material.trials.set_index("number").loc[list(material.ranking)]
    assert len(ends) >= 5
    for rung in (1, 3):
        there = material.epochs[material.epochs["epoch"] == rung].set_index("number").loc[ends.index]
        score = there["metric_score"].corr(ends["metric_score"], method="spearman")
        assert said[f"correlation-{rung}-score"] == pytest.approx(score) and score < 1
        assert said[f"correlation-{rung}-num_parameters"] == pytest.approx(1), "a size is the same after each epoch"


def test_no_slot_holds_two_trials_at_once(reports: Callable[[str], Path]) -> None:
    held = timeline.segments(read(reports("ten thousand")))
    assert len(held) == 10_000 and held["node"].nunique() == 4 and held["slot"].max() == 2
    for _, slot in held.sort_values("start_s").groupby(["node", "slot"]):
        assert (slot["start_s"].to_numpy()[1:] >= slot["end_s"].to_numpy()[:-1] - 1e-3).all()
    shares = timeline.occupancy(held, timeline.total_s(read(reports("ten thousand"))), 1.0)
    moments = shares.groupby("start")["share"].sum()
    assert len(moments) == 120 and moments.max() <= 1 + 1e-6 and moments.iloc[1:-1].min() > 0.8


@pytest.mark.parametrize(
    ("values", "mode", "kind", "beyond"),
    [
        ([0.98, 0.99, 0.97, 0.985, 0.975, 0.1], "max", "linear", 1),
        ([0.1, 0.2, 0.15, 0.12, 0.18, 9e9], "min", "log", 1),
        ([1e-6, 1.0, 1e6], "min", "log", 0),
        ([-1e9, 1.0, 2.0, 3.0, 5e8], "min", "symlog", 1),
        ([3.0, 3.0], "max", "linear", 0),
        ([], "max", "linear", 0),
    ],
)
def test_an_axis_shows_what_matters(values: list[float], mode: str, kind: str, beyond: int) -> None:
    axis = metric_axis(pd.Series(values, dtype=float), "score", mode)
    assert (axis.kind, axis.num_beyond) == (kind, beyond)
    good = max(values, default=1.0) if mode == "max" else min(values)
    assert axis.low <= good <= axis.high or math.isclose(axis.low, good, rel_tol=1e-9), "the good end is never cut off"


def test_ticks_of_a_logarithmic_axis_are_round_and_few() -> None:
    assert log_ticks(8, 64) == [10, 20, 50] and log_ticks(1e-4, 1) == [1e-4, 1e-3, 1e-2, 1e-1, 1]
    assert len(log_ticks(1e-30, 1e30)) <= 8


def test_thinning_keeps_the_ends_and_what_must_stay() -> None:
    frame = pd.DataFrame({"x": range(1000)})
    assert thinned(frame, 10)["x"].tolist()[::9] == [0, 999]
    kept = thinned(frame, 10, frame["x"].isin([3, 500]))["x"].tolist()
    assert len(kept) == 10 and {3, 500} <= set(kept) and kept == sorted(kept)


def test_figures_are_written_as_people_read_them() -> None:
    figures = [0.0, 0.98765, 61.25, 250.0, 250.5, 60_000.0, 12_345.6, 1e15, -math.inf, math.nan, 7, None]
    said = ["0.0000", "0.9877", "61.2500", "250", "250.5", "60,000", "1.235e+04", "1e+15", "-inf", "–", "7", "–"]
    assert list(map(shown_as, figures)) == said


def test_the_interval_of_a_rank_correlation() -> None:
    # By hand: atanh(0.5) = 0.54931, half = 1.96 * sqrt(1.125 / 17) = 0.50421.
    assert rank_correlation(0.5, 20) == pytest.approx((0.0451, 0.7832), abs=1e-4)
    low, high = rank_correlation(1.0, 5)
    assert low < 1 and high <= 1
