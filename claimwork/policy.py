"""The numbers, each with its derivation, and the decisions that follow from values alone: no clock, no filesystem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .names import Kind, Ticket

# -- liveness ---------------------------------------------------------------------------------------------------------
PATIENCE_S = 75.0  # T: how long a peer's beat may stand still; five beats, so four may be missed
BEATS_IN_PATIENCE = 5  # a beat every T/5, and at least so many reads before anyone is suspect
BEAT_JITTER = 0.2  # +-20 %: workers that started together drift apart
BEAT_TRIES = 15  # a beat that failed is tried again so often before the next one would be due: each second
SELF_FENCE = 0.8  # of T: a worker that could not beat for so long gives up before its peers can have given it up
HEALTHY_WITHIN = (
    4  # of T: peers gave up a worker that is silent for so long, and starting afresh did not help it either
)
PEERS_WATCHED = 8  # at most, next in the sorted listing: up to the first that lives
PEERS_WATCHED_LOCAL = 2  # on a local mount at least so many, idle workers all of those: nothing is saved there
LIVE_LISTED_EVERY = 2  # looks, on a network mount: who has just come is watched from the next listing on
GRAVES_LISTED_EVERY = BEATS_IN_PATIENCE  # a reaper that dies over a grave is not noticed sooner either
OSLOCK_POLL_LOCAL_S = 0.5  # a dead peer on this kernel is noticed within a second; flock costs nothing locally
OSLOCK_POLL_NETWORK_S = 7.5  # on a network mount each look costs round trips: with each look at beats and once between

LOSSES_OF_A_REDUCTION = 100  # a reduction lost with its worker so often is taken to be what kills it
LATE_S = PATIENCE_S  # a request that a client gave up on may be executed so much later (27 s were measured)

# -- idling -----------------------------------------------------------------------------------------------------------
IDLE_FIRST_S = 0.05  # the first look after running dry; doubled up to the cap
IDLE_LOCAL_S = 0.5
IDLE_NETWORK_S = 20.0  # a server answers every idle worker: about 20 round trips in 30 s, all told
MISSING_AFTER_S = 5.0  # uncovered ranges without a ticket must stay so this long before they are offered again
MISSING_NETWORK_S = 40.0  # looking for them lists every directory of tickets
MISSING_LOOKERS = 1  # so many look each time, were all idle: each would cost a thousand workers a million listings
PASSED_OVER_MANY = 24  # looks of others after which one is twice as likely to be drawn, then ever more
RESCAN_S = 60.0  # --stay: how often IN is listed again

# -- tickets ----------------------------------------------------------------------------------------------------------
SEGMENT_INPUTS = 1024
SHARD_TICKETS = 256  # a listing of a shard stays one or two round trips
INPUT_COST_BYTES = (
    64 * 1024
)  # what opening and publishing one input costs, as bytes of reading (measured: about 0.2 ms)
TICKETS_AIM = 64  # fair shares of a plan; a ticket that turns out to last is split while it runs (SHED_AFTER_S)
TAPER_FROM = 0.8  # from this share of the cost on, tickets are a quarter as large, so that workers finish together
TAPER = 4
SHED_AFTER_S = 5.0  # a ticket that runs longer gives its unfinished rest back, keeping as much as lasts so long again
PLENTY = 4  # tickets for each worker: while so many wait the rest goes back whole, and nobody lists thousands of pieces
PUBLISH_GROUP_S = 0.5  # staged results wait so long for company before one flush publishes them
PUBLISH_GROUP = 1024
BACKUP_SHARE = 0.1  # of the workers may run copies of what others hold
BACKUP_LATE = 2.0  # an input that runs so many times as long as its size says is expected to go on for as long again
BACKUP_CHECK_LOCAL_S = 1.0  # how often it is looked whether a copy, or what it is a copy of, has been overtaken
BACKUP_CHECK_NETWORK_S = 5.0
PARTS_MAX = 10_000  # of one input: each is a ticket and a file, and who gathers reads it (some 3 ms on a network mount)

# -- attempts ---------------------------------------------------------------------------------------------------------
MAX_ATTEMPTS = 3
BACKOFF_S = 2.0
BACKOFF_MAX_S = 3600.0
FAULT_AFTER = 8  # a worker under which so many inputs fail in a row must show that it is not to blame
GRACE_S = 8.0  # Docker kills 10 s after SIGTERM; two are left for handing back
INLINE_BYTES = 512  # values up to this size stand in the done record itself
VALUE_LIMIT_BYTES = 64 << 20  # a result larger than this is not read back as a value
LOG_TAIL_BYTES = 4096
SLOT_BYTES = 100 << 20  # a child takes 23 MB before it loads a task, and some 100 with a library for tables


def backoff_ms(attempt: int, base_s: float) -> int:
    """Delay before *attempt* (2 or more) may be claimed, by whoever sees it, from when it first sees it."""
    return int(1000 * min(base_s * 2 ** min(attempt - 2, 20), BACKOFF_MAX_S))


def after_failure(ticket: Ticket, index: int, max_attempts: int, base_s: float) -> Ticket | None:
    """The ticket for input *index* of *ticket* after a failed attempt; None when it was the last one."""
    if ticket.attempt >= max_attempts:
        return None
    attempt = ticket.attempt + 1
    return ticket.successor(lo=index, hi=index + 1, attempt=attempt, delay_ms=backoff_ms(attempt, base_s))


def is_lost_for_good(ticket: Ticket, max_attempts: int) -> bool:
    """Whether a ticket for one input was lost with its workers so often that it is not run once more.

    Attempt 2 is always run: what was never begun is offered again with that number, so that its outcome is settled.
    """
    return ticket.count == 1 and ticket.attempt > max(max_attempts, 2)


def after_loss(ticket: Ticket, move: str = "") -> list[Ticket]:
    """What a ticket becomes when its owner died.

    A range gets one more attempt as a whole; lost again it is halved, the attempt unchanged, so that an input that
    takes its worker down isolates itself in log2 steps and its neighbours are not charged for it. A peer names its *move*:
    its halves must not be called like parts that the owner was making when it died, and may have locked.
    """
    if ticket.kind is not Kind.MAP or ticket.count <= 1 or ticket.attempt == 1:
        return [ticket.successor(attempt=ticket.attempt + 1, delay_ms=0)]
    middle = (ticket.lo + ticket.hi) // 2
    return [
        part_of(ticket, ticket.lo, middle, move),
        part_of(ticket, middle, ticket.hi, move),
    ]


def part_of(ticket: Ticket, lo: int, hi: int, move: str = "") -> Ticket:
    """The same ticket for a part of its range; bytes are shared out by count, since only the order of size matters."""
    share = ticket.size_bytes * (hi - lo) // ticket.count if ticket.count else 0
    return ticket.successor(move, lo=lo, hi=hi, size_bytes=share)


def part_count(size_bytes: int, split_bytes: int | None) -> int:
    """How many parts an input is processed in; 1: it is not split."""
    return 1 if split_bytes is None else max(1, -(-size_bytes // part_bytes(size_bytes, split_bytes)))


def is_split(size_bytes: int, split_bytes: int | None) -> bool:
    """Whether an input is processed in parts."""
    return part_count(size_bytes, split_bytes) > 1


def part_bytes(size_bytes: int, split_bytes: int) -> int:
    """How large the parts of an input are: as the job says, or larger where that would make more than `PARTS_MAX`."""
    return max(split_bytes, -(-size_bytes // PARTS_MAX))


def piece_bytes(size_bytes: int, split_bytes: int | None) -> int:
    """How much of an input one slot runs at a time: a part, or all of it."""
    return size_bytes if split_bytes is None else min(size_bytes, part_bytes(size_bytes, split_bytes))


def part_bounds(nth: int, size_bytes: int, split_bytes: int) -> tuple[int, int]:
    """The bytes of part *nth*, from and to (exclusive)."""
    step = part_bytes(size_bytes, split_bytes)
    return nth * step, min((nth + 1) * step, size_bytes)


def is_late(for_s: float, expected_s: float) -> bool:
    """Whether an input that has run for so long is worth a copy: one that takes what it should would overtake it."""
    return for_s >= BACKUP_LATE * expected_s


def backups_allowed(workers: int) -> int:
    """How many of so many workers may run copies at a time."""
    return max(1, int(BACKUP_SHARE * workers))


def is_little_memory(limit_bytes: float, slots: int) -> bool:
    """Whether so many children may well be more than a container's limit holds."""
    return slots > 1 and limit_bytes < slots * SLOT_BYTES


