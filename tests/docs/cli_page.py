"""Makes docs/cli.md from the program: every command's help, the environment twins, the exit codes. `scripts/docs` runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from claimwork.cli import app
from claimwork.errors import Exit

_COLUMNS = 78  # what the parser makes of a terminal that has 80

_HEAD = """\
# The command line

Made by `scripts/docs` from the program; do not edit.

- A flag wins over its environment variable, and that over the default. IN and OUT can come from the environment as well.
- What you asked for goes to stdout, talk goes to stderr. `NO_COLOR` is respected.
- An option that takes several values is repeated; in its variable the values stand with spaces between them.
- A flag that is on or off takes `1` or `0` in its variable.
- The options that describe a job count when it is created. A worker that joins a job takes them from the job.
"""


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a command."""

    command: str
    name: str
    variable: str | None
    is_option: bool
    help: str


def command_names() -> list[str]:
    """All commands, in the order of the help."""
    return list(_group().commands)


def parameters() -> Iterator[Parameter]:
    """Every argument and option of every command."""
    for command, of in _group().commands.items():
        for each in of.params:
            is_option = each.param_type_name == "option"
            name = max(each.opts, key=len) if is_option else each.metavar.strip("[].")
            yield Parameter(command, name, each.envvar, is_option, each.help or "")


def page() -> str:
    """The whole page."""
    names = command_names()
    parts = [_HEAD, "## claimwork\n", _block(help_of(""))]
    for name in names:
        parts += [f"## claimwork {name}\n", _block(help_of(name))]
    parts += [COMPLETION, "## Environment variables\n", _variables(), "## Exit codes\n", exit_table(), WORKERS]
    return "\n".join(parts)


WORKERS = """A `worker` exits with 0 when nothing is left, also when some inputs are quarantined: a supervisor that starts it
again after any other code, as Swarm does, would do so for ever. `run`, `reduce`, `status` and `export` tell 4 then.
"""

COMPLETION = r"""## Shell completion

Commands, options, the words that an option knows, directories and files are completed by the Tab key after one of these,
which belongs in the file that the shell reads when it starts:

| shell | file | line |
| --- | --- | --- |
| bash, 4.4 or newer | `~/.bashrc` | `eval "$(claimwork --completion bash)"` |
| zsh, after `compinit` | `~/.zshrc` | `eval "$(claimwork --completion zsh)"` |
| fish | `~/.config/fish/config.fish` | `claimwork --completion fish \| source` |
"""


def help_of(command: str) -> str:
    """What ``claimwork COMMAND --help`` prints on a terminal of 80 columns; of the program itself for ""."""
    found = _group()
    context = found.make_context("claimwork", [], resilient_parsing=True, terminal_width=_COLUMNS)
    if command:
        found = found.commands[command]
        context = found.make_context(command, [], parent=context, resilient_parsing=True, terminal_width=_COLUMNS)
    return "\n".join(line.rstrip() for line in found.get_help(context).strip().splitlines())


def exit_table() -> str:
    """One row for each exit code."""
    rows = [f"| {code.value} | {code.meaning} |" for code in sorted(Exit)]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows]) + "\n"


def _group() -> Any:
    return app


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _variables() -> str:
    found: dict[str, tuple[set[str], list[str]]] = {}
    for each in parameters():
        if each.variable is not None:
            names, commands = found.setdefault(each.variable, (set(), []))
            names.add(each.name)
            commands.append(each.command)
    rows = [
        f"| `{variable}` | {', '.join(f'`{name}`' for name in sorted(names))} | {', '.join(dict.fromkeys(commands))} |"
        for variable, (names, commands) in sorted(found.items())
    ]
    return "\n".join(["| variable | stands for | of |", "| --- | --- | --- |", *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
