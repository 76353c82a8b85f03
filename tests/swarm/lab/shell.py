"""Programs that the lab runs, and processes that it waits for."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

LIMIT_S = 90.0
"""Nothing here takes a tenth of it, but the machine may be busy."""
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class LabError(Exception):
    """The lab cannot do what was asked; str() is one line, and what programs said."""


def environment(**more: str) -> dict[str, str]:
    """What programs are run with: nothing leads a docker client to a daemon of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "CLAIMWORK_"))}
    return {**kept, "PATH": PATH, **more}


def call(
    *argv: str | Path, env: Mapping[str, str] | None = None, limit_s: float = LIMIT_S
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is."""
    try:
        return subprocess.run(
            [str(each) for each in argv],
            env=environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(map(str, argv))!r} goes on after {limit_s:g} s") from None


def run(*argv: str | Path, env: Mapping[str, str] | None = None, limit_s: float = LIMIT_S) -> str:
    """Run a program that must succeed; what it said."""
    done = call(*argv, env=env, limit_s=limit_s)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-4000:]
        raise LabError(f"{' '.join(map(str, argv))!r} ended with {done.returncode}: {said}")
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition. Raises LabError when it does not come in time."""
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            raise LabError(f"in vain for {limit_s:g} s: {what}")
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found: list[int] = []
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, each.read_text().split())
        except OSError:
            continue
    return found
