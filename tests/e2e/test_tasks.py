"""What users run on their inputs: Python functions, reducers, programs, and the word count with its options."""

from __future__ import annotations

import csv
import io
import json
import os

import pytest

from tests.e2e.conftest import NOBODY, Bench

TASKS = '''
import os, sys
from pathlib import Path
from claimwork import GiveUp, task

HERE = Path(__file__).parent

@task
def curious(path, attempt):
    (attempt.scratch / "file").write_text("x")
    (HERE / "scratch").open("a").write(f"{attempt.scratch}\\n")
    return [attempt.number, attempt.input, attempt.size_bytes, attempt.lost.is_set(), path.name, path.is_file()]

def plain(path, suffix=""):
    """A default value is no second parameter."""
    return path.name + suffix

@task()
def called(path):
    return {"name": path.name}

class Holder:
    @staticmethod
    def inner(path):
        return 1

def no_json(path):
    return {1, 2}

def not_a_number(path):
    return float("nan")

def nothing(path):
    return None

def leaves(path):
    sys.exit(3)

def chatty(path):
    print("to stdout, of", path.name)
    print("to stderr", file=sys.stderr)
    os.write(1, b"by the number\\n")
    os.system("echo from a program")
    raise ValueError("first line\\nsecond line")

def large(path):
    return {"text": "x" * 5000, "huge": list(range(20000))}

def unicode(path):
    return {"é": "日本語", "emoji": "\\U0001f600", "lone": "\\ud800", "nul": "\\0", "quote": "\\"", "deep": [[[[1.5e300]]]]}

def mixed(path):
    return {"a": {"x": 1, "y": "two, \\"quoted\\""}, "b": {"x": None, "y": [1]}, "c": 7, "d": "text"}[path.name]

def reads_stdin(path):
    return sys.stdin.read()

@task
def stops_early(path):
    return 1

@stops_early.reducer
def _(results):
    for each in results:
        return each.value

@task
def bad_summary(path):
    return 1

@bad_summary.reducer
def _(results):
    list(results)
    return {1, 2}
'''


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A bench with the tasks of this file as `mine`."""
    (bench.root / "mine.py").write_text(TASKS)
    return bench


def test_what_a_task_may_know_of_its_attempt(bench: Bench) -> None:
    """The second parameter tells number, input, size and loss, and gives a scratch directory that is removed after."""
    bench.put("deep/a")

    bench.run("--task", "mine:curious")

    assert bench.export() == {"deep/a": [1, "deep/a", 12, False, "a", True]}
    (scratch,) = set((bench.root / "scratch").read_text().split())
    assert not (bench.root / scratch).exists()


@pytest.mark.parametrize(
    ("task", "value"),
    [("plain", "a"), ("called", {"name": "a"}), ("Holder.inner", 1), ("nothing", None), ("reads_stdin", "")],
)
def test_any_function_of_a_path_is_a_task(bench: Bench, task: str, value: object) -> None:
    """A plain function, a decorated one, an attribute of a class: each makes one JSON value of one path."""
    bench.put("a")

    ended = bench.run("--task", f"mine:{task}")

    assert bench.export() == {"a": value}
    assert json.loads(ended.stdout) == {"inputs": 1, "quarantined": 0}


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        ("no_json", "exception", "TypeError: Object of type set is not JSON serializable"),
        ("not_a_number", "exception", "ValueError: Out of range float values are not JSON compliant"),
        ("leaves", "crash", "the process exited with 3"),
    ],
)
def test_values_that_are_no_json(bench: Bench, task: str, kind: str, words: str) -> None:
    """A value that is no JSON, and a task that ends its process, are failed attempts."""
    bench.put("a")

    bench.run("--task", f"mine:{task}", "--max-attempts", "1", code=4)

    (report,) = bench.reports().values()
    (attempt,) = report["attempts"]
    assert attempt["kind"] == kind
    assert words in attempt["error"]


def test_what_a_task_prints(bench: Bench) -> None:
    """Whatever a task prints goes to stderr, never into the answer; an error with line breaks stays one line."""
    bench.put("a")

    ended = bench.run("--task", "mine:chatty", "--max-attempts", "1", code=4)

    assert json.loads(ended.stdout) == {"inputs": 0, "quarantined": 1}
    for line in ("to stdout, of a", "to stderr", "by the number", "from a program"):
        assert line in ended.stderr.splitlines()
    (report,) = bench.reports().values()
    assert report["attempts"][0]["error"] == "ValueError: first line second line"


def test_a_report_of_a_crash_has_the_last_words(bench: Bench) -> None:
    """The report of a process that died has the end of what it printed."""
    (bench.root / "dying.py").write_text(
        "import os\ndef die(path):\n    print('early ' * 2000)\n    print('last words')\n    os.kill(os.getpid(), 9)\n"
    )
    bench.put("a")

    bench.run("--task", "dying:die", "--max-attempts", "1", code=4)

    (report,) = bench.reports().values()
    detail = report["attempts"][0]["detail"]
    assert detail.endswith("last words\n")
    assert len(detail) <= 4096


def test_large_values(bench: Bench) -> None:
    """Values too large for a done record come whole through results and export."""
    names = [f"{number:02d}" for number in range(20)]
    bench.put(*names)

    bench.run("--task", "mine:large", "-q")

    wanted = {"text": "x" * 5000, "huge": list(range(20_000))}
    assert bench.export() == dict.fromkeys(names, wanted)
    bench.ok("export", "out", "--format", "jsonl", "-o", "all.jsonl")
    rows = [json.loads(line) for line in (bench.root / "all.jsonl").read_text().splitlines()]
    assert {row["input"]: row["value"] for row in rows} == dict.fromkeys(names, wanted)


def test_values_of_all_of_unicode(bench: Bench) -> None:
    """Keys and values keep every character, also those that are no Unicode text."""
    bench.put("a")

    bench.run("--task", "mine:unicode", "-q")

    wanted = {
        "é": "日本語",
        "emoji": "\U0001f600",
        "lone": "\ud800",
        "nul": "\0",
        "quote": '"',
        "deep": [[[[1.5e300]]]],
    }
    assert bench.export() == {"a": wanted}
    assert json.loads((bench.out / "results" / "a.json").read_text()) == wanted


def test_export_in_every_format(bench: Bench) -> None:
    """The same results as json, jsonl and csv, on stdout or in a file; csv has the keys of the first value as columns."""
    bench.put("a", text="longest")
    bench.put("b", "c", "d", text="")
    bench.run("--task", "mine:mixed", "-q")
    wanted = {"a": {"x": 1, "y": 'two, "quoted"'}, "b": {"x": None, "y": [1]}, "c": 7, "d": "text"}

    lines = bench.ok("export", "out", "--format", "jsonl").stdout.splitlines()
    rows = list(csv.reader(io.StringIO(bench.ok("export", "out", "-f", "csv").stdout)))

    assert bench.export() == wanted
    assert {row["input"]: row["value"] for row in map(json.loads, lines)} == wanted
    assert rows == [["input", "x", "y"], ["a", "1", 'two, "quoted"'], ["b", "", "[1]"], ["c", "7"], ["d", "text"]]
    assert bench.ok("export", "out", "-o", "file.json").stdout == ""
    assert json.loads((bench.root / "file.json").read_text()) == wanted


def test_export_of_unfinished_work(bench: Bench) -> None:
    """`export` before the end gives what is there, says how much is missing, and ends with 3."""
    bench.put("a")
    bench.run("-q")
    bench.put("b")
    bench.plan()

    ended = bench.ok("export", "out", code=3)

    assert json.loads(ended.stdout) == {"a": {"words": 2, "letters": 10}}
    assert ended.stderr == "claimwork: work remains: this export has 1 of 2 inputs\n"


def test_a_reducer_that_looks_at_the_first_result_only(bench: Bench) -> None:
    """A reducer need not iterate to the end; its summary is the summary."""
    bench.put("a", "b", "c")

    assert json.loads(bench.run("--task", "mine:stops_early").stdout) == 1


def test_a_summary_that_is_no_json(bench: Bench) -> None:
    """A reducer that returns no JSON has failed: exit 3 and one line."""
    bench.put("a")

    ended = bench.run("-q", "--task", "mine:bad_summary", "--max-attempts", "1", code=3)

    (line,) = ended.stderr.splitlines()
    assert "the reducer failed 1 time, last with TypeError" in line


# -- programs ---------------------------------------------------------------------------------------------------------


def tool(bench: Bench, script: str) -> str:
    """A program made of a few lines of shell; its path."""
    path = bench.root / "tool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return "./tool"


def test_a_program_that_writes_a_file(bench: Bench) -> None:
    """With {output} the file that the program writes is the result, whole; what it prints is talk."""
    bench.put("a", "b")

    ended = bench.run(
        "--command", f"{tool(bench, 'echo talk; tr a-z A-Z <$1 >$3')} {{input}} -o {{output}}", "--suffix", ".txt"
    )

    assert (bench.out / "results" / "a.txt").read_text() == "HELLO WORLD\n"
    assert sorted(path.name for path in (bench.out / "results").iterdir()) == ["a.txt", "b.txt"]
    assert "talk" in ended.stderr
    assert json.loads(ended.stdout) == {"inputs": 2, "quarantined": 0}


def test_a_program_that_prints(bench: Bench) -> None:
    """Without {output} what the program prints is the result; JSON is a value, text is a string."""
    bench.put("a", text='{"n": [1, 2]}')
    bench.put("b", text="plain text\n")

    bench.run("--command", "cat {input}")

    assert bench.export() == {"a": {"n": [1, 2]}, "b": "plain text\n"}


def test_binary_results(bench: Bench) -> None:
    """A result may be any bytes: they are published as they are, and are null in an export."""
    bench.put("a")

    bench.run(
        "--command",
        f"{tool(bench, chr(39).join(['printf ', chr(92) + '377' + chr(92) + '000' + chr(92) + '376', '']))} {{input}}",
        "--suffix",
        ".bin",
    )

    assert (bench.out / "results" / "a.bin").read_bytes() == b"\xff\x00\xfe"
    assert bench.export() == {"a": None}


@pytest.mark.parametrize(
    ("script", "rest", "words"),
    [
        ("exit 7", "", "'./tool' exited with 7"),
        ("kill -9 $$", "", "'./tool' was killed by signal 9"),
        ("true", " -o {output}", "'./tool' exited with 0 but wrote no {output}"),
        ("mkdir $3", " -o {output}", "wrote no {output}"),
        ("ln -s /etc/passwd $3", " -o {output}", "{output} is not a plain file"),
        ("mkfifo $3", " -o {output}", "wrote no {output}"),
    ],
    ids=["exit", "kill", "no output", "directory", "link", "FIFO"],
)
def test_programs_that_fail(bench: Bench, script: str, rest: str, words: str) -> None:
    """A program that exits with an error, or whose {output} is no file, is a failed attempt with a clear reason."""
    bench.put("a")

    bench.run("-q", "--command", f"{tool(bench, script)} {{input}}{rest}", "--max-attempts", "1", code=4)

    (report,) = bench.reports().values()
    assert words in report["attempts"][0]["error"]
    assert bench.results() == []
    assert bench.is_settled()


def test_a_program_that_was_ended_and_left_a_directory(bench: Bench) -> None:
    """A program that made a directory of its {output} and was then ended costs its input an attempt, and nobody else."""
    bench.put("a")
    command = f"{tool(bench, 'mkdir $3; exec sleep 600')} {{input}} -o {{output}}"

    bench.run("-q", "--command", command, "--timeout", "1", "--max-attempts", "1", code=4)

    (report,) = bench.reports().values()
    assert report["attempts"][0]["kind"] == "timeout"
    assert bench.is_settled()


def test_a_program_that_left_directories_nobody_may_write(open_bench: Bench) -> None:
    """What it made of its {output} goes all the same: a dead worker's stage that never got empty would keep its tickets."""
    open_bench.put("a")
    open_bench.out.mkdir()
    os.chown(open_bench.out, NOBODY, NOBODY)
    make = "mkdir -p $3/a/b; touch $3/a/b/c; chmod 0 $3/a/b; chmod 555 $3/a $3; exec sleep 600"
    command = f"{tool(open_bench, make)} {{input}} -o {{output}}"

    open_bench.ok("plan", "in", "out", "--command", command, "--timeout", "1", "--max-attempts", "1", uid=NOBODY)
    open_bench.ok("worker", "in", "out", "--slots", "1", "-q", uid=NOBODY)

    assert list(open_bench.reports()) == ["a.json"]
    assert list((open_bench.out / ".claimwork/stage").rglob("*")) == []


