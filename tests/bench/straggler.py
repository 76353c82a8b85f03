"""Straggler: how long a job takes when one input lasts forty times as long as its size says, with copies of it and without.

Four workers with a slot each sleep through forty inputs of half a second. Whoever is first at one of them, as on a slow host, takes
twenty seconds; a copy takes half of one. Patience is a fifteenth of the usual, so beats are a second apart.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.measure import Measure, Options
from tests.bench.programs import CLAIMWORK

WORKERS = 4
INPUTS = 40
LASTS_S = 0.5
LATE_S = 20.0
LEAST_S = INPUTS * LASTS_S / WORKERS
MOST_REPEATS = 3

TASK = f"""
import time
from claimwork import task

@task
def sleep(path, attempt):
    time.sleep({LATE_S} if path.name == "late" and attempt.number == 1 else {LASTS_S})
    return attempt.number
"""


def measure(options: Options) -> list[Measure]:
    """Both in turn."""
    found: dict[str, list[float]] = {"with copies": [], "without": []}
    for _ in range(min(options.repeats, MOST_REPEATS)):
        for how, seconds in found.items():
            with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
                seconds.append(_makespan(Path(root), [] if how == "with copies" else ["--no-backups"]))
    return [
        Measure(f"one late input of {INPUTS}, {how}: to the least", "", [each / LEAST_S for each in seconds])
        for how, seconds in found.items()
    ]


def _makespan(root: Path, options: list[str]) -> float:
    (root / "tasks.py").write_text(TASK)
    (root / "in").mkdir()
    for number in range(INPUTS):
        (root / "in" / ("late" if not number else f"{number:02d}")).write_bytes(bytes(1 << 16))
    plan = [*CLAIMWORK, "plan", "in", "out", "--task", "tasks:sleep", "--patience", "5", "--quiet", *options]
    subprocess.run(plan, cwd=root, check=True)
    began = time.monotonic()
    argv = [*CLAIMWORK, "worker", "in", "out", "--slots", "1", "--quiet"]
    workers = [subprocess.Popen(argv, cwd=root, stdout=sys.stderr) for _ in range(WORKERS)]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise RuntimeError("a worker did not end well")
    return time.monotonic() - began
