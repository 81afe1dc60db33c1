"""The command line: one function a verb. It reads what was typed, calls the library, and shows what comes back."""

import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.errors import ClusterError, ClusterWarning
from results import place
from results.errors import RunError, RunWarning, StorageError
from search import errors
from search.interrupts import leave
from spaces import SpaceError
from trainables.errors import DataError, ExportError, ImageError, ModelError

# Every exception of every folder, and how the process ends for it. A test holds the table to be complete.
EXIT_CODES: dict[type[Exception], int] = {
    errors.StudyFailed: 1,
    ImageError: 1,
    ExportError: 1,
    StorageError: 1,
    errors.UsageError: 2,
    errors.StudyError: 2,
    SpaceError: 2,
    DataError: 2,
    ModelError: 2,
    RunError: 2,
    ClusterError: 2,
    errors.NoTrialSucceeded: 3,
    errors.TargetNotReached: 4,
    errors.NotReproduced: 5,
}
_SIGNALLED = 128

app = typer.Typer(
    name="digitsearch",
    help="Search hyperparameters on a laptop or a Ray cluster; never lose a trial.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


class Format(StrEnum):
    """How a reading verb prints."""

    table = "table"
    json = "json"
    csv = "csv"


class ModelFormat(StrEnum):
    """What a model is exported as."""

    onnx = "onnx"
    torch = "torch"


StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A study file, or a built-in study: quickstart, mnist, mnist-small, mnist-best."
    ),
]
ModelArgument = Annotated[Any, typer.Argument(metavar="RUN", help="A run directory, or a model folder.", parser=place)]
RunArgument = Annotated[
    Any,
    typer.Argument(
        metavar="RUN", help="A run directory, like runs/quickstart or s3://bucket/quickstart.", parser=place
    ),
]
RunOrJobArgument = Annotated[
    Any, typer.Argument(metavar="RUN", help="A run directory, or the id of a job.", parser=place)
]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the study; repeatable.")
]
HostOption = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT of a Ray cluster, auto for one that was started here; else RAY_ADDRESS, else this machine."
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `digitsearch jobs` lists it.")]
DashboardOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Address of the cluster's dashboard, like http://head:8265; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS.",
    ),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for a node on which a trial fits, if there is none yet.")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show what trials print, too, as they report.")]
