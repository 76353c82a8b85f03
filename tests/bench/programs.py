"""Programs that suites run, and what one run of one took: seconds and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import needs

CLAIMWORK = (sys.executable, "-m", "claimwork")


@dataclass(frozen=True)
class Took:
    """Wall clock, processors with those of its children, and the most memory that it or one of them had resident."""

    seconds: float
    cpu_s: float
    peak_mb: float


def environment(*paths: Path) -> dict[str, str]:
    """This process's, without what would steer claimwork; *paths* are where Python looks first."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLAIMWORK_", "PYTHON"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(map(str, [*paths, needs.ROOT]))}


# In a small process of its own: a child has in its account what its parent had in memory when it was forked.
_WATCH = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
seconds = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
scale = 1024 if sys.platform == "linux" else 1 << 20
print(json.dumps([done.returncode, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / scale]))
"""


def run(argv: Sequence[str], cwd: Path, *paths: Path) -> Took:
    """Run to the end. Raises CalledProcessError when the exit code is not 0."""
    watch = [sys.executable, "-I", "-S", "-c", _WATCH, *argv]
    done = subprocess.run(watch, cwd=cwd, env=environment(*paths), capture_output=True, check=True)
    code, *took = json.loads(done.stdout)
    if code:
        raise subprocess.CalledProcessError(code, list(argv), stderr=done.stderr)
    return Took(*took)


def resident_mb(pid: int) -> float:
    """What a process has resident now, pages shared with others counted in part (smaps_rollup, Linux only)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no memory of process {pid}")
