"""Progress: how many inputs are settled, at a cost that does not grow with their number.

A planned input is in a ticket that waits or is held, or it is done (invariant I1). So what is open can be read off the names
of tickets: a listing for each shard and each worker. What has no ticket any more is then looked up in the done records, a
listing for each such segment, and remembered. At most `_LISTINGS` of them are looked up at once: a job of so many segments is
always counted from done records alone; in a larger one, a first look presumes the rest, says so (``exact``), and later looks
catch up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, chain

from .fs import Fs
from .heartbeat import graves, live_workers
from .layout import Layout
from .names import Kind, Ticket, number_name, tickets_among
from .plan_log import PlanLog
from .policy import missing_ranges
from .records import Close, Input
from .results import done_ranges

_LISTINGS = 32  # of done/<segment> for one look: some 50 ms on a network mount
_READS = 16  # of plan/<segment> for one look: sizes and names of what is open
_SEGMENTS_KEPT = 64


@dataclass(frozen=True)
class Open:
    """What is open, and what was counted. Inputs and bytes settled have a result or a report."""

    total: int = 0
    settled: int = 0
    total_bytes: int = 0
    settled_bytes: int = 0
    retried_open: int = 0
    exact: bool = True
    ready: tuple[Ticket, ...] = ()
    held: dict[str, list[Ticket]] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Inputs that are not settled."""
        return max(self.total - self.settled, 0)

    @property
    def pieces(self) -> int:
        """What that many slots may be at: inputs that are not settled, and parts of them."""
        held = (ticket for tickets in self.held.values() for ticket in tickets)
        return self.left and self.left + sum(ticket.kind is Kind.PART for ticket in chain(self.ready, held))

    @property
    def reductions(self) -> tuple[list[Ticket], list[Ticket]]:
        """Reduce tickets that wait, and those that somebody holds."""
        held = [ticket for tickets in self.held.values() for ticket in tickets]
        return [t for t in self.ready if t.kind is Kind.REDUCE], [t for t in held if t.kind is Kind.REDUCE]


@dataclass
class _Sizes:
    inputs: list[Input]
    before: list[int]  # bytes of all inputs before each index

    def between(self, lo: int, hi: int) -> int:
        return self.before[hi] - self.before[lo]


class ProgressReader:
    """Counts; remembers which segments are complete, and what of the others is done."""

    def __init__(self, fs: Fs, layout: Layout, log: PlanLog) -> None:
        self._fs = fs
        self._layout = layout
        self._log = log
        self._complete: set[int] = set()
        self._done: dict[int, list[tuple[int, int]]] = {}
        self._sizes: OrderedDict[int, _Sizes] = OrderedDict()
        self._reads = 0

    def look(self, closes: Iterable[tuple[int, Close]], *, all_settled: bool = False) -> Open:
        """Count once. With *all_settled* a summary is known to cover every close, and nothing needs to be listed."""
        self._reads = _READS
        segments = [(close, *segment) for _, close in closes for segment in close.segments]
        again = sum(close.retried for _, close in closes)
        again_bytes = sum(close.retried_bytes for _, close in closes)
        total = sum(count for _, _, count, _ in segments) - again
        total_bytes = sum(size for _, _, _, size in segments) - again_bytes
        if all_settled:
            return Open(total, total, total_bytes, total_bytes)
        ready = self._ready()  # before what is held: of a claim in between, one of the two listings shows the ticket
        held = self._held()
        open_ranges: dict[int, list[tuple[int, int]]] = {}
        # bytes, by segment and part: of a claim in between, both listings tell
        open_parts: dict[int, dict[int, int]] = {}
        for ticket in [*ready, *(each for tickets in held.values() for each in tickets)]:
            if ticket.kind is Kind.MAP:
                open_ranges.setdefault(ticket.segment, []).append((ticket.lo, ticket.hi))
                if ticket.gathers:
                    open_parts.setdefault(ticket.segment, {})
            elif ticket.kind is Kind.PART:
                open_parts.setdefault(ticket.segment, {})[ticket.lo] = ticket.size_bytes
        listings, presumed, retried_open = _LISTINGS, 0, 0
        begun: set[str] | None = None
        settled, settled_bytes = -again, -again_bytes
        for close, number, count, size in segments:
            if number in self._complete:
                settled, settled_bytes = settled + count, settled_bytes + size
                continue
            known = self._done.get(number, [])
            tickets = open_ranges.get(number, [])
            verified = True
            if missing_ranges(count, tickets + known):
                if listings:
                    listings -= 1
                    known = self._done[number] = done_ranges(self._fs, self._layout, number)
                else:
                    begun = set(self._fs.names(self._layout.done)) if begun is None else begun
                    if number_name(number) in begun:  # or nothing of it is done: its tickets are lost, or on their way
                        known = known + missing_ranges(count, tickets)
                    verified, presumed = False, presumed + 1
            gaps = missing_ranges(count, known)
            if not gaps and verified:
                self._complete.add(number)
                self._done.pop(number, None)
            open_count = sum(hi - lo for lo, hi in gaps)
            settled += count - open_count
            open_bytes = self._bytes_of(number, gaps, size, count)
            settled_bytes += size - min(open_bytes, sum(open_parts.get(number, {0: open_bytes}).values()))
            retried_open += open_count if close.retried else 0
        return Open(
            total,
            max(settled, 0),
            total_bytes,
            max(settled_bytes, 0),
            retried_open,
            presumed == 0,
            tuple(ready),
            held,
        )

    def input_at(self, number: int, index: int) -> Input | None:
        """An input by its place in the plan; None when that was not read yet, or is none."""
        sizes = self._segment(number)
        return sizes.inputs[index] if sizes is not None and index < len(sizes.inputs) else None

    def _bytes_of(self, number: int, ranges: list[tuple[int, int]], size: int, count: int) -> int:
        """Bytes of some inputs of a segment; shared out by count while the segment was not read."""
        whole = sum(hi - lo for lo, hi in ranges)
        if whole in (0, count):
            return size if whole else 0
        sizes = self._segment(number)
        if sizes is None or len(sizes.inputs) != count:
            return size * whole // count
        return sum(sizes.between(lo, hi) for lo, hi in ranges)

    def _segment(self, number: int) -> _Sizes | None:
        if number in self._sizes:
            self._sizes.move_to_end(number)
        elif not self._reads:
            return None
        else:
            self._reads -= 1
            inputs = self._log.segment(number).inputs
            self._sizes[number] = _Sizes(inputs, [0, *accumulate(each.size_bytes for each in inputs)])
            if len(self._sizes) > _SEGMENTS_KEPT:
                self._sizes.popitem(last=False)
        return self._sizes[number]

    def _ready(self) -> list[Ticket]:
        found: list[Ticket] = []
        for shard in self._fs.names(self._layout.ready):
            try:
                found += tickets_among(self._fs.names(f"{self._layout.ready}/{shard}"))
            except (FileNotFoundError, NotADirectoryError):
                continue  # used up and removed meanwhile
        return found

    def _held(self) -> dict[str, list[Ticket]]:
        found = {}
        for worker in [*live_workers(self._fs, self._layout), *graves(self._fs, self._layout)]:
            try:
                found[worker] = tickets_among(self._fs.names(self._layout.work_of(worker)))
            except FileNotFoundError:
                continue
        return found