TargetOption = Annotated[bool, typer.Option("--require-target", help="Exit with 4 if objective.target is not reached.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]
DirOption = Annotated[Path, typer.Option("--dir", help="Where prepared data sets lie.")]


def _show_version(is_asked: bool) -> None:
    from search.environment import installed_version

    if is_asked:
        typer.echo(f"digitsearch {installed_version('digitsearch') or '(a checkout that is not installed)'}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Take the options that are no verb's; see `app` for what is said of all."""


@app.command()
def data(
    dataset: Annotated[str, typer.Argument(help="A known data set, or a folder of idx files or of images by class.")],
    directory: DirOption = Path("data"),
    source: Annotated[
        Path | None, typer.Option("--from", help="Take the files from here instead of the network.")
    ] = None,
) -> None:
    """Get a data set ready and say what is in it."""
    from search.show import description
    from trainables import datasets

    datasets.prepare(dataset, directory, source)
    typer.echo(description(datasets.describe(dataset, directory)))


@app.command()
def init(
    path: Annotated[
        Path | None, typer.Argument(help="The file to write.  [default: study.yaml; with --workload, mine.py]")
    ] = None,
    workload: Annotated[
        bool, typer.Option("--workload", help="Write a training function that runs, with its study and its test.")
    ] = False,
) -> None:
    """Write a commented study file to start from, or a training function of your own."""
    from search import skeletons

    if workload:
        function, study, test = skeletons.write_workload(path or Path("mine.py"))
        typer.echo(f"wrote {function}, {study}, {test}; try `python -m pytest {test}`, then `digitsearch run {study}`")
        return
    path = path or Path("study.yaml")
    skeletons.write_study(path)
    typed = shlex.quote(str(path))
    typer.echo(f"wrote {path}; try `digitsearch validate {typed}`, then `digitsearch run {typed}`")


@app.command()
def validate(study: StudyArgument, set_: SetOption = []) -> None:  # noqa: B006 - typer copies it
    """Check a study file, and print it with every default written out."""
    from search import workloads
    from search.study import DataSection, load_study

    checked = load_study(study, set_)
    _hint(checked)
    workloads.check(checked)
    if isinstance(checked.data, DataSection):
        from trainables import datasets

        datasets.check_name(checked.data.dataset)
    typer.echo(checked.to_yaml(), nl=False)
    typer.echo(f"{study}: a valid study; `digitsearch run {shlex.quote(study)}` searches it", err=True)


@app.command()
def plan(
    study: StudyArgument,
    set_: SetOption = [],  # noqa: B006
    address: AddressOption = None,
    wait: WaitOption = False,
    probe: Annotated[bool, typer.Option(help="Train an epoch of three configurations, to tell how long.")] = False,
    format_: FormatOption = Format.table,
) -> None:
    """Show what a study would do, and where, and begin no run."""
    from search import show
    from search.plan import plan as look
    from search.study import load_study

    checked = load_study(study, set_)
    _hint(checked)
    found = look(checked, address=address, wait_for_nodes=wait, probes=probe)
    typer.echo(show.plan(checked, found, format_.value), nl=False)


@app.command()
def run(
    study: StudyArgument,
    set_: SetOption = [],  # noqa: B006
    address: AddressOption = None,
    wait: WaitOption = False,
    require_target: TargetOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Search, from a study to its winner."""
    from search.runs import run as run_study
    from search.study import load_study

    checked = load_study(study, set_)
    _hint(checked)
    _go_home_from_a_job()
    _search(
        lambda views: run_study(checked, address=address, wait_for_nodes=wait, views=views), require_target, verbose
    )


@app.command()
def resume(
    run_directory: RunArgument,
    set_: SetOption = [],  # noqa: B006
    address: AddressOption = None,
    wait: WaitOption = False,
    require_target: TargetOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Go on with a run that was interrupted, or grow one: --set budget.trials=120."""
    from search.runs import resume as resume_run

    _go_home_from_a_job()
    _search(
        lambda views: resume_run(run_directory, set_, address=address, wait_for_nodes=wait, views=views),
        require_target,
        verbose,
    )


@app.command()
def confirm(
    run_directory: RunArgument,
    top: Annotated[int, typer.Option(min=1, max=100, help="So many of the best configurations.")] = 3,
    seeds: Annotated[int, typer.Option(min=2, max=100, help="So many new seeds for each.")] = 5,
    address: AddressOption = None,
    wait: WaitOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train the best configurations of a finished run again with new seeds, and let the best mean win."""
    from search.runs import confirm as confirm_run

    _go_home_from_a_job()
    _search(
        lambda views: confirm_run(run_directory, top, seeds, address=address, wait_for_nodes=wait, views=views),
        False,
        verbose,
    )


@app.command()
def trials(
    run_directory: RunArgument,
    top: Annotated[int | None, typer.Option(min=1, help="So many of those that may win, the best first.")] = None,
    format_: FormatOption = Format.table,
) -> None:
    """List the trials of a run."""
    from results import open_run
    from search import show

    typer.echo(show.trials(open_run(run_directory), format_.value, top), nl=False)


@app.command()
def best(run_directory: RunArgument, format_: FormatOption = Format.table) -> None:
    """Show the best trial of a run, and the winner's figures once there is one."""
    from results import open_run
    from search import show

    found = show.best(open_run(run_directory), run_directory, format_.value)
    if found is None:
        raise errors.NoTrialSucceeded(f"{run_directory}: no trial has had the whole budget of epochs yet")
    typer.echo(found, nl=False)


@app.command()
def status(
    run_directory: RunOrJobArgument, format_: FormatOption = Format.table, address: DashboardOption = None
) -> None:
    """Say how far a run has come, or a job on a cluster."""
    from cluster import jobs
    from results import open_run
    from search import show

    if _is_job(run_directory, address):
        typer.echo(show.job(jobs.jobs_at(address), str(run_directory), format_.value), nl=False)
        return
    typer.echo(show.status(open_run(run_directory), run_directory, format_.value), nl=False)


@app.command()
def report(run_directory: RunArgument) -> None:
    """Write report.html, one page that opens anywhere, and figures/ into a run directory."""
    from results.report import write_report

    written = write_report(run_directory)
    typer.echo(f"page:    {written.page}")
    typer.echo(f"figures: {written.figures} ({len(written.names)} pictures)")


@app.command()
def watch(run_directory: RunOrJobArgument, address: DashboardOption = None, verbose: VerboseOption = False) -> None:
    """Follow a run, or a cluster's job, until it is over: exit 0 with a winner, 3 without, 1 if it broke off."""
    from cluster import jobs
    from results.follow import Follower
    from search import show
    from search.progress import Progress, console, so_far_line
    from search.runs import outcome_of

    if _is_job(run_directory, address):
        _followed(jobs.jobs_at(address), str(run_directory))
        return
    follower = Follower(run_directory)
    screen = console()
    if not follower.is_over():
        if follower.is_driven() is None:
            typer.echo(f"{run_directory}: its driver is on another machine, and can't be seen from here", err=True)
        screen.print(so_far_line(follower.run))
    with Progress(screen, follower.run, verbose=verbose) as progress:
        for event in follower.until_over():
            progress(follower.run, event)
    outcome = outcome_of(follower.run, run_directory)
    typer.echo(show.outcome(outcome))
    if outcome.run.winner is None:
        raise typer.Exit(1)


@app.command()
def dashboard(
    run_directory: RunArgument,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8080,
) -> None:
    """Show a run in optuna-dashboard, live, until Ctrl-C; nothing can be changed there."""
    from search.dashboard import dashboard as dashboard_of

    with dashboard_of(run_directory, host, port) as server:
        typer.echo(f"{run_directory}: {server.url}\nCtrl-C ends these pages, and no search")
        server.serve_forever()


@app.command()
def rerun(
    run_directory: RunArgument,
    trial: Annotated[int, typer.Option(min=0, help="The trial's number.")],
    format_: FormatOption = Format.table,
) -> None:
    """Train a trial again, here, and compare its metrics with what was recorded: exit 0 if they are the same."""
    from search import rerun as again
    from search import show

    found = again.rerun(run_directory, trial, lambda epoch: typer.echo(f"epoch {epoch}", err=True))
    typer.echo(show.rerun(found, format_.value), nl=False)
    found.check()


@app.command()
def train(
    dataset: Annotated[str, typer.Option("--data", help="A known or prepared data set.")] = "optdigits",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training images.  [default: 1 for mnist, 20 for few images]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides all that is random.")] = 0,
    set_: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; repeatable.")] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="The model folder to write.  [default: models/DATA]")] = None,
    directory: DirOption = Path("data"),
    validation: Annotated[float, typer.Option(help="Validation images: a number, or a share below 1.")] = 0.15,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.  [default: OMP_NUM_THREADS, else all cores]")
    ] = None,
) -> None:
    """Train one model without a search."""
    from search import show, single
    from search.progress import console
    from search.study import Study
    from search.workloads import prepare

    shown = console()
    prepare(dataset, directory, is_new=True)
    epochs = epochs or single.usual_epochs(dataset, directory)
    section = {
        "dataset": dataset,
        "dir": str(directory),
        "validation": int(validation) if validation.is_integer() else validation,
    }
    mapping = {"data": section, "sampler": {"seed": seed}, "early_stop": {"name": "none", "max_epochs": epochs}}
    study = Study.from_mapping(mapping, source="train")
    out = out or Path("models") / Path(dataset).name
    metrics = single.train(
        out,
        study,
        single.configuration(set_),
        num_threads=threads,
        on_epoch=lambda epoch, reported: shown.print(show.epoch_line(epoch, epochs, reported)),
    )
    shown.print(show.trained(out, metrics))


@app.command()
def predict(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures, folders of them, or idx files.")],
    format_: FormatOption = Format.table,
    out: Annotated[Path | None, typer.Option(help="Write a Parquet table here too.")] = None,
) -> None:
    """Read digits from pictures."""
    from search import reading

    table = reading.read_digits(model, images)
    if out is not None:
        reading.write_table(table, out)
    typer.echo(reading.printed(table, format_.value), nl=False)
    for name, error in table.unreadable:
        typer.echo(f"{name}: {error}", err=True)
    if table.unreadable:
        raise typer.Exit(1)


@app.command()
def export(
    model: ModelArgument,
    format_: Annotated[ModelFormat, typer.Option("--format", help="Of the file.")] = ModelFormat.onnx,
    out: Annotated[
        Path | None, typer.Option(help="The file to write.  [default: the run's name with .onnx or .pt2, here]")
    ] = None,
) -> None:
    """Write the winner as one file that runs without this project."""
    from search import show
    from search.export import export as export_model

    typer.echo(show.exported(export_model(model, format_.value, out)), nl=False)


@app.command()
def serve(
    model: ModelArgument,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8000,
    ray: Annotated[bool, typer.Option("--ray", help="Serve on a Ray cluster, by Ray Serve.")] = False,
    address: AddressOption = None,
    replicas: Annotated[int, typer.Option(min=1, help="With --ray: how many processes answer, each on a core.")] = 1,
) -> None:
    """Serve the winner: a page to draw digits on, and POST /predict, until Ctrl-C."""
    from search import serve as server
    from search import show

    if not ray and (address or replicas > 1):
        raise errors.UsageError("--address and --replicas are for --ray; add it, or leave them out")
    serving = server.serving_on_ray(model, host, port, address, replicas) if ray else server.serving(model, host, port)
    with serving as started:
        typer.echo(show.serving(started))
        started.run()


@app.command()
def submit(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="As for `run`; with --resume, a run directory there.")],
    set_: SetOption = [],  # noqa: B006
    address: DashboardOption = None,
    resume_: Annotated[bool, typer.Option("--resume", help="Go on with a run that lies on the cluster.")] = False,
    wait: WaitOption = False,
    follow: Annotated[bool, typer.Option("--follow", help="Show what it prints, and end as it ends.")] = False,
) -> None:
    """Send this folder to a Ray cluster, and have a study searched there."""
    from cluster import jobs
    from search import show, submission

    options = ["--wait"] if wait else []
    sent = submission.resumed(study, set_, options) if resume_ else submission.begun(study, set_, options)
    there = jobs.jobs_at(address)
    job_id = submission.send(there, sent)
    typer.echo(show.submitted(job_id, sent.run_directory, address))
    if follow:
        _followed(there, job_id)


@app.command("jobs")
def jobs_(address: DashboardOption = None, format_: FormatOption = Format.table) -> None:
    """List a cluster's jobs."""
    from cluster import jobs
    from search import show

    typer.echo(show.jobs(jobs.jobs_at(address).all(), format_.value), nl=False)


@app.command()
def logs(
    run_directory: RunOrJobArgument,
    trial: Annotated[int | None, typer.Option(min=0, help="The number of a run's trial; else all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run, or the job, is over.")] = False,
    address: DashboardOption = None,
) -> None:
    """Show what the trials of a run have printed, or a job on a cluster."""
    from cluster import jobs

    if _is_run(run_directory):
        _print_logs(run_directory, trial, follow)
        return
    if trial is not None:
        raise errors.UsageError(f"--trial must come with a run directory, and {str(run_directory)!r} is none")
    there = jobs.jobs_at(address)
    if follow:
        _followed(there, str(run_directory))
    else:
        typer.echo(there.logs(str(run_directory)), nl=False)


def _print_logs(run_directory: Any, number: int | None, follow: bool) -> None:
    from results.follow import Follower
    from search.printed import Printed

    printed, num_lines = Printed(number), 0

    def show(event: dict[str, Any]) -> None:
        nonlocal num_lines
        for line in printed.lines(event):
            num_lines += 1
            typer.echo(line)

    follower = Follower(run_directory, show)
    if number is not None and number not in follower.run.trials:
        there = f"0 to {max(follower.run.trials)}" if follower.run.trials else "there are none yet"
        raise errors.UsageError(f"--trial: must be the number of a trial of the run ({there}), got {number}")
    for event in follower.until_over() if follow else ():
        show(event)
    if not num_lines:
        who = "no trial" if number is None else f"trial {number}"
        typer.echo(f"{run_directory}: {who} has printed {'anything' if number is None else 'nothing'}", err=True)


@app.command()
def stop(job: JobArgument, address: DashboardOption = None) -> None:
    """Have a job end in good order; its run can be resumed."""
    from cluster import jobs
    from search import show

    there = jobs.jobs_at(address)
    before, after = there.get(job), there.stop(job)
    typer.echo(show.stopped(before, after, address))
    if not after.ended:
        raise typer.Exit(1)


@app.command()
def doctor(
    output: Annotated[Any, typer.Option(metavar="PLACE", help="Where runs are to lie.", parser=place)] = "runs",
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster, host:port of its head or http://head:8265; "
            "else RAY_ADDRESS, RAY_API_SERVER_ADDRESS."
        ),
    ] = None,
    format_: FormatOption = Format.table,
) -> None:
    """Look at what a search stands on; say what to do.

    Exits with 1 if something there would stop a search. Looked at are versions and whether they fit, memory and limits,
    GPUs, Ray clusters and their token, and the output and its clock. Nothing is started or changed, but for a small
    file that is written at the output and deleted again.
    """
    from search import show
    from search.doctor import State, examine

    found = examine(output, address, os.environ)
    typer.echo(show.findings(found, format_.value), nl=False)
    counts = {state: sum(finding.state is state for finding in found) for state in State}
    typer.echo(", ".join(f"{state.value}: {count}" for state, count in counts.items()), err=True)
    if counts[State.fault]:
        raise typer.Exit(1)


