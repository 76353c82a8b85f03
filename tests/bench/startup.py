"""Start-up: how long commands take from nothing, and what they have in memory, beside a Python that does nothing.

The job that `status` looks at has a thousand inputs, and is done. The worker that idles waits for an input that another one is at; its
memory is that of its one process, with what it shares with others counted in part.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.measure import Measure, Options
from tests.bench.programs import CLAIMWORK, Took, environment, resident_mb, run

INPUTS = 1000
IDLE_S = 10.0
HELP_S = 0.15  # the project's targets
FIRST_CLAIM_S = 0.3
IDLE_CPU = 0.005
_GIVE_UP_S = 60.0

TASK = """
import os, time
from pathlib import Path

HERE = Path(__file__).parent

def wait(path):
    (HERE / "begun").write_text(repr(time.monotonic()))  # the same for all processes of a kernel
    while not (HERE / "end").exists():
        time.sleep(0.05)
    return 0
"""
PASS = "python -c pass"


def measure(options: Options) -> list[Measure]:
    """Commands in turn, then workers."""
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
        home = Path(root)
        (home / "in").mkdir()
        for number in range(INPUTS):
            (home / "in" / f"{number:04d}").touch()
        run((*CLAIMWORK, "run", "in", "out", "--quiet"), home)
        programs = {
            PASS: (sys.executable, "-c", "pass"),
            "claimwork --version": (*CLAIMWORK, "--version"),
            "claimwork --help": (*CLAIMWORK, "--help"),
            "claimwork status": (*CLAIMWORK, "status", "out"),
        }
        for argv in programs.values():  # compiled once, as after an installation
            run(argv, home)
        found: dict[str, list[Took]] = {name: [] for name in programs}
        first_claims: list[float] = []
        idle: list[tuple[float, float]] = []
        for _ in range(options.repeats):
            for name, argv in programs.items():
                found[name].append(run(argv, home))
            seconds, *rest = _workers(home)
            first_claims.append(seconds - found[PASS][-1].seconds)
            idle.append((rest[0], rest[1]))
    result = []
    for name, runs in found.items():
        limit = HELP_S if name == "claimwork --help" else None
        result.append(Measure(name, "s", [each.seconds for each in runs], limit))
        if name != PASS:
            ratios = [each.seconds / other.seconds for each, other in zip(runs, found[PASS], strict=True)]
            result.append(Measure(f"{name} to {PASS}", "", ratios))
        result.append(Measure(f"{name}: processors", "s", [each.cpu_s for each in runs]))
        result.append(Measure(f"{name}: memory", "MB", [each.peak_mb for each in runs]))
    return [
        *result,
        Measure(f"worker until its first input begins, less {PASS}", "s", first_claims, FIRST_CLAIM_S),
        Measure("idle worker: memory", "MB", [memory for memory, _ in idle]),
        Measure("idle worker: share of a core", "", [cpu for _, cpu in idle], IDLE_CPU),
    ]


def _workers(home: Path) -> tuple[float, float, float]:
    """Seconds from the start of a worker to its first input; memory and share of a core of one that idles beside it."""
    with tempfile.TemporaryDirectory(dir=home, prefix="workers-") as root:
        here = Path(root)
        (here / "tasks.py").write_text(TASK)
        (here / "in").mkdir()
        (here / "in" / "one").touch()
        run((*CLAIMWORK, "plan", "in", "out", "--task", "tasks:wait", "--quiet"), here, here)
        processes = []
        try:
            began = time.monotonic()
            processes.append(_start_worker(here))
            while not (here / "begun").exists() or not (here / "begun").read_text():
                _mind(began)
                time.sleep(0.005)
            first = float((here / "begun").read_text()) - began
            processes.append(_start_worker(here))
            time.sleep(IDLE_S / 2)  # past its start
            before, at = _cpu_s(processes[1].pid), time.monotonic()
            time.sleep(IDLE_S)
            share = (_cpu_s(processes[1].pid) - before) / (time.monotonic() - at)
            return first, resident_mb(processes[1].pid), share
        finally:
            (here / "end").touch()
            for process in processes:
                process.wait()


def _start_worker(here: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*CLAIMWORK, "worker", "in", "out", "--slots", "1", "--quiet"],
        cwd=here,
        env=environment(here),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _mind(began: float) -> None:
    if time.monotonic() - began > _GIVE_UP_S:
        raise TimeoutError(f"no input was begun within {_GIVE_UP_S:g} s")


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
