"""Many schedules with a progress bar: the program behind scripts/simulate."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.simulator import Violation, draw_case, replay, simulate

BATCH = 100


def run_batch(job: tuple[int, int, int | None, int | None]) -> tuple[int, int, Counter[str], list[str]]:
    """Simulate some seeds: schedules, filesystem calls, faults by kind, violations."""
    start, stop, workers, inputs = job
    calls, faults, violations = 0, Counter[str](), []
    for seed in range(start, stop):
        case = draw_case(seed, workers, inputs)
        try:
            world = simulate(case)
            calls += world.calls
        except Violation as violation:
            violations.append(f"seed {seed}: {violation}")
        except Exception as error:  # a crash of the shipping code is a violation as well
            violations.append(f"seed {seed}: {type(error).__name__}: {error}")
        faults += case.kinds
    return stop - start, calls, faults, violations


def main() -> int:
    """Parse, simulate, tell."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--workers", type=int, help="workers at the start; default: one to four, mostly one or two, by the seed"
    )
    parser.add_argument(
        "--inputs", type=int, help="inputs at the start; default: one to six, mostly one or two, by the seed"
    )
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--replay", type=int, metavar="SEED", help="print the history of one schedule")
    told = parser.parse_args()
    if told.replay is not None:
        history = replay(told.replay, workers=told.workers, inputs=told.inputs)
        print("\n".join(history))
        return int(history[-1].startswith("VIOLATION"))
    end = told.seed + told.schedules
    batches: Iterator[tuple[int, int, int | None, int | None]] = (
        (at, min(at + BATCH, end), told.workers, told.inputs) for at in range(told.seed, end, BATCH)
    )
    done, calls, faults, violations = 0, 0, Counter[str](), []
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with multiprocessing.Pool(told.jobs) as pool, Progress(*columns) as progress:
        bar = progress.add_task("schedules", total=told.schedules)
        for count, more_calls, more_faults, more in pool.imap_unordered(run_batch, batches):
            done, calls, faults = done + count, calls + more_calls, faults + more_faults
            violations += more
            progress.update(bar, completed=done)
            for each in more:
                progress.console.print(each, soft_wrap=True)
    seconds = time.monotonic() - started
    print(f"{done} schedules, seeds {told.seed} to {end - 1}, both claim stores: {len(violations)} violations")
    print(
        f"{calls} filesystem calls, {sum(faults.values())} faults: "
        + ", ".join(f"{n} {k}" for k, n in faults.most_common())
    )
    print(f"{seconds:.0f} s, {1000 * seconds / max(done, 1):.1f} ms a schedule with {told.jobs} processes")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
