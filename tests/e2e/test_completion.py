"""The Tab key: what the line of docs/cli.md makes a real bash offer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import PROGRAM, Bench

# Completes the last word as bash would after a Tab, and prints what is offered and how else it completes.
TAB = """
eval "$(claimwork --completion bash)"
compopt() { echo "compopt $2"; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$(complete -p claimwork | sed 's/.* -F //') || exit
printf '%s\\n' "${COMPREPLY[@]}"
"""


def tab(bench: Bench, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    path = f"{Path(PROGRAM).parent}:{bench.env.get('PATH', '')}"
    argv = ["bash", "-c", TAB, "bash", *words]
    done = subprocess.run(argv, env={**bench.env, "PATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["re"], ["reduce", "retry", "report"]),
        (["status", "--"], ["--watch", "--interval", "--json", "--help"]),
        (["plan", "in", "out", "--claims", ""], ["rename", "marker"]),
        (["worker", "in", "out", "--log-format", "j"], ["json"]),
        (["export", "out", "--format", "js"], ["json", "jsonl"]),
        (["run", "in", "out", "--task", "w"], ["wordcount"]),
        (["--completion", ""], ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_words(bench: Bench, words: list[str], offered: list[str]) -> None:
    """Commands, options, and the words that an option knows."""
    assert tab(bench, "claimwork", *words) == offered


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (["run", "da"], "dirnames"),
        (["run", "data", "ou"], "dirnames"),
        (["worker", ""], "dirnames"),
        (["doctor", "/mn"], "dirnames"),
        (["report", "out", "-o", "re"], "default"),
    ],
    ids=str,
)
def test_paths(bench: Bench, words: list[str], how: str) -> None:
    """Directories for IN, OUT and DIR, files for -o: the shell completes them itself."""
    assert tab(bench, "claimwork", *words) == ["compopt", how]


@pytest.mark.parametrize(("shell", "at"), [("zsh", "1"), ("fish", "st")])
def test_other_shells_get_a_script_of_their_own(bench: Bench, shell: str, at: str) -> None:
    """Which asks the program in its own way: zsh by the number of the word, fish by the word."""
    script = bench.ok("--completion", shell).stdout

    assert f"_CLAIMWORK_COMPLETE={shell}_complete" in script
    asked = bench.ok(env={"_CLAIMWORK_COMPLETE": f"{shell}_complete", "COMP_WORDS": "claimwork st", "COMP_CWORD": at})
    assert "status" in asked.stdout
