"""Workers that stand still for longer than their peers wait, and wake up late: each input counts once all the same."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.e2e.conftest import Bench, Ended, Ran, all_of, end, stop, wait_until, wake

CLAIMS = pytest.mark.parametrize("claims", ["rename", "marker"])
# T; the least that is allowed, 1 s, is little for a worker on a busy machine. What a test holds is not to be run as a copy
PATIENCE = ["--patience", "3", "--no-backups"]
BEATS_IN_T = 5
HOUR_S = 3600.0
NAMES = ["held", *(f"{number:02d}" for number in range(8))]


def told(bench: Bench, what: str) -> dict[int, int]:
    """A number out of the newest beat of each live worker, by process id."""
    found = {}
    for name in bench.inside("live"):
        try:
            record = json.loads((bench.out / ".claimwork" / "live" / name).read_text())
        except (OSError, ValueError):
            continue  # it left just now, or is being written
        found[record["pid"]] = record[what]
    return found


def wait_for_beats(bench: Bench, pids: Iterable[int], count: int) -> None:
    """Wait until each of these workers has beaten so often more."""
    wanted = {pid: told(bench, "beat").get(pid, 0) + count for pid in pids}
    wait_until(
        lambda: all(told(bench, "beat").get(pid, 0) >= least for pid, least in wanted.items()), f"beats {wanted}"
    )


def wait_until_told(bench: Bench, what: str, worker: subprocess.Popen[str]) -> None:
    """Wait until a beat of a worker says that something happened."""
    wait_until(lambda: told(bench, what).get(worker.pid), f"a beat of the worker that tells of {what}")


def identity_of(path: Path) -> tuple[int, int, bytes]:
    """What changes when somebody replaces a file, or writes to it."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, path.read_bytes()


def ends_as_undisturbed(bench: Bench, *, fenced: int, reclaimed: int, task: str = "tasks:hold") -> None:
    """One result per input, the summary of an undisturbed run, nothing amiss, and status tells what happened."""
    assert bench.results() == sorted(f"{path.name}.json" for path in bench.inputs.iterdir())
    bench.say("go")
    bench.ok("run", "in", "again", "--slots", "1", "--task", task, "-q")
    assert (bench.out / "summary.json").read_bytes() == (bench.root / "again" / "summary.json").read_bytes()
    assert len(bench.inside("summary")) == 1
    assert bench.ok("check", "out").stdout.startswith("clean: ")
    status = bench.status()
    assert (status["verdict"], status["fenced"], status["reclaimed"]) == ("DONE", fenced, reclaimed)
    words = re.search(r"(\d+) tickets? reclaimed, (\d+) workers? fenced\n", bench.ok("status", "out").stdout)
    assert (words is not None and words.groups()) == (fenced > 0 and (f"{reclaimed}", f"{fenced}"))
    leftovers = {name: bench.inside(name) for name in ("ready", "work", "live", "dead", "stage")}
    assert not any(leftovers.values()), leftovers


def was_fenced(late: Ended) -> bool:
    """Whether a worker that woke up late says that it was given up, and ended well nevertheless."""
    assert late.code == 0, late
    return "was taken for dead and starts afresh" in late.stderr


@pytest.mark.parametrize(("claims", "whom"), [("rename", "all of it"), ("marker", "its supervisor")])
def test_a_worker_that_wakes_when_all_is_done(bench: Bench, claims: str, whom: str) -> None:
    """A worker stands still in the middle of an input, another takes over and finishes: what is late counts for nothing."""
    bench.put(*NAMES)
    bench.plan("--task", "tasks:hold", "--claims", claims, *PATIENCE)
    late = bench.worker()
    held = bench.wait_for_run("held")
    stopped = all_of(late) if whom == "all of it" else [late.pid]

    stop(*stopped)
    other = bench.worker()
    again = bench.wait_for_run("held", attempt=2)
    bench.say(f"go-{again.child}")
    assert end(other).code == 0
    published = identity_of(bench.out / "results" / "held.json")
    bench.say(f"go-{held.child}")
    wake(*stopped)

    assert was_fenced(end(late))
    assert identity_of(bench.out / "results" / "held.json") == published
    assert [ran.attempt for ran in bench.runs() if ran.input == "held"] == [1, 2]
    ends_as_undisturbed(bench, fenced=1, reclaimed=1)


