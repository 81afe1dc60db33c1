"""A report of a run: one page that opens anywhere, and its charts as pictures. A section of it is a module here."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import vl_convert

from results.errors import RunError
from results.report import curves, digits, early_stop, listing, parameters, progress, style, timeline, trade_off, winner
from results.report.blocks import Chart, Section
from results.report.material import Material, read
from results.report.page import charts_of, page
from results.storage import Place, Storage

_PAGE, _FIGURES = "report.html", "figures"
_DOTS_PER_PIXEL = 2
# A picture is put into a column of text, where its letters must stay readable.
_WIDEST_PX = 720


@dataclass(frozen=True)
class Written:
    """Where a report lies.

    Args:
        page: The HTML file.
        figures: The folder of its charts.
        names: What lies in it: a PNG a chart, in the page's order.
    """

    page: Place
    figures: Place
    names: list[str]


def write_report(run_directory: Place) -> Written:
    """Write `report.html` and `figures/` into a run directory, both whole or not at all.

    They are made from the tables of the run, its study and `best/`; made again from the same, they are the same. What
    was in `figures/` is replaced.

    Raises:
        RunError: It is not a run directory, its log can't be read, or nothing can be written there.
        StorageError: Shared storage can't be read or written.
    """
    material = read(run_directory)
    sections = sections_of(material)
    charts = charts_of(sections)
    content = page(material, sections)
    figures = {f"{chart.name}.png": picture(chart) for chart in charts}
    if isinstance(run_directory, Storage):
        _store(run_directory, content, figures)
    else:
        try:
            _write(run_directory, content, figures)
        except OSError as err:
            raise RunError(
                f"{str(run_directory)!r} must be a folder that can be written, to hold a report, "
                f"got: {err.strerror or err}; copy the run to one"
            ) from err
    return Written(run_directory / _PAGE, run_directory / _FIGURES, list(figures))


def sections_of(material: Material) -> list[Section]:
    """The questions that a run can be asked, with their answers."""
    what_is_gained = trade_off.section(material)
    made = [
        winner.section(material),
        # Of several objectives no single trial is the answer.
        what_is_gained if material.are_several else None,
        progress.section(material),
        parameters.section(material),
        early_stop.section(material),
        timeline.section(material),
        curves.section(material),
        digits.section(material),
        None if material.are_several else what_is_gained,
        listing.failures(material),
        listing.trials(material),
    ]
    return [section for section in made if section]


def picture(chart: Chart) -> bytes:
    """A chart as the bytes of a PNG file, for light paper."""
    width = min(chart.width, _WIDEST_PX)
    spec = {**chart.still, "width": width, "title": {"text": chart.title, "anchor": "start"}}
    return bytes(vl_convert.vegalite_to_png(spec, scale=_DOTS_PER_PIXEL, config=style.on_paper(), allowed_base_urls=[]))


def _write(run_directory: Path, content: str, figures: Mapping[str, bytes]) -> None:
    new_page, new_figures = run_directory / f"{_PAGE}.tmp", run_directory / f"{_FIGURES}.tmp"
    try:
        shutil.rmtree(new_figures, ignore_errors=True)
        new_figures.mkdir()
        for name, png in figures.items():
            (new_figures / name).write_bytes(png)
        new_page.write_text(content, encoding="utf-8")
        old = run_directory / _FIGURES
        if old.is_dir():
            shutil.rmtree(old)
        os.replace(new_figures, old)
        os.replace(new_page, run_directory / _PAGE)
    finally:
        shutil.rmtree(new_figures, ignore_errors=True)
        new_page.unlink(missing_ok=True)


def _store(run: Storage, content: str, figures: Mapping[str, bytes]) -> None:
    for name, png in figures.items():
        run.write(f"{_FIGURES}/{name}", png)
    for path in set(run.names(_FIGURES)) - {f"{_FIGURES}/{name}" for name in figures}:
        run.delete(path)
    run.write(_PAGE, content.encode())
