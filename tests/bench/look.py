"""Look: how many calls to the mount one refresh of `status` and of the dashboard takes, as the number of inputs grows.

Counted on a filesystem in memory, so the figures are those of the code: a job of which every other ticket is done, which is the
most to find out. The first look learns the plan; whoever watches takes the second one from then on.
"""

from __future__ import annotations

from typing import Any

from claimwork.job import create_job
from claimwork.layout import Layout
from claimwork.names import Kind, Ticket
from claimwork.planner import Planner
from claimwork.records import Job, Outcome
from claimwork.results import Stage, write_done
from claimwork.status import StatusReader
from claimwork.testing import HookedFs, ManualClock, MemoryServer
from claimwork.ticket_store import RenameStore
from tests.bench.measure import Measure, Options

SIZES = (1_000, 10_000, 100_000, 1_000_000)
ME = "1" * 32
DONE = Outcome(True, 2, "0" * 32)
LIMIT = 64.0  # calls: `progress` looks up at most 32 segments at a time


class Counting(HookedFs):
    """Counts the calls."""

    calls = 0

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        self.calls += 1


def measure(_options: Options) -> list[Measure]:
    """The same figures each time, so once."""
    found: dict[int, tuple[int, int]] = {inputs: _count(inputs) for inputs in SIZES}
    result = []
    for inputs, (first, second) in found.items():
        result.append(Measure(f"{inputs} inputs: first look", "calls", [first]))
        result.append(Measure(f"{inputs} inputs: each further look", "calls", [second], LIMIT))
    return result


def _count(inputs: int) -> tuple[int, int]:
    server, layout = MemoryServer("nfs4"), Layout("/out")
    server.mkdir("/out")
    job = create_job(server, layout, Job("job", "wordcount"), "0" * 32)
    for directory in layout.stage_of(ME), layout.work_of(ME):
        server.mkdir(directory)
    stage = Stage(server, layout, ME, "b")
    store = RenameStore(server, layout, ME, stage)
    Planner(server, layout, job, stage, store).plan(
        (f"{n // 1000:04}/{n % 1000:03}", 1000 + n % 7) for n in range(inputs)
    )
    tickets = [ticket for shard in server.names(layout.ready) for ticket in store.waiting(shard)]
    for ticket in [each for each in tickets if each.kind is Kind.MAP][::2]:
        _do(server, layout, stage, store, ticket)
    fs = Counting(server)
    reader = StatusReader(fs, layout, ManualClock())
    counts = []
    for _ in range(2):
        fs.calls = 0
        if reader.read().total != inputs:
            raise AssertionError("the plan is not what was planned")
        counts.append(fs.calls)
    return counts[0], counts[1]


def _do(server: MemoryServer, layout: Layout, stage: Stage, store: RenameStore, ticket: Ticket) -> None:
    store.claim(ticket)
    write_done(server, layout, stage, ticket.segment, dict.fromkeys(range(ticket.lo, ticket.hi), DONE), [])
    store.drop(ticket)
