"""How a worker begins: its directories are its fence, so no request that made them may still be under way."""

from __future__ import annotations

import errno
from random import Random
from typing import Never

import pytest

from claimwork.layout import Layout
from claimwork.records import BeatRecord, Job
from claimwork.retrying import WAITS_S, RetryingFs
from claimwork.testing import FaultyFs, ManualClock, MemoryServer
from claimwork.worker import Context, Setup, Stop, _settle_in

FIRST = "a" * 32


def context_on(fs: FaultyFs) -> Context:
    """What a worker begins with."""
    layout, clock = Layout("/out"), ManualClock()
    for directory in ["/out", *layout.directories()]:
        fs.inner.mkdir(directory)
    job = Job("job", "wordcount")

    def no_children(_worker: str) -> Never:
        raise AssertionError("nothing is run here")

    identity = BeatRecord(FIRST, 0)
    return Context(
        RetryingFs(fs, clock),
        layout,
        job,
        clock,
        Random(0),
        identity,
        no_children,
        Setup(),
        Stop(),
    )


@pytest.mark.parametrize("at", [0, 1])
def test_a_request_that_may_come_late_costs_an_id(at: int) -> None:
    """It was given up with an error. Executed long after, it would open a directory that peers removed as a fence."""
    fs = FaultyFs(MemoryServer(), at, OSError(errno.ETIMEDOUT, "no answer"), executed=False)
    context = context_on(fs)
    _settle_in(context)

    me = context.identity.worker
    assert me != FIRST
    assert me in fs.names(context.layout.stage)
    assert fs.names(context.layout.work) == [me]


def test_a_mount_that_never_answers_is_a_fault() -> None:
    """After a few seconds, as with any other call; an error that is none of a passing cause at once."""
    for code, waited_s in ((errno.EIO, sum(WAITS_S)), (errno.EACCES, 0.0)):
        fs = FaultyFs(MemoryServer())
        context = context_on(fs)
        started = context.clock.monotonic()

        def fail(op: str, args: tuple[object, ...], code: int = code) -> None:
            raise OSError(code, "no")

        fs.before = fail  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no"):
            _settle_in(context)
        assert context.clock.monotonic() - started == pytest.approx(waited_s)
