"""Races for tickets with the claim store that ships: ``racer.py OUT STORE prepare COUNT``, then several ``… race``.

A racer says ``ready`` and waits for SIGUSR1. Then it tries to claim every ticket, all racers in one order, and prints as
JSON which it was given, by the answers and by what it holds in the end.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys

from claimwork.clock import SystemClock
from claimwork.compose import Mount
from claimwork.job import os_makedirs
from claimwork.names import map_ticket
from claimwork.records import Job
from claimwork.results import Stage
from claimwork.stores import make_store


def main(out: str, claims: str, act: str, count: int) -> None:
    """Prepare, or race."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    mount, me = Mount(out), secrets.token_hex(16)
    fs, layout = mount.fs, mount.layout
    if act == "prepare":
        fs.mkdir(out)
        os_makedirs(fs, layout)
    stage = Stage(fs, layout, me, "w")
    for directory in (stage.directory, layout.work_of(me)):
        fs.mkdir(directory)
    store = make_store(Job("0" * 32, "wordcount", claims=claims), fs, layout, me, stage)
    if act == "prepare":
        for number in range(count):
            store.offer(map_ticket(0, 0, 0, number, number + 1, 1))
        return
    tickets = sorted(store.waiting(f"{0:06d}"), key=lambda each: each.lo)
    print("ready", flush=True)
    signal.sigwait([signal.SIGUSR1])
    started = SystemClock().monotonic()
    told = [ticket.lo for ticket in tickets if store.claim(ticket)]
    took_s = SystemClock().monotonic() - started
    print(json.dumps({"tried": len(tickets), "told": told, "held": [each.lo for each in store.held()], "s": took_s}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int((sys.argv[4:] or ["0"])[0]))
