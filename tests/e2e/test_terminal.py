"""`status --watch` in a real terminal, which is resized while the job runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import PROGRAM, Bench, end, wait_until
from tests.machine import skip_for

pytestmark = pytest.mark.terminal

LONG = "held-by-a-name-that-is-wider-than-what-is-left-of-a-terminal-of-eighty-columns-1"
SIZE = r"[\d.]+ [KM]?B"
RATE = rf"[\d.]+ inputs/s and {SIZE}/s over"
SINCE = r"(\d+ min|[\d.]+ s)"
HEAD = "\n".join(
    [  # a screen down to its table, and the blanks at which a narrow one may go on below
        r"RUNNING: 2 left(; done in .+)?",
        rf"job [0-9a-f]{{8}}, task 'tasks:both', generation\s1, begun\s{SINCE}\sago",
        r"inputs [━─]+ +95 %  41 of 43",
        r"bytes  [━─]+ +3 %  492 B of 12\.5 KB",
        r"40 of 43 done,\s2 running,\s1 quarantined;\s492 B of 12\.5 KB",
        rf"({RATE} 1 min(;\s{RATE} 10 min)?\n)?the last 2 inputs run for up to \d+x the\smedian\sof\s[\d.]+\sm?s",
    ]
)


class Terminal:
    """A terminal of tmux's with a shell in it."""

    def __init__(self, bench: Bench, socket: Path, columns: int) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        kept = {name: value for name, value in bench.env.items() if name not in ("COLUMNS", "LINES", "TMUX")}
        self._env = {**kept, "PS1": "$ ", "SHELL": "/bin/sh"}
        self._call("new-session", "-d", "-x", f"{columns}", "-y", "40", "-c", str(bench.root), "exec /bin/sh")

    def _call(self, *argv: str) -> str:
        done = subprocess.run(
            [*self._tmux, *argv], env=self._env, capture_output=True, encoding="utf-8", timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, line: str) -> None:
        """A line, with the key that ends it."""
        self._call("send-keys", "-l", line)
        self._call("send-keys", "Enter")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._call("send-keys", "C-c")

    def resize(self, columns: int) -> None:
        """As if somebody pulled at the window's edge."""
        self._call("resize-window", "-x", f"{columns}", "-y", "40")

    def shows(self) -> list[str]:
        """The lines that can be seen."""
        return [line.rstrip() for line in self._call("capture-pane", "-p").splitlines()]

    def is_as(self, wanted: str) -> bool:
        """Whether it has that state: on which page it is, whether its cursor is seen."""
        return self._call("display-message", "-p", "#{alternate_on} #{cursor_flag}").strip() == wanted

    def close(self) -> None:
        """End it, and all in it."""
        subprocess.run([*self._tmux, "kill-server"], env=self._env, capture_output=True, check=False)


@pytest.fixture
def terminal(bench: Bench) -> Iterator[Terminal]:
    """A terminal of 80 columns."""
    skip_for("" if shutil.which("tmux") else "no program tmux; on Debian: apt-get install tmux")
    room = Path(tempfile.mkdtemp(prefix="claimwork-tmux-"))  # the path of a socket must be short
    made = Terminal(bench, room / "tmux", 80)
    yield made
    print(*made.shows(), sep="\n")  # of a test that fails one wants to see it
    made.close()
    shutil.rmtree(room)


def is_drawn(terminal: Terminal, columns: int, out: Path) -> bool:
    """Whether it shows the job as it is held, with each number whole, and in 80 columns with each line whole."""
    lines = terminal.shows()
    head, _, rest = "\n".join(lines).partition("\n\n")
    at = re.findall(rf"^[0-9a-f]{{8}}  .* (\S+)-[12] \({SINCE}, \d+x\)$", rest, re.MULTILINE)
    return (
        re.fullmatch(HEAD.replace(r"\s", " ") if columns >= 80 else HEAD, head) is not None
        and (columns < 80 or [name == LONG[:-2] for name, _ in at] == 2 * [columns == 200])
        and ("node-1 counting_worker.1" in rest) == (columns == 200)
        and f"then: claimwork retry {out}".replace(" ", "") in "".join(rest.split())
    )


def test_watching_while_the_window_is_resized(bench: Bench, terminal: Terminal) -> None:
    """Verdict first, in 80, 200 and 60 columns; at the end of the job the terminal is as it was, with the last screen in it."""
    bench.put(LONG, LONG[:-1] + "2", text="the largest go first\n" * 286)
    bench.put("gives-up", *(f"done-{number}" for number in range(40)))
    bench.plan("--task", "tasks:both", "--patience", "20", "--no-backups")
    workers = [
        bench.worker(
            env={"CLAIMWORK_NODE": f"node-{n}", "CLAIMWORK_SERVICE": "counting_worker", "CLAIMWORK_SLOT": f"{n}"}
        )
        for n in range(1, 4)
    ]
    wait_until(lambda: (status := bench.status())["done"] == 40 and status["quarantined"] == 1, "what is not held")

    terminal.type("stty -g > before; echo what was there")
    wait_until(lambda: terminal.shows()[2:3] == ["$"], "the shell, before it is typed at again")
    terminal.type(f"{shlex.quote(PROGRAM)} status out --watch --interval 0.1; echo it ended with $?")
    for columns in (80, 200, 60, 80):
        terminal.resize(columns)
        wait_until(partial(is_drawn, terminal, columns, bench.out), f"a screen in {columns} columns")
        assert terminal.is_as("1 0")

    bench.say("go")
    assert [end(worker).code for worker in workers] == [0, 0, 0]
    wait_until(lambda: "it ended with 4" in terminal.shows(), "the end of the command")
    assert terminal.is_as("0 1")
    lines = terminal.shows()
    first = lines.index("what was there")
    assert "DONE: all inputs are settled, 1 of them quarantined" in lines[first:]
    terminal.type("stty -g > after")
    wait_until(lambda: (bench.root / "after").exists() and (bench.root / "after").read_text(), "the shell")
    assert (bench.root / "after").read_text() == (bench.root / "before").read_text()


def test_a_doctor_says_what_it_waits_for(bench: Bench, terminal: Terminal) -> None:
    """Five minutes of nothing look as if it stood still; Ctrl-C ends it, and the code is free again."""
    bench.out.mkdir()
    terminal.type(f"{shlex.quote(PROGRAM)} doctor out --pair monday")
    line = "meets another doctor that is given --pair monday, and waits 300 s for it"
    wait_until(lambda: line in " ".join(terminal.shows()), line)
    wait_until((bench.out / ".claimwork-pair-monday" / "a" / "1").exists, "the doctor to wait")

    terminal.interrupt()

    wait_until(lambda: list(bench.out.iterdir()) == [], "what it made to be gone")
