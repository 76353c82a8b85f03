"""SIGTERM in every phase of a ticket: what was not finished is back in ready, nobody is charged, nothing is lost.

`tampered.py` holds the program at a system call of its own, so each phase is hit for certain and not by good luck.
"""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Bench, Ended, end, wait_until

NAMES = ["a", "b", "c", "d"]
SUMMARY = {"inputs": 4, "quarantined": 0, "bytes": 48}
CLAIMS = pytest.mark.parametrize("claims", ["rename", "marker"])


@dataclass(frozen=True)
class Phase:
    """Who is held, and at which call; see `tampered.hold`."""

    who: str
    when: str
    call: str
    path: str

    def __str__(self) -> str:
        return f"{self.when} {self.call} {self.path.strip('/')}"


def at(who: str, *calls: tuple[str, str]) -> list[Phase]:
    """Just before and just after each of these calls."""
    return [Phase(who, when, call, path) for call, path in calls for when in ("before", "after")]


def phases(claims: str) -> list[Phase]:
    """From the first sign of life to the goodbye of a worker; its tickets begin and end in it."""
    claimed = ("rename", "/work/") if claims == "rename" else ("link", ".lock")
    return at("worker", ("open_beat", "/live/"), claimed, ("unlink", "/work/"))


IN_CHILD = at("child", ("link", "/results/"), ("link", "/done/"))
IN_PLAN = at("child", ("link", "/plan/000000"), ("link", "/plan/000001"))
IN_REDUCE = at("child", ("link", "/summary/"), ("rename", "/summary.json"))
WORKER = ["worker", "in", "out", "--slots", "1"]


def hold(bench: Bench, phase: Phase, *command: str) -> subprocess.Popen[str]:
    """Start a command; it has come to the phase when this returns."""
    process = bench.tampered(*command, at=[phase.who, phase.when, phase.call, phase.path])
    wait_until(lambda: (bench.root / "reached").exists() or process.poll() is not None, f"{phase}")
    assert process.poll() is None, process.communicate()
    return process


def tell_to_stop(bench: Bench, process: subprocess.Popen[str], told: str = "draining") -> None:
    """SIGTERM; the process has seen it when this returns (*told*: "told"), and its child as well ("draining")."""
    process.terminate()
    wait_until((bench.root / told).exists, f"a worker that says {told}")


def nothing_is_charged(bench: Bench) -> None:
    """No failure is recorded, and every ticket waits in ready, at its first attempt, with nobody near it."""
    assert bench.inside("failures") == []
    assert {name.rpartition("/")[2].split(".")[6] for name in bench.inside("ready")} <= {"a1"}
    leftovers = {name: bench.inside(name) for name in ("work", "live", "dead", "stage", "oslock")}
    assert not any(leftovers.values()), leftovers


def waiting(bench: Bench, kind: str = "") -> list[str]:
    """Tickets in ready; with marker claims those that nobody has locked."""
    locked = {name.rpartition("/")[2].removesuffix(".lock") for name in bench.inside("locks")}
    names = {name.rpartition("/")[2] for name in bench.inside("ready")}
    return sorted(name for name in names - locked if name.startswith(kind))


def finishes(bench: Bench, attempt: int = 1) -> None:
    """The next worker completes the job: nothing was lost, all ran at the same attempt, `check` finds nothing."""
    assert end(bench.start(*WORKER)).code == 0
    assert bench.summary() == SUMMARY
    assert {ran.attempt for ran in bench.runs()} == {attempt}
    assert bench.results() == [f"{name}.json" for name in NAMES]
    assert bench.ok("check", "out").stdout.startswith("clean: ")
    assert not waiting(bench, "m")


@pytest.mark.parametrize(
    ("claims", "phase"), [(claims, phase) for claims in ("rename", "marker") for phase in phases(claims)], ids=str
)
def test_the_worker_itself_is_in_the_middle_of_a_step(bench: Bench, claims: str, phase: Phase) -> None:
    """Joining, claiming, dropping a ticket: it ends the step, starts nothing more, and hands back what it holds."""
    bench.put(*NAMES)
    bench.plan("--task", "tasks:hold", "--claims", claims)
    worker = hold(bench, phase, *WORKER)

    tell_to_stop(bench, worker, "told")
    bench.say("pass")

    ended = end(worker)
    assert ended.code == 143, ended
    nothing_is_charged(bench)
    assert len(waiting(bench, "m")) + len(bench.inside("done")) == len(NAMES)
    assert len(bench.results()) == len(bench.inside("done"))
    if phase.call == "open_beat":
        assert bench.runs() == []
    finishes(bench)


def stopped_in_child(bench: Bench, phase: Phase, how: str, *command: str) -> Ended:
    """Hold the child of a command and stop the command: let the child go on in time, or outlast the grace."""
    patience = {"in time": "300", "the grace is over": "0.2", "a second signal": "300"}[how]
    process = hold(bench, phase, *command, "--grace", patience)
    wait_until(
        lambda: len(bench.inside("live")) == 1 and not bench.inside("dead"), "the burial of who was killed before"
    )
    tell_to_stop(bench, process)
    if how == "in time":
        bench.say("pass")
    if how == "a second signal":
        process.send_signal(signal.SIGTERM)
    ended = end(process)
    bench.say("pass")  # nobody is there to see it
    return ended


