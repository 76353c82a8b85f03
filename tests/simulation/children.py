"""Children of simulated workers, and the task that they run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from claimwork.child_process import LOST, NEVER, TicketWork
from claimwork.executor import Crashed, Event, Running, event_of
from claimwork.names import Kind, Ticket
from claimwork.records import Job
from claimwork.results import purge_stage
from claimwork.retrying import RetryingFs
from claimwork.tasks import Attempt, Results
from claimwork.testing import Died
from tests.simulation.invariants import Violation
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.simulator import World


LIMIT_SPINS = 20  # looks at children that wait for nothing and find nothing, one after the other
PARTS = 3  # of the large input of a job that splits
LARGE_BYTES = 1 << 32  # beside such an input all others are so small that they make up one ticket


class SimProgress:
    def __init__(self) -> None:
        self.index = -1
        self.begun_at = 0.0
        self.stop = NEVER
        self.now: Callable[[], float] = lambda: 0.0
        self.is_loaded = False

    def loaded(self) -> None:
        self.is_loaded = True

    def begin(self, index: int) -> None:
        self.begun_at = self.now()
        self.index = index

    def end(self) -> None:
        self.index = -1

    def counted(self, count: int) -> None:
        pass

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
        self._spins = 0

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
            large = world.inputs[0] if world.case.profile.grouped else ""
            return iter([(name, LARGE_BYTES if name == large else len(name)) for name in world.inputs])

        def died() -> None:
            if at.process is process_:
                index = progress.index if progress.index >= 0 else None
                at.process = None
                self._post(
                    Crashed(slot, ticket, "crash", "killed", "", index, progress.is_loaded or ticket.kind is Kind.PLAN)
                )

        at.process = process_ = Process(world, f"{self._parent.name}.{prefix}", self._parent.host, main)
        process_.on_death = died

    def stop_before(self, slot: int, index: int) -> None:
        self._slots[slot].progress.stop = index

    def poll(self, timeout_s: float) -> list[Event]:
        self._spins = 0 if self._inbox or timeout_s > 0 else self._spins + 1
        if self._spins > LIMIT_SPINS:
            raise Violation("a worker asks its children again and again without waiting")
        if not self._inbox:
            self._world.sleep(timeout_s)
        events, self._inbox = self._inbox, []
        for event in events:
            self._slots[event.slot].ticket = None  # busy until its event is collected, as in the real one
            if isinstance(event, Crashed):
                purge_stage(self._fs(), self._world.layout, self._worker, f"{event.slot}-")
        return events

    def end(self, slot: int) -> None:
        at = self._slots[slot]
        process, at.process, at.ticket = at.process, None, None
        self._inbox = [event for event in self._inbox if event.slot != slot]
        at.progress.stop = LOST
        if process is not None:
            self._world.kill(process, late=self._world.rng.random() < 0.5)
        purge_stage(self._fs(), self._world.layout, self._worker, f"{slot}-")

    def kill(self) -> list[Ticket]:
        tickets = []
        for number, slot in enumerate(self._slots):
            if slot.ticket is not None:
                tickets.append(slot.ticket)
                self.end(number)
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
        self._parent.wake(self._world.now)


class SimRunner:
    """The task: what an input does is in its name."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self.reduce: Callable[[Results], Any] = lambda results: [each.value for each in results]

    def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
        return json.dumps(self.value(path, attempt)).encode() + b"\n"

    def merged(self, values: Iterator[Any]) -> bytes:
        parts = list(values)
        starts = [start for _, start, _ in parts]
        if starts != sorted(set(starts)) or starts[0] != 0 or len(parts) != PARTS:
            raise Violation(f"parts that begin at {starts} were merged")
        return json.dumps([parts[0][0], *(bits for _, _, bits in parts)]).encode() + b"\n"

    def value(self, path: str, attempt: Attempt) -> Any:
        name = path.rpartition("/")[2]
        if self._process.host.broken:
            self._world.case.kinds["broken"] += 1
            raise ImportError(name)
        if name.startswith("bad") or (name.startswith("flaky") and self._world.rng.random() < 0.5):
            raise ValueError(name)
        if name.startswith("kill"):
            self._world.kill(self._process)
            raise Died
        if name.startswith("late") and attempt.number == 1:
            self._world.sleep(100.0)  # long enough for somebody to run a copy of it
            if self._world.rng.random() < 0.3:
                raise ValueError(name)
        self._world.sleep(self._world.rng.choice([0.001, 0.01, 1.0]) if not name.startswith("slow") else 7.0)
        return [name, attempt.start, self._world.rng.getrandbits(32)]
