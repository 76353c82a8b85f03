"""Many workers of the shipping code on a model of an NFS server that counts round trips; time is simulated, nothing fails.

Workers and their children are greenlets on one `MemoryServer`; whoever has the earliest time goes on. A call takes as long as its
round trips. Calls to files and directories of a process's own cannot meet anybody, so the clock of that process just runs
ahead of the others'; before any other call, and before it waits, it stands still until they have caught up.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from math import ceil
from random import Random
from typing import Any
from unittest.mock import patch

from greenlet import getcurrent, greenlet

from claimwork import names, records, results
from claimwork.child_process import TicketWork
from claimwork.executor import Event, Running, event_of
from claimwork.job import create_job
from claimwork.layout import Layout
from claimwork.listing import TICK_S
from claimwork.names import Ticket
from claimwork.planner import Found
from claimwork.records import BeatRecord, Job
from claimwork.tasks import Attempt, Results
from claimwork.testing import HookedFs, MemoryServer
from claimwork.worker import Context, Setup, Stop, run_worker
from tests.simulation.children import SimProgress
from tests.simulation.nfs import changes_of

OUT = "/out"
ROUND_TRIP_S = 0.0005  # a server in the same building
NAMES_IN_REPLY = 128  # of 32 KiB, with attributes: what a client asks for at once
# What calls cost on a real mount, by the client's own counters (docs/protocol.md).
TRIPS = {
    "names": 1,  # and one or more for the names, unless they are known
    "read": 3,
    "digest": 3,
    "seal": 4,
    "inode": 1,
    "mkdir": 1,
    "stage": 3,
    "flush": 0,
    "link": 1,
    "rename": 1,
    "unlink": 1,
    "rmdir": 1,
    "open_beat": 3,
    "write_beat": 1,
    "try_lock": 2,  # an OPEN that another process of this host has, and no LOCK: reckoned, not measured
}
READ_INPUT = 3
_RENEWS = frozenset(["link", "rename", "unlink", "rmdir", "mkdir", "stage", "open_beat"])  # change times of directories
_PARSERS = ((records, "parse_entry"), (records, "parse_beat"), (results, "parse_range"), (names, "parse_ticket"))
_OWN = ("stage", "results")  # whose names nobody else uses in a job without losses


@dataclass(frozen=True)
class Crowd:
    """How many, and how long an input lasts on average. Workers start within ``start_s``, ``per_host`` on each host."""

    workers: int
    inputs: int
    input_s: float = 1.0
    idle_s: float = 0.0  # one input goes on for so long when all others are done
    start_s: float = 10.0
    per_host: int = 4


@dataclass(frozen=True)
class Mark:
    """A moment, and the round trips before it, by role, area and operation."""

    at: float
    trips: Counter[tuple[str, str, str]]


class Process:
    """A simulated process, and its clock."""

    def __init__(self, world: World, main: Callable[[Process], None], at: float, role: str) -> None:
        self.world = world
        self.role = role
        self.ahead_s = 0.0
        self.token = 0  # of the one entry in the schedule that counts
        self.greenlet = greenlet(lambda: main(self), world.hub)
        world.schedule(self, at)

    def monotonic(self) -> float:
        return self.world.now + self.ahead_s

    def time(self) -> float:
        return 1.7e9 + self.monotonic()

    def sleep(self, seconds: float) -> None:
        seconds, self.ahead_s = seconds + self.ahead_s, 0.0
        self.world.wait(self, self.world.now + seconds)


class World:
    """One job and its workers."""

    def __init__(self, crowd: Crowd, seed: int) -> None:
        self.crowd = crowd
        self.rng = Random(seed)
        self.now = 0.0
        self.layout = Layout(OUT)
        self.server = MemoryServer("nfs4")
        self.server.mkdir(OUT)
        self.changed: dict[str, float] = {}  # when names last came or went, by directory
        self.trips: Counter[tuple[str, str, str]] = Counter()  # by role, area and operation
        self.listings: dict[str, Counter[int]] = {}  # sizes, by area
        self.claims = self.lost_races = 0
        self.settled = 0
        self.busy_s = 0.0
        self.marks: dict[str, Mark] = {}
        self.on_begin: Callable[[], None] = lambda: None  # called when the first input begins
        self.hub = getcurrent()
        self._schedule: list[tuple[float, int, Process, int]] = []
        self._order = 0
        self.job = Job(id=f"{self.rng.getrandbits(128):032x}", task="simulated")
        me = f"{self.rng.getrandbits(128):032x}"
        create_job(self.server, self.layout, self.job, me)
        self.server.rmdir(self.layout.stage_of(me))

    def run(self) -> None:
        """Start the workers and let them work until all have left."""
        with ExitStack() as patches:
            for module, name in _PARSERS:
                remembers = lru_cache(1 << 18)(getattr(module, name))  # else a thousand workers parse the same
                patches.enter_context(patch.object(module, name, remembers))
            self._run()

    def _run(self) -> None:
        for number in range(self.crowd.workers):
            start_worker(self, f"host{number // self.crowd.per_host}", self.rng.uniform(0, self.crowd.start_s))
        while self._schedule:
            at, _, process, token = heappop(self._schedule)
            if token == process.token:
                self.now = at
                process.greenlet.switch()
        self.mark("left")

    def schedule(self, process: Process, at: float) -> None:
        """Let a process go on at *at*, and not when it was to before."""
        process.token += 1
        self._order += 1
        heappush(self._schedule, (at, self._order, process, process.token))

    def wait(self, process: Process, until: float) -> None:
        """The process that runs waits; others go on meanwhile, if there are any."""
        if self._schedule and self._schedule[0][0] <= until:
            self.schedule(process, until)
            self.hub.switch()
        else:
            self.now = until

    def mark(self, moment: str) -> None:
        """Remember a moment, the first time."""
        if moment not in self.marks:
            self.marks[moment] = Mark(self.now, self.trips.copy())

    def inputs(self) -> Iterator[Found]:
        """Exponentially distributed sizes; how long an input lasts is in proportion."""
        if self.crowd.idle_s:
            yield "last", self.crowd.inputs << 16  # a ticket of its own, the first to be claimed
        rng = Random(self.crowd.inputs)
        for number in range(self.crowd.inputs - bool(self.crowd.idle_s)):
            yield f"{number // 1000:04d}/{number:07d}", int(rng.expovariate(1 / (1 << 20)))

    def process_input(self, process: Process, attempt: Attempt) -> bytes:
        """Be the task: read an input, take time."""
        self.trips["map", "in", "read"] += READ_INPUT
        if "begun" not in self.marks:
            self.mark("begun")
            self.on_begin()
        if attempt.input == "last":
            while self.settled < self.crowd.inputs - 1:
                process.sleep(1.0)
            process.sleep(60.0)  # looks become rare
            self.mark("idle")
            process.sleep(self.crowd.idle_s)
            self.mark("idle ends")
        else:
            took_s = attempt.size_bytes / (1 << 20) * self.crowd.input_s
            self.busy_s += took_s
            process.sleep(READ_INPUT * ROUND_TRIP_S + took_s)
        self.settled += 1
        if self.settled == self.crowd.inputs - 1:
            self.mark("nearly")
        if self.settled == self.crowd.inputs:
            self.mark("done")
        return json.dumps({"bytes": attempt.size_bytes}).encode() + b"\n"


class CountingFs(HookedFs):
    """What one process sees of the server."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.world.server)
        self._process = process
        self._world = process.world
        self._listed: OrderedDict[str, tuple[float, float, bool]] = OrderedDict()  # change time, since when, certain

    def _call(self, op: str, function: Callable[..., Any], *args: Any) -> Any:
        process, world = self._process, self._world
        path = args[0] if op not in ("write_beat", "flush") else f"{OUT}/.claimwork/live/"
        area = area_of(path)
        trips = TRIPS[op]
        process.ahead_s += trips * ROUND_TRIP_S
        if not (area in _OWN and (op in ("stage", "unlink") or (op == "link" and area == "results"))):
            process.sleep(0.0)
        world.trips[process.role, area, op] += trips
        try:
            result = function(*args)
        except OSError:
            if op == "rename" and area == "ready":
                world.lost_races += 1
            raise
        if op in _RENEWS:
            for directory, _ in changes_of(op, args, 0.0):
                world.changed[directory] = process.monotonic()
            world.claims += op == "rename" and area == "ready"
        elif op == "names":
            world.listings.setdefault(area, Counter())[len(result)] += 1
            if not self._is_unchanged(path):
                more = max(1, ceil(len(result) / NAMES_IN_REPLY))
                world.trips[process.role, area, op] += more
                process.ahead_s += more * ROUND_TRIP_S
        return result

    def _is_unchanged(self, path: str) -> bool:
        """Whether the directory is certain to be as it was at an earlier listing (`claimwork.listing`)."""
        now, changed = self._process.monotonic(), self._world.changed.get(path, -1.0)
        seen = self._listed.pop(path, None)
        if seen is None or seen[0] != changed:
            seen = (changed, now, False)
        self._listed[path] = (changed, seen[1], now - seen[1] > TICK_S)
        if len(self._listed) > 4096:
            self._listed.popitem(last=False)
        return seen[2]


