"""Commands that work on a job: run, plan, worker, reduce."""

from __future__ import annotations

import functools
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import __version__
from ..compose import JOB_WITHIN_S, RELAYED, Mount, new_id, plan_now, require_input, stop_on_signals, usable_slots
from ..errors import Exit, UsageError, WorkerFault
from ..fs import decode_path
from ..job import check_paths, check_task, default_claims, prepare_out, require_job
from ..lines import sayer
from ..names import Kind
from ..records import Job, is_suffix
from ..snapshot import Snapshot
from ..status import StatusReader
from ..tasks import die_with_parent
from ..worker import Setup, Stop

_PROGRESS_EVERY_S = 0.25


def run(
    input_dir: str, out: str, slots: int | None, grace: float, fault_after: int, *, quiet: bool, **options: Any
) -> Exit | int:
    """Plan IN, process it with local workers, reduce, print the summary. Run it again to add new inputs."""
    mount, job, existed = _open(out, input_dir, options)
    stop = stop_on_signals()
    if existed:
        mount.plan_again(job)
    tally = plan_now(mount, job, input_dir, stop, lambda _line: None)
    if stop.times:
        return 128 + stop.signal
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    from ..render import Progress

    with Progress(quiet=quiet) as progress:
        snapshot = reader.read()
        _say_planned(tally.planned, snapshot, progress.say)
        nothing_new = tally.planned is not None and tally.planned.added == 0
        if snapshot.verdict == "DONE" and existed and nothing_new:
            progress.say(f"nothing to do: all {snapshot.total} inputs are settled")
            return _finish(snapshot)
        of_worker = ["--slots", slots or usable_slots(), "--grace", grace, "--fault-after", fault_after]
        code = _run_local_worker(input_dir, out, [str(each) for each in of_worker], reader, progress, stop)
    snapshot = reader.read()
    if code:
        return code
    return _finish(snapshot)


def plan(input_dir: str, out: str, *, quiet: bool, **options: Any) -> Exit | int:
    """Create the job, or add inputs that are new since; also while workers run."""
    mount, job, existed = _open(out, input_dir, options)
    stop = stop_on_signals()
    if existed:
        mount.plan_again(job)
    tally = plan_now(mount, job, input_dir, stop, sayer(quiet=quiet))
    if stop.times:
        return 128 + stop.signal
    snapshot = StatusReader(mount.fs, mount.layout, mount.clock).read()
    _say_planned(tally.planned, snapshot, _print)
    sys.stdout.write(
        f"{snapshot.total} inputs in the plan, {snapshot.total - snapshot.done} of them without a result\n"
    )
    return Exit.COMPLETE


def worker(
    input_dir: str | None,
    out: str | None,
    slots: int | None,
    grace: float,
    fault_after: int,
    *,
    stay: bool,
    quiet: bool,
    **options: Any,
) -> Exit | int:
    """Join a job (create it if there is none) and work until nothing is left."""
    if input_dir is None or out is None:
        raise UsageError("IN and OUT are missing; give both, or CLAIMWORK_INPUT and CLAIMWORK_OUTPUT")
    stop = stop_on_signals()
    say = sayer(quiet=quiet)
    found = _join(out, input_dir, options, stop)
    if found is None:
        return 128 + stop.signal
    mount, job = found
    if not stay and mount.is_complete(job):
        say("nothing is left: the job is complete")
        return Exit.COMPLETE
    require_input(input_dir)
    setup = Setup(stay=stay, rescan=stay, grace_s=grace, fault_after=fault_after, say=say)
    say(f"worker on {job.describe()} in {mount.layout.out}")
    tally = mount.work(job, input_dir, setup, slots or usable_slots(), stop)
    say(f"{'nothing is left' if tally.complete else 'stopped'}: {tally.done} done here, {tally.failed} attempts failed")
    if tally.complete:
        return Exit.COMPLETE
    return 128 + tally.stopped_by if tally.stopped_by else Exit.WORK_REMAINS


def reduce(out: str, *, wait: bool, quiet: bool) -> Exit | int:
    """Be the finalizer: reduce when complete. Any number may run; one summary comes out."""
    stop = stop_on_signals()
    mount = Mount(out)
    job = mount.wait_for_job(stop, JOB_WITHIN_S) if wait else require_job(mount.fs, mount.layout)
    if job is None:
        return 128 + stop.signal
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    snapshot = reader.read()
    if snapshot.verdict != "DONE":
        if snapshot.verdict in ("BLOCKED", "REDUCING", "STALLED"):
            mount.offer_reduce(job)  # its ticket may have failed too often; one too many does no harm
        setup = Setup(kinds=frozenset({Kind.REDUCE}), wait=wait, say=sayer(quiet=quiet))
        tally = mount.work(job, None, setup, 1, stop)
        if tally.stopped_by and not tally.complete:
            return 128 + tally.stopped_by
        snapshot = reader.read()
    if snapshot.verdict == "DONE":
        return _finish(snapshot)
    from ..render import counts_line, verdict_line

    sys.stderr.write(f"{verdict_line(snapshot)}; {counts_line(snapshot)}\n")
    return snapshot.exit_code


def _open(out: str, input_dir: str | None, options: dict[str, Any]) -> tuple[Mount, Job, bool]:
    """The job of OUT, created when there is none; and whether it was there before."""
    check_paths(input_dir, out)
    prepare_out(out)
    mount = Mount(out)
    wanted = wanted_job(mount, options)
    existing = mount.job()
    if existing is None:
        if not wanted.command and wanted.task != "wordcount":
            _check_import(wanted.task, splits=wanted.split_bytes is not None)
        wanted = replace(wanted, folds_names=mount.folds_names())
    return mount, mount.open_or_create(wanted, explicit_task=names_a_task(options)), existing is not None


