"""A sweep of real processes on a disk that loses its power: ext4 in a file, shut down by the kernel at a chosen moment.

The ioctl EXT4_IOC_SHUTDOWN (``fs/ext4/ioctl.c``; xfstests calls it for the same purpose) ends all writing at once, and what was
not on the disk then is found missing when it is mounted again and its journal replayed:

- ``POWER``: the journal is not written out either. Names that no fsync took along are gone, and so are contents.
- ``POWER LOG``: the journal is written out. All names are there, and contents that were not flushed are not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from claimwork.fs import PosixFs
from claimwork.layout import Layout
from tests.crash.reported import what_is_amiss
from tests.crash.sweep import LIMIT_S, Point, Sweep, Zygote

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_FLAGS = {"POWER": 2, "POWER LOG": 1}  # EXT4_GOING_FLAGS_NOLOGFLUSH, EXT4_GOING_FLAGS_LOGFLUSH
_IMAGE_BYTES = 24 << 20
AT_THE_END = "its end"


def why_not() -> str:
    """Why there can be no such disk on this machine; empty when there can."""
    if os.geteuid() != 0:
        return "only root can mount a disk"
    for program in ("mkfs.ext4", "mount", "losetup"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    return "" if found.returncode == 0 else f"no loop devices: {found.stderr.strip()}"


class PoweredSweep(Sweep):
    """`Sweep` with OUT on a disk of its own. `close` takes it away."""

    more_options = (
        "--patience",
        "4",
    )  # beats are not flushed: after the cut nobody can tell at once that they are the dead's

    def __init__(self, zygote: Zygote, root: Path, command: str, claims: str) -> None:
        self._mount_point = root / "disk"
        self._image, self._as_found = root / "disk.img", root / "as-found.img"
        self._fault = ""
        self._mount_point.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self._mount()
        super().__init__(zygote, root, command, claims)
        super()._reset()
        self._unmount()
        shutil.copyfile(self._image, self._as_found)

    def place_out(self) -> Path:
        return self._mount_point / "out"

    def close(self) -> None:
        """Leave nothing mounted."""
        self._unmount()

    def strike(self, point: Point) -> None:
        self._fault = point.fault
        if point.call != AT_THE_END:
            super().strike(point)
            return
        self._reset()
        try:
            self._succeed(*self._args)
            self._cut_power()
            self._look_at_what_is_left()
            self._has_all_that_was_reported()
            self._recover()
        except (AssertionError, OSError) as error:
            self.tally.violations.append(f"{self.command}: {point}: {error}")
        self.tally.tried += 1
        self.tally.struck[point.fault] += 1

    def _has_all_that_was_reported(self) -> None:
        """A command that ended with 0 has told what is there now."""
        layout = Layout(str(self.out))
        if self.command == "plan":
            assert PosixFs(str(self.out)).names(layout.plan), "inputs were reported as planned, and there is no plan"
        else:
            published = self._published()
            assert published == self.published, f"published is {published} instead of {self.published}"

    def _reset(self) -> None:
        self._unmount()
        shutil.copyfile(self._as_found, self._image)
        self._mount()

    def _cut_power(self) -> None:
        disk = os.open(self._mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(disk, _SHUTDOWN, struct.pack("I", _FLAGS[self._fault]))
        finally:
            os.close(disk)

    def _look_at_what_is_left(self) -> None:
        self._unmount()
        self._mount()
        amiss = what_is_amiss(PosixFs(str(self.out)), Layout(str(self.out))) if self.out.exists() else []
        assert not amiss, f"the power is back, and {amiss}"

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self._mount_point))

    def _unmount(self) -> None:
        """Take the disk away, as soon as all who had files open there are dead."""
        limit = time.monotonic() + LIMIT_S
        while os.path.ismount(self._mount_point):
            with suppress(subprocess.CalledProcessError):
                _run("umount", str(self._mount_point))
                continue
            assert time.monotonic() < limit, f"{self._mount_point} stays mounted"
            time.sleep(0.02)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