@CLAIMS
def test_a_worker_that_wakes_while_another_is_at_its_input(bench: Bench, claims: str) -> None:
    """It finds itself given up, ends its child, and helps under a new name; the other's result is the one."""
    bench.put(*NAMES)
    bench.plan("--task", "tasks:hold", "--claims", claims, *PATIENCE)
    late = bench.worker()
    held = bench.wait_for_run("held")
    stopped = all_of(late)

    stop(*stopped)
    other = bench.worker()
    again = bench.wait_for_run("held", attempt=2)
    wake(*stopped)
    wait_until_told(bench, "fenced", late)
    bench.say(f"go-{held.child}")  # too late: its worker has ended it
    bench.say(f"go-{again.child}")

    assert end(other).code == 0
    assert was_fenced(end(late))
    assert [ran.attempt for ran in bench.runs() if ran.input == "held"] == [1, 2]
    ends_as_undisturbed(bench, fenced=1, reclaimed=1)


@CLAIMS
def test_a_child_that_is_about_to_publish(bench: Bench, claims: str) -> None:
    """A child that goes on after its worker was buried has its result staged, and cannot link it any more."""
    bench.put("held")
    bench.plan("--task", "tasks:hold", "--claims", claims, *PATIENCE)
    at = ["child", "before", "link", "/results/"]
    late = bench.tampered("worker", "in", "out", "--slots", "1", at=at)
    held = bench.wait_for_run("held")
    bench.say(f"go-{held.child}")
    wait_until((bench.root / "reached").exists, "the link of the result")

    stop(late.pid)
    other = bench.worker()
    again = bench.wait_for_run("held", attempt=2)
    bench.say("pass")
    wait_until((bench.root / "passed").exists, "the end of its late link")
    assert bench.results() == []
    wake(late.pid)
    wait_until_told(bench, "fenced", late)
    bench.say(f"go-{again.child}")

    assert end(other).code == 0
    assert was_fenced(end(late))
    ends_as_undisturbed(bench, fenced=1, reclaimed=1)


@CLAIMS
def test_what_a_child_finishes_before_its_worker_is_given_up_counts(bench: Bench, claims: str) -> None:
    """While only the supervisor stands still its child publishes: who takes over finds that done and does not run it."""
    bench.put("held-1", text="the largest goes first")
    bench.put("held-2")
    bench.plan("--task", "tasks:hold", "--claims", claims, *PATIENCE)
    late = bench.worker()
    first = bench.wait_for_run("held-1")
    other = bench.worker()
    second = bench.wait_for_run("held-2")

    stop(late.pid)
    bench.say(f"go-{first.child}")
    wait_until(lambda: bench.inside("done"), "the done record")
    published = identity_of(bench.out / "results" / "held-1.json")
    wait_until_told(bench, "reclaimed", other)
    wake(late.pid)
    wait_until_told(bench, "fenced", late)
    bench.say(f"go-{second.child}")

    assert end(other).code == 0
    assert was_fenced(end(late))
    assert identity_of(bench.out / "results" / "held-1.json") == published
    assert [(ran.input, ran.attempt) for ran in bench.runs()] == [("held-1", 1), ("held-2", 1)]
    ends_as_undisturbed(bench, fenced=1, reclaimed=1)


def test_a_child_alone_that_stands_still_is_waited_for(bench: Bench) -> None:
    """Its worker beats, so nobody takes its input away, however long it takes; when it goes on, its result counts."""
    bench.put("held", "other")
    bench.plan("--task", "tasks:hold", *PATIENCE)
    worker = bench.worker()
    held = bench.wait_for_run("held")
    other = bench.worker()

    stop(held.child)
    wait_until(lambda: other.pid in told(bench, "beat"), "the other worker")
    wait_for_beats(bench, [worker.pid, other.pid], 2 * BEATS_IN_T)
    bench.say("go")
    wake(held.child)

    assert [end(worker).code, end(other).code] == [0, 0]
    assert [ran.attempt for ran in bench.runs() if ran.input == "held"] == [1]
    ends_as_undisturbed(bench, fenced=0, reclaimed=0)


