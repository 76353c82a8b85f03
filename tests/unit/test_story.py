"""What a worker tells of itself, and what becomes of it: one line for each event, as text or as JSON, never too many."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from claimwork.child_process import TicketWork
from claimwork.executor import Crashed, Event, Finished, Running
from claimwork.finalizer import ReduceReport
from claimwork.job import create_job
from claimwork.layout import Layout
from claimwork.lines import complain, teller
from claimwork.names import Kind, Ticket, plan_ticket, reduce_ticket
from claimwork.news import News
from claimwork.plan_log import PlanLog
from claimwork.planner import Found, Planner, PlanReport
from claimwork.records import BeatRecord, Job
from claimwork.render import Progress, per_second
from claimwork.results import Stage
from claimwork.snapshot import counted
from claimwork.stores import make_store
from claimwork.story import Story
from claimwork.tasks import load_runner
from claimwork.testing import ManualClock, MemoryServer
from claimwork.worker import Context, Setup, Stop, run_worker
from tests.conftest import Told as Shared
from tests.docs.markdown import blocks, text_of

ME, OTHER = "ab" * 16, "cd" * 16
HOSTILE = "a\x1b[31m\nb\udcff"


class Listening:
    """A `Tell` that remembers, and asks the worker to stop at the first of some news."""

    def __init__(self, until: News | None = None) -> None:
        self.told: list[tuple[News, dict[str, Any]]] = []
        self.stop = Stop()
        self._until = until

    def __call__(self, news: News, words: str, **facts: Any) -> None:
        self.told.append((news, facts))
        if news is self._until:
            self.stop.request(15)

    def of(self, news: News) -> list[dict[str, Any]]:
        """The facts of some of the news."""
        return [facts for each, facts in self.told if each is news]


class Patient:
    """An executor whose one slot is at its ticket for *lasts* seconds, and counts a thousand in each."""

    slots = 1

    def __init__(self, clock: ManualClock, lasts: int, end: Callable[[Ticket], Event]) -> None:
        self._clock = clock
        self._lasts = lasts
        self._end = end
        self._at: Running | None = None

    def free(self) -> list[int]:
        return [] if self._at else [0]

    def running(self) -> dict[int, Running]:
        return {} if self._at is None else {0: self._at}

    def start(self, slot: int, ticket: Ticket, *, control: bool = False) -> None:
        self._at = Running(ticket, None, 0.0, self._clock.monotonic())

    def stop_before(self, slot: int, index: int) -> None:
        pass

    def poll(self, timeout_s: float) -> list[Event]:
        self._clock.sleep(min(timeout_s, 1.0))
        at = self._at
        if at is None:
            return []
        ran_s = int(self._clock.monotonic() - at.since)
        self._at = Running(at.ticket, None, 0.0, at.since, counted=1000 * ran_s)
        if ran_s < self._lasts:
            return []
        self._at = None
        return [self._end(at.ticket)]

    def end(self, slot: int) -> None:
        self._at = None

    def kill(self) -> list[Ticket]:
        return []


class World:
    """A job in memory and one worker."""

    def __init__(self) -> None:
        self.fs = MemoryServer(rng=Random(0))
        self.fs.mkdir("/out")
        self.layout = Layout("/out")
        self.job = create_job(self.fs, self.layout, Job("j", "wordcount"), OTHER)
        self.clock = ManualClock()

    def planner(self) -> Planner:
        stage = Stage(self.fs, self.layout, OTHER, "p")
        self.fs.mkdir(stage.directory)
        return Planner(self.fs, self.layout, self.job, stage, make_store(self.job, self.fs, self.layout, OTHER, stage))

    def work(self, tell: Listening, kinds: frozenset[Kind], executor: Patient) -> None:
        me = BeatRecord(ME, 0, boot="b", host="here", node="node-a", service="counting_worker", slot="3")
        setup = Setup(kinds=kinds, tell=tell)
        run_worker(
            Context(self.fs, self.layout, self.job, self.clock, Random(1), me, lambda _: executor, setup, tell.stop)
        )


# -- what a worker tells ----------------------------------------------------------------------------------------------


def test_a_listing_that_lasts_is_told_once_a_second_with_its_count() -> None:
    """And nothing while there is nothing to count; then what was planned, and that the generation is closed."""
    world, tell = World(), Listening(until=News.CLOSED)
    report = PlanReport(added=4000, added_bytes=9, unreadable=1, generation=1, took_s=4.0)

    world.work(
        tell, frozenset({Kind.PLAN}), Patient(world.clock, 4, lambda ticket: Finished(0, ticket, planned=report))
    )

    assert [(facts["inputs"], facts["worker"]) for facts in tell.of(News.LISTING)] == [
        (1000, ME),
        (2000, ME),
        (3000, ME),
    ]
    (joined,) = tell.of(News.JOINED)
    assert {name: joined[name] for name in ("role", "host", "node", "service", "slot", "slots")} == {
        "role": "planner",
        "host": "here",
        "node": "node-a",
        "service": "counting_worker",
        "slot": "3",
        "slots": 1,
    }
    (planned,) = tell.of(News.PLANNED)
    assert (planned["inputs"], planned["unreadable"], planned["seconds"], planned["attempt"]) == (4000, 1, 4.0, 1)
    assert [news for news, _ in tell.told if not news.repeats] == [
        News.JOINED,
        News.PLANNED,
        News.CLOSED,
        News.DRAINING,
        News.STOPPED,
    ]


@pytest.mark.parametrize(("added", "told"), [(0, 0), (1, 1)])
def test_a_worker_that_stays_tells_only_of_what_is_new(added: int, told: int) -> None:
    """It lists IN each minute; a log of a line a minute would be no story."""
    tell = Listening()
    report = PlanReport(added=added, known=7)

    Story(tell, ME, rescans=True).planned(plan_ticket("0" * 16), report)

    assert len(tell.of(News.PLANNED)) == told


def test_a_lost_ticket_that_is_offered_again_is_told() -> None:
    """Somebody removed it; the story names what stands for its inputs now."""
    world, tell = World(), Listening(until=News.OFFERED_AGAIN)
    world.planner().plan([("a", 1)])
    for shard in world.fs.names(world.layout.ready):
        for name in world.fs.names(f"{world.layout.ready}/{shard}"):
            world.fs.unlink(f"{world.layout.ready}/{shard}/{name}")

    world.work(tell, frozenset(Kind), Patient(world.clock, 1, lambda ticket: Finished(0, ticket)))

    told = [facts["ticket"] for facts in tell.of(News.OFFERED_AGAIN)]
    assert any(name.startswith("m.") and ".s0.0-1." in name for name in told)


def test_a_plan_that_failed_is_told_with_its_error() -> None:
    """And with the wait before the next attempt."""
    world, tell = World(), Listening(until=News.FAILED)

    world.work(
        tell,
        frozenset({Kind.PLAN}),
        Patient(world.clock, 1, lambda ticket: Crashed(0, ticket, "crash", "killed", "", None)),
    )

    (failed,) = tell.of(News.FAILED)
    assert (failed["what"], failed["error"], failed["attempt"], failed["seconds"]) == ("plan", "killed", 1, 2.0)


def test_a_listing_counts_as_it_goes() -> None:
    """Now and then, for the count must cost nothing beside the system call that each input takes."""
    world, progress = World(), Shared()

    def find(_root: str, _job: Job, _skip: Callable[[str], None]) -> Iterator[Found]:
        return iter([(f"{number}", 1) for number in range(200)])

    world.fs.mkdir(world.layout.stage_of(ME))
    work = TicketWork(world.fs, world.layout, world.job, ME, "k", "/in", world.clock, progress, load_runner, find)
    answer = work.run(plan_ticket("0" * 16))

    assert progress.counts == [64, 128, 192]
    assert (answer["report"]["added"], answer["report"]["generation"]) == (200, 1)
    assert PlanLog(world.fs, world.layout).length() == 2


# -- what becomes of it -----------------------------------------------------------------------------------------------


def test_text_and_json_say_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    """One line each, whatever names are in it; JSON gives the name back as it is, and leaves out what does not apply."""
    facts = {"worker": ME, "input": HOSTILE, "attempt": 2, "error": None}
    for form in ("text", "json"):
        teller(form, quiet=False)(News.QUARANTINED, f"quarantined {HOSTILE}", **facts)
    teller("text", quiet=True)(News.QUARANTINED, "nobody hears it")
    complain("it is broken", "json", 12)

    text, *lines = capfd.readouterr().err.splitlines()
    told, error = map(json.loads, lines)
    assert re.fullmatch(r"\d\d:\d\d:\d\d quarantined a\\x1b\[31m\\nb\\udcff", text)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", told.pop("time"))
    assert told == {
        "level": "warning",
        "event": "quarantined",
        "worker": ME,
        "input": HOSTILE,
        "attempt": 2,
        "message": f"quarantined {HOSTILE}",
    }
    assert lines[0].isascii()
    assert (error["level"], error["event"], error["code"], error["message"]) == ("error", "error", 12, "it is broken")


def test_what_repeats_is_said_every_ten_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    """A listing of an hour is no flood of lines, and one of a second is silent; the rest is never held back."""
    now = 0.0
    tell = teller("text", quiet=False, monotonic=lambda: now)
    for second in range(26):
        now = float(second)
        tell(News.LISTING, f"{second}")
    tell(News.PLANNED, "planned")

    assert [line.split()[1] for line in capfd.readouterr().err.splitlines()] == ["10", "20", "planned"]


@pytest.mark.parametrize("quiet", [False, True])
def test_run_shows_a_listing_that_lasts(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, quiet: bool
) -> None:
    """In place of a bar, as long as there is none; of the other news of its planner it makes words of its own."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(quiet=quiet) as progress:
        progress.tell(News.LISTING, "7000 inputs listed so far", inputs=7000)
        progress.tell(News.PLANNED, "planned 8000 inputs")

    shown = capfd.readouterr().err
    assert ("7000 inputs listed so far" in shown) is not quiet
    assert "planned" not in shown


