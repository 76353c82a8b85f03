"""Children whose tasks tamper with what a process inherits; the worker that waits for them is this process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from claimwork.clock import SystemClock
from claimwork.executor import Crashed, Event, Finished, ProcessExecutor
from claimwork.fs import PosixFs
from claimwork.job import require_job
from claimwork.layout import Layout
from claimwork.names import parse_ticket
from tests.e2e.conftest import Bench

TASK = """
import os, time

def closes_its_output(path):
    os.close(1)
    os.close(2)
    time.sleep(1)
    return 1

def closes_all(path):
    os.closerange(3, 4096)
    time.sleep(600)
"""
ME = "0" * 31 + "1"
FEW = 20  # polls that end before anything happened; without an end to the waiting there are thousands a second


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """What the executor does to this process ends with the test."""
    yield
    signal.set_wakeup_fd(-1)


def run_one(bench: Bench, monkeypatch: pytest.MonkeyPatch, task: str) -> Event:
    """Run the one input in a child; what became of it. Fails when the executor asks again and again without waiting."""
    (bench.root / "mine.py").write_text(TASK)
    bench.put("a")
    bench.plan("--task", f"mine:{task}")
    monkeypatch.chdir(bench.root)
    fs, layout = PosixFs(str(bench.out)), Layout(str(bench.out))
    fs.mkdir(layout.stage_of(ME))
    (name,) = [Path(name).name for name in bench.inside("ready") if Path(name).name.startswith("m.")]
    with open("log", "w", encoding="utf-8") as log:
        executor = ProcessExecutor(
            fs, layout, require_job(fs, layout), ME, str(bench.inputs), 1, SystemClock(), log.fileno()
        )
        try:
            executor.start(0, parse_ticket(name))
            for _ in range(FEW):
                for event in executor.poll(30.0):
                    return event
        finally:
            executor.kill()
    raise AssertionError(f"nothing happened within {FEW} waits")


def test_a_task_that_closes_its_output_lets_the_worker_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of what a child prints is noticed once; its answer counts as any other."""
    event = run_one(bench, monkeypatch, "closes_its_output")

    assert isinstance(event, Finished)
    assert event.mapped is not None
    assert event.mapped.done == 1


def test_a_task_that_closes_the_pipe_to_its_worker_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could never answer: that is a crash of its input, and nobody waits for it."""
    event = run_one(bench, monkeypatch, "closes_all")

    assert isinstance(event, Crashed)
    assert (event.index, event.error) == (0, "the task closed the pipe to its worker")
