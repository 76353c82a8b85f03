"""Remakes the pictures in docs/pictures: a real job with a lost worker and two bad inputs, its dashboard half way, its report at the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
WIDE, TELEPHONE = 1100, 400
PROGRAM = str(Path(sys.executable).parent / "claimwork")
TASK = """
import time
from claimwork import task

@task
def resize(path):
    if path.name.startswith("broken"):
        print("reading the header")
        raise ValueError("not an image: bad magic number")
    time.sleep(0.05 + path.stat().st_size / 1.2e5)
    return {"bytes": path.stat().st_size}
"""


def make_inputs(directory: Path) -> None:
    """Uneven ones, and two that cannot be read."""
    directory.mkdir()
    rng = random.Random(7)
    for number in range(900):
        (directory / f"scan-{number:04}.tif").write_bytes(b"x" * int(10 ** rng.uniform(2.5, 5.3)))
    for number in (1, 2):
        (directory / f"broken-{number}.tif").write_bytes(b"x" * 210_000)


def take(browser: Browser, url: str, name: str, scheme: Literal["dark", "light"], width: int) -> None:
    """One picture of the upper part of a page."""
    page = browser.new_page(viewport={"width": width, "height": 1500}, color_scheme=scheme)
    page.goto(url)
    page.wait_for_selector("section svg[viewBox^='0 0 720']")
    page.screenshot(path=PICTURES / f"{name}.png")
    page.close()


def main() -> None:
    """Run the job, lose a worker, take the pictures."""
    root = Path(tempfile.mkdtemp(prefix="claimwork-pictures-"))
    (root / "scans.py").write_text(TASK)
    make_inputs(root / "in")
    subprocess.run(
        [PROGRAM, "plan", "in", "out", "--task", "scans:resize", "--patience", "10", "-q"], cwd=root, check=True
    )
    started = []

    def start(*argv: str, **env: str) -> subprocess.Popen[str]:
        made = subprocess.Popen(
            [PROGRAM, *argv], cwd=root, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        started.append(made)
        return made

    try:
        site = start("dashboard", "out", "--port", "0", "--interval", "0.5")
        for slot in range(1, 6):
            who = {"CLAIMWORK_NODE": f"node-{1 + slot % 3}", "CLAIMWORK_SERVICE": "scans", "CLAIMWORK_SLOT": str(slot)}
            start("worker", "in", "out", "--slots", "1", "-q", **who)
        assert site.stdout is not None
        url = site.stdout.readline().strip()
        time.sleep(15)
        os.killpg(started[3].pid, signal.SIGKILL)
        time.sleep(15)
        PICTURES.mkdir(exist_ok=True)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            take(browser, url, "dashboard-light", "light", WIDE)
            take(browser, url, "dashboard-dark", "dark", TELEPHONE)
            for each in started[1:]:
                each.wait()
            subprocess.run([PROGRAM, "report", "out", "-o", "report.html"], cwd=root, check=True)
            take(browser, f"file://{root}/report.html", "report-dark", "dark", WIDE)
            take(browser, f"file://{root}/report.html", "report-light", "light", TELEPHONE)
            browser.close()
    finally:
        for each in started:
            try:
                os.killpg(each.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            each.wait()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
