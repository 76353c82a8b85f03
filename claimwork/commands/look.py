"""Commands that look at a job, a mount or one input: status, why, retry, export, doctor, check."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict

from ..compose import Mount, stop_on_signals
from ..errors import Exit, UsageError
from ..fs import decode_path
from ..job import require_job
from ..lines import printable
from ..status import StatusReader


def status(out: str, interval: float, *, watch: bool, as_json: bool) -> Exit | int:
    """Show verdict, progress, workers and trouble. The exit code tells the verdict as well."""
    from ..render import console, status_screen, watching

    mount = Mount(out)
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    snapshot = reader.read()
    if not watch:
        if as_json:
            sys.stdout.write(json.dumps(snapshot.to_json()) + "\n")
        else:
            console().print(status_screen(snapshot))
        return snapshot.exit_code
    stop = stop_on_signals()
    with watching(console()) as show:
        while True:
            if as_json:
                sys.stdout.write(json.dumps(snapshot.to_json()) + "\n")
                sys.stdout.flush()
            else:
                show(status_screen(snapshot))
            if snapshot.verdict == "DONE" or stop.times:
                return snapshot.exit_code
            until = time.monotonic() + interval
            while time.monotonic() < until and not stop.times:
                time.sleep(min(0.1, interval))
            snapshot = reader.read()


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
    verb = "would be" if dry_run else "are"
    sys.stderr.write(f"{len(chosen)} inputs {verb} back in ready")
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
        sys.stderr.write(f"claimwork: work remains: {reader.results} of {snapshot.total} inputs are in this export\n")
    return snapshot.exit_code


def doctor(directory: str, pair: str, pair_wait: float, *, as_json: bool) -> Exit | int:
    """Find out by trying what a mount can be relied on for; the verdict in words."""
    from ..clock import SystemClock
    from ..doctor import diagnose
    from ..render import diagnosis_lines

    if not os.path.isdir(directory):
        raise UsageError(f"{directory!r} is not a directory; give one on the mount to examine")
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
        words = "clean" if report.clean else f"{len(report.findings)} findings"
        sys.stdout.write(
            f"{words}: {report.results} results, {report.quarantined} quarantined, {report.open} open, "
            f"of {report.inputs} inputs\n"
        )
    return Exit.COMPLETE if report.clean else Exit.UNEXPECTED
