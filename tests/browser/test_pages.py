"""Dashboard and report in a real browser, over a real job: they move, end right, obey their own policy, and can be used."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Watched
from tests.e2e.conftest import LIMIT_S, Bench, end
from tests.e2e.served import serve

pytestmark = pytest.mark.browser
expect.set_options(timeout=LIMIT_S * 1000)

HOSTILE: list[str | bytes] = [
    "raises<img src=x onerror=alert(1)>",
    "raises<script>alert(1)<\\script>",
    'raises" onmouseover="alert(1)',
    "raises<svg onload=alert(1)>",
    b"raises\xff\xfe",
]
# what a text contrasts with is the background of the nearest element that has one
CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255)
      .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (each) => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let least = 21;
  for (const each of document.querySelectorAll("body :not(title)")) {
    if (![...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const style = getComputedStyle(each);
    const colour = each instanceof SVGElement ? style.fill : style.color;
    const [low, high] = [light(colour), light(behind(each))].sort((a, b) => a - b);
    least = Math.min(least, (high + 0.05) / (low + 0.05));
  }
  return least;
}"""

# labels of plots that are not within the window
BEYOND = """() => [...document.querySelectorAll('.plot text')].map((each) => each.getBoundingClientRect())
  .filter((box) => box.left < 0 || box.right > innerWidth).length"""


def finished(bench: Bench) -> None:
    """A job with failures whose names would like to be more than names."""
    bench.put(*HOSTILE, *(f"input-{number}" for number in range(30)))
    bench.run("-q", "--task", "tasks:troubled", "--max-attempts", "1", "--fault-after", "0", code=4)


def test_numbers_move_and_end_right_without_a_reload(bench: Bench, watched: Watched) -> None:
    """The page that was opened while the job ran tells by itself how it went on, in its title as well."""
    bench.put("done-1", "raises-1")
    bench.run("-q", "--task", "tasks:both", "--max-attempts", "1", "--patience", "10", code=4)
    bench.put("held-1", "held-2")
    bench.plan()
    worker = bench.worker(slots=2)
    bench.wait_for_run("held-1")
    site = serve(bench)
    page = watched.page
    page.goto(site.url)
    page.evaluate("() => { window.sameAsBefore = true; }")

    expect(page.locator("#verdict")).to_contain_text("RUNNING")
    expect(page.locator("#at_work")).to_contain_text("held-")
    expect(page).to_have_title(re.compile("^RUNNING"))
    bench.say("go")
    expect(page.locator("#verdict")).to_contain_text("DONE")
    expect(page.locator("#progress")).to_contain_text("3 of 4 done, 1 quarantined")
    expect(page.locator("#trouble")).to_contain_text("ZeroDivisionError")
    expect(page).to_have_title(re.compile("^DONE"))
    assert page.evaluate("() => window.sameAsBefore")
    assert page.locator("#said").text_content() == "DONE"
    assert end(worker).code == 0
    assert watched.hosts == {f"127.0.0.1:{site.port}"}


def test_hostile_names_are_inert(bench: Bench, watched: Watched) -> None:
    """On the page, in what comes later, in a search and on the page of an input: shown, and nothing more."""
    finished(bench)
    site = serve(bench)
    page = watched.page
    page.goto(site.url)
    expect(page.locator("#past")).to_contain_text("Who ran when")
    expect(page.locator("#trouble")).to_contain_text("onerror=alert(1)>")

    page.get_by_role("searchbox").fill("raises")
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_role("listitem")).to_have_count(len(HOSTILE))
    for number in range(len(HOSTILE)):
        page.get_by_role("listitem").get_by_role("link").nth(number).click()
        expect(page.locator("main")).to_contain_text("quarantined")
        page.go_back()
    assert page.evaluate("() => document.images.length") == 0
    assert watched.hosts == {f"127.0.0.1:{site.port}"}


