"""Effort: sums that add up over workers, and what follows from them."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimwork.effort import Effort, Mark, Pace

RAN = st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e5)), max_size=30)


def some(count: int, each_s: float, per_byte_s: float, largest: int = 10**7) -> Effort:
    """The effort of inputs of many sizes that cost what the two numbers say, give or take a tenth."""
    rng = Random(count)
    sizes = [int(largest ** rng.random()) for _ in range(count)]
    return Effort.of([(size, (each_s + per_byte_s * size) * rng.uniform(0.9, 1.1)) for size in sizes])


@given(RAN, RAN)
def test_effort_adds_up(left: list[tuple[int, float]], right: list[tuple[int, float]]) -> None:
    """Efforts of parts add up to that of the whole, and taking one part away leaves the other."""
    whole = Effort.of([*left, *right])

    assert (Effort.of(left) + Effort.of(right)).spread == whole.spread
    assert (whole - Effort.of(left)).count == len(right)
    assert (whole - Effort.of(left)).spread == Effort.of(right).spread
    assert (Effort.of(left) + Effort.of(right)).took_s == pytest.approx(whole.took_s)


@pytest.mark.parametrize(("each_s", "per_byte_s"), [(0.5, 1e-6), (2.0, 0.0), (0.0, 1e-6)])
def test_the_fit_finds_what_inputs_cost(each_s: float, per_byte_s: float) -> None:
    """The cost of a thousand small inputs and of a large one follow from what mixed ones took."""
    fit = some(300, each_s, per_byte_s).fit()

    assert fit is not None
    assert fit.cost_s(1000, 1000) == pytest.approx(1000 * each_s, rel=0.2, abs=100 * 1e-6 * 65536)
    assert fit.cost_s(1, 10**7) == pytest.approx(each_s + 1e7 * per_byte_s, rel=0.1)


def test_a_cost_is_never_negative() -> None:
    """Small inputs that took longer than large ones do not make large ones cheaper than nothing."""
    fit = Effort.of([(10, 9.0), (20, 8.0), (10**7, 1.0)]).fit()

    assert fit is not None
    assert fit.each_s > 0
    assert fit.per_byte_s == 0
    assert Effort().fit() is None


def test_the_median_is_that_of_the_middle_input() -> None:
    """Within the width of a bucket, whatever the longest took."""
    effort = Effort.of([(1, 1.0)] * 50 + [(1, 2.0)] * 100 + [(1, 1000.0)] * 49)

    assert effort.median_s() == pytest.approx(2.0, rel=0.42)
    assert Effort().median_s() is None


@given(RAN)
def test_effort_survives_json(ran: list[tuple[int, float]]) -> None:
    """What is written is read back, to nine digits."""
    effort = Effort.of(ran)

    found = Effort.from_json(json.loads(json.dumps(effort.to_json())))

    assert (found.count, found.spread) == (effort.count, effort.spread)
    assert found.wxt == pytest.approx(effort.wxt, rel=1e-8)


@pytest.mark.parametrize(
    "body",
    [
        None,
        7,
        "x",
        [],
        [1],
        [1, 2, 3, 4, 5, 6, 7, 8],
        [-1, *[0] * 7, []],
        [1, *["x"] * 7, []],
        [1, *[float("inf")] * 7, []],
    ],
)
def test_nonsense_is_no_effort(body: object) -> None:
    """Whatever somebody wrote there, status goes on."""
    assert Effort.from_json(body) == Effort()


def test_pace_marks_a_minute_and_ten_minutes_ago() -> None:
    """The marks are the latest that are old enough, or the oldest while none is; and they do not pile up."""
    pace = Pace()
    for second in range(0, 7200, 5):
        pace.note(float(second), second, 10 * second, second / 2)
        if second == 30:
            assert pace.marks(30.0) == [Mark(30.0, 0, 0, 0.0)] * 2

    assert pace.marks(7195.0) == [Mark(60.0, 7135, 71350, 3567.5), Mark(600.0, 6595, 65950, 3297.5)]
    assert len(pace._marks) < 130
