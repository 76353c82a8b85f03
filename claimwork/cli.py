"""The command line: parse, call one function below, render, map exceptions to exit codes. The only importer of typer."""

from __future__ import annotations

import functools
import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer

from . import __version__, policy
from .child_process import die_with_parent
from .compose import RELAYED, Mount, new_id, plan_now, require_input, stop_on_signals, usable_slots
from .errors import ClaimworkError, Exit, RecordError, UsageError, WorkerFault, mount_fault
from .fs import decode_path
from .job import check_paths, default_claims, prepare_out, require_job
from .names import Kind
from .records import Job, is_suffix
from .status import Snapshot, StatusReader
from .worker import Setup, Stop

P = ParamSpec("P")
_PROGRESS_EVERY_S = 0.25

app = typer.Typer(
    name="claimwork",
    help="Turn a shared mount into a work queue: one result per input, no broker, no master.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

In = Annotated[str, typer.Argument(metavar="IN", envvar="CLAIMWORK_INPUT", help="Directory of the inputs.")]
Out = Annotated[str, typer.Argument(metavar="OUT", envvar="CLAIMWORK_OUTPUT", help="Directory of the job.")]
MaybeIn = Annotated[str | None, typer.Argument(metavar="IN", envvar="CLAIMWORK_INPUT", help="Directory of the inputs.")]
Slots = Annotated[
    int | None,
    typer.Option(envvar="CLAIMWORK_SLOTS", min=1, help="Child processes that run the task; default: one per core."),
]
Grace = Annotated[
    float,
    typer.Option(envvar="CLAIMWORK_GRACE", min=0, help="Seconds that inputs in hand may take to end after SIGTERM."),
]
FaultAfter = Annotated[
    int,
    typer.Option(
        envvar="CLAIMWORK_FAULT_AFTER",
        min=0,
        help="After so many failed inputs in a row a worker must succeed at one that succeeded elsewhere, or ends with "
        "code 12 and charges none of them; 0: never.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", envvar="CLAIMWORK_QUIET", help="Say nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", envvar="CLAIMWORK_JSON", help="Print one JSON document.")]
TaskName = Annotated[
    str | None,
    typer.Option("--task", envvar="CLAIMWORK_TASK", help="wordcount (built in, the default) or module:name."),
]
Command = Annotated[
    str | None,
    typer.Option(
        "--command",
        envvar="CLAIMWORK_COMMAND",
        help="A program instead of a task: 'tool {input} -o {output}'. Never a shell; without {output}, stdout is the result.",
    ),
]
Errors = Annotated[
    str, typer.Option(envvar="CLAIMWORK_ERRORS", help="wordcount: invalid UTF-8 is strict (quarantine) or replace.")
]
Suffix = Annotated[str, typer.Option(envvar="CLAIMWORK_SUFFIX", help="How the names of results end.")]
Include = Annotated[
    list[str] | None,
    typer.Option(
        envvar="CLAIMWORK_INCLUDE", help="Only inputs that match; repeatable. A glob without / means the name."
    ),
]
Exclude = Annotated[
    list[str] | None, typer.Option(envvar="CLAIMWORK_EXCLUDE", help="No inputs or directories that match; repeatable.")
]
Recurse = Annotated[bool, typer.Option(envvar="CLAIMWORK_RECURSE", help="Go into directories.")]
Hidden = Annotated[bool, typer.Option(envvar="CLAIMWORK_HIDDEN", help="Take names that begin with a dot as well.")]
Timeout = Annotated[
    float | None, typer.Option(envvar="CLAIMWORK_TIMEOUT", help="Seconds that one attempt at an input may take.")
]
MaxAttempts = Annotated[
    int, typer.Option(envvar="CLAIMWORK_MAX_ATTEMPTS", min=1, max=1000, help="Attempts before an input is quarantined.")
]
Backoff = Annotated[
    float,
    typer.Option(envvar="CLAIMWORK_BACKOFF", min=0, help="Seconds before the second attempt; doubled after each."),
]
Claims = Annotated[
    str | None,
    typer.Option(envvar="CLAIMWORK_CLAIMS", help="rename or marker; default: by the filesystem of OUT."),
]
Patience = Annotated[
    float,
    typer.Option(envvar="CLAIMWORK_PATIENCE", min=1, help="T: seconds a silent worker of another host is waited for."),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", envvar="CLAIMWORK_FAIL_FAST", help="Same as --max-quarantined 0.")
]
MaxQuarantined = Annotated[
    int | None,
    typer.Option(envvar="CLAIMWORK_MAX_QUARANTINED", min=0, help="Stop when more inputs than this are quarantined."),
]


def reporting(function: Callable[P, Exit | int]) -> Callable[P, None]:
    """Map what a command returns or raises to an exit code, and every deliberate error to one line."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        from .render import complain

        try:
            code = int(function(*args, **kwargs))
        except ClaimworkError as error:
            complain(str(error))
            code = int(error.exit_code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone; nothing more to say to it
            code = 0
        except KeyboardInterrupt:
            code = int(Exit.SIGINT)
        except OSError as error:
            complain(str(mount_fault(error, str(error.filename or "OUT"))))
            code = int(Exit.WORKER_FAULT)
        raise typer.Exit(code)

    return command


def _say(*, quiet: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        from .render import printable

        if not quiet:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {printable(line)}\n")
            sys.stderr.flush()

    return say


def _wanted(mount: Mount, options: dict[str, Any]) -> Job:
    """The job that the options describe."""
    task, command = options["task"], options["command"]
    if task is not None and command is not None:
        raise UsageError("--task and --command exclude each other; give one")
    if options["errors"] not in ("strict", "replace"):
        raise UsageError(f"--errors {options['errors']!r} is unknown; there are strict and replace")
    if options["claims"] not in (None, "rename", "marker"):
        raise UsageError(f"--claims {options['claims']!r} is unknown; there are rename and marker")
    if not is_suffix(options["suffix"]):
        raise UsageError(f"--suffix {options['suffix']!r} is not a dot and a few letters or digits, such as .json")
    try:
        argv = [] if command is None else shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--command cannot be split into arguments: {error}") from None
    if command is not None and not argv:
        raise UsageError("--command is empty; give a program and its arguments")
    if argv and not any("{input}" in each for each in argv):
        raise UsageError("--command names no {input}; write it where the input's path belongs")
    name = "command" if argv else task or "wordcount"
    if not argv and name != "wordcount" and ":" not in name:
        raise UsageError(f"--task {name!r} is neither built in nor of the form module:name; built in is wordcount")
    for option in ("timeout", "backoff", "patience", "grace"):
        if not math.isfinite(options.get(option) or 0.0):
            raise UsageError(f"--{option} must be a number of seconds")
    timeout = options["timeout"]
    if timeout is not None and timeout <= 0:
        raise UsageError("--timeout must be more than 0 seconds")
    return Job(
        id=new_id(),
        task=name,
        command=argv,
        errors=options["errors"],
        suffix=options["suffix"],
        claims=options["claims"] or default_claims(mount.fs.kind),
        include=[decode_path(os.fsencode(each)) for each in options["include"] or []],
        exclude=[decode_path(os.fsencode(each)) for each in options["exclude"] or []],
        recurse=options["recurse"],
        hidden=options["hidden"],
        timeout_s=timeout,
        max_attempts=options["max_attempts"],
        backoff_s=options["backoff"],
        patience_s=options["patience"],
        max_quarantined=0 if options["fail_fast"] else options["max_quarantined"],
        created_at=time.time(),
        created_by=f"claimwork {__version__} on {os.uname().nodename}",
    )


def _open(out: str, input_dir: str | None, options: dict[str, Any]) -> tuple[Mount, Job, bool]:
    """The job of OUT, created when there is none; and whether it was there before."""
    from dataclasses import replace

    check_paths(input_dir, out)
    prepare_out(out)
    mount = Mount(out)
    wanted = _wanted(mount, options)
    existing = mount.job()
    if existing is None:
        if not wanted.command and wanted.task != "wordcount":
            _check_import(wanted.task)
        wanted = replace(wanted, folds_names=mount.folds_names())
    explicit = options["task"] is not None or options["command"] is not None
    return mount, mount.open_or_create(wanted, explicit_task=explicit), existing is not None


def _check_import(task: str) -> None:
    """Raise UsageError before a job is created whose task cannot be imported. In a child: user code stays out of here."""
    code = "import sys; from claimwork.task import load_task; load_task(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, task], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        last = lines[-1] if lines else f"the import ended with {done.returncode}"
        raise UsageError(last.removeprefix("claimwork.errors.UsageError: "))


@app.command()
@reporting
def run(
    input_dir: In,
    out: Out,
    slots: Slots = None,
    task: TaskName = None,
    command: Command = None,
    errors: Errors = "strict",
    suffix: Suffix = ".json",
    include: Include = None,
    exclude: Exclude = None,
    recurse: Recurse = True,
    hidden: Hidden = False,
    timeout: Timeout = None,
    max_attempts: MaxAttempts = policy.MAX_ATTEMPTS,
    backoff: Backoff = policy.BACKOFF_S,
    claims: Claims = None,
    patience: Patience = policy.PATIENCE_S,
    fail_fast: FailFast = False,
    max_quarantined: MaxQuarantined = None,
    grace: Grace = policy.GRACE_S,
    fault_after: FaultAfter = policy.FAULT_AFTER,
    quiet: Quiet = False,
) -> Exit | int:
    """Plan IN, process it with local workers, reduce, print the summary. Run it again to add new inputs."""
    options = locals()
    mount, job, existed = _open(out, input_dir, options)
    stop = stop_on_signals()
    if existed:
        mount.plan_again(job)
    tally = plan_now(mount, job, input_dir, stop, lambda _line: None)
    if stop.times:
        return 128 + stop.signal
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    from .render import Progress

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


def _say_planned(planned: Any, snapshot: Snapshot, say: Callable[[str], None]) -> None:
    if planned is None:
        say(f"planned by another worker: {snapshot.total} inputs in all")
        return
    from .render import size

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
    from .render import counts_line, verdict_line

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
    from .records import dumps

    return dumps(value).decode() + "\n"


@app.command()
@reporting
def plan(
    input_dir: In,
    out: Out,
    task: TaskName = None,
    command: Command = None,
    errors: Errors = "strict",
    suffix: Suffix = ".json",
    include: Include = None,
    exclude: Exclude = None,
    recurse: Recurse = True,
    hidden: Hidden = False,
    timeout: Timeout = None,
    max_attempts: MaxAttempts = policy.MAX_ATTEMPTS,
    backoff: Backoff = policy.BACKOFF_S,
    claims: Claims = None,
    patience: Patience = policy.PATIENCE_S,
    fail_fast: FailFast = False,
    max_quarantined: MaxQuarantined = None,
    quiet: Quiet = False,
) -> Exit | int:
    """Create the job, or add inputs that are new since; also while workers run."""
    options = locals()
    mount, job, existed = _open(out, input_dir, options)
    stop = stop_on_signals()
    if existed:
        mount.plan_again(job)
    tally = plan_now(mount, job, input_dir, stop, _say(quiet=quiet))
    if stop.times:
        return 128 + stop.signal
    snapshot = StatusReader(mount.fs, mount.layout, mount.clock).read()
    _say_planned(tally.planned, snapshot, _print)
    sys.stdout.write(
        f"{snapshot.total} inputs in the plan, {snapshot.total - snapshot.done} of them without a result\n"
    )
    return Exit.COMPLETE


@app.command()
@reporting
def worker(
    input_dir: MaybeIn = None,
    out: Annotated[
        str | None, typer.Argument(metavar="OUT", envvar="CLAIMWORK_OUTPUT", help="Directory of the job.")
    ] = None,
    slots: Slots = None,
    join: Annotated[
        bool, typer.Option("--join", envvar="CLAIMWORK_JOIN", help="Never create a job: wait for one.")
    ] = False,
    join_timeout: Annotated[
        float, typer.Option(envvar="CLAIMWORK_JOIN_TIMEOUT", min=0, help="Seconds that --join waits.")
    ] = 60.0,
    stay: Annotated[
        bool, typer.Option("--stay", envvar="CLAIMWORK_STAY", help="Keep watching for new inputs.")
    ] = False,
    task: TaskName = None,
    command: Command = None,
    errors: Errors = "strict",
    suffix: Suffix = ".json",
    include: Include = None,
    exclude: Exclude = None,
    recurse: Recurse = True,
    hidden: Hidden = False,
    timeout: Timeout = None,
    max_attempts: MaxAttempts = policy.MAX_ATTEMPTS,
    backoff: Backoff = policy.BACKOFF_S,
    claims: Claims = None,
    patience: Patience = policy.PATIENCE_S,
    fail_fast: FailFast = False,
    max_quarantined: MaxQuarantined = None,
    grace: Grace = policy.GRACE_S,
    fault_after: FaultAfter = policy.FAULT_AFTER,
    quiet: Quiet = False,
) -> Exit | int:
    """Join a job (create it if there is none) and work until nothing is left."""
    options = locals()
    if input_dir is None or out is None:
        raise UsageError("IN and OUT are missing; give both, or CLAIMWORK_INPUT and CLAIMWORK_OUTPUT")
    stop = stop_on_signals()
    say = _say(quiet=quiet)
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
    if options["task"] is not None or options["command"] is not None:
        from .job import check_task

        check_task(job, _wanted(mount, options))
    return mount, job


@app.command()
@reporting
def status(
    out: Out,
    watch: Annotated[bool, typer.Option("--watch", "-w", envvar="CLAIMWORK_WATCH", help="Keep showing it.")] = False,
    interval: Annotated[
        float, typer.Option(envvar="CLAIMWORK_INTERVAL", min=0.1, help="Seconds between looks with --watch.")
    ] = 2.0,
    as_json: AsJson = False,
) -> Exit | int:
    """Show verdict, progress, workers and trouble. The exit code tells the verdict as well."""
    from .render import console, status_screen, watching

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


@app.command()
@reporting
def reduce(
    out: Out,
    wait: Annotated[
        bool, typer.Option("--wait", envvar="CLAIMWORK_WAIT", help="Wait until every input is settled.")
    ] = False,
    quiet: Quiet = False,
) -> Exit | int:
    """Be the finalizer: reduce when complete. Any number may run; one summary comes out."""
    stop = stop_on_signals()
    mount = Mount(out)
    job = mount.wait_for_job(stop, 60.0) if wait else require_job(mount.fs, mount.layout)
    if job is None:
        return 128 + stop.signal
    reader = StatusReader(mount.fs, mount.layout, mount.clock)
    snapshot = reader.read()
    if snapshot.verdict != "DONE":
        if snapshot.verdict in ("BLOCKED", "REDUCING", "STALLED"):
            mount.offer_reduce(job)  # its ticket may have failed too often; one too many does no harm
        setup = Setup(kinds=frozenset({Kind.REDUCE}), wait=wait, say=_say(quiet=quiet))
        tally = mount.work(job, None, setup, 1, stop)
        if tally.stopped_by and not tally.complete:
            return 128 + tally.stopped_by
        snapshot = reader.read()
    if snapshot.verdict == "DONE":
        return _finish(snapshot)
    from .render import counts_line, verdict_line

    sys.stderr.write(f"{verdict_line(snapshot)}; {counts_line(snapshot)}\n")
    return snapshot.exit_code


@app.command()
@reporting
def why(
    out: Out,
    path: Annotated[str, typer.Argument(metavar="INPUT", help="Path of the input below IN.")],
    as_json: AsJson = False,
) -> Exit | int:
    """Tell the life of one input: pending, held by whom, backing off, quarantined after which errors, done."""
    from .inputs import life_of
    from .render import why_lines

    mount = Mount(out)
    job = require_job(mount.fs, mount.layout)
    life = life_of(mount.fs, mount.layout, job, decode_path(os.fsencode(path)))
    if as_json:
        sys.stdout.write(json.dumps(life.to_json()) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in why_lines(life, job)))
    return {"done": Exit.COMPLETE, "quarantined": Exit.QUARANTINED}.get(life.state, Exit.WORK_REMAINS)


@app.command()
@reporting
def retry(
    out: Out,
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="PATTERN", help="Paths or globs; default: all.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", envvar="CLAIMWORK_DRY_RUN", help="Only tell.")] = False,
) -> Exit | int:
    """Bring quarantined inputs back to ready, with all their attempts before them."""
    from .inputs import quarantined
    from .inputs import retry as plan_retry
    from .render import printable

    mount = Mount(out)
    job = require_job(mount.fs, mount.layout)
    chosen = quarantined(mount.fs, mount.layout, [decode_path(os.fsencode(each)) for each in patterns or []])
    for each in chosen:
        sys.stdout.write(f"{printable(each.path)}\n")
    if chosen and not dry_run:
        mount.with_stage(job, lambda store, stage: plan_retry(mount.fs, mount.layout, job, stage, store, chosen))
    verb = "would be" if dry_run else "are"
    sys.stderr.write(f"{len(chosen)} inputs {verb} back in ready")
    sys.stderr.write(f"; next: claimwork run IN {out}, or claimwork worker IN {out}\n" if chosen else "\n")
    return Exit.COMPLETE


@app.command()
@reporting
def export(
    out: Out,
    form: Annotated[
        str, typer.Option("--format", "-f", envvar="CLAIMWORK_FORMAT", help="json, jsonl or csv.")
    ] = "json",
    output: Annotated[
        str | None, typer.Option("--output", "-o", envvar="CLAIMWORK_EXPORT", help="A file instead of stdout.")
    ] = None,
) -> Exit | int:
    """Write all results as one document: json (input → value), jsonl or csv."""
    from .finalizer import ResultReader
    from .inputs import export as write
    from .plan_log import PlanLog

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


@app.command()
@reporting
def doctor(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", envvar="CLAIMWORK_OUTPUT", help="A directory on the mount.")
    ],
    pair: Annotated[
        str,
        typer.Option(
            metavar="CODE",
            envvar="CLAIMWORK_PAIR",
            help="Any word; run doctor with the same one on another host or in another container, to examine both together.",
        ),
    ] = "",
    pair_wait: Annotated[
        float, typer.Option(envvar="CLAIMWORK_PAIR_WAIT", min=1, help="Seconds that --pair waits for the other side.")
    ] = 300.0,
    as_json: AsJson = False,
) -> Exit | int:
    """Find out by trying what a mount can be relied on for; the verdict in words."""
    from dataclasses import asdict

    from .clock import SystemClock
    from .doctor import diagnose
    from .render import diagnosis_lines

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
            "findings": [asdict(each) for each in found.findings],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in diagnosis_lines(found))
    return Exit.UNFIT if found.verdict == "unfit" else Exit.COMPLETE


@app.command()
@reporting
def check(
    out: Out,
    repair: Annotated[
        bool, typer.Option("--repair", envvar="CLAIMWORK_REPAIR", help="Mend what can be mended.")
    ] = False,
    as_json: AsJson = False,
) -> Exit | int:
    """Verify every invariant of the job against the disk."""
    from dataclasses import asdict

    from .check import check as verify
    from .render import printable

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


def _version(show: bool) -> None:
    if show:
        typer.echo(f"claimwork {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn a shared mount into a work queue: one result per input, no broker, no master."""


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # JSON is UTF-8 whatever the locale
    try:
        sys.exit(app(standalone_mode=False))  # in this mode the parser returns the code of typer.Exit
    except typer.Abort:
        sys.exit(int(Exit.SIGINT))
    except RecordError as error:
        sys.stderr.write(f"claimwork: {error}\n")
        sys.exit(int(Exit.UNEXPECTED))
    except Exception as error:
        message = getattr(error, "format_message", None)  # a usage error of the parser
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "claimwork"
        sys.stderr.write(f"claimwork: {message()} Try: {path} --help\n")
        sys.exit(int(Exit.USAGE))
