"""Composes the roles of one process on this machine: real filesystem, clock, children, signals and identity."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random

from . import __version__, policy
from .aftermath import Tally
from .claims import ClaimStore
from .clock import SystemClock
from .coverage import Coverage
from .doctor import refuse_unfit
from .errors import NotAJob, WorkerFault, mount_fault
from .executor import Executor, ProcessExecutor
from .finalizer import is_shown
from .fs import PosixFs
from .job import check_task, create_job, folds_names, open_job
from .layout import Layout
from .names import Kind, plan_ticket, reduce_ticket
from .news import News, Tell, silent
from .plan_log import PlanLog
from .planner import list_inputs
from .pulse import Pulse
from .records import BeatRecord, Job
from .results import Stage
from .retrying import RetryingFs
from .stores import make_store
from .ticket_store import remove_stage
from .worker import Context, Setup, Stop, boot_id, run_worker

RELAYED = signal.SIGUSR1  # what `run` sends to its worker for each signal of its own
JOB_WITHIN_S = 60.0  # a planner creates the job within seconds; after a minute the wrong thing is mounted
_JOIN_LOOK_S = 0.5


class Mount:
    """One OUT as this process sees it."""

    def __init__(self, out: str) -> None:
        self.layout = Layout(os.path.abspath(out))
        self.clock = SystemClock()
        self.fs = RetryingFs(PosixFs(self.layout.out, self.clock), self.clock)
        self._pulse: Pulse | None = None

    def job(self) -> Job | None:
        """The job, when there is one."""
        return open_job(self.fs, self.layout)

    def open_or_create(self, wanted: Job, *, explicit_task: bool) -> Job:
        """The job of OUT, created from *wanted* when there is none."""
        job = self.job()
        if job is None:
            job = self._create(wanted)
        if explicit_task:
            check_task(job, wanted)
        return job

    def _create(self, wanted: Job) -> Job:
        worker = new_id()
        refuse_unfit(self.fs, self.layout.out, f"{self.layout.out}/.claimwork-probe-{worker}")
        return create_job(self.fs, self.layout, wanted, worker)

    def folds_names(self) -> bool:
        """Whether OUT takes names that differ only in case or Unicode form for one."""
        probe = f"{self.layout.out}/.claimwork-probe-{new_id()}"
        try:
            self.fs.mkdir(probe)
            try:
                return folds_names(self.fs, probe)
            finally:
                self.fs.rmdir(probe)
        except OSError as error:
            raise mount_fault(error, self.layout.out) from error

    def wait_for_job(self, stop: Stop, limit_s: float, tell: Tell = silent) -> Job | None:
        """The job as soon as somebody creates it; None when told to stop. Raises WorkerFault after *limit_s*."""
        until = self.clock.monotonic() + limit_s
        is_told = False
        while not stop.times:
            job = self.job()
            if job is not None:
                return job
            if not is_told:
                is_told = True
                tell(News.WAITING, f"no job yet in {self.layout.out}: waiting {limit_s:g} s for one", seconds=limit_s)
            if self.clock.monotonic() >= until:
                raise WorkerFault(
                    f"no job appeared in {self.layout.out!r} within {limit_s:g} s: is the right directory mounted there? "
                    "claimwork plan creates the job"
                )
            self._beat(policy.PATIENCE_S)
            self.clock.sleep(_JOIN_LOOK_S)
        return None

    def _beat(self, patience_s: float) -> None:
        """Let a health check know that this process gets through to the mount."""
        self._pulse = self._pulse or Pulse(self.clock.monotonic)
        self._pulse.beat(patience_s)

    def is_complete(self, job: Job) -> bool:
        """Whether nothing is left to do, so that a worker need not even join."""
        coverage = Coverage(self.fs, self.layout, PlanLog(self.fs, self.layout))
        state = coverage.state()
        if not state.complete or state.close is None or not is_shown(self.fs, self.layout, state.close[0]):
            return False
        worker = new_id()
        store = make_store(job, self.fs, self.layout, worker, Stage(self.fs, self.layout, worker, "c"))
        return not store.waiting("plan")

    def plan_again(self, job: Job) -> None:
        """Ask for another listing of IN: any worker may do it."""
        self.with_stage(job, lambda store, _stage: store.offer(plan_ticket(secrets.token_hex(8))))

    def offer_reduce(self, job: Job) -> None:
        """Offer the reduction of the last generation anew, in place of a ticket that nobody takes any more."""
        log = PlanLog(self.fs, self.layout)
        coverage = Coverage(self.fs, self.layout, log)
        closes, _ = log.closes()
        if not closes:
            return
        fresh = replace(reduce_ticket(closes[-1][0]), nonce=secrets.token_hex(8))  # a claimed name never comes back

        def act(store: ClaimStore, _stage: Stage) -> None:
            waiting = store.waiting(fresh.shard_name)
            spent = [ticket for ticket in waiting if coverage.is_spent(ticket, job)]
            if len(spent) == len(waiting):
                store.offer(fresh)
            for ticket in spent:
                self.fs.unlink(self.layout.ready_ticket(ticket))

        self.with_stage(job, act)

    def with_stage(self, job: Job, act: Callable[..., None]) -> None:
        """Run *act* with a claim store and a stage of its own, as somebody who is no worker."""
        worker = new_id()
        stage = Stage(self.fs, self.layout, worker, "c")
        try:
            self.fs.mkdir(stage.directory)
            act(make_store(job, self.fs, self.layout, worker, stage), stage)
        except OSError as error:
            raise mount_fault(error, self.layout.out) from error
        finally:
            remove_stage(self.fs, self.layout, worker)

    def work(
        self, job: Job, input_dir: str | None, setup: Setup, slots: int, stop: Stop, *, verbose: bool = False
    ) -> Tally:
        """Be a worker until nothing is left or until told to stop. *verbose*: tell of each input that went well."""

        def make_executor(worker: str) -> Executor:
            return ProcessExecutor(
                self.fs, self.layout, job, worker, input_dir or "", slots, self.clock, verbose=verbose
            )

        if Kind.MAP in setup.kinds:
            refuse_unfit(self.fs, self.layout.out, self.layout.stage_of(new_id()))
        context = Context(
            fs=self.fs,
            layout=self.layout,
            job=job,
            clock=self.clock,
            rng=Random(secrets.randbits(64)),
            identity=identity(),
            make_executor=make_executor,
            setup=setup,
            stop=stop,
            on_beat=lambda: self._beat(job.patience_s),
        )
        try:
            return run_worker(context)
        except OSError as error:
            raise mount_fault(error, self.layout.out) from error


def new_id() -> str:
    """A fresh worker id: 128 random bits."""
    return secrets.token_hex(16)


def identity() -> BeatRecord:
    """Who this process is, for people; only ``worker`` and ``boot`` mean anything to the protocol."""
    now = time.time()
    return BeatRecord(
        worker=new_id(),
        beat=0,
        boot=boot_id(),
        host=socket.gethostname(),
        pid=os.getpid(),
        slot=os.environ.get("CLAIMWORK_SLOT", ""),
        node=os.environ.get("CLAIMWORK_NODE", ""),
        service=os.environ.get("CLAIMWORK_SERVICE", ""),
        version=__version__,
        started_at=now,
        at=now,
    )


def stop_on_signals() -> Stop:
    """Turn SIGTERM and SIGINT into a request to drain; a third one ends the process at once.

    Where every process gets the signal, a worker gets it once more from its `run`, as `RELAYED`: that is one request, not two.
    """
    stop = Stop()
    told = {True: 0, False: 0}  # relayed, direct

    def handle(number: int, _frame: object) -> None:
        told[number == RELAYED] += 1
        if max(told.values()) > stop.times:
            stop.request(signal.SIGTERM if number == RELAYED else number)
        if stop.times > 2:
            os._exit(128 + stop.signal)

    for each in (signal.SIGTERM, signal.SIGINT, RELAYED):
        signal.signal(each, handle)
    return stop


def plan_now(mount: Mount, job: Job, input_dir: str, stop: Stop, tell: Tell) -> Tally:
    """List IN and add what is new; returns when the plan is closed."""
    setup = Setup(kinds=frozenset({Kind.PLAN}), tell=tell, grace_s=policy.GRACE_S)
    return mount.work(job, input_dir, setup, 1, stop)


def require_input(input_dir: str | None) -> str:
    """IN of a worker that joins a job. Raises WorkerFault when it is not there: the wrong thing is mounted."""
    if input_dir is None:
        raise NotAJob("no IN was given; give it as an argument or as CLAIMWORK_INPUT")
    if not os.path.isdir(input_dir):
        raise WorkerFault(f"IN {input_dir!r} is not there: mount the directory of the inputs; no input was charged")
    return input_dir


def expect_inputs(input_dir: str, job: Job) -> None:
    """Raise WorkerFault when IN holds no inputs of *job*: the wrong thing is mounted. Ends at the first that it finds."""
    unreadable: list[str] = []
    try:
        if next(list_inputs(input_dir, job, unreadable.append), None) is not None:
            return
    except OSError as error:
        unreadable.append(f"{input_dir!r}: {error.strerror}")
    why = f" that can be read ({unreadable[0]})" if unreadable else ""
    raise WorkerFault(
        f"IN {input_dir!r} holds no inputs{why}: is the right directory mounted there? Nothing was planned; "
        "if it is meant to be empty, plan without --expect-inputs (CLAIMWORK_EXPECT_INPUTS=0)"
    )
