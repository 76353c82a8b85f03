"""Growth: what planning costs per input, and its peak of memory, as the number of inputs grows.

The inputs are empty files. Planning is done by a child of the command `claimwork plan`; memory is that of the larger process,
processors are those of both. Then a worker counts their words; what it needs must not grow either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Measure, Options
from tests.bench.picture import Picture
from tests.bench.programs import CLAIMWORK, Took, run

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST_REPEATS = 5  # a hundred thousand inputs take seconds to make
ONCE_FROM = 1_000_000  # and a million take a minute
PER_INPUT_TO_FIRST = 1.1  # the project's target
PICTURE = Picture("Planning, µs of a processor for each input", r"(\d+ inputs): plan, per input", "")
PLANNER_MB = 400.0  # the target for a million inputs
WORKER_MB = 60.0


def measure(options: Options) -> list[Measure]:
    """Plan each size in turn; what start-up costs is taken off by a job of one input."""
    found: dict[int, list[Took]] = {inputs: [] for inputs in (1, *SIZES)}
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
        home = Path(root)
        for inputs in found:
            directory = home / f"in-{inputs}"
            for number in range(inputs):
                if number % 1000 == 0:
                    (directory / f"{number // 1000:03d}").mkdir(parents=True)
                (directory / f"{number // 1000:03d}" / f"{number:06d}").touch()
        for turn in range(min(options.repeats, MOST_REPEATS)):
            for inputs, runs in found.items():
                if turn and inputs >= ONCE_FROM:
                    continue
                runs.append(run((*CLAIMWORK, "plan", f"in-{inputs}", f"out-{inputs}-{turn}", "--quiet"), home))
        workers = {
            inputs: run((*CLAIMWORK, "worker", f"in-{inputs}", f"out-{inputs}-0", "--slots", "1", "--quiet"), home)
            for inputs in SIZES
            if inputs < ONCE_FROM
        }
    return [*_of(found), *_of_workers(workers)]


def _of_workers(workers: dict[int, Took]) -> Iterator[Measure]:
    for inputs, took in workers.items():
        yield Measure(f"{inputs} inputs: worker, peak of memory", "MB", [took.peak_mb], WORKER_MB)


def _of(found: dict[int, list[Took]]) -> list[Measure]:
    costs = {
        inputs: [
            1e6 * (took.cpu_s - least.cpu_s) / inputs for took, least in zip(found[inputs], found[1], strict=False)
        ]
        for inputs in SIZES
    }
    result = []
    for inputs in SIZES:
        runs = found[inputs]
        result.append(Measure(f"{inputs} inputs: plan, per input", "µs of a core", costs[inputs]))
        result.append(Measure(f"{inputs} inputs: plan", "s", [each.seconds for each in runs]))
        result.append(Measure(f"{inputs} inputs: peak of memory", "MB", [each.peak_mb for each in runs], PLANNER_MB))
        if inputs != SIZES[0]:
            ratios = [one / first for one, first in zip(costs[inputs], costs[SIZES[0]], strict=False)]
            result.append(Measure(f"{inputs} inputs: per input to {SIZES[0]}", "", ratios, PER_INPUT_TO_FIRST))
    return result