HOW = ["in time", "the grace is over", "a second signal"]
KILLED = HOW[1:]  # the child is


def cases(phases: list[Phase], ways: list[str]) -> pytest.MarkDecorator:
    """Each phase in each way, with the two kinds of claims in turn."""
    found = [(phase, how) for phase in phases for how in ways]
    rows = [(*case, "marker" if (at + at // len(ways)) % 2 else "rename") for at, case in enumerate(found)]
    return pytest.mark.parametrize(("phase", "how", "claims"), rows, ids=str)


@cases(IN_CHILD, HOW)
def test_a_child_publishes_and_finishes(bench: Bench, claims: str, phase: Phase, how: str) -> None:
    """What it could not finish is run again; a result that was out by then is adopted."""
    bench.put(*NAMES)
    bench.plan("--task", "tasks:hold", "--claims", claims)

    ended = stopped_in_child(bench, phase, how, *WORKER)

    assert ended.code == 143, ended
    nothing_is_charged(bench)
    published = 1 if phase.when == "after" or phase.path == "/done/" or how == "in time" else 0
    done = 1 if how == "in time" or (phase.when, phase.path) == ("after", "/done/") else 0
    assert (len(bench.results()), len(bench.inside("done"))) == (published, done)
    assert len(waiting(bench, "m")) == len(NAMES) - 1 + (how != "in time")
    finishes(bench)


@cases([IN_PLAN[0], *IN_PLAN[2:]], HOW)
def test_a_planner(bench: Bench, claims: str, phase: Phase, how: str) -> None:
    """The plan ticket goes back, and the next planner carries on from what is in the log."""
    bench.put(*NAMES)

    ended = stopped_in_child(bench, phase, how, *WORKER, "--task", "tasks:hold", "--claims", claims)

    assert ended.code == 143, ended
    nothing_is_charged(bench)
    assert bool(waiting(bench, "p")) == (how != "in time")
    assert bench.runs() == []
    finishes(bench)


@pytest.mark.parametrize("allowed", ["1", "3"])
def test_a_planner_between_an_entry_and_its_tickets(bench: Bench, allowed: str) -> None:
    """The tickets are offered by whoever misses them, as second attempts; none is taken for one that failed before."""
    bench.put(*NAMES)

    ended = stopped_in_child(bench, IN_PLAN[1], KILLED[1], *WORKER, "--task", "tasks:hold", "--max-attempts", allowed)

    assert ended.code == 143, ended
    nothing_is_charged(bench)
    finishes(bench, attempt=2)


def test_a_planner_of_more_inputs(bench: Bench) -> None:
    """A complete job to which inputs are being added is not complete: the exit code says that work remains."""
    bench.put(*NAMES[1:])
    bench.run("--task", "tasks:hold", "-q")
    bench.put(NAMES[0])
    planner = hold(
        bench, Phase("worker", "before", "open_beat", "/live/"), "plan", "in", "out"
    )  # has asked for a listing
    planner.kill()
    end(planner)
    bench.unsay("reached")

    ended = stopped_in_child(bench, Phase("child", "before", "link", "/plan/000002"), "a second signal", *WORKER)

    assert len(waiting(bench, "p")) == 1
    assert ended.code == 143, ended
    finishes(bench)


def mapped(bench: Bench, claims: str) -> None:
    """A job where all inputs are done, and whoever was about to reduce was killed just before."""
    bench.put(*NAMES)
    bench.plan("--task", "tasks:hold", "--claims", claims)
    mapper = hold(bench, Phase("worker", "before", "rename" if claims == "rename" else "link", "/r.h"), *WORKER)
    mapper.kill()
    end(mapper)
    bench.unsay("reached")


@cases(IN_REDUCE, HOW)
def test_a_finalizer(bench: Bench, claims: str, phase: Phase, how: str) -> None:
    """Exit code 0 says that nothing is left to do: then the summary is out, and summary.json shows it."""
    mapped(bench, claims)

    ended = stopped_in_child(bench, phase, how, *WORKER)

    nothing_is_charged(bench)
    assert ended.code == (0 if (bench.out / "summary.json").exists() else 143), ended
    finishes(bench)


def test_a_finalizer_that_does_nothing_else(bench: Bench) -> None:
    """`claimwork reduce` hands its ticket back like any worker, without waiting for the grace when told twice."""
    mapped(bench, "rename")
    reduce = hold(bench, IN_REDUCE[0], "reduce", "out")

    tell_to_stop(bench, reduce)
    reduce.terminate()

    assert end(reduce).code == 143
    assert len(waiting(bench, "r")) == 1
    finishes(bench)


@CLAIMS
def test_a_third_signal_does_not_wait_for_the_worker(bench: Bench, claims: str) -> None:
    """It ends a worker that hangs in a call; its ticket comes back like that of a worker that was killed."""
    bench.put(*NAMES)
    bench.plan("--task", "tasks:hold", "--claims", claims)
    claim = phases(claims)[3]
    worker = hold(bench, claim, *WORKER)

    for _ in range(2):
        tell_to_stop(bench, worker, "told")
        bench.unsay("told")
    worker.terminate()

    assert end(worker).code == 143
    assert end(bench.start(*WORKER)).code == 0
    assert bench.summary() == SUMMARY
    assert bench.ok("check", "out").stdout.startswith("clean: ")
    assert bench.is_settled()
