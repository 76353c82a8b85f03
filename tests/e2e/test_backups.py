"""Copies of inputs that last: whoever is first publishes, the other one is ended, and the summary is that of one run."""

from __future__ import annotations

import json
import signal

import pytest

from tests.e2e.conftest import Bench, Ran, all_of, end, stop, wait_until, wake

CLAIMS = pytest.mark.parametrize("claims", ["rename", "marker"])
PATIENCE = ["--patience", "3"]
SUMMARY = {"inputs": 9, "quarantined": 0, "bytes": 9 * 12}


def two_at_one_input(bench: Bench, *options: str) -> tuple[Ran, Ran]:
    """Two workers; one is at an input that lasts, the other one runs a copy of it."""
    bench.put("held", *(f"{number:02d}" for number in range(8)))
    bench.plan("--task", "tasks:hold", *PATIENCE, *options)
    bench.worker()
    owner = bench.wait_for_run("held")
    bench.worker()
    return owner, bench.wait_for_run("held", attempt=2)


@CLAIMS
def test_the_copy_is_first(bench: Bench, claims: str) -> None:
    """Its result stands; whoever held the input ends its child, and both leave, since nothing is left."""
    owner, copy = two_at_one_input(bench, "--claims", claims)
    assert copy.worker != owner.worker
    bench.say(f"go-{copy.child}")

    first, second = (end(each) for each in bench.started)
    assert (first.code, second.code) == (0, 0), (first, second)
    assert "'held' is done elsewhere and ended here" in first.stderr
    assert "the copy of 'held' brought its result" in second.stderr
    assert bench.summary() == SUMMARY
    assert bench.is_settled()
    assert bench.inside("backups") == []
    bench.ok("check", str(bench.out))


def test_the_copy_is_second(bench: Bench) -> None:
    """It is ended, and nobody is charged for it."""
    owner, _ = two_at_one_input(bench)
    bench.say(f"go-{owner.child}")

    first, second = (end(each) for each in bench.started)
    assert (first.code, second.code) == (0, 0), (first, second)
    assert "'held' is done elsewhere and ended here" in second.stderr
    assert bench.summary() == SUMMARY
    assert bench.status()["failed"] == 0
    bench.ok("check", str(bench.out))


def test_whoever_runs_a_copy_is_killed(bench: Bench) -> None:
    """The input is where it was, with whoever holds it, and no attempt of it is spent."""
    owner, _ = two_at_one_input(bench)
    bench.started[1].send_signal(signal.SIGKILL)
    bench.started[1].wait()
    bench.say(f"go-{owner.child}")

    assert end(bench.started[0]).code == 0
    assert bench.summary() == SUMMARY
    assert [ran.attempt for ran in bench.runs() if ran.input == "held"] == [1, 2]
    bench.ok("check", str(bench.out))


def test_whoever_holds_a_copied_input_is_killed(bench: Bench) -> None:
    """Peers take its ticket back; the copy goes on, and its result is the one."""
    _, copy = two_at_one_input(bench)
    bench.started[0].send_signal(signal.SIGKILL)
    bench.started[0].wait()
    wait_until(lambda: any("/m." in name for name in bench.inside("ready")), "the ticket of who was killed")
    bench.say(f"go-{copy.child}")

    assert end(bench.started[1]).code == 0
    assert bench.summary() == SUMMARY
    assert bench.is_settled()
    bench.ok("check", str(bench.out))


def test_whoever_holds_a_copied_input_stands_still(bench: Bench) -> None:
    """The job is complete without it, and sound; when it wakes up it finds that nothing is left."""
    _, copy = two_at_one_input(bench)
    stop(*(asleep := all_of(bench.started[0])))
    bench.say(f"go-{copy.child}")
    assert end(bench.started[1]).code == 0
    assert bench.summary() == SUMMARY
    bench.ok("check", str(bench.out))
    wake(*asleep)

    assert end(bench.started[0]).code == 0
    assert bench.summary() == SUMMARY
    assert bench.is_settled()


def test_a_copy_that_lasts_makes_way_for_other_inputs(bench: Bench) -> None:
    """An input that never ends takes up whoever holds it, and nobody else."""
    two_at_one_input(bench)
    bench.put("new")
    bench.plan()

    bench.wait_for_run("new")
    wait_until(lambda: bench.status()["done"] == 9, "the input that was planned later")
    for each in bench.started:
        each.send_signal(signal.SIGTERM)
    bench.say("go")
    assert [end(each).code for each in bench.started]
    bench.ok("check", str(bench.out))


@pytest.mark.parametrize("how", ["declared", "told"])
def test_side_effects_are_not_copied(bench: Bench, how: str) -> None:
    """A task says that it has some, or whoever plans says that no copies are to run."""
    (bench.root / "mail.py").write_text(
        "from claimwork import task\n@task(side_effects=True)\ndef send(path):\n    return 1\n"
    )
    bench.put("a")
    bench.plan(*(["--task", "mail:send"] if how == "declared" else ["--no-backups"]))

    assert json.loads((bench.out / ".claimwork" / "job.json").read_text())["backups"] is False
