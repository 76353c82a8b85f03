"""A guest as the host sees it: a kernel of its own that boots in a second or two, runs programs, and can lose its power.

A guest is a process of user-mode-linux with some helpers in one process group. Its disk is the host's root directory,
read-only; what it writes stays in its memory. Whatever ends, it leaves nothing on the host.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNEL = "linux.uml"
LIMIT_S = 180.0  # nothing takes a third of it, but the machine may be busy
_HERE = Path(__file__).resolve().parent

Hear = Callable[[int, str], None]


class LabError(Exception):
    """The lab, or a program that a test relies on, did not do what it should."""


@dataclass(frozen=True)
class Ended:
    """What a program said and how it ended: its exit code, or minus the signal."""

    code: int
    stdout: str
    stderr: str


class Process:
    """A program in a guest. What it says is collected, and passed to *hear* with 1 or 2 for the stream."""

    def __init__(self, guest: Guest, argv: Sequence[str], hear: Hear | None) -> None:
        self.argv = list(argv)
        self._guest = guest
        self._hear = hear
        self._said: dict[int, list[bytes]] = {1: [], 2: []}
        self._changed = threading.Condition()
        self._pid: int | None = None
        self._code: int | None = None
        self._lost = False

    @property
    def stdout(self) -> str:
        """What it has said so far."""
        return b"".join(self._said[1]).decode("utf-8", "surrogateescape")

    @property
    def stderr(self) -> str:
        """What it has complained of so far."""
        return b"".join(self._said[2]).decode("utf-8", "surrogateescape")

    @property
    def pid(self) -> int:
        """Its process id in its guest."""
        self._wait_for(lambda: self._pid is not None, LIMIT_S)
        assert self._pid is not None
        return self._pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs, and for ever when its guest was lost."""
        return self._code

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Wait for its end. Raises LabError when its guest is lost or the time is up; it then runs on."""
        self._wait_for(lambda: self._code is not None, limit_s)
        assert self._code is not None
        return Ended(self._code, self.stdout, self.stderr)

    def wait_for_words(self, words: str, limit_s: float = LIMIT_S) -> None:
        """Wait until *words* stand in what it has said, on either stream."""
        self._wait_for(lambda: words in self.stdout or words in self.stderr or self._code is not None, limit_s)
        if words not in self.stdout and words not in self.stderr:
            raise LabError(f"{self} ended with {self._code} and never said {words!r}")

    def signal(self, number: int) -> None:
        """Send a signal to it and to all that it has started. A process that waits for a server dies when that answers."""
        pid = self.pid
        if self._code is None:
            self._guest.send({"signal": int(number), "pid": pid})

    def _wait_for(self, condition: Callable[[], bool], limit_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._lost or condition(), limit_s):
                raise LabError(f"{self} goes on after {limit_s:g} s; {self._words()}")
        if not condition():
            raise LabError(f"the guest of {self} was lost; {self._words()}; its console:\n{self._guest.console_tail()}")

    def _words(self) -> str:
        return f"stdout: {self.stdout[-2000:]!r}, stderr: {self.stderr[-4000:]!r}"

    def __str__(self) -> str:
        return f"{' '.join(self.argv)!r} on {self._guest.name}"

    # -- called by the guest's reader ---------------------------------------------------------------------------------

    def told(self, answer: Mapping[str, Any]) -> None:
        """Take in one answer of the agent."""
        with self._changed:
            if "pid" in answer:
                self._pid = answer["pid"]
            elif "code" in answer:
                self._code = answer["code"]
            else:
                self._said[answer["stream"]].append(answer["text"].encode("latin-1"))
            self._changed.notify_all()
        if "text" in answer and self._hear is not None:
            self._hear(answer["stream"], answer["text"].encode("latin-1").decode("utf-8", "replace"))

    def lost(self) -> None:
        """The guest is gone."""
        with self._changed:
            self._lost = True
            self._changed.notify_all()


class Guest:
    """One machine. It boots at once, in the background; *directory* is for its console, and is the caller's to remove."""

    def __init__(self, name: str, cables: Sequence[socket.socket], directory: Path, memory_mb: int) -> None:
        self.name = name
        self._processes: dict[int, Process] = {}
        self._count = 0
        self._sending = threading.Lock()
        self._ready = threading.Event()
        self._gone = threading.Event()
        self._console = directory / f"{name}.console"
        self._line, theirs = socket.socketpair()
        cards = [
            f"vec{nth}:transport=fd,fd={end.fileno()},mac=02:00:00:00:{nth:02x}:{sum(name.encode()) % 256:02x}"
            for nth, end in enumerate(cables)
        ]
        argv = [
            *(sys.executable, "-I", "-S", str(_HERE / "kernel.py"), KERNEL),
            f"mem={memory_mb}M",
            *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"),
            *(f"uml_dir={directory}", f"umid={name}"),
            *("con=null", "con0=null,fd:1", "ssl=null", f"ssl0=fd:{theirs.fileno()}"),
            *cards,
            *(f"init={sys.executable}", "--", str(_HERE / "guest.py")),
        ]
        with self._console.open("wb") as console, theirs:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno(), *(end.fileno() for end in cables)],
                start_new_session=True,  # its helpers outlive it: only the group can be killed
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it has power, and has not ended by itself."""
        return not self._gone.is_set()

    def wait_until_ready(self, limit_s: float = LIMIT_S) -> None:
        """Wait for the end of its boot."""
        until = time.monotonic() + limit_s
        while not self._ready.wait(0.05):
            if self._gone.is_set() or time.monotonic() > until:
                raise LabError(f"{self.name} does not boot; its console:\n{self.console_tail()}")

    def console_tail(self) -> str:
        """What its kernel said last."""
        try:
            return self._console.read_text(errors="replace")[-4000:]
        except FileNotFoundError:
            return "gone with the lab"

    def start(
        self, *argv: str, cwd: str = "/", env: Mapping[str, str] | None = None, hear: Hear | None = None
    ) -> Process:
        """Start a program in a process group of its own; with ``@name`` first, a function of guest.py."""
        process = Process(self, argv, hear)
        with self._sending:
            self._count += 1
            number = self._count
            self._processes[number] = process
        self.send({"start": number, "argv": argv, "cwd": cwd, "env": dict(env or {})})
        return process

    def call(self, *argv: str, cwd: str = "/", env: Mapping[str, str] | None = None, limit_s: float = LIMIT_S) -> Ended:
        """Run a program to its end, whatever that is."""
        return self.start(*argv, cwd=cwd, env=env).wait(limit_s)

    def run(self, *argv: str, cwd: str = "/", env: Mapping[str, str] | None = None, limit_s: float = LIMIT_S) -> str:
        """Run a program that must succeed; what it said."""
        process = self.start(*argv, cwd=cwd, env=env)
        ended = process.wait(limit_s)
        if ended.code:
            raise LabError(f"{process} ended with {ended.code}: {ended.stderr[-4000:]}{ended.stdout[-2000:]}")
        return ended.stdout

    def shell(self, script: str, limit_s: float = LIMIT_S) -> str:
        """Run a script of /bin/sh that ends at its first error, which is an error here."""
        return self.run("sh", "-ec", script, limit_s=limit_s)

    def end_programs(self) -> None:
        """Kill all that `start` started. Those that wait for a server die when it answers."""
        for process in list(self._processes.values()):
            process.signal(signal.SIGKILL)
            process.wait()

    def send(self, request: Mapping[str, Any]) -> None:
        """Write one request to the agent."""
        try:
            with self._sending:
                self._line.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            self._lose()

    def kill(self) -> None:
        """Power loss. On return no process of it runs, and nothing that it had under way goes on."""
        until = time.monotonic() + LIMIT_S
        while _runs_in_group(self._process.pid):
            assert time.monotonic() < until, f"{self.name} outlives its power"
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                break
            time.sleep(0.005)
        self._process.wait()
        self._lose()
        self._line.close()

    def _read(self) -> None:
        heard = b""
        while True:
            try:
                data = self._line.recv(1 << 16)
            except OSError:
                break
            if not data:
                break
            *lines, heard = (heard + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if "ready" in answer:
                    self._ready.set()
                    continue
                process = self._processes[answer["of"]]
                if "code" in answer:
                    del self._processes[answer["of"]]
                process.told(answer)
        self._lose()

    def _lose(self) -> None:
        self._gone.set()
        for process in list(self._processes.values()):
            process.lost()


def _runs_in_group(group: int) -> bool:
    """Whether a process group has more than dead members: its helpers become the host's, which may bury them late."""
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = each.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(found) == group and state not in "ZX":
            return True
    return False
