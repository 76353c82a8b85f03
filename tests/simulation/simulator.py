"""A simulator that runs the shipping code: whole workers, children, reapers, finalizers, on a filesystem that models NFS.

Every process is a greenlet; one seeded scheduler decides at each call to the filesystem and at each sleep who goes on. Time is
simulated. Each host has the caches of an NFS client: names once found absent stay absent until a listing cures that, stat
answers from a cache of attributes. Faults, all drawn from the same seed:

- errors before a call, and after it was executed (with the answer that a retransmission gets);
- a process or a host dies at a call: before it, after it, in the middle of a write, or the call is executed *later*;
- a process or host pauses for up to hours, a call takes minutes, the server restarts, the disk is full for a while;
- SIGTERM at any time; clocks hours apart; inputs that fail always, now and then, or kill their process;
- an operator who plans more inputs and retries quarantined ones in the middle of it.

After the chaos comes calm: pauses end, late calls are executed, a fresh worker starts. Then the job must complete, and the
disk must satisfy the invariants (`check_world`). A violation names its seed; the same seed replays the same history.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet

from claimwork.aftermath import Tally
from claimwork.child_process import LOST, NEVER, TicketWork
from claimwork.coverage import Coverage
from claimwork.errors import ClaimworkError
from claimwork.executor import Crashed, Event, Running, event_of
from claimwork.fs import digest_of
from claimwork.inputs import quarantined, retry
from claimwork.job import create_job, open_job
from claimwork.layout import Layout
from claimwork.names import Ticket, plan_ticket
from claimwork.plan_log import PlanLog
from claimwork.records import BeatRecord, Job, loads
from claimwork.results import Stage, purge_stage
from claimwork.retrying import RetryingFs
from claimwork.stores import make_store
from claimwork.task import Attempt, Results
from claimwork.testing import MUTATING, Died, HookedFs, MemoryServer
from claimwork.worker import Context, Setup, Stop, run_worker

OUT = "/out"
ERRORS = (errno.EIO, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT)
RETRANSMITTED = {"link": errno.EEXIST, "rename": errno.ENOENT, "unlink": errno.ENOENT, "rmdir": errno.ENOENT}


class Violation(BaseException):
    """An invariant does not hold. Nothing in the shipping code may catch it."""


@dataclass
class Profile:
    """How rough a schedule is: probabilities for each mutating call, and what else may happen."""

    error: float = 0.0
    kill: float = 0.0
    pause: float = 0.0
    slow: float = 0.0
    full: float = 0.0
    stops: int = 0
    operators: int = 0
    stale_s: float = 0.0
    faults: int = 0  # at most so many of all of them


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


def draw_case(seed: int, workers: int | None = None, inputs: int | None = None) -> Case:
    """The case of a seed. Every tenth one is free of faults and tests liveness and order alone."""
    rng = Random(seed)
    kinds = rng.choices(["ok", "bad", "flaky", "kill", "slow"], [10, 1, 2, 1, 2], k=inputs or rng.randint(1, 6))
    names = [f"{kind}{number}" for number, kind in enumerate(kinds)]
    more = [f"ok{number}m" for number in range(rng.randint(0, 2))]
    rough = rng.random() >= 0.1
    scale = rng.choice([0.003, 0.01, 0.03]) if rough else 0.0
    profile = Profile(
        error=scale * rng.choice([0, 1, 3]),
        kill=scale * rng.choice([0, 1, 2]),
        pause=scale * rng.choice([0, 0, 1]),
        slow=scale * rng.choice([0, 0, 1]),
        full=scale * rng.choice([0, 0, 0, 0.3]),
        stops=rng.choice([0, 0, 1, 2]),
        operators=rng.choice([0, 0, 1, 2]),
        stale_s=rng.choice([0.0, 3.0, 30.0, 60.0]),
        faults=rng.randint(1, 12) if rough else 0,
    )
    claims = ("rename", "marker")[seed % 2]
    return Case(seed, claims, workers or rng.randint(1, 4), rng.choice([1, 1, 2]), names, more, profile)


class Server(MemoryServer):
    """The tree, with an eye on results/: what is published must never change or go."""

    def __init__(self, rng: Random) -> None:
        super().__init__("nfs4", rng)
        self.published: dict[str, tuple[bytes, int]] = {}

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        if target.startswith((f"{OUT}/results/", f"{OUT}/.claimwork/summary/", f"{OUT}/.claimwork/plan/")):
            node = self._file(target)
            self.published[target] = (node.data, node.inode)

    def rename(self, source: str, target: str) -> None:
        if source in self.published or target in self.published or target.startswith(f"{OUT}/results/"):
            raise Violation(f"{source} -> {target}: a published name is made, moved or replaced by a rename")
        if source.startswith(f"{OUT}/.claimwork/dead/"):
            dead = source.rpartition("/")[2]
            for kind in ("stage", "work"):
                if self.inode(f"{OUT}/.claimwork/{kind}/{dead}") is not None:
                    raise Violation(f"the grave of {dead} is closed, and its {kind} directory is still there")
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        if path in self.published:
            raise Violation(f"{path}: a published name is removed")
        super().unlink(path)


class Host:
    """A client kernel: its caches, its clocks."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"host{number}"
        self.offset = world.rng.uniform(0, 1e5)
        self.skew = world.rng.choice([0.0, 3600.0, -3600.0])
        self.absent: dict[str, float] = {}
        self.attributes: dict[str, tuple[tuple[int, int], float]] = {}

    def monotonic(self) -> float:
        return self.world.now + self.offset

    def time(self) -> float:
        return 1.7e9 + self.world.now + self.skew

    def sleep(self, seconds: float) -> None:
        self.world.sleep(seconds)

    def forget(self, path: str) -> None:
        """This client changed *path* itself, so its caches know."""
        self.absent.pop(path, None)
        self.attributes.pop(path, None)


