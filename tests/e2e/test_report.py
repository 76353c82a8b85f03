"""`claimwork report`: the page of a real job during it, after it, and from a copy of its directory."""

from __future__ import annotations

import os
import re
import shutil

from tests.e2e.conftest import NOBODY, Bench, end


def tags(page: str) -> set[str]:
    """Which elements a page has."""
    return set(re.findall(r"<([a-z0-9]+)", page))


def test_a_page_after_the_run(bench: Bench) -> None:
    """It tells what came out, with failures; and it goes where it is told to."""
    bench.put("a", "b", "raises<b>")
    bench.run("--task", "tasks:troubled", "--max-attempts", "1", code=4)

    ended = bench.ok("report", "out", "-o", "report.html")

    assert (ended.stdout, ended.stderr) == ("", "")
    page = (bench.root / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    for words in (
        "DONE",
        "2 of 3 done, 1 quarantined",
        "ZeroDivisionError",
        "raises&lt;b&gt;",
        "claimwork retry",
        "left",
    ):
        assert words in page, words
    assert "b" not in tags(page)
    assert bench.ok("report", "out").stdout.startswith("<!doctype html>")


def test_a_page_during_the_run(bench: Bench) -> None:
    """What runs is shown as running, with the name of its input; and looking changes nothing."""
    bench.put("done-1", "held-1")
    worker = bench.worker("--task", "tasks:hold", slots=2)
    bench.wait_for_run("held-1")
    before = bench.inside(".")

    page = bench.ok("report", "out").stdout

    assert [name for name in bench.inside(".") if name not in before and not name.startswith(("done/", "stage/"))] == []
    assert "RUNNING" in page
    assert "At work now" in page
    bench.say("go")
    assert end(worker).code == 0
    assert "At work now" not in bench.ok("report", "out").stdout


def test_a_page_of_a_copy(bench: Bench) -> None:
    """The directory of the job is enough, wherever it is, also when nothing in it can be written."""
    bench.put(*(f"input-{number}" for number in range(30)))
    bench.run("-q")
    shutil.copytree(bench.out, bench.root / "elsewhere")
    shutil.rmtree(bench.out)
    shutil.rmtree(bench.inputs)

    page = bench.ok("report", "elsewhere").stdout

    assert "30 of 30 done" in page
    assert "input-1" in page


def test_a_page_for_somebody_who_may_only_read(open_bench: Bench) -> None:
    """Another user who may read the job may look at it."""
    open_bench.put("a")
    open_bench.run("-q")

    assert "1 of 1 done" in open_bench.ok("report", "out", uid=NOBODY).stdout


def test_names_of_any_bytes(bench: Bench) -> None:
    """A name that is no text, and one that tries to be more than text, are shown and do no harm."""
    bench.put(b"\xff\xfe", "<script>alert(1)<\\script>", "new\nline")
    bench.run("-q", "--task", "tasks:size")

    page = bench.ok("report", "out").stdout

    assert "script" not in tags(page)
    assert r"\udcff\udcfe" in page
    assert "&lt;script&gt;alert(1)&lt;\\script&gt;" in page
    assert r"new\nline" in page


def test_what_cannot_be_reported_and_where_to(bench: Bench) -> None:
    """No job, and a place that cannot be written: one line each; a report that is there stays."""
    bench.fails(10, "report", "nowhere")
    bench.put("a")
    bench.run("-q")
    line = bench.fails(12, "report", "out", "-o", os.path.join("missing", "report.html"))

    assert "missing/report.html" in line
