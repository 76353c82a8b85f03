"""Round trips on a real NFS mount by the client's own counters, and items/s beside a loop of bare system calls there.

Two machines of the NFS lab, a server and a client. A job of inputs of 1 KiB and a task that only reads them; what is counted
lies between the first call of the task and that of the reducer. A round trip takes as much longer as the delay says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.bench.measure import Measure, Options
from tests.nfs.lab import needs
from tests.nfs.lab.lab import DISK, Lab
from tests.nfs.lab.machine import LIMIT_S

PER_INPUT, PER_TICKET = 8.0, 9.0  # the project's budget of round trips
IDLE_TRIPS, IDLE_S = 20.0, 30.0  # and that of a worker with nothing to do
IN_FLIGHT = 8
SIZES = ((64, 0), (960, 0), (960, 1), (192, 5))  # inputs, ms: tickets of one input, then of some
LONG_S = 600.0
MOST_REPEATS = 3  # a turn takes four minutes, and counts hardly differ
COUNTER = Path(__file__).with_name("in_guest.py")

_numbers = count(1)


@dataclass(frozen=True)
class Job:
    """What was counted in one job."""

    inputs: int
    tickets: int
    seconds: float
    trips: dict[str, int]

    @property
    def per_input(self) -> float:
        """All round trips, shared out."""
        return sum(self.trips.values()) / self.inputs

    @property
    def budget(self) -> float:
        """What `per_input` may be."""
        return PER_INPUT + PER_TICKET * self.tickets / self.inputs


def measure(options: Options) -> list[Measure]:
    """Count and time jobs of several sizes at several delays; then let a worker idle."""
    needs.install()
    found: dict[tuple[int, int], list[tuple[Job, float, float]]] = {}
    idle: list[float] = []
    with Lab(2) as lab:
        bench = Bench(lab, options.flavour)
        for _ in range(min(options.repeats, MOST_REPEATS)):
            for inputs, delay_ms in SIZES:
                bench.delay(delay_ms)
                bare = bench.bare(inputs)
                one, several = bench.job(inputs, 1), bench.job(inputs, IN_FLIGHT)
                found.setdefault((inputs, delay_ms), []).append((one, several.seconds, bare))
            bench.delay(0)
            idle.append(bench.idle())
    return [*_of_jobs(found), Measure(f"round trips of an idle worker in {IDLE_S:g} s", "", idle, IDLE_TRIPS)]


def _of_jobs(found: dict[tuple[int, int], list[tuple[Job, float, float]]]) -> Iterator[Measure]:
    for (inputs, delay_ms), runs in found.items():
        jobs = [job for job, _, _ in runs]
        where = f"{inputs} inputs in {jobs[0].tickets} tickets, {delay_ms} ms"
        yield Measure(f"{where}: round trips per input", "", [job.per_input for job in jobs], jobs[0].budget)
        for operation in sorted({operation for job in jobs for operation in job.trips}):
            yield Measure(f"{where}: {operation}", "", [job.trips.get(operation, 0) / inputs for job in jobs])
        yield Measure(f"{where}: bare loop", "items/s", [inputs / bare for _, _, bare in runs])
        yield Measure(f"{where}: 1 slot", "items/s", [inputs / job.seconds for job in jobs])
        yield Measure(f"{where}: {IN_FLIGHT} slots", "items/s", [inputs / seconds for _, seconds, _ in runs])


class Bench:
    """Jobs on the share of a lab, run by its first client."""

    def __init__(self, lab: Lab, flavour: str) -> None:
        self._lab = lab
        self._share = lab.share(flavour)
        self._client, self._other = (client.guest for client in lab.clients)

    def delay(self, ms: float) -> None:
        """Let each round trip take so much longer."""
        for client in self._lab.clients:
            client.cable.delay_s = ms / 2000

    def job(self, inputs: int, slots: int) -> Job:
        """Plan and run one job."""
        name = self._make(inputs)
        root = f"{self._share}/{name}"
        self._client.run("claimwork", "plan", "in", "out", "--task", "in_guest:read_whole", cwd=root, limit_s=LONG_S)
        self._client.run("claimwork", "worker", "in", "out", "--slots", str(slots), "--quiet", cwd=root, limit_s=LONG_S)
        notes = [json.loads(line) for line in self._client.run("cat", f"/run/{name}").splitlines()]
        begun, ended = notes[0], notes[-1]
        tickets = int(self._lab.server.guest.shell(f"find {DISK}/{name}/out/.claimwork/done -type f | wc -l"))
        self._remove(name)
        trips = {
            operation: number - begun["trips"].get(operation, 0)
            for operation, number in ended["trips"].items()
            if number > begun["trips"].get(operation, 0)
        }
        return Job(inputs, tickets, ended["at"] - begun["at"], trips)

    def bare(self, inputs: int) -> float:
        """Seconds that the same takes without claims and records: read, write aside, flush, link, unlink."""
        name = self._make(inputs)
        script = f"{self._share}/{name}/in_guest.py"
        seconds = float(self._client.run("python", script, "bare", cwd=f"{self._share}/{name}", limit_s=LONG_S))
        self._remove(name)
        return seconds

    def idle(self) -> float:
        """Round trips of a worker that waits for the end of an input that another host has, in `IDLE_S`."""
        name = self._make(1)
        root = f"{self._share}/{name}"
        argv = ("claimwork", "worker", "in", "out", "--slots", "1", "--quiet")
        busy = self._other.start(*argv, "--task", "in_guest:wait", cwd=root)
        self._lab.server.guest.shell(f"until ls {DISK}/{name}/runs/* >/dev/null 2>&1; do sleep 0.2; done", LIMIT_S)
        idle = self._client.start(*argv, cwd=root)
        time.sleep(IDLE_S)  # looks become rare
        before = sum(self._trips().values())
        time.sleep(2 * IDLE_S)
        trips = (sum(self._trips().values()) - before) / 2
        self._other.run("touch", f"/run/{name}")
        busy.wait()
        idle.wait()
        self._remove(name)
        return trips

    def _trips(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(self._client.run("python", str(COUNTER), "trips", self._share))
        return found

    def _make(self, inputs: int) -> str:
        name = f"bench-{next(_numbers)}"
        self._lab.server.guest.shell(
            f"mkdir -p {DISK}/{name}/in {DISK}/{name}/runs; cd {DISK}/{name}; cp {COUNTER} .; python in_guest.py make {inputs}",
            LONG_S,
        )
        return name

    def _remove(self, name: str) -> None:
        self._lab.server.guest.run("rm", "-r", f"{DISK}/{name}", limit_s=LONG_S)
