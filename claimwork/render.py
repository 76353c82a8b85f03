"""Turns snapshots into a screen or lines; the only place that knows about colour and terminals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .doctor import Diagnosis, Weight
from .inputs import Life
from .lines import LINE_EVERY_S, printable
from .news import News
from .records import Job
from .snapshot import Current, Snapshot, counted, duration
from .trouble import Trouble

_PIPE_COLUMNS = 200
_DOINGS = {"map": "publishing", "plan": "listing the inputs", "reduce": "reducing"}
VERDICT_STYLE = {"DONE": "green", "RUNNING": "cyan", "PLANNING": "cyan", "REDUCING": "cyan"}


def console(*, stderr: bool = False) -> Console:
    """A console that respects NO_COLOR and non-terminals, and takes names literally."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not made.is_terminal:
        made.width = max(made.width, _PIPE_COLUMNS)  # nothing is cut where nobody looks at once
    return made


def size(size_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def verdict_line(snapshot: Snapshot) -> str:
    """The verdict in words."""
    return f"{snapshot.verdict}: {snapshot.words}"


def counts_line(snapshot: Snapshot) -> str:
    """The counts in one line; what is zero is left out, but for done."""
    parts = [f"{snapshot.done} of {snapshot.total} done"]
    for count, word in (
        (snapshot.running, "running"),
        (snapshot.backing_off, "backing off"),
        (snapshot.quarantined, "quarantined"),
        (snapshot.pending, "pending"),
    ):
        if count:
            parts.append(f"{count} {word}")
    return ", ".join(parts) + f"; {size(snapshot.done_bytes)} of {size(snapshot.total_bytes)}"


def losses_line(snapshot: Snapshot) -> str:
    """What happened to workers that were given up; empty when none was."""
    counts = (
        (snapshot.lost, "worker", "lost"),
        (snapshot.reclaimed, "ticket", "reclaimed"),
        (snapshot.fenced, "worker", "fenced"),
    )
    return ", ".join(f"{counted(count, noun)} {what}" for count, noun, what in counts if count)


def rate_words(snapshot: Snapshot) -> str:
    """How fast it goes, where that is known."""
    found: list[str] = []
    for rate, window in ((snapshot.rate_1m, "1 min"), (snapshot.rate_10m, "10 min")):
        if rate.inputs and (not found or rate != snapshot.rate_1m):
            found.append(f"{per_second(rate.inputs, rate.bytes)} over {window}")
    return "; ".join(found)


def per_second(inputs: float, size_bytes: float) -> str:
    """A rate in inputs and in bytes."""
    number = f"{inputs:.0f}" if inputs >= 100 else f"{inputs:.3g}"  # never 1.2e+03
    return f"{number} inputs/s and {size(size_bytes)}/s"


def eta_words(snapshot: Snapshot) -> str:
    """When it will be done, as a range; empty while there is too little to tell."""
    if snapshot.eta is None:
        return ""
    low, high = duration(snapshot.eta.low_s), duration(snapshot.eta.high_s)
    if low == high:
        return f"done in about {high}"
    amount, _, unit = low.partition(" ")
    return f"done in {amount if high.endswith(' ' + unit) and ' ' not in unit else low} to {high}"


def doing(at: Current) -> str:
    """What a slot is at, in a word or by the name of its input."""
    return printable(at.input if at.input is not None else _DOINGS.get(at.what, at.what))


def trouble_lines(snapshot: Snapshot) -> Iterator[str]:
    """Failures by cause, and what to do about them."""
    for state in ("quarantined", "backing off"):
        groups = [each for each in snapshot.trouble if each.state == state]
        if groups:
            yield f"{state}:"
            yield from (line for each in groups for line in _group_lines(each, alone=len(groups) == 1))
    if snapshot.retry:
        yield f"  mend the cause, then: {printable(snapshot.retry)}"


def _group_lines(each: Trouble, *, alone: bool) -> Iterator[str]:
    names = ", ".join(map(printable, each.inputs)) + (", …" if each.count > len(each.inputs) else "")
    yield f"  {each.count}x {printable(each.error)}"
    yield f"     {names}"
    if each.command and not alone:
        yield f"     {printable(each.command)}"


def _bar(label: str, done: int, total: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    share = 1.0 if not total else done / total
    grid.add_row(f"{label:6}", ProgressBar(total=1.0, completed=share, width=40), f"{share:.0%}")
    return grid


def why_lines(life: Life, job: Job) -> Iterator[str]:
    """The life of one input, a fact a line."""
    yield f"{printable(life.path)}: {life.state}"
    yield f"  {counted(life.size_bytes, 'byte')}, input {life.index} of segment {life.segment}"
    if life.outcome is not None and life.outcome.ok:
        yield f"  result {printable(life.result)}, {counted(life.outcome.size_bytes, 'byte')}, digest {life.outcome.digest}"
    if life.parts > 1 and life.outcome is None:
        yield f"  {life.parts_known} of {life.parts} parts are there"
    if life.ticket is not None:
        yield f"  attempt {life.ticket.attempt} of {job.max_attempts}"
        if life.ticket.delay_ms and life.holder is None:
            yield f"  waits {life.ticket.delay_ms / 1000:g} s from when a worker first sees it"
    if life.holder is not None:
        record = life.holder_record
        where = f" on {printable(record.host)}, {record.state}, beat {record.beat}" if record else ", no heartbeat"
        yield f"  held by worker {life.holder[:8]}{where}"
    for each in life.failures:
        host = f" on {printable(each.host)}" if each.host else ""
        yield f"  attempt {each.attempt} failed{host}: {each.kind}: {printable(each.error)}"


def diagnosis_lines(found: Diagnosis) -> Iterator[str]:
    """What doctor found: a line for each finding, then the verdict."""
    width = max(len(each.probe) for each in found.findings)
    for each in found.findings:
        mark = "  ok" if each.ok else "  no" if each.weight is Weight.FACT else " bad"
        yield printable(f"{mark}  {each.probe:{width}}  {each.words}")
    yield printable(found.words)
    if found.verdict != "unfit":
        yield f"suggested: --claims {found.claims} --patience {found.patience_s:g}"


@contextmanager
def watching(out: Console) -> Iterator[Callable[[RenderableType], None]]:
    """A screen that is drawn again in place; without a terminal each screen is printed below the last."""
    if not out.is_terminal:
        yield out.print
        return
    last: list[RenderableType] = []

    def show(screen: RenderableType) -> None:
        last[:] = [screen]
        live.update(screen, refresh=True)

    # on the other page of the terminal: drawn over in place, so that nothing flickers and resizing leaves no debris
    out.soft_wrap = False  # there, a line that is too long goes on below, or its end would never be seen
    with Live(console=out, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        yield show
    out.soft_wrap = True
    out.print(*last)


class Progress:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere; silent when told so."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = console(stderr=True)
        self._quiet = quiet
        self._live: Live | None = None
        self._said_at = time.monotonic()
        self._started: tuple[float, int] | None = None

    def __enter__(self) -> Progress:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def say(self, line: str) -> None:
        """A line above the bar."""
        if not self._quiet:
            self._console.print(Text(line))

    def tell(self, news: News, words: str, **_facts: Any) -> None:
        """Show how far a listing is; the other news of a planner is in its report."""
        if not self._quiet and news.repeats:
            self._show(Text(words), words)

    def show(self, snapshot: Snapshot) -> None:
        """Show where the job is."""
        if self._quiet:
            return
        now = time.monotonic()
        if self._started is None:
            self._started = (now, snapshot.done)
        rate = (snapshot.done - self._started[1]) / max(now - self._started[0], 1e-9)
        line = "; ".join(filter(None, [verdict_line(snapshot), counts_line(snapshot), eta_words(snapshot)]))
        bar = _bar("inputs", snapshot.done + snapshot.quarantined, snapshot.total)
        self._show(Group(bar, Text(f"{line}; {rate:.0f} inputs/s")), line)

    def _show(self, screen: RenderableType, line: str) -> None:
        """Draw *screen* in place; without a terminal say *line*, but not too often."""
        now = time.monotonic()
        if self._live is not None:
            self._live.update(screen, refresh=True)
        elif now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            self._console.print(Text(line))