def _check_import(task: str, *, splits: bool) -> None:
    """Raise UsageError before a job is created whose task cannot be run. In a child: user code stays out of here."""
    code = f"import sys; from claimwork.tasks import load_task; load_task(sys.argv[1], splits={splits})"
    done = subprocess.run(
        [sys.executable, "-c", code, task], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        last = lines[-1] if lines else f"the import ended with {done.returncode}"
        raise UsageError(last.removeprefix("claimwork.errors.UsageError: "))


def _say_planned(planned: Any, snapshot: Snapshot, say: Callable[[str], None]) -> None:
    if planned is None:
        say(f"planned by another worker: {snapshot.total} inputs in all")
        return
    from ..render import size

    say(f"planned {planned.added} new inputs ({size(planned.added_bytes)}), {planned.known} were planned before")
    if not planned.added + planned.known:
        say("IN holds no inputs: is it the right directory?")
    if planned.changed:
        say(f"{planned.changed} inputs have another size than when they were planned; what was planned stands")
    if planned.unreadable:
        say(f"{planned.unreadable} directories could not be read and were passed over")


def _run_local_worker(
    input_dir: str, out: str, options: list[str], reader: StatusReader, progress: Any, stop: Stop
) -> int:
    """Run a worker process and show progress until it ends; one that was killed is started again."""
    argv = [sys.executable, "-m", "claimwork", "worker", input_dir, out, "--join", "--quiet", *options]
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


def _finish(snapshot: Snapshot) -> Exit | int:
    """Print the summary on stdout and the last words on stderr."""
    if snapshot.has_summary:
        sys.stdout.write(_json_line(snapshot.summary))
        sys.stdout.flush()
    from ..render import counts_line, verdict_line

    sys.stderr.write(f"{verdict_line(snapshot)}\n{counts_line(snapshot)}\n")
    sys.stderr.write(f"results in {snapshot.out}/results, summary in {snapshot.out}/summary.json\n")
    if snapshot.quarantined:
        sys.stderr.write(
            f"{snapshot.quarantined} quarantined: look at {snapshot.out}/quarantine, then: claimwork retry {snapshot.out}\n"
        )
    return snapshot.exit_code


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def _json_line(value: Any) -> str:
    from ..records import dumps

    return dumps(value).decode() + "\n"


def _join(out: str, input_dir: str, options: dict[str, Any], stop: Stop) -> tuple[Mount, Job] | None:
    """The job to work on: the one that is there, or is waited for, or is created; None when told to stop."""
    mount = Mount(out)
    job = mount.job()
    if job is None and options["join"]:
        job = mount.wait_for_job(stop, options["join_timeout"])
        if job is None:
            return None
    elif job is None:
        mount, job, _ = _open(out, input_dir, options)
        return mount, job
    check_paths(input_dir if os.path.isdir(input_dir) else None, out)
    if names_a_task(options):
        check_task(job, wanted_job(mount, options))
    return mount, job


def names_a_task(options: dict[str, Any]) -> bool:
    """Whether the options say what to run, rather than leave it to the job or the default."""
    return options["task"] is not None or options["command"] is not None


def wanted_job(mount: Mount, options: dict[str, Any]) -> Job:
    """The job that `job_options` describe. Raises UsageError for what does not fit together."""
    task, command = options["task"], options["command"]
    if task is not None and command is not None:
        raise UsageError("--task and --command exclude each other; give one")
    if options["errors"] not in ("strict", "replace"):
        raise UsageError(f"--errors {options['errors']!r} is unknown; there are strict and replace")
    if options["claims"] not in (None, "rename", "marker"):
        raise UsageError(f"--claims {options['claims']!r} is unknown; there are rename and marker")
    if not is_suffix(options["suffix"]):
        raise UsageError(f"--suffix {options['suffix']!r} is not a dot and a few letters or digits, such as .json")
    for name in ("timeout", "backoff", "patience", "grace"):
        if not math.isfinite(options.get(name) or 0.0):
            raise UsageError(f"--{name} must be a number of seconds")
    timeout = options["timeout"]
    if timeout is not None and timeout <= 0:
        raise UsageError("--timeout must be more than 0 seconds")
    argv = _arguments(command)
    if argv and options["split"] is not None:
        raise UsageError("--split needs a task that says how parts are merged; a program cannot: leave one of both out")
    name = "command" if argv else task or "wordcount"
    if not argv and name != "wordcount" and ":" not in name:
        raise UsageError(f"--task {name!r} is neither built in nor of the form module:name; built in is wordcount")
    return Job(
        id=new_id(),
        task=name,
        command=argv,
        errors=options["errors"],
        suffix=options["suffix"],
        claims=options["claims"] or default_claims(mount.fs.kind),
        include=[decode_path(os.fsencode(each)) for each in options["include"]],
        exclude=[decode_path(os.fsencode(each)) for each in options["exclude"]],
        recurse=options["recurse"],
        hidden=options["hidden"],
        timeout_s=timeout,
        max_attempts=options["max_attempts"],
        backoff_s=options["backoff"],
        patience_s=options["patience"],
        split_bytes=options["split"],
        max_quarantined=0 if options["fail_fast"] else options["max_quarantined"],
        created_at=time.time(),
        created_by=f"claimwork {__version__} on {os.uname().nodename}",
    )


def _arguments(command: str | None) -> list[str]:
    """The program and its arguments; never a shell."""
    if command is None:
        return []
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--command cannot be split into arguments: {error}") from None
    if not argv:
        raise UsageError("--command is empty; give a program and its arguments")
    if not any("{input}" in each for each in argv):
        raise UsageError("--command names no {input}; write it where the input's path belongs")
    return argv
