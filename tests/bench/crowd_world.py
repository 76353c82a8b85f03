"""Many workers of the shipping code on a model of an NFS server that counts round trips; time is simulated, nothing fails.

Workers and their children are greenlets on one `MemoryServer`; whoever has the earliest time goes on. A call takes as long as its
round trips. Calls to files and directories of a process's own cannot meet anybody, so the clock of that process just runs
ahead of the others'; before any other call, and before it waits, it stands still until they have caught up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from greenlet import getcurrent, greenlet

from claimwork.job import create_job
from claimwork.layout import Layout
from claimwork.planner import Found
from claimwork.records import Job
from claimwork.tasks import Attempt
from claimwork.testing import MemoryServer
from tests.bench.crowd_fs import OUT, ROUND_TRIP_S

READ_INPUT = 3


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
        self.on_begin: Callable[[World], None] = lambda _world: None  # called when the first input begins
        self.hub = getcurrent()
        self._schedule: list[tuple[float, int, Process, int]] = []
        self._order = 0
        self.job = Job(id=f"{self.rng.getrandbits(128):032x}", task="simulated")
        create_job(self.server, self.layout, self.job, f"{self.rng.getrandbits(128):032x}")

    def run(self) -> None:
        """Let whoever is there work until all have ended."""
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

    def process_input(self, process: Process, attempt: Attempt) -> object:
        """Be the task: read an input, take time."""
        self.trips["map", "in", "read"] += READ_INPUT
        if "begun" not in self.marks:
            self.mark("begun")
            self.on_begin(self)
        if attempt.input == "last" and attempt.number > 1:  # a copy, which is not to win
            while True:
                process.sleep(5.0)
        elif attempt.input == "last":
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
        return {"bytes": attempt.size_bytes}
