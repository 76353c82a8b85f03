"""The main job, as people run it first: known answers, exactly once, and again when there is more to do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.e2e.conftest import Bench, end

SAMPLES = Path(__file__).parents[1] / "samples"


def count(text: str) -> dict[str, int]:
    """The definition of the word count."""
    return {"words": len(text.split()), "letters": sum(each.isalpha() for each in text)}


def test_the_known_answer(bench: Bench) -> None:
    """Two small texts give the counts, the summary and the export that the project promises."""
    bench.put("test1.txt", text="Hello world\n")
    bench.put("test2.txt", text="Another test file with text\n")

    ended = bench.run()

    assert json.loads(ended.stdout) == {"inputs": 2, "quarantined": 0, "words": 7, "letters": 33}
    planned, verdict, counts, where = ended.stderr.splitlines()
    assert planned == "planned 2 new inputs (40 B), 0 planned before"
    assert verdict == "DONE: every input has its result"
    assert re.fullmatch(r"2 of 2 done; 40 B of 40 B; 2 inputs in [\d.]+ m?s, [\d.]+ inputs/s and \d+ B/s", counts)
    assert where == f"results in {bench.out}/results, summary in {bench.out}/summary.json"
    assert (bench.out / "summary.json").read_text() == ended.stdout
    assert bench.results() == ["test1.txt.json", "test2.txt.json"]
    assert json.loads((bench.out / "results" / "test1.txt.json").read_text()) == {"words": 2, "letters": 10}
    assert json.loads((bench.out / "results" / "test2.txt.json").read_text()) == {"words": 5, "letters": 23}
    assert bench.ok("export", "out", "--format", "json").stdout == (
        '{\n"test2.txt": {"words": 5, "letters": 23},\n"test1.txt": {"words": 2, "letters": 10}\n}\n'
    )
    assert bench.is_settled()


def test_nothing_to_do(bench: Bench) -> None:
    """An empty IN is a job with an empty answer, not an error."""
    ended = bench.run()

    assert json.loads(ended.stdout) == {"inputs": 0, "quarantined": 0, "words": 0, "letters": 0}
    assert bench.ok("export", "out").stdout.split() == ["{", "}"]
    assert bench.ok("status", "out").stdout.startswith("DONE: there were no inputs\n")


def test_the_sample_tree(bench: Bench) -> None:
    """The texts that scripts/run counts, of many languages and sizes, have the counts of the definition."""
    shutil.copytree(SAMPLES, bench.inputs, dirs_exist_ok=True)
    texts = {
        str(path.relative_to(bench.inputs)): path.read_bytes().decode()
        for path in bench.inputs.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    wanted = {name: count(text) for name, text in texts.items()}

    ended = bench.run("-q")

    assert bench.export() == wanted
    assert json.loads(ended.stdout) == {
        "inputs": len(wanted),
        "quarantined": 0,
        "words": sum(each["words"] for each in wanted.values()),
        "letters": sum(each["letters"] for each in wanted.values()),
    }


def test_ten_thousand_small_files(bench: Bench) -> None:
    """10 000 files of 1 KiB: every result is there and right; a second run does nothing; ten more files are ten more."""
    text = ("word " * 205)[:1024]
    for number in range(10_000):
        directory = bench.inputs / f"{number % 100:02d}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number}.txt").write_text(text)
    each = count(text)

    ended = bench.run(limit_s=120)

    first = {"inputs": 10_000, "quarantined": 0, "words": each["words"] * 10_000, "letters": each["letters"] * 10_000}
    assert json.loads(ended.stdout) == first
    exported = bench.export()
    assert len(exported) == 10_000
    assert all(value == each for value in exported.values())
    line = (json.dumps(each) + "\n").encode()
    assert {path.read_bytes() for path in (bench.out / "results").rglob("*.json")} == {line}
    assert len(bench.results()) == 10_000
    assert bench.is_settled()

    times = {path: path.stat().st_mtime_ns for path in (bench.out / "results").rglob("*.json")}
    again = bench.run()
    assert json.loads(again.stdout) == first
    assert "nothing to do: 10000 inputs are settled" in again.stderr
    assert bench.status()["generation"] == 1

    bench.put(*(f"more/{number}.txt" for number in range(10)))
    more = bench.run()
    assert "planned 10 new inputs (120 B), 10000 planned before" in more.stderr
    assert json.loads(more.stdout) == {
        "inputs": 10_010,
        "quarantined": 0,
        "words": first["words"] + 20,
        "letters": first["letters"] + 100,
    }
    assert bench.status()["generation"] == 2
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(bench.results()) == 10_010


def test_inputs_that_change_or_vanish_later(bench: Bench) -> None:
    """What was planned stands: a changed or removed input keeps its result, and `run` says what it noticed."""
    bench.put("changed", "removed", "same")
    bench.run()
    bench.put("changed", text="a longer text than before\n")
    (bench.inputs / "removed").unlink()

    ended = bench.run()

    assert "1 input has another size than when planned; what was planned stands" in ended.stderr
    assert json.loads(ended.stdout) == {"inputs": 3, "quarantined": 0, "words": 6, "letters": 30}


def test_an_input_that_vanishes_before_its_turn(bench: Bench) -> None:
    """An input that was removed after planning is quarantined as unreadable; the others are done."""
    bench.put("a", "b", "c", "gone")
    bench.plan("--max-attempts", "1")
    (bench.inputs / "gone").unlink()

    bench.run(code=4)

    (report,) = bench.reports().values()
    assert [(each["kind"], each["error"]) for each in report["attempts"]] == [
        ("unreadable", "cannot read the input: no such file or directory")
    ]
    assert sorted(bench.export()) == ["a", "b", "c"]


def test_paths_given_in_any_way(bench: Bench) -> None:
    """Trailing slashes, dots, links and relative paths all mean the same directories."""
    bench.put("deep/x")
    (bench.root / "link").symlink_to("in")
    bench.ok("run", "./in/", "out/", "-q")
    bench.put("deep/y")

    ended = bench.ok("run", "link", str(bench.root / "in" / ".." / "out"), "-q")

    assert json.loads(ended.stdout)["inputs"] == 2
    assert bench.results() == ["deep/x.json", "deep/y.json"]


def test_quiet_means_quiet(bench: Bench) -> None:
    """With --quiet `run` and `reduce` print the summary, and nothing on stderr; `plan` what it planned."""
    bench.put("x")
    assert bench.ok("plan", "in", "out", "-q").stderr == ""

    ended = bench.run("--quiet")
    again = bench.ok("reduce", "out", "-q")

    assert json.loads(ended.stdout) == {"inputs": 1, "quarantined": 0, "words": 2, "letters": 10}
    assert again.stdout == ended.stdout
    assert (ended.stderr, again.stderr) == ("", "")


def test_what_a_run_says_of_its_inputs_is_about_this_run(bench: Bench) -> None:
    """Another run counts what it added and how it failed, and says so also when it is quiet and its exit code is not 0."""
    bench.put(*(f"{number}" for number in range(10)))
    options = ("--task", "tasks:troubled", "--max-attempts", "2", "--backoff", "0.1")
    bench.run(*options)
    bench.put("raises", "more")

    ended = bench.run(*options, code=4)
    quiet = bench.run("-q", code=4)

    _, verdict, counts, where, how_on = ended.stderr.splitlines()[-5:]
    assert verdict == "DONE: all inputs are settled, 1 of them quarantined"
    assert counts.startswith("11 of 12 done, 1 quarantined; 144 B of 144 B; 2 inputs in ")
    assert counts.endswith("B/s, 2 attempts failed")
    assert where.startswith("results in ")
    assert how_on == f"1 quarantined: look at {bench.out}/quarantine, then: claimwork retry {bench.out}"
    assert quiet.stderr == f"{how_on}\n"


def test_a_run_that_is_stopped_says_how_far_it_came(bench: Bench) -> None:
    """What is done is kept, and the same command goes on; the exit code is that of the signal."""
    bench.put("a", "b")
    bench.put("held", text="")
    run = bench.start("run", "in", "out", "--slots", "1", "--task", "tasks:hold", "--grace", "0")
    bench.wait_for_run("held")

    run.terminate()

    ended = end(run)
    assert (ended.code, ended.stdout) == (143, "")
    _, verdict, counts, where = ended.stderr.splitlines()
    assert verdict == "STALLED: 1 pending and no live worker"
    assert counts.startswith("2 of 3 done, 1 pending; 24 B of 24 B; 2 inputs in ")
    assert where == f"results so far in {bench.out}/results; the same command goes on from here"