class Process:
    """A simulated process: runs until it ends or is killed."""

    def __init__(self, world: World, name: str, host: Host, main: Callable[[Process], None]) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.fs = SimFs(world, self)
        self.wake_at = world.now
        self.dead = False
        self.ended = False
        self.pending: tuple[str, Callable[..., Any], tuple[Any, ...]] | None = None
        self.on_death: Callable[[], None] = lambda: None
        self.greenlet = greenlet(lambda: self._run(main))
        world.processes.append(self)

    def _run(self, main: Callable[[Process], None]) -> None:
        try:
            main(self)
        except Died:
            pass
        self.ended = True


class SimFs(HookedFs):
    """What one process sees of the server, through the caches of its host, with faults."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world.server)
        self._world = world
        self._process = process

    def _call(self, op: str, function: Callable[..., Any], *args: Any) -> Any:
        process, world = self._process, self._world
        if process.dead:
            raise Died
        process.pending = (op, function, args)
        world.switch()
        fault = world.draw_fault(op) if world.faults_left and op in MUTATING else None
        if fault is not None:
            world.strike(process, fault, op, function, args)  # raises, kills, or only delays
        process.pending = None
        try:
            result = self._through_caches(op, function, args, answered=fault != "reply")
        except OSError as error:
            if world.history is not None:
                world.note(process, op, args, f"! {errno.errorcode.get(error.errno or 0, error)}")
            raise
        if world.history is not None:
            world.note(process, op, args, result)
        if fault == "reply":
            code = RETRANSMITTED.get(op, errno.EIO) if world.rng.random() < 0.6 else world.rng.choice(ERRORS)
            raise OSError(code, os.strerror(code), *args[:1])
        if fault == "kill after":
            world.kill(process)
            raise Died
        return result

    def _through_caches(self, op: str, function: Callable[..., Any], args: tuple[Any, ...], *, answered: bool) -> Any:
        host, now, stale_s = self._process.host, self._world.now, self._world.case.profile.stale_s
        path = args[0] if args and isinstance(args[0], str) else ""
        if op == "names":
            result = function(*args)
            for each in [each for each in host.absent if each.rpartition("/")[0] == path]:
                del host.absent[each]
            return result
        if op in ("stage", "mkdir", "open_beat", "link", "rename"):
            if op in ("link", "rename") and host.absent.get(path, -1) > now:
                raise OSError(errno.ENOENT, "stale", path)
            result = function(*args)
            for each in args[:2]:
                if answered and isinstance(each, str):
                    host.forget(each)
            return result
        if op in ("flush", "write_beat", "try_lock"):
            return function(*args)
        if host.absent.get(path, -1) > now:
            if op == "inode":
                return None
            raise OSError(errno.ENOENT, "stale", path)
        if op == "inode":
            known = host.attributes.get(path)
            if known is not None and known[1] > now:
                return known[0]
            result = function(*args)
            if stale_s and result is not None:
                host.attributes[path] = (result, now + stale_s)
            if stale_s and result is None:
                host.absent[path] = now + stale_s
            return result
        try:
            result = function(*args)
        except FileNotFoundError:
            if stale_s:
                host.absent[path] = now + stale_s
            raise
        if answered and op in ("unlink", "rmdir"):
            host.forget(path)
        return result


class World:
    """One schedule."""

    def __init__(self, case: Case, *, record: bool = False) -> None:
        self.case = case
        self.rng = Random(case.seed * 7919 + 1)
        self.now = 0.0
        self.server = Server(self.rng)
        self.server.mkdir(OUT)
        self.layout = Layout(OUT)
        self.processes: list[Process] = []
        self.late: list[tuple[float, str, Callable[..., Any], tuple[Any, ...]]] = []
        self.inputs = list(case.inputs)
        self.faults_left = case.profile.faults
        self.full_until = -1.0
        self.history: list[str] | None = [] if record else None
        self.calls = 0
        self.kills = 0
        self.tallies: list[Tally] = []
        self.hub = getcurrent()
        self.hosts = [Host(self, number) for number in range(self.rng.randint(1, 3))]
        self.stops: list[Stop] = []
        self.restarts = 0
        self.job = Job(
            id=f"{self.rng.getrandbits(128):032x}",
            task="simulated",
            claims=case.claims,
            backoff_s=self.rng.choice([0.0, 1.0, 30.0]),
            max_attempts=self.rng.choice([2, 3]),
        )

    # -- scheduling ---------------------------------------------------------------------------------------------------

    def switch(self) -> None:
        """Let the scheduler decide who goes on. Called by processes."""
        self.calls += 1
        if self.rng.random() < 0.7:
            self.hub.switch()

    def sleep(self, seconds: float) -> None:
        """The current process sleeps."""
        self.current.wake_at = self.now + max(seconds, 1e-6)
        self.hub.switch()

    def run(self, limit_calls: int) -> bool:
        """Schedule until all processes have ended (True) or the limit is reached (False)."""
        end = self.calls + limit_calls
        rng = self.rng
        while self.calls < end:
            self.processes = alive = [p for p in self.processes if not (p.dead or p.ended)]
            if not alive:
                return True
            self.calls += 1
            now = self.now = self.now + rng.random() * 0.01
            runnable = [p for p in alive if p.wake_at <= now]
            if not runnable:
                self.now = min(p.wake_at for p in alive)
                runnable = [p for p in alive if p.wake_at <= self.now]
            if self.late:
                self.execute_late()
            process = self.current = runnable[int(rng.random() * len(runnable))]
            process.greenlet.switch()
        return False

    def execute_late(self, *, all_of_them: bool = False) -> None:
        """Execute the calls of the dead whose time has come."""
        due = [each for each in self.late if all_of_them or each[0] <= self.now]
        self.late = [each for each in self.late if each not in due]
        for _, op, function, args in due:
            try:
                function(*args)
            except (OSError, ClaimworkError) as error:
                if self.history is not None:
                    self.history.append(f"{self.now:9.2f} late {op} {args} failed: {error}")
            else:
                if self.history is not None:
                    self.history.append(f"{self.now:9.2f} late {op} {args} executed")

    def note(self, process: Process, op: str, args: tuple[Any, ...], result: Any) -> None:
        assert self.history is not None
        shown = ", ".join(str(each)[-90:] for each in args)
        self.history.append(f"{self.now:9.2f} {process.name:12} {op}({shown}) = {str(result)[:90]}")

    # -- faults -------------------------------------------------------------------------------------------------------

    def draw_fault(self, op: str) -> str | None:
        profile, roll = self.case.profile, self.rng.random()
        for probability, faults in (
            (profile.error, ("error", "reply", "reply")),
            (profile.kill, ("kill", "kill after", "kill late", "torn", "kill host")),
            (profile.pause, ("pause", "pause host")),
            (profile.slow, ("slow",)),
            (profile.full, ("full",)),
        ):
            if roll < probability:
                self.faults_left -= 1
                return self.rng.choice(faults)
            roll -= probability
        if self.full_until > self.now and op in ("stage", "mkdir"):
            return "full"
        return None

    def strike(
        self, process: Process, fault: str, op: str, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        """Let a fault happen before the call is executed."""
        self.case.kinds[fault] += 1
        if self.history is not None:
            self.history.append(f"{self.now:9.2f} {process.name:12} FAULT {fault} at {op}")
        match fault:
            case "error":
                code = self.rng.choice(ERRORS)
                raise OSError(code, os.strerror(code), *args[:1])
            case "full":
                if op in ("stage", "mkdir"):
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
                process.wake_at = self.now + self.rng.choice([5.0, 60.0, 100.0, 200.0])
                self.hub.switch()
            case "pause host":
                until = self.now + self.rng.choice([60.0, 100.0, 200.0, 7200.0])
                for each in self.processes:
                    if each.host is process.host:
                        each.wake_at = max(each.wake_at, until)
                self.hub.switch()
            case "slow":
                process.wake_at = self.now + self.rng.uniform(1, 200)
                self.hub.switch()

    def kill(self, process: Process, *, late: bool = False) -> None:
        """SIGKILL; with *late* a call it had sent is executed later, when the server gets to it."""
        if process.dead or process.ended:
            return
        self.kills += 1
        process.dead = True
        if self.history is not None:
            self.history.append(f"{self.now:9.2f} {process.name:12} KILLED")
        if late and process.pending is not None and process.pending[0] in MUTATING:
            self.late.append((self.now + self.rng.choice([0.1, 5.0, 30.0, 200.0]), *process.pending))
        process.fs.die()
        process.on_death()

    # -- actors -------------------------------------------------------------------------------------------------------

    def start_worker(self) -> Process:
        """A process that is a worker, as `claimwork worker` is; started again when it stops before the end."""
        host = self.rng.choice(self.hosts)
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
                job = open_job(fs, self.layout) or create_job(fs, self.layout, self.job, identity.worker)
                context = Context(
                    fs,
                    self.layout,
                    job,
                    host,
                    Random(self.rng.random()),
                    identity,
                    make_executor,
                    Setup(grace_s=8.0),
                    stop,
                )
                self.tallies.append(run_worker(context))
            except (
                ClaimworkError,
                OSError,
            ) as error:  # exit 12 and the like: everything it held is handed back or reclaimed
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
            self.sleep(self.rng.uniform(0, 300))
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


class SimProgress:
    def __init__(self) -> None:
        self.index = -1
        self.begun_at = 0.0
        self.stop = NEVER
        self.now: Callable[[], float] = lambda: 0.0

    def begin(self, index: int) -> None:
        self.begun_at = self.now()
        self.index = index

    def end(self) -> None:
        self.index = -1

    def stops_at(self) -> int:
        return self.stop

    def is_set(self) -> bool:
        return self.stop == LOST


class SimSlot:
    def __init__(self) -> None:
        self.ticket: Ticket | None = None
        self.process: Process | None = None
        self.progress = SimProgress()
        self.since = 0.0
        self.generation = 0


class SimExecutor:
    """`executor.Executor` whose children are simulated processes."""

    def __init__(self, world: World, parent: Process, worker: str, slots: int) -> None:
        self.slots = slots
        self._world = world
        self._parent = parent
        self._worker = worker
        self._slots = [SimSlot() for _ in range(slots)]
        self._inbox: list[Event] = []

    def free(self) -> list[int]:
        return [number for number, slot in enumerate(self._slots) if slot.ticket is None]

    def running(self) -> dict[int, Running]:
        return {
            number: Running(
                slot.ticket,
                slot.progress.index if slot.progress.index >= 0 else None,
                slot.progress.begun_at,
                slot.since,
            )
            for number, slot in enumerate(self._slots)
            if slot.ticket is not None
        }

    def start(self, slot: int, ticket: Ticket, *, control: bool = False) -> None:
        at = self._slots[slot]
        at.ticket = ticket
        at.since = self._parent.host.monotonic()
        at.generation += 1
        at.progress = progress = SimProgress()
        progress.now = self._parent.host.monotonic
        prefix = f"{slot}-{at.generation}"
        world, worker = self._world, self._worker

        def main(process: Process) -> None:
            fs = RetryingFs(process.fs, process.host)
            runner = SimRunner(world, process)
            work = TicketWork(
                fs,
                world.layout,
                world.job,
                worker,
                prefix,
                "/in",
                process.host,
                progress,
                lambda _job: runner,
                world_list,
            )
            answer = json.loads(json.dumps(work.run(ticket, control=control)))
            if at.process is process and not process.dead:
                at.process = None
                self._post(event_of(slot, ticket, answer))

        def world_list(_root: str, _job: Job, _skip: Callable[[str], None]) -> Iterator[tuple[str, int]]:
            return iter([(name, len(name)) for name in world.inputs])

        def died() -> None:
            if at.process is process_:
                index = progress.index if progress.index >= 0 else None
                at.process = None
                self._post(Crashed(slot, ticket, "crash", "killed", "", index))

        at.process = process_ = Process(world, f"{self._parent.name}.{prefix}", self._parent.host, main)
        process_.on_death = died

    def stop_before(self, slot: int, index: int) -> None:
        self._slots[slot].progress.stop = index

    def poll(self, timeout_s: float) -> list[Event]:
        if not self._inbox:
            self._world.sleep(timeout_s)
        events, self._inbox = self._inbox, []
        for event in events:
            self._slots[event.slot].ticket = None  # busy until its event is collected, as in the real one
            if isinstance(event, Crashed):
                purge_stage(self._fs(), self._world.layout, self._worker, f"{event.slot}-")
        return events

    def kill(self) -> list[Ticket]:
        tickets = []
        for number, slot in enumerate(self._slots):
            if slot.ticket is not None:
                tickets.append(slot.ticket)
                process, slot.process, slot.ticket = slot.process, None, None
                self._inbox.clear()
                slot.progress.stop = LOST
                if process is not None:
                    self._world.kill(process, late=self._world.rng.random() < 0.5)
                purge_stage(self._fs(), self._world.layout, self._worker, f"{number}-")
        return tickets

    def orphan(self) -> None:
        """The worker died: its children die at once, or a little later."""
        for slot in self._slots:
            process, slot.process, slot.ticket = slot.process, None, None
            if process is not None and self._world.rng.random() < 0.8:
                self._world.kill(process, late=self._world.rng.random() < 0.5)

    def _fs(self) -> RetryingFs:
        return RetryingFs(self._parent.fs, self._parent.host)

    def _post(self, event: Event) -> None:
        self._inbox.append(event)
        self._parent.wake_at = min(self._parent.wake_at, self._world.now)


class SimRunner:
    """The task: what an input does is in its name."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self.reduce: Callable[[Results], Any] = lambda results: [each.value for each in results]

    def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
        name = path.rpartition("/")[2]
        if name.startswith("bad") or (name.startswith("flaky") and self._world.rng.random() < 0.5):
            raise ValueError(name)
        if name.startswith("kill"):
            self._world.kill(self._process)
            raise Died
        self._world.sleep(self._world.rng.choice([0.001, 0.01, 1.0]) if not name.startswith("slow") else 40.0)
        return json.dumps([name, self._world.rng.getrandbits(32)]).encode() + b"\n"


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
    for _ in range(case.workers):
        world.start_worker()
    for _ in range(case.profile.operators):
        world.start_operator()
    for _ in range(rng.randint(2, 12)):
        ended = world.run(rng.randint(20, 250))
        if case.profile.stops and rng.random() < 0.2 and world.stops:
            case.profile.stops -= 1
            for _ in range(rng.choice([1, 1, 2])):
                rng.choice(world.stops).request(15)
        if rng.random() < 0.3 and world.restarts < 4 and world.faults_left:
            world.restarts += 1
            world.start_worker()
        if ended:
            break


