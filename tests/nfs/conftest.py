"""The lab, booted once for all tests that ask for it, and one job on its share for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.machine import skip_for
from tests.nfs.lab import needs
from tests.nfs.lab.lab import DISK, Lab
from tests.nfs.lab.machine import LIMIT_S, Ended, Guest, Process

PROGRAM = str(Path(sys.executable).parent / "claimwork")

# A task that tests steer, on each host by itself, by a file that is not on the share: a name that was looked up too early
# stays absent in an NFS client for a minute. Each execution leaves a file of its own, which no other host can overwrite.
TASKS = """
import os, socket, time
from pathlib import Path
from claimwork import task

HERE = Path(__file__).parent
HOST = socket.gethostname()
GO = os.environ.get("GO", f"/run/go-{HERE.name}")

@task
def steered(path, attempt):
    (HERE / "runs" / f"{HOST} {attempt.number} {path.name}").touch()
    if path.name.startswith("slow"):
        time.sleep(0.3)
    while path.name.startswith("held") and not os.path.exists(GO):
        time.sleep(0.1)
    return path.stat().st_size

@steered.reducer
def _(results):
    found = sorted((each.input, each.value) for each in results)
    return {"inputs": len(found), "quarantined": results.quarantined, "bytes": sum(size for _, size in found)}
