"""One trial on several workers: Ray Train starts them, and the first one's reports come to the trial's slot.

All workers run the workload's function, each with its `trial.rank`. At a report the first one waits until the slot has
taken it, and tells the others whether the trial goes on: so rungs, checkpoints and ends are what they are with one.
"""

import asyncio
import math
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.reaper import share_fate
from search.deaths import Deaths, not_imported
from search.trial import libraries, trial_log
from search.trial.clean_slate import CleanSlate
from search.trial.contract import called, plain_numbers
from search.trial.failures import Failed, disk, failure_of, save_in
from search.trial.session import Unwind
from search.trial.shared_data import SharedData
from search.trial.terms import Terms
from trainables import Save, Train, Trial

_PAUSE_S = 0.02  # between two looks for the next trial
_LOOK_EVERY_S = 0.5  # whether the workers are still there
_PATIENCE_S = 20.0  # with what should end by itself; Ray Train takes some seconds
_FAREWELL_S = 3.0  # with workers that have been told that there is nothing left to train


class _Mailbox:
    """What a slot and its crew say to each other. The first worker waits for an answer to each of its reports."""

    def __init__(self) -> None:
        self._assignments: list[dict[str, Any] | None] = []
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[str] = asyncio.Queue()

    async def assign(self, assignment: dict[str, Any] | None) -> None:
        if self._assignments:
            self._assignments[-1] = {}  # all workers have it; it may be large
        self._assignments.append(assignment)

    async def assignment(self, index: int) -> dict[str, Any] | None:
        while len(self._assignments) <= index:
            await asyncio.sleep(_PAUSE_S)
        return self._assignments[index]

    async def say(self, what: dict[str, Any]) -> str:
        await self._said.put(what)
        return await self._answers.get()

    async def tell(self, what: dict[str, Any]) -> None:
        await self._said.put(what)

    async def hear(self) -> dict[str, Any]:
        return await self._said.get()

    async def answer(self, answer: str) -> None:
        await self._answers.put(answer)


class DataParallel:
    """A training function for a slot's session: has a workload's own function run by a crew of workers.

    The crew stays for the slot's next trial, as a slot stays: Ray Train takes seconds to start one.

    Args:
        terms: What the study says.
        data: What each worker finds in `trial.data`.
    """

    def __init__(self, terms: Terms, data: SharedData) -> None:
        self._terms = terms
        self._data = data
        self._crew: _Crew | None = None
        self.has_written_data = False  # whether a worker wrote to what all trials share
        self.node = ray.util.get_node_ip_address()  # where the first worker trained last

    @property
    def is_gathered(self) -> bool:
        """Whether there are workers, which have trained before."""
        return self._crew is not None

    def gather(self) -> None:
        """Have the workers ready for a trial, which may take as long as the cluster has no room for them.

        Raises:
            Failed: They could not begin.
        """
        if self._crew is None:
            self._crew = _Crew(self._terms, self._data)
            try:
                self._crew.gather()
            except BaseException:
                self.close()
                raise

    def __call__(self, config: Mapping[str, Any], trial: Trial) -> None:
        """Train as the workload's function would.

        Raises:
            Failed: A worker's function failed; with `died` among its facts, a worker did.
        """
        crew = self._crew
        assert crew is not None, "the workers are gathered first"
        goes_on = False
        try:
            for node in crew.train(config, trial):
                self.node = node
            goes_on = crew.is_as_it_began
        except BaseException:
            # What a worker waits for now is an answer, or it is gone.
            goes_on = crew.breaks_off()
            raise
        finally:
            self.has_written_data = crew.has_written_data
            if not goes_on:
                self.close()

    def close(self) -> None:
        """Let the workers go, in good order."""
        crew, self._crew = self._crew, None
        if crew:
            crew.dismiss()

    def end_at_once(self) -> None:
        """End the workers, whatever they do; their places in the cluster are free then."""
        if self._crew:
            self._crew.end_at_once()


