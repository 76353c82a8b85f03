"""``rq_queue.py fill|work IN``: RQ over Redis, without a fork for each input."""

from __future__ import annotations

import os
import sys

import noop
from redis import Redis
from rq import Queue
from rq.worker import SimpleWorker

if __name__ == "__main__":
    what, inputs = sys.argv[1:3]
    connection = Redis(unix_socket_path=os.environ["BENCH_SOCKET"])
    queue = Queue(connection=connection)
    if what == "fill":
        queue.enqueue_many(
            [Queue.prepare_data(noop.keep, args=(f"{inputs}/{each}",)) for each in sorted(os.listdir(inputs))]
        )
    else:
        SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