def _calm(world: World) -> None:
    world.faults_left = 0
    world.full_until = -1.0
    for process in world.processes:
        process.wake_at = min(process.wake_at, world.now + 100.0)
    world.execute_late(all_of_them=world.rng.random() < 0.5)
    world.start_worker()
    for _ in range(4):  # an operator may come late; a worker that was told to stop is followed by another
        if not world.run(40_000):
            raise Violation("the job does not complete: some worker goes on for ever")
        world.execute_late(all_of_them=True)
        if _is_complete(world):
            return
        world.start_worker()
    raise Violation("the job does not complete")


def _is_complete(world: World) -> bool:
    if not Coverage(world.server, world.layout, PlanLog(world.server, world.layout)).state().complete:
        return False
    stage = Stage(world.server, world.layout, "0" * 32, "x")
    store = make_store(world.job, world.server, world.layout, "0" * 32, stage)
    return not store.waiting("plan")


def check_world(world: World) -> None:
    """The invariants, from the disk alone."""
    server, layout = world.server, world.layout
    for path, (data, inode) in server.published.items():
        if server.inode(path) != (1, inode) or server.read(path, 1 << 30) != data:
            raise Violation(f"{path} changed after it was published")
    planned = _planned(world)
    results = {name.removesuffix(".json") for name in server.names(layout.results)}
    reports = {name.removesuffix(".json") for name in server.names(layout.quarantine)}
    if results & reports:
        raise Violation(f"both a result and a report: {sorted(results & reports)}")
    if results | reports != set(planned):
        raise Violation(f"planned {sorted(planned)}, but there are {sorted(results)} and {sorted(reports)}")
    for name in results:
        value = loads(server.read(f"{layout.results}/{name}.json", 1 << 20), name)
        if value[0] != name or name.startswith(("bad", "kill")):
            raise Violation(f"the result of {name} is {value}")
    _check_done(world)
    _check_reports(world, reports)
    _check_summary(world, planned, results, reports)


