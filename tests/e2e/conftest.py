"""What every end-to-end test needs: a folder of inputs, a folder for the job, and the real program between them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAM = str(Path(sys.executable).parent / "claimwork")
TAMPERED = str(Path(__file__).parent / "tampered.py")
LIMIT_S = 30.0  # nothing here takes a tenth of it, but the machine may be busy
NOBODY = 65534

# Tasks that tests steer by files: `hold` runs until `go` exists, or `go-` and its process id, and says in `runs` who ran
# what for the n-th time.
TASKS = """
import os, signal, time
from pathlib import Path
from claimwork import GiveUp, task

HERE = Path(__file__).parent

def said(name, *words):
    with open(HERE / name, "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def wait_for(name):
    while not ((HERE / name).exists() or (HERE / f"{name}-{os.getpid()}").exists()):
        time.sleep(0.01)

def size(path):
    return path.stat().st_size

def text(path):
    return path.read_text()

@task
def hold(path, attempt):
    said("runs", os.getppid(), os.getpid(), attempt.number, path.name)
    if path.name.startswith("held"):
        wait_for("go")
    return path.stat().st_size

@hold.reducer
def _(results):
    found = sorted((each.input, each.value) for each in results)
    return {"inputs": len(found), "quarantined": results.quarantined, "bytes": sum(size for _, size in found)}

@task
def slow_reducer(path):
    return path.stat().st_size

@slow_reducer.reducer
def _(results):
    found = [[each.input, each.value] for each in results]
    said("runs", os.getppid(), os.getpid(), 0, "reduce")
    wait_for("go")
    return {"found": found}

@task
def troubled(path, attempt):
    said("runs", os.getppid(), os.getpid(), attempt.number, path.name)
    if not (HERE / "mended").exists():
        if path.name.startswith("raises"):
            print("about to divide")
            return 1 / 0
        if path.name.startswith("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if path.name.startswith("exits"):
            os._exit(7)
        if path.name.startswith("hangs"):
            time.sleep(600)
        if path.name.startswith("gives-up"):
            raise GiveUp("there is no point")
    return path.stat().st_size

@task
def both(path, attempt):
    hold.function(path, attempt)
    return troubled.function(path, attempt)

@task
def slow_trouble(path, attempt):
    time.sleep(0.01)
    return troubled.function(path, attempt)

@task
def second_time(path, attempt):
    if attempt.number == 1:
        raise RuntimeError("not yet")
    return attempt.number

@task
def bad_reducer(path):
    said("runs", 0, 0, 1, path.name)
    return path.stat().st_size

@bad_reducer.reducer
def _(results):
    if (HERE / "mended").exists():
        return {"sum": sum(each.value for each in results)}
    raise KeyError("words")

not_callable = 7
"""


@dataclass(frozen=True)
class Ended:
    """What a command said and how it ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Ran:
    """One execution of a steered task, as the task itself told it."""

    worker: int
    child: int
    attempt: int
    input: str


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """The first true value of *condition*; fails the test when there is none in time."""
    until = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > until:
            pytest.fail(f"in vain for {limit_s:g} s: {what}")
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """All processes below one, parents first."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in [child, *descendants(child)]]


def stop(*pids: int) -> None:
    """Let processes stand still; when this returns, they do."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(is_stopped(pid) for pid in pids), f"the stop of {pids}")


def is_stopped(pid: int) -> bool:
    """Whether a process stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wake(*pids: int) -> None:
    """Let them go on, children first; one whose worker has ended it by then is fine."""
    for pid in reversed(pids):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def all_of(worker: subprocess.Popen[str]) -> list[int]:
    """A worker's process and its children."""
    return [worker.pid, *descendants(worker.pid)]


class Bench:
    """One IN and one OUT below a directory of their own, which is also where the program runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inputs = root / "in"
        self.out = root / "out"
        self.inputs.mkdir()
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("CLAIMWORK_")}
        self.env |= {"PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", "COLUMNS": "200"}
        self.started: list[subprocess.Popen[str]] = []
        (root / "tasks.py").write_text(TASKS)

    # -- before -----------------------------------------------------------------------------------------------------

    def put(self, *names: str | bytes, text: str = "Hello world\n") -> None:
        """Make inputs."""
        for name in names:
            path = os.path.join(os.fsencode(self.inputs), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    def say(self, name: str) -> None:
        """Make a file that a steered task waits for."""
        (self.root / name).touch()

    def unsay(self, name: str) -> None:
        """Forget a file that a steered task made or waits for."""
        (self.root / name).unlink(missing_ok=True)

    # -- during -----------------------------------------------------------------------------------------------------

    def _argv(self, args: tuple[str, ...], uid: int | None) -> list[str]:
        drop = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        return [*drop, PROGRAM, *args]

    def call(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        limit_s: float = LIMIT_S,
    ) -> Ended:
        """Run a command to its end."""
        done = subprocess.run(
            self._argv(args, uid),
            cwd=self.root,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=limit_s,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    def ok(self, *args: str, code: int = 0, **more: Any) -> Ended:
        """Run a command that is expected to end with *code*."""
        ended = self.call(*args, **more)
        assert ended.code == code, ended
        return ended

    def fails(self, code: int, *args: str, **more: Any) -> str:
        """Run a command that is expected to fail; the one line that it says about it."""
        ended = self.call(*args, **more)
        assert (ended.code, ended.stdout) == (code, ""), ended
        lines = ended.stderr.splitlines()
        assert len(lines) == 1, ended.stderr
        assert lines[0].startswith("claimwork: "), ended.stderr
        return lines[0]

    def run(self, *options: str, code: int = 0, **more: Any) -> Ended:
        """`claimwork run IN OUT`."""
        return self.ok("run", str(self.inputs), str(self.out), "--slots", "2", *options, code=code, **more)

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; the end of the test ends it."""
        return self._start(self._argv(args, None), env or {})

    def tampered(self, *args: str, **how: Any) -> subprocess.Popen[str]:
        """Start a command whose process is tampered with: what *how* means is told in `tampered.py`."""
        return self._start([sys.executable, TAMPERED, *args], {"TAMPER": json.dumps(how)})

    def _start(self, argv: list[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv,
            cwd=self.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def worker(self, *options: str, slots: int = 1, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `claimwork worker IN OUT`."""
        return self.start("worker", str(self.inputs), str(self.out), "--slots", str(slots), *options, env=env)

    def plan(self, *options: str) -> Ended:
        """`claimwork plan IN OUT`."""
        return self.ok("plan", str(self.inputs), str(self.out), *options)

    def runs(self) -> list[Ran]:
        """What steered tasks have said of their executions so far."""
        try:
            lines = (self.root / "runs").read_text().splitlines()
        except FileNotFoundError:
            return []
        rows = [line.split(" ", 3) for line in lines]
        return [Ran(int(row[0]), int(row[1]), int(row[2]), row[3]) for row in rows if len(row) == 4]

    def wait_for_run(self, name: str, attempt: int | None = None) -> Ran:
        """Wait until a steered task has been started for an input."""

        def found() -> Ran | None:
            fitting = (ran for ran in self.runs() if ran.input == name and attempt in (None, ran.attempt))
            return next(fitting, None)

        ran: Ran = wait_until(found, f"an execution of {name}, attempt {attempt}; ran: {self.runs()}")
        return ran

    # -- after ------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The document of `claimwork status --json`."""
        found: dict[str, Any] = json.loads(self.call("status", str(self.out), "--json").stdout)
        return found

    def export(self) -> dict[str, Any]:
        """All results, by input."""
        found: dict[str, Any] = json.loads(self.call("export", str(self.out)).stdout)
        return found

    def summary(self) -> Any:
        """What summary.json says."""
        return json.loads((self.out / "summary.json").read_text())

    def planned(self) -> list[str]:
        """Inputs in the first segment of the plan, sorted."""
        first = json.loads((self.out / ".claimwork" / "plan" / "000000").read_text())
        return sorted(row[0] for row in first.get("inputs", []))

    def results(self) -> list[str]:
        """Names of the result files below results/, sorted."""
        return sorted(str(path.relative_to(self.out / "results")) for path in (self.out / "results").rglob("*.json"))

    def reports(self) -> dict[str, dict[str, Any]]:
        """Quarantine reports by name."""
        found = (self.out / "quarantine").rglob("*.json")
        return {str(path.relative_to(self.out / "quarantine")): json.loads(path.read_text()) for path in found}

    def inside(self, directory: str) -> list[str]:
        """Names of the files below a directory of .claimwork, sorted."""
        below = self.out / ".claimwork" / directory
        return sorted(str(path.relative_to(below)) for path in below.rglob("*") if path.is_file())

    def is_settled(self) -> bool:
        """Whether nothing is left behind in .claimwork: no ticket, no holder, no temporary, no grave."""
        leftovers = {name: self.inside(name) for name in ("ready", "work", "live", "dead", "stage", "oslock")}
        assert not any(leftovers.values()), leftovers
        return True


def end(process: subprocess.Popen[str], limit_s: float = LIMIT_S) -> Ended:
    """Wait for a started command."""
    stdout, stderr = process.communicate(timeout=limit_s)
    assert "Traceback" not in stderr, stderr
    return Ended(process.returncode, stdout, stderr)


def _kill_all(bench: Bench) -> None:
    for process in bench.started:
        if process.poll() is None:
            for pid in [*descendants(process.pid), process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        process.communicate()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty IN and no OUT."""
    made = Bench(tmp_path)
    yield made
    _kill_all(made)


@pytest.fixture
def open_bench() -> Iterator[Bench]:
    """A bench where other users may look around; for tests that run the program as somebody else."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root with setpriv can run the program as somebody else")
    root = Path(tempfile.mkdtemp(prefix="claimwork-e2e-"))
    root.chmod(0o755)
    made = Bench(root)
    yield made
    _kill_all(made)
    shutil.rmtree(root)


@pytest.fixture
def small_disk(bench: Bench) -> Iterator[Callable[..., None]]:
    """OUT on a tmpfs of its own; the function mounts it again with other options (``size=…``, ``ro``)."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    bench.out.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-o", options, str(bench.out)], check=True, capture_output=True)

    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(bench.out)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this container may not mount a tmpfs")
    yield lambda options: mount(f"remount,{options}")
    _kill_all(bench)
    subprocess.run(["umount", str(bench.out)], check=True)
