"""``plain.py ideal|bare IN SLOTS``: what a system is compared with, a perfect split between processes.

ideal: one result file for each input, no coordination at all.
bare: the calls that claiming by rename cannot do without, one after the other, and nothing else.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import Process

import noop


def ideal(paths: list[str]) -> None:
    """Each input, one result."""
    for path in paths:
        noop.keep(path)


def bare(paths: list[str]) -> None:
    """For each input: claim, read, write aside, publish."""
    noop.read(paths[0])  # notes the beginning
    for path in paths:
        name = os.path.basename(path)
        os.rename(f"ready/{name}", f"work/{name}")
        source = os.open(path, os.O_RDONLY)
        data = os.read(source, 1 << 16)
        os.close(source)
        staged, result = f"stage/{name}", f"results/{name}"
        target = os.open(staged, os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(target, b"%d\n" % len(data))
        os.close(target)
        os.rename(staged, result)


def fill(directory: str) -> None:
    """A ticket for each input, for `bare`."""
    for name in os.listdir(directory):
        os.close(os.open(f"ready/{name}", os.O_WRONLY | os.O_CREAT, 0o666))


if __name__ == "__main__":
    what, inputs, slots = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "fill":
        fill(inputs)
        sys.exit()
    split = sorted(f"{inputs}/{each}" for each in os.listdir(inputs))
    processes = [
        Process(target={"ideal": ideal, "bare": bare}[what], args=(split[nth::slots],)) for nth in range(slots)
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