def test_what_a_reader_does_survives_an_update(bench: Bench, watched: Watched) -> None:
    """An opened log stays open and what has the focus keeps it, though the part around it is replaced."""
    bench.put("raises-1", "done-1")
    bench.run("-q", "--task", "tasks:troubled", "--max-attempts", "1", code=4)
    site = serve(bench)
    page = watched.page
    page.goto(site.url)
    summary = page.locator("#trouble summary")
    summary.focus()
    summary.press("Enter")
    expect(page.locator("#trouble details")).to_have_attribute("open", "")
    page.evaluate("() => { document.querySelector('#trouble').firstElementChild.id = 'old'; }")

    bench.put("raises-2")
    bench.run("-q", code=4)
    expect(page.locator("#trouble")).to_contain_text("raises-2")

    expect(page.locator("#old")).to_have_count(0)
    expect(page.locator("#trouble details").first).to_have_attribute("open", "")
    assert "raises-1" in page.evaluate("() => document.activeElement.outerHTML")
    assert page.evaluate("() => document.activeElement.tagName") == "SUMMARY"


def test_a_server_that_is_gone(bench: Bench, watched: Watched) -> None:
    """The page says that what it shows is old."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench)
    watched.page.goto(site.url)
    expect(watched.page.locator("#verdict")).to_contain_text("DONE")
    expect(watched.page.locator("#connection")).to_be_empty()
    site.process.kill()

    expect(watched.page.locator("#connection")).to_contain_text("does not answer")
    watched.complaints.clear()  # the browser complains of the connection, as it should


def test_without_a_script(bench: Bench, browser: Browser) -> None:
    """The page of the moment, search included."""
    finished(bench)
    site = serve(bench)
    page = browser.new_page(java_script_enabled=False)
    page.goto(site.url)

    expect(page.locator("#progress")).to_contain_text("30 of 35 done")
    page.get_by_role("searchbox").fill("input-7")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("main")).to_contain_text("done")
    page.close()


def look(page: Page, scheme: Any, width: int) -> None:
    """How a page looks: no text too faint, nothing beyond its right edge, no plot that has to be scrolled."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate(CONTRAST) >= 4.5, (scheme, width)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width, (scheme, width)
    assert page.evaluate(BEYOND) == 0, (scheme, width)


def test_light_and_dark_wide_and_narrow(bench: Bench, watched: Watched) -> None:
    """Dashboard, the page of an input and report can be read in both schemes, and fit a telephone."""
    finished(bench)
    bench.ok("report", "out", "-o", "report.html")
    site = serve(bench)
    pages = [
        site.url,
        f"{site.url}input?name=raises",
        f"{site.url}input?name=input-1",
        f"file://{bench.root}/report.html",
    ]

    for url in pages:
        watched.page.goto(url)
        backgrounds = set()
        for scheme in ("light", "dark"):
            for width in (1400, 360):
                look(watched.page, scheme, width)
            backgrounds.add(watched.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert len(backgrounds) == 2, url


def test_the_report_obeys_its_own_policy(bench: Bench, watched: Watched) -> None:
    """Opened as a file it is styled, complains of nothing, runs nothing and asks for nothing."""
    finished(bench)
    bench.ok("report", "out", "-o", "report.html")

    watched.page.goto(f"file://{bench.root}/report.html")

    expect(watched.page.locator("main")).to_contain_text("30 of 35 done, 5 quarantined")
    assert watched.page.evaluate("() => getComputedStyle(document.querySelector('section')).borderTopWidth") == "1px"
    assert watched.page.evaluate("() => document.scripts.length + document.images.length") == 0
    assert watched.hosts == {""}


def test_the_whole_page_by_keyboard(bench: Bench, watched: Watched) -> None:
    """Tab reaches the search, each chart and table that can be scrolled, and each link; parts are named for screen readers."""
    finished(bench)
    site = serve(bench)
    page = watched.page
    page.goto(site.url)
    expect(page.locator("#past svg").first).to_be_visible()

    wanted = page.locator("input, button, a, summary, [tabindex]").count()
    reached = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("() => document.activeElement.outerHTML.slice(0, 200) + document.activeElement.offsetTop")
        )
    assert len(reached) >= 0.9 * wanted
    assert page.get_by_role("search").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    for title in ("Progress", "Over time", "Workers", "Trouble"):
        expect(page.get_by_role("region", name=title, exact=True)).to_be_visible()
    unnamed = (
        "() => [...document.querySelectorAll('svg, input')].filter((e) => !e.ariaLabel && !e.labels?.length).length"
    )
    assert page.evaluate(unnamed) == 0
