"""A search as it goes on: a live picture in a terminal or a notebook, a line for each ended trial elsewhere."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event as Signal
from threading import Thread
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.jupyter import JupyterMixin
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results import Event, Run, Trial
from results.errors import RunWarning
from search.printed import Printed
from search.suggest import warm_start

# Between two pictures in a notebook's cell, each of them a message to its page.
_FRAME_S = 0.5


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Show nothing more. As rich has it, the process ends; what is trained goes on when nobody watches."""
        self.quiet = True
        if not self.stderr:  # what is said there at the end is to fail as little
            with open(os.devnull, "w") as nobody:
                os.dup2(nobody.fileno(), self.file.fileno())
        where = "error" if self.stderr else "output"
        warnings.warn(f"who read standard {where} is gone; the work goes on", category=RunWarning, stacklevel=1)


def console(*, stderr: bool = False) -> Console:
    """Where a search or a training is shown. What trials say is shown as it is: [red] in an error is no colour."""
    return _Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)


class Progress:
    """A view of a run for people. Use it as a context manager and hand it to `run` as a view.

    Args:
        console: Where it is shown: a terminal and a notebook's cell get a picture, all else plain lines.
        run: What the picture shows before the first event, if there is something already.
        verbose: Whether to show what trials print, too.
    """

    def __init__(self, console: Console, run: Run | None = None, *, verbose: bool = False) -> None:
        self._console = console
        self._printed = Printed() if verbose else None
        self._run = run
        self._live: Live | _Cell | None = None

    def __enter__(self) -> "Progress":
        if self._console.is_jupyter:
            self._live = _Cell(self._picture)
        elif self._console.is_terminal:
            self._live = Live(get_renderable=self._picture, console=self._console, refresh_per_second=4, transient=True)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            with suppress(OSError):  # the terminal may be gone
                self._live.stop()

    def __call__(self, run: Run, event: Event) -> None:
        """Take in an event."""
        self._run = run
        for line in self._printed.lines(event) if self._printed else ():
            self._console.print(line, soft_wrap=True, highlight=False)
        kind = event["event"]
        if kind == "trial_ended" and (not self._live or event["state"] == "failed"):
            self._console.print(ended_line(run, run.trials[event["number"]]), soft_wrap=True, highlight=False)
        elif kind == "study_started":
            for taken in run.warm_start:
                self._console.print(warm_start.told(taken), soft_wrap=True, highlight=False)
        elif kind == "study_resumed":
            self._console.print(taken_up_line(run), soft_wrap=True, highlight=False)
        elif kind == "confirming":
            numbers = ", ".join(map(str, event["numbers"]))
            line = f"{event['run']}: trains the configurations of the trials {numbers} again, with new seeds"
            self._console.print(line, soft_wrap=True, highlight=False)
        elif kind == "checkpoints_dropped" and event["reason"] == "damaged":
            paths = ", ".join(event["paths"])
            line = f"damaged, and not used: {paths}; the trial goes on from the one before, or from the start"
            self._console.print(line, soft_wrap=True, highlight=False)
        elif kind == "attempt_failed":
            line = f"trial {event['number']}: {event['error']}; it will be tried again"
            self._console.print(line, soft_wrap=True, highlight=False)

    def _picture(self) -> RenderableType:
        run = self._run
        if run is None:
            return Text("loading data and starting Ray …")
        planned = run.study["budget"]["trials"]
        num_ended = _num_ended(run)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(run.study["name"], style="bold"),
            ProgressBar(total=planned, completed=num_ended, width=30),
            f"{num_ended} of {planned} trials",
            f"best {_best_text(run)}",
            time_left(run),
        )
        is_any_running = any(trial.state == "running" for trial in list(run.trials.values()))
        return Group(head, _running(run)) if is_any_running else head


class _Cell:
    """A live picture in a notebook's cell, by what a notebook itself has: rich's own asks for ipywidgets there."""

    def __init__(self, picture: Callable[[], RenderableType]) -> None:
        self._picture = picture
        self._is_over = Signal()
        self._drawing = Thread(target=self._draw, daemon=True)

    def start(self) -> None:
        from IPython.display import display

        self._shown = display(_InCell(self._picture()), display_id=True)  # type: ignore[no-untyped-call]
        self._drawing.start()

    def stop(self) -> None:
        self._is_over.set()
        self._drawing.join()
        self._shown.update(_InCell(self._picture()))

    def _draw(self) -> None:
        while not self._is_over.wait(_FRAME_S):
            self._shown.update(_InCell(self._picture()))


class _InCell(JupyterMixin):
    def __init__(self, picture: RenderableType) -> None:
        self._picture = picture

    def __rich__(self) -> RenderableType:
        return self._picture


