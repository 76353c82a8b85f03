"""Commands that show a job to a browser: report."""

from __future__ import annotations

import sys

from ..compose import Mount
from ..errors import Exit
from ..history_reader import HistoryReader
from ..job import require_job
from ..plan_log import PlanLog
from ..snapshot import Snapshot
from ..status import StatusReader

_LOOKS = 64  # each goes on where the last one stopped; a job of a million inputs needs half of them


def report(out: str, output: str | None) -> Exit | int:
    """Write one page of a job, during or after it. The exit code says only whether it was written."""
    from ..web.pages import report as page

    mount = Mount(out)
    job = require_job(mount.fs, mount.layout)
    snapshot = _verified(StatusReader(mount.fs, mount.layout, mount.clock))
    log = PlanLog(mount.fs, mount.layout)
    reader = HistoryReader(mount.fs, mount.layout, log)
    reader.advance(log.closes()[0])
    written = page(job, snapshot, reader.history.to_json())
    if output is None:
        sys.stdout.write(written)
        sys.stdout.flush()
    else:
        with open(output, "w", encoding="utf-8") as file:
            file.write(written)
    return Exit.COMPLETE


def _verified(reader: StatusReader) -> Snapshot:
    """Look until every count is verified, within bounds: a job that goes on meanwhile may always have some that are not."""
    snapshot = reader.read()
    for _ in range(_LOOKS):
        if snapshot.exact:
            break
        snapshot = reader.read()
    return snapshot
