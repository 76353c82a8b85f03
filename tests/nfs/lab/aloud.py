"""Programs in guests whose lines a person sees as they come, each with the name of its guest."""

from __future__ import annotations

import signal
import sys
import threading

from tests.nfs.lab.machine import Guest, Process

_LIMIT_S = 24 * 3600.0
_talking = threading.Lock()


class Teller:
    """Prints whole lines of one program, each with the name of its guest; the rest in `finish`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said = {1: "", 2: ""}

    def hear(self, stream: int, text: str) -> None:
        """Take in some text of stdout (1) or stderr (2)."""
        *lines, self._said[stream] = (self._said[stream] + text).split("\n")
        with _talking:
            for line in lines:
                print(f"{self._name} | {line}", file=sys.stderr if stream == 2 else sys.stdout, flush=True)

    def finish(self) -> None:
        """Print a line that never ended."""
        for stream, text in self._said.items():
            if text:
                self.hear(stream, "\n")


def start_aloud(guest: Guest, argv: list[str], cwd: str) -> tuple[Process, Teller]:
    """Start a program whose lines are printed."""
    teller = Teller(guest.name)
    return guest.start(*argv, cwd=cwd, hear=teller.hear), teller


def wait_aloud(started: list[tuple[Process, Teller]]) -> int:
    """Wait for programs; the worst of their exit codes, as a shell tells it. Ctrl-C ends them, and is then an exit code."""
    code = 0
    for process, teller in started:
        try:
            ended = process.wait(_LIMIT_S)
        except KeyboardInterrupt:
            for each, _ in started:
                each.signal(signal.SIGINT)
            ended = process.wait(_LIMIT_S)
        teller.finish()
        code = max(code, exit_code(ended.code))
    return code


def exit_code(code: int) -> int:
    """As a shell tells it: 128 and the signal for a program that one ended."""
    return code if code >= 0 else 128 - code
