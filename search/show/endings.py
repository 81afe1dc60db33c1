"""How a search ended: what was found, where it lies, what to type next."""

from collections.abc import Mapping
from typing import Any

from results import Run, is_confirmed, is_tested
from search.progress import configuration, figure, valued, wall_s
from search.references import is_of_program, to_resume
from search.show.text import to_type


def outcome(ended: Any) -> str:
    """The last lines of a search: what was found, where it lies, what to type next."""
    if ended.reason == "user":
        return found(ended)
    run, directory = ended.run, ended.run_directory
    words = [[verb, directory] for verb in ("trials", "best", "report")]
    if run.has_printed:
        words.append(["logs", directory])
    if is_tested(run.winner["metrics"]):
        words += [["predict", directory, "digit.png"], ["serve", directory]]
    return "\n".join([found(ended), "next:", *(f"  {to_type(*command)}" for command in words)])


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
        how = to_type("resume", directory) if is_typed else to_resume(directory, run.study["workload"])
        return f"{head}\ninterrupted; go on with: {how}"
    if run.winner is None:  # what confirms another run has none of its own
        return head
    metrics = run.winner["metrics"]
    lines = [head, f"ended by: {ended.reason}{_more_time(run, directory)}", *_reported_once(run)]
    members, role = run.winner["members"], "winner"
    if members is not None:
        lines.append(f"Pareto set: {len(members)} trials that none beats in {' and '.join(run.objectives.names)}")
        role = "its knee"
    if is_confirmed(metrics):
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
    return f"; the interrupted go on with more: {to_type('resume', directory, '--set', f'budget.wall={more}')}"


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


def _winner_figures(run: Run, metrics: Mapping[str, Any]) -> str:
    known = [name for name in run.objectives.names if name in metrics]
    if not is_tested(metrics):
        return valued(run, [metrics[name] for name in known])
    others = [f", {name} {figure(metrics[name])}" for name in known if name not in ("val_accuracy", "test_accuracy")]
    return accuracies(metrics) + "".join(others if run.objectives.are_several else [])


def accuracies(metrics: Mapping[str, Any]) -> str:
    """The two figures of metrics.json that matter, with what they were measured on."""
    low, high = metrics["test_accuracy_interval"]
    known = f", {metrics['num_test_repeated']} of them training images too" if "num_test_repeated" in metrics else ""
    return (
        f"validation accuracy {metrics['val_accuracy']:.4f} (n={metrics['num_validation']}), "
        f"test accuracy {metrics['test_accuracy']:.4f} (n={metrics['num_test']}{known}, 95 % interval {low:.4f} to "
        f"{high:.4f})"
    )
