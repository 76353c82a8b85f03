"""``dirq_queue.py fill|work IN``: the directory queue of dirq, one element for each input."""

from __future__ import annotations

import os
import sys

import noop
from dirq.QueueSimple import QueueSimple

if __name__ == "__main__":
    what, inputs = sys.argv[1:3]
    queue = QueueSimple("queue")
    if what == "fill":
        for each in sorted(os.listdir(inputs)):
            queue.add(f"{inputs}/{each}")
    else:
        name = queue.first()
        while name:
            if queue.lock(name):
                noop.keep(queue.get(name).decode())
                queue.remove(name)
            name = queue.next()
