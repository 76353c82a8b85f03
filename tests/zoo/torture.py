"""What the zoo does to a filesystem: doctor as a pair, races for tickets, and a job whose workers and hosts are killed.

All figures come from what is on the disk, from exit codes, or from what the programs print; see `Row`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.nfs.lab.machine import Guest, LabError, Process
from tests.zoo.habitat import Habitat
from tests.zoo.species import SHARE, Species

PROGRAM = str(Path(sys.executable).parent / "claimwork")
_RACER = str(Path(__file__).with_name("racer.py"))
_ROOT = str(Path(__file__).resolve().parents[2])
_UNFIT = 11
_LIMIT_S = 600.0  # of a daemon in a guest with one processor, on a busy machine

# Each execution leaves a name of its own: host, process of the worker, attempt, input. Those that are held wait for a file
# that is not on the filesystem under test.
_TASKS = """
import os, time
from pathlib import Path
from claimwork import task

HERE = Path(__file__).parent
GO = os.environ["GO"]

@task
def steered(path, attempt):
    host = os.uname().nodename
    (HERE / "runs" / f"{host} {os.getppid()} {attempt.number} {path.name}").touch()
    time.sleep(0.05)
    while path.name.startswith("held") and not os.path.exists(GO):
        time.sleep(0.05)
    return {"words": len(path.read_text().split())}

@steered.reducer
def _(results):
    found = sorted((each.input, each.value["words"]) for each in results)
    return {"inputs": len(found), "quarantined": results.quarantined, "words": sum(words for _, words in found)}
"""


@dataclass(frozen=True)
class Effort:
    """How much is done. A quick one still kills a worker, and the host where the files survive that."""

    raced: int = 200
    inputs: int = 40
    kills: int = 4
    workers: int = 3
    """On each host."""


FULL, QUICK = Effort(), Effort(raced=40, inputs=10, kills=1, workers=2)


@dataclass
class Tortured:
    """What a job with one claim store went through."""

    claims: str
    raced: int = 0
    double: int = 0
    nobody: int = 0
    kills: int = 0
    lost_hosts: int = 0
    lost: int = 0
    """Inputs without the result of an undisturbed run."""
    recovery_s: float | None = None
    """From the kill of a worker to the next start of what it ran."""
    host_recovery_s: float | None = None
    """The same after the loss of its host, with T = 10 s; none where no other host is left."""
    complaints: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it went as it should."""
        return not (self.double or self.nobody or self.lost or self.complaints)


