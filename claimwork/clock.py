"""Time and waiting, passed in everywhere: no other module of the core reads a clock or sleeps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the protocol may know of time."""

    def monotonic(self) -> float:
        """Seconds on this process's own monotonic clock; only differences mean anything."""

    def time(self) -> float:
        """Wall-clock seconds since the epoch: for people, never for a decision."""

    def sleep(self, seconds: float) -> None:
        """Wait; may return early when a signal arrives."""


class SystemClock:
    """The real one."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
