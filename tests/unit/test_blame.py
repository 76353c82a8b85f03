"""Whose fault a failure is: decided from counts alone."""

from __future__ import annotations

from claimwork.blame import CONTROLS, Blame


def fail(blame: Blame, count: int) -> list[bool]:
    """So many different inputs fail; which of them are charged at once."""
    return [blame.failed(0, index) for index in range(count)]


def test_nobody_is_charged_before_the_worker_succeeded() -> None:
    """A fresh worker holds its failures; its first success charges them."""
    blame = Blame(8)

    assert fail(blame, 3) == [False] * 3
    assert blame.verdict(can_control=False, more_inputs=True) == "open"
    blame.succeeded()
    assert blame.verdict(can_control=True, more_inputs=True) == "inputs"
    assert fail(blame, 3) == [True] * 3


def test_too_few_failures_are_the_inputs() -> None:
    """Nothing more can be claimed, nothing has succeeded anywhere: that is no evidence against the worker."""
    blame = Blame(8)
    fail(blame, 7)

    assert blame.verdict(can_control=False, more_inputs=False) == "inputs"


def test_many_failures_and_no_success_anywhere_are_the_worker() -> None:
    """Different inputs count, the same one again does not."""
    blame = Blame(3)

    assert [blame.failed(0, 5) for _ in range(9)] == [False] * 9
    assert blame.verdict(can_control=False, more_inputs=True) == "open"
    blame.failed(0, 6)
    blame.failed(1, 5)
    assert blame.verdict(can_control=False, more_inputs=True) == "worker"


def test_controls_decide_where_there_are_some() -> None:
    """No number of failures condemns a worker while there is a control to run; two that fail do."""
    blame = Blame(2)
    fail(blame, 50)

    assert blame.verdict(can_control=True, more_inputs=False) == "open"
    for index in range(CONTROLS):
        blame.control_failed(3, index)
    assert blame.verdict(can_control=True, more_inputs=True) == "worker"


def test_a_single_control_is_run_twice() -> None:
    """It succeeded elsewhere, but may be one of those that fail now and then."""
    blame = Blame(8)
    fail(blame, 1)
    blame.control_failed(0, 1)

    assert blame.verdict(can_control=True, more_inputs=True) == "open"
    blame.control_failed(0, 1)
    assert blame.verdict(can_control=True, more_inputs=True) == "worker"


def test_a_control_that_succeeds_clears_the_worker_and_what_failed_before() -> None:
    """Also one that followed a control which failed."""
    blame = Blame(8)
    fail(blame, 1)
    blame.control_failed(0, 1)
    blame.succeeded()

    assert blame.verdict(can_control=True, more_inputs=True) == "inputs"
    assert blame.controls == []


def test_a_sound_worker_is_doubted_anew_after_a_row_of_failures() -> None:
    """A mount may vanish in the middle; each time it was doubted for nothing the row must be twice as long."""
    blame = Blame(4)
    blame.succeeded()

    assert fail(blame, 4) == [True, True, True, False]
    blame.succeeded()
    assert fail(blame, 8) == [True] * 7 + [False]


def test_successes_between_failures_break_the_row() -> None:
    """Every third input fails: nobody doubts the worker."""
    blame = Blame(2)
    blame.succeeded()
    for index in range(20):
        assert blame.failed(0, index)
        blame.succeeded()

    assert blame.limit == 2


def test_never_in_doubt() -> None:
    """Limit 0 charges everything at once, as users may want."""
    assert fail(Blame(0), 30) == [True] * 30
