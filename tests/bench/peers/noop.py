"""The task of the suite `coordination`, for every system the same: read one input. Imports nothing but Python's own.

The working directory is that of the run. The first call of a process notes when it was, which is where a run begins.
"""

from __future__ import annotations

import os
import time

_begun: list[float] = []


def read(path: str | os.PathLike[str]) -> int:
    """The size of one input."""
    if not _begun:
        _begun.append(time.time())
        with open(f"begun/{os.getpid()}", "w", encoding="ascii") as file:
            file.write(repr(_begun[0]))
    with open(path, "rb") as file:
        return len(file.read())


def keep(path: str) -> None:
    """The same for systems that keep no results: one result file, written aside and renamed."""
    value = read(path)
    name = os.path.basename(path)
    with open(f"stage/{name}", "w", encoding="ascii") as file:
        file.write(f"{value}\n")
    os.rename(f"stage/{name}", f"results/{name}")