def test_a_standstill_of_all_counts_for_no_timeout(bench: Bench) -> None:
    """A machine or a container that is paused for longer than --timeout charges nothing to what it was at."""
    bench.put("held")
    bench.plan("--task", "tasks:hold", "--timeout", "4", "--max-attempts", "1")
    worker = bench.worker()
    bench.wait_for_run("held")

    stop(*all_of(worker))
    time.sleep(5)
    for pid in all_of(worker)[:1]:
        wake(pid)  # the worker first: it looks before the child can answer
    time.sleep(1)
    bench.say("go")
    wake(*all_of(worker))

    assert end(worker).code == 0
    assert bench.reports() == {}
    assert bench.export() == {"held": 12}


def test_a_child_alone_that_stands_still_past_the_timeout(bench: Bench) -> None:
    """With --timeout it is ended although it stands still, and its input is attempted again."""
    bench.put("held", "other")
    bench.plan("--task", "tasks:hold", "--timeout", "2", "--backoff", "0.1", *PATIENCE)
    worker = bench.worker()
    held = bench.wait_for_run("held")

    stop(held.child)
    again = bench.wait_for_run("held", attempt=2)
    bench.say("go")

    assert end(worker).code == 0
    assert again.child != held.child
    assert [each["kind"] for each in json.loads(bench.ok("why", "out", "held", "--json").stdout)["failures"]] == [
        "timeout"
    ]
    ends_as_undisturbed(bench, fenced=0, reclaimed=0)


@pytest.mark.parametrize(("claims", "whom"), [("rename", "all of it"), ("marker", "its supervisor")])
def test_a_finalizer_that_wakes_late(bench: Bench, claims: str, whom: str) -> None:
    """It stands still in mid-reduce, another makes the summary, and the late one changes nothing: one summary, same bytes."""
    bench.put(*NAMES)
    bench.plan("--task", "tasks:slow_reducer", "--claims", claims, *PATIENCE)
    late = bench.start("reduce", "out", "--wait")
    wait_until(lambda: late.pid in told(bench, "beat"), "the finalizer")
    mapper = bench.start("worker", "in", "out", "--slots", "1")
    first = bench.wait_for_run("reduce")
    if first.worker == mapper.pid:
        late, mapper = mapper, late
    stopped = all_of(late) if whom == "all of it" else [late.pid]

    stop(*stopped)
    bench.say(f"go-{second_reduction(bench, first).child}")
    assert end(mapper).code == 0
    shown, summary = (bench.out / "summary.json"), next((bench.out / ".claimwork" / "summary").iterdir())
    published = identity_of(shown), identity_of(summary)
    bench.say(f"go-{first.child}")
    wake(*stopped)

    assert was_fenced(end(late))
    assert (identity_of(shown), identity_of(summary)) == published
    ends_as_undisturbed(bench, fenced=1, reclaimed=1, task="tasks:slow_reducer")


@CLAIMS
def test_a_finalizer_that_is_about_to_publish(bench: Bench, claims: str) -> None:
    """It has its summary staged when it is given up: the link that comes late fails, and replaces nothing."""
    bench.put(*NAMES)
    bench.say("go")
    bench.plan("--task", "tasks:hold", "--claims", claims, *PATIENCE)
    late = bench.tampered("worker", "in", "out", "--slots", "1", at=["child", "before", "link", "/summary/"])
    wait_until((bench.root / "reached").exists, "the link of the summary")

    stop(late.pid)
    assert end(bench.worker()).code == 0
    shown, summary = (bench.out / "summary.json"), next((bench.out / ".claimwork" / "summary").iterdir())
    published = identity_of(shown), identity_of(summary)
    bench.say("pass")
    wait_until((bench.root / "passed").exists, "the end of its late link")
    assert (identity_of(shown), identity_of(summary)) == published
    wake(late.pid)

    assert was_fenced(end(late))
    assert (identity_of(shown), identity_of(summary)) == published
    ends_as_undisturbed(bench, fenced=1, reclaimed=1)


