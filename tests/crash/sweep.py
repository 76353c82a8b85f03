"""Real processes on a real filesystem, struck by strace at a chosen system call.

A clean run tells which calls change something below OUT. Then one run for each of them: the process is killed just before
it; or a child stands still just after it, and dies with its worker; or the call is answered with an error; or everybody loses
the disk just after it (power_cut.py). Afterwards a fresh worker must complete the job, `claimwork check` must find nothing,
and summary.json and all results must be those of an undisturbed run, byte for byte.

strace counts the calls of each name in each process. So that exactly one process is struck, the worker and its first child
both wait at their birth until strace is attached to the one that is meant; whoever comes later runs undisturbed.

Processes are forked from an interpreter that has imported everything (`python sweep.py`): no start-up calls to count.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import claimwork
from claimwork.check import check
from claimwork.errors import Exit
from claimwork.fs import PosixFs
from claimwork.layout import Layout
from claimwork.testing import ManualClock

CALLS = (
    *("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("open", "openat", "write", "pwrite64", "fsync", "fdatasync", "syncfs", "ftruncate", "fchmod"),
)
ERRORS = ("EIO", "ENOSPC", "ESTALE", "EINTR")
FAULTS = ("KILL", "KILL ALL", *ERRORS)
POWER_FAULTS = ("POWER", "POWER LOG")  # see power_cut.py
COMMANDS = ("plan", "worker", "reduce")
ENDS = (*(code for code in Exit if code != Exit.UNEXPECTED), -signal.SIGKILL)  # how a command that was struck may end
LIMIT_S = 60.0
_INJECTED = {"KILL": "signal=KILL"} | dict.fromkeys(("KILL ALL", *POWER_FAULTS), "signal=STOP")  # the others are errors
_CALL = re.compile(r"^(\d+) +([a-z0-9]+)\((.*)$")


@dataclass(frozen=True)
class Point:
    """One fault at the n-th call of a name, in the worker or in its first child."""

    fault: str
    call: str
    number: int
    in_child: bool

    def __str__(self) -> str:
        return f"{self.fault} at {self.call} number {self.number} of {'the child' if self.in_child else 'the worker'}"


@dataclass
class Tally:
    """What a sweep has seen. ``struck``: by fault, where the call that was meant came again and was hit."""

    calls: int = 0
    tried: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    strays: int = 0
    violations: list[str] = field(default_factory=list)
    began_at: float = field(default_factory=time.monotonic)

    def row(self, command: str, claims: str, filesystem: str) -> list[str | int]:
        """What `table` shows of it."""
        struck = [self.struck[fault] for fault in (*FAULTS, *POWER_FAULTS)]
        missed = self.tried - self.struck.total()
        minutes = f"{(time.monotonic() - self.began_at) / 60:.1f}"
        return [command, claims, filesystem, self.calls, *struck, missed, self.strays, len(self.violations), minutes]


HEADINGS = ("command", "claims", "on", "calls", *FAULTS, *POWER_FAULTS, "missed", "stray stages", "violations", "min")


class Zygote:
    """Forks commands from a warm interpreter; each waits for `go`."""

    def __init__(self, log: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CLAIMWORK_")}
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**environment, "LC_ALL": "C.UTF-8"},
            )

    def fork(self, *args: str) -> int:
        """Start a command; its process id. It and its first child run from `open` on."""
        return int(self._ask(["fork", *args]))

    def open(self, pid: int, *, child: bool) -> None:
        """Let a command run, or its child, and all that come after it."""
        self._ask(["open", str(pid), "child" if child else "worker"])

    def wait(self, pid: int) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        return int(self._ask(["wait", str(pid)]))

    def run(self, *args: str) -> int:
        """A command from beginning to end."""
        pid = self.fork(*args)
        self.open(pid, child=True)
        self.open(pid, child=False)
        return self.wait(pid)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(LIMIT_S)

    def _ask(self, words: list[str]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def serve() -> None:
    """The zygote's side: import everything once, then fork for each line of stdin."""
    import filelock  # noqa: F401 - the product imports it when it first locks

    for module in pkgutil.walk_packages(claimwork.__path__, "claimwork."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    main = importlib.import_module("claimwork.cli").main
    gates: dict[tuple[str, str], int] = {}
    for line in sys.stdin:
        verb, *args = json.loads(line)
        if verb == "fork":
            (worker_gate, worker_opener), (child_gate, child_opener) = os.pipe(), os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(worker_opener)
                os.close(child_opener)
                _be_command(main, args, worker_gate, child_gate)
            os.close(worker_gate)
            os.close(child_gate)
            gates[str(pid), "worker"], gates[str(pid), "child"] = worker_opener, child_opener
            answer = pid
        elif verb == "open":
            os.close(gates.pop((args[0], args[1])))
            answer = 0
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(int(args[0]), 0)[1])
            for each in ("worker", "child"):
                if (args[0], each) in gates:
                    os.close(gates.pop((args[0], each)))
        print(answer, flush=True)


