"""Commands that show a job to a browser: report, dashboard."""

from __future__ import annotations

import sys

from ..compose import JOB_WITHIN_S, Mount, stop_on_signals
from ..errors import Exit, UsageError
from ..history_reader import HistoryReader
from ..job import require_job
from ..lines import complain, printable
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


def dashboard(out: str, host: str, port: int, token: str, interval: float, *, wait: bool) -> Exit | int:
    """Serve pages of a job until a signal comes."""
    try:
        from ..web.live import LiveJob
        from ..web.server import is_loopback, listen, serve
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("prometheus_client", "starlette", "uvicorn"):
            raise
        raise UsageError(f"the dashboard needs {missing}: pip install 'claimwork[dashboard]'") from None

    stop = stop_on_signals()
    mount = Mount(out)
    job = mount.wait_for_job(stop, JOB_WITHIN_S) if wait else require_job(mount.fs, mount.layout)
    if job is None:
        return 128 + stop.signal
    bound = listen(host, port)
    live = LiveJob(mount.fs, mount.layout, mount.clock, interval)
    live.watcher.start()
    if not token and not is_loopback(host):
        complain("whoever reaches this port reads names and errors of this job; --token keeps others out")
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"http://{printable(shown)}:{bound.getsockname()[1]}/\n")
    sys.stdout.flush()
    serve(live, bound, host, token, stop)
    live.watcher.stop()
    return 128 + stop.signal


def _verified(reader: StatusReader) -> Snapshot:
    """Look until every count is verified, within bounds: a job that goes on meanwhile may always have some that are not."""
    snapshot = reader.read()
    for _ in range(_LOOKS):
        if snapshot.exact:
            break
        snapshot = reader.read()
    return snapshot
