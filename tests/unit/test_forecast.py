"""Forecasts: rates and times from what workers tell, and nothing where that is too little."""

from __future__ import annotations

from random import Random

import pytest

from claimwork import forecast
from claimwork.effort import Effort, Mark
from claimwork.forecast import InHand, Rate
from claimwork.records import BeatRecord

PER_BYTE_S = 1e-6


def effort(count: int) -> Effort:
    """Inputs of many sizes, a tenth of a second each and a second for a megabyte."""
    rng = Random(count)
    sizes = [int(10 ** rng.uniform(3, 7)) for _ in range(count)]
    return Effort.of([(size, 0.1 + PER_BYTE_S * size) for size in sizes])


def beat(slots: int, **more: object) -> BeatRecord:
    """What a worker tells."""
    return BeatRecord("w", 1, slots=slots, **more)  # type: ignore[arg-type]


def test_rates_are_of_each_workers_own_window() -> None:
    """One worker has been there for ten seconds and one for hours: both count with what they do now."""
    young = beat(1, done=20, done_bytes=2000, pace=[Mark(10.0, 0, 0, 0.0), Mark(10.0, 0, 0, 0.0)])
    old = beat(1, done=700, done_bytes=70000, pace=[Mark(60.0, 640, 64000, 1.0), Mark(600.0, 100, 10000, 1.0)])

    assert forecast.total_rate([young, old], 0) == Rate(3.0, 300.0)
    assert forecast.total_rate([young, old], 1) == Rate(3.0, 300.0)
    assert forecast.total_rate([beat(1)], 0) == Rate()


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_the_time_left_weighs_bytes_and_slots(slots: int) -> None:
    """A few large inputs take as long as their bytes say, many small ones as long as their number says."""
    some = effort(200)
    beats = [beat(slots, effort=some, state="busy")]

    large = forecast.eta(some, beats, [], 200, 100, 100 * 10**7)
    small = forecast.eta(some, beats, [], 200, 10_000, 1000)

    assert large is not None
    assert small is not None
    assert large.low_s < (100 * (0.1 + 10)) / slots < large.high_s
    assert large.middle_s == pytest.approx(100 * (0.1 + 10) / slots, rel=0.1)
    assert small.middle_s == pytest.approx(10_000 * 0.1 / slots, rel=0.1)


def test_no_forecast_without_enough_to_tell() -> None:
    """Nothing ran, few inputs ran, a small share ran, nobody works, nothing is left: no number at all."""
    some = effort(200)
    beats = [beat(4, effort=some)]

    assert forecast.eta(Effort(), [beat(4)], [], 0, 100, 1000) is None
    assert forecast.eta(effort(5), [beat(4, effort=effort(5))], [], 5, 1000, 10**9) is None
    assert forecast.eta(some, beats, [], 200, 10**6, 10**12) is None
    assert forecast.eta(some, [], [], 200, 100, 10**7) is None
    assert forecast.eta(some, beats, [], 200, 0, 0) is None


def test_waiting_finalizers_and_stopping_workers_are_no_slots() -> None:
    """Only slots that run inputs, or will, make it faster."""
    some = effort(20)

    assert forecast.busy_slots([beat(2, effort=some), beat(1), beat(4, effort=some, state="draining")]) == 2
    assert forecast.busy_slots([beat(3, current=[("0:1", 2.0)]), beat(1, current=[("reduce", 2.0)])]) == 3


def test_the_longest_input_bounds_the_end() -> None:
    """One large input that has just begun: more slots do not help."""
    some = effort(200)
    hand = [InHand(1.0, 10**8)]

    found = forecast.eta(some, [beat(50, effort=some, state="busy")], hand, 200, 1, 10**8)

    assert found is not None
    assert found.low_s < 99 < found.high_s


def test_the_last_inputs_are_named_when_they_are_late() -> None:
    """Two inputs run for ten and fourteen medians and little else is left; earlier nobody is called late."""
    hand = [InHand(20.0), InHand(28.0), InHand(1.0)]

    assert forecast.straggle(hand, 2.0, 3) == (2, 14.0)
    assert forecast.straggle(hand, 2.0, 300) is None
    assert forecast.straggle([InHand(2.0)], 2.0, 1) is None
    assert forecast.straggle(hand, None, 3) is None