def test_a_program_that_is_not_there(bench: Bench) -> None:
    """A program that cannot be started is told by name."""
    bench.put("a")

    ended = bench.call(
        "run", "in", "out", "--slots", "1", "--command", "no-such-program {input}", "--max-attempts", "1"
    )

    assert ended.code != 0
    assert "no-such-program" in bench.call("status", "out").stdout + ended.stderr


def test_the_command_line_is_split_once_and_seen_by_no_shell(bench: Bench) -> None:
    """Quotes group words; dollars, semicolons, globs and {} of other kinds reach the program as they are."""
    bench.put("a")
    script = 'for each in "$@"; do echo "<$each>"; done'

    bench.run("--command", f"{tool(bench, script)} 'two words' $HOME ; * {{other}} --in={{input}}")

    printed = str(bench.export()["a"]).splitlines()
    assert printed == ["<two words>", "<$HOME>", "<;>", "<*>", "<{other}>", f"<--in={bench.inputs}/a>"]


# -- the word count ---------------------------------------------------------------------------------------------------


def test_invalid_text_is_quarantined_at_once(bench: Bench) -> None:
    """Invalid UTF-8 is no matter of a second attempt: the report names the byte."""
    bench.put("good")
    (bench.inputs / "bad").write_bytes(b"good text \xff more\n")
    (bench.inputs / "cut").write_bytes(b"caf\xc3")

    ended = bench.run(code=4)

    assert json.loads(ended.stdout) == {"inputs": 1, "quarantined": 2, "words": 2, "letters": 10}
    reports = {name: report["attempts"] for name, report in bench.reports().items()}
    assert [len(attempts) for attempts in reports.values()] == [1, 1]
    assert {attempts[0]["kind"] for attempts in reports.values()} == {"gave_up"}
    assert "10" in reports["bad.json"][0]["error"]
    assert "--errors replace" in reports["bad.json"][0]["error"]


def test_invalid_text_may_be_replaced(bench: Bench) -> None:
    """With --errors replace invalid bytes count as one character that is neither letter nor space."""
    data = b"good te\xffxt \xfe more caf\xc3"
    (bench.inputs / "bad").write_bytes(data)
    text = data.decode(errors="replace")

    bench.run("--errors", "replace")

    assert bench.export() == {"bad": {"words": len(text.split()), "letters": sum(c.isalpha() for c in text)}}
