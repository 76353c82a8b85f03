"""Large inputs in parts: many workers at one input, one result, and no loss whoever dies in between."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.e2e.conftest import Bench, end, is_alive, wait_until

# `parts` says in `runs` which part it is at, and waits at the one that begins at byte 100 until `go` is there.
TASKS = """
import os, signal, time
from pathlib import Path
from claimwork import task

HERE = Path(__file__).parent

@task
def parts(path, attempt):
    with open(HERE / "runs", "a") as file:
        file.write(f"{os.getppid()} {os.getpid()} {attempt.number} {path.name}:{attempt.start}\\n")
    if attempt.start == 100 and path.name.startswith("held"):
        while not (HERE / "go").exists():
            time.sleep(0.01)
    if attempt.start == 100 and path.name.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name.startswith("text"):
        return {"lines": sum(1 for _ in attempt.lines(path))}
    return [attempt.start, attempt.stop]

@parts.merge
def _(values):
    found = list(values)
    return {"lines": sum(each["lines"] for each in found)} if isinstance(found[0], dict) else found

@task
def whole(path, attempt):
    return 1
"""
SPANS = [[0, 100], [100, 200], [200, 300], [300, 350]]


@pytest.fixture
def large(bench: Bench) -> Bench:
    """A bench with tasks that can be split."""
    (bench.root / "large.py").write_text(TASKS)
    return bench


def plan(bench: Bench, *options: str) -> None:
    """Create a job that splits at 100 bytes."""
    bench.plan("--task", "large:parts", "--split", "100", *options)


def at(bench: Bench, name: str) -> list[int]:
    """Numbers of the attempts at a part, in the order in which they ran."""
    return [ran.attempt for ran in bench.runs() if ran.input == name]


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_workers_share_one_input(large: Bench, claims: str) -> None:
    """Each part is computed once, by whoever is free; status counts its bytes, and `why` the parts."""
    large.put("held", text="x" * 350)
    plan(large, "--claims", claims)
    workers = [large.worker() for _ in range(2)]
    held = large.wait_for_run("held:100")
    wait_until(lambda: "3 of 4 parts are there" in large.call("why", "out", "held").stdout, "three parts")
    status = large.status()
    assert (status["done"], status["done_bytes"], status["total_bytes"]) == (0, 250, 350)
    large.say("go")

    assert [end(worker).code for worker in workers] == [0, 0]
    assert large.export() == {"held": SPANS}
    assert {ran.input for ran in large.runs()} == {f"held:{start}" for start in (0, 100, 200, 300)}
    assert len(large.runs()) == 4
    assert {ran.worker for ran in large.runs()} >= {held.worker}
    assert large.ok("check", "out").stdout.startswith("clean: 1 result, ")
    assert large.is_settled()
    assert os.listdir(large.out / ".claimwork/parts") == []


def test_a_worker_that_is_killed_at_a_part_costs_that_part(large: Bench) -> None:
    """The others stay as they are; the summary is as if nothing had happened."""
    large.put("held", text="x" * 350)
    plan(large)
    first = large.worker("--slots", "1")
    held = large.wait_for_run("held:100")
    first.kill()
    large.say("go")
    wait_until(lambda: not is_alive(held.child), "the death of its child")

    assert end(large.worker()).code == 0
    assert at(large, "held:100") == [1, 2]
    assert all(len(at(large, f"held:{start}")) == 1 for start in (0, 200, 300))
    assert large.export() == {"held": SPANS}


def test_a_worker_that_is_told_to_stop_keeps_what_is_computed(large: Bench) -> None:
    """And charges nothing: the part goes back with the attempt that it had."""
    large.put("held", text="x" * 350)
    plan(large)
    first = large.worker("--slots", "1", "--grace", "0.2")
    large.wait_for_run("held:100")
    first.send_signal(signal.SIGTERM)
    assert end(first).code == 143
    large.say("go")

    assert end(large.worker()).code == 0
    assert at(large, "held:100") == [1, 1]
    assert large.export() == {"held": SPANS}
    assert os.listdir(large.out / ".claimwork/failures") == []


def test_a_part_that_takes_its_process_down_quarantines_its_input(large: Bench) -> None:
    """After as many attempts as any other, and one more that is charged to nobody; the rest of the job is done."""
    large.put("dies", "fine", text="x" * 350)
    plan(large, "--max-attempts", "2", "--backoff", "0.05")

    assert end(large.worker()).code == 0
    assert at(large, "dies:100") == [1, 1, 2]
    report = json.loads((large.out / "quarantine/dies.json").read_text())
    assert [each["attempt"] for each in report["attempts"]] == [1, 2]
    assert "SIGKILL" in report["error"]
    assert large.export() == {"fine": SPANS}
    assert os.listdir(large.out / ".claimwork/parts") == []
    assert large.call("check", "out").code == 0


def test_many_inputs_with_a_bad_part_each_are_quarantined(large: Bench) -> None:
    """Parts that have values show that no worker is to blame, long before there is a first result."""
    large.put(*(f"dies{nth}" for nth in range(9)), text="x" * 350)
    plan(large, "--max-attempts", "1")

    assert end(large.worker("--slots", "2")).code == 0
    assert len(os.listdir(large.out / "quarantine")) == 9
    assert large.call("check", "out").stdout.startswith("clean: 0 results, 9 quarantined")
    assert os.listdir(large.out / ".claimwork/parts") == []


def test_the_word_count_is_the_same(large: Bench) -> None:
    """Byte for byte, results and summary, for small inputs and large ones."""
    large.put("prose", text="na\u00efve \u65e5\u672c\u8a9e  words,\n and more\u3000" * 300)
    large.put("small", "d/other")
    large.run()
    whole = {name: (large.out / "results" / name).read_bytes() for name in large.results()}
    summary = (large.out / "summary.json").read_bytes()
    large.out = large.root / "again"
    large.run("--split", "1k")

    assert {name: (large.out / "results" / name).read_bytes() for name in large.results()} == whole
    assert (large.out / "summary.json").read_bytes() == summary


def test_text_that_is_none_is_given_up_with_the_same_words(large: Bench) -> None:
    """The offset is that of the whole file."""
    (large.inputs / "bad").write_bytes(b"a" * 5000 + b"\xff" + b"b" * 5000)
    large.run("--split", "1k", code=4)

    assert "invalid UTF-8 at byte 5000" in large.ok("why", "out", "bad", code=4).stdout


def test_lines_are_counted_once(large: Bench) -> None:
    """Whichever part they begin in."""
    large.put("text", text="one line and another\n" * 50 + "no end")
    plan(large)

    assert end(large.worker()).code == 0
    assert large.export() == {"text": {"lines": 51}}


def test_what_cannot_be_split_is_refused_before_there_is_a_job(large: Bench) -> None:
    """Each with what to do."""
    large.put("a")
    refused = {
        ("--task", "large:whole", "--split", "5"): "cannot be split: it needs a merge",
        ("--command", "cat {input}", "--split", "5"): "--split needs a task that says how parts are merged",
    }
    for options, words in refused.items():
        assert words in large.fails(2, "run", "in", "out", *options)
    for size in "0", "-1", "1.5G", "many", "":
        assert "is no size" in large.call("run", "in", "out", "--split", size).stderr
    assert not (large.out / ".claimwork").exists()
