"""kill -9, of anything at any time: whoever is left finishes, and every input counts once."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.e2e.conftest import Bench, Ran, end, is_alive, wait_until

CLAIMS = pytest.mark.parametrize("claims", ["rename", "marker"])


def attempts_of(bench: Bench, name: str) -> list[int]:
    """Numbers of the attempts at an input, in the order in which they ran."""
    return [ran.attempt for ran in bench.runs() if ran.input == name]


@CLAIMS
def test_the_others_take_over_from_a_killed_worker(bench: Bench, claims: str) -> None:
    """One of three workers is killed in the middle of an input: the other two finish all, and status tells of it."""
    names = ["held", *(f"{number:03d}" for number in range(60))]
    bench.put(*names)
    bench.plan("--task", "tasks:hold", "--claims", claims)
    workers = [bench.worker() for _ in range(3)]
    held = bench.wait_for_run("held")
    (killed,) = (each for each in workers if each.pid == held.worker)

    killed.kill()
    bench.wait_for_run("held", attempt=2)
    bench.say("go")

    codes = [end(worker).code for worker in workers if worker is not killed]
    assert codes == [0, 0]
    wait_until(lambda: not is_alive(held.child), "the death of the killed worker's child", 5)
    assert attempts_of(bench, "held") == [1, 2]
    assert bench.summary() == {"inputs": 61, "quarantined": 0, "bytes": 61 * 12}
    assert bench.export() == dict.fromkeys(names, 12)
    assert bench.results() == sorted(f"{name}.json" for name in names)
    status = bench.status()
    assert (status["verdict"], status["done"], status["reclaimed"]) == ("DONE", 61, 1)
    assert "1 worker lost, 1 ticket reclaimed\n" in bench.ok("status", "out").stdout
    assert bench.is_settled()


def test_a_killed_worker_leaves_no_program_running(bench: Bench) -> None:
    """What it had started for an input would otherwise go on for as long as it likes, beside the next attempt."""
    bench.put("a")
    bench.plan("--command", "sh -c 'echo $$ >program; exec sleep 600' {input}")
    worker = bench.worker()
    program = bench.root / "program"
    wait_until(lambda: program.exists() and program.read_text().endswith("\n"), "the program")

    worker.kill()

    wait_until(lambda: not is_alive(int(program.read_text())), "the death of the program", 5)


@CLAIMS
def test_a_killed_child_costs_its_input_one_attempt(bench: Bench, claims: str) -> None:
    """A child that is killed by somebody else is a failed attempt of the input in its hands, and of no other."""
    bench.put("held", "a", "b", "c")
    bench.plan("--task", "tasks:hold", "--claims", claims, "--backoff", "0.1")
    worker = bench.worker()
    held = bench.wait_for_run("held")

    os.kill(held.child, signal.SIGKILL)
    bench.wait_for_run("held", attempt=2)
    bench.say("go")

    assert end(worker).code == 0
    assert bench.summary() == {"inputs": 4, "quarantined": 0, "bytes": 48}
    told = json.loads(bench.ok("why", "out", "held", "--json").stdout)
    assert [(each["attempt"], each["kind"], each["error"]) for each in told["failures"]] == [
        (1, "crash", "the process was killed by SIGKILL")
    ]
    assert len(bench.inside("failures")) == 1
    assert bench.is_settled()


def test_a_worker_that_was_the_only_one_is_replaced(bench: Bench) -> None:
    """After the only worker was killed the job stalls, and the next worker takes everything back at once."""
    bench.put("held", "other")
    bench.plan("--task", "tasks:hold")
    worker = bench.worker()
    bench.wait_for_run("held")
    worker.kill()
    end(worker)
    bench.say("go")

    assert end(bench.worker()).code == 0

    assert bench.summary() == {"inputs": 2, "quarantined": 0, "bytes": 24}
    assert bench.is_settled()


def test_run_starts_a_killed_worker_again(bench: Bench) -> None:
    """The worker below `claimwork run` is replaced when it is killed, and the run succeeds."""
    bench.put("held", "other")
    run = bench.start("run", "in", "out", "--slots", "1", "--task", "tasks:hold")
    held = bench.wait_for_run("held")

    os.kill(held.worker, signal.SIGKILL)
    bench.wait_for_run("held", attempt=2)
    bench.say("go")

    ended = end(run)
    assert ended.code == 0
    assert json.loads(ended.stdout) == {"inputs": 2, "quarantined": 0, "bytes": 24}
    assert "the worker was killed by signal 9; starting another" in ended.stderr


def test_the_worker_of_a_killed_run_drains(bench: Bench) -> None:
    """When `claimwork run` is killed its worker drains and ends: nothing is charged, and the next run finishes."""
    bench.put("held", "other-1", "other-2")
    run = bench.start("run", "in", "out", "--slots", "1", "--task", "tasks:hold", "--grace", "0.2")
    held = bench.wait_for_run("held")

    run.kill()
    end(run)

    wait_until(lambda: not is_alive(held.worker), "the end of the worker", 15)
    wait_until(lambda: not is_alive(held.child), "the end of the child", 15)
    assert bench.inside("failures") == []
    bench.say("go")
    ended = bench.run()
    assert json.loads(ended.stdout) == {"inputs": 3, "quarantined": 0, "bytes": 36}
    assert {ran.attempt for ran in bench.runs()} == {1}


@CLAIMS
def test_a_finalizer_killed_in_mid_reduce(bench: Bench, claims: str) -> None:
    """Whoever reduces is killed at it: another finalizer makes the one summary, to the byte as undisturbed."""
    names = [f"{number:03d}" for number in range(20)]
    bench.put(*names)
    bench.plan("--task", "tasks:slow_reducer", "--claims", claims)
    finalizers = [bench.start("reduce", "out", "--wait") for _ in range(2)]
    worker = bench.worker()
    first = bench.wait_for_run("reduce")

    os.kill(first.worker, signal.SIGKILL)

    def second() -> Ran | None:
        return next((ran for ran in bench.runs() if ran.child != first.child), None)

    wait_until(lambda: second() is not None and len(bench.runs()) > 1, "another reduction")
    bench.say("go")
    codes = sorted(end(each).code for each in [*finalizers, worker])
    assert codes == [-9, 0, 0]
    disturbed = (bench.out / "summary.json").read_bytes()
    assert len(bench.inside("summary")) == 1
    assert bench.is_settled()
    bench.ok("run", "in", "again", "--slots", "1", "--task", "tasks:slow_reducer", "--claims", claims)
    assert (bench.root / "again" / "summary.json").read_bytes() == disturbed


def test_an_input_that_takes_its_workers_down(bench: Bench) -> None:
    """An input whose workers are killed each time is quarantined as lost after --max-attempts; the others finish."""
    names = ["held", *(f"{number:02d}" for number in range(8))]
    bench.put(*names)
    bench.plan("--task", "tasks:hold", "--max-attempts", "2")
    for attempt in (1, 2):
        worker = bench.worker()
        held = bench.wait_for_run("held", attempt)
        assert held.worker == worker.pid
        worker.kill()
        end(worker)

    assert end(bench.worker()).code == 0

    (report,) = bench.reports().values()
    assert [each["kind"] for each in report["attempts"]] == ["lost"]
    assert "lost" in report["attempts"][0]["error"]
    assert bench.ok("status", "out", code=4).stdout.startswith("DONE")
    assert bench.export() == {name: 12 for name in names if name != "held"}
