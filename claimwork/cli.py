"""The command line: commands, their arguments and options, and exit codes. What commands do is in `commands`."""

from __future__ import annotations

import functools
import importlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from . import __version__
from .errors import ClaimworkError, Exit, RecordError, mount_fault
from .examples import examples
from .lines import complain
from .options import (
    argument,
    as_json,
    input_dir,
    interval,
    job_options,
    log_format,
    option,
    out,
    output_file,
    paths,
    quiet,
    words,
    worker_options,
)


def _write_examples(formatter: click.HelpFormatter, command: str) -> None:
    """At the end of a help, and not wrapped: a line may be copied."""
    with formatter.section("Examples"):
        for purpose, line in examples(command):
            formatter.write(f"  # {purpose}\n  {line}\n")


class _Command(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(formatter, self.name or "")


class _InOrder(click.Group):
    """Commands in the order in which they stand here, which is that of use."""

    command_class = _Command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in sorted(Exit)])
        _write_examples(formatter, "")

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
                code = int(error.exit_code)
                complain(str(error), given.get("log_format", "text"), code)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone; nothing more to say to it
                code = 0
            except KeyboardInterrupt:
                code = int(Exit.SIGINT)
            except OSError as error:
                code = int(Exit.WORKER_FAULT)
                complain(str(mount_fault(error, str(error.filename or "OUT"))), given.get("log_format", "text"), code)
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
@option(
    "--expect-inputs",
    "expects",
    env="EXPECT_INPUTS",
    is_flag=True,
    help="End with code 12, and plan nothing, when IN holds no inputs: the wrong directory may be mounted there.",
)
@job_options
@log_format
@quiet
@done_in("work")
def plan() -> None:
    """Create the job, or add inputs that are new since; also while workers run."""


@app.command()
@argument("input_dir", "IN", "Directory of the inputs.", "INPUT", required=False, shell_complete=paths("dir"))
@argument("out", "OUT", "Directory of the job.", "OUTPUT", required=False, shell_complete=paths("dir"))
@worker_options
@option("--join", env="JOIN", is_flag=True, help="Never create a job: wait for one.")
@option(
    "--join-timeout", env="JOIN_TIMEOUT", type=click.FloatRange(min=0), default=60.0, help="Seconds that --join waits."
)
@option("--stay", env="STAY", is_flag=True, help="Keep watching for new inputs.")
@job_options
@log_format
@option("--verbose", "-v", env="VERBOSE", is_flag=True, help="Say a line for each input that is done, too.")
@quiet
@done_in("work")
def worker() -> None:
    """Join a job (create it if there is none) and work until nothing is left."""


@app.command()
@out
@option("--wait", env="WAIT", is_flag=True, help="Wait until every input is settled.")
@log_format
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
@option(
    "--format",
    "-f",
    "form",
    env="FORMAT",
    default="json",
    help="json, jsonl or csv.",
    shell_complete=words("json", "jsonl", "csv"),
)
@output_file
@done_in("look")
def export() -> None:
    """Write all results as one document: json (input → value), jsonl or csv."""


@app.command()
@out
@output_file
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
@option("--wait", env="WAIT", is_flag=True, help="Wait for the job to be created, for a minute.")
@interval
@done_in("show")
def dashboard() -> None:
    """Serve a live page of a job, /metrics for Prometheus, /status.json and /healthz. Reads only.

    Needs claimwork[dashboard].
    """


@app.command()
@argument("directory", "DIR", "A directory on the mount.", "OUTPUT", shell_complete=paths("dir"))
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


def _open_streams() -> None:
    """Where a standard stream is closed, the next file would get its number, and talk would be written into that file."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def main() -> None:
    """Entry point of the console script."""
    _open_streams()
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