def _planned(world: World) -> list[str]:
    """Inputs in the order of the plan; each must be planned once, but for retries."""
    seen: list[str] = []
    for number, name in enumerate(sorted(world.server.names(world.layout.plan))):
        if int(name) != number:
            raise Violation(f"the plan has a gap before {name}")
        entry = loads(world.server.read(f"{world.layout.plan}/{name}", 1 << 30), name)
        for row in entry.get("inputs", []):
            again = len(row) == 4 and row[3] is not None
            if again != (row[0] in seen):
                raise Violation(f"{row[0]} is planned twice, or retried without having been planned")
            if not again:
                seen.append(row[0])
    if set(seen) != set(world.inputs) & set(seen) or not set(world.case.inputs) <= set(seen):
        raise Violation(f"inputs {world.inputs} were given, {seen} were planned")
    return seen


def _check_done(world: World) -> None:
    """Every done record tells the truth about its inputs."""
    server, layout = world.server, world.layout
    for number in server.names(layout.done):
        inputs = loads(server.read(f"{layout.plan}/{number}", 1 << 30), number)["inputs"]
        for name in server.names(f"{layout.done}/{number}"):
            done = loads(server.read(f"{layout.done}/{number}/{name}", 1 << 30), name)
            for row, outcome in zip(inputs[done["lo"] : done["hi"]], done["outcomes"], strict=True):
                result = f"{layout.results}/{row[0]}.json"
                if outcome[0] == "ok" and (
                    server.inode(result) is None or outcome[2] != digest_of(server.read(result, 1 << 20))
                ):
                    raise Violation(f"done record {number}/{name} has another digest than the result of {row[0]}")


