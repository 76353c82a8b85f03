"""Coordination: tiny inputs and a task that does nothing, beside a perfect split without coordination, and beside others.

1 KiB each, two slots, one result file for each input. Systems take turns, and a ratio is that of two runs of one turn. The
whole time has everything in it: filling a queue or planning, starting, working, and with claimwork the summary.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import needs
from tests.bench.measure import Measure, Options
from tests.bench.systems import BARE, CLAIMWORK, IDEAL, SYSTEMS, Bench, Run, System, calls

SIZES = (1_000, 10_000)
MOST_REPEATS = 5  # a turn takes a minute, and leaves a hundred thousand files until the end
TRACED = (1_000, 2_000)  # what the second takes more is what inputs cost, without start and end
TO_IDEAL = 0.9
TIMES = {"dirq": 1.0, "python-task-queue": 10.0, "Jug": 6.0}


def measure(options: Options) -> list[Measure]:
    """Rates and ratios for each size, then system calls per input."""
    systems = [each for each in SYSTEMS if _is_here(each)]
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
        found: list[Measure] = []
        for inputs in SIZES:
            bench = Bench(_made(Path(root) / str(inputs)), inputs)
            found += _of_rates(inputs, _take_turns(bench, inputs, systems, min(options.repeats, MOST_REPEATS)))
        problem = needs.install_program("strace")
        if problem:
            print(f"scripts/bench: {problem}", file=sys.stderr)
        else:
            found += _of_calls(Path(root), [each for each in systems if each.name in {IDEAL, BARE, CLAIMWORK, *TIMES}])
    return found


def _is_here(system: System) -> bool:
    problem = needs.install_peers() or (needs.install_program(system.program) if system.program else "")
    if problem:
        print(f"scripts/bench: without {system.name}: {problem}", file=sys.stderr)
    return not problem


def _take_turns(bench: Bench, inputs: int, systems: list[System], repeats: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {each.name: [] for each in systems if inputs <= each.most}
    for turn in range(repeats):
        for nth in range(len(systems)):  # nobody always comes after the same one
            system = systems[(nth + turn) % len(systems)]
            if system.name in runs:
                print(f"scripts/bench: turn {turn + 1} of {repeats}, {inputs} inputs, {system.name}", file=sys.stderr)
                runs[system.name].append(bench.run(system))
    return runs


def _of_rates(inputs: int, runs: dict[str, list[Run]]) -> Iterator[Measure]:
    most = {system.name: system.most for system in SYSTEMS}
    for name, mine in runs.items():
        yield Measure(f"{inputs} inputs, {name}: while working", "inputs/s", [run.rate for run in mine])
        yield Measure(f"{inputs} inputs, {name}: whole", "s", [run.whole_s for run in mine])
        yield Measure(f"{inputs} inputs, {name}: processors", "s", [run.cpu_s for run in mine])
        if name != IDEAL:
            ratios = _ratios(mine, runs[IDEAL])
            target = TO_IDEAL if name == CLAIMWORK and inputs == SIZES[-1] else None
            yield Measure(f"{inputs} inputs, {name}: rate to ideal", "", ratios, least=target)
        if name not in {IDEAL, BARE, CLAIMWORK}:
            largest = max(size for size in SIZES if size <= most[name])
            target = TIMES.get(name) if inputs == largest else None
            yield Measure(
                f"{inputs} inputs, claimwork: rate to {name}", "", _ratios(runs[CLAIMWORK], mine), least=target
            )


def _ratios(runs: list[Run], others: list[Run]) -> list[float]:
    return [one.rate / other.rate for one, other in zip(runs, others, strict=True)]


def _of_calls(root: Path, systems: list[System]) -> Iterator[Measure]:
    few, many = (Bench(_made(root / f"traced-{inputs}"), inputs) for inputs in TRACED)
    for system in systems:
        print(f"scripts/bench: system calls of {system.name}", file=sys.stderr)
        counts = []
        for bench in (few, many):
            with tempfile.TemporaryDirectory(dir=root, prefix="trace-") as trace:
                bench.run(system, Path(trace))
                counts.append(calls(Path(trace)))
        more = {name: (counts[1][name] - counts[0][name]) / (TRACED[1] - TRACED[0]) for name in counts[1]}
        yield Measure(f"system calls per input, {system.name}", "", [sum(more.values())])
        if system.name in {IDEAL, CLAIMWORK}:
            for name, number in sorted(more.items(), key=lambda each: -each[1]):
                if number >= 0.1:
                    yield Measure(f"system calls per input, {system.name}: {name}", "", [number])


def _made(path: Path) -> Path:
    path.mkdir()
    return path
