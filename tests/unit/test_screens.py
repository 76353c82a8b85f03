"""The status screen keeps to its width, whatever that is, and cuts no number."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from claimwork.forecast import Eta, Rate
from claimwork.screens import status_screen
from claimwork.snapshot import Current, Snapshot, Tail, WorkerView

NUMBERS = [
    "1234567 of 2345678 done",
    "1234 running",
    "1234 backing off",
    "1234 quarantined",
    "1107409 pending",
    "123.4 GB of 567.8 GB",
    "123 inputs/s and 123.4 MB/s over 1 min",
    "321 inputs/s and 321.0 MB/s over 10 min",
    "the last 12 inputs run for up to 14x the median of 2.0 s",
    "21 workers lost",
    "1 ticket reclaimed",
    "12 workers fenced",
]


def worker(number: int, *current: Current) -> WorkerView:
    """A worker with large numbers and a long place."""
    return WorkerView(
        id=f"{number:032x}", host="h", slot=f"{number}", node=f"node-{number}", service="counting_worker", state="draining",
        why="", slots=4, beat_age_s=12.3, beat_age_observed=False, done=123456, failed=7654321, done_bytes=1, share=0.5,
        rate=Rate(12.3, 123.4e6), current=current,
    )  # fmt: skip


CROWDED = Snapshot(
    out="/out", job_id="0123456789", task="task 'scans:resize'", verdict="RUNNING", words="1109877 left", exit_code=3,
    generation=1, total=2345678, done=1234567, quarantined=1234, running=1234, backing_off=1234, pending=1107409,
    total_bytes=567_800_000_000, done_bytes=123_400_000_000, reclaimed=1, fenced=12, lost=21, started_at=0.0, at=60.0,
    exact=False, rate_1m=Rate(123, 123.4e6), rate_10m=Rate(321, 321e6), eta=Eta(60, 120), median_s=2.0,
    tail=Tail(12, 14.0), live=2, workers=(
        worker(10, *(Current(f"0:{n}", f"deep/folder/of/scans/scan-{n:04}.tif", 28.0, 14.0) for n in range(11, 17))),
        worker(11, Current("0:9", "資料-9.tif", 12.0, 6.0)),
    ),
)  # fmt: skip


def lines_at(width: int) -> list[str]:
    """What a terminal of so many columns shows."""
    shown = Console(file=io.StringIO(), width=width, height=60, force_terminal=True, color_system=None)
    lines = shown.render_lines(status_screen(CROWDED, width), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


@pytest.mark.parametrize("width", [56, 64, 72, 80, 100, 120, 160, 200])
def test_no_number_is_cut(width: int) -> None:
    """Each is on one line with its unit; a name that is cut keeps its end, and what comes behind it."""
    lines = lines_at(width)

    assert lines[0].startswith("RUNNING: 1109877 left")
    for number in NUMBERS:
        assert any(number in line for line in lines), (number, lines)
    first, second = (line.split() for line in lines if line.startswith("000000"))
    header = next(line.split() for line in lines if line.startswith("worker"))
    numbers = {"beat": "~12", "done": "123456", "failed": "7654321", "share": "50%", "speed": "123.4"}
    assert {numbers[name] for name in header if name in numbers} <= set(first) & set(second)
    assert {"beat", "done"} <= set(header)
    assert ("now" in header) == (width >= 80)
    if "now" in header:
        assert re.search(r"scan-00\d\d\.tif \(28 s, 14x\) and [2-5] more$", " ".join(first))
        assert " ".join(second).endswith("資料-9.tif (12 s, 6x)")
    assert not [line for line in lines if line.endswith("…")]


def test_more_room_shows_more() -> None:
    """Columns and names that a narrow screen leaves out are on a wide one."""
    narrow, wide = "\n".join(lines_at(80)), "\n".join(lines_at(200))

    assert "deep/folder" not in narrow
    assert "share" not in narrow
    assert "scan-0011.tif" in narrow
    assert "scan-0011.tif" in wide
    assert "123.4 MB/s" in wide
    assert "50%" in wide
