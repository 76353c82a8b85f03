"""What the suite `round_trips` does inside a machine of the lab: tasks, and ``in_guest.py make|bare|trips …``."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from claimwork import Result, task

HERE = Path(__file__).parent
LOG = Path("/run") / HERE.name  # of this machine, not of the share
INPUT_BYTES = 1024
_reading: list[bool] = []


def trips(path: str) -> dict[str, int]:
    """How often each operation was asked of the server of an NFS mount so far, by proc_pid_mountstats(5)."""
    found: dict[str, int] = {}
    here = False
    for line in Path("/proc/self/mountstats").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if line.startswith("device "):
            here = words[4] == path
        elif here and len(words) > 8 and words[0].rstrip(":").isupper() and words[1] != "0":
            found[words[0].rstrip(":")] = int(words[1])
    return found


def _mount_of(path: Path) -> str:
    return str(next(each for each in (path, *path.parents) if os.path.ismount(each)))


def _note() -> None:
    with LOG.open("a", encoding="utf-8") as log:
        log.write(json.dumps({"at": time.monotonic(), "trips": trips(_mount_of(HERE))}) + "\n")


@task
def read_whole(path: Path) -> int:
    """Nothing but reading."""
    if not _reading and not LOG.exists():
        _note()
    _reading.append(True)
    return len(path.read_bytes())


@read_whole.reducer
def _(results: Iterable[Result]) -> int:
    _note()
    return sum(1 for _ in results)


@task
def wait(path: Path) -> int:
    """As long as nobody says that it may end."""
    (HERE / "runs" / socket.gethostname()).touch()
    while not LOG.exists():
        time.sleep(0.1)
    return 0


def make(inputs: int) -> None:
    """Inputs for one job."""
    for number in range(inputs):
        (HERE / "in" / f"{number:06d}").write_bytes(bytes(INPUT_BYTES))


def bare() -> float:
    """Seconds for one process that does by hand what a worker does for each input, and nothing else."""
    names = sorted(os.listdir(HERE / "in"))
    for directory in ("stage", "results"):
        os.mkdir(HERE / directory)
    began = time.monotonic()
    for name in names:
        data = (HERE / "in" / name).read_bytes()
        staged, result = f"{HERE}/stage/{name}", f"{HERE}/results/{name}"
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(fd, str(len(data)).encode())
        os.fsync(fd)
        os.close(fd)
        os.link(staged, result)
        os.unlink(staged)
    return time.monotonic() - began


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", number]:
            make(int(number))
        case ["bare"]:
            print(bare())
        case ["trips", mounted]:
            print(json.dumps(trips(mounted)))
