"""Arguments and options with their environment twins; what completes them in a shell; and the groups that commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import policy

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


def words(*known: str) -> Any:
    """What completes a word to one of *known*, which are not the only ones that may be given."""
    return lambda _context, _parameter, word: [each for each in known if each.startswith(word)]


def paths(kind: str) -> Any:
    """What completes a word to a path: of a ``dir`` or a ``file``."""

    def complete(_context: click.Context, _parameter: click.Parameter, word: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(word, type=kind)]

    return complete


def _together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    return lambda function: functools.reduce(lambda made, decorate: decorate(made), reversed(decorators), function)


input_dir = argument("input_dir", "IN", "Directory of the inputs.", "INPUT", shell_complete=paths("dir"))
out = argument("out", "OUT", "Directory of the job.", "OUTPUT", shell_complete=paths("dir"))
quiet = option("--quiet", "-q", env="QUIET", is_flag=True, help="Say nothing but errors.")
log_format = option(
    "--log-format",
    env="LOG_FORMAT",
    type=click.Choice(["text", "json"]),
    default="text",
    help="A line for each event, for people or as a JSON object (docs/watching.md).",
)
interval = option(
    "--interval",
    env="INTERVAL",
    type=click.FloatRange(min=0.1),
    default=2.0,
    help="Seconds between looks at a job that is watched.",
)
output_file = option(
    "--output", "-o", env="OUTPUT_FILE", help="A file instead of stdout.", shell_complete=paths("file")
)
as_json = option("--json", "as_json", env="JSON", is_flag=True, help="Print one JSON document.")

worker_options = _together(
    option(
        "--slots",
        env="SLOTS",
        type=click.IntRange(min=1),
        help="Child processes that run the task; default: one for each core that this process or its container may use.",
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
    option(
        "--task",
        env="TASK",
        help="wordcount (built in, the default) or module:name.",
        shell_complete=words("wordcount"),
    ),
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
        shell_complete=words("strict", "replace"),
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
        "--backups/--no-backups",
        env="BACKUPS",
        default=True,
        help="An idle worker may run a copy of an input that lasts twice as long as expected elsewhere; the first result stands. "
        "Off for tasks that declare side effects.",
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
    option(
        "--claims",
        env="CLAIMS",
        help="rename or marker; default: by the filesystem of OUT.",
        shell_complete=words("rename", "marker"),
    ),
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
