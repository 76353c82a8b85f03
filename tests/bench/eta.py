"""Eta: the time left that `status` tells, to the time that it then took, at each tenth of the bytes.

Uneven inputs as in the suite skew, the task sleeps in proportion to size and up to a third more or less. Three jobs of four workers:
one without events, one in which a worker is killed and two come before a quarter of the bytes, one in which that happens later,
when nobody could have told. Patience is a fifteenth of the usual, so a minute here stands for a quarter of an hour.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.bench.measure import Measure, Options
from tests.bench.programs import CLAIMWORK, environment, run
from tests.bench.skew import uneven_sizes

WORKERS = 4
MORE = 2  # that come later
FAIR_S = 60.0  # what four workers take at least
PATIENCE_S = 5.0
LOOK_EVERY_S = 0.5
TENTHS = range(1, 10)
FROM_TENTH = 3  # from where on it is to be right
OFF = 0.25  # by how much it may be wrong: the project's target
MOST_REPEATS = 3
# At which share of the bytes a worker is killed, and others come.
SCENARIOS = {"no events": (2.0, 2.0), "events early": (0.1, 0.2), "events late": (0.5, 0.6)}

TASK = """
import random, time
from pathlib import Path

S_PER_BYTE = float((Path(__file__).parent / "pace").read_text())

def sleep(path):
    time.sleep(path.stat().st_size * S_PER_BYTE * random.uniform(0.67, 1.33))
    return 0
"""


@dataclass
class Seen:
    """What one look told. ``at`` is on this process's monotonic clock."""

    at: float
    share: float  # of all bytes, settled
    low_s: float | None
    high_s: float | None


@dataclass
class Told:
    """Ratios of what was told to what came, at one tenth of the bytes."""

    low: list[float] = field(default_factory=list)
    middle: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


def measure(options: Options) -> list[Measure]:
    """The scenarios in turn, other inputs each time."""
    found = {(name, tenth): Told() for name in SCENARIOS for tenth in TENTHS}
    for turn in range(min(options.repeats, MOST_REPEATS)):
        for name, (kill_at, more_at) in SCENARIOS.items():
            with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
                looks, ended_at = _Job(Path(root), uneven_sizes(Random(turn)), kill_at, more_at).run()
            for tenth in TENTHS:
                _note(found[name, tenth], looks, ended_at, tenth / 10)
    return [
        Measure(f"{name}, at {10 * tenth} % of the bytes: {what} to the truth", "", values, *_target(name, tenth, what))
        for (name, tenth), told in found.items()
        for what, values in vars(told).items()
        if values
    ]


def _target(name: str, tenth: int, what: str) -> tuple[float | None, float | None]:
    foreseeable = tenth >= FROM_TENTH and tenth / 10 > max(each for each in (0.0, *SCENARIOS[name]) if each <= 1)
    return (1 + OFF, 1 - OFF) if what == "middle" and foreseeable else (None, None)


def _note(told: Told, looks: list[Seen], ended_at: float, share: float) -> None:
    """The first look at which so much was settled; nothing when it told no time."""
    look = next((each for each in looks if each.share >= share), None)
    if look is None or look.low_s is None or look.high_s is None:
        return
    truth_s = ended_at - look.at
    told.low.append(look.low_s / truth_s)
    told.middle.append((look.low_s * look.high_s) ** 0.5 / truth_s)
    told.high.append(look.high_s / truth_s)


class _Job:
    def __init__(self, home: Path, sizes: dict[str, int], kill_at: float, more_at: float) -> None:
        self._home = home
        self._kill_at = kill_at
        self._more_at = more_at
        self._workers: list[subprocess.Popen[bytes]] = []
        (home / "tasks.py").write_text(TASK)
        (home / "pace").write_text(repr(FAIR_S * WORKERS / sum(sizes.values())))
        (home / "in").mkdir()
        for name, size in sizes.items():
            with (home / "in" / name).open("wb") as file:
                file.truncate(size)
        plan = ("plan", "in", "out", "--task", "tasks:sleep", "--patience", str(PATIENCE_S), "--quiet")
        run((*CLAIMWORK, *plan), home, home)

    def run(self) -> tuple[list[Seen], float]:
        """Looks until all is settled, and when that was."""
        for _ in range(WORKERS):
            self._start()
        looks: list[Seen] = []
        killed = more = False
        try:
            while not looks or looks[-1].share < 1:
                time.sleep(LOOK_EVERY_S)
                looks.append(self._look())
                if not killed and looks[-1].share >= self._kill_at:
                    killed = True
                    self._workers[0].kill()
                if not more and looks[-1].share >= self._more_at:
                    more = True
                    for _ in range(MORE):
                        self._start()
            return looks, looks[-1].at
        finally:
            for each in self._workers:
                each.terminate()
                each.wait()

    def _start(self) -> None:
        argv = [*CLAIMWORK, "worker", "in", "out", "--slots", "1", "--quiet"]
        self._workers.append(
            subprocess.Popen(
                argv, cwd=self._home, env=environment(self._home), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        )

    def _look(self) -> Seen:
        at = time.monotonic()
        argv = [*CLAIMWORK, "status", "out", "--json"]
        told = subprocess.run(argv, cwd=self._home, env=environment(self._home), stdout=subprocess.PIPE, check=False)
        document: dict[str, Any] = json.loads(told.stdout)
        eta = document["eta"] or {}
        share = document["done_bytes"] / max(document["total_bytes"], 1)
        return Seen(at, share, eta.get("low_s"), eta.get("high_s"))
