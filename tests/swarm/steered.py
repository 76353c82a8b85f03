"""The task of the tests, in an image derived from the shipped one. An input says in its first word how many seconds it takes.

Inputs whose names begin with ``held`` last until IN has ``.go``; the reducer waits for ``.go-reduce`` while IN has
``.hold-reduce``. Each execution leaves a file in OUT/.runs, named after it, with the times of its begin and its end.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claimwork import Attempt, Results, task

IN = Path(os.environ["CLAIMWORK_INPUT"])
OUT = Path(os.environ["CLAIMWORK_OUTPUT"])


def _wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(0.05)


def _name(attempt: int, name: str) -> Path:
    node, host = os.environ.get("CLAIMWORK_NODE", "here"), os.uname().nodename
    return OUT / ".runs" / f"{node} {host} {time.monotonic_ns()} {attempt} {name}"


@task
def steered(path: Path, attempt: Attempt) -> int:
    """The size of the input."""
    begun, said = time.time(), _name(attempt.number, path.name)
    said.touch()
    seconds = float(path.read_text().split()[0])
    until = time.monotonic() + seconds
    _wait(lambda: time.monotonic() >= until)
    if path.name.startswith("held"):
        _wait((IN / ".go").exists)
    said.write_text(f"{begun} {time.time()}")
    return path.stat().st_size


@steered.reducer
def summed(results: Results) -> Any:
    """All sizes, so that one that is missing or counted twice is seen."""
    found = sorted((each.input, each.value) for each in results)
    _name(0, "reduce").touch()
    if (IN / ".hold-reduce").exists():
        _wait((IN / ".go-reduce").exists)
    return {"inputs": len(found), "quarantined": results.quarantined, "bytes": sum(size for _, size in found)}
