"""Commands that look at a job, a mount or one input: status, why, retry, export, doctor, healthy, check."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..compose import Mount, stop_on_signals
from ..errors import Exit, UsageError, WorkerFault
from ..fs import decode_path
from ..job import require_job
from ..lines import complain, printable
from ..snapshot import Snapshot, counted
from ..status import StatusReader

if TYPE_CHECKING:
    from ..watch import View

_REDRAW_S = 0.25  # how soon a terminal's new size, or a mount that does not answer, is shown


def status(out: str, interval: float, *, watch: bool, as_json: bool) -> Exit | int:
    """Show verdict, progress, workers and trouble. The exit code tells the verdict as well."""
    mount = Mount(out)
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    snapshot = reader.read()
    if watch:
        return _watch(mount, reader, snapshot, interval, as_json=as_json)
    if as_json:
        sys.stdout.write(json.dumps(snapshot.to_json()) + "\n")
    else:
        from ..render import console
        from ..screens import status_screen

        shown = console()
        shown.print(status_screen(snapshot, shown.width))
    return snapshot.exit_code


def _watch(mount: Mount, reader: StatusReader, first: Snapshot, interval: float, *, as_json: bool) -> Exit | int:
    """Show one look after the other until the job is done or a signal comes."""
    from ..watch import Watcher

    stop = stop_on_signals()
    watcher = Watcher(reader, mount.clock, interval, first)
    watcher.start()
    number = 0
    try:
        with _json_lines() if as_json else _screens() as (show, redraw_s):
            while True:
                view = watcher.wait(number, redraw_s or interval)
                number = view.number
                show(view)
                if view.snapshot.verdict == "DONE" or stop.times:
                    return view.snapshot.exit_code
    finally:
        watcher.stop()


@contextmanager
def _json_lines() -> Iterator[tuple[Callable[[View], None], float]]:
    shown = 0

    def show(view: View) -> None:
        nonlocal shown
        if view.notice:
            complain(view.notice)
        if view.number > shown:
            shown = view.number
            sys.stdout.write(json.dumps(view.snapshot.to_json()) + "\n")
            sys.stdout.flush()

    yield show, 0.0


@contextmanager
def _screens() -> Iterator[tuple[Callable[[View], None], float]]:
    """What shows a view that is new, or of which something changed; on a terminal that includes its size."""
    from ..render import console, watching
    from ..screens import status_screen

    out = console()
    last: object = None
    with watching(out) as draw:

        def show(view: View) -> None:
            nonlocal last
            if last != (last := (view.number, view.notice, out.size)):
                draw(status_screen(view.snapshot, out.width, view.notice))

        yield show, _REDRAW_S if out.is_terminal else 0.0


def why(out: str, path: str, *, as_json: bool) -> Exit | int:
    """Tell the life of one input: pending, held by whom, backing off, quarantined after which errors, done."""
    from ..inputs import life_of
    from ..render import why_lines

    mount = Mount(out)
    job = require_job(mount.fs, mount.layout)
    life = life_of(mount.fs, mount.layout, job, decode_path(os.fsencode(path)))
    if as_json:
        sys.stdout.write(json.dumps(life.to_json()) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in why_lines(life, job)))
    return {"done": Exit.COMPLETE, "quarantined": Exit.QUARANTINED}.get(life.state, Exit.WORK_REMAINS)


def retry(out: str, patterns: tuple[str, ...], *, dry_run: bool) -> Exit | int:
    """Bring quarantined inputs back to ready, with all their attempts before them."""
    from ..inputs import quarantined
    from ..inputs import retry as plan_retry

    mount = Mount(out)
    job = require_job(mount.fs, mount.layout)
    chosen = quarantined(mount.fs, mount.layout, [decode_path(os.fsencode(each)) for each in patterns])
    for each in chosen:
        sys.stdout.write(f"{printable(each.path)}\n")
    if chosen and not dry_run:
        mount.with_stage(job, lambda store, stage: plan_retry(mount.fs, mount.layout, job, stage, store, chosen))
    are = ("input would be", "inputs would be") if dry_run else ("input is", "inputs are")
    sys.stderr.write(f"{counted(len(chosen), *are)} back in ready")
    sys.stderr.write(f"; next: claimwork run IN {out}, or claimwork worker IN {out}\n" if chosen else "\n")
    return Exit.COMPLETE


def export(out: str, form: str, output: str | None) -> Exit | int:
    """Write all results as one document: json (input → value), jsonl or csv."""
    from ..finalizer import ResultReader
    from ..inputs import export as write
    from ..plan_log import PlanLog

    mount = Mount(out)
    require = require_job(mount.fs, mount.layout)
    closes, _ = PlanLog(mount.fs, mount.layout).closes()
    reader = ResultReader(mount.fs, mount.layout, require, closes, partial=True)
    if output is None:
        write(reader, form, sys.stdout)
        sys.stdout.flush()
    else:
        with open(output, "w", encoding="utf-8", newline="") as file:
            write(reader, form, file)
    snapshot = StatusReader(mount.fs, mount.layout, mount.clock).read()
    if snapshot.exit_code == Exit.WORK_REMAINS:
        sys.stderr.write(
            f"claimwork: work remains: this export has {reader.results} of {counted(snapshot.total, 'input')}\n"
        )
    return snapshot.exit_code


def doctor(directory: str, pair: str, pair_wait: float, *, as_json: bool) -> Exit | int:
    """Find out by trying what a mount can be relied on for; the verdict in words."""
    from ..clock import SystemClock
    from ..doctor import diagnose
    from ..render import diagnosis_lines

    if not os.path.isdir(directory):
        raise UsageError(f"{directory!r} is not a directory; give one on the mount to examine")
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _exit)  # what was made to try things is taken away
    if pair and sys.stderr.isatty():
        sys.stderr.write(
            f"meets another doctor that is given --pair {printable(pair)}, and waits {pair_wait:g} s for it\n"
        )
    found = diagnose(os.path.abspath(directory), SystemClock(), pair, pair_wait)
    if as_json:
        document = {
            "schema": 1,
            "directory": found.directory,
            "type": found.entry.kind,
            "options": sorted(found.entry.options),
            "verdict": found.verdict,
            "claims": found.claims,
            "patience_s": found.patience_s,
            "paired": bool(pair),
            "listing_lag": None if found.listing_lag is None else asdict(found.listing_lag),
            "heartbeat_lag": None if found.beat_lag is None else asdict(found.beat_lag),
            "findings": [asdict(each) for each in found.findings],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in diagnosis_lines(found))
    return Exit.UNFIT if found.verdict == "unfit" else Exit.COMPLETE


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def healthy() -> Exit | int:
    """Tell whether the worker of this container gets through to its mount: the image's health check."""
    from ..clock import SystemClock
    from ..pulse import ailment

    found = ailment(SystemClock().monotonic)
    if found:
        raise WorkerFault(f"{found}; the other workers have taken back what it held: end it, and start another")
    return Exit.COMPLETE


def check(out: str, *, repair: bool, as_json: bool) -> Exit | int:
    """Verify every invariant of the job against the disk."""
    from ..check import check as verify

    mount = Mount(out)
    require_job(mount.fs, mount.layout)
    report = verify(mount.fs, mount.layout, repair=repair)
    if as_json:
        sys.stdout.write(json.dumps({"schema": 1, "clean": report.clean, **asdict(report)}) + "\n")
    else:
        for each in [*report.findings, *report.notes]:
            mend = f"; {each.repair}" if each.repair else ""
            sys.stdout.write(f"{each.code}: {printable(each.path)}: {printable(each.what)}{mend}\n")
        words = "clean" if report.clean else counted(len(report.findings), "finding")
        sys.stdout.write(
            f"{words}: {counted(report.results, 'result')}, {report.quarantined} quarantined, {report.open} open, "
            f"of {counted(report.inputs, 'input')}\n"
        )
    return Exit.COMPLETE if report.clean else Exit.UNEXPECTED
