"""A Celery application over Redis; as a program, ``celery_queue.py fill IN`` hands over a message for each input."""

from __future__ import annotations

import os
import sys

import noop
from celery import Celery

app = Celery(broker=f"redis+socket://{os.environ['BENCH_SOCKET']}")
app.conf.task_ignore_result = True
keep = app.task(noop.keep, name="keep")

if __name__ == "__main__":
    inputs = sys.argv[2]
    with app.producer_pool.acquire(block=True) as producer:
        for each in sorted(os.listdir(inputs)):
            keep.apply_async((f"{inputs}/{each}",), producer=producer)