def _check_reports(world: World, reports: set[str]) -> None:
    for name in reports:
        report = loads(world.server.read(f"{world.layout.quarantine}/{name}.json", 1 << 20), name)
        kinds = [attempt["kind"] for attempt in report["attempts"]]
        if name.startswith(("ok", "slow")) and not world.kills:
            raise Violation(f"{name} is quarantined although nothing was killed: {kinds}")
        if name.startswith(("ok", "slow")) and any(kind not in ("lost", "crash") for kind in kinds):
            raise Violation(f"{name} is quarantined for {kinds}")


def _check_summary(world: World, planned: list[str], results: set[str], reports: set[str]) -> None:
    server, layout = world.server, world.layout
    newest = max(server.names(layout.summaries), default=None)
    if newest is None:
        raise Violation("there is no summary")
    summary = loads(server.read(f"{layout.summaries}/{newest}", 1 << 30), newest)
    if server.inode(layout.summary_json) is None:
        raise Violation("there is no summary.json")
    shown = loads(server.read(layout.summary_json, 1 << 30), "summary.json")
    if shown != summary["value"]:
        raise Violation(f"summary.json shows {shown}, and the newest generation has {summary['value']}")
    values = {name: loads(server.read(f"{layout.results}/{name}.json", 1 << 20), name) for name in results}
    if sorted(map(tuple, shown)) != sorted(tuple(value) for value in values.values()):
        raise Violation(f"the summary counts {shown}, the results are {values}")
    counts = (summary["inputs"], summary["results"], summary["quarantined"])
    if counts != (len(planned), len(results), len(reports)):
        raise Violation(
            f"the summary counts {counts} of {len(planned)} inputs, {len(results)} results, {len(reports)} reports"
        )


def replay(seed: int, **options: Any) -> list[str]:
    """The history of a seed, and the violation at its end."""
    case = draw_case(seed, **options)
    try:
        world = simulate(replace(case), record=True)
    except Violation as violation:
        history = violation.world.history  # type: ignore[attr-defined]
        return [*(history or []), f"VIOLATION {violation}"]
    return [*(world.history or []), "no violation"]
