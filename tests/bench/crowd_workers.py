"""The workers of a simulated crowd: the shipping code, each with a child that is a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from random import Random
from unittest.mock import patch

from claimwork import names, records, results
from claimwork.child_process import TicketWork
from claimwork.executor import Event, Running, event_of
from claimwork.names import Ticket
from claimwork.records import BeatRecord
from claimwork.tasks import Attempt, PythonRunner, Runner, Task
from claimwork.worker import Context, Setup, Stop, run_worker
from tests.bench.crowd_fs import CountingFs
from tests.bench.crowd_world import Crowd, Process, World
from tests.simulation.children import SimProgress

_PARSERS = ((records, "parse_entry"), (records, "parse_beat"), (results, "parse_range"), (names, "parse_ticket"))


def simulate(crowd: Crowd, seed: int, on_begin: Callable[[World], None] = lambda _world: None) -> World:
    """Run one job to its end; *on_begin* is called when its first input begins."""
    world = World(crowd, seed)
    world.on_begin = on_begin
    for number in range(crowd.workers):
        _start_worker(world, f"host{number // crowd.per_host}", world.rng.uniform(0, crowd.start_s))
    with ExitStack() as patches:
        for module, name in _PARSERS:
            remembers = lru_cache(1 << 18)(getattr(module, name))  # else a thousand workers parse the same
            patches.enter_context(patch.object(module, name, remembers))
        world.run()
    return world


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
            lambda _job: _runner(process),
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

    def end(self, _slot: int) -> None:
        assert self._child is not None
        self._child.process.token += 1  # whatever it was to do, it never will
        self._child = None
        self._parent.role = "idle"

    def kill(self) -> list[Ticket]:
        assert not self.running()  # nobody is told to stop here
        return []


def _runner(process: Process) -> Runner:
    def task(_path: str, attempt: Attempt) -> object:
        return process.world.process_input(process, attempt)

    return PythonRunner(Task(task))


def _start_worker(world: World, host: str, at: float) -> None:
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
