"""Recovery: kill -9 of a worker in the middle of an input, until another worker of the same kernel starts it again.

The other worker is idle, or busy with short inputs: then it first has to end the one in hand. It came after the worker that
is killed, or before it: then it has to get to know it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

from tests.bench.measure import Measure, Options

LIMIT_S = 2.0  # what the median may be: the project's target
GIVE_UP_S = 180.0  # even the beats alone, without OS locks, are faster than that
SHORT_INPUTS = 1000  # of 50 ms each: the other worker is busy all the time

TASK = """
import os, time
from pathlib import Path
from claimwork import task

HERE = Path(__file__).parent

@task
def timed(path, attempt):
    with open(HERE / "begun", "a") as log:  # the monotonic clock is the same for all processes of a kernel
        log.write(f"{path.name} {attempt.number} {os.getppid()} {time.monotonic()!r}\\n")
    while path.name.startswith("long") and not ((HERE / path.name).exists() or (HERE / "end").exists()):
        time.sleep(0.01)
    if not (HERE / "end").exists():
        time.sleep(0.05)
    return 0
"""


def measure(options: Options) -> list[Measure]:
    """Seconds from the kill to the next start of the lost input."""
    cases = list(product(["idle", "busy"], ["after", "before"]))
    found: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for _ in range(options.repeats):
        for case in cases:  # in turn, so that whatever else the machine does meets all of them
            with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
                found[case].append(_Run(Path(root), *case).seconds())
    return [
        Measure(
            f"kill -9 until another, {state}, that came {when} it, starts its input", "s", found[state, when], LIMIT_S
        )
        for state, when in cases
    ]


class _Run:
    def __init__(self, root: Path, state: str, when: str) -> None:
        self._root = root
        self._when = when
        self._short_inputs = SHORT_INPUTS if state == "busy" else 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def seconds(self) -> float:
        """One job, one kill."""
        (self._root / "tasks.py").write_text(TASK)
        (self._root / "in").mkdir()
        for name in ("long-1", "long-2"):
            (self._root / "in" / name).write_bytes(bytes(1 << 22))  # the heaviest tickets, so they go first
        for number in range(self._short_inputs):
            (self._root / "in" / f"{number:04d}").touch()
        self._start("plan", "in", "out", "--task", "tasks:timed", "--quiet").wait()
        try:
            return self._kill_and_wait()
        finally:
            (self._root / "end").touch()
            for process in self._processes:
                process.terminate()
                process.wait()

    def _kill_and_wait(self) -> float:
        first, its_input = self._start_worker_on_a_long_input()
        second, other_input = self._start_worker_on_a_long_input()
        if self._when == "after":
            victim, lost, other, ended = first, its_input, second, other_input
        else:
            victim, lost, other, ended = second, other_input, first, its_input
        (self._root / ended).touch()
        self._wait_for(lambda: self._is_free(other, ended))
        time.sleep(random.uniform(1, 2))  # past its start, and not in step with its looks
        killed_at = time.monotonic()
        victim.kill()
        return self._wait_for(lambda: self._begun(lost, 2)) - killed_at

    def _start_worker_on_a_long_input(self) -> tuple[subprocess.Popen[bytes], str]:
        worker = self._start_worker()
        self._wait_for(lambda: 0.0 if self._inputs_of(worker) else None)
        return worker, self._inputs_of(worker)[0]

    def _start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", "in", "out", "--slots", "1", "--quiet")

    def _start(self, *args: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "claimwork", *args],
            cwd=self._root,
            env={key: value for key, value in os.environ.items() if not key.startswith("CLAIMWORK_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    def _wait_for(self, look: Callable[[], float | None]) -> float:
        until = time.monotonic() + GIVE_UP_S
        while (found := look()) is None:
            if time.monotonic() > until:
                raise TimeoutError(f"in vain for {GIVE_UP_S:g} s")
            time.sleep(0.02)
        return found

    def _begun(self, name: str, attempt: int) -> float | None:
        """When an attempt at an input began."""
        return next((float(at) for *what, _, at in self._log() if what == [name, str(attempt)]), None)

    def _inputs_of(self, worker: subprocess.Popen[bytes]) -> list[str]:
        """What a worker has begun so far."""
        return [name for name, _, pid, _ in self._log() if pid == str(worker.pid)]

    def _is_free(self, worker: subprocess.Popen[bytes], ended: str) -> float | None:
        """Something other than None once a worker has ended its long input, and has begun a short one if there is any."""
        published = (self._root / "out" / "results" / f"{ended}.json").exists()
        return 0.0 if published and (not self._short_inputs or len(self._inputs_of(worker)) > 1) else None

    def _log(self) -> list[list[str]]:
        try:
            lines = (self._root / "begun").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.split() for line in lines]
