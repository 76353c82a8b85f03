"""A simulator that runs the shipping code: whole workers, children, reapers, finalizers, on a model of NFS (nfs.py).

Every process is a greenlet; one seeded scheduler decides at each call to the filesystem and at each sleep who goes on. Time is
simulated. Faults, all drawn from the same seed:

- errors before a call, and after it was executed (with the answer that a retransmission gets);
- the server is away for a while for one host, whose mount is soft: all its calls time out, and some are executed later;
- a call is answered with an error and executed much later; executed, and sent again when its client wakes hours later;
- a process or a host dies at a call: before it, after it, in the middle of a write, or the call is executed *later*;
- a process or host pauses for up to hours, a call takes minutes, the disk is full for a while;
- the server restarts: calls on their way are executed once, twice or not at all, and then some wait for its grace period;
- caches: names stay absent, listings tell of a moment ago, directories that others removed are met with ESTALE;
- SIGTERM at any time; clocks hours apart; inputs that fail always, now and then, or kill their process;
- an operator who plans more inputs and retries quarantined ones in the middle of it.

After the chaos comes calm: pauses end, late calls are executed, a fresh worker may start. Then the job must complete, and the
disk must satisfy the invariants (invariants.py). A violation names its seed; the same seed replays the same history.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from greenlet import getcurrent

from claimwork.aftermath import Tally
from claimwork.coverage import Coverage
from claimwork.errors import ClaimworkError
from claimwork.finalizer import is_shown
from claimwork.inputs import quarantined, retry
from claimwork.job import create_job, open_job
from claimwork.layout import Layout
from claimwork.names import plan_ticket, reduce_ticket
from claimwork.plan_log import PlanLog
from claimwork.records import BeatRecord, Job
from claimwork.results import Stage
from claimwork.retrying import RetryingFs
from claimwork.stores import make_store
from claimwork.testing import MUTATING, Died
from claimwork.worker import Context, ReducerFailed, Setup, Stop, run_worker
from tests.simulation.children import LARGE_BYTES, PARTS, SimExecutor
from tests.simulation.invariants import Violation, check_world
from tests.simulation.nfs import (
    ERRORS,
    OUT,
    RETRANSMITTED,
    WAITS_IN_GRACE,
    Change,
    Host,
    Server,
    changes_of,
)
from tests.simulation.process import Process

__all__ = [
    "OUT",
    "RETRANSMITTED",
    "Case",
    "Host",
    "Process",
    "Profile",
    "Server",
    "Violation",
    "World",
    "check_world",
    "draw_case",
    "replay",
    "simulate",
]

SWITCHES = 0.7  # how often another process may go on at a call; the rest make runs of one process a little longer
LIMIT_STEPS = 20_000  # of the calm; the longest of 3,000 schedules took 10,000 in all, with four inputs that lasted


@dataclass
class Profile:
    """How rough a schedule is: probabilities for each mutating call, and what else may happen."""

    error: float = 0.0
    kill: float = 0.0
    pause: float = 0.0
    slow: float = 0.0
    full: float = 0.0
    restart: float = 0.0
    again: float = 0.0
    away: float = 0.0
    stops: int = 0
    operators: int = 0
    stale_s: float = 0.0
    coarse_s: float = 0.0  # a listing so old may be shown once more
    stale_handles: bool = False
    faults: int = 0  # at most so many of all of them
    patience_s: float = 75.0
    fresh_workers: int = 0  # at most so many start in the middle
    job_exists: bool = False
    fault_after: int = 8  # 1: and a host is broken, if there are several
    grouped: bool = False  # all inputs but the first share a ticket
    split: bool = False  # and the first is processed in parts


@dataclass
class Case:
    """What one seed stands for."""

    seed: int
    claims: str
    workers: int
    slots: int
    inputs: list[str]
    more: list[str]
    profile: Profile
    kinds: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Size:
    """How large a schedule may be. What takes many workers is rare, and what few can show costs less with few."""

    workers: tuple[int, ...]
    inputs: tuple[int, ...]
    fresh_workers: int  # at most so many start in the middle
    patience_s: tuple[float, ...]  # while peers wait for the beats of the dead, idle workers look
    fault_scale: tuple[float, ...]  # of a hundred changes a small schedule has, a few should fail


SMALL = Size((1, 2), (1, 1, 2), 1, (10.0, 20.0), (0.01, 0.03, 0.06))
MEDIUM = Size((1, 2, 2, 3), (1, 2, 3, 4), 2, (10.0, 10.0, 30.0), (0.003, 0.01, 0.03))
LARGE = Size((2, 3, 4), (2, 3, 4, 5, 6), 4, (10.0, 30.0, 75.0), (0.003, 0.01, 0.03))


def draw_case(seed: int, workers: int | None = None, inputs: int | None = None) -> Case:
    """The case of a seed. Every tenth one is free of faults and tests liveness and order alone."""
    rng = Random(seed)
    size = rng.choices([SMALL, MEDIUM, LARGE], [16, 3, 1])[0]
    kinds = rng.choices(
        ["ok", "bad", "flaky", "kill", "slow", "late"], [14, 1, 1.5, 1, 1, 1], k=inputs or rng.choice(size.inputs)
    )
    names = [f"{kind}{number}" for number, kind in enumerate(kinds)]
    more = [f"ok{number}m" for number in range(rng.randint(0, 2))]
    rough = rng.random() >= 0.1
    scale = rng.choice(size.fault_scale) if rough else 0.0
    patience_s = rng.choice(size.patience_s)
    profile = Profile(
        error=scale * rng.choice([0, 1, 3]),
        kill=scale * rng.choice([0, 1, 2]),
        pause=scale * rng.choice([0, 0, 1]),
        slow=scale * rng.choice([0, 0, 1]),
        full=scale * rng.choice([0, 0, 0, 0.3]),
        restart=scale * rng.choice([0, 0, 0, 0.5]),
        again=scale * rng.choice([0, 0, 1]),
        away=scale * rng.choice([0, 0, 0, 1]),
        stops=rng.choice([0, 0, 1, 2]),
        operators=rng.choice([0, 0, 0, 0, 1, 2]),
        stale_s=rng.choice([0.0, 3.0, 0.4 * patience_s, 0.8 * patience_s, 60.0]),
        coarse_s=rng.choice([0.0, 0.0, 0.05, 0.3, 1.0]),
        stale_handles=rng.random() < 0.5,
        faults=rng.randint(1, 12) if rough else 0,
        patience_s=patience_s,
        fresh_workers=size.fresh_workers,
        job_exists=rng.random() < 0.8,
        fault_after=rng.choice([0, 0, 8, 8, 1]),
        grouped=(grouped := rng.random() < 0.5),
        split=grouped and rng.random() < 0.4,
    )
    claims = ("rename", "marker")[seed % 2]
    return Case(seed, claims, workers or rng.choice(size.workers), rng.choice([1, 1, 2]), names, more, profile)


class World:
    """One schedule."""

    def __init__(self, case: Case, *, record: bool = False) -> None:
        self.case = case
        self.rng = Random(case.seed * 7919 + 1)
        self.now = 0.0
        self.server = Server(self.rng, fresh=not case.profile.coarse_s)
        self.server.mkdir(OUT)
        self.layout = Layout(OUT)
        self.processes: list[Process] = []
        self.thinned = False  # some of them have died or ended
        self.late: list[tuple[float, str, Callable[..., Any], tuple[Any, ...]]] = []
        self.inputs = list(case.inputs)
        self.faults_left = case.profile.faults
        self.full_until = -1.0
        self.grace_until = -1.0
        self.changes: dict[str, list[Change]] = {}  # of directories, not long ago
        self.history: list[str] | None = [] if record else None
        self.calls = 0
        self.kills = 0
        self.is_disturbed = False  # somebody was killed, stopped, or gave up
        self.reducer_failed = False  # so often that nobody tries it any more
        self.tallies: list[Tally] = []
        self.hub = getcurrent()
        self.current: Process
        self.hosts = [Host(self, number) for number in range(self.rng.randint(1, 3))]
        self.hosts[-1].broken = len(self.hosts) > 1 and case.profile.fault_after == 1
        self.is_calm = False
        self.stops: list[Stop] = []
        self.fresh_workers = 0
        self.job = Job(
            id=f"{self.rng.getrandbits(128):032x}",
            task="simulated",
            claims=case.claims,
            backoff_s=self.rng.choice([0.0, 0.5, 5.0]),
            max_attempts=self.rng.choice([2, 3]),
            patience_s=case.profile.patience_s,
            split_bytes=-(-LARGE_BYTES // PARTS) if case.profile.split else None,
        )
        self._steps = self._last_step = 0
        self._random = self.rng.random  # called at every step

    # -- scheduling ---------------------------------------------------------------------------------------------------

    def switch(self) -> None:
        """Let the scheduler decide who goes on. Called by processes at each call to the filesystem."""
        self.calls += 1
        if self._random() < SWITCHES:
            self.yield_()

    def sleep(self, seconds: float) -> None:
        """The current process sleeps."""
        self.current.wake_at = max(self.now + max(seconds, 1e-6), self.current.held_until)
        self.yield_()

    def hold(self, process: Process, seconds: float) -> None:
        """The current *process* stands still."""
        process.hold(self.now + seconds)
        self.yield_()

    def wait_for_grace(self, process: Process) -> None:
        """A call of the current *process* is refused, and sent again, until the grace period of the server ends."""
        self.case.kinds["wait"] += 1
        while self.now < self.grace_until:
            process.hold(self.grace_until)
            self.yield_()

    def yield_(self) -> None:
        """Whoever is next goes on: switched to at once, for a detour through the hub would double the price of a step."""
        process = self._next()
        if process is None:
            self.hub.switch()
        elif process is not self.current:
            self.current = process
            process.greenlet.switch()

    def run(self, limit_steps: int) -> bool:
        """Schedule until all processes have ended (True) or the limit is reached (False)."""
        self._last_step = self._steps + limit_steps
        while (process := self._next()) is not None:  # control comes back here when a process ends
            self.current = process
            process.greenlet.switch()
        return not self.processes

    def _next(self) -> Process | None:
        """The process that goes on; None when all have ended or the limit is reached."""
        if self.thinned:
            self.processes = [each for each in self.processes if not (each.dead or each.ended)]
            self.thinned = False
        if self._steps >= self._last_step or not self.processes:
            return None
        self._steps += 1
        now = self.now = self.now + self._random() * 0.01
        due = [each for each in self.processes if each.wake_at <= now]
        if not due:
            now = self.now = min([each.wake_at for each in self.processes])
            due = [each for each in self.processes if each.wake_at <= now]
        if self.late:
            self.execute_late()
        return due[0] if len(due) == 1 else due[int(self._random() * len(due))]

    # -- the server ---------------------------------------------------------------------------------------------------

    def execute(self, op: str, function: Callable[..., Any], args: tuple[Any, ...], host: Host | None) -> Any:
        """Let the server execute a change; *host* is the client that gets to know of it."""
        is_logged = self.case.profile.coarse_s > 0 and op != "write_beat"
        if is_logged and op in ("stage", "mkdir", "open_beat"):
            is_logged = self.server.inode(args[0]) is None
        result = function(*args)
        if is_logged:
            horizon = self.now - self.case.profile.coarse_s
            for directory, change in changes_of(op, args, self.now):
                recent = [each for each in self.changes.get(directory, ()) if each.at > horizon]
                self.changes[directory] = [*recent, change]
        if op == "rmdir":
            self.changes.pop(args[0], None)
            if self.case.profile.stale_handles:
                for each in self.hosts:
                    if each is not host and self._random() < 0.5:
                        each.removed.add(args[0])
        return result

    def execute_late(self, *, all_of_them: bool = False) -> None:
        """Execute the calls of the dead whose time has come."""
        if all_of_them and self.late:
            self.now = max(self.now, self.grace_until)
        due = [
            each
            for each in self.late
            if all_of_them or (each[0] <= self.now and (self.now >= self.grace_until or each[1] not in WAITS_IN_GRACE))
        ]
        if not due:
            return
        self.late = [each for each in self.late if each not in due]
        for _, op, function, args in due:
            self._execute_unanswered("late", op, function, args)

    def restart_server(self) -> None:
        """The server crashes and comes back: calls on their way were executed or not, and it forgot its replies.

        Their clients send them again, and a few give up with an error. What was executed is then executed once more, as
        far as that is possible: a rename finds nothing, a link finds its target.
        """
        for each in self.processes:
            if each.pending is None or each.dead:
                continue
            op, function, args = each.pending
            self.case.kinds["in flight"] += 1
            if self.rng.random() < 0.5 and (self.now >= self.grace_until or op not in WAITS_IN_GRACE):
                self._execute_unanswered(f"{each.name} retransmits", op, function, args)
            if self.rng.random() < 0.2:
                each.error = self.rng.choice(ERRORS)
        self.grace_until = self.now + 10.0 + 80.0 * self.rng.random() ** 2

    def _execute_unanswered(self, why: str, op: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        how = "executed"
        try:
            self.execute(op, function, args, None)
        except (OSError, ClaimworkError) as error:
            how = f"failed: {error}"
        if self.history is not None:
            self.history.append(f"{self.now:9.2f} {why} {op} {args} {how}")

    def note(self, process: Process, op: str, args: tuple[Any, ...], result: Any) -> None:
        assert self.history is not None
        shown = ", ".join(str(each)[-90:] for each in args)
        self.history.append(f"{self.now:9.2f} {process.name:12} {op}({shown}) = {str(result)[:90]}")

    # -- faults -------------------------------------------------------------------------------------------------------

    def draw_fault(self, op: str) -> str | None:
        profile, roll = self.case.profile, self.rng.random()
        for probability, faults in (
            (profile.error, ("error", "reply", "reply", "late")),
            (profile.away, ("away",)),
            (profile.again * (20 if op == "open_beat" else 1), ("again",)),  # which a worker does but once
            (profile.kill, ("kill", "kill after", "kill late", "torn", "kill host")),
            (profile.pause, ("pause", "pause host")),
            (profile.slow, ("slow",)),
            (profile.full, ("full",)),
            (profile.restart, ("restart",)),
        ):
            if roll < probability:
                self.faults_left -= 1
                return self.rng.choice(faults)
            roll -= probability
        if self.full_until > self.now and op in ("stage", "mkdir", "write_beat"):
            return "full"
        return None

    def strike(
        self, process: Process, fault: str, op: str, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        """Let a fault happen before the call is executed."""
        self.case.kinds[fault] += 1
        patience_s = self.job.patience_s
        if self.history is not None:
            self.history.append(f"{self.now:9.2f} {process.name:12} FAULT {fault} at {op}")
        match fault:
            case "error":
                code = self.rng.choice(ERRORS)
                raise OSError(code, os.strerror(code), *args[:1])
            case "late":
                self._execute_later(op, function, args)
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), *args[:1])
            case "away":
                process.host.away_until = self.now + self.rng.uniform(0, 0.8 * patience_s)
            case "again":
                self._execute_unanswered(f"{process.name} had sent", op, function, args)
                self.hold(process, patience_s * self.rng.choice([0.1, 0.8, 2.7, 7200.0]))
            case "full":
                if op in ("stage", "mkdir", "write_beat"):
                    self.full_until = max(self.full_until, self.now + self.rng.uniform(0, 20))
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *args[:1])
            case "kill" | "kill late":
                process.pending = None if fault == "kill" else (op, function, args)
                self.kill(process, late=fault == "kill late")
                raise Died
            case "torn" if op == "stage":
                self.server.stage(args[0], args[1][: self.rng.randint(0, len(args[1]))])
                self.kill(process)
                raise Died
            case "kill host" | "torn":
                for each in [p for p in self.processes if p.host is process.host]:
                    self.kill(each, late=self.rng.random() < 0.5)
                raise Died
            case "pause":
                self.hold(process, patience_s * self.rng.choice([0.1, 0.8, 1.3, 2.7]))
            case "pause host":
                seconds = self.rng.choice([0.8 * patience_s, 1.3 * patience_s, 2.7 * patience_s, 7200.0])
                for each in self.processes:
                    if each.host is process.host:
                        each.hold(self.now + seconds)
                self.yield_()
            case "slow":
                self.hold(process, self.rng.uniform(0, 2.7 * patience_s))
            case "restart":
                self.restart_server()

    def kill(self, process: Process, *, late: bool = False) -> None:
        """SIGKILL; with *late* a call it had sent is executed later, when the server gets to it."""
        if process.dead or process.ended:
            return
        self.kills += 1
        self.is_disturbed = True
        process.dead = self.thinned = True
        if self.history is not None:
            self.history.append(f"{self.now:9.2f} {process.name:12} KILLED")
        if late and process.pending is not None:
            self._execute_later(*process.pending)
        process.fs.die()
        process.on_death()

    def time_out(self, op: str, function: Callable[..., Any], args: tuple[Any, ...]) -> OSError:
        """What the client of a soft mount makes of a server that is away; a change may be executed when it is back."""
        if op in MUTATING and self.rng.random() < 0.3:
            self._execute_later(op, function, args)
        return OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), *args[:1])

    def _execute_later(self, op: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """A call that nobody waits for any more: the server gets to it at some time."""
        at = self.now + self.rng.choice([0.1, 5.0, 0.4 * self.job.patience_s, 2.7 * self.job.patience_s])
        self.late.append((at, op, function, args))

    # -- actors -------------------------------------------------------------------------------------------------------

    def start_worker(self) -> Process:
        """A process that is a worker, as `claimwork worker` is; started again when it stops before the end."""
        host = self.rng.choice([host for host in self.hosts if not (host.broken and self.is_calm)])
        # at last somebody charges the inputs, as an operator does who knows that nothing else is wrong
        fault_after = 0 if self.is_calm and self.case.profile.fault_after == 1 else self.case.profile.fault_after
        stop = Stop()
        self.stops.append(stop)

        def main(process: Process) -> None:
            fs = RetryingFs(process.fs, host)
            identity = BeatRecord(
                worker=f"{self.rng.getrandbits(128):032x}",
                beat=0,
                boot=host.name,
                host=host.name,
                started_at=host.time(),
            )
            executors: list[SimExecutor] = []

            def make_executor(worker: str) -> SimExecutor:
                executors.append(SimExecutor(self, process, worker, self.case.slots))
                return executors[-1]

            def orphan_all() -> None:
                for each in executors:
                    each.orphan()

            process.on_death = orphan_all
            try:
                job = open_job(fs, self.layout) or create_job(
                    fs, self.layout, self.job, f"{self.rng.getrandbits(128):032x}"
                )
                context = Context(
                    fs,
                    self.layout,
                    job,
                    host,
                    Random(self.rng.random()),
                    identity,
                    make_executor,
                    Setup(grace_s=8.0, fault_after=fault_after),
                    stop,
                )
                self.tallies.append(context.tally)
                run_worker(context)
            except (
                ClaimworkError,
                OSError,
            ) as error:  # exit 12 and the like: everything it held is handed back or reclaimed
                self.is_disturbed = True
                self.reducer_failed |= isinstance(error, ReducerFailed)
                if self.history is not None:
                    self.history.append(f"{self.now:9.2f} {process.name:12} EXIT {type(error).__name__} {error}")
                process.fs.die()
                orphan_all()

        return Process(self, f"worker{len(self.stops)}", host, main)

    def start_operator(self) -> Process:
        """Somebody who plans more inputs, or retries quarantined ones, some time into the run."""
        host = self.rng.choice(self.hosts)
        retries = self.rng.random() < 0.5

        def main(process: Process) -> None:
            self.sleep(self.rng.uniform(0, 4 * self.job.patience_s))
            fs = RetryingFs(process.fs, host)
            me = f"{self.rng.getrandbits(128):032x}"
            stage = Stage(fs, self.layout, me, "c")
            try:
                if fs.inode(self.layout.job) is None:
                    return
                fs.mkdir(stage.directory)
                store = make_store(self.job, fs, self.layout, me, stage)
                if retries:
                    retry(fs, self.layout, self.job, stage, store, quarantined(fs, self.layout, []))
                else:
                    self.inputs += [each for each in self.case.more if each not in self.inputs]
                    store.offer(plan_ticket(f"{self.rng.getrandbits(64):016x}"))
            except (ClaimworkError, OSError):
                pass

        return Process(self, "operator", host, main)


# -- one schedule -----------------------------------------------------------------------------------------------------


def simulate(case: Case, *, record: bool = False) -> World:
    """Run one schedule and check it. Raises Violation; the world carries the history when *record* is set."""
    world = World(case, record=record)
    try:
        _chaos(world)
        _calm(world)
        check_world(world)
    except Violation as violation:
        violation.world = world  # type: ignore[attr-defined]
        raise
    finally:
        for process in world.processes:
            process.dead = True
    return world


def _chaos(world: World) -> None:
    case, rng = world.case, world.rng
    if case.profile.job_exists:
        create_job(world.server, world.layout, world.job, f"{rng.getrandbits(128):032x}")
    for _ in range(case.workers):
        world.start_worker()
    for _ in range(case.profile.operators):
        world.start_operator()
    for _ in range(rng.randint(2, 12)):
        ended = world.run(rng.randint(10, 110))
        if case.profile.stops and rng.random() < 0.2 and world.stops:
            case.profile.stops -= 1
            for _ in range(rng.choice([1, 1, 2])):
                rng.choice(world.stops).request(15)
                world.is_disturbed = True
        if rng.random() < 0.15 and world.fresh_workers < case.profile.fresh_workers and world.faults_left:
            world.fresh_workers += 1
            world.start_worker()
        if ended:
            break


def _calm(world: World) -> None:
    world.is_calm = True
    world.faults_left = 0
    world.full_until = -1.0
    for host in world.hosts:
        host.away_until = -1.0
    for process in world.processes:
        process.held_until = min(process.held_until, world.now + 100.0)
        process.wake_at = min(process.wake_at, world.now + 100.0)
    world.execute_late(all_of_them=world.rng.random() < 0.5)
    if world.is_disturbed or world.rng.random() < 0.3:  # else those that are there must bring it to an end themselves
        world.start_worker()
    # an operator may come late; a worker that was told to stop is followed by another; and one that ran but a flaky
    # input to show itself sound (`blame`) stops each second time
    for _ in range(20):
        if not world.run(LIMIT_STEPS):
            raise Violation("the job does not complete: some worker goes on for ever")
        world.execute_late(all_of_them=True)
        if _is_complete(world):
            return
        if world.reducer_failed:
            _reduce_again(world)
        world.start_worker()
    raise Violation("the job does not complete")


def _is_complete(world: World) -> bool:
    state = Coverage(world.server, world.layout, PlanLog(world.server, world.layout)).state()
    if not state.complete or state.close is None or not is_shown(world.server, world.layout, state.close[0]):
        return False  # as whoever starts a worker is told by `Mount.is_complete`
    stage = Stage(world.server, world.layout, "0" * 32, "x")
    store = make_store(world.job, world.server, world.layout, "0" * 32, stage)
    return not store.waiting("plan")


def _reduce_again(world: World) -> None:
    """What `claimwork reduce` does when the reducer was killed as often as it may fail."""
    world.reducer_failed = False
    stage = Stage(world.server, world.layout, f"{world.rng.getrandbits(128):032x}", "c")
    world.server.mkdir(stage.directory)
    closes, _ = PlanLog(world.server, world.layout).closes()
    ticket = replace(reduce_ticket(closes[-1][0]), nonce=f"{world.rng.getrandbits(64):016x}")
    make_store(world.job, world.server, world.layout, stage.directory[-32:], stage).offer(ticket)
    world.server.rmdir(stage.directory)


def replay(seed: int, **options: Any) -> list[str]:
    """The history of a seed, and the violation at its end."""
    case = draw_case(seed, **options)
    try:
        world = simulate(replace(case), record=True)
    except Violation as violation:
        history = violation.world.history  # type: ignore[attr-defined]
        return [*(history or []), f"VIOLATION {violation}"]
    return [*(world.history or []), "no violation"]