@dataclass
class Row:
    """Everything about one filesystem."""

    name: str
    what: str
    doctor: dict[str, Any]
    jobs: list[Tortured] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether torture showed what doctor said."""
        return not self.complaints and all(job.ok for job in self.jobs)

    def words(self, probe: str) -> str:
        """What doctor said of one probe."""
        return next((each["words"] for each in self.doctor["findings"] if each["probe"] == probe), "")


def torture(species: Species, habitat: Habitat, effort: Effort, say: Callable[[str], None]) -> Row:
    """Examine *species*, then try what doctor allows."""
    row = Row(species.name, species.what, _examine(habitat, say))
    say(f"{row.doctor['verdict']}, {row.doctor['claims']}")
    if row.doctor["verdict"] == "unfit":
        _expect_refusal(row, habitat)
        return row
    for claims in ("rename", "marker") if row.doctor["claims"] == "rename" else ("marker",):
        job = Tortured(claims)
        row.jobs.append(job)
        try:
            _race(job, habitat, effort)
            say(f"{claims}: {job.raced} tickets raced, {job.double} double, {job.nobody} nobody's")
            _Job(job, species, habitat, effort, say).run()
        except LabError as error:
            job.complaints.append(str(error))
        finally:
            for host in habitat.hosts:
                if host.is_alive:
                    host.end_programs()
            habitat.restore()
        say(f"{claims}: {job}")
    return row


def _two(habitat: Habitat) -> list[Guest]:
    """Two hosts, or one twice."""
    return (habitat.hosts * 2)[:2]


def _examine(habitat: Habitat, say: Callable[[str], None]) -> dict[str, Any]:
    argv: tuple[str, ...] = ("claimwork", "doctor", SHARE, "--json")
    alone = habitat.hosts[0].call(*argv, limit_s=_LIMIT_S)
    if alone.code == _UNFIT:
        told: dict[str, Any] = json.loads(alone.stdout)
        return told  # two of them would find nothing better
    argv = (*argv, "--pair", "zoo")
    started = [host.start(*argv) for host in _two(habitat)]
    for each in started:
        ended = each.wait(_LIMIT_S)
        if ended.code not in (0, _UNFIT):
            raise LabError(f"{each} ended with {ended.code}: {ended.stderr}")
    told = json.loads(started[0].stdout)
    for each in told["findings"]:
        if not each["ok"]:
            say(f"{each['probe']}: {each['words']} ({each['weight']})")
    return told


def _expect_refusal(row: Row, habitat: Habitat) -> None:
    """A worker says the same as doctor, creates no job, and ends with the exit code of that."""
    host = habitat.hosts[0]
    host.shell(f"mkdir -p {SHARE}/in; echo words >{SHARE}/in/a")
    ended = host.call("claimwork", "run", f"{SHARE}/in", f"{SHARE}/out", "--quiet", limit_s=_LIMIT_S)
    if ended.code != _UNFIT or "unfit" not in ended.stderr:
        row.complaints.append(f"doctor says unfit, and a worker ended with {ended.code}: {ended.stderr.strip()}")
    if host.shell(f"ls -A {SHARE}/out/.claimwork 2>/dev/null || true").split():
        row.complaints.append("a job was begun on an unfit filesystem")


# -- races ------------------------------------------------------------------------------------------------------------


def _race(job: Tortured, habitat: Habitat, effort: Effort) -> None:
    """Several processes on every host try to claim the same tickets in the same order."""
    out = f"{SHARE}/race-{job.claims}"
    python, env = sys.executable, {"PYTHONPATH": _ROOT}
    habitat.hosts[0].run(python, _RACER, out, job.claims, "prepare", str(effort.raced), env=env, limit_s=_LIMIT_S)
    racers = [host.start(python, _RACER, out, job.claims, "race", env=env) for host in _two(habitat) for _ in range(2)]
    for each in racers:
        each.wait_for_words("ready", _LIMIT_S)
    for each in racers:
        each.signal(signal.SIGUSR1)
    won: dict[int, int] = {}
    tried = []
    for each in racers:
        ended = each.wait(_LIMIT_S)
        if ended.code:
            raise LabError(f"a racer ended with {ended.code}: {ended.stderr}")
        told = json.loads(ended.stdout.splitlines()[-1])
        tried.append(told["tried"])
        for number in {*told["told"], *told["held"]}:
            won[number] = won.get(number, 0) + 1
    job.raced = min(tried)
    job.double = sum(each > 1 for each in won.values())
    job.nobody = effort.raced - len(won)


# -- a job ------------------------------------------------------------------------------------------------------------


class _Job:
    """One job with kills, from its inputs to its verification."""

    def __init__(
        self, job: Tortured, species: Species, habitat: Habitat, effort: Effort, say: Callable[[str], None]
    ) -> None:
        self._job = job
        self._species = species
        self._habitat = habitat
        self._effort = effort
        self._say = say
        self._site = f"{SHARE}/job-{job.claims}"
        self._go = f"/run/go-{job.claims}"
        self._workers: dict[tuple[str, int], tuple[Guest, Process]] = {}
        self._rng = random.Random(job.claims)
        self._options = ("--task", "tasks:steered", "--claims", job.claims, "--patience", "10", "--max-attempts", "20")

    def run(self) -> None:
        local = self._put()
        for host in self._alive():
            for _ in range(self._effort.workers):
                self._start(host)
        self._job.recovery_s = self._kill_the_worker_of("held-a")
        for _ in range(self._effort.kills - 1):
            self._kill_any()
        if self._species.is_shared:
            self._job.host_recovery_s = self._kill_the_host_of("held-b")
        elif self._species.survives:
            self._kill_the_host_of("held-b")
        for host in self._alive():
            host.run("touch", self._go)
        self._complete()
        self._verify(local)

    def _put(self) -> Path:
        local = self._habitat.lair / f"job-{self._job.claims}"
        for directory in ("in", "runs"):
            (local / directory).mkdir(parents=True)
        (local / "tasks.py").write_text(_TASKS)
        for name in ("held-a", "held-b", *(f"{number:03d}" for number in range(self._effort.inputs))):
            text = f"{name} is an input\n"
            (local / "in" / name).write_text(text * (60 if name.startswith("held") else 1 + len(name) % 7))
        self._habitat.hosts[0].shell(f"cp -r {local} {self._site}; sync", limit_s=_LIMIT_S)  # a host may lose its power
        return local

    def _alive(self) -> list[Guest]:
        return [host for host in self._habitat.hosts if host.is_alive]

    def _start(self, host: Guest) -> None:
        argv = ("claimwork", "worker", "in", "out", "--slots", "1", *self._options)
        process = host.start(*argv, cwd=self._site, env={"GO": self._go})
        self._workers[host.name, process.pid] = host, process

    def _runs(self) -> list[tuple[str, int, int, str]]:
        """Host, process, attempt, input of each execution so far."""
        names = self._alive()[0].run("ls", f"{self._site}/runs", limit_s=_LIMIT_S).splitlines()
        rows = [name.split(" ", 3) for name in names]
        return [(row[0], int(row[1]), int(row[2]), row[3]) for row in rows]

    def _wait_for_run(self, name: str, known: set[tuple[str, int]]) -> tuple[str, int]:
        """Who runs *name* now, other than those *known* to have run it."""
        until = time.monotonic() + _LIMIT_S
        while time.monotonic() < until:
            for host, pid, _, ran in self._runs():
                if ran == name and (host, pid) not in known:
                    return host, pid
            time.sleep(0.1)
        raise LabError(f"nobody runs {name} within {_LIMIT_S:g} s; {self._said()}")

    def _said(self) -> str:
        return "; ".join(f"{process.code}: {process.stderr[-300:]!r}" for _, process in self._workers.values())

    def _kill(self, who: tuple[str, int]) -> Guest:
        host, process = self._workers.pop(who)
        process.signal(signal.SIGKILL)
        process.wait(_LIMIT_S)
        self._job.kills += 1
        return host

    def _kill_the_worker_of(self, name: str) -> float:
        who = self._wait_for_run(name, set())
        host = self._kill(who)
        started = time.monotonic()
        self._wait_for_run(name, {who})
        took_s = time.monotonic() - started
        self._start(host)
        return took_s

    def _kill_any(self) -> None:
        running = [who for who, (_, process) in self._workers.items() if process.code is None]
        if running:
            self._start(self._kill(self._rng.choice(sorted(running))))
            time.sleep(self._rng.uniform(0.3, 2.0))

    def _kill_the_host_of(self, name: str) -> float | None:
        """Power loss. Where no other host is left, it boots again and a fresh worker begins."""
        known = {(host, pid) for host, pid, _, ran in self._runs() if ran == name and (host, pid) not in self._workers}
        who = self._wait_for_run(name, known)
        victim = next(host for host in self._habitat.hosts if host.name == who[0])
        before = {(host, pid) for host, pid, _, ran in self._runs() if ran == name}
        victim.kill()
        started = time.monotonic()
        self._job.lost_hosts += 1
        self._workers = {key: each for key, each in self._workers.items() if each[0] is not victim}
        if not self._alive():
            self._habitat.restore()
            self._start(self._habitat.hosts[0])
            return None
        self._wait_for_run(name, before)
        return time.monotonic() - started

    def _complete(self) -> None:
        """Let the workers that are left come to their end, then fresh ones look for what remains."""
        for _, process in self._workers.values():
            self._expect(process)
        self._workers.clear()
        for host in self._alive():
            self._start(host)
        for _, process in self._workers.values():
            self._expect(process)

    def _expect(self, process: Process) -> None:
        ended = process.wait(_LIMIT_S)
        if ended.code:
            said = (
                " ".join(each.run("dmesg").strip()[-300:] for each in self._alive()) if ended.code < 0 else ended.stderr
            )
            self._job.complaints.append(f"a worker ended with {ended.code}: {said.strip()[-1000:]}")

    def _check(self, host: Guest) -> None:
        """Nothing is found but the stage of a worker that was killed before it had a record, which --repair removes."""
        last: list[dict[str, Any]] = []
        for repair in ((), ("--repair",), ()):
            ended = host.call("claimwork", "check", "out", "--json", *repair, cwd=self._site, limit_s=_LIMIT_S)
            if ended.stderr:
                self._job.complaints.append(f"check {repair} ended with {ended.code}: {ended.stderr}")
                return
            last = json.loads(ended.stdout)["findings"]
            self._job.complaints += [f"check: {each}" for each in last if each["code"] != "stray-stage"]
            if not last:
                return
        self._job.complaints += [f"check --repair leaves {each}" for each in last]

    def _verify(self, local: Path) -> None:
        """Everything is as an undisturbed run leaves it."""
        host = self._alive()[0]
        self._check(host)
        out = local / "undisturbed"
        argv = [PROGRAM, "run", "in", str(out), "--quiet", *self._options]
        subprocess.run(argv, cwd=local, env={**os.environ, "GO": "/"}, check=True, capture_output=True)
        found: dict[str, str] = json.loads(host.run("@dump", f"{self._site}/out", limit_s=_LIMIT_S))
        expected = {
            str(each.relative_to(out)): each.read_text()
            for each in [*(out / "results").iterdir(), out / "summary.json"]
        }
        self._job.lost = sum(found.get(name) != text for name, text in expected.items() if name.startswith("results/"))
        if found.get("summary.json") != expected["summary.json"]:
            self._job.complaints.append(f"the summary is {found.get('summary.json')}")
        shown = {name for name in found if not name.startswith(".claimwork/")}
        if shown - set(expected):
            self._job.complaints.append(f"there are more files than there should be: {sorted(shown - set(expected))}")
