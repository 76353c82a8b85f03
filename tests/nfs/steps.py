"""A worker that takes one step and then dies: ``steps.py OUT STEP``, for tests of exact moments.

It joins the job of OUT as workers do, with a beat that then stands still, claims a ticket, and stops just before the call by
which the step happens. There it says ``ready <its id> <name of the ticket>`` and waits for SIGUSR1. What it asks the server
next about the names in that call, is that call. At the end it says what came of the step.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from random import Random
from typing import Any

from claimwork import records
from claimwork.claims import Claims
from claimwork.compose import Mount, identity
from claimwork.fs import PosixFs
from claimwork.heartbeat import Heartbeat
from claimwork.names import Kind, Ticket, plan_ticket
from claimwork.plan_log import PlanLog
from claimwork.results import Places, Stage, publish
from claimwork.retrying import RetryingFs
from claimwork.stores import make_store
from claimwork.testing import HookedFs

COMMITS = {
    ("claim", "rename"): ("rename", "/work/"),
    ("claim", "marker"): ("link", "/locks/"),
    ("release", "rename"): ("rename", "/ready/"),
    ("release", "marker"): ("link", "/locks/"),
    ("offer", "rename"): ("rename", "/ready/"),
    ("offer", "marker"): ("link", "/ready/"),
    ("publish", "rename"): ("link", "/results/"),
    ("publish", "marker"): ("link", "/results/"),
}
"""Which call a step happens by, for both ways to claim, and a part of its target."""


class Halting(HookedFs):
    """Stops before one call, as the module tells; *words* are said with ``ready``."""

    at: tuple[str, str] | None = None
    words = ""

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Stop at the first call of this kind."""
        if self.at is None or op != self.at[0] or self.at[1] not in args[1]:
            return
        self.at = None
        assert os.access(args[0], os.W_OK)  # now its name is known here
        print("ready", self.words, flush=True)
        signal.sigwait([signal.SIGUSR1])


def main(out: str, step: str) -> str:
    """Join, wait, take the step; what came of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    mount, me = Mount(out), identity()
    halting = Halting(PosixFs(out))
    fs, layout = RetryingFs(halting, mount.clock), mount.layout
    job = mount.job()
    assert job is not None
    for directory in (layout.stage_of(me.worker), layout.work_of(me.worker)):
        fs.mkdir(directory)
    stage = Stage(fs, layout, me.worker, "w")
    store = make_store(job, fs, layout, me.worker, stage)
    claims = Claims(fs, layout, store, mount.clock, Random(me.worker))
    Heartbeat(fs, layout, mount.clock, job.patience_s, jitter=0.5).start(me)

    def claim() -> Ticket:
        ticket = claims.next(lambda each: each.kind is Kind.MAP)
        assert ticket is not None
        return ticket

    held = claim()
    for directory in (f"{layout.ready}/plan", f"{layout.locks}/plan"):
        fs.mkdir(directory)
    halting.words = f"{me.worker} {held.name}"
    halting.at = COMMITS[step, job.claims]
    if step == "claim":
        return claim().name
    if step == "offer":
        store.offer(plan_ticket(secrets.token_hex(8)))
        return "done"
    if step == "release":
        claims.release(held, held.successor())
        return "done"
    each = PlanLog(fs, layout).segment(held.segment).inputs[held.lo]
    result = Places.of(layout, job, held.segment, held.lo, each).result
    return str(publish(fs, stage.put(records.dumps(each.size_bytes) + b"\n"), result, layout.out))


if __name__ == "__main__":
    print(main(os.path.abspath(sys.argv[1]), sys.argv[2]), flush=True)