class _Crew:
    """The workers of one slot, as Ray Train has started them."""

    def __init__(self, terms: Terms, data: SharedData) -> None:
        self.is_as_it_began = True
        self.has_written_data = False
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(_Mailbox).remote()
        self._folder = tempfile.mkdtemp(prefix="digitsearch-train-", dir=terms.making)
        self._num_workers = terms.num_workers
        self._workers: list[Any] = []
        self._nodes: set[str] = set()
        self._deaths = Deaths()
        self._answer_is_awaited = False
        self._collateral: dict[str, Any] | None = None  # a failure that may follow from another worker's death
        trainer = TorchTrainer(
            _work,
            train_loop_config={"terms": terms, "data": data, "mailbox": self._mailbox},
            scaling_config=ScalingConfig(
                num_workers=terms.num_workers,
                use_gpu=terms.gpu > 0,
                resources_per_worker=dict(terms.resources_per_worker),
            ),
            # What Ray Train would record or try again is the search's to record and to try again.
            run_config=RunConfig(name="train", storage_path=self._folder, failure_config=FailureConfig(max_failures=0)),
        )
        self._fitting: Future[Any] = Future()
        threading.Thread(target=self._fit, args=(trainer,), name="ray-train", daemon=True).start()

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            self._fitting.set_result(trainer.fit())
        except BaseException as err:
            self._fitting.set_exception(err)

    def gather(self) -> None:
        """Wait until all workers are there."""
        while len(self._workers) < self._num_workers:
            said = self._hear()
            self._workers.append(said["ready"])
            self._nodes.add(said["node"])

    def train(self, config: Mapping[str, Any], trial: Trial) -> Iterator[str]:
        """Have the workers train, and hand the first one's reports on; its node, before each of them."""
        assignment = {
            "config": dict(config),
            "seed": trial.seed,
            "epoch": trial.epoch,
            "checkpoint": _files_in(trial.checkpoint) if trial.checkpoint else None,
        }
        self._mailbox.assign.remote(assignment)
        while "ended" not in (said := self._hear()):
            yield said["node"]
            save = self._fetch if said["can_save"] else None
            # The session's own report takes the time too: a message's way is no part of an epoch.
            trial.report(said["metrics"], save, epoch_s=said["epoch_s"])  # type: ignore[call-arg]
            self._answer("go on")
        self.is_as_it_began = said["ended"] == "as it began"

    def breaks_off(self) -> bool:
        """End the trial, whose session has raised something; whether the workers can train another one."""
        if not self._answer_is_awaited:
            return False
        self._answer("stop")
        try:
            said = self._hear(time.monotonic() + _PATIENCE_S)
        except Failed:
            return False
        return said.get("ended") == "as it began"

    def dismiss(self) -> None:
        """End the workers: at once, unless they wait for a trial."""
        self._mailbox.assign.remote(None)
        wait_for([self._fitting], timeout=_FAREWELL_S)
        self.end_at_once()

    def end_at_once(self) -> None:
        """End the workers. Ray keeps what a crew held until its controller lets go: that is waited for."""
        if not self._fitting.done():
            for worker in [*self._workers, self._mailbox]:
                ray.kill(worker)
        wait_for([self._fitting], timeout=_PATIENCE_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self, answer: str) -> None:
        self._answer_is_awaited = False
        self._mailbox.answer.remote(answer)

    def _hear(self, deadline: float = math.inf) -> dict[str, Any]:
        """What the workers say next.

        Raises:
            Failed: One has failed, has died, or they say nothing until the deadline.
        """
        reference = self._mailbox.hear.remote()
        while True:
            over = self._fitting.done() or time.monotonic() >= deadline
            try:
                ready, _ = ray.wait([reference], timeout=_LOOK_EVERY_S)
                if ready:
                    break
            except RayError as err:
                raise Failed(self._death(err)) from err
            if over:
                raise Failed(self._why_over())
        try:
            said = dict(ray.get(reference))
        except RayError as err:  # the mailbox's own process
            raise Failed(self._death(err)) from err
        if said.get("collateral"):
            self._collateral = self._collateral or said["failure"]  # what others say follows from the first
            return self._hear(min(deadline, time.monotonic() + _PATIENCE_S))
        if said.get("printed"):
            sys.stdout.write(f"{said['printed']}\n")  # as if one process trained
        if "failure" in said:
            self.has_written_data |= said["failure"]["kind"] == "data"
            raise Failed(said["failure"])
        self._answer_is_awaited = "metrics" in said or "files" in said
        return said

    def _fetch(self, folder: Path) -> None:
        """Have the first worker write a checkpoint, and put its files into the folder."""
        self._answer("save")
        _write_files(self._hear()["files"], folder)

    def _why_over(self) -> dict[str, Any]:
        err = self._fitting.exception() if self._fitting.done() else None
        failures = list(err.worker_failures.values()) if isinstance(err, WorkerGroupError) else [err]
        # Ray Train wraps what it found when it asked after a worker's health.
        causes = [getattr(failure, "health_check_failure", failure) for failure in failures]
        deaths = [cause for cause in causes if isinstance(cause, RayError) and not isinstance(cause, RayTaskError)]
        deaths = [cause for cause in causes if not_imported(cause)] or deaths
        if not deaths and self._collateral:
            return self._collateral
        return self._death(next(iter(deaths), None))

    def _death(self, err: BaseException | None) -> dict[str, Any]:
        kind, message = self._deaths.cause(err)
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if self._nodes - alive:
            kind, message = "node_lost", "the node of one of its workers died or can't be reached"
        message = message.replace("the process that", "one of the processes that")
        return {"kind": kind, "message": message, "errno": None, "died": True}


