"""Workers and planners that come at any time, in any order and any number."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.e2e.conftest import Bench, end, wait_until


def test_workers_that_start_before_the_job(bench: Bench) -> None:
    """Workers with --join wait for the job, and finish it as soon as somebody plans it."""
    bench.put(*(f"{number:02d}" for number in range(30)))
    workers = [bench.worker("--join") for _ in range(2)]
    finalizer = bench.start("reduce", "out", "--wait")

    bench.plan()

    assert [end(worker).code for worker in workers] == [0, 0]
    ended = end(finalizer)
    assert ended.code == 0
    assert json.loads(ended.stdout) == {"inputs": 30, "quarantined": 0, "words": 60, "letters": 300}
    assert bench.is_settled()


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_workers_that_all_create_the_job(bench: Bench, claims: str) -> None:
    """Workers started at once without a job make one job of it, and each input runs once."""
    names = [f"{number:03d}" for number in range(40)]
    bench.put(*names)

    workers = [bench.worker("--task", "tasks:hold", "--claims", claims) for _ in range(4)]

    assert [end(worker).code for worker in workers] == [0] * 4
    assert bench.summary() == {"inputs": 40, "quarantined": 0, "bytes": 480}
    assert sorted(ran.input for ran in bench.runs()) == names
    assert len(bench.inside("summary")) == 1
    assert bench.is_settled()


def test_two_planners_at_once(bench: Bench) -> None:
    """`plan` started several times at once adds each input once."""
    names = [f"{number:04d}" for number in range(2500)]
    bench.put(*names)

    planners = [bench.start("plan", "in", "out") for _ in range(4)]

    assert [end(each).code for each in planners] == [0] * 4
    assert bench.status()["total"] == 2500
    bench.run("-q")
    assert bench.summary() == {"inputs": 2500, "quarantined": 0, "words": 5000, "letters": 25_000}
    assert bench.is_settled()


def test_two_runs_at_once(bench: Bench) -> None:
    """`run` started twice at once is one job: both end with the same summary."""
    bench.put(*(f"{number:03d}" for number in range(50)))

    runs = [bench.start("run", "in", "out", "--slots", "1", "--task", "tasks:hold") for _ in range(2)]

    ended = [end(each) for each in runs]
    assert [each.code for each in ended] == [0, 0]
    assert [json.loads(each.stdout) for each in ended] == [{"inputs": 50, "quarantined": 0, "bytes": 600}] * 2
    assert len(bench.runs()) == 50
    assert bench.is_settled()


def test_planning_while_workers_run(bench: Bench) -> None:
    """`plan` adds inputs while a worker is busy; the same worker does them, and the summary covers all."""
    bench.put("held")
    bench.plan("--task", "tasks:hold")
    worker = bench.worker()
    bench.wait_for_run("held")
    bench.put("more-1", "more-2")

    planned = bench.plan()

    assert planned.stdout.splitlines() == [
        "planned 2 new inputs (24 B), 1 planned before",
        "3 inputs in the plan, 3 of them without a result",
    ]
    assert bench.status()["generation"] == 2
    bench.say("go")
    assert end(worker).code == 0
    assert bench.summary() == {"inputs": 3, "quarantined": 0, "bytes": 36}
    assert bench.is_settled()


def test_planning_again_adds_nothing(bench: Bench) -> None:
    """`plan` twice over the same IN adds nothing and makes no new generation."""
    bench.put("a", "b")
    bench.plan()

    again = bench.plan()

    assert again.stdout.splitlines()[0] == "planned 0 new inputs (0 B), 2 planned before"
    assert bench.status()["generation"] == 1


def test_staying_workers_take_what_comes(bench: Bench) -> None:
    """A worker with --stay does not leave when all is done; what another process plans later is done at once."""
    bench.put("a")
    bench.plan()
    worker = bench.worker("--stay")
    wait_until((bench.out / "summary.json").exists, "the first summary")
    bench.put("b")

    bench.plan()

    wait_until(lambda: bench.summary()["inputs"] == 2, "the second summary")
    assert worker.poll() is None
    worker.terminate()
    assert end(worker, 15).code == 0
    assert sorted(bench.export()) == ["a", "b"]
    assert bench.is_settled()


def test_many_finalizers(bench: Bench) -> None:
    """Any number of `reduce --wait` give the same summary, and none of them runs an input."""
    bench.put("held", "b")
    bench.plan("--task", "tasks:hold")
    finalizers = [bench.start("reduce", "out", "--wait") for _ in range(3)]
    worker = bench.worker()
    held = bench.wait_for_run("held")
    assert held.worker == worker.pid
    bench.say("go")

    ended = [end(each) for each in finalizers]

    assert [each.code for each in ended] == [0] * 3
    assert {each.stdout for each in ended} == {'{"inputs": 2, "quarantined": 0, "bytes": 24}\n'}
    assert end(worker).code == 0
    assert {ran.worker for ran in bench.runs()} == {worker.pid}
    assert bench.is_settled()


def test_a_worker_that_comes_after_the_end(bench: Bench) -> None:
    """A worker that finds everything done leaves at once with 0, as after a restart by Swarm."""
    bench.put("a")
    bench.run("-q")
    before = bench.out.joinpath("summary.json").stat().st_mtime_ns

    for _ in range(2):
        assert end(bench.worker("--join")).code == 0

    assert bench.out.joinpath("summary.json").stat().st_mtime_ns == before
    assert bench.is_settled()


def test_starting_over(bench: Bench) -> None:
    """An OUT that was removed is a new job."""
    bench.put("a")
    bench.run("-q")
    shutil.rmtree(bench.out)

    bench.run("--task", "tasks:size")

    assert bench.export() == {"a": 12}