def _followed(there: Any, job_id: str) -> None:
    """Show what a job prints until it ends, and end with its exit code."""
    job = there.follow(job_id, lambda text: typer.echo(text, nl=False))
    if job.status != "SUCCEEDED":
        typer.echo(f"{job.id}: {job.status}: {job.said}", err=True)
        raise typer.Exit(job.exit_code or 1)


def _go_home_from_a_job() -> None:
    """A job's folder is deleted when the job is over, or replaced: what is relative lies in the home folder instead."""
    from cluster import jobs

    if jobs.inside_a_job():
        os.chdir(Path.home())
        typer.echo(f"a job's folder does not stay: relative folders are those of {Path.home()}", err=True)


def _is_run(typed: Any) -> bool:
    """Whether what was typed for a run or a job can be meant as a run: a job's id is one word that names no folder."""
    return not isinstance(typed, Path) or len(typed.parts) > 1 or typed.exists()


def _is_job(typed: Any, address: str | None) -> bool:
    """Whether what was typed for a run is meant as the id of a job, where a run is the rule."""
    from cluster import jobs

    return not _is_run(typed) and bool(address or jobs.named_address())


def _hint(study: Any) -> None:
    from search.hints import hints

    for hint in hints(study):
        typer.echo(f"hint: {hint}", err=True)


