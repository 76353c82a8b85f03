"""Decisions that follow from numbers alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimwork import policy
from claimwork.names import Kind, Ticket, map_ticket, plan_ticket, reduce_ticket
from claimwork.policy import (
    after_failure,
    after_loss,
    backoff_ms,
    cut_tickets,
    input_cost,
    is_split,
    missing_ranges,
    part_bounds,
    part_count,
    part_of,
    shed_at,
    weight_class,
)

SIZES = st.lists(st.integers(0, 10**9), max_size=120).map(lambda sizes: sorted(sizes, reverse=True))
RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda pair: (pair[0], sum(pair))), max_size=8)


@given(SIZES, st.integers(0, 10**12), st.integers(0, 10**12))
def test_cuts_cover_a_segment_exactly(sizes: list[int], before: int, after: int) -> None:
    """Each input is in one ticket, and the bytes add up, wherever in the plan the segment lies."""
    own = sum(map(input_cost, sizes))
    cuts = cut_tickets(sizes, before, before + own + after)

    assert [index for cut in cuts for index in range(cut.lo, cut.hi)] == list(range(len(sizes)))
    assert all(cut.size_bytes == sum(sizes[cut.lo : cut.hi]) and cut.lo < cut.hi for cut in cuts)


@given(SIZES)
def test_tickets_cost_a_fair_share(sizes: list[int]) -> None:
    """No ticket of several inputs costs more than its share, so that one worker does not keep the others waiting."""
    total = sum(map(input_cost, sizes))
    for cut in cut_tickets(sizes, 0, total):
        cost = sum(map(input_cost, sizes[cut.lo : cut.hi]))

        assert cut.hi - cut.lo == 1 or cost <= total / policy.TICKETS_AIM


def test_tickets_shrink_towards_the_end() -> None:
    """Alike inputs: about as many tickets as aimed at, and those of the last fifth are a quarter as large."""
    cuts = cut_tickets([1] * 6400, 0, 6400 * input_cost(1))

    assert [cut.hi - cut.lo for cut in cuts[:3]] == [100, 100, 100]
    assert [cut.hi - cut.lo for cut in cuts[-3:]] == [25, 25, 25]


def test_nothing_is_cut_into_nothing() -> None:
    """An empty plan has no tickets."""
    assert cut_tickets([], 0, 0) == []


@given(st.integers(0, 40), RANGES)
def test_missing_is_what_is_not_covered(count: int, covered: list[tuple[int, int]]) -> None:
    """However the ranges overlap or lie outside; gaps come in order and do not touch."""
    gaps = missing_ranges(count, covered)
    wanted = set(range(count)) - {index for lo, hi in covered for index in range(lo, hi)}

    assert [index for lo, hi in gaps for index in range(lo, hi)] == sorted(wanted)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(gaps))


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(2, 2), (3, 4), (4, 8), (12, 2048), (13, 3600), (40, 3600), (9999, 3600)]
)
def test_back_off_doubles_up_to_an_hour(attempt: int, seconds: int) -> None:
    """Counted from the second attempt on."""
    assert backoff_ms(attempt, 2.0) == seconds * 1000


def test_back_off_fits_into_a_name() -> None:
    """Even of a job that asks for days."""
    assert backoff_ms(9999, 1e17) == 3_600_000
    assert backoff_ms(2, 0.0) == 0


def test_a_failed_input_gets_a_ticket_of_its_own() -> None:
    """One attempt more, after a back-off, until the last one."""
    ticket = map_ticket(1, 5, 7, 10, 20, 100)
    second = after_failure(ticket, 13, max_attempts=3, base_s=2.0)
    assert second is not None
    third = after_failure(second, 13, max_attempts=3, base_s=2.0)
    assert third is not None

    assert (second.segment, second.lo, second.hi, second.attempt, second.delay_ms) == (7, 13, 14, 2, 2000)
    assert (third.segment, third.lo, third.hi, third.attempt, third.delay_ms) == (7, 13, 14, 3, 4000)
    assert after_failure(third, 13, max_attempts=3, base_s=2.0) is None
    assert after_failure(ticket, 13, max_attempts=1, base_s=2.0) is None


@pytest.mark.parametrize("ticket", [plan_ticket("1" * 16), reduce_ticket(3), map_ticket(1, 5, 7, 10, 11, 100)])
def test_what_cannot_be_halved_comes_back_whole(ticket: Ticket) -> None:
    """With one attempt more each time, and at once."""
    again = [ticket]
    for attempt in range(2, 6):
        again = after_loss(again[0])

        assert [(each.lo, each.hi, each.attempt, each.delay_ms) for each in again] == [
            (ticket.lo, ticket.hi, attempt, 0)
        ]


@given(st.integers(2, 1024), st.integers(0, 1023))
def test_a_poison_input_isolates_itself(count: int, poison: int) -> None:
    """In log2 steps; no other input is charged more than the one attempt of the first loss."""
    poison %= count
    lost, steps = [map_ticket(0, 5, 0, 0, count, 1000)], 0
    safe: list[Ticket] = []
    while True:
        steps += 1
        parts = [part for ticket in lost for part in after_loss(ticket)]
        lost = [part for part in parts if part.lo <= poison < part.hi]
        safe += [part for part in parts if part not in lost]
        if lost[0].count == 1 and lost[0].attempt > 2:
            break

    assert sorted(index for part in [*safe, *lost] for index in range(part.lo, part.hi)) == list(range(count))
    assert all(part.attempt == 2 for part in safe)
    assert steps <= 2 + (count - 1).bit_length()


def test_a_delay_is_not_inherited_by_who_was_lost() -> None:
    """The back-off was served before the claim."""
    ticket = Ticket(Kind.MAP, 0, 1, 0, 3, 4, 10, 2, 4000, "0" * 16)

    assert [each.delay_ms for each in after_loss(ticket)] == [0]


@given(st.integers(0, 10**6), st.integers(1, 1024), st.data())
def test_parts_share_the_bytes(size: int, count: int, data: st.DataObject) -> None:
    """About; only the order of size matters."""
    ticket = map_ticket(0, 5, 0, 0, count, size)
    middle = data.draw(st.integers(0, count))
    one, two = part_of(ticket, 0, middle), part_of(ticket, middle, count)

    assert size - 2 <= one.size_bytes + two.size_bytes <= size
    assert one.name != two.name


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_weight_classes_order_by_size(one: int, two: int) -> None:
    """Within a class sizes differ by less than two."""
    if one <= two:
        assert weight_class(one) <= weight_class(two)
    if weight_class(one) == weight_class(two):
        assert max(one, two) < 2 * max(1, min(one, two)) or one == two == 0


@pytest.mark.parametrize(
    ("lo", "current", "hi", "elapsed_s", "expected"),
    [
        (0, 10, 100, 4.9, None),  # not long yet
        (0, 10, 100, 5.0, 21),  # two a second: ten more, and the one in hand
        (0, 0, 100, 60.0, 1),  # still at the first
        (0, 98, 100, 60.0, None),  # nearly done
        (0, 99, 100, 60.0, None),
        (50, 60, 70, 10.0, 66),
    ],
)
def test_long_tickets_are_shed(lo: int, current: int, hi: int, elapsed_s: float, expected: int | None) -> None:
    """At the pace so far they keep five seconds' worth, and always the input in hand."""
    assert shed_at(lo, current, hi, elapsed_s) == expected


@given(st.integers(0, 10**15), st.integers(1, 10**12))
def test_parts_cover_an_input_and_are_not_too_many(size: int, split: int) -> None:
    """Each has a byte at least; nobody who forgot a unit fills the mount with tickets."""
    count = part_count(size, split)
    edges = [
        part_bounds(nth, size, split) for nth in sorted({0, 1, count // 2, count - 2, count - 1}) if 0 <= nth < count
    ]

    assert 1 <= count <= 10_000
    assert is_split(size, split) == (count > 1) == (size > split)
    assert not is_split(size, None)
    assert (edges[0][0], edges[-1][1]) == (0, size)
    assert all(start < stop for start, stop in edges) or not size
    assert all(
        part_bounds(nth, size, split)[1] == part_bounds(nth + 1, size, split)[0]
        for nth in {0, count - 2}
        if 0 <= nth < count - 1
    )
    assert size > 10_000 * split or count == max(1, -(-size // split))
