"""Deliberate bugs that only a power loss shows: each must be caught by the sweep over all calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claimwork import aftermath, child, plan_log, results
from tests.crash.test_power import ORDERED, sweep

Patch = pytest.MonkeyPatch


class Unflushed:
    """A filesystem whose flush does nothing."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    def flush(self, _paths: Any) -> None:
        """Nothing is made to survive."""


def results_not_flushed(patch: Patch) -> None:
    """A result gets its public name before its bytes are on the disk."""
    real = child.Mapper._publish

    def publish(self: Any, *args: Any) -> None:
        fs, self._fs = self._fs, Unflushed(self._fs)
        try:
            real(self, *args)
        finally:
            self._fs = fs

    patch.setattr(child.Mapper, "_publish", publish)


def done_not_flushed(patch: Patch) -> None:
    """Inputs are reported done before the names of their results are on the disk."""
    real = results.write_done

    def write_done(fs: Any, *args: Any) -> None:
        real(Unflushed(fs), *args)

    for module in (child, aftermath):
        patch.setattr(module, "write_done", write_done)


def plan_not_flushed(patch: Patch) -> None:
    """An entry of the plan is linked before it is on the disk, and its name is not made to stay."""
    real = plan_log.PlanLog.append

    def append(self: Any, number: int, entry: Any, stage: Any) -> bool:
        fs, staged = self._fs, stage._fs
        self._fs, stage._fs = Unflushed(fs), Unflushed(staged)
        try:
            return real(self, number, entry, stage)
        finally:
            self._fs, stage._fs = fs, staged

    patch.setattr(plan_log.PlanLog, "append", append)


def reports_not_flushed(patch: Patch) -> None:
    """A quarantine report or a summary is linked before it is on the disk."""
    patch.setattr(results.Stage, "flush", lambda _self, _path: None)


@pytest.mark.parametrize(
    "mutant",
    [results_not_flushed, done_not_flushed, plan_not_flushed, reports_not_flushed],
    ids=lambda mutant: mutant.__name__,
)
def test_the_power_sweep_catches_a_missing_flush(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """With one flush left out, some power loss loses or tears what was reported."""
    mutant(monkeypatch)

    assert sweep("rename", ORDERED, syncfs=False, repair=False)
