"""The log of real workers reads as a story, as text and as JSON: who came, what went wrong, what was done about it, how it ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.conftest import PROGRAM, Bench, end, wait_until

JSON = {"CLAIMWORK_LOG_FORMAT": "json"}
HOSTILE = b"raises \x1b[31m\n"
STRAY = b"fine \x1b[31m\n\xff"


def told(stderr: str) -> list[dict[str, Any]]:
    """The lines of a log, each of which is an object."""
    return [json.loads(line) for line in stderr.splitlines()]


def told_among(stderr: str) -> list[dict[str, Any]]:
    """The lines of a log among those that a task printed."""
    return told("\n".join(line for line in stderr.splitlines() if line.startswith("{")))


def events(stderr: str) -> list[str]:
    """The events, in order."""
    return [each["event"] for each in told(stderr)]


def the(stderr: str, event: str) -> dict[str, Any]:
    """The one line of this event."""
    (found,) = (each for each in told(stderr) if each["event"] == event)
    return found


def words(stderr: str) -> list[str]:
    """The lines of a log as text, without the time of day, and without what differs from run to run."""
    lines = [re.fullmatch(r"\d\d:\d\d:\d\d (.*)", line) for line in stderr.splitlines()]
    return [re.sub(r"\b[0-9a-f]{8}\b|[\d.]+ m?s\b", "…", line[1]) for line in lines if line]


def test_a_job_is_told_alike_as_text_and_as_json(bench: Bench) -> None:
    """From joining to nothing left, with each failed attempt, and no line for an input that went well."""
    bench.put("a", "b")
    bench.put("raises", text="the largest goes first")
    task = ("--command", "grep -c Hello {input}", "--max-attempts", "2", "--backoff", "0.1", "--fault-after", "0")

    text = bench.ok("worker", "in", "text", "--slots", "1", *task)
    ended = bench.ok("worker", "in", "out", "--slots", "1", *task, env=JSON)

    lines = told(ended.stderr)
    assert [each["event"] for each in lines if each["event"] != "quarantined"] == [
        "joined",
        "planned",
        "closed",
        "backed_off",
        "reduced",
        "complete",
    ]
    assert len({each["worker"] for each in lines}) == 1
    failed = [each for each in lines if each.get("input")]
    assert [(each["event"], each["input"], each["attempt"], each["level"]) for each in failed] == [
        ("backed_off", "raises", 1, "warning"),
        ("quarantined", "raises", 2, "warning"),
    ]
    assert all(each["ticket"].startswith("m.") and each["error"] for each in failed)
    assert failed[0]["seconds"] == 0.1
    assert the(ended.stderr, "reduced")["quarantined"] == 1
    shown = [f"00:00:00 {each['message']}" for each in lines]
    assert words("\n".join(shown).replace(str(bench.out), str(bench.root / "text"))) == words(text.stderr)


def test_each_input_is_told_when_asked_for(bench: Bench) -> None:
    """With --verbose, once, with its ticket, attempt and seconds; a name that plays tricks stays on its line."""
    bench.put("a", "deep/b", STRAY)

    text = bench.ok("worker", "in", "text", "--slots", "1", "-v")
    ended = bench.ok("worker", "in", "out", "--slots", "1", "--verbose", env=JSON)

    ran = [each for each in told(ended.stderr) if each["event"] == "ran"]
    assert sorted(os.fsencode(each["input"]) for each in ran) == [b"a", b"deep/b", STRAY]
    assert {(each["attempt"], each["bytes"], each["level"]) for each in ran} == {(1, 12, "debug")}
    assert all(each["seconds"] >= 0 for each in ran)
    assert len([line for line in words(text.stderr) if line.startswith("done ")]) == 3
    assert all(line.isprintable() for line in text.stderr.splitlines())


def test_a_hostile_name_that_fails(bench: Bench) -> None:
    """Escaped in text, whole in JSON, and in both forms on one line."""
    bench.put(HOSTILE, "a")
    options = ("--slots", "1", "--task", "tasks:troubled", "--max-attempts", "1")

    text = bench.ok("worker", "in", "text", *options)
    ended = bench.ok("worker", "in", "out", *options, env=JSON)

    assert any(line.startswith("quarantined ") and "ZeroDivisionError" in line for line in words(text.stderr))
    assert all(line.isprintable() for line in text.stderr.splitlines())
    (line,) = (line for line in ended.stderr.splitlines() if '"quarantined", ' in line)
    assert os.fsencode(json.loads(line)["input"]) == HOSTILE


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_a_lost_peer(bench: Bench, claims: str) -> None:
    """Whoever finds it dead says where it was, why it is given up, and how much is back."""
    bench.put("held")
    bench.plan("--task", "tasks:hold", "--claims", claims)
    place = {"CLAIMWORK_NODE": "node-a", "CLAIMWORK_SERVICE": "counting_worker", "CLAIMWORK_SLOT": "3"}
    lost = bench.start("worker", "in", "out", "--slots", "1", env=place)
    bench.wait_for_run("held")
    lost.kill()
    (id_of_lost,) = bench.inside("live")

    bench.say("go")
    ended = bench.ok("worker", "in", "out", "--slots", "1", env=JSON)

    found = the(ended.stderr, "lost")
    assert (found["peer"], found["node"], found["slot"]) == (id_of_lost, "node-a", "3")
    assert found["message"] == f"worker {id_of_lost[:8]} on node-a counting_worker.3 is lost: its process is gone"
    back = the(ended.stderr, "took_back")
    assert (back["peer"], back["tickets"]) == (id_of_lost, 1)
    assert back["worker"] == found["worker"] != id_of_lost


def test_a_worker_that_is_stopped(bench: Bench) -> None:
    """It says which signal came and how long its inputs may take, what it hands back, and that work remains."""
    bench.put("held")
    worker = bench.start("worker", "in", "out", "--slots", "1", "--task", "tasks:hold", "--grace", "0.2", env=JSON)
    bench.wait_for_run("held")
    worker.terminate()

    ended = end(worker)

    assert ended.code == 143
    assert events(ended.stderr)[-3:] == ["draining", "handed_back", "stopped"]
    draining = the(ended.stderr, "draining")
    assert (draining["why"], draining["slots"], draining["seconds"]) == ("told by SIGTERM", 1, 0.2)
    back = the(ended.stderr, "handed_back")
    assert (back["tickets"], back["inputs"], back["message"]) == (
        1,
        1,
        "handed back 1 ticket with 1 input, uncharged",
    )


def test_a_worker_with_little_memory_for_its_slots_says_so(bench: Bench) -> None:
    """Before it joins; a child that is killed later looks like one that its input ended."""
    bench.put("a")
    limit = "from claimwork.commands import work; work.memory_bytes = lambda: 512 << 20"
    argv = [sys.executable, "-c", f"{limit}; from claimwork.cli import main; main()", "worker", "in", "out"]
    env = {**bench.env, **JSON}
    ended = [
        subprocess.run([*argv, "--slots", slots], cwd=bench.root, env=env, capture_output=True, text=True, check=True)
        for slots in ("8", "2")
    ]

    warning = the(ended[0].stderr, "little_memory")
    assert (warning["level"], warning["slots"]) == ("warning", 8)
    assert "little_memory" not in events(ended[1].stderr)


def test_planner_and_finalizer(bench: Bench) -> None:
    """Services of their own: each says what it is, what it did, and how the job is; the answer on stdout is JSON as well."""
    finalizer = bench.start("reduce", "out", "--wait", env=JSON)
    wait_until(lambda: select(finalizer), "the finalizer says that it waits")
    bench.put("a")
    planned = bench.ok("plan", "in", "out", env=JSON)
    bench.ok("worker", "in", "out", "-q", "--slots", "1")

    ended = end(finalizer)

    assert events(planned.stderr) == ["joined", "planned", "closed"]
    assert the(planned.stderr, "joined")["role"] == "planner"
    counts = {"added": 1, "added_bytes": 12, "known": 0, "changed": 0, "unreadable": 0}
    assert json.loads(planned.stdout) == {"schema": 1, **counts, "inputs": 1, "without_result": 1}
    told_by_finalizer = events(ended.stderr)
    assert told_by_finalizer[0] == "waiting"
    assert told_by_finalizer[-1] == "verdict"
    verdict = the(ended.stderr, "verdict")
    assert (verdict["verdict"], verdict["code"], verdict["inputs"], verdict["done"]) == ("DONE", 0, 1, 1)
    assert json.loads(ended.stdout) == {"inputs": 1, "quarantined": 0, "words": 2, "letters": 10}


def select(process: Any) -> bool:
    """Whether a process has written to stderr."""
    import select as polling

    return bool(polling.select([process.stderr], [], [], 0)[0])


def test_an_error_is_an_event_as_well(bench: Bench) -> None:
    """With its exit code; also what is wrong with IN, OUT or options that fit together in form only."""
    bench.put("a")
    bench.plan()

    missing = bench.ok("worker", "elsewhere", "out", "--log-format", "json", code=12)
    unknown = bench.ok("plan", "in", "out2", "--claims", "luck", env=JSON, code=2)

    assert [(each["level"], each["event"], each["code"]) for each in told(missing.stderr + unknown.stderr)] == [
        ("error", "error", 12),
        ("error", "error", 2),
    ]
    assert "IN 'elsewhere' is not there" in the(missing.stderr, "error")["message"]


def test_run_speaks_to_people_whatever_the_environment_says(bench: Bench) -> None:
    """The variable is for containers; what the worker of `run` has to say appears among the words of `run`."""
    bench.put("raises")

    ended = bench.run("--task", "tasks:troubled", "--max-attempts", "1", "--fail-fast", env=JSON, code=4)

    assert any(line.startswith("claimwork: 1 input is quarantined") for line in ended.stderr.splitlines())
    assert not any(line.startswith("{") for line in ended.stderr.splitlines())


@pytest.mark.parametrize("command", ["worker in out --slots 1", "run in out --slots 1"])
def test_streams_that_are_closed(bench: Bench, command: str) -> None:
    """Their numbers are given to no file of the job: what a task prints, and what is told, goes nowhere."""
    bench.put("a", "raises")
    task = "--task tasks:troubled --max-attempts 1"

    code = subprocess.run(
        ["sh", "-c", f"exec {PROGRAM} {command} {task} <&- >&- 2>&-"], cwd=bench.root, env=bench.env, check=False
    ).returncode

    assert code == (4 if command.startswith("run") else 0)
    assert bench.summary() == {"inputs": 1, "quarantined": 1}
    assert bench.ok("check", "out").stdout.startswith("clean: ")


def test_a_worker_that_doubts_itself(bench: Bench) -> None:
    """Its first inputs fail: it says that it runs once more what succeeded elsewhere, and then charges the inputs."""
    bench.put("a")
    bench.run("--task", "tasks:troubled", "--max-attempts", "1", "-q")
    bench.put("raises")
    bench.plan("-q")

    ended = bench.ok("worker", "in", "out", "--slots", "1", env=JSON)

    assert [
        event for event in [each["event"] for each in told_among(ended.stderr)] if event in ("doubted", "quarantined")
    ] == [
        "doubted",
        "quarantined",
    ]
    assert ".s0.0-1." in next(each["ticket"] for each in told_among(ended.stderr) if each["event"] == "doubted")


def test_a_reduction_that_lasts(bench: Bench) -> None:
    """After ten seconds it says how many results it has read, and goes on saying so."""
    bench.put("a", "b")
    bench.plan("--task", "tasks:slow_reducer")
    worker = bench.start("worker", "in", "out", "--slots", "1", env=JSON)
    assert worker.stderr is not None
    told_of = (json.loads(line) for line in worker.stderr)

    reducing = next(each for each in told_of if each["event"] == "reducing")
    bench.say("go")

    assert (reducing["results"], reducing["message"]) == (2, "2 results read so far")
    assert end(worker).code == 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_whoever_reads_the_log_may_go_away(bench: Bench, form: str) -> None:
    """A worker whose stderr leads nowhere does its work, and its exit code is that of the job."""
    bench.put("held", "raises", "b")
    worker = bench.start(
        "worker", "in", "out", "--slots", "1", "--task", "tasks:both", "--max-attempts", "1", "--log-format", form
    )
    bench.wait_for_run("held")
    assert worker.stderr is not None
    worker.stderr.close()
    bench.say("go")

    assert worker.wait(30) == 0
    assert bench.summary() == {"inputs": 2, "quarantined": 1}
