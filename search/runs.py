"""Run a study, or go on with one: from a study to a finished run directory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import Event, EventLog, Place, Run, RunError, Storage, View, open_run, place
from search.confirm import Confirmation, confirmation, confirmed
from search.errors import NoTrialSucceeded, StudyFailed, UsageError
from search.interrupts import Interrupts
from search.references import to_resume
from search.run_directory import check_new, check_unedited, create, named, open_log, take_up, working_copy
from search.study import DataSection, Study, check_may_change, load_study, overridden
from search.suggest import samplers, warm_start

if TYPE_CHECKING:
    import pandas as pd

# A data set that isn't there is told of before Ray is started.
_AT_ONCE_S = 0.2
# Imports Ray and Tune, and so not before it has been said how Ray is to listen.
_FOR_TRIALS = ("search.dispatch", "search.checkpoints", "search.metrics", "search.winner")
# How a run has ended whose search has not.
_GOES_ON = (None, "user", "error")


@dataclass(frozen=True, repr=False)
class Outcome:
    """How a session of a search ended. Shown, it says what was found, and where it lies.

    Args:
        run: As its log tells it.
        run_directory: Where all of it lies.
        reason: trials, target, plateau, wall, failures or user.
        signal: The signal that ended it, or None.
    """

    run: Run
    run_directory: Place
    reason: str
    signal: int | None = None

    def __repr__(self) -> str:
        from search.show import found

        return found(self)

    @property
    def trials(self) -> "pd.DataFrame":
        """A row a trial: what `trials.parquet` holds."""
        from results.tables import trials_table

        frame: pd.DataFrame = trials_table(self.run).to_pandas()
        return frame

    @property
    def epochs(self) -> "pd.DataFrame":
        """A row a report: what `epochs.parquet` holds."""
        from results.tables import epochs_table

        frame: pd.DataFrame = epochs_table(self.run).to_pandas()
        return frame


def outcome_of(run: Run, run_directory: Place) -> Outcome:
    """How the last session of a run ended, once nobody drives it any more.

    Raises:
        NoTrialSucceeded: Without a winner.
        StudyFailed: It broke off midway.
    """
    if run.winner or run.ended == "user":
        return Outcome(run, run_directory, run.ended or "trials")
    if run.ended not in (None, "error") and not run.ranking():
        from search.winner import why_none

        raise NoTrialSucceeded(why_none(run))
    num_ended = sum(trial.ended for trial in run.trials.values())
    raise StudyFailed(
        f"{run.study['name']}: its driver is gone and has chosen no winner; {num_ended} of "
        f"{run.study['budget']['trials']} trials had ended, nothing that was reported is lost: go on with "
        f"{to_resume(run_directory, run.study['workload'])}"
    )


def run(
    study: Study | Mapping[str, Any] | str,
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
    views: Sequence[View] | None = None,
) -> Outcome:
    """Search, from the beginning to the winner.

    Args:
        study: What to search: the values of a study, as `Study.from_mapping` takes them, or the name of a built-in one,
            or the path of a file; or one that has been made of these.
        address: Of a Ray cluster; without one, RAY_ADDRESS, else a private cluster on this machine.
        wait_for_nodes: Whether a node on which a trial fits may join later; else there must be one at the beginning.
        views: Each is called with the run and each new event. Without them the search is shown on standard error, as
            the command line shows it, or in the notebook's cell; with `()` it goes on in silence.

    Raises:
        UsageError: The run directory exists already or can't be made.
        StudyError: The workload, its data or its space can't be imported, or fail; or its data can't be shared; or
            what `sampler.warm_start` names is no run of the same search.
        DataError: The data set is not there.
        ClusterError: There is no cluster, or it lacks what a trial asks for.
        NoTrialSucceeded: The search ended without a winner.
        StudyFailed: The search broke off midway.
    """
    if isinstance(study, str | Path):
        study = load_study(str(study))
    study = named(study if isinstance(study, Study) else Study.from_mapping(study))
    where = study.run_directory
    with _explained(where, study.workload), working_copy(where) as directory, _shown(views) as watching:
        check_new(study)
        begin = partial(create, study, directory, warm_start=warm_start.taken(study))
        return _session(study, where, directory, begin, address, wait_for_nodes, watching, is_new=True)


def resume(
    run_directory: str | Place,
    overrides: Sequence[str] | str = (),
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
    views: Sequence[View] | None = None,
) -> Outcome:
    """Go on with a run that was interrupted, or that is to be grown. Trials that have ended are not run again.

    Args:
        run_directory: Of an earlier `run`, moved or not, also on another machine.
        overrides: `budget.trials=120` and the like, or one of them.
        address: As for `run`.
        wait_for_nodes: As for `run`.
        views: As for `run`.

    Raises:
        RunError: It is no run directory, or its log is damaged.
        The same as `run`.
    """
    where = place(run_directory) if isinstance(run_directory, str) else run_directory
    overrides = [overrides] if isinstance(overrides, str) else overrides
    begun = open_run(where)  # says what is wrong with it before anything is written there
    check_may_change(overrides)
    with (
        _explained(where, begun.study["workload"]),
        working_copy(where) as directory,
        closing(open_log(where, directory)) as log,
        _shown(views) as watching,
    ):
        past = open_run(directory)  # as it is now that nobody else can write
        mapping = _with_space_of_today(past.study, overridden(past.study, overrides))
        study = Study.from_mapping(mapping, source=str(where), overrides=overrides)
        check_unedited(study, where, directory, past)
        before = Study.from_mapping(past.study)
        grown = any(
            getattr(before, name) != getattr(study, name) for name in ("budget", "objective", "space", "confirm")
        )
        if past.winner and not grown:
            return Outcome(past, where, past.ended or "trials")
        begin = partial(take_up, study, directory, log=log, past=past)
        return _session(study, where, directory, begin, address, wait_for_nodes, watching, sha256=past.data_sha256)


def confirm(
    run_directory: str | Place,
    top: int,
    seeds: int,
    *,
    address: str | None = None,
    wait_for_nodes: bool = False,
    views: Sequence[View] | None = None,
) -> Outcome:
    """Train the best configurations of a run that has come to its end again with new seeds, and choose the winner anew.

    Args:
        run_directory: Of an earlier `run`.
        top: So many of the best configurations.
        seeds: So many new seeds for each.
        address: As for `run`.
        wait_for_nodes: As for `run`.
        views: As for `run`.

    Raises:
        UsageError: The search has not come to its end.
        The same as `resume`.
    """
    past = open_run(place(run_directory) if isinstance(run_directory, str) else run_directory)
    if past.ended in _GOES_ON:
        raise UsageError(
            f"the search of {str(run_directory)!r} must have come to its end, got {past.ended or 'none yet'}; first "
            f"{to_resume(run_directory, past.study['workload'])}"
        )
    overrides = [f"confirm.top={top}", f"confirm.seeds={seeds}"]
    return resume(run_directory, overrides, address=address, wait_for_nodes=wait_for_nodes, views=views)


def _with_space_of_today(before: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A space that a module holds is what the module says now, as its function is; unless another one was typed."""
    if changed["space"] != before["space"]:
        return {**changed, "space_from": None}
    return {**changed, "space": changed.get("space_from") or changed["space"]}


