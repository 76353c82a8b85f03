"""Commands that work on a job: run, plan, worker, reduce."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..compose import (
    JOB_WITHIN_S,
    RELAYED,
    Mount,
    expect_inputs,
    plan_now,
    require_input,
    stop_on_signals,
)
from ..container import memory_bytes, usable_slots
from ..errors import Exit, UsageError, WorkerFault
from ..job import check_paths, check_task, prepare_out, require_job
from ..lines import teller
from ..names import Kind
from ..news import News, Tell
from ..planner import PlanReport
from ..policy import is_little_memory
from ..records import Job, dumps
from ..snapshot import Snapshot, counted
from ..status import StatusReader
from ..tasks import die_with_parent
from ..worker import Setup, Stop
from .ending import Since, finish, give_up
from .wanted import names_a_task, wanted_job

_PROGRESS_EVERY_S = 0.25
_SIDE_EFFECTS = 64  # the code with which the child that imports a task says that it has some
_PLANNED = ("added", "added_bytes", "known", "changed", "unreadable")


def run(
    input_dir: str, out: str, slots: int | None, grace: float, fault_after: int, *, quiet: bool, **options: Any
) -> Exit | int:
    """Plan IN, process it with local workers, reduce, print the summary. Run it again to add new inputs."""
    mount, job, existed = _open(out, input_dir, options)
    stop = stop_on_signals()
    if existed:
        mount.plan_again(job)
    started = mount.clock.monotonic()
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    from ..render import Progress

    with Progress(quiet=quiet) as progress:
        tally = plan_now(mount, job, input_dir, stop, progress.tell)
        if stop.times:
            return 128 + stop.signal
        first = reader.read()
        _say_planned(tally.planned, first, progress.say)
        nothing_new = tally.planned is not None and tally.planned.added == 0
        if first.verdict == "DONE" and existed and nothing_new:
            progress.say(f"nothing to do: {counted(first.total, 'input is', 'inputs are')} settled")
            code, since = 0, None
        else:
            slots = slots or usable_slots()
            if warning := _memory_warning(slots):
                progress.say(warning)
            of_worker = ["--slots", slots, "--grace", grace, "--fault-after", fault_after]
            code = _run_local_worker(input_dir, out, [str(each) for each in of_worker], reader, progress, stop)
            since = Since(first, mount.clock.monotonic() - started)
    if not code:
        return finish(reader.read(), quiet=quiet, since=since)
    if code > 128 and not quiet:  # a signal stopped it, and work remains
        finish(reader.read(), quiet=quiet, since=since)
    return code


def plan(input_dir: str, out: str, log_format: str, *, expects: bool, quiet: bool, **options: Any) -> Exit | int:
    """Create the job, or add inputs that are new since; also while workers run."""
    mount, job, existed = _open(out, input_dir, options, expects=expects)
    stop = stop_on_signals()
    if existed:
        mount.plan_again(job)
    tally = plan_now(mount, job, input_dir, stop, teller(log_format, quiet=quiet))
    if stop.times:
        return 128 + stop.signal
    snapshot = StatusReader(mount.fs, mount.layout, mount.clock).read()
    if log_format == "json":  # where one reader gets both streams, as of a service, every line is an object
        sys.stdout.write(dumps(_planned(tally.planned, snapshot)).decode() + "\n")
        return Exit.COMPLETE
    _say_planned(tally.planned, snapshot, _print)
    left = snapshot.total - snapshot.done
    _print(f"{counted(snapshot.total, 'input')} in the plan, {left} of them without a result")
    return Exit.COMPLETE


def worker(
    input_dir: str | None,
    out: str | None,
    slots: int | None,
    grace: float,
    fault_after: int,
    log_format: str,
    *,
    stay: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> Exit | int:
    """Join a job (create it if there is none) and work until nothing is left."""
    if input_dir is None or out is None:
        raise UsageError("IN and OUT are missing; give both, or CLAIMWORK_INPUT and CLAIMWORK_OUTPUT")
    stop = stop_on_signals()
    tell = teller(log_format, quiet=quiet)
    found = _join(out, input_dir, options, stop, tell)
    if found is None:
        return 128 + stop.signal
    mount, job = found
    if not stay and mount.is_complete(job):
        tell(News.COMPLETE, "nothing is left: the job is complete")
        return Exit.COMPLETE
    require_input(input_dir)
    slots = slots or usable_slots()
    if warning := _memory_warning(slots):
        tell(News.LITTLE_MEMORY, warning, slots=slots)
    setup = Setup(stay=stay, rescan=stay, grace_s=grace, fault_after=fault_after, tell=tell)
    tally = mount.work(job, input_dir, setup, slots, stop, verbose=verbose and not quiet)
    if tally.complete:
        return Exit.COMPLETE
    return 128 + tally.stopped_by if tally.stopped_by else Exit.WORK_REMAINS


def reduce(out: str, log_format: str, *, wait: bool, quiet: bool) -> Exit | int:
    """Be the finalizer: reduce when complete. Any number may run; one summary comes out."""
    stop = stop_on_signals()
    mount = Mount(out)
    tell = teller(log_format, quiet=quiet)
    job = mount.wait_for_job(stop, JOB_WITHIN_S, tell) if wait else require_job(mount.fs, mount.layout)
    if job is None:
        return 128 + stop.signal
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    snapshot = reader.read()
    if snapshot.verdict != "DONE":
        if snapshot.verdict in ("BLOCKED", "REDUCING", "STALLED"):
            mount.offer_reduce(job)  # its ticket may have failed too often; one too many does no harm
        setup = Setup(kinds=frozenset({Kind.REDUCE}), wait=wait, tell=tell)
        tally = mount.work(job, None, setup, 1, stop)
        if tally.stopped_by and not tally.complete:
            return 128 + tally.stopped_by
        snapshot = reader.read()
    if snapshot.verdict == "DONE":
        return finish(snapshot, quiet=quiet, form=log_format)
    return give_up(snapshot, form=log_format)


def _memory_warning(slots: int) -> str:
    """What to expect of so many slots, or nothing: a child killed for its memory looks like one that its input ended."""
    limit = memory_bytes()
    if not is_little_memory(limit, slots):
        return ""
    return (
        f"{slots} slots share {int(limit) >> 20} MB of memory: a child that needs more than is left is killed, and its "
        "input charged an attempt; raise the limit or lower --slots"
    )


def _open(out: str, input_dir: str, options: dict[str, Any], *, expects: bool = False) -> tuple[Mount, Job, bool]:
    """The job of OUT, created when there is none; and whether it was there before. *expects*: not without inputs."""
    check_paths(input_dir, out)
    prepare_out(out)
    mount = Mount(out)
    wanted = wanted_job(mount, options)
    existing = mount.job()
    if expects:
        expect_inputs(input_dir, existing or wanted)
    if existing is None:
        if not wanted.command and wanted.task != "wordcount":
            pure = not _has_side_effects(wanted.task, splits=wanted.split_bytes is not None)
            wanted = replace(wanted, backups=wanted.backups and pure)
        wanted = replace(wanted, folds_names=mount.folds_names())
    return mount, mount.open_or_create(wanted, explicit_task=names_a_task(options)), existing is not None


def _has_side_effects(task: str, *, splits: bool) -> bool:
    """What a task declares. Raises UsageError before a job is created whose task cannot be run. In a child: user code stays
    out of here.
    """
    code = f"import sys; from claimwork.tasks import load_task; found = load_task(sys.argv[1], splits={splits}); "
    code += f"sys.exit({_SIDE_EFFECTS} if found.side_effects else 0)"
    done = subprocess.run(
        [sys.executable, "-c", code, task], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode not in (0, _SIDE_EFFECTS):
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        last = lines[-1] if lines else f"the import ended with {done.returncode}"
        raise UsageError(last.removeprefix("claimwork.errors.UsageError: "))
    return done.returncode == _SIDE_EFFECTS


def _planned(planned: PlanReport | None, snapshot: Snapshot) -> dict[str, Any]:
    """What `plan` answers to programs; without what was added when another worker did it."""
    found = {} if planned is None else {each: getattr(planned, each) for each in _PLANNED}
    return {"schema": 1, **found, "inputs": snapshot.total, "without_result": snapshot.total - snapshot.done}


def _say_planned(planned: PlanReport | None, snapshot: Snapshot, say: Callable[[str], None]) -> None:
    if planned is None:
        say(f"planned by another worker: {counted(snapshot.total, 'input')} in all")
        return
    from ..render import size

    say(f"planned {counted(planned.added, 'new input')} ({size(planned.added_bytes)}), {planned.known} planned before")
    if not planned.added + planned.known:
        say("IN holds no inputs: is it the right directory?")
    if planned.changed:
        say(
            f"{counted(planned.changed, 'input has', 'inputs have')} another size than when planned; what was planned stands"
        )
    if planned.unreadable:
        say(f"passed over {counted(planned.unreadable, 'directory', 'directories')} that could not be read")


def _run_local_worker(
    input_dir: str, out: str, options: list[str], reader: StatusReader, progress: Any, stop: Stop
) -> int:
    """Run a worker process and show progress until it ends; one that was killed is started again."""
    argv = [sys.executable, "-m", "claimwork", "worker", input_dir, out, "--join", "--quiet", *options]
    argv += ["--log-format", "text"]  # whatever the environment says: what it says is read by whoever reads this
    for _ in range(5):
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            process_group=0,
            preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGTERM),  # noqa: PLW1509 - no threads here
        )
        told = 0
        while (code := _wait(process)) is None:
            while told < stop.times:
                process.send_signal(RELAYED)
                told += 1
            progress.show(reader.read())
        if code >= 0 or stop.times:
            return 128 + stop.signal if stop.times and code else max(code, 0)
        progress.say(f"the worker was killed by signal {-code}; starting another")
    raise WorkerFault("the worker was killed five times; is there too little memory for --slots?")


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_PROGRESS_EVERY_S)
    except subprocess.TimeoutExpired:
        return None


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def _join(out: str, input_dir: str, options: dict[str, Any], stop: Stop, tell: Tell) -> tuple[Mount, Job] | None:
    """The job to work on: the one that is there, or is waited for, or is created; None when told to stop."""
    mount = Mount(out)
    job = mount.job()
    if job is None and options["join"]:
        job = mount.wait_for_job(stop, options["join_timeout"], tell)
        if job is None:
            return None
    elif job is None:
        mount, job, _ = _open(out, input_dir, options)
        return mount, job
    check_paths(input_dir if os.path.isdir(input_dir) else None, out)
    if names_a_task(options):
        check_task(job, wanted_job(mount, options))
    return mount, job