def taken_up_line(run: Run) -> str:
    """What of a run still counts as another session begins."""
    counting = [trial for trial in run.trials.values() if trial.counts]
    num_ended = sum(trial.ended for trial in counting)
    num_aside = len(run.trials) - len(counting)
    aside = f", {num_aside} set aside: outside of the changed space" if num_aside else ""
    return (
        f"{run.study['name']}: {num_ended} ended trials count as they are, {len(counting) - num_ended} go on from "
        f"their last checkpoint{aside}"
    )


def so_far_line(run: Run) -> str:
    """How far a run has come."""
    planned, num_running = run.study["budget"]["trials"], run.count("running")
    return (
        f"{run.study['name']}: {_num_ended(run)} of {planned} trials have ended so far, {num_running} are running; "
        f"best so far {_best_text(run)}"
    )


def _num_ended(run: Run) -> int:
    # A copy: while the picture is drawn, the search goes on in another thread.
    return sum(trial.ended and not trial.was_spared for trial in list(run.trials.values()))


def ended_line(run: Run, trial: Trial) -> str:
    """One ended trial in a line."""
    start = f"trial {trial.number} of {run.study['budget']['trials'] + run.num_spared}: {trial.state}"
    if trial.state == "failed":
        return f"{start}, {trial.error_kind}: {trial.error}; the search goes on"
    if trial.repeat_of is not None:
        return f"{start} (repeat of trial {trial.repeat_of}); best so far {_best_text(run)}"
    num_epochs = trial.epochs[-1].epoch if trial.epochs else 0
    values = run.values(trial)
    if trial.was_spared:
        broken = ", ".join(name for name in trial.foreseen if run.objectives.violation({name: trial.foreseen[name]}))
        return f"trial {trial.number}: not trained, since {broken} would break a constraint"
    found = f", {valued(run, values)}" if values else ""
    found += ", which breaks a constraint" if run.is_feasible(trial) is False else ""
    why = "" if trial.stop_reason == "max_epochs" else f" ({trial.stop_reason})"
    return f"{start}{why} after {num_epochs} epochs{found}; best so far {_best_text(run)}"


def _best_text(run: Run) -> str:
    best = run.best()
    if best is None:
        return "none yet"
    values = run.values(best)
    assert values is not None, "a trial that may win has values"
    if not run.objectives.are_several:
        return f"{valued(run, values)} (trial {best.number})"
    front = run.front()
    if len(front) == 1:
        return f"{valued(run, values)} (trial {best.number}, better in all)"
    return f"{len(front)} trials that none beats, at the knee {valued(run, values)} (trial {best.number})"


def valued(run: Run, values: Sequence[float]) -> str:
    """The objectives with their values: `val_accuracy 0.9871, num_parameters 9322`."""
    return ", ".join(f"{name} {figure(value)}" for name, value in zip(run.objectives.names, values, strict=True))


def figure(value: float) -> str:
    """A metric's value for people: 0.9871, 9322, 1.2e-05, 1e+30."""
    if float(value).is_integer() and 10 <= abs(value) < 1e16:
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) < 0.1 or abs(value) >= 1e16 else f"{value:.4f}"


def time_left(run: Run, now: datetime | None = None) -> str:
    """How long the search will still take at the pace so far, and at most by its wall budget."""
    if run.started_at is None:
        return ""
    num_ended = _num_ended(run)
    guesses = []
    if num_ended:
        guesses.append(run.searched_s / num_ended * (run.study["budget"]["trials"] - num_ended))
    wall = wall_s(run.study["budget"])
    if wall is not None:
        guesses.append(wall - run.searched_s)
    if not guesses:
        return ""
    since_last = ((now or datetime.now(UTC)) - run.last_at).total_seconds() if run.last_at else 0.0
    return f"{max(min(guesses) - since_last, 0):.0f} s left"


def wall_s(budget: Mapping[str, Any]) -> float | None:
    """`budget.wall` of a study in seconds, if it has one."""
    from search.study import Budget

    return Budget.model_validate({"wall": budget["wall"]}).wall


def _running(run: Run) -> Table:
    table = Table(box=None, header_style="dim", expand=True)
    for heading in ("trial", "epoch", *run.objectives.names):
        table.add_column(heading, no_wrap=True, justify="right", min_width=max(len(heading), 7))
    table.add_column("configuration", no_wrap=True, ratio=1)  # the rest of the width, cut where it ends
    most = run.study["early_stop"]["max_epochs"]
    for trial in list(run.trials.values()):
        if trial.state == "running":
            last = trial.epochs[-1] if trial.epochs else None
            metrics = last.metrics if last else {}
            values = [figure(metrics[name]) if name in metrics else "" for name in run.objectives.names]
            table.add_row(
                str(trial.number), f"{last.epoch if last else 0}/{most}", *values, configuration(trial.config)
            )
    return table


def configuration(config: Any) -> str:
    """A configuration in a line: width=16 learning_rate=0.012."""
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in config.items()
    )
