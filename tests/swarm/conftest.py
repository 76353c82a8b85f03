"""One swarm for all tests that ask for it, with the shipped image on its nodes, and one job on its share for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from claimwork.records import parse_beat
from tests.machine import skip_for
from tests.swarm.lab import needs
from tests.swarm.lab.images import PROJECT, Builder
from tests.swarm.lab.lab import Lab
from tests.swarm.lab.node import Node
from tests.swarm.lab.shell import LabError

PROGRAM = str(Path(sys.executable).parent / "claimwork")
HERE = Path(__file__).parent
UID = 10001
LIMIT_S = 90.0  # Swarm alone needs up to ten seconds to replace what a node has lost, on an idle machine
STEERED = "claimwork-steered"
NEXT = "claimwork-steered:next"
TASK = "steered:steered"
_numbers = count(1)


@pytest.fixture(scope="session")
def booted() -> Iterator[Lab]:
    """Three nodes, as the tests before have left them; tests ask for `lab`."""
    skip_for(needs.missing())
    with Builder() as builder:
        builder.build_claimwork()
        builder.build(STEERED, HERE)
        builder.build(NEXT, HERE, "-f", str(HERE / "Dockerfile.next"))
    with Lab(3) as lab:
        yield lab


@pytest.fixture
def lab(booted: Lab) -> Iterator[Lab]:
    """Three nodes in good order, and without services."""
    yield booted
    booted.mend()


@dataclass(frozen=True)
class Run:
    """One execution of the steered task. *seconds* is None while it runs, and for ever when it was cut short."""

    node: str
    container: str
    attempt: int
    input: str
    begun_at: float
    ended_at: float | None


@dataclass(frozen=True)
class Task:
    """One task of a service, as `docker service ps` and `docker inspect` tell."""

    name: str
    node: str
    desired: str
    state: str
    code: int
    error: str


class Site:
    """IN and OUT of one job on the share, and the stack that works on it."""

    def __init__(self, lab: Lab, local: Path) -> None:
        self.lab = lab
        self.name = f"job{next(_numbers)}"
        self.root = lab.share.path / self.name
        self.inputs = self.root / "in"
        self.out = self.root / "out"
        self._local = local
        self.inputs.mkdir(parents=True)
        self.out.mkdir()
        (self.out / ".runs").mkdir()
        for each in (self.out, self.out / ".runs"):
            os.chown(each, UID, UID)

    # -- before -------------------------------------------------------------------------------------------------------

    def put(self, *names: str, seconds: float = 0.0) -> None:
        """Make inputs that take so long; those that are held are large, and so the first to be run."""
        for name in names:
            text = f"{seconds} seconds\n" * (50 if name.startswith("held") else 1)
            (self.inputs / name).write_text(text)

    def say(self, name: str) -> None:
        """Make a file that the steered task waits for."""
        (self.inputs / name).touch()

    # -- during -------------------------------------------------------------------------------------------------------

    @property
    def _manager(self) -> Node:
        return self.lab.manager

    def deploy(self, image: str = STEERED, **env: str) -> None:
        """Deploy the shipped stack file, without a dashboard. *env*: variables of stack/README.md without their prefix.

        What a test holds is not to be run as a copy.
        """
        told = {"IMAGE": image, "TASK": TASK, "DASHBOARDS": "0", "TOKEN": "", "BACKUPS": "0"}
        told |= {"DATA": str(self.inputs), "RESULTS": str(self.out), **env}
        argv = ("stack", "deploy", "--resolve-image", "never", "-c", PROJECT / "stack/claimwork.yml", self.name)
        self._manager.docker(*argv, **{f"CLAIMWORK_{name}": value for name, value in told.items()})

    def scale(self, replicas: int, service: str = "worker") -> None:
        """Change the number of workers, as a user does, or that of another service."""
        self._manager.docker("service", "scale", "-d", f"{self.name}_{service}={replicas}")

    def containers(self, service: str = "worker") -> list[tuple[Node, str]]:
        """Containers of a service that run, with their nodes, the oldest first."""
        label = f"label=com.docker.swarm.service.name={self.name}_{service}"
        found = []
        for node in self.lab.nodes:
            told = node.call("ps", "-q", "--no-trunc", "-f", label)
            found += [(node, each) for each in reversed(told.stdout.split())]
        return found

    def wait_for_containers(self, number: int, service: str = "worker") -> list[tuple[Node, str]]:
        """Wait until so many containers of a service run."""
        self.wait_until(lambda: len(self.containers(service)) == number, f"{number} containers of {service}")
        return self.containers(service)

    def tasks(self, service: str = "worker") -> list[Task]:
        """The tasks of a service that Swarm remembers, the newest of each slot first."""
        ids = self._manager.docker("service", "ps", "-q", "--no-trunc", f"{self.name}_{service}").split()
        # Swarm may forget one meanwhile: the others are told
        told = self._manager.call("inspect", *ids).stdout if ids else ""
        nodes = {
            each["ID"]: each["Description"]["Hostname"]
            for each in json.loads(self._manager.docker("node", "inspect", *self._node_ids()))
        }
        return [
            Task(
                name=f"{self.name}_{service}.{each.get('Slot')}",
                node=nodes.get(each.get("NodeID"), ""),
                desired=each["DesiredState"],
                state=each["Status"]["State"],
                code=each["Status"].get("ContainerStatus", {}).get("ExitCode", 0),
                error=each["Status"].get("Err", ""),
            )
            for each in json.loads(told or "[]")
        ]

    def _node_ids(self) -> list[str]:
        return self._manager.docker("node", "ls", "-q").split()

    def log(self, service: str = "worker") -> str:
        """What the tasks of a service have said."""
        done = self._manager.call("service", "logs", "--raw", f"{self.name}_{service}")
        return done.stdout + done.stderr

    def runs(self, name: str | None = None) -> list[Run]:
        """Executions of the steered task so far, or of one input, in their order."""
        found = []
        for file in (self.out / ".runs").iterdir():
            node, container, at, attempt, ran = file.name.split(" ", 4)
            times = file.read_text().split()
            begun_at = float(times[0]) if times else 0.0
            ended_at = float(times[1]) if times else None
            if name in (None, ran):
                found.append((int(at), Run(node, container, int(attempt), ran, begun_at, ended_at)))
        return [run for _, run in sorted(found, key=lambda each: each[0])]

    def results(self) -> dict[str, str]:
        """What was published so far."""
        return files_below(self.out / "results")

    def status(self) -> dict[str, Any]:
        """The document of `claimwork status --json`."""
        found: dict[str, Any] = json.loads(self._claimwork("status", str(self.out), "--json").stdout)
        return found

    def wait_until(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """The first true value of *condition*; fails the test, with all there is to know, when there is none in time."""
        until = time.monotonic() + limit_s
        while not (found := condition()):
            if time.monotonic() > until:
                pytest.fail(f"in vain for {limit_s:g} s: {what}\n{self._diagnosis()}")
            time.sleep(0.1)
        return found

    def wait_for_run(self, name: str, number: int = 1) -> Run:
        """Wait for the execution of an input, or the n-th one; the run."""
        self.wait_until(lambda: len(self.runs(name)) >= number, f"execution {number} of {name}")
        return self.runs(name)[number - 1]

    def wait_for_results(self, number: int) -> None:
        """Wait until so many results are published."""
        self.wait_until(lambda: len(self.results()) >= number, f"{number} results")

    def finish(self, *services: str, limit_s: float = LIMIT_S) -> None:
        """Wait until the tasks of all services have ended with 0 and Swarm wants no more of them."""
        for service in services or ("plan", "worker", "finalizer"):

            def ended(service: str = service) -> bool:
                tasks = self.tasks(service)
                return bool(tasks) and all(task.desired == "shutdown" for task in tasks)

            self.wait_until(ended, f"{service} has ended", limit_s)

    def _diagnosis(self) -> str:
        lines = [self._claimwork("status", str(self.out)).stdout]
        try:
            lines.append(self._manager.docker("node", "ls"))
            for service in ("plan", "worker", "finalizer", "dashboard"):
                told = self._manager.call("service", "ps", "--no-trunc", f"{self.name}_{service}")
                lines += [told.stdout, self.log(service)[-3000:]]
        except LabError as error:
            lines.append(str(error))
        return "\n".join([*lines, str(self.runs())])

    # -- after --------------------------------------------------------------------------------------------------------

    def verify(self, task: str = TASK) -> None:
        """The job is as if nothing had disturbed it: `check` is content, results and summary are those of a local run."""
        checked = self._claimwork("check", str(self.out))
        assert (checked.returncode, checked.stderr) == (0, ""), checked
        expected = self._undisturbed(task)
        assert self.results() == files_below(expected / "results")
        assert (self.out / "summary.json").read_text() == (expected / "summary.json").read_text()
        assert files_below(self.out / "quarantine") == {}

    def makespan_s(self) -> tuple[float, float]:
        """How long the inputs took from the first worker's start on, and how long at best with the workers that were there.

        By the beats that workers left, and by what each input says that it takes.
        """
        directory = self.out / ".claimwork/left"
        beats = [parse_beat(path.read_bytes(), path.name) for path in directory.iterdir()]
        lives = sorted((each.started_at, each.at) for each in beats if each.service == f"{self.name}_worker")
        begin = lives[0][0]
        work_s = sum(float((self.inputs / run.input).read_text().split()[0]) for run in self.runs() if run.attempt)
        taken_s = max(run.ended_at for run in self.runs() if run.ended_at is not None) - begin
        moments = sorted({moment for life in lives for moment in life})
        for moment, following in pairwise(moments):
            workers = sum(start <= moment < end for start, end in lives)
            if work_s <= workers * (following - moment):
                return taken_s, moment + work_s / workers - begin
            work_s -= workers * (following - moment)
        return taken_s, moments[-1] - begin

    def verify_that_nobody_was_charged(self) -> None:
        """No attempt failed or was lost: each execution was the first attempt at its input."""
        assert {run.attempt for run in self.runs() if run.input != "reduce"} == {1}
        assert files_below(self.out / ".claimwork/failures") == {}

    def _claimwork(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *args],
            cwd=HERE,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def _undisturbed(self, task: str) -> Path:
        """OUT of a run of the same inputs in which they take no time, on this machine."""
        inputs, out = self._local / "in", self._local / "out"
        inputs.mkdir()
        (out / ".runs").mkdir(parents=True)
        for path in self.inputs.iterdir():
            text = path.read_text()
            if task != TASK:
                (inputs / path.name).write_text(text)
            elif not path.name.startswith("."):
                instead = "0".ljust(len(text.split()[0]), " ")
                (inputs / path.name).write_text(instead + text[len(instead) :])
        (inputs / ".go").touch()
        told = {"CLAIMWORK_INPUT": str(inputs), "CLAIMWORK_OUTPUT": str(out)}
        done = self._claimwork("run", str(inputs), str(out), "--quiet", "--task", task, **told)
        assert done.returncode == 0, done
        return out


def files_below(path: Path) -> dict[str, str]:
    """Files below a directory with what they hold."""
    return {str(each.relative_to(path)): each.read_text() for each in path.rglob("*") if each.is_file()}


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Site:
    """IN and OUT of the test's job."""
    return Site(lab, tmp_path)
