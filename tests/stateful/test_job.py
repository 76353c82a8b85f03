"""A job in memory, done by workers that are killed, stopped and fenced at any call, against a model of dicts.

Invariants are numbered as in docs/protocol.md; what they promise must be on disk after every step.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from claimwork import records
from claimwork.coverage import Coverage
from claimwork.errors import Fenced
from claimwork.finalizer import reduce_generation
from claimwork.heartbeat import Heartbeat
from claimwork.layout import Layout
from claimwork.names import Kind, Ticket
from claimwork.plan_log import PlanLog
from claimwork.planner import Planner
from claimwork.policy import after_failure, part_of
from claimwork.reaper import Reaper
from claimwork.records import BeatRecord, Failure, Job, Outcome, Segment
from claimwork.results import Places, adopt, done_ranges, publish, read_done, settle, settled, write_done
from claimwork.tasks import count_results
from claimwork.testing import Died, FaultyFs, MemoryServer
from tests.conftest import Peer

DIES = st.none() | st.integers(0, 15)  # before which of its next calls a worker is killed
INDEX = st.integers(0, 31)  # which worker, ticket or input: taken modulo how many there are


class Worker(Peer):
    """A worker as far as disk goes: it beats, reaps and holds tickets; ``fs`` may kill it at its next calls."""

    def __init__(self, server: MemoryServer, layout: Layout, number: int, claims: str) -> None:
        self.faulty = FaultyFs(server, error=Died(), executed=False)
        super().__init__(self.faulty, layout, number, claims)
        server.mkdir(layout.stage_of(self.id))
        server.mkdir(layout.work_of(self.id))
        me = BeatRecord(self.id, 0, boot="kernel")
        self.heartbeat = Heartbeat(self.faulty, layout, self.clock, 75.0, 0.5)
        self.heartbeat.start(me)
        self.reaper = Reaper(self.faulty, layout, self.store, self.clock, me, 75.0)
        self.planner = Planner(self.faulty, layout, JobMachine.job, self.stage, self.store)


class JobMachine(RuleBasedStateMachine):
    """Rules are what workers do; each may be cut short by a kill."""

    job = Job("job", "wordcount", max_attempts=3, backoff_s=0.0)
    claims = "rename"

    def __init__(self) -> None:
        super().__init__()
        self.server, self.layout = MemoryServer(rng=Random(1)), Layout("/out")
        for directory in ("/out", *self.layout.directories()):
            self.server.mkdir(directory)
        self.log = PlanLog(self.server, self.layout)
        self.coverage = Coverage(self.server, self.layout, self.log)
        self.workers: list[Worker] = []
        self.started = 0
        self.planner_died = False  # since the log was closed last: its tickets may never have been offered
        self.found: list[tuple[str, int]] = []
        self.buried: set[str] = set()
        self.published: dict[str, tuple[tuple[int, int] | None, bytes]] = {}  # what was ever seen under a public name
        self.join()

    def act(self, which: int, dies: int | None, what: Callable[[Worker], object]) -> None:
        """Let a worker do something, and kill it before a call of its; one that finds itself fenced stops too."""
        worker = self.workers[which % len(self.workers)]
        worker.faulty._at = -1 if dies is None else len(worker.faulty.calls) + dies
        try:
            what(worker)
            worker.faulty._at = -1
        except (Died, Fenced):
            worker.faulty.die()
            self.workers.remove(worker)
            if not self.workers:
                self.join()
        self.buried |= set(self.server.names(self.layout.left))

    def with_ticket(self, which: int, dies: int | None, nth: int, what: Callable[[Worker, Ticket], object]) -> None:
        def chosen(worker: Worker) -> None:
            ticket = worker.claims.next(lambda each: each.kind is Kind.MAP)
            if mine := sorted(worker.claims.mine.values(), key=lambda each: each.name):
                what(worker, ticket or mine[nth % len(mine)])

        self.act(which, dies, chosen)

    @rule()
    def join(self) -> None:
        self.started += 1
        self.workers.append(Worker(self.server, self.layout, self.started, self.claims))

    @initialize(count=st.integers(3, 9))
    def start(self, count: int) -> None:
        self.plan(0, None, count)

    @rule(which=INDEX, dies=DIES, count=st.integers(0, 9))
    def plan(self, which: int, dies: int | None, count: int) -> None:
        first = len(self.found)  # the first input is so large that all the others are in one ticket
        self.found += [(f"d{nth % 3}/{nth}", 10**9 if nth == first else 1) for nth in range(first, first + count)]
        self.act(which, dies, lambda worker: worker.planner.plan(self.found))
        self.planner_died |= dies is not None
        for ticket in self.coverage.missing_tickets(self.workers[-1].claims, f"{self.started:016x}"):
            assert self.planner_died, f"{ticket} is missing, and no planner died"
            self.join()
            self.workers[-1].store.offer(ticket)
        self.planner_died &= not self.log.closes()[1]

    @rule(which=INDEX, dies=DIES)
    def claim(self, which: int, dies: int | None) -> None:
        self.act(which, dies, lambda worker: worker.claims.next(lambda ticket: ticket.kind is Kind.MAP))

    @rule(which=INDEX, dies=DIES, nth=INDEX, count=INDEX)
    def finish(self, which: int, dies: int | None, nth: int, count: int) -> None:
        self.with_ticket(which, dies, nth, lambda worker, each: self._finish(worker, each, each.lo + 1 + count))

    @rule(which=INDEX, dies=DIES, nth=INDEX, at=INDEX, final=st.booleans())
    def fail(self, which: int, dies: int | None, nth: int, at: int, final: bool) -> None:
        self.with_ticket(
            which, dies, nth, lambda worker, each: self._fail(worker, each, each.lo + at % each.count, final)
        )

    @rule(which=INDEX, dies=DIES, nth=INDEX, at=INDEX)
    def split(self, which: int, dies: int | None, nth: int, at: int) -> None:
        def cut(worker: Worker, ticket: Ticket) -> None:
            if middle := at % ticket.count:
                edges = (ticket.lo, ticket.lo + middle), (ticket.lo + middle, ticket.hi)
                worker.claims.split(ticket, [part_of(ticket, lo, hi) for lo, hi in edges])

        self.with_ticket(which, dies, nth, cut)

    @rule(which=INDEX, dies=DIES, nth=INDEX)
    def release(self, which: int, dies: int | None, nth: int) -> None:
        self.with_ticket(which, dies, nth, lambda worker, each: worker.claims.release(each, each.successor()))

    @rule(which=INDEX, dies=DIES)
    def reap(self, which: int, dies: int | None) -> None:
        def look(worker: Worker) -> None:
            worker.clock.advance(15.0)
            worker.reaper.work(idle=True)

        self.act(which, dies, look)

    @rule(which=INDEX, dies=DIES, victim=INDEX)
    def bury_alive(self, which: int, dies: int | None, victim: int) -> None:
        other = self.workers[victim % len(self.workers)].id

        def bury(worker: Worker) -> None:
            if worker.id != other:
                worker.reaper._bury(other, "it stood still")

        self.act(which, dies, bury)

    def places(self, segment: int, index: int) -> Places:
        return Places.of(self.layout, self.job, segment, index, self.log.segment(segment).inputs[index])

    def _fail(self, worker: Worker, ticket: Ticket, index: int, final: bool) -> None:
        edges = (index, index + 1), (ticket.lo, index), (index + 1, ticket.hi)
        parts = [part_of(ticket, lo, hi) for lo, hi in edges if lo < hi]
        worker.claims.split(ticket, parts)
        again = None if final else after_failure(parts[0], index, self.job.max_attempts, self.job.backoff_s)
        if again is not None:
            worker.claims.release(parts[0], again)
            return
        path = self.log.segment(ticket.segment).inputs[index].path
        place = self.places(ticket.segment, index)
        if self.server.inode(place.result) is not None:  # as a worker does: a result outranks a report
            outcome = adopt(worker.fs, place.result)
            write_done(worker.fs, self.layout, worker.stage, ticket.segment, {index: outcome}, [])
            worker.claims.drop(parts[0])
            return
        failure = Failure(path, ticket.segment, index, ticket.attempt, "exception", "no")
        report = worker.stage.put(records.encode_quarantine(self.job.id, [failure], path, ticket.segment, index))
        _, outcome = settle(worker.fs, self.layout, self.job, place, report)
        write_done(worker.fs, self.layout, worker.stage, ticket.segment, {index: outcome}, [])
        worker.claims.drop(parts[0])

    def _finish(self, worker: Worker, ticket: Ticket, stop: int) -> None:
        outcomes: dict[int, Outcome] = {}
        for index in range(ticket.lo, min(stop, ticket.hi)):
            places = self.places(ticket.segment, index)
            known = (
                settled(worker.fs, self.layout, self.job, places, worker.stage.path()) if ticket.attempt > 1 else None
            )
            if known is None:
                staged = worker.stage.put(f'"{places.result}"'.encode())
                if ticket.attempt > 1:
                    _, known = settle(worker.fs, self.layout, self.job, places, staged)
                else:
                    publish(worker.fs, staged, places.result, self.layout.out)
                    known = adopt(worker.fs, places.result)
            outcomes[index] = known
        write_done(worker.fs, self.layout, worker.stage, ticket.segment, outcomes, [])
        if stop >= ticket.hi:
            worker.claims.drop(ticket)
        else:
            worker.claims.release(ticket, ticket.successor(lo=stop))

    @invariant()
    def what_must_be_on_disk(self) -> None:
        """The invariants of docs/protocol.md, by their numbers."""
        layout, server, entries = self.layout, self.server, list(self.log.entries())
        if self.log.closes()[1]:  # I1: nothing is lost
            assert self.coverage.missing_tickets(self.workers[0].claims, "0" * 16) == []
        places = [layout.results, layout.quarantine, layout.summaries]
        seen = {path: (server.inode(path), server.read(path, 1 << 20)) for root in places for path in self.files(root)}
        assert self.published.items() <= seen.items()  # I2, I7: what is published stays
        self.published = seen
        results = {path: data for path, (_, data) in seen.items() if path.startswith(layout.results)}
        assert results == {path: f'"{path}"'.encode() for path in results}  # I3: it is whole
        for number, entry in entries:
            for lo, hi in done_ranges(server, layout, number) if isinstance(entry, Segment) else ():
                for index, outcome in enumerate(read_done(server, layout, number, lo, hi).outcomes, lo):
                    place = self.places(number, index)  # I4: what is done has one outcome
                    assert [place.result in seen, place.quarantine in seen] == [outcome.ok, not outcome.ok]
                    assert not outcome.ok or outcome == adopt(server, place.result)
        assert not self.buried & {*server.names(layout.work), *server.names(layout.stage)}  # I5: fenced for good
        paths = [each.path for _, entry in entries if isinstance(entry, Segment) for each in entry.inputs]
        assert len(set(paths)) == len(paths)  # I6: a gapless log (or reading it fails), no input twice
        ready = [ticket.attempt for ticket in self.workers[0].claims.ready()]
        assert max(ready, default=1) <= self.job.max_attempts + self.started  # I8: attempts are bounded

    def files(self, root: str) -> list[str]:
        """All files below a directory; in these trees a directory never ends like a result."""
        found = []
        for name in self.server.names(root):
            path = f"{root}/{name}"
            found += [path] if root == self.layout.summaries or name.endswith(".json") else self.files(path)
        return found

    def teardown(self) -> None:
        """Whoever survives finishes the job: each input has one outcome, and the summary counts them all."""
        last = Worker(self.server, self.layout, 999, self.claims)
        for worker in self.workers:
            worker.faulty.die()
        last.planner.plan(self.found)
        for _ in range(400):
            last.clock.advance(15.0)
            last.reaper.work(idle=True)
            ticket = last.claims.next(lambda each: each.kind is Kind.MAP)
            if ticket is not None:
                self._finish(last, ticket, ticket.hi)
            elif self.coverage.state().covered and self.server.names(self.layout.live) == [last.id]:
                break
            else:
                for lost in self.coverage.missing_tickets(last.claims, f"{999:016x}"):
                    last.store.offer(lost)
        number = self.log.closes()[0][-1][0]
        summary = reduce_generation(self.server, self.layout, self.job, last.stage, number, count_results)
        assert summary is not None
        assert summary.inputs == len(self.found) == summary.results + summary.quarantined
        self.workers = [last]
        self.what_must_be_on_disk()


class MarkerMachine(JobMachine):
    """The same with marker claims."""

    claims = "marker"


TestRename = JobMachine.TestCase
TestMarker = MarkerMachine.TestCase
TestRename.settings = TestMarker.settings = settings(stateful_step_count=25)
