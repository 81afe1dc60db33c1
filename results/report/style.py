"""How all charts and the page look: colours that colour-blind readers tell apart, for a light and for a dark ground."""

from collections.abc import Mapping
from typing import Any

# Okabe and Ito 2002, "Color universal design"; sky blue stands for blue on a dark ground.
LIGHT = {
    "ground": "#ffffff", "panel": "#f6f7f9", "ink": "#1b1f24", "muted": "#59636e", "grid": "#e3e6ea",
    "finished": "#0072b2", "stopped": "#e69f00", "failed": "#d55e00", "interrupted": "#cc79a7", "running": "#009e73",
}  # fmt: skip
DARK = {
    "ground": "#14171a", "panel": "#1d2125", "ink": "#e8eaed", "muted": "#a0a9b3", "grid": "#333a41",
    "finished": "#56b4e9", "stopped": "#e69f00", "failed": "#f0793a", "interrupted": "#cc79a7", "running": "#2fc79d",
}  # fmt: skip

STATES = ("finished", "stopped", "failed", "interrupted", "running")
_SHAPES = ("circle", "triangle-up", "cross", "diamond", "square")
_FONT = "system-ui, 'Liberation Sans', 'DejaVu Sans', Arial, sans-serif"


def css() -> str:
    """The colours as variables of a page: dark where its reader's machine is, and light on paper."""

    def variables(colours: Mapping[str, str]) -> str:
        return "".join(f"--{name}:{value};" for name, value in colours.items())

    return (
        f":root{{color-scheme:light dark;{variables(LIGHT)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}\n"
    )


def on_page() -> dict[str, Any]:
    """The look of charts in a page, whose colours are those of `css`: they follow it without being drawn again."""
    return _look({name: f"var(--{name})" for name in LIGHT})


def on_paper() -> dict[str, Any]:
    """The look of charts in a file of their own."""
    return {**_look(LIGHT), "background": LIGHT["ground"], "padding": 12}


def _look(colour: Mapping[str, str]) -> dict[str, Any]:
    """A Vega-Lite configuration. Charts name what a mark is (`style`), never its colour."""
    text = {"labelColor": colour["ink"], "titleColor": colour["ink"], "labelFontSize": 11, "titleFontSize": 12}
    lines = {"gridColor": colour["grid"], "domainColor": colour["muted"], "tickColor": colour["muted"]}
    return {
        "background": None,
        "font": _FONT,
        "padding": 4,
        "view": {"stroke": None},
        "axis": {**text, **lines, "titleFontWeight": "normal", "titleLimit": 340, "titlePadding": 8,
                 "labelOverlap": True, "labelLimit": 150},
        "axisY": {"titleLimit": 220},
        "axisXQuantitative": {"tickCount": {"expr": "max(3, ceil(width / 90))"}},
        "legend": {**text, "orient": "top", "title": None, "labelFontSize": 12, "labelLimit": 0, "symbolOpacity": 1,
                   "columnPadding": 14},
        "text": {"fill": colour["ink"], "font": _FONT, "fontSize": 11},
        "range": {
            "category": [colour[state] for state in STATES],
            "symbol": list(_SHAPES),
            "ordinal": [colour["finished"], colour["stopped"], colour["muted"]],
        },
        "style": {
            "trial": {"filled": True, "size": 45, "fillOpacity": 0.8, "opacity": 1},
            "best": {"color": colour["ink"], "strokeWidth": 2, "opacity": 1},
            "estimate": {"color": colour["finished"], "strokeWidth": 2, "opacity": 1},
            "guide": {"color": colour["muted"], "strokeDash": [3, 3]},
            "frame": {"color": colour["muted"], "opacity": 0.6},
            "right": {"color": colour["finished"]},
            "wrong": {"color": colour["failed"]},
            "label": {"color": colour["ink"], "fontSize": 10},
            "halo": {"color": colour["ground"], "stroke": colour["ground"], "strokeWidth": 4, "fontSize": 10},
        },
    }  # fmt: skip
