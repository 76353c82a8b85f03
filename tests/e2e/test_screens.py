"""What status shows while a job runs and after it, for people and for programs; and where options come from."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from typing import Any

import pytest

from tests.e2e.conftest import LIMIT_S, PROGRAM, Bench, end, wait_until

FIELDS = {
    "schema": int,
    "out": str,
    "job_id": str,
    "task": str,
    "verdict": str,
    "words": str,
    "exit_code": int,
    "generation": int,
    "total": int,
    "done": int,
    "quarantined": int,
    "running": int,
    "backing_off": int,
    "pending": int,
    "total_bytes": int,
    "done_bytes": int,
    "reclaimed": int,
    "fenced": int,
    "started_at": float,
    "workers": list,
    "trouble": list,
    "has_summary": bool,
}


def adds_up(status: dict[str, Any]) -> bool:
    """Whether every input is counted exactly once, and nothing is out of bounds."""
    parts: list[int] = [status[key] for key in ("done", "quarantined", "running", "backing_off", "pending")]
    done, total = int(status["done_bytes"]), int(status["total_bytes"])
    return sum(parts) == int(status["total"]) and min(parts) >= 0 and 0 <= done <= total


def test_the_sums_hold_at_every_moment(bench: Bench) -> None:
    """Each of many looks at a running job is a whole document whose counts add up, and progress never goes back."""
    bench.put(*(f"{number:04d}" for number in range(300)), "raises-1", "raises-2", "gives-up")
    bench.plan("--task", "tasks:slow_trouble", "--max-attempts", "2", "--backoff", "0.3")
    worker = bench.worker(slots=2)
    seen: list[dict[str, Any]] = []
    watch = bench.start("status", "out", "--watch", "--json", "--interval", "0.1")
    assert watch.stdout is not None

    for line in watch.stdout:
        status = json.loads(line)
        assert adds_up(status), status
        assert {key: type(status[key]) for key in FIELDS} == FIELDS
        seen.append(status)

    assert end(worker).code == 0  # for whoever restarts workers on failure: nothing is left
    watch.wait(LIMIT_S)
    assert watch.returncode == 4
    assert len(seen) >= 3
    settled = [each["done"] + each["quarantined"] for each in seen]
    assert settled == sorted(settled)
    assert {each["total"] for each in seen} == {303}
    assert {each["schema"] for each in seen} == {1}
    assert (seen[-1]["verdict"], seen[-1]["done"], seen[-1]["quarantined"]) == ("DONE", 300, 3)
    assert {(each["count"], each["error"]) for each in seen[-1]["trouble"]} == {
        (2, "ZeroDivisionError: division by zero"),
        (1, "there is no point"),
    }


def test_no_time_is_told_while_all_that_is_left_backs_off(bench: Bench) -> None:
    """When that will be tried again does not follow from how fast the job went."""
    bench.put("raises", *(f"{number:02d}" for number in range(40)))
    bench.plan("--task", "tasks:slow_trouble", "--max-attempts", "2", "--backoff", "600")
    bench.worker()

    def waits() -> dict[str, Any] | None:
        now = bench.status()
        return now if now["backing_off"] and [each["done"] for each in now["workers"]] == [40] else None

    status = wait_until(waits, "one that waits, and a worker that has told what the others took")

    assert (status["verdict"], status["backing_off"], status["eta"]) == ("RUNNING", 1, None)


def test_verdicts_and_exit_codes(bench: Bench) -> None:
    """STALLED without workers, RUNNING with one, DRAINING while it stops, DONE at the end; codes 3, 3, 3 and 0."""
    bench.put("held", text="the largest goes first")
    bench.put("a", "b")
    bench.plan("--task", "tasks:hold", "--patience", "1")

    stalled = bench.ok("status", "out", code=3).stdout
    assert stalled.startswith("STALLED: 3 pending and no live worker\n")
    worker = bench.worker("--grace", "20")
    bench.wait_for_run("held")
    running = bench.ok("status", "out", code=3).stdout
    assert running.startswith("RUNNING: 3 left\n")
    assert " busy " in running or " idle " in running
    why = wait_until(lambda: "held by worker" in (said := bench.call("why", "out", "held")).stdout and said, "a holder")
    assert why.code == 3
    assert why.stdout.startswith("held: held\n")
    worker.terminate()
    draining = wait_until(
        lambda: (said := bench.call("status", "out").stdout).startswith("DRAINING") and said, "draining"
    )
    assert draining.startswith("DRAINING: 3 left, and every worker is stopping\n")
    bench.say("go")
    assert end(worker).code == 143
    bench.run("-q")
    done = bench.ok("status", "out").stdout
    assert done.startswith("DONE: every input has its result\n")
    assert "3 of 3 done; 46 B of 46 B" in done


@pytest.mark.parametrize(("service", "where"), [("", "node-a slot 7"), ("counting_worker", "node-a counting_worker.7")])
def test_who_is_at_what(bench: Bench, service: str, where: str) -> None:
    """A live worker is listed with its host, its task in Swarm, state, slots and what it is at."""
    bench.put("held-1", "held-2")
    bench.plan("--task", "tasks:hold", "--patience", "1")
    task = {"CLAIMWORK_SLOT": "7", "CLAIMWORK_NODE": "node-a", "CLAIMWORK_SERVICE": service}
    bench.start("worker", "in", "out", "--slots", "2", env=task)
    bench.wait_for_run("held-1")
    bench.wait_for_run("held-2")

    def running() -> dict[str, Any] | None:
        status = bench.status()
        return status if status["running"] == 2 else None

    status = wait_until(running, "two running inputs")

    (worker,) = status["workers"]
    assert (worker["state"], worker["slots"]) == ("busy", 2)
    assert [worker[name] for name in ("slot", "node", "service")] == ["7", "node-a", service]
    assert len(worker["current"]) == 2
    assert where in bench.call("status", "out").stdout
    bench.say("go")


def on_a_terminal(bench: Bench, *args: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command on a pseudo-terminal; its exit code and all that it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *args],
        cwd=bench.root,
        env={**bench.env, "TERM": "xterm-256color", **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end was closed
            break
        if not data:
            break
        written += data
    os.close(ours)
    return process.wait(LIMIT_S), written.decode()


def test_watching_without_a_terminal(bench: Bench) -> None:
    """--watch into a pipe prints one plain screen after another, and ends when the job is done."""
    bench.put("a")
    bench.plan()
    watch = bench.start("status", "out", "--watch", "--interval", "0.1")
    time.sleep(1)
    bench.ok("worker", "in", "out", "-q")

    ended = end(watch)

    assert ended.code == 0
    assert ended.stdout.startswith("STALLED: 1 pending and no live worker\n")
    assert "DONE: every input has its result\n" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_watching_on_a_terminal(bench: Bench) -> None:
    """--watch on a terminal draws in place and in colour, and leaves the last screen there."""
    bench.put("a")
    bench.run("-q")

    code, written = on_a_terminal(bench, "status", "out", "--watch")

    assert code == 0
    assert "DONE" in written
    assert "\x1b[" in written


@pytest.mark.parametrize("command", [["status", "out"], ["run", "in", "out"]], ids=lambda command: command[0])
def test_colour_may_be_refused(bench: Bench, command: list[str]) -> None:
    """NO_COLOR is respected on a terminal."""
    bench.put("a")
    bench.run("-q")

    code, written = on_a_terminal(bench, *command, env={"NO_COLOR": "1"})

    assert code == 0
    assert "DONE" in written
    colours = [part for part in written.split("\x1b[")[1:] if part.partition("m")[0].strip("0123456789;") == ""]
    assert not [each for each in colours if any(code.startswith("3") for code in each.partition("m")[0].split(";"))]


def test_run_on_a_terminal(bench: Bench) -> None:
    """`run` on a terminal shows a bar while it works and plain words at the end."""
    bench.put("a", "b")

    code, written = on_a_terminal(bench, "run", "in", "out", "--slots", "1")

    assert code == 0
    assert '{"inputs": 2, "quarantined": 0, "words": 4, "letters": 20}' in written
    assert "DONE: every input has its result" in written


def test_every_option_from_the_environment(bench: Bench) -> None:
    """An environment variable stands for each option, and the option wins over it."""
    bench.put("a.txt", "b.md", ".hidden.txt", "deep/c.txt")
    env = {
        "CLAIMWORK_INPUT": "in",
        "CLAIMWORK_OUTPUT": "out",
        "CLAIMWORK_TASK": "tasks:size",
        "CLAIMWORK_SUFFIX": ".result",
        "CLAIMWORK_INCLUDE": "*.txt *.md",
        "CLAIMWORK_EXCLUDE": "*.md",
        "CLAIMWORK_HIDDEN": "1",
        "CLAIMWORK_RECURSE": "0",
        "CLAIMWORK_CLAIMS": "marker",
        "CLAIMWORK_TIMEOUT": "50",
        "CLAIMWORK_MAX_ATTEMPTS": "7",
        "CLAIMWORK_BACKOFF": "0.5",
        "CLAIMWORK_PATIENCE": "30",
        "CLAIMWORK_MAX_QUARANTINED": "9",
        "CLAIMWORK_SLOTS": "1",
        "CLAIMWORK_QUIET": "1",
    }

    ended = bench.ok("run", "--max-attempts", "5", env=env)

    assert "planned" not in ended.stderr
    job = json.loads((bench.out / ".claimwork" / "job.json").read_text())
    wanted = {
        "task": "tasks:size",
        "suffix": ".result",
        "include": ["*.txt", "*.md"],
        "exclude": ["*.md"],
        "hidden": True,
        "recurse": False,
        "claims": "marker",
        "timeout_s": 50.0,
        "max_attempts": 5,
        "backoff_s": 0.5,
        "patience_s": 30.0,
        "max_quarantined": 9,
    }
    assert {key: job[key] for key in wanted} == wanted
    assert sorted(path.name for path in (bench.out / "results").iterdir()) == [".hidden.txt.result", "a.txt.result"]
    both = {"CLAIMWORK_OUTPUT": "out", "CLAIMWORK_JSON": "1"}
    assert json.loads(bench.ok("status", env=both).stdout)["verdict"] == "DONE"
    assert json.loads(bench.ok("why", "out", "a.txt", env=both).stdout)["state"] == "done"
    assert bench.ok("export", env={**both, "CLAIMWORK_FORMAT": "jsonl"}).stdout.count("\n") == 2
    assert bench.ok("worker", env=env).code == 0


def test_bad_values_from_the_environment(bench: Bench) -> None:
    """A bad value in the environment is the same usage error as on the command line, and names the variable."""
    line = bench.fails(2, "run", "in", "out", env={"CLAIMWORK_SLOTS": "many"})

    assert "CLAIMWORK_SLOTS" in line


def test_help_needs_no_job(bench: Bench) -> None:
    """Every command explains itself on stdout, with its environment twins."""
    for command in ("run", "plan", "worker", "status", "reduce", "why", "retry", "export", "check"):
        ended = bench.ok(command, "--help")
        assert "Usage: claimwork" in ended.stdout
        assert ended.stderr == ""
    assert bench.ok("--version").stdout.startswith("claimwork ")


def test_check_after_a_run(bench: Bench) -> None:
    """`check` finds nothing to complain of after a run, a failure and a retry; and finds a result that was changed."""
    bench.put("a", "b", "raises")
    bench.run("--task", "tasks:troubled", "--max-attempts", "1", code=4)
    assert bench.ok("check", "out").stdout.splitlines()[-1].startswith("clean: 2 results, 1 quarantined, 0 open")
    bench.say("mended")
    bench.ok("retry", "out")
    bench.run()
    assert bench.ok("check", "out").stdout.splitlines()[-1].startswith("clean: 3 results, 0 quarantined, 0 open")
    (bench.out / "results" / "a.json").write_text("13\n")

    ended = bench.ok("check", "out", "--json", code=1)

    assert any("a.json" in each["path"] for each in json.loads(ended.stdout)["findings"])
