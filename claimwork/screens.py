"""The status screen: lays out a snapshot for a terminal of any width, or plainly for a pipe."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .lines import printable
from .render import VERDICT_STYLE, counts_line, eta_words, rate_words, size, trouble_lines
from .snapshot import Snapshot, WorkerView, duration

_BAR = 40
_STATE_STYLE = {"busy": "green", "draining": "yellow", "suspect": "bold red", "lost": "red"}
_NAMES_SHOWN = 4  # inputs that one worker is at
_DOINGS = {"map": "publishing", "plan": "listing the inputs", "reduce": "reducing"}
_SHORT = 28  # columns of a name where there is little room


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
        Text(counts_line(snapshot)),
    ]
    rows += [Text(line) for line in _notes(snapshot)]
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
    counts = (
        (snapshot.lost, "workers lost"),
        (snapshot.reclaimed, "tickets reclaimed"),
        (snapshot.fenced, "workers fenced"),
    )
    if any(count for count, _ in counts):
        yield ", ".join(f"{count} {words}" for count, words in counts if count)
    if not snapshot.exact:
        yield "some counts are presumed from tickets; they are verified while --watch runs"


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
    """The workers; a column that says nothing is left out."""
    workers = snapshot.workers
    places = {(each.host, each.node) for each in workers}
    columns = {
        "worker": [each.id[:8] for each in workers],
        "where": [printable(each.where) for each in workers]
        if len(places) > 1 or any(each.slot for each in workers)
        else [],
        "state": [each.state for each in workers],
        "beat": [_beat(each) for each in workers],
        "done": [str(each.done) if each.done else "" for each in workers],
        "share": [f"{each.share:.0%}" if each.done else "" for each in workers] if len(workers) > 1 else [],
        "failed": [str(each.failed) if each.failed else "" for each in workers],
        "speed": [f"{size(each.rate.bytes)}/s" if each.rate.inputs else "" for each in workers],
        "now at": [_now_at(each, width) for each in workers],
    }
    if width < 100:
        columns["share"] = []
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in shown:
        table.add_column(
            name,
            justify="right" if name in ("beat", "done", "share", "failed", "speed") else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name == "now at" and width < 120 else None,
        )
    for row, each in enumerate(workers):
        cells = [
            Text(cells[row], style=_STATE_STYLE.get(each.state, "") if name == "state" else "")
            for name, cells in shown.items()
        ]
        table.add_row(*cells, style="" if each.is_live else "dim")
    return table


def _beat(each: WorkerView) -> str:
    if each.state == "lost":
        return ""
    age = f"{each.beat_age_s:.0f} s" if each.beat_age_s < 99.5 else duration(each.beat_age_s)
    return age if each.beat_age_observed else f"~{age}"


def _now_at(each: WorkerView, width: int) -> str:
    if each.why:
        return each.why
    found = []
    for at in each.current[:_NAMES_SHOWN]:
        name = printable(at.input) if at.input is not None else _DOINGS.get(at.what, at.what)
        if width < 160 and len(name) > _SHORT:
            name = "…" + name[1 - _SHORT :]
        late = f", {at.medians:.0f}x" if at.medians is not None and at.medians >= 3 else ""
        found.append(f"{name} ({duration(at.for_s)}{late})" if at.for_s >= 1 or late else name)
    more = len(each.current) - _NAMES_SHOWN
    return ", ".join(found) + (f" and {more} more" if more > 0 else "")
