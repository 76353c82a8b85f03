"""The command line: arguments, options with their environment twins, and exit codes. What commands do is in `commands`."""

from __future__ import annotations

import functools
import importlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import __version__, policy
from .errors import ClaimworkError, Exit, RecordError, mount_fault
from .lines import complain

F = TypeVar("F", bound=Callable[..., Any])


class Size(click.ParamType[int]):
    """A number of bytes: digits, perhaps with k, M, G or T behind them, which mean powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        if isinstance(value, int):
            return value
        digits, unit = (value[:-1], value[-1]) if value[-1:].isalpha() else (value, "")
        power = " KMGT".find(unit.upper() or " ")
        if not (digits.isascii() and digits.isdigit() and power >= 0 and int(digits)):
            self.fail(f"{value!r} is no size; write a number of bytes, such as 500000, 64M or 2G", param, ctx)
        return int(digits) << 10 * power


def option(*names: str, env: str, **how: Any) -> Callable[[F], F]:
    """An option with its environment variable, ``CLAIMWORK_`` and *env*."""
    how.setdefault("show_default", how.get("default") not in (None, "", False))
    return click.option(*names, envvar=f"CLAIMWORK_{env}", show_envvar=True, **how)


def argument(name: str, metavar: str, text: str, env: str | None = None, **how: Any) -> Callable[[F], F]:
    """An argument; with *env* it may come from the environment."""
    if env is not None:
        how["envvar"] = f"CLAIMWORK_{env}"
        text += f"  [env var: CLAIMWORK_{env}]"
    return click.argument(name, metavar=metavar, help=text, **how)


def _together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    return lambda function: functools.reduce(lambda made, decorate: decorate(made), reversed(decorators), function)


input_dir = argument("input_dir", "IN", "Directory of the inputs.", "INPUT")
out = argument("out", "OUT", "Directory of the job.", "OUTPUT")
quiet = option("--quiet", "-q", env="QUIET", is_flag=True, help="Say nothing but errors.")
interval = option(
    "--interval",
    env="INTERVAL",
    type=click.FloatRange(min=0.1),
    default=2.0,
    help="Seconds between looks at a job that is watched.",
)
as_json = option("--json", "as_json", env="JSON", is_flag=True, help="Print one JSON document.")

worker_options = _together(
    option(
        "--slots",
        env="SLOTS",
        type=click.IntRange(min=1),
        help="Child processes that run the task; default: one per core.",
    ),
    option(
        "--grace",
        env="GRACE",
        type=click.FloatRange(min=0),
        default=policy.GRACE_S,
        help="Seconds that inputs in hand may take to end after SIGTERM.",
    ),
    option(
        "--fault-after",
        env="FAULT_AFTER",
        type=click.IntRange(min=0),
        default=policy.FAULT_AFTER,
        help="After so many failed inputs in a row a worker must succeed at one that succeeded elsewhere, or ends with "
        "code 12 and charges none of them; 0: never.",
    ),
)

job_options = _together(
    option("--task", env="TASK", help="wordcount (built in, the default) or module:name."),
    option(
        "--command",
        env="COMMAND",
        help="A program instead of a task: 'tool {input} -o {output}'. Never a shell; without {output}, stdout is the "
        "result.",
    ),
    option(
        "--errors",
        env="ERRORS",
        default="strict",
        help="wordcount: invalid UTF-8 is strict (quarantine) or replace.",
    ),
    option("--suffix", env="SUFFIX", default=".json", help="How the names of results end."),
    option(
        "--include",
        env="INCLUDE",
        multiple=True,
        help="Only inputs that match; repeatable. A glob without / means the name.",
    ),
    option("--exclude", env="EXCLUDE", multiple=True, help="No inputs or directories that match; repeatable."),
    option("--recurse/--no-recurse", env="RECURSE", default=True, help="Go into directories."),
    option("--hidden/--no-hidden", env="HIDDEN", default=False, help="Take names that begin with a dot as well."),
    option("--timeout", env="TIMEOUT", type=float, help="Seconds that one attempt at an input may take, or at a part."),
    option(
        "--split",
        env="SPLIT",
        type=Size(),
        help="Larger inputs are processed in parts of this size (64M, 1G), 10000 at most, by any number of workers, and get one "
        "result each. For wordcount and tasks that declare a merge.",
    ),
    option(
        "--max-attempts",
        env="MAX_ATTEMPTS",
        type=click.IntRange(1, 1000),
        default=policy.MAX_ATTEMPTS,
        help="Attempts before an input is quarantined.",
    ),
    option(
        "--backoff",
        env="BACKOFF",
        type=click.FloatRange(min=0),
        default=policy.BACKOFF_S,
        help="Seconds before the second attempt; doubled after each.",
    ),
    option("--claims", env="CLAIMS", help="rename or marker; default: by the filesystem of OUT."),
    option(
        "--patience",
        env="PATIENCE",
        type=click.FloatRange(min=1),
        default=policy.PATIENCE_S,
        help="T: seconds a silent worker of another host is waited for.",
    ),
    option("--fail-fast", env="FAIL_FAST", is_flag=True, help="Same as --max-quarantined 0."),
    option(
        "--max-quarantined",
        env="MAX_QUARANTINED",
        type=click.IntRange(min=0),
        help="Stop when more inputs than this are quarantined.",
    ),
)


class _InOrder(click.Group):
    """Commands in the order in which they stand here, which is that of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _print_completion(context: click.Context, _option: click.Parameter, shell: str | None) -> None:
    if shell is None:
        return
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(app, {}, "claimwork", "_CLAIMWORK_COMPLETE").source())
    context.exit()


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
    help='Print what makes a shell complete commands: eval "$(claimwork --completion bash)".',
)
@click.version_option(__version__, message="%(prog)s %(version)s", help="Print the version and exit.")
def app() -> None:
    """Turn a shared mount into a work queue: one result per input, no broker, no master."""


