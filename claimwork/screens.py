"""The status screen: lays out a snapshot for a terminal of any width, or plainly for a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .lines import printable
from .render import VERDICT_STYLE, counts_line, doing, eta_words, losses_line, rate_words, size, trouble_lines
from .snapshot import Current, Snapshot, WorkerView, duration

_BAR = 40
_STATE_STYLE = {"busy": "green", "draining": "yellow", "suspect": "bold red", "lost": "red"}
_NAMES_SHOWN = 4  # inputs that one worker is at
_SHORT, _SHORTER = 28, 16  # columns of a name where there is little room, and where there is less
_WIDE = 100
_GIVEN_UP = ("share", "speed", "where", "failed")  # for want of room, in this order
_GAP = 2  # columns between two of the table
_BOUND = "\N{NO-BREAK SPACE}"


def status_screen(snapshot: Snapshot, width: int = 200, notice: str = "") -> RenderableType:
    """One screen: verdict, progress, workers, trouble; *notice* is what hinders looking."""
    rows: list[RenderableType] = [_verdict(snapshot)]
    if notice:
        rows.append(Text(printable(notice), style="bold yellow"))
    age = duration(max(snapshot.at - snapshot.started_at, 0))
    rows += [
        Text(
            f"job {snapshot.job_id[:8]}, {printable(snapshot.task)}, generation {snapshot.generation}, begun {age} ago",
            style="dim",
        ),
        _inputs_bar(snapshot, width),
        _bytes_bar(snapshot, width),
        Text(_folded(counts_line(snapshot), width)),
    ]
    rows += [Text(_folded(line, width)) for line in _notes(snapshot)]
    if snapshot.workers:
        rows += [Text(), _workers(snapshot, width)]
    if snapshot.trouble:
        rows.append(Text())
        rows += [Text(line, style="red" if not line.startswith(" ") else "") for line in trouble_lines(snapshot)]
    return Group(*rows)


def _verdict(snapshot: Snapshot) -> Text:
    style = VERDICT_STYLE.get(snapshot.verdict, "red")
    if snapshot.verdict == "DONE" and snapshot.quarantined:
        style = "yellow"
    text = Text.assemble((snapshot.verdict, f"bold {style}"), f": {snapshot.words}")
    if snapshot.eta is not None:
        text.append(f"; {eta_words(snapshot)}")
    return text


def _notes(snapshot: Snapshot) -> Iterator[str]:
    rates = rate_words(snapshot)
    if rates:
        yield rates
    if snapshot.tail is not None and snapshot.median_s:
        last = f"the last {snapshot.tail.inputs} inputs run" if snapshot.tail.inputs > 1 else "the last input runs"
        yield f"{last} for up to {snapshot.tail.medians:.0f}x the median of {duration(snapshot.median_s)}"
    losses = losses_line(snapshot)
    if losses:
        yield losses
    if not snapshot.exact:
        yield "some counts are presumed from tickets; they are verified while --watch runs"


def _folded(line: str, width: int) -> str:
    """A line that goes on below only behind a comma or a semicolon: a number stays with its unit and its noun."""
    bound = line.replace(" ", _BOUND)
    for mark in (",", ";"):
        bound = bound.replace(mark + _BOUND, f"{mark} ")
    return textwrap.fill(bound, width, break_long_words=False, break_on_hyphens=False).replace(_BOUND, " ")


def _inputs_bar(snapshot: Snapshot, width: int) -> Text:
    parts = [
        (snapshot.done, "green"),
        (snapshot.quarantined, "red"),
        (snapshot.running, "cyan"),
        (snapshot.backing_off, "yellow"),
    ]
    settled = snapshot.done + snapshot.quarantined
    return _bar("inputs", parts, snapshot.total, settled, f"{settled} of {snapshot.total}", width)


def _bytes_bar(snapshot: Snapshot, width: int) -> Text:
    done, total = snapshot.done_bytes, snapshot.total_bytes
    return _bar("bytes", [(done, "green")], total, done, f"{size(done)} of {size(total)}", width)


def _bar(label: str, parts: list[tuple[int, str]], total: int, done: int, words: str, width: int) -> Text:
    columns = max(10, min(_BAR, width - 40)) if width < 120 else _BAR
    text = Text(f"{label:7}")
    used = 0
    for count, style in parts:
        share = round(columns * count / total) if total else 0
        share = min(max(share, 1 if count else 0), columns - used)
        text.append("━" * share, style=style)
        used += share
    text.append("─" * (columns - used) if total else "", style="bright_black")
    percent = int(100 * done / total) if total else 100  # never 100 % before it is
    return text.append(f"  {percent:3} %  {words}")


def _workers(snapshot: Snapshot, width: int) -> Table:
    """The workers. A column that says nothing is left out, and so are some for which there is no room; numbers are never cut."""
    workers = snapshot.workers
    places = {(each.host, each.node) for each in workers}
    placed = len(places) > 1 or any(each.slot for each in workers)
    name_room = _SHORT if width >= _WIDE else _SHORTER
    columns = {
        "worker": [each.id[:8] for each in workers],
        "where": [_end_of(printable(each.where), name_room) for each in workers] if placed else [],
        "state": [each.state for each in workers],
        "beat": [_beat(each) for each in workers],
        "done": [str(each.done) if each.done else "" for each in workers],
        "share": [f"{each.share:.0%}" if each.done else "" for each in workers] if len(workers) > 1 else [],
        "failed": [str(each.failed) if each.failed else "" for each in workers],
        "speed": [f"{size(each.rate.bytes)}/s" if each.rate.inputs else "" for each in workers],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    least = max(cell_len(_now_at(each, 0)) for each in workers)
    room = 0
    for given_up in ("", *_GIVEN_UP):
        shown.pop(given_up, None)
        room = width - sum(max(map(cell_len, [name, *cells])) + _GAP for name, cells in shown.items())
        if room >= least:
            break
    now_at = [each.why or _now_at(each, room) for each in workers]
    if any(now_at) and room >= least:
        shown["now at"] = now_at
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in shown:
        numeric = name in ("beat", "done", "share", "failed", "speed")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True, overflow="ellipsis")
    for row, each in enumerate(workers):
        table.add_row(
            *(
                Text(cells[row], style=_STATE_STYLE.get(each.state, "") if name == "state" else "")
                for name, cells in shown.items()
            ),
            style="" if each.is_live else "dim",
        )
    return table


def _beat(each: WorkerView) -> str:
    if each.state == "lost":
        return ""
    age = f"{each.beat_age_s:.0f} s" if each.beat_age_s < 99.5 else duration(each.beat_age_s)
    return age if each.beat_age_observed else f"~{age}"


def _now_at(each: WorkerView, room: int) -> str:
    """What its slots are at, in *room* columns: fewer of them, or the ends of their names, where there is little."""
    names = [doing(at) for at in each.current]
    since = [_since(at) for at in each.current]
    for shown in range(min(len(names), _NAMES_SHOWN), 0, -1):
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        left = room - len(more) - len("".join(since[:shown])) - 2 * (shown - 1)
        whole = sum(map(cell_len, names[:shown]))
        if shown == 1 or min(whole, shown * _SHORTER) <= left:
            longest = left if whole <= left else max(left // shown, _SHORTER)
            parts = zip(names[:shown], since, strict=False)
            return ", ".join(_end_of(name, longest) + words for name, words in parts) + more
    return ""


def _since(at: Current) -> str:
    late = f", {at.medians:.0f}x" if at.medians is not None and at.medians >= 3 else ""
    return f" ({duration(at.for_s)}{late})" if at.for_s >= 1 or late else ""


def _end_of(name: str, columns: int) -> str:
    """The end of a name where all of it is too wide: there its suffix is, or its number."""
    if cell_len(name) <= columns:
        return name
    end = name[-max(columns - 1, 1) :]
    while cell_len(end) >= max(columns, 2):
        end = end[1:]
    return f"…{end}"
