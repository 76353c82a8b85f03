"""Recovery: kill -9 of a worker in the middle of an input, until another worker of the same kernel starts it again.

The other worker is idle, or busy with short inputs: then it first has to end the one in hand.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
    while path.name == "long" and not (HERE / "go").exists():
        time.sleep(0.01)
    if path.name != "long" and not (HERE / "go").exists():
        time.sleep(0.05)
    return 0
"""


def measure(options: Options) -> list[Measure]:
    """Seconds from the kill to the next start of the lost input."""
    found: dict[str, list[float]] = {"idle": [], "busy": []}
    for _ in range(options.repeats):
        for state, values in found.items():  # in turn, so that whatever else the machine does meets all of them
            with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
                values.append(_Run(Path(root), short_inputs=SHORT_INPUTS if state == "busy" else 0).seconds())
    return [
        Measure(f"kill -9 until a worker that is {state} starts the input again", "s", values, LIMIT_S)
        for state, values in found.items()
    ]


class _Run:
    def __init__(self, root: Path, short_inputs: int) -> None:
        self._root = root
        self._short_inputs = short_inputs
        self._processes: list[subprocess.Popen[bytes]] = []

    def seconds(self) -> float:
        """One job, one kill."""
        (self._root / "tasks.py").write_text(TASK)
        (self._root / "in").mkdir()
        (self._root / "in" / "long").write_bytes(bytes(1 << 22))  # the heaviest ticket, so it goes first
        for number in range(self._short_inputs):
            (self._root / "in" / f"{number:04d}").touch()
        self._start("plan", "in", "out", "--task", "tasks:timed", "--quiet").wait()
        try:
            return self._kill_and_wait()
        finally:
            (self._root / "go").touch()
            for process in self._processes:
                process.terminate()
                process.wait()

    def _kill_and_wait(self) -> float:
        victim = self._start_worker()
        self._wait_for(lambda: self._begun("long", 1))
        other = self._start_worker()
        self._wait_for(lambda: self._is_at_work(other))
        time.sleep(random.uniform(1, 2))  # past its start, and not in step with its looks
        killed_at = time.monotonic()
        victim.kill()
        return self._wait_for(lambda: self._begun("long", 2)) - killed_at

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

    def _is_at_work(self, worker: subprocess.Popen[bytes]) -> float | None:
        """Something other than None once a worker has joined and, where there is something to do, has begun."""
        live = self._root / "out" / ".claimwork" / "live"
        joined = len(list(live.iterdir())) == len(self._processes) - 1  # all but the planner, which has left
        begun = not self._short_inputs or any(pid == str(worker.pid) for *_, pid, _ in self._log())
        return 0.0 if joined and begun else None

    def _log(self) -> list[list[str]]:
        try:
            lines = (self._root / "begun").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.split() for line in lines]
