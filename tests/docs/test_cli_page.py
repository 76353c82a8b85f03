"""docs/cli.md says what the program says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from claimwork.cli import app
from claimwork.errors import Exit
from claimwork.examples import examples
from tests.docs.cli_page import command_names, help_of, page, parameters

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_what_the_program_says() -> None:
    """When this fails, run scripts/docs and read what changed: users will."""
    assert page() == PAGE.read_text(encoding="utf-8")


def test_the_page_is_made_from_the_help_that_users_get() -> None:
    """It is made without starting a process for each command, so one is compared with the real thing."""
    argv = [sys.executable, "-c", "from claimwork.cli import main; main()", "run", "--help"]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)

    printed = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
    assert printed.replace("Usage: -c ", "Usage: claimwork ") == help_of("run")


def test_every_exit_code_is_in_the_table() -> None:
    """The table is the enum: a code that a command can return is a code that a script can look up."""
    section = PAGE.read_text(encoding="utf-8").split("## Exit codes")[1]
    rows = [line.split("|")[1:3] for line in section.splitlines()[4:] if line.startswith("|")]

    assert {(int(code), meaning.strip()) for code, meaning in rows} == {(code.value, code.meaning) for code in Exit}


def test_the_help_of_the_program_has_them_too() -> None:
    """Whoever writes a script around it has the help at hand, and not the page."""
    section = help_of("").split("\nExit codes:\n")[1].split("\n\n")[0]

    found = dict(re.findall(r"^  (\d+) +(.*(?:\n {5,}.*)*)", section, re.MULTILINE))
    assert {int(code): " ".join(text.split()) for code, text in found.items()} == {
        code.value: code.meaning for code in Exit
    }


def test_every_option_has_one_environment_twin() -> None:
    """Containers are configured by their environment; one variable never means two options."""
    options = [each for each in parameters() if each.is_option]
    twins = {(each.name, each.variable) for each in options}

    assert [each for each in options if each.variable is None] == []
    assert all(str(variable).startswith("CLAIMWORK_") for _, variable in twins)
    assert len(twins) == len({name for name, _ in twins}) == len({variable for _, variable in twins})


@pytest.mark.parametrize("command", command_names())
def test_every_command_says_what_it_does(command: str) -> None:
    """A command, an argument or an option without a word of help is a riddle."""
    text = help_of(command)
    silent = [each.name for each in parameters() if each.command == command and not each.help]

    assert silent == []
    assert len(text.splitlines()[2].strip()) > 20


@pytest.mark.parametrize("command", ["", *command_names()])
def test_every_help_ends_with_two_examples(command: str) -> None:
    """Each on a line of its own, so that it can be copied from the help and from the page."""
    shown = help_of(command).split("\nExamples:\n")[1].splitlines()
    wanted = [line for purpose, typed in examples(command) for line in (f"  # {purpose}", f"  {typed}")]

    assert shown == wanted
    assert len(wanted) == 4
    assert all(len(line) < 80 for line in wanted)


EXAMPLES = [(command, line) for command in ["", *command_names()] for _, line in examples(command)]


@pytest.mark.parametrize(("command", "line"), EXAMPLES)
def test_every_example_is_a_command_that_there_is(command: str, line: str) -> None:
    """The parser takes its arguments and options; what stands before and behind the program is the shell's."""
    typed = shlex.split(line.partition(" | ")[0])
    name, *rest = typed[typed.index("claimwork") + 1 :]
    context = app.make_context("claimwork", [name, *rest])
    found = app.commands[name].make_context(name, rest, parent=context)

    assert command in ("", name)
    assert found.command.name == name


def test_completion_is_described_for_every_shell() -> None:
    """The shells of the page are those of the option."""
    section = PAGE.read_text(encoding="utf-8").split("## Shell completion")[1].split("\n## ")[0]

    (option,) = (each for each in app.params if each.name == "completion")
    assert set(re.findall(r"--completion (\w+)", section)) == set(option.type.choices)  # type: ignore[attr-defined]