"""
_numbers = count(1)


@pytest.fixture(scope="session")
def booted() -> Iterator[Lab]:
    """A server and three clients, as the tests before have left them; tests ask for `lab`."""
    skip_for(needs.missing())
    with Lab(3) as lab:
        yield lab


@pytest.fixture
def lab(booted: Lab) -> Iterator[Lab]:
    """A server and three clients in good order, and without programs."""
    booted.mend()
    yield booted
    booted.mend()  # or the next test would be charged with what this one has broken


class Site:
    """IN and OUT of one job on the share, as all hosts see it under one path, and on the server's disk under another."""

    def __init__(self, lab: Lab, flavour: str, local: Path) -> None:
        self.name = name = f"job-{next(_numbers)}"
        self.lab = lab
        self.share = f"{lab.share(flavour)}/{name}"
        self.disk = f"{DISK}/{name}"
        self.local = local
        """What the share held at first, on this machine: for the undisturbed run."""
        for directory in ("in", "runs"):
            (local / directory).mkdir(parents=True)
        (local / "tasks.py").write_text(TASKS)
        self.options: tuple[str, ...] = ()

    # -- before -------------------------------------------------------------------------------------------------------

    def put(self, *names: str) -> None:
        """Make inputs, for a job that is not there yet; those that are held are large, and so the first to be run."""
        for name in names:
            (self.local / "in" / name).write_text(f"{name} is an input\n" * (50 if name.startswith("held") else 1))

    def ship(self, *options: str) -> None:
        """Bring the inputs to the share. *options* are those of the job; what a test holds is not to be run as a copy."""
        self.options = ("--no-backups", *options)
        self.lab.server.guest.shell(f"cp -r {self.local} {self.disk}")

    def add(self, *names: str) -> None:
        """Make more inputs, on the share as well."""
        self.put(*names)
        for name in names:
            self.lab.server.guest.run("cp", f"{self.local}/in/{name}", f"{self.disk}/in/{name}")

    # -- during -------------------------------------------------------------------------------------------------------

    def start(self, host: int, *args: str) -> Process:
        """Start `claimwork` on a host, counted from 1."""
        return self.lab.clients[host - 1].guest.start("claimwork", *args, cwd=self.share)

    def call(self, host: int, *args: str, limit_s: float = LIMIT_S) -> Ended:
        """Run `claimwork` on a host, to its end."""
        return self.start(host, *args).wait(limit_s)

    def worker(self, host: int, *options: str) -> Process:
        """Start a worker with one slot on a host; it creates the job when it is the first."""
        return self.start(host, "worker", "in", "out", "--slots", "1", *self.options, *options)

    def workers(self, *hosts: int) -> list[Process]:
        """Start workers."""
        return [self.worker(host) for host in hosts]

    def finish(self, *workers: Process, limit_s: float = LIMIT_S) -> None:
        """Wait for workers, which must find everything done."""
        for worker in workers:
            ended = worker.wait(limit_s)
            assert ended.code == 0, f"{worker}: {ended}"

    def let_go(self, *hosts: int) -> None:
        """Let inputs that are held come to their end on these hosts."""
        for host in hosts:
            self.lab.clients[host - 1].guest.run("touch", f"/run/go-{self.name}")

    def inside(self, directory: str) -> dict[str, str]:
        """Files below a directory of this site with what they hold, as the server has them."""
        path = f"{self.disk}/{directory}"
        found: dict[str, str] = json.loads(self.lab.server.guest.run("@dump", path))
        return found

    def runs(self) -> list[tuple[str, int, str]]:
        """Host, attempt and input of each execution of a steered task; the same again on one host counts once."""
        rows = [name.split(" ", 2) for name in self.inside("runs")]
        return sorted((row[0], int(row[1]), row[2]) for row in rows)

    def wait_until(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """The first true value of *condition*; fails the test when there is none in time."""
        until = time.monotonic() + limit_s
        while not (found := condition()):
            if time.monotonic() > until:
                pytest.fail(f"in vain for {limit_s:g} s: {what}; ran: {self.runs()}; .claimwork: {self.state()}")
            time.sleep(0.2)
        return found

    def wait_for_run(self, name: str, host: int | None = None) -> str:
        """Wait for an execution of an input; the host that runs it."""
        wanted = None if host is None else f"client{host}"

        def found() -> str | None:
            return next((who for who, _, ran in self.runs() if ran == name and wanted in (None, who)), None)

        who: str = self.wait_until(found, f"an execution of {name} on {wanted or 'any host'}")
        return who

    def done(self) -> list[str]:
        """Names of the done records of the first segment; small jobs have one for each input."""
        return sorted(self.inside("out/.claimwork/done/000000"))

    def wait_for_results(self, number: int) -> None:
        """Wait until so many results are published."""
        self.wait_until(lambda: len(self.inside("out/results")) >= number, f"{number} results")

    # -- after --------------------------------------------------------------------------------------------------------

    def state(self) -> list[str]:
        """What is in .claimwork, for a person."""
        return sorted(self.inside("out/.claimwork"))

    def told(self, host: int = 1) -> dict[str, Any]:
        """The document of `claimwork status --json`."""
        found: dict[str, Any] = json.loads(self.call(host, "status", "out", "--json").stdout)
        return found

    def verify(self, host: int = 1) -> None:
        """The job is as if nothing had disturbed it: `check` is content, results and summary are those of a local run."""
        checked = self.call(host, "check", "out")
        assert (checked.code, checked.stderr) == (0, ""), checked
        expected = self._undisturbed()
        assert self.inside("out/results") == files_below(expected / "results")
        assert self.inside("out")["summary.json"] == (expected / "summary.json").read_text()
        assert self.inside("out/quarantine") == {}

    def _undisturbed(self) -> Path:
        out = self.local / "undisturbed"
        argv = [PROGRAM, "run", "in", str(out), "--quiet", *self.options]
        subprocess.run(argv, cwd=self.local, env={**os.environ, "GO": "/"}, check=True, capture_output=True)
        return out


PATIENCE = ("--patience", "10")
"""T of jobs in which a host is lost: long against the seconds that a guest stands still on a busy machine."""


def files_below(path: Path) -> dict[str, str]:
    """Files below a directory of this machine with what they hold."""
    return {str(each.relative_to(path)): each.read_text() for each in path.rglob("*") if each.is_file()}


def guests_of(lab: Lab) -> list[Guest]:
    """The guests of all clients."""
    return [client.guest for client in lab.clients]


@pytest.fixture
def make_site(lab: Lab, tmp_path: Path) -> Callable[[str], Site]:
    """Make the site of a test's job; the argument is a flavour."""
    return lambda flavour: Site(lab, flavour, tmp_path / "site")
