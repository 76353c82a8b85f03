"""History: what ran, where and when, summed up in a document whose size does not grow with the job."""

from __future__ import annotations

import json

import pytest

from claimwork.history import History
from claimwork.records import BeatRecord, Done, Failure, Outcome, Ran

A, B = "a" * 32, "b" * 32
START = 1.75e9


def done(worker: str, lo: int, *ran: tuple[float, float, int]) -> Done:
    """A done record of inputs that began, took and weighed so much."""
    outcomes = [Outcome(True, 1, "d", ran=Ran(START + began, took, size)) for began, took, size in ran]
    return Done(0, lo, lo + len(outcomes), worker, outcomes)


def test_a_row_for_each_worker() -> None:
    """What it ran, where it was, in which version, and how it left."""
    history = History()
    history.add(done(A, 0, (0, 2, 100), (2, 4, 300)))
    history.add(done(B, 2, (1, 5, 50)))
    history.workers[A] = BeatRecord(
        A, 9, host="h1", node="n1", slot="3", version="0.1.0", state="left", started_at=START, at=START + 6
    )
    history.left.add(A)
    history.failures.append(Failure("poison", 0, 7, 1, "exception", "Oh: no", worker=B, at=START + 8))

    shown = history.to_json()

    first, second = sorted(shown["workers"], key=lambda each: str(each["id"]))
    wanted = {"id": A[:8], "where": "n1 slot 3", "version": "0.1.0", "state": "left", "inputs": 2, "bytes": 400}
    assert {key: first[key] for key in wanted} == wanted
    assert (first["took_s"], first["spans"]) == (6.0, [[0.0, 6.0, 2]])
    assert (second["where"], second["state"], second["fails"]) == (
        "",
        "unknown",
        [[8.0, "poison", "exception: Oh: no"]],
    )
    assert shown["span_s"] == 8.0


def test_the_lower_bound_is_what_the_slots_that_were_there_could_have_done() -> None:
    """Two slots for ten seconds with twelve seconds of work: six would have been enough. One input of nine seconds: nine."""
    history = History()
    for worker in (A, B):
        history.workers[worker] = BeatRecord(worker, 1, started_at=START, at=START + 10)
    history.add(done(A, 0, (0, 2, 1), (2, 4, 1)))
    history.add(done(B, 2, (0, 2, 1), (6, 4, 1)))
    balance = history.balance()

    assert balance is not None
    assert (balance["makespan_s"], balance["lower_bound_s"], balance["slots"]) == (10.0, 6.0, 2)

    history.add(done(B, 4, (1, 9, 1)))
    balance = history.balance()
    assert balance is not None
    assert balance["lower_bound_s"] == pytest.approx(10.0)  # 21 s of work and at most 20 s of slots


def test_a_worker_that_came_late_could_not_have_helped_earlier() -> None:
    """The bound counts a slot only while it was there."""
    history = History()
    history.workers[A] = BeatRecord(A, 1, started_at=START, at=START + 20)
    history.workers[B] = BeatRecord(B, 1, started_at=START + 10, at=START + 20)
    history.add(done(A, 0, (0, 10, 1), (10, 4, 1)))
    history.add(done(B, 2, (10, 2, 1), (18, 2, 1)))

    balance = history.balance()

    assert balance is not None
    assert (balance["makespan_s"], balance["lower_bound_s"]) == (20.0, 14.0)


def test_who_beats_is_there_until_now() -> None:
    """Beats are some seconds apart: of two workers the one that beat earlier has not left for that; one that left has."""
    history = History()
    history.add(done(A, 0, (0, 2, 1)))
    history.add(done(B, 1, (0, 8, 1)))
    history.workers[A] = BeatRecord(A, 1, started_at=START, at=START + 5)
    history.workers[B] = BeatRecord(B, 1, started_at=START, at=START + 9)
    assert history.to_json()["live"] == [[0.0, 2], [9.0, 0]]

    history.left.add(A)

    assert history.to_json()["live"] == [[0.0, 2], [5.0, 1], [9.0, 0]]


def test_nothing_ran_yet() -> None:
    """An empty history is a document like any other."""
    shown = History().to_json()

    assert (shown["balance"], shown["workers"], shown["span_s"], shown["timed"]) == (None, [], 0.0, 0)


def test_the_document_stays_small() -> None:
    """Fifty thousand inputs over a day: every input is counted, and the document is no larger than for twenty thousand."""
    lengths = []
    for inputs in (20_000, 50_000):
        history = History()
        for number in range(0, inputs, 10):
            worker = f"{number % 200:032x}"
            rows = [((number + each) * 86400 / inputs, 0.5 + each, 10 * each) for each in range(10)]
            history.add(done(worker, number, *rows))
        shown = history.to_json()
        assert shown["timed"] == inputs
        assert sum(shown["throughput"]["inputs"]) == inputs
        assert shown["slowest"][0]["took_s"] == 9.5
        assert len(shown["workers"]) + shown["more_workers"] == 20
        lengths.append(len(json.dumps(shown)))

    assert lengths[1] < 1.1 * lengths[0] < 110_000


def test_times_that_are_none_do_no_harm() -> None:
    """A record may name any number as its time; the document stays small, and what it counts stays right."""
    history = History()
    for lo, began in enumerate((0.0, 1e17, -START + 1, START)):
        history.add(done(A, lo, (began, 1e15, 10**17)))
    history.workers[A] = BeatRecord(A, 1, started_at=-1e17, at=1e17)

    shown = history.to_json()

    assert sum(shown["throughput"]["inputs"]) == 4
    assert len(json.dumps(shown, allow_nan=False)) < 20_000