def area_of(path: str) -> str:
    """What a path belongs to: results, or a directory of claimwork's own."""
    parts = path.split("/", 4)
    return parts[3] if parts[2] == ".claimwork" and len(parts) > 3 else parts[2]


class _Child:
    """A slot: one process, waiting for tickets."""

    def __init__(self, executor: CrowdExecutor, parent: Process) -> None:
        self.ticket: Ticket | None = None
        self.since = 0.0
        self.progress = SimProgress()
        self._executor = executor
        self.process = Process(parent.world, self._serve, parent.world.now, "map")

    def _serve(self, process: Process) -> None:
        world = process.world
        self.progress.now = process.monotonic
        work = TicketWork(
            CountingFs(process),
            world.layout,
            world.job,
            self._executor.worker,
            "0",
            "/in",
            process,
            self.progress,
            lambda _job: _Runner(process),
            lambda _root, _job, _skip: world.inputs(),
        )
        while True:
            assert self.ticket is not None
            kind = process.role = self.ticket.kind.name.lower()
            world.mark(f"{kind} begins")
            answer = work.run(self.ticket)
            process.sleep(0.0)
            world.mark(f"{kind} ended")
            self._executor.ended(event_of(0, self.ticket, answer))
            world.hub.switch()


class CrowdExecutor:
    """`executor.Executor` with one simulated child."""

    slots = 1

    def __init__(self, parent: Process, worker: str) -> None:
        self.worker = worker
        self._parent = parent
        self._child: _Child | None = None
        self._inbox: list[Event] = []
        self._waits = False

    def free(self) -> list[int]:
        return [] if self._child is not None and self._child.ticket is not None else [0]

    def running(self) -> dict[int, Running]:
        child = self._child
        if child is None or child.ticket is None:
            return {}
        at = child.progress
        return {0: Running(child.ticket, at.index if at.index >= 0 else None, at.begun_at, child.since)}

    def start(self, _slot: int, ticket: Ticket, *, control: bool = False) -> None:
        assert not control
        self._child = child = self._child or _Child(self, self._parent)
        child.ticket = ticket
        child.since = self._parent.monotonic()
        child.progress.stop = 1 << 62
        self._parent.role = "busy"
        self._parent.world.schedule(child.process, child.since)

    def stop_before(self, _slot: int, index: int) -> None:
        assert self._child is not None
        self._child.progress.stop = index

    def ended(self, event: Event) -> None:
        """The child reports."""
        self._inbox.append(event)
        if self._waits:
            self._parent.world.schedule(self._parent, self._parent.world.now)

    def poll(self, timeout_s: float) -> list[Event]:
        if not self._inbox:
            self._waits = True
            self._parent.sleep(timeout_s)
            self._waits = False
        events, self._inbox = self._inbox, []
        if events:
            assert self._child is not None
            self._child.ticket = None
            self._parent.role = "idle"
        return events

    def kill(self) -> list[Ticket]:
        assert not self.running()  # nobody is told to stop here
        return []


class _Runner:
    def __init__(self, process: Process) -> None:
        self._process = process
        self.reduce: Callable[[Results], Any] = lambda results: sum(each.value["bytes"] for each in results)

    def run(self, _path: str, attempt: Attempt, _staged: str) -> bytes | None:
        return self._process.world.process_input(self._process, attempt)


def start_worker(world: World, host: str, at: float) -> None:
    """A process that is a worker."""

    def main(process: Process) -> None:
        identity = BeatRecord(
            worker=f"{world.rng.getrandbits(128):032x}", beat=0, boot=host, host=host, started_at=process.time()
        )
        context = Context(
            CountingFs(process),
            world.layout,
            world.job,
            process,
            Random(world.rng.random()),
            identity,
            lambda worker: CrowdExecutor(process, worker),
            Setup(),
            Stop(),
        )
        run_worker(context)
        if context.tally.fenced or not context.tally.complete:
            raise AssertionError("a worker was taken for dead, or left before the end")

    Process(world, main, at, "idle")