def weight_class(size_bytes: int) -> int:
    """Inputs and tickets of one class differ in size by less than two."""
    return size_bytes.bit_length()


@dataclass(frozen=True, slots=True)
class Cut:
    """One ticket's share of a segment: inputs ``lo`` to ``hi``, exclusive, and their bytes."""

    lo: int
    hi: int
    size_bytes: int


def cut_tickets(sizes: Sequence[int], cost_before: int, cost_total: int) -> list[Cut]:
    """Cut one segment into tickets: as many inputs to each as make up a fair share of the whole plan's cost.

    *sizes* are bytes, largest first; *cost_before* and *cost_total* are what `cost` sums to over the segments before
    this one and over the whole plan. Shares shrink towards the end (factoring), so that workers finish together.
    """
    cuts: list[Cut] = []
    lo = cost = size = 0
    done = cost_before
    for index, each in enumerate(sizes):
        share = cost_total / TICKETS_AIM
        if done >= cost_total * TAPER_FROM:
            share /= TAPER
        if index > lo and cost + input_cost(each) > share:
            cuts.append(Cut(lo, index, size))
            lo, cost, size = index, 0, 0
        cost += input_cost(each)
        done += input_cost(each)
        size += each
    if sizes:
        cuts.append(Cut(lo, len(sizes), size))
    return cuts


def input_cost(size_bytes: int) -> int:
    """What an input is reckoned to cost, in bytes."""
    return size_bytes + INPUT_COST_BYTES


def missing_ranges(count: int, covered: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of ``range(count)`` that none of the *covered* ranges holds; those may overlap, or lie beyond it."""
    gaps, at = [], 0
    for lo, hi in sorted(covered):
        if lo >= count:
            break
        if lo > at:
            gaps.append((at, lo))
        at = max(at, hi)
    if at < count:
        gaps.append((at, count))
    return gaps


def shed_at(lo: int, current: int, hi: int, elapsed_s: float) -> int | None:
    """Where a ticket that takes long should stop, so that others can have the rest; None to go on as it is.

    It keeps what lasts about `SHED_AFTER_S` more at the pace so far, and at least the input in hand.
    """
    if elapsed_s < SHED_AFTER_S or hi - current <= 1:
        return None
    pace = (current - lo) / elapsed_s
    stop = current + 1 + int(pace * SHED_AFTER_S)
    return stop if stop < hi else None
