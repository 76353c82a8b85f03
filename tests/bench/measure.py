"""What a suite hands back, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol


@dataclass(frozen=True)
class Options:
    """What every suite is told. ``directory``: where its jobs are made, which chooses the filesystem.

    ``workers``, ``inputs`` and ``input_s`` are for a suite that simulates: the one size to take, and seconds of an input.
    ``flavour`` is for one on NFS: how its share is mounted.
    """

    repeats: int
    directory: Path
    workers: int | None = None
    inputs: int | None = None
    input_s: float = 1.0
    flavour: str = "v4.2"


@dataclass(frozen=True)
class Measure:
    """One quantity, measured several times. ``limit`` and ``least``: what its median may be at most and must be at
    least, where there is a target.
    """

    name: str
    unit: str
    values: list[float]
    limit: float | None = None
    least: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.limit is None and self.least is None:
            return None
        found = median(self.values)
        return (self.limit is None or found <= self.limit) and (self.least is None or found >= self.least)

    @property
    def target(self) -> str:
        """The target in signs; empty without one."""
        bounds = [("≥", self.least), ("≤", self.limit)]
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": median(self.values),
            "min": min(self.values),
            "max": max(self.values),
            "limit": self.limit,
            "least": self.least,
            "met": self.is_met,
            "values": self.values,
        }


class Suite(Protocol):
    """A module of this directory: its docstring says what is measured, `measure` does it."""

    __doc__: str | None

    def measure(self, options: Options) -> list[Measure]:
        """Measure everything, each quantity as often as the options say."""


def table(measures: list[Measure]) -> str:
    """A Markdown table, a row for each measure."""
    rows = [("measure", "unit", "runs", "median", "min", "max", "target"), ("---",) * 7]
    for each in measures:
        target = "" if each.is_met is None else f"{each.target}: {'met' if each.is_met else 'MISSED'}"
        numbers = [f"{value:.3g}" for value in (median(each.values), min(each.values), max(each.values))]
        rows.append((each.name, each.unit, str(len(each.values)), numbers[0], numbers[1], numbers[2], target))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
