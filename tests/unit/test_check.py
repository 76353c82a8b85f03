"""`check` names every damage, mends what can be mended, and is silent about a job at work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import greenlet
import pytest

from claimwork import records
from claimwork.check import CheckReport, check
from claimwork.child_process import TicketWork
from claimwork.clock import Clock
from claimwork.executor import Event, Running, event_of
from claimwork.fs import Fs, PosixFs
from claimwork.inputs import quarantined, retry
from claimwork.job import create_job
from claimwork.layout import Layout
from claimwork.names import Kind, Ticket, map_ticket, parse_range, parse_ticket
from claimwork.plan_log import PlanLog
from claimwork.planner import Found
from claimwork.records import BeatRecord, Done, Job, Outcome
from claimwork.results import Stage
from claimwork.stores import make_store
from claimwork.tasks import Attempt, GiveUp, PythonRunner, Task
from claimwork.testing import Died, HookedFs, ManualClock, MemoryServer
from claimwork.worker import Context, Setup, Stop, run_worker
from tests.conftest import Told

NAMES = ["a.txt", "b/c.txt", "b/d.json", "b/bad", "flaky", "long", "-odd näme\n", "\udcff"]
STRANGER = "ab" * 16
OTHER = "cd" * 16


def _length(path: Path, attempt: Attempt) -> object:
    if path.name == "bad":
        raise GiveUp("it is bad")
    if path.name == "flaky" and attempt.number == 1:
        raise ValueError("not today")
    return "x" * 2000 if path.name == "long" else {"length": len(path.name)}


class Inline:
    """An executor that runs tickets in this very process."""

    slots = 1

    def __init__(self, work: TicketWork, clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._ticket: Ticket | None = None

    def free(self) -> list[int]:
        return [] if self._ticket else [0]

    def running(self) -> dict[int, Running]:
        return {0: Running(self._ticket, None, 0.0, self._clock.monotonic())} if self._ticket else {}

    def start(self, slot: int, ticket: Ticket, *, control: bool = False) -> None:
        self._ticket = ticket

    def stop_before(self, slot: int, index: int) -> None:
        pass

    def poll(self, timeout_s: float) -> list[Event]:
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            self._clock.sleep(timeout_s)
            return []
        return [event_of(0, ticket, self._work.run(ticket))]

    def end(self, slot: int) -> None:
        self._ticket = None

    def kill(self) -> list[Ticket]:
        return []


class Watched(HookedFs):
    """Tells *then* before each call."""

    def __init__(self, inner: Fs, then: Callable[[str], object]) -> None:
        super().__init__(inner)
        self._then = then

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        self._then(op)


@dataclass
class Site:
    """A job on some filesystem, and what a person or a worker does to it."""

    fs: Fs
    layout: Layout
    job: Job
    names: list[str]

    def work(self, fs: Fs | None = None, worker: str | None = None) -> None:
        """Be a worker until nothing is left."""
        clock = ManualClock()
        rng = Random(7)
        used = fs or self.fs

        def make_executor(me: str) -> Inline:
            def find(_root: str, _job: Job, _skip: Callable[[str], None]) -> Iterator[Found]:
                return iter([(name, len(name)) for name in self.names])

            runner = PythonRunner(Task(_length))
            work = TicketWork(used, self.layout, self.job, me, "k", "/in", clock, Told(), lambda _job: runner, find)
            return Inline(work, clock)

        identity = BeatRecord(worker or os.urandom(16).hex(), 0, boot="this")
        run_worker(Context(used, self.layout, self.job, clock, rng, identity, make_executor, Setup(), Stop()))

    def check(self, *, repair: bool = False) -> CheckReport:
        return check(self.fs, self.layout, repair=repair, clock=ManualClock())

    def codes(self) -> list[str]:
        return sorted(each.code for each in self.check().findings)

    def done(self, name: str) -> tuple[str, Done]:
        """Path and content of the done record of one input."""
        for number, entry in PlanLog(self.fs, self.layout).entries():
            if isinstance(entry, records.Segment):
                at = [each.path for each in entry.inputs].index(name)
                for each in self.fs.names(self.layout.done_of(number)):
                    lo, hi = parse_range(each) or (0, 0)
                    if lo <= at < hi:
                        path = f"{self.layout.done_of(number)}/{each}"
                        return path, records.parse_done(self.fs.read(path, 1 << 20), path)
        raise AssertionError(name)

    def stage(self) -> tuple[Any, Stage]:
        stage = Stage(self.fs, self.layout, OTHER, "t")
        self.fs.mkdir(stage.directory)
        return make_store(self.job, self.fs, self.layout, OTHER, stage), stage

    def offer(self, ticket: Ticket) -> None:
        store, stage = self.stage()
        store.offer(ticket)
        self.fs.rmdir(stage.directory)

    def write(self, path: str, data: bytes) -> None:
        """Replace a file as an editor does."""
        if self.fs.inode(path) is not None:
            self.fs.unlink(path)
        self.fs.stage(path, data)

    def result(self, name: str) -> str:
        return f"{self.layout.results}/{name}.json"


def _a_job(claims: str) -> Job:
    return Job("j1", "length", claims=claims, max_attempts=3, backoff_s=0.5)


def _new_site(fs: Fs, out: str, claims: str) -> Site:
    layout = Layout(out)
    job = create_job(fs, layout, _a_job(claims), OTHER)
    return Site(fs, layout, job, NAMES)


@pytest.fixture(params=["rename", "marker"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """A fresh job on a real filesystem."""
    out = str(tmp_path / "out")
    os.mkdir(out)
    (tmp_path / "in").mkdir()
    return _new_site(PosixFs(out), out, request.param)


@pytest.fixture
def finished(site: Site) -> Site:
    """A job that is complete."""
    site.work()
    return site


# -- what is no damage ------------------------------------------------------------------------------------------------


def test_a_fresh_job_is_clean(site: Site) -> None:
    """Nothing is planned, and the plan ticket waits."""
    report = site.check()

    assert (report.findings, report.inputs, report.complete) == ([], 0, False)


def test_a_finished_job_is_clean_and_counted(finished: Site) -> None:
    """Each input is a result or quarantined, and nothing is worth a note."""
    assert finished.check() == CheckReport([], [], len(NAMES), len(NAMES) - 1, 1, 0, complete=True)


def test_a_check_tells_its_progress(finished: Site) -> None:
    """The number of inputs so far, segment by segment."""
    told: list[int] = []
    check(finished.fs, finished.layout, progress=told.append, clock=ManualClock())

    assert told == [len(NAMES)]


def test_a_retried_input_is_clean_before_and_after(finished: Site) -> None:
    """A retry is planned once more, its report goes, and the old outcome no longer counts."""
    _retry(finished)

    assert finished.codes() == []
    finished.work()
    assert finished.check() == CheckReport([], [], len(NAMES), len(NAMES) - 1, 1, 0, complete=True)


def _retry(site: Site) -> None:
    store, stage = site.stage()
    retry(site.fs, site.layout, site.job, stage, store, quarantined(site.fs, site.layout, []))
    site.fs.rmdir(stage.directory)


def test_a_check_changes_nothing(finished: Site) -> None:
    """Without --repair not a single call is made that changes something, whatever is found."""
    finished.fs.unlink(finished.result("a.txt"))
    calls: set[str] = set()
    check(Watched(finished.fs, calls.add), finished.layout, clock=ManualClock())

    assert calls <= {"names", "read", "inode", "digest"}


# -- damages ----------------------------------------------------------------------------------------------------------


def _done_deleted(site: Site) -> None:
    site.fs.unlink(site.done("a.txt")[0])


def _done_damaged(site: Site) -> None:
    site.write(site.done("a.txt")[0], b'{"v": 1, "segm')


def _done_of_others(site: Site) -> None:
    path, done = site.done("a.txt")
    site.write(path, records.encode_done(Done(7, done.lo, done.hi, done.worker, done.outcomes)))


def _done_beyond(site: Site) -> None:
    path, done = site.done("a.txt")
    outcomes = [*done.outcomes, *[Outcome(ok=False)] * 9]
    beyond = Done(done.segment, done.lo, done.lo + len(outcomes), done.worker, outcomes)
    directory = path.rpartition("/")[0]
    site.write(f"{directory}/{beyond.lo}-{beyond.hi}", records.encode_done(beyond))


def _done_disagrees(site: Site) -> None:
    path, done = site.done("a.txt")
    other = [Outcome(ok=True, size_bytes=1, digest="00") for _ in range(len(done.outcomes) + 1)]
    lo = done.lo - 1 if done.lo else done.lo
    wrong = Done(done.segment, lo, lo + len(other), done.worker, other)
    site.write(f"{path.rpartition('/')[0]}/{wrong.lo}-{wrong.hi}", records.encode_done(wrong))


def _value_wrong(site: Site) -> None:
    path, done = site.done("a.txt")
    good = done.outcomes[0]
    bad = Outcome(ok=True, size_bytes=good.size_bytes, digest=good.digest, has_value=True, value={"length": 99})
    site.write(path, records.encode_done(Done(done.segment, done.lo, done.hi, done.worker, [bad])))


def _done_of_no_segment(site: Site) -> None:
    site.fs.mkdir(site.layout.done_of(9))
    site.fs.stage(f"{site.layout.done_of(9)}/0-4", b"{}")


def _result_truncated(site: Site) -> None:
    data = site.fs.read(site.result("a.txt"), 1000)
    site.write(site.result("a.txt"), data[:-3])


def _result_deleted(site: Site) -> None:
    site.fs.unlink(site.result("a.txt"))


def _result_deleted_of_second_attempt(site: Site) -> None:
    site.fs.unlink(site.result("flaky"))


def _result_is_a_link(site: Site) -> None:
    site.fs.unlink(site.result("a.txt"))
    os.symlink("/etc/hostname", site.result("a.txt"))


def _result_is_a_fifo(site: Site) -> None:
    site.fs.unlink(site.result("long"))
    os.mkfifo(site.result("long"))


def _directory_is_a_link(site: Site) -> None:
    os.rename(f"{site.layout.results}/b", f"{site.layout.out}/elsewhere")
    os.symlink("../elsewhere", f"{site.layout.results}/b")


def _report_deleted(site: Site) -> None:
    site.fs.unlink(f"{site.layout.quarantine}/b/bad.json")


def _report_damaged(site: Site) -> None:
    site.write(f"{site.layout.quarantine}/b/bad.json", b"[")


def _report_lost_with_all_that_tells(site: Site) -> None:
    _report_deleted(site)
    for top in (site.layout.settled_of(0), site.layout.failures_of(0)):
        for name in site.fs.names(top):
            site.fs.unlink(f"{top}/{name}")


def _report_beside_result(site: Site) -> None:
    data = site.fs.read(f"{site.layout.quarantine}/b/bad.json", 1 << 20)
    site.fs.stage(f"{site.layout.quarantine}/a.txt.json", data)


def _result_beside_report(site: Site) -> None:
    site.fs.stage(f"{site.layout.results}/b/bad.json", b'{"length": 3}\n')


def _settled_damaged(site: Site) -> None:
    _, done = site.done("b/bad")
    site.write(f"{site.layout.settled_of(0)}/{done.lo}", b"\0\xff")


def _settled_against_result(site: Site) -> None:
    _, done = site.done("a.txt")
    failure = records.Failure("a.txt", 0, done.lo, 3, "exception", "no")
    report = records.encode_quarantine("j1", [failure], "a.txt", 0, done.lo)
    site.write(f"{site.layout.settled_of(0)}/{done.lo}", report)


def _foreign_files(site: Site) -> None:
    site.fs.stage(f"{site.layout.results}/README", b"mine")
    site.fs.stage(f"{site.layout.quarantine}/todo.txt", b"mine")
    os.symlink("/", f"{site.layout.results}/root")
    site.fs.mkdir(f"{site.layout.ready}/plan")
    site.fs.stage(f"{site.layout.ready}/plan/no ticket", b"")
    site.fs.stage(f"{site.layout.plan}/000001~", b"")


def _segment_damaged(site: Site) -> None:
    site.write(site.layout.segment(0), b"\xff\xfe{")


def _segment_gone(site: Site) -> None:
    site.fs.unlink(site.layout.segment(0))


def _close_gone(site: Site) -> None:
    site.fs.unlink(site.layout.segment(1))


def _planned_twice(site: Site) -> None:
    segment = PlanLog(site.fs, site.layout).segment(0)
    site.write(site.layout.segment(2), records.encode_segment(records.Segment(segment.inputs, segment.tickets, 1)))
    site.write(site.layout.segment(3), records.encode_close(records.Close(2, 1, [(2, len(NAMES), 999)])))


def _format_newer(site: Site) -> None:
    data = site.fs.read(site.layout.job, 1 << 20)
    site.write(site.layout.job, data.replace(b'"1.0"', b'"2.0"'))


def _job_damaged(site: Site) -> None:
    site.write(site.layout.job, b"{}")


def _job_gone(site: Site) -> None:
    site.fs.unlink(site.layout.job)


def _summary_json_old(site: Site) -> None:
    site.write(site.layout.summary_json, b'{"inputs": 1}\n')


def _summary_miscounts(site: Site) -> None:
    summary = records.Summary(1, 1, len(NAMES), len(NAMES), 0, {"inputs": len(NAMES) - 1, "quarantined": 1})
    site.write(site.layout.summary(1), records.encode_summary(summary))


def _summary_damaged(site: Site) -> None:
    site.write(site.layout.summary(1), b"null")


def _summary_gone(site: Site) -> None:
    site.fs.unlink(site.layout.summary(1))


def _summary_of_nothing(site: Site) -> None:
    site.write(site.layout.summary(8), records.encode_summary(records.Summary(3, 8, 1, 1, 0, None)))


def _stray_stage(site: Site) -> None:
    site.fs.mkdir(site.layout.stage_of(STRANGER))
    site.fs.stage(f"{site.layout.stage_of(STRANGER)}/w-1", b"half")


def _stray_stage_in_use(site: Site) -> object:
    _stray_stage(site)
    return site.fs.try_lock(site.layout.oslock_of(STRANGER))


def _grave(site: Site) -> None:
    site.fs.stage(site.layout.dead_of(STRANGER), b"")


def _ticket_of_nothing(site: Site) -> None:
    site.offer(map_ticket(0, 4, 0, 5, 500, 1000))


def _directories_gone(site: Site) -> None:
    for name in site.fs.names(site.layout.ready):
        site.fs.rmdir(f"{site.layout.ready}/{name}")
    site.fs.rmdir(site.layout.ready)


@pytest.mark.parametrize(
    ("damage", "codes", "left"),
    [
        (_done_deleted, ["lost-ticket", "summary-early"], []),
        (_done_damaged, ["done-damaged"], []),
        (_done_of_others, ["done-damaged"], []),
        (_done_beyond, ["done-damaged"], []),
        (_done_disagrees, ["done-disagrees"], []),
        (_value_wrong, ["done-disagrees"], []),
        (_done_of_no_segment, ["done-unknown"], ["done-unknown"]),
        (_result_truncated, ["result-altered"], ["result-altered"]),
        (_result_deleted, ["result-missing"], []),
        (_result_deleted_of_second_attempt, ["result-missing"], []),
        (_result_is_a_link, ["not-plain"], ["not-plain"]),
        (_result_is_a_fifo, ["not-plain"], ["not-plain"]),
        (_directory_is_a_link, ["not-plain"], ["not-plain"]),
        (_report_deleted, ["report-missing"], []),
        (_report_damaged, ["report-damaged"], []),
        (_report_lost_with_all_that_tells, ["report-missing"], []),
        (_report_beside_result, ["both"], []),
        (_result_beside_report, ["both", "summary-counts"], []),
        (_settled_damaged, ["settled-disagrees"], []),
        (_settled_against_result, ["settled-disagrees"], []),
        (_foreign_files, [], []),
        (_segment_damaged, ["plan-damaged"], ["plan-damaged"]),
        (_segment_gone, ["plan-gap"], ["plan-gap"]),
        (_close_gone, ["lost-ticket", "summary-unknown"], ["summary-unknown"]),
        (_planned_twice, ["lost-ticket", "lost-ticket", "plan-wrong", "plan-wrong"], ["plan-wrong", "plan-wrong"]),
        (_format_newer, ["job-format"], ["job-format"]),
        (_job_damaged, ["job-damaged"], ["job-damaged"]),
        (_job_gone, ["job-missing"], ["job-missing"]),
        (_summary_json_old, ["summary-stale"], []),
        (_summary_miscounts, ["summary-counts"], []),
        (_summary_damaged, ["summary-damaged"], []),
        (_summary_gone, ["lost-ticket"], []),
        (_summary_of_nothing, ["summary-unknown"], ["summary-unknown"]),
        (_stray_stage, ["stray-stage"], []),
        (_stray_stage_in_use, ["stray-stage"], ["stray-stage"]),
        (_grave, ["grave"], []),
        (_ticket_of_nothing, ["ticket-unknown"], []),
        (_directories_gone, ["directory-missing"], []),
    ],
)
def test_a_damage_to_a_finished_job_is_named_and_mended_or_refused(
    finished: Site, damage: Callable[[Site], object], codes: list[str], left: list[str]
) -> None:
    """The exact codes; what is left after a repair has a reason; the rest is as before when a worker has been at it."""
    before = _tree(finished)
    kept = damage(finished)

    assert finished.codes() == codes
    mended = finished.check(repair=True)
    assert sorted(each.code for each in mended.findings if each.repair is None) == left
    again = finished.check()
    assert sorted(each.code for each in again.findings) == left
    assert all(each.what for each in again.findings)
    if not left:
        finished.work()
        report = finished.check()
        assert (report.findings, report.complete, report.open) == ([], True, 0)
        if damage is _result_beside_report:
            assert report.results == len(NAMES)
        else:
            assert before.items() <= _tree(finished).items()
    del kept


def _tree(site: Site) -> dict[str, bytes]:
    """All results and the summary, and which inputs have a report."""
    found = {"summary": site.fs.read(site.layout.summary_json, 1 << 20)}
    for name in ("a.txt", "b/c.txt", "b/d.json", "flaky", "long"):
        found[name] = site.fs.read(site.result(name), 1 << 20)
    assert site.fs.inode(f"{site.layout.quarantine}/b/bad.json")
    return found


def test_an_altered_result_is_made_again_when_a_person_moves_it_away(finished: Site) -> None:
    """The steps that the finding gives work, and the altered bytes do not come back through the settled copy."""
    with open(finished.result("flaky"), "r+b") as file:
        file.write(b"?")  # in place: every link to it changes
    finding = finished.check(repair=True).findings[0]
    assert (finding.code, finding.repair) == ("result-altered", None)

    os.rename(finished.result("flaky"), f"{finished.layout.out}/kept")
    assert [each.code for each in finished.check(repair=True).findings] == ["result-missing"]
    finished.work()

    assert finished.codes() == []
    assert finished.fs.read(finished.result("flaky"), 100) == b'{"length": 5}\n'


def test_foreign_files_are_named_and_left_alone(finished: Site) -> None:
    """Nothing of it is a finding, nothing is followed, all is still there after a repair."""
    _foreign_files(finished)
    report = finished.check(repair=True)

    named = {os.path.relpath(each.path, finished.layout.out) for each in report.notes}
    expected = {"results/README", "results/root", "quarantine/todo.txt", ".claimwork/ready/plan/no ticket"}
    assert named == {*expected, ".claimwork/plan/000001~"}
    assert all(os.path.lexists(each.path) for each in report.notes)


# -- tickets of a job at rest -----------------------------------------------------------------------------------------


@pytest.fixture
def planned(site: Site) -> Site:
    """A job that is planned, with every map ticket in ready/ and no worker."""
    store, stage = site.stage()
    for ticket in _ready(site):
        work = TicketWork(
            site.fs,
            site.layout,
            site.job,
            OTHER,
            "p",
            "/in",
            ManualClock(),
            Told(),
            find=lambda *_: iter([(name, len(name)) for name in NAMES]),
        )
        site.fs.mkdir(site.layout.work_of(OTHER))
        assert store.claim(ticket)
        assert work.run(ticket)["kind"] == "planned"
        store.drop(ticket)
    site.fs.rmdir(site.layout.work_of(OTHER))
    site.fs.rmdir(stage.directory)
    return site


def _ready(site: Site) -> list[Ticket]:
    found = []
    for shard in site.fs.names(site.layout.ready):
        found += [parse_ticket(name) for name in site.fs.names(f"{site.layout.ready}/{shard}")]
    return found


def _maps(site: Site) -> list[Ticket]:
    return sorted((each for each in _ready(site) if each.kind is Kind.MAP), key=lambda each: each.lo)


def test_a_planned_job_without_workers_is_clean(planned: Site) -> None:
    """All is open, and all is in tickets."""
    assert planned.check() == CheckReport([], [], len(NAMES), 0, 0, len(NAMES), complete=False)


def _ticket_gone(site: Site) -> None:
    site.fs.unlink(site.layout.ready_ticket(_maps(site)[2]))


def _reduce_ticket_gone(site: Site) -> None:
    for ticket in _ready(site):
        if ticket.kind is Kind.REDUCE:
            site.fs.unlink(site.layout.ready_ticket(ticket))


def _close_never_written(site: Site) -> None:
    """The planner died before the close, and its ticket is lost: nobody would ever end the generation."""
    site.fs.unlink(site.layout.segment(1))
    _reduce_ticket_gone(site)


def _ticket_twice(site: Site) -> None:
    whole = _maps(site)[0]
    site.offer(map_ticket(whole.shard, 9, 0, 0, 3, 99))


def _ticket_held_by_nobody(site: Site) -> None:
    ticket = _maps(site)[1]
    site.fs.mkdir(site.layout.work_of(STRANGER))
    if site.job.claims == "rename":
        site.fs.rename(site.layout.ready_ticket(ticket), site.layout.held_ticket(STRANGER, ticket))
    else:
        site.fs.mkdir(f"{site.layout.locks}/{ticket.shard_name}")
        site.fs.stage(site.layout.held_ticket(STRANGER, ticket), b"")
        site.fs.stage(site.layout.lock(ticket), STRANGER.encode())


def _summary_too_early(site: Site) -> None:
    site.fs.stage(site.layout.summary(1), records.encode_summary(records.Summary(1, 1, 8, 8, 0, None)))
    site.fs.stage(site.layout.summary_json, b"null\n")


def _link_where_a_result_will_be(site: Site) -> None:
    os.symlink("/etc/hostname", site.result("a.txt"))


def _file_where_results_will_be(site: Site) -> None:
    site.fs.stage(f"{site.layout.results}/b", b"")


@pytest.mark.parametrize(
    ("damage", "codes", "left"),
    [
        (_ticket_gone, ["lost-ticket"], []),
        (_reduce_ticket_gone, ["lost-ticket"], []),
        (_close_never_written, ["lost-ticket"], []),
        (_ticket_twice, ["ticket-twice", "ticket-twice", "ticket-twice"], []),
        (_ticket_held_by_nobody, ["stray-work"], []),
        (_summary_too_early, ["summary-early"], []),
        (_stray_stage, ["stray-stage"], []),
        (_link_where_a_result_will_be, ["not-plain"], ["not-plain"]),
        (_file_where_results_will_be, ["not-plain"], ["not-plain"]),
    ],
)
def test_a_damage_to_a_job_at_rest_is_named_and_mended_or_refused(
    planned: Site, damage: Callable[[Site], None], codes: list[str], left: list[str]
) -> None:
    """After the repair a worker finishes the job."""
    damage(planned)

    assert planned.codes() == codes
    planned.check(repair=True)
    assert planned.codes() == left
    if not left:
        planned.work()
        report = planned.check()
        assert (report.findings, report.complete, report.results) == ([], True, len(NAMES) - 1)


def test_what_takes_the_place_of_a_quarantined_inputs_result_is_a_note(finished: Site) -> None:
    """It may be why the input was given up; the note says what to do, and there is nothing to repair."""
    os.mkdir(finished.result("b/bad"))
    report = finished.check()

    assert (report.findings, report.quarantined, report.complete) == ([], 1, True)
    assert [each.path for each in report.notes] == [finished.result("b/bad")]


def test_a_marker_that_nobody_announces_loses_its_ticket(planned: Site) -> None:
    """With marker claims a locked ticket without a holder can never be claimed: it is offered under a new name."""
    if planned.job.claims != "marker":
        return
    ticket = _maps(planned)[0]
    planned.fs.mkdir(f"{planned.layout.locks}/{ticket.shard_name}")
    planned.fs.stage(planned.layout.lock(ticket), STRANGER.encode())

    assert planned.codes() == ["lost-ticket"]
    planned.check(repair=True)
    assert planned.codes() == []


def test_a_ticket_that_its_holder_is_splitting_is_no_finding(planned: Site) -> None:
    """The parts come before the whole goes, and their holder is alive to finish it."""
    whole = _maps(planned)[0]
    part = whole.successor(lo=whole.lo)
    planned.fs.mkdir(planned.layout.work_of(STRANGER))
    planned.fs.stage(planned.layout.live_of(STRANGER), b"")
    for ticket in (whole, part):
        planned.fs.stage(planned.layout.held_ticket(STRANGER, ticket), b"")
        if planned.job.claims == "marker":
            planned.fs.stage(planned.layout.ready_ticket(ticket), b"")
    if planned.job.claims == "rename":
        planned.fs.unlink(planned.layout.ready_ticket(whole))

    assert planned.check().findings == []


def test_what_a_killed_process_had_staged_is_named_and_leaves_a_job_clean(finished: Site) -> None:
    """Nobody can publish from there any more: it is space to be had back, and no reason for exit code 1."""
    _stray_stage(finished)
    report = finished.check()

    assert ([(each.code, each.harmless) for each in report.findings], report.clean) == ([("stray-stage", True)], True)
    _directories_gone(finished)
    assert not finished.check().clean


def test_a_finding_is_what_both_looks_see(finished: Site) -> None:
    """What was mended between the looks is none, and what only the second one sees is for the next check."""
    gone, kept = finished.result("a.txt"), f"{finished.layout.out}/kept"
    os.rename(gone, kept)

    def meanwhile(_seconds: float) -> None:
        os.rename(kept, gone)
        os.unlink(finished.result("long"))

    assert check(finished.fs, finished.layout, clock=ManualClock(on_sleep=meanwhile)).findings == []
    assert finished.codes() == ["result-missing"]


# -- a job at work ----------------------------------------------------------------------------------------------------


class Steps:
    """A worker that goes on for as many calls as it is told to."""

    def __init__(self, site: Site, inner: Fs) -> None:
        self._worker = greenlet.greenlet(lambda: site.work(Watched(inner, self._pause)))

    def _pause(self, _op: str) -> None:
        greenlet.getcurrent().parent.switch()

    def go(self, calls: int) -> bool:
        """False when it has ended."""
        for _ in range(calls):
            if self._worker.dead:
                return False
            self._worker.switch()
        return True


@pytest.mark.parametrize("claims", ["rename", "marker"])
@pytest.mark.parametrize("seed", range(4))
def test_a_job_at_work_has_no_findings_whenever_one_looks(claims: str, seed: int) -> None:
    """Two workers go on while the check looks, and again after a retry; what it sees in passing is never a finding."""
    rng = Random(seed)
    server = MemoryServer(rng=rng)
    server.mkdir("/out")
    site = _new_site(server, "/out", claims)
    _look_while_at_work(site, [Steps(site, server) for _ in range(2)], rng)
    assert site.check().complete

    _retry(site)
    _look_while_at_work(site, [Steps(site, server) for _ in range(2)], rng)
    report = site.check()
    assert (report.findings, report.complete, report.quarantined) == ([], True, 1)


def _look_while_at_work(site: Site, workers: list[Steps], rng: Random) -> None:
    def go_on(_op: str) -> None:
        rng.choice(workers).go(rng.choice([0, 0, 1, 2]))

    def wait(_seconds: float) -> None:
        for each in workers:
            each.go(150)

    looking, clock = Watched(site.fs, go_on), ManualClock(on_sleep=wait)
    at_work = True
    while at_work:
        at_work = max([each.go(rng.randrange(1, 200)) for each in workers])
        assert check(looking, site.layout, clock=clock).findings == []


@pytest.mark.parametrize("claims", ["rename", "marker"])
@pytest.mark.parametrize("part", range(4))
def test_after_a_crash_at_any_call_a_repair_and_a_worker_leave_a_clean_job(claims: str, part: int) -> None:
    """Whatever a killed worker left: the check never raises, and the job comes to the same end."""
    for at in range(part, 2000, 4):
        server = MemoryServer()
        server.mkdir("/out")
        site = _new_site(server, "/out", claims)
        if not _dies_at(site, at):
            return
        site.check(repair=True)
        site.work()
        report = site.check()
        assert (report.findings, report.complete, report.results) == ([], True, len(NAMES) - 1)
    raise AssertionError("the worker never ended")


def _dies_at(site: Site, at: int) -> bool:
    """Run a worker that is killed at its call number *at*; False when it ended before."""
    left = iter(range(at))

    def die(_op: str) -> None:
        if next(left, None) is None:
            fs.die()
            raise Died

    fs = Watched(site.fs, die)
    try:
        site.work(fs)
    except Died:
        return True
    return False


# -- hostile bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_whatever_bytes_are_on_the_mount_the_check_only_reports(finished: Site, seed: int) -> None:
    """Records are cut, flipped or replaced, one after the other: findings or none, never an exception."""
    rng = Random(seed)
    files = [os.path.join(top, name) for top, _, names in os.walk(finished.layout.out) for name in names]
    for path in rng.sample(sorted(files), 12):
        if not os.path.isfile(path):
            continue  # a repair has set it aside
        data = Path(path).read_bytes()
        evil = [b"", data[: rng.randrange(len(data) + 1)], b"[" * 100_000, b'{"outcomes": 1e999}', b'{"format": "9"}']
        evil += [bytes(byte ^ (rng.random() < 0.05) * 8 for byte in data), b'{"kind": "close", "generation": true}']
        finished.write(path, rng.choice(evil))
        finished.check(repair=rng.random() < 0.5)


def test_names_that_are_no_names_are_findings(finished: Site) -> None:
    """A segment with a name that cannot be encoded is a damaged segment."""
    body = records.loads(finished.fs.read(finished.layout.segment(0), 1 << 20), "")
    body["inputs"][0][0] = "\ud800"
    finished.write(finished.layout.segment(0), records.dumps(body))

    assert finished.codes() == ["plan-damaged"]


@pytest.mark.parametrize("kind", ["tmpfs", "nfs4"])
def test_a_worker_that_comes_to_a_summary_looks_what_it_is_about(kind: str) -> None:
    """A power loss may take a done record and leave the summary, which says nothing of what was lost then."""
    server = MemoryServer(kind)
    server.mkdir("/out")
    site = _new_site(server, "/out", "rename")
    site.work()
    path, _ = site.done("a.txt")
    server.unlink(path)

    site.work()
    report = site.check()
    assert (report.findings, report.complete) == ([], True)
