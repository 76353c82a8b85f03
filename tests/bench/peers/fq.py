"""``fq.py fill|work IN``: python-task-queue with its queue in files."""

from __future__ import annotations

import os
import sys
from functools import partial

import noop
from taskqueue import TaskQueue, queueable

keep = queueable(noop.keep)
_executed = [-1]


def nothing_left(executed: int) -> bool:
    """Whether the last look found nothing to lease; `TaskQueue.poll` itself would wait for more."""
    found_none = executed == _executed[0]
    _executed[0] = executed
    return found_none


if __name__ == "__main__":
    what, inputs = sys.argv[1:3]
    queue = TaskQueue(f"fq://{os.getcwd()}/queue", progress=False)
    if what == "fill":
        queue.insert([partial(keep, f"{inputs}/{name}") for name in sorted(os.listdir(inputs))])
    else:
        queue.poll(lease_seconds=600, stop_fn=nothing_left)