def second_reduction(bench: Bench, first: Ran) -> Ran:
    """The next execution of the reducer."""

    def found() -> Ran | None:
        return next((ran for ran in bench.runs() if ran.input == "reduce" and ran.child != first.child), None)

    ran: Ran = wait_until(found, "another reduction")
    return ran


def test_a_worker_that_was_given_up_takes_its_lock_along(bench: Bench) -> None:
    """The file of its OS lock, which nobody else may remove while it lives, is not left behind."""
    bench.put("held")
    bench.plan("--task", "tasks:hold", *PATIENCE)
    late = bench.worker()
    bench.wait_for_run("held")
    stopped = all_of(late)

    stop(*stopped)
    other = bench.worker()
    bench.wait_for_run("held", attempt=2)
    bench.say("go")
    assert end(other).code == 0
    wake(*stopped)

    assert was_fenced(end(late))
    assert bench.is_settled()


def test_a_worker_that_is_given_up_twice(bench: Bench) -> None:
    """Status counts what happened, and not what each of a worker's names remembers of it."""
    bench.put("held")
    bench.plan("--task", "tasks:hold", "--max-attempts", "9", *PATIENCE)
    first, second = bench.worker(), bench.worker()
    wait_until(lambda: {first.pid, second.pid} <= set(told(bench, "beat")), "both workers")
    for attempt in (1, 2, 3):
        held = bench.wait_for_run("held", attempt)
        slow = first if held.worker == first.pid else second
        if attempt > 1:
            wait_until_told(bench, "reclaimed", slow)
        stopped = all_of(slow)
        stop(*stopped)
        bench.wait_for_run("held", attempt + 1)
        wake(*stopped)
        wait_until_told(bench, "fenced", slow)
    bench.say("go")

    assert [end(first).code, end(second).code] == [0, 0]
    ends_as_undisturbed(bench, fenced=3, reclaimed=3)


def is_hours_apart(clocks: dict[int, int], ahead: int, behind: int) -> bool:
    """Whether both have told their time, and it is far apart."""
    return {ahead, behind} <= set(clocks) and clocks[ahead] - clocks[behind] > 1.9 * HOUR_S


def test_wall_clocks_that_differ_by_two_hours(bench: Bench) -> None:
    """One worker is an hour ahead, one an hour behind: nobody steals from the other, and who stands still is replaced."""
    bench.put("held-1", "held-2", "a", "b")
    bench.plan("--task", "tasks:hold", *PATIENCE)
    ahead = bench.tampered("worker", "in", "out", "--slots", "1", ahead_s=HOUR_S)
    behind = bench.tampered("worker", "in", "out", "--slots", "1", ahead_s=-HOUR_S)
    bench.wait_for_run("held-1")
    bench.wait_for_run("held-2")

    wait_for_beats(bench, [ahead.pid, behind.pid], 2 * BEATS_IN_T)

    wait_until(
        lambda: is_hours_apart(told(bench, "at"), ahead.pid, behind.pid), "beats whose clocks are two hours apart"
    )
    assert sorted((ran.input, ran.attempt) for ran in bench.runs() if ran.input.startswith("held")) == [
        ("held-1", 1),
        ("held-2", 1),
    ]
    status = bench.status()
    assert (status["verdict"], status["fenced"], status["reclaimed"]) == ("RUNNING", 0, 0)
    assert sorted(each["state"] for each in status["workers"]) == ["busy", "busy"]
    stopped = all_of(ahead)
    stop(*stopped)
    (lost,) = [ran for ran in bench.runs() if ran.input.startswith("held") and ran.worker == ahead.pid]
    bench.say(f"go-{next(ran.child for ran in bench.runs() if ran.worker == behind.pid)}")
    again = bench.wait_for_run(lost.input, attempt=2)
    assert again.worker == behind.pid
    bench.say("go")
    assert end(behind).code == 0
    wake(*stopped)
    assert was_fenced(end(ahead))
    ends_as_undisturbed(bench, fenced=1, reclaimed=1)
