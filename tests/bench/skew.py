"""Skew: how long uneven inputs take with several slots, beside the least that is possible, and beside a static split.

400 inputs, sizes by a Pareto law, the largest with a tenth of all bytes; the task sleeps in proportion to size, so that it
needs no processors. The least is the larger of a fair share and the largest input. The perfect split is run beside: a process
for each slot that is told its inputs beforehand, so that what it takes more is the machine's doing. The static split,
`md5(name) % slots`, is computed rather than run: what it takes is the share of its fullest slot.

A second set of inputs has one with half of all bytes. With `--split` it keeps no slot waiting, so the least is a fair share.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.bench.measure import Measure, Options
from tests.bench.picture import Picture
from tests.bench.programs import CLAIMWORK, environment, run

INPUTS = 400
LARGEST = 0.1  # of all bytes
SLOTS = (2, 4, 8)
LEAST_S = 10.0  # what a run takes at least, for each number of slots
MOST_REPEATS = 5
ALPHA = 1.2  # heavy-tailed: a few files have most of the bytes
CAP = 40.0  # no other file is so much larger than the smallest
UNIT_BYTES = 100_000
LIMIT = 1.05  # the project's target
HALF = 0.5  # of all bytes are in one input that is split
SPLIT_SHARE = 256  # so large is a part, as a fraction of all bytes
SPLIT_LIMIT = 1.03
PICTURE = Picture("Time for uneven inputs, to the least that is possible", r"(.*) to the least")

TASK = """
import time
from pathlib import Path
from claimwork import task

HERE = Path(__file__).parent
S_PER_BYTE = float((HERE / "pace").read_text())

@task
def part(path, attempt):
    return sleep(path, attempt.stop - attempt.start)

@part.merge
def _(values):
    return sum(values)

def sleep(path, size=None):
    began = time.monotonic()  # the same for all processes of a kernel
    time.sleep((path.stat().st_size if size is None else size) * S_PER_BYTE)
    with open(HERE / "log", "a") as log:
        log.write(f"{began!r} {time.monotonic()!r}\\n")
    return 0
"""

IDEAL = """
import json
from multiprocessing import Process
from tasks import HERE, sleep

def work(names):
    for name in names:
        sleep(HERE / "in" / name)

processes = [Process(target=work, args=(names,)) for names in json.loads((HERE / "split").read_text())]
for each in processes:
    each.start()
for each in processes:
    each.join()
"""


def measure(options: Options) -> list[Measure]:
    """Each number of slots in turn, other inputs each time, the same for all."""
    found: dict[int, list[float]] = {slots: [] for slots in SLOTS}
    perfect: dict[int, list[float]] = {slots: [] for slots in SLOTS}
    static: dict[int, list[float]] = {slots: [] for slots in SLOTS}
    halves: dict[int, list[float]] = {slots: [] for slots in SLOTS}
    for turn in range(min(options.repeats, MOST_REPEATS)):
        sizes = uneven_sizes(Random(turn))
        for slots in SLOTS:
            fair, largest = sum(sizes.values()) / slots, max(sizes.values())
            least = max(fair, largest)
            for run_one, into in ((_run_claimwork, found), (_run_perfect, perfect)):
                with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
                    _prepare(Path(root), sizes, LEAST_S / least)
                    run_one(Path(root), sizes, slots)
                    into[slots].append(_makespan_s(Path(root), len(sizes)) / LEAST_S)
            with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
                halves[slots].append(_run_split(Path(root), uneven_sizes(Random(turn), HALF), slots) / LEAST_S)
            shares = [0] * slots
            for name, size in sizes.items():
                shares[int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % slots] += size
            static[slots].append(max(shares) / least)
    return [
        each
        for slots in SLOTS
        for each in (
            Measure(f"{slots} slots: claimwork to the least", "", found[slots], LIMIT),
            Measure(f"{slots} slots: perfect split to the least", "", perfect[slots]),
            Measure(f"{slots} slots: static md5 split to the least", "", static[slots]),
            Measure(f"{slots} slots: half in one input, --split to the least", "", halves[slots], SPLIT_LIMIT),
        )
    ]


def uneven_sizes(rng: Random, largest: float = LARGEST) -> dict[str, int]:
    """Names and bytes; one input has the share *largest* of all."""
    weights = [min(rng.paretovariate(ALPHA), CAP) for _ in range(INPUTS - 1)]
    weights.append(sum(weights) * largest / (1 - largest))
    return {f"{rng.getrandbits(64):016x}": int(weight * UNIT_BYTES) for weight in weights}


def _prepare(home: Path, sizes: dict[str, int], pace: float) -> None:
    (home / "tasks.py").write_text(TASK)
    (home / "pace").write_text(repr(pace))
    (home / "in").mkdir()
    for name, size in sizes.items():
        with (home / "in" / name).open("wb") as file:
            file.truncate(size)  # nothing reads it, so it needs no disk


def _run_split(home: Path, sizes: dict[str, int], slots: int) -> float:
    """Seconds that a job takes which splits its largest input."""
    _prepare(home, sizes, LEAST_S * slots / sum(sizes.values()))
    part = sum(sizes.values()) // SPLIT_SHARE
    _run_claimwork(home, sizes, slots, "--task", "tasks:part", "--split", str(part))
    return _makespan_s(home, sum(-(-size // part) for size in sizes.values()))


def _run_claimwork(home: Path, _sizes: dict[str, int], slots: int, *options: str) -> None:
    """Two workers that have half of the slots each."""
    run((*CLAIMWORK, "plan", "in", "out", *(options or ("--task", "tasks:sleep")), "--quiet"), home, home)
    workers = [
        subprocess.Popen(
            [*CLAIMWORK, "worker", "in", "out", "--slots", str(slots // 2), "--quiet"],
            cwd=home,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise RuntimeError(f"workers ended with {codes}")


def _run_perfect(home: Path, sizes: dict[str, int], slots: int) -> None:
    """Largest first, each to the slot that has least: with so many inputs as good as perfect."""
    split: list[list[str]] = [[] for _ in range(slots)]
    shares = [0] * slots
    for name in sorted(sizes, key=lambda each: -sizes[each]):
        least = shares.index(min(shares))
        split[least].append(name)
        shares[least] += sizes[name]
    (home / "split").write_text(json.dumps(split))
    (home / "ideal.py").write_text(IDEAL)
    run((sys.executable, "ideal.py"), home, home)


def _makespan_s(home: Path, inputs: int) -> float:
    """Seconds from the first input that began to the last that ended."""
    lines = [list(map(float, line.split())) for line in (home / "log").read_text().splitlines()]
    if len(lines) != inputs:
        raise RuntimeError(f"{len(lines)} of {inputs} inputs were run")
    return max(ended for _, ended in lines) - min(began for began, _ in lines)
