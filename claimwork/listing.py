"""Lists directories of a network mount so that no cache hides a name for longer than the server's clock takes to tick.

An NFS client keeps a listing for as long as the directory's change time is the same. Servers count that time in ticks (10 ms,
on old filesystems seconds), so a name that is made in the very tick of a listing would stay hidden for ever: opening the
directory afresh does not help. Here a listing is trusted only when it was made well after the change time that it shows; until
then the client is told to forget it. An unchanged directory so costs one round trip a look, and one more once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from .clock import Clock

TICK_S = 3.0  # longer than any server's tick: ext3 and HFS+ count whole seconds, FAT two
_REMEMBERED = 4096  # directories; what was forgotten costs one round trip more


@dataclass(slots=True)
class _Seen:
    changed_ns: int
    since: float
    is_certain: bool = False


class FreshListing:
    """One process's memory of the directories that it has listed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[bytes, _Seen] = {}

    def names(self, path: bytes) -> list[bytes]:
        """Names in a directory, opened afresh."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not self._is_certain(path, os.fstat(fd).st_ctime_ns):
                _forget_cached(fd)
            return [os.fsencode(name) for name in os.listdir(fd)]
        finally:
            os.close(fd)

    def _is_certain(self, path: bytes, changed_ns: int) -> bool:
        """Whether what is cached of a directory that shows this change time can be nothing but all there is."""
        now = self._clock.monotonic()
        seen = self._seen.get(path)
        if seen is None or seen.changed_ns != changed_ns:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[path] = _Seen(changed_ns, now)
            return False
        was_certain, seen.is_certain = seen.is_certain, now - seen.since > TICK_S
        return was_certain


def _forget_cached(fd: int) -> None:
    if hasattr(os, "posix_fadvise"):  # macOS has none
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass  # a mount that caches no pages, or none that can be dropped
