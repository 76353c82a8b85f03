"""Pages: what comes from the mount is text, and nothing leaves the page; charts say in places what the numbers say."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from claimwork.forecast import Eta, Rate
from claimwork.history import History
from claimwork.records import BeatRecord, Done, Failure, Job, Outcome, Ran
from claimwork.snapshot import Current, Snapshot, Tail, WorkerView
from claimwork.trouble import Trouble
from claimwork.web import charts
from claimwork.web.pages import report

START = 1.75e9
WORKER = "a" * 32
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</style></title></textarea><svg onload=alert(1)>",
    "\udcff\udcfe stray bytes",
    "new\nline \x1b[31m \u202e",
    "]]>--><!--",
]


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def snapshot(**more: Any) -> Snapshot:
    """A job at one moment."""
    plain = {
        "out": "/out", "job_id": "j", "task": "task 't'", "verdict": "RUNNING", "words": "7 left", "exit_code": 3,
        "generation": 1, "total": 10, "done": 2, "quarantined": 1, "running": 1, "backing_off": 0, "pending": 6,
        "total_bytes": 1000, "done_bytes": 400, "reclaimed": 2, "fenced": 0, "lost": 1, "started_at": START,
        "at": START + 60, "exact": True, "rate_1m": Rate(1.5, 1e6), "rate_10m": Rate(1.5, 1e6), "eta": Eta(60, 120),
        "median_s": 2.0, "tail": Tail(2, 14.0), "live": 1,
    }  # fmt: skip
    return Snapshot(**{**plain, **more})


def history(**more: Any) -> dict[str, Any]:
    """One worker that ran two inputs in ten seconds, and was there for twenty."""
    made = History()
    rans = [Ran(START, 2.0, 100), Ran(START + 2, 8.0, 10_000)]
    made.add(Done(0, 0, 2, WORKER, [Outcome(True, 1, "d", ran=ran) for ran in rans]))
    made.workers[WORKER] = BeatRecord(
        WORKER, 1, host="host-1", version="0.1.0", slots=1, started_at=START, at=START + 20, state="left"
    )
    made.left.add(WORKER)
    made.names = {(0, 0): "small.txt", (0, 1): "large.txt"}
    made.complete = True
    return {**made.to_json(), **more}


def hostile_page(name: str) -> str:
    """A page on which every text that may come from the mount is *name*."""
    failures = History()
    failures.add(Done(0, 0, 1, WORKER, [Outcome(True, 1, "d", ran=Ran(START, 1.0, 1))]))
    failures.workers[WORKER] = BeatRecord(WORKER, 1, host=name, slot=name, version=name, state=name, at=START)
    failures.names = {(0, 0): name}
    failures.failures = [Failure(name, 0, 1, 1, name, name, name, WORKER, name, START)]
    worker = WorkerView(
        name, name, name, name, name, name, "", 1, 1.0, True, 1, 1, 1, 1.0, Rate(),
        (Current(name, name, 2.0, 5.0), Current(name, None, 1.0, None)),
    )  # fmt: skip
    now = snapshot(
        task=name, out=name, words=name, retry=name, workers=(worker, replace(worker, why=name)),
        trouble=(Trouble("quarantined", 9, name, name, (name,), name, name),), has_summary=True, summary={name: name},
    )  # fmt: skip
    job = Job(name, name, command=[name], include=[name], exclude=[name], claims=name, created_by=name)
    return report(job, now, failures.to_json())


def test_names_and_errors_are_text() -> None:
    """Whatever names, errors, logs and records say: the page has the tags and attributes that it has for a harmless name."""
    plain = Seen(hostile_page("harmless"))
    kinds = {name for name, _ in plain.attributes}
    assert plain.text.count("harmless") >= 20

    for name in HOSTILE:
        page = hostile_page(name)
        page.encode()
        seen = Seen(page)
        assert seen.tags == plain.tags, name
        assert {each for each, _ in seen.attributes} == kinds, name
    assert not {each for each in kinds if each.startswith("on") or each in ("style", "src", "href")}
    assert not {"script", "link", "img", "iframe", "object"} & set(plain.tags)


def test_control_characters_are_shown_as_what_they_are() -> None:
    """No page turns the direction of text around, and none hides where a name ends."""
    page = hostile_page("a\u202eb\x1b\n\udcff")

    assert {c for c in page if not c.isprintable()} == {"\n"}
    assert r"a\u202eb\x1b\n\udcff" in page


def test_a_report_is_complete_in_itself() -> None:
    """It names no address, and its policy allows nothing but its own style, by its digest."""
    page = report(Job("j", "t"), snapshot(), history())

    style = re.search("<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}&#39;" in page
    assert re.search(r"https?:|//[a-z]|url\(|@import", page) is None


def test_a_report_tells_what_ran_where_and_how_well() -> None:
    """Verdict, balance against the bound, stragglers, failures, versions."""
    page = Seen(report(Job("j", "t"), snapshot(), history())).text

    for words in (
        "RUNNING 7 left; done in 60 s to 2 min",
        "2 of 10 done, 1 running, 1 quarantined, 6 pending; 400 B of 1.0 KB",
        "10 s from the first start to the last end",
        "100 % of what was possible",
        "large.txt",
        "4.0x",
        "host-1",
        "workers of claimwork 0.1.0",
        "1 worker lost, 2 tickets reclaimed",
    ):
        assert words in re.sub(r"\s+", " ", page), words


def test_what_a_slot_is_at_beside_inputs_is_a_word() -> None:
    """As on the status screen."""
    at = tuple(Current(what, None, 8.0, None) for what in ("map", "plan", "reduce"))
    worker = WorkerView(WORKER, "h", "", "", "", "busy", "", 3, 1.0, True, 0, 0, 0, 0.0, Rate(), at)

    page = Seen(report(Job("j", "t"), snapshot(workers=(worker,)), history())).text

    assert "publishing (8.0 s), listing the inputs (8.0 s), reducing (8.0 s)" in page


def test_a_report_of_nothing() -> None:
    """A job that was planned a moment ago has a page as well."""
    empty = History().to_json()

    page = Seen(report(Job("j", "t"), snapshot(total=0, done=0, eta=None, tail=None, median_s=None), empty)).text

    assert "Nothing has run to its end yet." in page


def test_bars_of_the_timeline_stand_where_the_times_are() -> None:
    """The first half of the run is the left half of the drawing."""
    drawn = charts.timeline(history(span_s=20.0))

    assert drawn is not None
    (row,) = drawn.rows
    width = charts.WIDTH - charts.LEFT - charts.RIGHT
    assert list(row.bars) == [(charts.LEFT, width / 2)]
    assert [tick.label for tick in drawn.x_ticks] == ["0", "5.0 s", "10 s", "15 s", "20 s"]


def test_the_rate_is_the_height_of_the_curve() -> None:
    """Two inputs ended, one after two seconds and one after ten; a second of the curve that has none is flat."""
    drawn = charts.throughput(history())

    assert drawn is not None
    assert drawn.words == "0.2 inputs a second on average, up to 1"
    heights = [float(each) for each in re.findall(r"V([\d.]+)", drawn.path)]
    assert heights[0] == heights[-2] == charts.TOP
    assert set(heights[1:-2]) == {charts.HEIGHT - charts.BOTTOM}


def test_a_job_that_took_no_time_has_a_page() -> None:
    """One input ran for less than the clock tells: nothing can be said of what was possible."""
    made = History()
    made.add(Done(0, 0, 1, WORKER, [Outcome(True, 1, "d", ran=Ran(START, 0.0001, 100))]))

    page = Seen(report(Job("j", "t"), snapshot(), made.to_json())).text

    assert "makespan" in page
    assert "of what was possible" not in page


def test_times_that_are_none_can_be_drawn() -> None:
    """A record may name any number as its time or size."""
    made = History()
    for index, began in enumerate((0.0, 1e17)):
        made.add(Done(0, index, index + 1, WORKER, [Outcome(True, 1, "d", ran=Ran(began, 1e15, 10**17))]))
    made.workers[WORKER] = BeatRecord(WORKER, 1, started_at=-1e17, at=1e17)
    job = Job("j", "t", created_at=1e17)

    page = report(job, snapshot(at=1e17, started_at=-1e17, total_bytes=10**18, median_s=1e17), made.to_json())

    assert "unknown" in page
    assert len(page) < 60_000


def test_a_part_that_is_there_is_seen() -> None:
    """One quarantined input of a million has its piece of the bar, and all pieces together are no longer than it."""
    pieces = charts.stacked([("done", 999_999), ("quarantined", 1)], 1_000_000)
    assert [kind for kind, _, _ in pieces] == ["done", "quarantined"]
    pieces = charts.stacked([("quarantined", 1), ("done", 999_999)], 1_000_000)
    assert pieces == [("quarantined", 0.0, 0.5), ("done", 0.5, 99.5)]
    assert charts.stacked([("done", 0)], 0) == []
