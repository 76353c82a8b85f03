"""The pulse of a worker: when it last got through to its mount, for a health check of the same container.

It is kept in memory that is a file (memfd_create(2)): a probe never waits for the mount, a container whose root is read-only
can have it, and it goes with its worker. Only Linux has that; elsewhere there is no pulse.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from glob import iglob

from . import policy

_NAME = "claimwork-pulse"
_FORM = struct.Struct("=dd")  # the monotonic time, which all processes of a kernel share, and T


class Pulse:
    """My own pulse: written when I begin, and with each beat that reached the mount."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._fd = os.memfd_create(_NAME) if hasattr(os, "memfd_create") else None

    def beat(self, patience_s: float) -> None:
        """Say that all is well now."""
        if self._fd is not None:
            os.pwrite(self._fd, _FORM.pack(self._monotonic(), patience_s), 0)


def ailment(monotonic: Callable[[], float], processes: str = "/proc") -> str:
    """What is wrong with the workers of this container, in words; empty when one of them is well."""
    silent = [(monotonic() - at, patience_s) for at, patience_s in _pulses(processes)]
    if not silent:
        return "no worker runs here"
    age_s, patience_s = min(silent)
    if age_s <= policy.HEALTHY_WITHIN * patience_s:
        return ""
    return f"the last beat of this worker that reached the mount was {age_s:.0f} s ago"


def _pulses(processes: str) -> Iterator[tuple[float, float]]:
    """The pulses of all processes that this one may look into: those of its user, in its container."""
    for each in iglob(f"{processes}/[0-9]*/fd/*"):
        try:
            if os.readlink(each) != f"/memfd:{_NAME} (deleted)":
                continue
            with open(each, "rb") as file:
                yield _FORM.unpack(file.read(_FORM.size))
        except (OSError, struct.error):
            continue  # it has just ended, or just begun
