"""SIGTERM and SIGINT: inputs in hand end within the grace or go back, and nobody is charged for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Bench, descendants, end, is_alive, wait_until


def nothing_is_charged(bench: Bench) -> bool:
    """No failure is recorded, and every ticket that waits is still at its first attempt."""
    assert bench.inside("failures") == []
    assert {name.rpartition("/")[2].split(".")[6] for name in bench.inside("ready")} <= {"a1"}
    return True


def nothing_is_held(bench: Bench) -> bool:
    """Whoever stopped has left nothing behind but tickets in ready."""
    leftovers = {name: bench.inside(name) for name in ("work", "live", "dead", "stage", "oslock")}
    assert not any(leftovers.values()), leftovers
    return True


def catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM by now."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("claims", ["rename", "marker"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_input_in_hand_may_end(bench: Bench, claims: str, number: int, code: int) -> None:
    """A worker that is told to stop finishes the input in hand, starts no other, and says that work remains."""
    bench.put("held", *(f"{each:02d}" for each in range(6)), text="")
    bench.put("held", text="the largest goes first")
    bench.plan("--task", "tasks:hold", "--claims", claims)
    worker = bench.worker()
    bench.wait_for_run("held")

    worker.send_signal(number)
    time.sleep(0.3)
    bench.say("go")

    ended = end(worker)
    assert ended.code == code
    assert "stopped: " in ended.stderr
    assert bench.export() == {"held": 22}
    assert nothing_is_charged(bench)
    assert nothing_is_held(bench)
    assert len(bench.runs()) == 1
    bench.run("-q")
    assert bench.summary() == {"inputs": 7, "quarantined": 0, "bytes": 22}
    assert {ran.attempt for ran in bench.runs()} == {1}


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_an_input_that_outlasts_the_grace_goes_back(bench: Bench, claims: str) -> None:
    """What does not end within --grace is ended and handed back at the same attempt, within seconds."""
    bench.put("held-1", "held-2", "other")
    bench.plan("--task", "tasks:hold", "--claims", claims)
    worker = bench.worker("--grace", "0.5", slots=2)
    first = bench.wait_for_run("held-1")
    bench.wait_for_run("held-2")

    worker.terminate()

    began = time.monotonic()
    assert end(worker).code == 143
    assert time.monotonic() - began < 10
    assert not is_alive(first.child)
    assert nothing_is_charged(bench)
    assert nothing_is_held(bench)
    bench.say("go")
    bench.run("-q")
    assert bench.summary() == {"inputs": 3, "quarantined": 0, "bytes": 36}
    assert {ran.attempt for ran in bench.runs()} == {1}


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_patience(bench: Bench, second: int) -> None:
    """A second signal does not wait for the grace; the exit code is that of the first."""
    bench.put("held")
    bench.plan("--task", "tasks:hold")
    worker = bench.worker("--grace", "300")
    bench.wait_for_run("held")

    worker.terminate()
    time.sleep(0.3)
    assert worker.poll() is None
    worker.send_signal(second)

    assert end(worker, 10).code == 143
    assert nothing_is_charged(bench)
    assert nothing_is_held(bench)


def test_stopping_when_nothing_is_left_is_success(bench: Bench) -> None:
    """A worker that is told to stop while the last piece of work ends within the grace exits 0."""
    bench.put("a")
    bench.plan("--task", "tasks:slow_reducer")
    worker = bench.worker()
    bench.wait_for_run("reduce")

    worker.terminate()
    time.sleep(0.3)
    bench.say("go")

    assert end(worker).code == 0
    assert bench.summary() == {"found": [["a", 12]]}


def test_an_idle_worker_stops_at_once(bench: Bench) -> None:
    """A worker that waits while another one has all the work stops without delay; the other is not disturbed."""
    bench.put("held")
    bench.plan("--task", "tasks:hold")
    busy = bench.worker()
    bench.wait_for_run("held")
    idle = bench.worker()
    wait_until(lambda: len(bench.inside("live")) == 2, "the second worker")

    idle.terminate()

    assert end(idle, 10).code == 143
    bench.say("go")
    assert end(busy).code == 0
    assert nothing_is_charged(bench)


def test_a_worker_that_waits_for_a_job_stops_at_once(bench: Bench) -> None:
    """SIGTERM while --join waits ends the worker with 143."""
    worker = bench.worker("--join")
    wait_until(lambda: catches_sigterm(worker.pid), "the start")

    worker.terminate()

    assert end(worker, 10).code == 143


def test_a_finalizer_that_waits_stops_at_once(bench: Bench) -> None:
    """SIGTERM to `reduce --wait` while inputs are open ends it with 143."""
    bench.put("a")
    bench.plan()
    finalizer = bench.start("reduce", "out", "--wait")
    wait_until(lambda: bench.inside("live"), "the finalizer")

    finalizer.terminate()

    assert end(finalizer, 10).code == 143
    assert nothing_is_charged(bench)


@pytest.mark.parametrize(
    ("whom", "number", "code"),
    [
        ("run alone", signal.SIGTERM, 143),
        ("its process group", signal.SIGINT, 130),
        ("every process", signal.SIGTERM, 143),
        ("every process", signal.SIGINT, 130),
    ],
)
def test_run_drains_like_a_worker(bench: Bench, number: int, code: int, whom: str) -> None:
    """`run` passes the signal on, however it is delivered: Docker signals one process, a terminal or Slurm a group,
    systemd every process. The input in hand is finished.
    """
    bench.put("held", text="the largest goes first")
    bench.put("a", "b", "c")
    run = bench.start("run", "in", "out", "--slots", "1", "--task", "tasks:hold")
    bench.wait_for_run("held")
    pids = {"run alone": [run.pid], "every process": [run.pid, *descendants(run.pid)]}.get(whom, [])

    if whom == "its process group":
        os.killpg(run.pid, number)
    for pid in pids:
        os.kill(pid, number)
    time.sleep(0.8)
    bench.say("go")

    ended = end(run)
    assert ended.code == code, ended
    assert bench.export() == {"held": 22}
    assert nothing_is_charged(bench)
    assert nothing_is_held(bench)
    assert json.loads(bench.run().stdout) == {"inputs": 4, "quarantined": 0, "bytes": 22 + 36}


def test_a_program_that_was_told_to_stop_as_well_is_not_charged(bench: Bench) -> None:
    """Where SIGTERM goes to the programs that a task runs too, the input goes back uncharged."""
    bench.put("a", "b")
    (bench.root / "tool").write_text('#!/bin/sh\necho 0 0 1 x >>runs\n[ -e go ] || exec sleep 600\nwc -c <"$1"\n')
    (bench.root / "tool").chmod(0o755)
    bench.plan("--command", "./tool {input}")
    worker = bench.worker("--grace", "5")
    wait_until(bench.runs, "the program")

    for pid in [worker.pid, *descendants(worker.pid)]:
        os.kill(pid, signal.SIGTERM)

    assert end(worker).code == 143
    assert nothing_is_charged(bench)
    assert nothing_is_held(bench)
    bench.say("go")
    bench.run("-q")
    assert bench.export() == {"a": 12, "b": 12}


def test_what_a_task_started_ends_with_it(bench: Bench) -> None:
    """After the grace nothing that the task started is left running."""
    bench.put("a")
    bench.plan("--command", "sh -c 'echo 0 $$ 1 x >>runs; sleep 600; echo' {input}")
    worker = bench.worker("--grace", "0.2")
    wait_until(bench.runs, "the program")
    below = descendants(worker.pid)
    assert len(below) >= 2

    worker.terminate()

    assert end(worker).code == 143
    wait_until(lambda: not any(is_alive(pid) for pid in below), f"the end of {below}", 5)


def test_the_reader_of_an_export_may_leave(bench: Bench) -> None:
    """`export | head -1` is no error."""
    bench.put(*(f"{number:04d}" for number in range(3000)))
    bench.run("-q")
    script = f'"$0" export "{bench.out}" --format jsonl | head -1'

    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, str(bench._argv((), None)[0])],
        env=bench.env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