def _search(search: Callable[[list[Any]], Any], require_target: bool, verbose: bool) -> None:
    from search import show
    from search.progress import Progress, console

    with Progress(console(), verbose=verbose) as progress:
        outcome = search([progress])
    typer.echo(show.outcome(outcome))
    if outcome.signal:
        raise typer.Exit(_SIGNALLED + outcome.signal)
    objective = outcome.run.study["objective"]
    target = None if outcome.run.objectives.are_several else objective["target"]
    if require_target and target is not None and not outcome.run.reaches(target):
        raise errors.TargetNotReached(f"{outcome.run.metric} must reach {target:g}; the winner has it not")


def main() -> None:
    """Run the command line; a user's mistake is one message on standard error and an exit code."""
    warnings.showwarning = _show_warning
    # Threads of OpenMP that wait for each other spin, by GNU's default for milliseconds: on a machine that is busy
    # besides, training on two threads took thirty times as long. So few turns it takes itself where it knows of that.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if not os.path.isabs(os.path.expanduser("~")):  # a user that is a number, whom Ray Tune is not imported for
        os.environ["HOME"] = "/"
    signal.signal(signal.SIGTERM, leave)
    try:
        app()
    except tuple(EXIT_CODES) as err:
        code = next(code for kind, code in EXIT_CODES.items() if isinstance(err, kind))
        typer.echo(f"error: {err}", err=True)
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(_SIGNALLED + signal.SIGINT)
    except SystemExit as err:
        # While Ray starts its own handler is in place, which exits with the bare number of the signal.
        sys.exit(_SIGNALLED + signal.SIGTERM if err.code == signal.SIGTERM else err.code)
    except OSError as err:
        typer.echo(f"error: {err}", err=True)
        sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, RunWarning | ClusterWarning):  # our own; those of libraries are for developers
        with suppress(OSError):  # a terminal that is closed
            typer.echo(f"warning: {message}", err=True)