def _session(
    study: Study,
    place: Place,
    directory: Path,
    begin: Callable[[str | None], tuple[EventLog, Run, Event]],
    address: str | None,
    wait_for_nodes: bool,
    views: Sequence[View],
    *,
    is_new: bool = False,
    sha256: str | None = None,
    is_crowned: bool = True,
) -> Outcome:
    """One session of a run, from where `begin` takes it to the winner; or to the end of the search.

    `begin` is given the data's digest.
    """
    from cluster.connect import check_answers, connected, meant, settle_environment
    from search import workloads

    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        workloads.check(study)
        samplers.check_installed(study.sampler)
        settle_environment(address)
        check_answers(meant(address))  # before data is loaded for nothing
        # What may take minutes is broken off by a signal here. And others' code that calculates with OpenBLAS would
        # wait for ever if this process forked beside it, as it does to start Ray.
        load = workloads.prepared(study, sha256, is_new=is_new)
        interrupts.heed()
        # Ray takes seconds to start, most of them waiting.
        loading = stack.enter_context(ThreadPoolExecutor(1)).submit(load)

        # An exit out of Ray's import, or start, may leave a lock that whoever loads data beside it then waits for; a
        # cluster half started may take this process along, or keep it. One to be joined may take its time.
        interrupts.request_with(lambda: None)

        def go_on() -> None:
            interrupts.heed()
            if meant(address) != "local":
                interrupts.request_with(None)
            if wait([loading], timeout=_AT_ONCE_S).done:
                loading.result()

        cluster = stack.enter_context(
            connected(
                address,
                go_on,
                meanwhile=_FOR_TRIALS,
                preload=workloads.to_preload(study),
                num_threads=study.resources.cpu,
            )
        )
        interrupts.request_with(None)
        interrupts.heed()
        data = loading.result()
        from search.checkpoints import checkpoints_of
        from search.classifier import Writer
        from search.dispatch import dispatch, num_slots_of, share
        from search.engine import Engine
        from search.fingerprint import fingerprint
        from search.metrics import Metrics
        from search.trial.terms import Terms
        from search.winner import Write, crown, crown_confirmed, write_as_saved

        num_slots = num_slots_of(study.resources, wait=wait_for_nodes)
        shared = share(data, study)
        foresee = workloads.foresight(study, data)
        interrupts.heed()
        log, so_far, first = begin(fingerprint(data))
        stack.callback(log.close)
        # Not before the last of it has been brought to where it is to lie.
        stack.callback(interrupts.request_with, lambda: None)
        checkpoints = checkpoints_of(place if isinstance(place, Storage) else directory, log.later)
        watching: list[View] = [*views]
        write: Write = partial(write_as_saved, study.workload)
        if cluster.is_joined:
            watching.append(stack.enter_context(Metrics(so_far, "gpu" if study.resources.gpu else "cpu")))
        if is_crowned and study.workload == "digits" and isinstance(study.data, DataSection):
            write = writer = stack.enter_context(Writer(study.data, data.sha256, study.budget.trials, cluster.python))
            watching.append(writer.view)
        engine = Engine(study, directory, checkpoints, log, so_far, watching, num_slots, foresee)
        engine.show(first)
        try:
            interrupts.request_with(engine.request_stop)
            dispatch(engine, Terms.of(study, place), shared, study.resources)
        # Not what a third signal raises: it may have come between an event and what follows from it.
        except Exception:
            with suppress(OSError, RunError):
                engine.finish("error")
            raise
        reason = engine.reason_to_end() or "trials"
        if reason != "user":  # else it is ending: a second wish to stop changes nothing
            interrupts.request_with(None)
        sent = interrupts.caught[0] if interrupts.caught else None
        if not is_crowned or reason == "user":
            engine.finish(reason)
            return Outcome(engine.run, place, reason, sent)
        inside, results = None, []
        try:
            if planned := confirmation(study, engine.run, place):
                engine.record("confirming", run=planned.study.name, numbers=planned.numbers)
                inside = _trained_again(planned, address, wait_for_nodes, views, engine.run.data_sha256)
                if inside.reason == "user":
                    engine.finish("user")
                    return Outcome(engine.run, place, "user", inside.signal)
                results = confirmed(inside.run, planned.numbers)
                engine.record("confirmed", results=[one.facts for one in results])
        except Exception:
            with suppress(OSError, RunError):
                engine.finish("error")
            raise
        engine.finish(reason)
        if inside:
            theirs = checkpoints_of(inside.run_directory, log.later)
            winner = crown_confirmed(directory, inside.run, theirs, results[0], write)
        else:
            winner = crown(directory, checkpoints, engine.run, write)
        engine.record("winner_chosen", **winner)
        return Outcome(engine.run, place, reason, sent)


def _trained_again(
    planned: Confirmation, address: str | None, wait_for_nodes: bool, views: Sequence[View], sha256: str | None
) -> Outcome:
    """Run what confirms a search, or go on with it, up to its end; nothing is made of its best."""
    study, place = planned.study, planned.study.run_directory
    with working_copy(place) as directory, ExitStack() as stack:
        if planned.is_there:
            log = stack.enter_context(closing(open_log(place, directory)))
            past = open_run(directory)
            if past.ended not in _GOES_ON:
                return Outcome(past, place, past.ended)
            begin = partial(take_up, study, directory, log=log, past=past)
        else:
            begin = partial(create, study, directory)
        return _session(study, place, directory, begin, address, wait_for_nodes, views, sha256=sha256, is_crowned=False)


@contextmanager
def _shown(views: Sequence[View] | None) -> Iterator[Sequence[View]]:
    if views is not None:
        yield views
        return
    from search.progress import Progress, console

    with Progress(console(stderr=True)) as progress:
        yield [progress]


@contextmanager
def _explained(run: Place, workload: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise StudyFailed(
            f"{str(run)!r} and the folder for temporary files must stay readable and writable, got: {err}; what was "
            f"reported before is kept: put that right, then {to_resume(run, workload)}"
        ) from err
