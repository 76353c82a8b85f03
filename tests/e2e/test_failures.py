"""Inputs that fail: retried, then quarantined with a report that says why; everything else is done."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Bench, end, wait_until

TROUBLE = ["raises", "dies", "exits", "hangs", "gives-up"]
GOOD = [f"{number:02d}" for number in range(6)]


def test_every_kind_of_failure(bench: Bench) -> None:
    """Inputs that raise, kill their process, exit, hang or give up are quarantined with their attempts; the others are
    done; `why` tells; after `retry` and mending the next run is complete and counts nothing twice.
    """
    bench.put(*TROUBLE, *GOOD)
    options = ("--timeout", "1", "--max-attempts", "2", "--backoff", "0.1", "--claims", "marker")

    ended = bench.run("--task", "tasks:troubled", *options, code=4)

    assert json.loads(ended.stdout) == {"inputs": len(GOOD), "quarantined": 5}
    assert f"5 quarantined: look at {bench.out}/quarantine, then: claimwork retry {bench.out}" in ended.stderr
    assert "about to divide" in ended.stderr
    assert bench.export() == dict.fromkeys(GOOD, 12)
    told = {
        name.removesuffix(".json"): [(each["attempt"], each["kind"], each["error"]) for each in report["attempts"]]
        for name, report in bench.reports().items()
    }
    assert told == {
        "raises": [(number, "exception", "ZeroDivisionError: division by zero") for number in (1, 2)],
        "dies": [(number, "crash", "the process was killed by SIGKILL") for number in (1, 2)],
        "exits": [(number, "crash", "the process exited with 7") for number in (1, 2)],
        "hangs": [(number, "timeout", "it took longer than 1 s") for number in (1, 2)],
        "gives-up": [(1, "gave_up", "there is no point")],
    }
    detail = bench.reports()["raises.json"]["attempts"][0]["detail"]
    assert "return 1 / 0" in detail
    assert "claimwork/child.py" not in detail
    assert bench.is_settled()

    why = bench.ok("why", "out", "raises", code=4).stdout
    assert why.startswith("raises: quarantined\n")
    assert why.count("failed on ") == 2
    assert "exception: ZeroDivisionError: division by zero" in why
    screen = bench.ok("status", "out", code=4).stdout
    assert screen.startswith("DONE: all inputs are settled, 5 of them quarantined\n")
    assert "  1x there is no point\n     gives-up\n" in screen
    assert f"mend the cause, then: claimwork retry {bench.out}" in screen

    before = bench.reports()
    dry = bench.ok("retry", "out", "--dry-run")
    assert dry.stdout.split() == sorted(TROUBLE)
    assert dry.stderr == "5 inputs would be back in ready\n" or "5 inputs would be back in ready" in dry.stderr
    assert bench.reports() == before
    assert bench.ok("retry", "out", "r*", "dies").stdout.split() == ["dies", "raises"]
    assert bench.status()["quarantined"] == 3
    assert "pending" in bench.ok("why", "out", "dies", code=3).stdout
    bench.say("mended")
    bench.run("-q", code=4)
    assert bench.summary() == {"inputs": 8, "quarantined": 3}
    assert bench.ok("retry", "out").stdout.split() == ["exits", "gives-up", "hangs"]

    ended = bench.run()

    assert json.loads(ended.stdout) == {"inputs": 11, "quarantined": 0}
    assert bench.export() == dict.fromkeys([*GOOD, *TROUBLE], 12)
    status = bench.status()
    assert (status["generation"], status["total"], status["done"], status["quarantined"]) == (3, 11, 11, 0)
    assert bench.reports() == {}
    assert sorted(ran.attempt for ran in bench.runs() if ran.input == "dies") == [1, 1, 2]
    assert bench.is_settled()


def test_retry_when_nothing_is_quarantined(bench: Bench) -> None:
    """`retry` without quarantined inputs changes nothing and says so; twice in a row the second finds nothing."""
    bench.put("raises", "a")
    bench.run("--task", "tasks:troubled", "--max-attempts", "1", code=4)

    assert "1 input is back in ready" in bench.ok("retry", "out").stderr
    assert bench.ok("retry", "out").stderr == "0 inputs are back in ready\n"
    bench.say("mended")
    bench.run()
    assert bench.ok("retry", "out").stderr == "0 inputs are back in ready\n"
    assert bench.status()["generation"] == 2
    assert bench.summary() == {"inputs": 2, "quarantined": 0}


def test_retry_while_workers_run(bench: Bench) -> None:
    """Quarantined inputs may go back while others are still at work; one summary counts each once."""
    bench.put("held", "raises", "a")
    bench.plan("--task", "tasks:both", "--max-attempts", "1")
    worker = bench.worker(slots=2)
    bench.wait_for_run("held")
    bench.wait_for_run("raises")
    wait_until(bench.reports, "the quarantine")
    bench.say("mended")

    assert bench.ok("retry", "out").stdout == "raises\n"
    bench.say("go")

    assert end(worker).code == 0
    assert bench.summary() == {"inputs": 3, "quarantined": 0}
    assert bench.export() == {"held": 12, "raises": 12, "a": 12}


def test_fail_fast(bench: Bench) -> None:
    """With --fail-fast the first quarantined input stops the run: exit 4, the rest waits untouched, and says how on."""
    bench.put(*GOOD, text="")
    bench.put("raises", text="the largest goes first")

    ended = bench.ok(
        "run", "in", "out", "--slots", "1", "--task", "tasks:troubled", "--max-attempts", "1", "--fail-fast", code=4
    )

    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("claimwork: "))
    assert "1 input is quarantined, and the job allows 0" in line
    assert f"claimwork retry {bench.out}" in line
    assert not (bench.out / "summary.json").exists()
    status = bench.call("status", "out")
    assert status.code == 4
    assert status.stdout.startswith("BLOCKED: 1 quarantined, more than the job allows\n")
    bench.ok("run", "in", "out", "-q", code=4)
    bench.say("mended")
    bench.ok("retry", "out")
    bench.run("-q")
    assert bench.summary() == {"inputs": 7, "quarantined": 0}


def test_some_quarantined_inputs_may_be_allowed(bench: Bench) -> None:
    """--max-quarantined N lets N inputs fail; the job is complete with exit 4 then."""
    bench.put("raises-1", "raises-2", *GOOD)

    ended = bench.run("--task", "tasks:troubled", "--max-attempts", "1", "--max-quarantined", "2", code=4)

    assert json.loads(ended.stdout) == {"inputs": 6, "quarantined": 2}


def test_a_failed_attempt_may_be_followed_by_success(bench: Bench) -> None:
    """An input that fails once and then succeeds is done, with exit 0, and `why` still tells of the failure."""
    bench.put("a")

    bench.run("--task", "tasks:second_time", "--backoff", "0.1")

    assert bench.export() == {"a": 2}
    why = bench.ok("why", "out", "a").stdout
    assert why.startswith("a: done\n")
    assert "attempt 1 failed" in why
    assert "RuntimeError: not yet" in why


def test_backing_off_is_told(bench: Bench) -> None:
    """While an input waits for its next attempt, status and `why` say so, and a worker that stops leaves it waiting."""
    bench.put("raises")
    worker = bench.start("worker", "in", "out", "--slots", "1", "--task", "tasks:troubled", "--backoff", "600")
    bench.wait_for_run("raises")
    wait_until(lambda: bench.status()["backing_off"] == 1, "the back-off")

    why = bench.ok("why", "out", "raises", code=3).stdout
    assert why.startswith("raises: backing off\n")
    assert "attempt 2 of 3" in why
    worker.terminate()
    assert end(worker).code == 143


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_a_reducer_that_raises(bench: Bench, claims: str) -> None:
    """A reducer that fails each time ends the run with 3 and one line; mended, `reduce` finishes without new work."""
    bench.put("a", "b")
    options = ("--task", "tasks:bad_reducer", "--max-attempts", "2", "--backoff", "0.1", "--claims", claims)

    ended = bench.run("-q", *options, code=3)

    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("claimwork: the reducer failed 2 times, last with KeyError: 'words'; all inputs are done: ")
    assert "claimwork reduce" in line
    assert bench.ok("status", "out", code=3).stdout.startswith("BLOCKED: the reducer failed")
    runs = len(bench.runs())
    assert "the reducer failed" in bench.ok("reduce", "out", "-q", code=3).stderr
    bench.say("mended")
    ended = bench.ok("reduce", "out", "-q")
    assert json.loads(ended.stdout) == {"sum": 24}
    assert bench.ok("status", "out").stdout.startswith("DONE")
    assert len(bench.runs()) == runs
    assert bench.is_settled()


def test_reduce_before_everything_is_done(bench: Bench) -> None:
    """`reduce` without --wait on an unfinished job says what is missing and ends with 3."""
    bench.put("a")
    bench.plan()

    ended = bench.ok("reduce", "out", code=3)

    assert ended.stdout == ""
    assert "1 pending" in ended.stderr


@pytest.mark.parametrize("attempt", [1, 2, 9])
def test_a_ticket_that_somebody_made_up(bench: Bench, attempt: int) -> None:
    """A name is a ticket, so anybody may make one up: for inputs that are not in the plan it is dropped."""
    bench.put("one", "two")
    bench.plan()
    ready = bench.out / ".claimwork" / "ready" / "000000"
    (ready / f"m.h000000.c3.s0.0-9.b4.a{attempt}.d0.n00000000000000aa").touch()
    (ready / f"m.h000000.c3.s0.7-8.b4.a{attempt}.d0.n00000000000000bb").touch()

    bench.run()

    assert bench.results() == ["one.json", "two.json"]
    assert bench.is_settled()
