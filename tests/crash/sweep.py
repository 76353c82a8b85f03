"""Real processes on a real filesystem, struck by strace at a chosen system call.

A clean run tells which calls change something below OUT. Then one run for each of them: the process is killed just before
it, or the call is answered with an error. Afterwards a fresh worker must complete the job, `claimwork check` must find
nothing, and summary.json must be the one of an undisturbed run, byte for byte.

strace counts the calls of each name in each process. Calls of the worker are struck in the worker alone; a call of a child
is struck as the n-th of its name in the worker and in every child, so a child that is started again dies again: who does
not end of that is killed.

Processes are forked from an interpreter that has imported everything (`python sweep.py`): no start-up calls to count.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from claimwork.check import check
from claimwork.fs import PosixFs
from claimwork.layout import Layout
from claimwork.testing import ManualClock

CALLS = (
    *("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("open", "openat", "write", "pwrite64", "fsync", "fdatasync", "syncfs"),
)
ERRORS = ("EIO", "ENOSPC", "ESTALE", "EINTR")
FAULTS = ("KILL", *ERRORS)
COMMANDS = ("plan", "worker", "reduce")
LIMIT_S = 60.0
AFTER_STRIKE_S = 1.0
_CALL = re.compile(r"^(\d+) +([a-z0-9]+)\((.*)$")


@dataclass(frozen=True)
class Point:
    """One fault at the n-th call of a name; in the worker alone, or in its children (and then in it as well)."""

    fault: str
    call: str
    number: int
    in_child: bool

    def __str__(self) -> str:
        return f"{self.fault} at {self.call} number {self.number} of {'a child' if self.in_child else 'the worker'}"


@dataclass
class Tally:
    """What a sweep has seen."""

    points: int = 0
    strikes: int = 0
    endless: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


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
        """Start a command; its process id. It runs from `go` on."""
        return int(self._ask(["fork", *args]))

    def go(self, pid: int) -> None:
        """Let it run."""
        self._ask(["go", str(pid)])

    def wait(self, pid: int) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        return int(self._ask(["wait", str(pid)]))

    def run(self, *args: str) -> int:
        """A command from beginning to end."""
        pid = self.fork(*args)
        self.go(pid)
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
    import filelock  # noqa: F401

    import claimwork.render
    import claimwork.wordcount  # noqa: F401
    from claimwork.cli import main

    gates: dict[int, int] = {}
    for line in sys.stdin:
        verb, *args = json.loads(line)
        if verb == "fork":
            gate, opener = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(opener)
                os.dup2(os.open(os.devnull, os.O_RDWR), 0)
                os.dup2(2, 1)
                os.read(gate, 1)
                os.close(gate)
                sys.argv = ["claimwork", *args]
                code = 1
                try:
                    main()
                    code = 0
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else int(end.code is not None)
                finally:
                    os._exit(code)
            os.close(gate)
            gates[pid] = opener
            answer = pid
        elif verb == "go":
            os.close(gates.pop(int(args[0])))
            answer = 0
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(int(args[0]), 0)[1])
        print(answer, flush=True)


class Sweep:
    """One command on one filesystem. *root* gets IN, OUT and what OUT is before each run."""

    def __init__(self, zygote: Zygote, root: Path, command: str, claims: str) -> None:
        self.zygote = zygote
        self.root = root
        self.out = root / "out"
        self.before = root / "before"
        self.inputs = root / "in"
        self.tally = Tally()
        self.command = command
        self._options = ["--quiet", "--max-attempts", "1000", "--backoff", "0", "--claims", claims]
        self.inputs.mkdir()
        for name in ("one", "two", "three"):
            (self.inputs / name).write_text(f"some words in file {name}\n" * len(name))
        self._prepare()

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
            self.out.rename(self.before)
            shutil.copytree(self.before, self.out)
        self._complete()
        self.summary = (self.out / "summary.json").read_bytes()
        if self.command == "plan":
            self.before.mkdir()
        if self.command == "reduce":
            (self.out / "summary.json").unlink()
            for each in (self.out / ".claimwork" / "summary").iterdir():
                each.unlink()
            self.out.rename(self.before)

    def _succeed(self, *args: str) -> None:
        code = self.zygote.run(*args)
        if code != 0:
            raise AssertionError(f"exit code {code} of {args}")

    def _complete(self) -> None:
        self._succeed("worker", str(self.inputs), str(self.out), "--slots", "1", *self._options)

    def _reset(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.before, self.out)

    def points(self, faults: tuple[str, ...] = FAULTS) -> list[Point]:
        """Every call of a clean run that changes something below OUT, with every fault."""
        self._reset()
        pid = self.zygote.fork(*self._args)
        with self._traced(pid, ["-f", "-y", "-e", f"trace={','.join(CALLS)}"]) as log:
            self.zygote.go(pid)
            code = self.zygote.wait(pid)
        assert code == 0, (code, log.read_text()[-3000:])
        counts: Counter[tuple[int, str]] = Counter()
        found: dict[tuple[str, int, bool], None] = {}
        for line in log.read_text(errors="replace").splitlines():
            call = _CALL.match(line)
            if call is None:
                continue
            who, name, rest = int(call[1]), call[2], call[3]
            counts[who, name] += 1
            if str(self.out) in rest and (name not in ("open", "openat") or "O_CREAT" in rest):
                found[name, counts[who, name], who != pid] = None
        return [Point(fault, *where) for where in found for fault in faults]

    def strike(self, point: Point) -> None:
        """One run with one fault, and what must hold after it."""
        self._reset()
        pid = self.zygote.fork(*self._args)
        how = "signal=KILL" if point.fault == "KILL" else f"error={point.fault}"
        options = ["-e", f"trace={point.call}", "-e", f"inject={point.call}:{how}:when={point.number}"]
        with self._traced(pid, [*options, *(["-f"] if point.in_child else [])]) as log:
            self.zygote.go(pid)
            self._wait_for_the_end(pid, log)
        struck = _strikes(log)
        self.tally.points += 1
        self.tally.strikes += bool(struck)
        self.tally.faults[point.fault] += struck
        try:
            self._recover()
        except (AssertionError, OSError) as error:
            self.tally.violations.append(f"{self.command}: {point}: {error}")

    def _wait_for_the_end(self, pid: int, log: Path) -> None:
        """A run that neither dies nor ends of a fault is killed."""
        limit = time.monotonic() + LIMIT_S / 2
        while _runs(pid) and time.monotonic() < limit:
            time.sleep(0.02)
            if _strikes(log):
                limit = min(limit, time.monotonic() + AFTER_STRIKE_S + (LIMIT_S / 6 if _strikes(log) == 1 else 0))
        if _runs(pid):
            self.tally.endless += 1
            os.kill(pid, signal.SIGKILL)
        self.zygote.wait(pid)

    def _recover(self) -> None:
        self._complete()
        fs, layout = PosixFs(str(self.out)), Layout(str(self.out))
        report = check(fs, layout, clock=ManualClock())
        findings = [each for each in report.findings if each.code != "stray-stage"]
        if findings or not report.complete:
            raise AssertionError(f"claimwork check: {findings}")
        if report.findings:  # of who died before it had a record
            check(fs, layout, repair=True, clock=ManualClock())
            left = check(fs, layout, clock=ManualClock()).findings
            if left:
                raise AssertionError(f"claimwork check --repair left {left}")
        summary = (self.out / "summary.json").read_bytes()
        if summary != self.summary:
            raise AssertionError(f"summary.json is {summary!r} instead of {self.summary!r}")

    @contextmanager
    def _traced(self, pid: int, options: list[str]) -> Iterator[Path]:
        log = self.root / "strace.log"
        log.unlink(missing_ok=True)
        argv = ["strace", "-qq", "-o", str(log), *options, "-p", str(pid)]
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


def _strikes(log: Path) -> int:
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return 0
    return text.count("(INJECTED)") + text.count("killed by SIGKILL")


def spread(points: list[Point], count: int) -> list[Point]:
    """*count* of them, evenly, so that all kinds and faults come up."""
    if count >= len(points):
        return points
    step = len(points) / count
    return [points[min(int(number * step) + number % len(FAULTS), len(points) - 1)] for number in range(count)]


def table(tallies: dict[str, Tally]) -> str:
    """Points tried, faults and violations, a line for each sweep."""
    rows = [f"{'sweep':28} {'points':>6} {'struck':>6} {'killed':>6}  faults"]
    for name, tally in tallies.items():
        faults = " ".join(f"{fault}:{count}" for fault, count in sorted(tally.faults.items()))
        rows.append(
            f"{name:28} {tally.points:6} {tally.strikes:6} {tally.endless:6}  {faults}; {len(tally.violations)} violations"
        )
    return "\n".join(rows)


assert all(hasattr(errno, each) for each in ERRORS)

if __name__ == "__main__":
    serve()