def _work(crew: dict[str, Any]) -> None:
    """One worker: trains one trial after another with the others, until there is none left."""
    terms, mailbox = replace(crew["terms"], making=share_fate()), crew["mailbox"]
    libraries.settle(terms.num_threads, terms.gpu)
    rank = ray.train.get_context().get_world_rank()
    train, shared = terms.train, crew["data"]
    shared.load()
    slate, index = CleanSlate(terms.num_threads), 0
    # What takes seconds the first time is no trial's: the first message between the workers, what a wipe imports.
    _any(False, terms)
    slate.wipe(0)
    me = ray.get_runtime_context()
    ray.get(mailbox.tell.remote({"ready": me.current_actor, "node": me.get_node_id()}))
    while (assignment := ray.get(mailbox.assignment.remote(index))) is not None:
        with _Printed(slate, terms.making) as printed:
            threads = set(threading.enumerate())
            data = shared.for_trial()
            slate.wipe(assignment["seed"])
            try:
                _train(train, data, terms, _Reports(mailbox, rank, terms, printed), assignment)
                del data
                shared.check()
                spoilt = _any(slate.leftovers(threads) is not None, terms)
            except BaseException as err:
                with suppress(Exception):
                    traceback.print_exc()
                # That another worker can't be reached follows from that one's death: the slot waits to hear of it.
                what = {"failure": failure_of(err), "collateral": _may_follow_from_another(err)}
                what["printed"] = printed(is_last=True)
                with suppress(RayError):
                    ray.get(mailbox.tell.remote(what))
                raise
            if rank == 0:
                ended = "spoilt" if spoilt else "as it began"
                ray.get(mailbox.tell.remote({"ended": ended, "printed": printed(is_last=True)}))
        if spoilt:
            return
        index += 1


class _Printed:
    """What a worker prints in a trial: called, it gives what is new."""

    def __init__(self, slate: CleanSlate, making: str | None) -> None:
        self._slate = slate
        self._folder = tempfile.TemporaryDirectory("", "digitsearch-printed-", making, ignore_cleanup_errors=True)
        self._end = 0

    def __enter__(self) -> "_Printed":
        trial_log.capture(self._folder.name, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def __call__(self, *, is_last: bool = False) -> str | None:
        self._slate.flush()
        text, self._end = trial_log.since(self._folder.name, 0, self._end, is_last=is_last)
        return text


def _train(train: Train, data: Any, terms: Terms, reports: "_Reports", assignment: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="digitsearch-checkpoint-", dir=terms.making) as folder:
        if assignment["checkpoint"] is not None:
            _write_files(assignment["checkpoint"], Path(folder))
        checkpoint = Path(folder) if assignment["checkpoint"] is not None else None
        trial = terms.trial(assignment, data, reports.report, checkpoint=checkpoint, rank=reports.rank)
        with suppress(Unwind):
            called(train, assignment["config"], trial)


class _Reports:
    """A worker's `trial.report`."""

    def __init__(self, mailbox: Any, rank: int, terms: Terms, printed: _Printed) -> None:
        self.rank = rank
        self._mailbox = mailbox
        self._terms = terms
        self._printed = printed
        self._began = time.perf_counter()

    def report(self, metrics: Mapping[str, float], save: Save | None = None) -> None:
        """Have the first worker's metrics taken, and wait for all workers."""
        answer = "go on"
        if self.rank == 0:
            said = {
                "metrics": plain_numbers(metrics),
                "printed": self._printed(),
                "can_save": save is not None,
                "epoch_s": time.perf_counter() - self._began,
                "node": ray.util.get_node_ip_address(),
            }
            answer = ray.get(self._mailbox.say.remote(said))
            if answer == "save" and save is not None:
                answer = ray.get(self._mailbox.say.remote({"files": _files_of(save, self._terms)}))
        if _any(answer == "stop", self._terms):
            raise Unwind
        self._began = time.perf_counter()


def _any(flag: bool, terms: Terms) -> bool:
    """Whether the flag is up on one of the workers; all of them wait here for the others."""
    import torch
    import torch.distributed

    number = torch.tensor([float(flag)], device="cuda" if terms.gpu else "cpu")
    torch.distributed.all_reduce(number)
    return bool(number.item() > 0)


def _may_follow_from_another(err: BaseException) -> bool:
    return isinstance(err, RuntimeError) and any(word in str(err) for word in ("onnection", "gloo", "NCCL"))


def _files_of(save: Save, terms: Terms) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="digitsearch-checkpoint-", dir=terms.making) as folder:
        with disk():
            save_in(Path(folder), save)
        return _files_in(Path(folder))


def _files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