def done_in(module: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let the function of the same name in commands/*module* do it, which is imported only then.

    What it returns or raises becomes an exit code, and every deliberate error one line.
    """

    def decorate(declared: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(declared)
        def command(**given: Any) -> None:
            try:
                carry_out = getattr(importlib.import_module(f".commands.{module}", __package__), declared.__name__)
                code = int(carry_out(**given))
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
            raise click.exceptions.Exit(code)

        return command

    return decorate


@app.command()
@input_dir
@out
@worker_options
@job_options
@quiet
@done_in("work")
def run() -> None:
    """Plan IN, process it with local workers, reduce, print the summary. Run it again to add new inputs."""


@app.command()
@input_dir
@out
@job_options
@quiet
@done_in("work")
def plan() -> None:
    """Create the job, or add inputs that are new since; also while workers run."""


@app.command()
@argument("input_dir", "IN", "Directory of the inputs.", "INPUT", required=False)
@argument("out", "OUT", "Directory of the job.", "OUTPUT", required=False)
@worker_options
@option("--join", env="JOIN", is_flag=True, help="Never create a job: wait for one.")
@option(
    "--join-timeout", env="JOIN_TIMEOUT", type=click.FloatRange(min=0), default=60.0, help="Seconds that --join waits."
)
@option("--stay", env="STAY", is_flag=True, help="Keep watching for new inputs.")
@job_options
@quiet
@done_in("work")
def worker() -> None:
    """Join a job (create it if there is none) and work until nothing is left."""


@app.command()
@out
@option("--wait", env="WAIT", is_flag=True, help="Wait until every input is settled.")
@quiet
@done_in("work")
def reduce() -> None:
    """Be the finalizer: reduce when complete. Any number may run; one summary comes out."""


@app.command()
@out
@option("--watch", "-w", env="WATCH", is_flag=True, help="Keep showing it.")
@interval
@as_json
@done_in("look")
def status() -> None:
    """Show verdict, progress, workers and trouble. The exit code tells the verdict as well."""


@app.command()
@out
@argument("path", "INPUT", "Path of the input below IN.")
@as_json
@done_in("look")
def why() -> None:
    """Tell the life of one input: pending, held by whom, backing off, quarantined after which errors, done."""


@app.command()
@out
@argument("patterns", "PATTERN", "Paths or globs; default: all.", nargs=-1)
@option("--dry-run", "-n", env="DRY_RUN", is_flag=True, help="Only tell.")
@done_in("look")
def retry() -> None:
    """Bring quarantined inputs back to ready, with all their attempts before them."""


@app.command()
@out
@option("--format", "-f", "form", env="FORMAT", default="json", help="json, jsonl or csv.")
@option("--output", "-o", env="OUTPUT_FILE", help="A file instead of stdout.")
@done_in("look")
def export() -> None:
    """Write all results as one document: json (input → value), jsonl or csv."""


@app.command()
@out
@option("--output", "-o", env="OUTPUT_FILE", help="A file instead of stdout.")
@done_in("show")
def report() -> None:
    """Write one HTML page of a job during or after it: what ran where and when, how balanced, stragglers, failures, versions.

    The page is complete in itself and asks no other host for anything. OUT may be a copy of the job's directory.
    """


@app.command()
@out
@option("--host", env="HOST", default="127.0.0.1", help="Address to listen on; 0.0.0.0 or :: for all of this machine.")
@option(
    "--port", env="PORT", type=click.IntRange(0, 65535), default=8765, help="Port to listen on; 0: any that is free."
)
@option(
    "--token",
    env="TOKEN",
    default="",
    help="Serve only who knows it: open /?token=... once, or send it as Authorization: Bearer. "
    "The variable does not show in lists of processes.",
)
@interval
@done_in("show")
def dashboard() -> None:
    """Serve a live page of a job, /metrics for Prometheus, /status.json and /healthz. Reads only.

    Needs claimwork[dashboard].
    """


@app.command()
@argument("directory", "DIR", "A directory on the mount.", "OUTPUT")
@option(
    "--pair",
    env="PAIR",
    metavar="CODE",
    default="",
    help="Any word; run doctor with the same one on another host or in another container, to examine both together.",
)
@option(
    "--pair-wait",
    env="PAIR_WAIT",
    type=click.FloatRange(min=1),
    default=300.0,
    help="Seconds that --pair waits for the other side, at each step.",
)
@as_json
@done_in("look")
def doctor() -> None:
    """Find out by trying what a mount can be relied on for; the verdict in words."""


@app.command()
@done_in("look")
def healthy() -> None:
    """Tell whether the worker of this container gets through to its mount: the image's health check. Linux only."""


@app.command()
@out
@option("--repair", env="REPAIR", is_flag=True, help="Mend what can be mended.")
@as_json
@done_in("look")
def check() -> None:
    """Verify every invariant of the job against the disk."""


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # JSON is UTF-8 whatever the locale
    try:
        sys.exit(app(standalone_mode=False))  # in this mode the parser returns the code of click's Exit
    except click.Abort:
        sys.exit(int(Exit.SIGINT))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(int(Exit.USAGE))
    except RecordError as error:
        sys.stderr.write(f"claimwork: {error}\n")
        sys.exit(int(Exit.UNEXPECTED))
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "claimwork"
        sys.stderr.write(f"claimwork: {error.format_message()} Try: {path} --help\n")
        sys.exit(int(Exit.USAGE))
