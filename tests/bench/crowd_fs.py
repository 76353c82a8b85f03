"""What one simulated process sees of a server, and what it asks of it in round trips."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

from claimwork.listing import TICK_S
from claimwork.testing import HookedFs
from tests.simulation.nfs import changes_of

if TYPE_CHECKING:
    from tests.bench.crowd_world import Process

OUT = "/out"
ROUND_TRIP_S = 0.0005  # a server in the same building
NAMES_IN_REPLY = 128  # of 32 KiB, with attributes: what a client asks for at once
# What calls cost on a real mount, by the client's own counters (docs/protocol.md).
TRIPS = {
    "names": 1,  # and one or more for the names, unless they are known
    "read": 3,
    "digest": 3,
    "seal": 4,
    "inode": 1,
    "mkdir": 1,
    "stage": 3,
    "flush": 0,
    "link": 1,
    "rename": 1,
    "unlink": 1,
    "rmdir": 1,
    "open_beat": 3,
    "write_beat": 1,
    "try_lock": 2,  # an OPEN that another process of this host has, and no LOCK: reckoned, not measured
}
_RENEWS = frozenset(["link", "rename", "unlink", "rmdir", "mkdir", "stage", "open_beat"])  # change times of directories
_OWN = ("stage", "results")  # whose names nobody else uses in a job without losses


class CountingFs(HookedFs):
    """What one process sees of the server."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.world.server)
        self._process = process
        self._world = process.world
        self._listed: OrderedDict[str, tuple[float, float, bool]] = OrderedDict()  # change time, since when, certain

    def _call(self, op: str, function: Callable[..., Any], *args: Any) -> Any:
        process, world = self._process, self._world
        path = args[0] if op not in ("write_beat", "flush") else f"{OUT}/.claimwork/live/"
        area = area_of(path)
        trips = TRIPS[op]
        process.ahead_s += trips * ROUND_TRIP_S
        if not (area in _OWN and (op in ("stage", "unlink") or (op == "link" and area == "results"))):
            process.sleep(0.0)
        world.trips[process.role, area, op] += trips
        try:
            result = function(*args)
        except OSError:
            if op == "rename" and area == "ready":
                world.lost_races += 1
            raise
        if op in _RENEWS:
            for directory, _ in changes_of(op, args, 0.0):
                world.changed[directory] = process.monotonic()
            world.claims += op == "rename" and area == "ready"
        elif op == "names":
            world.listings.setdefault(area, Counter())[len(result)] += 1
            if not self._is_unchanged(path):
                more = max(1, ceil(len(result) / NAMES_IN_REPLY))
                world.trips[process.role, area, op] += more
                process.ahead_s += more * ROUND_TRIP_S
        return result

    def _is_unchanged(self, path: str) -> bool:
        """Whether the directory is certain to be as it was at an earlier listing (`claimwork.listing`)."""
        now, changed = self._process.monotonic(), self._world.changed.get(path, -1.0)
        seen = self._listed.pop(path, None)
        if seen is None or seen[0] != changed:
            seen = (changed, now, False)
        self._listed[path] = (changed, seen[1], now - seen[1] > TICK_S)
        if len(self._listed) > 4096:
            self._listed.popitem(last=False)
        return seen[2]


def area_of(path: str) -> str:
    """What a path belongs to: results, or a directory of claimwork's own."""
    parts = path.split("/", 4)
    return parts[3] if parts[2] == ".claimwork" and len(parts) > 3 else parts[2]