def _be_command(main: Callable[[], None], args: list[str], worker_gate: int, child_gate: int) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    os.read(worker_gate, 1)
    os.close(worker_gate)
    os.register_at_fork(after_in_child=lambda: os.read(child_gate, 1))  # nothing more to read once it is open
    sys.argv = ["claimwork", *args]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        os._exit(code)


class Sweep:
    """One command on one filesystem. *root* gets IN, OUT and what OUT is before each run."""

    more_options: tuple[str, ...] = ()  # of `plan`

    def __init__(self, zygote: Zygote, root: Path, command: str, claims: str) -> None:
        self.zygote = zygote
        self.root = root
        self.out = self.place_out()
        self.before = root / "before"
        self.inputs = root / "in"
        self.tally = Tally()
        self.command = command
        self._options = ["--quiet", "--backoff", "0", "--claims", claims, *self.more_options]
        self.inputs.mkdir()
        for name in ("one", "two", "three"):
            (self.inputs / name).write_text(f"some words in file {name}\n" * len(name))
        self._prepare()

    def place_out(self) -> Path:
        """Where OUT is."""
        return self.root / "out"

    @property
    def _args(self) -> list[str]:
        match self.command:
            case "plan":
                return ["plan", str(self.inputs), str(self.out), *self._options]
            case "worker":
                return ["worker", str(self.inputs), str(self.out), "--slots", "1", "--quiet"]
            case _:
                return ["reduce", str(self.out), "--quiet"]

    def _prepare(self) -> None:
        """Learn what an undisturbed run makes, and what the command finds before it runs."""
        plan = ["plan", str(self.inputs), str(self.out), *self._options]
        self._succeed(*plan)
        if self.command == "worker":
            shutil.move(self.out, self.before)
            shutil.copytree(self.before, self.out)
        self._complete()
        self.published = self._published()
        if self.command == "plan":
            self.before.mkdir()
        if self.command == "reduce":
            (self.out / "summary.json").unlink()
            for each in (self.out / ".claimwork" / "summary").iterdir():
                each.unlink()
            shutil.move(self.out, self.before)

    def _succeed(self, *args: str) -> None:
        code = self.zygote.run(*args)
        if code != 0:
            raise AssertionError(f"exit code {code} of {args}")

    def _complete(self) -> None:
        self._succeed("worker", str(self.inputs), str(self.out), "--slots", "1", *self._options)

    def _reset(self) -> None:
        """OUT is as the command finds it."""
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.before, self.out)

    def points(self, faults: tuple[str, ...] = FAULTS) -> list[Point]:
        """Every call of a clean run that changes something below OUT, with every fault."""
        self._reset()
        pid = self.zygote.fork(*self._args)
        self.zygote.open(pid, child=True)
        with self._traced(pid, ["-f", "-e", f"trace={','.join(CALLS)}"]) as log:
            self.zygote.open(pid, child=False)
            code = self.zygote.wait(pid)
        text = log.read_text(errors="replace")
        assert code == 0, (code, text[-3000:])
        counts: Counter[tuple[int, str]] = Counter()
        found: dict[tuple[str, int, bool], None] = {}
        for line in text.splitlines():
            call = _CALL.match(line)
            if call is None:
                continue
            who, name = int(call[1]), call[2]
            counts[who, name] += 1
            if self._changes_out(line):
                found[name, counts[who, name], who != pid] = None
        assert len({who for who, _ in counts}) == 2, "a worker with one child"
        self.tally.calls = len(found)
        return [Point(fault, *where) for where in found for fault in faults if where[2] or fault != "KILL ALL"]

    def _changes_out(self, line: str) -> bool:
        """Whether a line of strace tells of a call that changes something below OUT."""
        name = line.partition("(")[0].split()[-1:]
        return str(self.out) in line and (name not in (["open"], ["openat"]) or "O_CREAT" in line)

    def strike(self, point: Point) -> None:
        """One run with one fault, and what must hold after it."""
        self._reset()
        pid = self.zygote.fork(*self._args)
        self.zygote.open(pid, child=not point.in_child)
        struck_pid = self._child_of(pid) if point.in_child else pid
        how = _INJECTED.get(point.fault, f"error={point.fault}")
        options = ["-e", f"trace={point.call}", "-e", f"inject={point.call}:{how}:when={point.number}"]
        with self._traced(struck_pid, options) as log:
            self.zygote.open(pid, child=point.in_child)
            if how == "signal=STOP":
                self._kill_when_stopped(pid, log)
            code = self._wait_for_the_end(pid)
        self.tally.tried += 1
        self.tally.struck[point.fault] += self._is_struck(point, log)
        try:
            if code not in ENDS:
                raise AssertionError(f"the command ended with {code}")
            self._look_at_what_is_left()
            self._recover()
        except (AssertionError, OSError) as error:
            self.tally.violations.append(f"{self.command}: {point}: {error}")

    def _is_struck(self, point: Point, log: Path) -> bool:
        """Whether the call that was hit is one that changes OUT: what a run does is not the same each time."""
        lines = log.read_text(errors="replace").splitlines()
        if point.fault in _INJECTED:
            mark = "killed by SIGKILL" if point.fault == "KILL" else "--- SIGSTOP "
            return any(mark in line and self._changes_out(before) for before, line in pairwise(lines))
        return any("(INJECTED)" in line and self._changes_out(line) for line in lines)

    def _child_of(self, pid: int) -> int:
        limit = time.monotonic() + LIMIT_S
        while not (found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            assert time.monotonic() < limit
            time.sleep(0.005)
        return int(found[0])

    def _kill_when_stopped(self, pid: int, log: Path) -> None:
        """Kill a worker as soon as it or its child stands still; the child dies with it. Not, if it ends without that."""
        while _runs(pid):
            if "--- stopped by SIGSTOP" in log.read_text(errors="replace"):
                self._cut_power()
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.005)

    def _wait_for_the_end(self, pid: int) -> int | None:
        """The exit code; None when the command has to be killed, for it does not end."""
        limit = time.monotonic() + LIMIT_S
        while _runs(pid) and time.monotonic() < limit:
            time.sleep(0.02)
        if not _runs(pid):
            return self.zygote.wait(pid)
        os.kill(pid, signal.SIGKILL)
        self.zygote.wait(pid)
        return None

    def _cut_power(self) -> None:
        """Nothing, here."""

    def _look_at_what_is_left(self) -> None:
        """What must hold before anybody has done anything; nothing, for whoever kept the disk."""

    def _recover(self) -> None:
        self._complete()
        fs, layout = PosixFs(str(self.out)), Layout(str(self.out))
        report = check(fs, layout, clock=ManualClock())
        if not (report.clean and report.complete):
            raise AssertionError(f"claimwork check: {report.findings}")
        if report.findings:  # of who died before it had a record
            self.tally.strays += 1
            check(fs, layout, repair=True, clock=ManualClock())
            left = check(fs, layout, clock=ManualClock()).findings
            if left:
                raise AssertionError(f"claimwork check --repair left {left}")
        published = self._published()
        if published != self.published:
            raise AssertionError(f"published is {published} instead of {self.published}")

    def _published(self) -> dict[str, bytes]:
        """The summary and all results, by name."""
        files = [self.out / "summary.json", *(each for each in (self.out / "results").rglob("*") if each.is_file())]
        return {str(each.relative_to(self.out)): each.read_bytes() for each in files}

    @contextmanager
    def _traced(self, pid: int, options: list[str]) -> Iterator[Path]:
        log = self.root / "strace.log"
        log.unlink(missing_ok=True)
        argv = ["strace", "-qq", "-y", "-o", str(log), *options, "-p", str(pid)]
        tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        limit = time.monotonic() + LIMIT_S
        while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
            assert tracer.poll() is None, tracer.stderr and tracer.stderr.read()
            assert time.monotonic() < limit
            time.sleep(0.005)
        yield log
        tracer.communicate(timeout=LIMIT_S)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def spread(points: list[Point], count: int) -> list[Point]:
    """*count* of them, evenly, so that all kinds and faults come up."""
    if count >= len(points):
        return points
    step = len(points) / count
    return [points[min(int(number * step) + number % len(FAULTS), len(points) - 1)] for number in range(count)]


def table(rows: list[list[str | int]]) -> str:
    """Rows of tallies as Markdown, ready to paste."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


assert all(hasattr(errno, each) for each in ERRORS)

if __name__ == "__main__":
    serve()
