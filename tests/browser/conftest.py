"""Chromium as Debian ships it, started once; a page of it for each test, which fails on any complaint of the console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.conftest import LIMIT_S, bench

__all__ = ["bench"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser."""
    program = shutil.which("chromium")
    assert program is not None, "no program chromium; on Debian: apt-get install chromium"
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root its sandbox does not start
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=options)
        yield found
        found.close()


class Watched:
    """A page, and what happened in it that must not."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.set_default_timeout(LIMIT_S * 1000)
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """An empty page."""
    context = browser.new_context()
    seen = Watched(context.new_page())
    yield seen
    context.close()
    assert seen.complaints == []