def test_the_page_lists_every_event() -> None:
    """Whoever filters by event or level looks it up there."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", text_of("docs/watching.md"), re.MULTILINE)

    assert rows == [(each.value, each.level, each.meaning) for each in News]


def test_the_sample_of_the_page_is_one() -> None:
    """The same lines in both forms, of events that there are, at the same times."""
    (text,) = (block for block in blocks("docs/watching.md", "text") if " joined as " in block)
    (sample,) = blocks("docs/watching.md", "json")
    shown = [json.loads(line) for line in sample.splitlines()]

    assert len(shown) == 2
    for each in shown:
        assert f"{each['time'][11:19]} {each['message']}" in text.splitlines()
        assert each["level"] == {news.value: news.level for news in News}[each["event"]]


@pytest.mark.parametrize(
    ("inputs", "words"), [(0.0123, "0.0123"), (3.14159, "3.14"), (99.5, "99.5"), (12345.6, "12346")]
)
def test_a_rate_is_for_people(inputs: float, words: str) -> None:
    """Three digits, or all before the point."""
    assert per_second(inputs, 2_000_000) == f"{words} inputs/s and 2.0 MB/s"


@pytest.mark.parametrize(
    ("count", "words", "of_directories"),
    [(0, "0 inputs", "0 directories"), (1, "1 input", "1 directory"), (2, "2 inputs", "2 directories")],
)
def test_a_number_and_its_noun(count: int, words: str, of_directories: str) -> None:
    """One has no plural."""
    assert counted(count, "input") == words
    assert counted(count, "directory", "directories") == of_directories


def test_one_of_anything_is_told_as_one() -> None:
    """One ticket, one input, one slot, one attempt, one result."""
    told: list[str] = []

    def tell(news: News, words: str, **facts: Any) -> None:
        told.append(words)

    story = Story(tell, ME)
    ticket = plan_ticket("")
    story.draining("told by SIGTERM", 1, 8.0)
    story.handed_back(1, 1)
    story.took_back(OTHER, 1)
    story.left(1, 1, complete=False)
    story.how_far(ticket, 1, 1.0)
    story.how_far(reduce_ticket(1), 1, 1.0)
    story.planned(ticket, PlanReport(added=1, unreadable=1, generation=1))
    story.reduced(reduce_ticket(1), ReduceReport(1, 1, 0, 1.0))

    assert told == [
        "draining, told by SIGTERM: what 1 slot is at may end within 8 s",
        "handed back 1 ticket with 1 input, uncharged",
        "took back 1 ticket of worker cdcdcdcd",
        "stopped: 1 done here, 1 attempt failed",
        "1 input listed so far",
        "1 result read so far",
        "planned 1 input (0 planned before); 1 directory could not be read",
        "closed generation 1 of the plan: 1 input in all",
        "reduced generation 1 in 1.0 s: 1 result",
    ]
