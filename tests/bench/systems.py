"""How each system of the suite `coordination` is given its inputs and set to work, and when it was done.

Nothing that a system needs once is timed: its processes run, its queue is filled, and what was written before is on disk. The
clock runs from the first input that is begun to the last file that says that an input is done, by that file's own time.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.bench import needs

SLOTS = 2
_PEERS = Path(__file__).parent / "peers"
_GIVE_UP_S = 900.0


@dataclass(frozen=True)
class System:
    """``fill`` hands the inputs over, ``work`` are the commands that run at the same time until they end or are stopped.

    ``{in}`` is the directory of the inputs. ``done``: below which directory of the run every input gets a file when it is
    done; ``per_input`` is false where one file tells it of many. ``most``: with more inputs it takes too long to wait for.
    ``program``: one of Debian's that it needs; of Redis each run has a server of its own, at a socket in its directory.
    """

    name: str
    fill: tuple[str, ...]
    work: tuple[tuple[str, ...], ...]
    done: str = "results"
    per_input: bool = True
    most: int = 1 << 30
    ends: bool = True
    program: str = ""


@dataclass(frozen=True)
class Run:
    """One run: inputs per second while it worked; seconds for everything, filling and starting included; and what of
    the processors it took, which says more than the clock on a machine that does other things as well.
    """

    rate: float
    whole_s: float
    cpu_s: float


def _python(program: str, *args: str) -> tuple[str, ...]:
    return (str(needs.PYTHON), str(_PEERS / program), *args)


def _claimwork(command: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "claimwork", command, "{in}", "out", "--quiet", *args)


_JUG = (str(needs.HOME / "bin" / "jug"), "execute", str(_PEERS / "jugfile.py"), "--jugdir=jug", "--will-cite")
_CELERY = (
    str(needs.HOME / "bin" / "celery"),
    "-A",
    "celery_queue",
    "--quiet",
    "worker",
    "-c",
    str(SLOTS),
    "-l",
    "ERROR",
)

IDEAL, BARE, CLAIMWORK = "ideal", "bare loop", "claimwork"
SYSTEMS = (
    System(IDEAL, (), (_python("plain.py", "ideal", "{in}", str(SLOTS)),)),
    System(
        BARE,
        _python("plain.py", "fill", "{in}", str(SLOTS)),
        (_python("plain.py", "bare", "{in}", str(SLOTS)),),
    ),
    System(
        CLAIMWORK,
        _claimwork("plan", "--task", "noop:read"),
        (_claimwork("worker", "--slots", str(SLOTS)),),
        done="out/.claimwork/done",
        per_input=False,
    ),
    System("dirq", _python("dirq_queue.py", "fill", "{in}"), (_python("dirq_queue.py", "work", "{in}"),) * SLOTS),
    System("Jug", (), (_JUG,) * SLOTS, done="jug"),
    System(
        "python-task-queue",
        _python("fq.py", "fill", "{in}"),
        (_python("fq.py", "work", "{in}"),) * SLOTS,
        most=1000,
    ),
    System(
        "Celery, Redis",
        _python("celery_queue.py", "fill", "{in}"),
        (_CELERY,),
        most=1000,
        ends=False,
        program="redis-server",
    ),
    System(
        "RQ, Redis",
        _python("rq_queue.py", "fill", "{in}"),
        (_python("rq_queue.py", "work", "{in}"),) * SLOTS,
        most=1000,
        program="redis-server",
    ),
    System(
        "GNU parallel",
        (),
        (("parallel", "--will-cite", "-j", str(SLOTS), "-a", "list", "cp", "--", "{}", "results/{/}"),),
        most=1000,
        program="parallel",
    ),
)


class Bench:
    """Inputs that all runs share, and a directory for each run; nothing is removed until the end.

    ext4 avoids inodes that were freed a moment ago, so that whoever comes after a removal creates files much more slowly.
    """

    def __init__(self, directory: Path, inputs: int, size_bytes: int = 1024) -> None:
        self._directory = directory
        self._inputs = inputs
        self.input_directory = directory / "in"
        self.input_directory.mkdir()
        self._names = [f"{number:06d}" for number in range(inputs)]
        for name in self._names:
            (self.input_directory / name).write_bytes(bytes(size_bytes))
        self._runs = 0

    def run(self, system: System, trace: Path | None = None) -> Run:
        """One run. *trace*: count the system calls of its work into files in this directory, which makes it slow.

        Raises RuntimeError when not every input came to a result.
        """
        root = self._prepare()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CLAIMWORK_")},
            "PYTHONPATH": f"{_PEERS}{os.pathsep}{needs.ROOT}",
            "BENCH_INPUTS": str(self.input_directory),
            "BENCH_SOCKET": str(root / "redis.sock"),
        }
        with _redis(root) if system.program == "redis-server" else nullcontext():
            os.sync()
            cpu_before = _cpu_of_children()
            began = time.monotonic()
            if system.fill:
                subprocess.run(
                    self._argv(system.fill),
                    cwd=root,
                    env=environment,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            filled = time.monotonic()
            os.sync()
            started = time.monotonic()
            processes = [
                subprocess.Popen(
                    [*_traced(trace, nth), *self._argv(argv)],
                    cwd=root,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
                for nth, argv in enumerate(system.work)
            ]
            self._wait(system, root, processes)
            ended = time.monotonic()
            _stop(processes)
            cpu_s = _cpu_of_children() - cpu_before
        return Run(self._inputs / self._seconds(system, root), filled - began + ended - started, cpu_s)

    def _prepare(self) -> Path:
        self._runs += 1
        root = self._directory / str(self._runs)
        for name in ("begun", "stage", "results", "ready", "work"):
            (root / name).mkdir(parents=True)
        (root / "list").write_text(
            "".join(f"{self.input_directory}/{name}\n" for name in self._names), encoding="ascii"
        )
        return root

    def _argv(self, argv: tuple[str, ...]) -> list[str]:
        return [each.replace("{in}", str(self.input_directory)) for each in argv]

    def _wait(self, system: System, root: Path, processes: list[subprocess.Popen[bytes]]) -> None:
        until = time.monotonic() + _GIVE_UP_S
        if system.ends:
            codes = [each.wait(max(until - time.monotonic(), 0.1)) for each in processes]
            if any(codes):
                raise RuntimeError(f"{system.name} ended with {codes}")
            return
        while len(os.listdir(root / system.done)) < self._inputs:
            if time.monotonic() > until:
                raise RuntimeError(f"{system.name} did not end within {_GIVE_UP_S:g} s")
            time.sleep(0.1)

    def _seconds(self, system: System, root: Path) -> float:
        """From the first begin to the last end."""
        ends = [each.stat().st_ctime for each in (root / system.done).rglob("*") if each.is_file()]
        if system.per_input and len(ends) < self._inputs:
            raise RuntimeError(f"{system.name} brought {len(ends)} of {self._inputs} inputs to an end")
        if system.name == CLAIMWORK and len(os.listdir(root / "out" / "results")) != self._inputs:
            raise RuntimeError("claimwork did not bring every input to a result")
        begins = [float(each.read_text(encoding="ascii")) for each in (root / "begun").iterdir()]
        return max(ends) - min(begins or ends)


@contextmanager
def _redis(root: Path) -> Iterator[None]:
    """A server of this run's own, in memory, at a socket: no port, no file."""
    argv = ["redis-server", "--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(argv, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while not (root / "redis.sock").exists():
            if time.monotonic() > until or server.poll() is not None:
                raise RuntimeError("redis-server does not start")
            time.sleep(0.02)
        yield
    finally:
        _stop([server])


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for each in processes:
        if each.poll() is None:
            each.terminate()
    for each in processes:
        each.wait()


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _traced(trace: Path | None, nth: int) -> tuple[str, ...]:
    return () if trace is None else ("strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", str(trace / str(nth)))


def calls(trace: Path) -> Counter[str]:
    """How often each system call was made, by what strace counted."""
    found: Counter[str] = Counter()
    for file in trace.iterdir():
        for line in file.read_text(encoding="ascii").splitlines():
            words = line.split()
            if len(words) == 2 and words[0].isdigit() and words[1] != "total":
                found[words[1]] += int(words[0])
    return found
