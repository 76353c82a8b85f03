"""A small job on the simulator: two workers, three inputs of which one fails once; its schedule follows from a seed.

The shipping worker, child, reaper and finalizer run, as in tests/simulation. Here nothing is drawn at random but the order
of processes: one fault at most strikes, at a chosen mutating call, so that a loop over all calls is exhaustive.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

from claimwork.check import check
from claimwork.coverage import Coverage
from claimwork.plan_log import PlanLog
from claimwork.testing import Died, ManualClock
from tests.simulation.children import LARGE_BYTES, PARTS
from tests.simulation.simulator import (
    RETRANSMITTED,
    Case,
    Host,
    Process,
    Profile,
    Server,
    Violation,
    World,
    check_world,
)

INPUTS = ["ok0", "flaky1", "ok2"]
IN_PARTS = ["ok0", "flaky1"]  # the first of them is large
LIMIT_CALLS = 20_000  # a clean run needs about 500


class SmallJob(World):
    """The job, struck by *fault* at mutating call *at* (from 0). *split*: the first input is processed in parts."""

    def __init__(
        self,
        claims: str,
        seed: int,
        at: int = -1,
        fault: str = "",
        inputs: list[str] = INPUTS,
        *,
        split: bool = False,
    ) -> None:
        super().__init__(Case(seed, claims, 2, 1, list(inputs), [], Profile(grouped=split, split=split)))
        self.at = at
        self.fault = fault
        self.struck = ""  # the call, in words
        self.mutations: list[str] = []
        self.after_end: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.faults_left = 1  # lets draw_fault see every mutating call

    def draw_fault(self, op: str) -> str | None:
        """Count; the fault when this is its call."""
        self.mutations.append(op)
        if len(self.mutations) - 1 != self.at:
            return None
        return self.fault if op == "stage" or not self.fault.startswith("torn") else None

    def strike(
        self, process: Process, fault: str, op: str, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        """Let the fault happen in place of the call. Never returns."""
        self.faults_left = 0
        process.pending = None
        self.struck = f"{op}({', '.join(str(each)[-60:] for each in args)}) by {process.name}"
        match fault.split(" "):
            case ["before"]:
                self._end(process)
            case ["after"]:
                function(*args)
                self._end(process)
            case ["reply", code]:
                function(*args)
                number = RETRANSMITTED.get(op, errno.EIO) if code == "retransmitted" else getattr(errno, code)
                raise OSError(number, os.strerror(number), *args[:1])
            case ["error", code]:
                raise OSError(getattr(errno, code), code, *args[:1])
            case ["torn", percent]:
                self.server.stage(args[0], args[1][: len(args[1]) * int(percent) // 100])
                self._end(process)
            case ["all", "before"]:
                self._end(*self.processes)
            case ["all", "after"]:
                function(*args)
                self._end(*self.processes)
            case ["late", "end"]:
                self.after_end.append((function, args))
                self._end(process)
            case ["late", seconds]:
                self.late.append((self.now + float(seconds), op, function, args))
                self._end(process)
        raise ValueError(fault)

    def _end(self, *processes: Process) -> NoReturn:
        for each in processes:
            self.kill(each)
        raise Died

    def play(self) -> None:
        """Two workers, then a fresh one on a machine of its own, then the invariants. Raises Violation."""
        self.start_worker()
        while not self.run(1) and self.server.inode(self.layout.job) is None:
            pass
        self.start_worker()
        self._let("the workers")
        self.faults_left = 0
        self.recover()
        for function, args in self.after_end:
            try:
                function(*args)
            except OSError:
                pass  # fenced
        if self.after_end:
            self._look()

    def recover(self) -> None:
        """A worker that starts when all others have ended finds the job complete or completes it, and all is well."""
        self.hosts = [Host(self, 9)]
        self.start_worker()
        self._let("the fresh worker")
        if not Coverage(self.server, self.layout, PlanLog(self.server, self.layout)).state().complete:
            raise Violation("the fresh worker left before the job was complete")
        self._look()

    def _let(self, who: str) -> None:
        if not self.run(LIMIT_CALLS):
            raise Violation(f"{who} went on for ever")

    def _look(self) -> None:
        check_world(self)
        missing = {f"{name}.json" for name in self.inputs if name.startswith("ok")} - set(
            self.server.names(self.layout.results)
        )
        if missing:
            raise Violation(f"one fault was charged to {missing}")
        report = check(self.server, self.layout, clock=ManualClock())
        if not (report.clean and report.complete):
            raise Violation(f"claimwork check: {[(each.code, each.path, each.what) for each in report.findings]}")
        if report.findings:  # who creates a job has no record yet: what it had staged when it died stays until a repair
            check(self.server, self.layout, clock=ManualClock(), repair=True)
            left = check(self.server, self.layout, clock=ManualClock()).findings
            if left:
                raise Violation(f"claimwork check --repair left {left}")

    def close(self) -> None:
        """Let no greenlet run on."""
        for process in self.processes:
            process.dead = True


@cache
def clean_run(claims: str, *, split: bool = False) -> tuple[int, list[str]]:
    """The first seed whose undisturbed run has two workers at work and one failed attempt; its mutating calls."""
    for seed in range(200):
        world = SmallJob(claims, seed, inputs=IN_PARTS if split else INPUTS, split=split)
        world.play()
        failed = sum(tally.failed for tally in world.tallies)
        if failed == 1 and min(tally.done_bytes for tally in world.tallies[:2]) >= (
            LARGE_BYTES // PARTS if split else 1
        ):
            return seed, world.mutations
    raise AssertionError("no seed makes such a run")


__all__ = ["INPUTS", "IN_PARTS", "Server", "SmallJob", "clean_run"]
