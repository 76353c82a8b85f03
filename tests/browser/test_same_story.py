"""Two thousand inputs, a worker killed, two inputs that kill whoever runs them: all that shows the job tells the same true story."""

from __future__ import annotations

import json
import random
import re
import signal
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Watched
from tests.e2e.conftest import Bench, end, wait_until
from tests.e2e.served import Site, serve

pytestmark = pytest.mark.browser

TASK = """
import os, signal, time
from pathlib import Path
from claimwork import task

HERE = Path(__file__).parent

@task
def uneven(path):
    if path.name.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    with open(HERE / "runs", "a") as runs:
        runs.write(".")
        runs.flush()
        half_way = runs.tell() > 1000
    while half_way and not (HERE / "go").exists():
        time.sleep(0.01)
    time.sleep(path.stat().st_size / 1e6)
    return path.stat().st_size
"""
GOOD, POISON = 2000, ("poison-1", "poison-2")
COUNTED = ("done", "running", "backing_off", "quarantined", "pending", "lost", "reclaimed", "fenced")
WORDS = ("done", "running", "backing off", "quarantined", "pending", "lost", "reclaimed", "fenced")
TROUBLE = (2, "quarantined", "the process was killed by SIGKILL", [*POISON])


def told_in_numbers(status: dict[str, Any]) -> dict[str, Any]:
    """The story of a document."""
    trouble = [(each["count"], each["state"], each["error"], sorted(each["inputs"])) for each in status["trouble"]]
    return {"verdict": status["verdict"], **{name: status[name] for name in COUNTED}, "trouble": trouble}


def told_in_words(text: str) -> dict[str, Any]:
    """The story of a screen or page; what is not there is zero."""
    counts = {}
    for name, words in zip(COUNTED, WORDS, strict=True):
        found = re.search(rf"(\d+) (?:of {GOOD + 2} |workers? |tickets? )?{words}[,;.\n]", text)
        counts[name] = int(found[1]) if found else 0
    verdict = re.search(r"^(RUNNING|DONE)\b", text, re.MULTILINE)
    on_page = re.findall(r"(\d+) (quarantined): \w+: (.+)\n+(\S+), (\S+)\n", text)
    on_screen = re.findall(r"^(quarantined):\n  (\d+)x (.+)\n +(\S+), (\S+)\n", text, re.MULTILINE)
    groups = [*on_page, *((count, state, *more) for state, count, *more in on_screen)]
    return {
        "verdict": verdict and verdict[1],
        **counts,
        "trouble": [(int(count), state, error, sorted(names)) for count, state, error, *names in groups],
    }


def stories(bench: Bench, site: Site, page: Page, report: Page) -> dict[str, dict[str, Any]]:
    """What each of them tells now."""
    bench.ok("report", "out", "-o", "report.html")
    report.goto(f"file://{bench.root}/report.html")
    return {
        "status --json": told_in_numbers(bench.status()),
        "status": told_in_words(bench.call("status", "out").stdout),
        "/status.json": told_in_numbers(site.status()),
        "dashboard": told_in_words(page.inner_text("body")),
        "report": told_in_words(report.inner_text("body")),
    }


def same_story(bench: Bench, site: Site, page: Page, report: Page) -> dict[str, Any]:
    """The one story, as soon as all of them have looked."""
    last: dict[str, dict[str, Any]] = {}

    def agreed() -> bool:
        last.update(stories(bench, site, page, report))
        return all(told == last["status"] for told in last.values())

    try:
        wait_until(agreed, "the same story everywhere")
    finally:
        print(json.dumps(last, indent=1))  # of a test that fails one wants to see it
    return last["status"]


def rows_of(page: Page) -> list[tuple[str, str, int, int]]:
    """The workers in the table of a page: id, how each ended, inputs that succeeded, attempts that failed."""
    cells = [row.split("\t") for row in page.inner_text("[aria-label=Workers] tbody").splitlines()]
    return sorted((row[0], row[2], int(row[4]), int(row[8] or 0)) for row in cells)


def test_the_same_story_everywhere(bench: Bench, watched: Watched) -> None:
    """With all at work, with one killed while the others are at work, and at the end."""
    (bench.root / "story.py").write_text(TASK)
    rng = random.Random(7)
    for number in range(GOOD):
        bench.put(f"scan-{number:04}", text="x" * int(10 ** rng.uniform(1, 3.5)))
    bench.put(*POISON, text="x" * 2500)
    bench.plan("--task", "story:uneven", "--max-attempts", "2", "--backoff", "0.1")
    workers = [bench.worker(env={"CLAIMWORK_SLOT": f"{n}"}) for n in range(1, 5)]
    site = serve(bench)
    page, report = watched.page, watched.page.context.new_page()
    page.goto(site.url)

    wait_until(lambda: site.status()["running"] == 4 and len(bench.reports()) == 2, "four workers half way")
    story = same_story(bench, site, page, report)
    assert (story["verdict"], story["lost"], story["reclaimed"], story["trouble"]) == ("RUNNING", 0, 0, [TROUBLE])
    assert story["done"] + story["pending"] == GOOD - 4
    done = story["done"]

    workers[1].kill()
    wait_until(lambda: (now := site.status())["reclaimed"] and now["running"] == 3, "what the killed one held")
    story = same_story(bench, site, page, report)
    assert story == {**story, "verdict": "RUNNING", "done": done, "pending": GOOD - done - 3, "lost": 1, "reclaimed": 1}

    bench.say("go")
    assert [end(worker).code for worker in workers] == [0, -signal.SIGKILL, 0, 0]
    story = same_story(bench, site, page, report)
    nothing = dict.fromkeys(COUNTED, 0)
    wanted = {"done": GOOD, "quarantined": 2, "lost": 1, "reclaimed": 1, "trouble": [TROUBLE]}
    assert story == {"verdict": "DONE", **nothing, **wanted}
    assert len(bench.results()) == GOOD
    assert sorted(bench.reports()) == [f"{name}.json" for name in POISON]

    rows = rows_of(report)
    assert rows_of(page) == rows
    adopted = re.search(r"(\d+) adopted from earlier attempts", report.inner_text("body"))
    assert sum(done for _, _, done, _ in rows) + (int(adopted[1]) if adopted else 0) == GOOD
    assert sum(failed for _, _, _, failed in rows) == site.status()["failed"] == 2 * len(POISON)
    assert sorted(state for _, state, _, _ in rows) == ["left", "left", "left", "lost"]
    (lost,) = (each for each in bench.status()["workers"] if each["state"] == "lost")
    assert (lost["id"][:8], "lost", lost["done"], lost["failed"]) in rows
    metrics = site.metrics()
    assert [metrics[f"claimwork_inputs/{state}"] for state in ("done", "quarantined")] == [GOOD, 2]
    assert [metrics[f"claimwork_{name}_total"] for name in ("workers_lost", "tickets_reclaimed")] == [1, 1]
