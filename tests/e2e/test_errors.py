"""Whatever a user can get wrong ends with one line on stderr, the right exit code, and nothing damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import NOBODY, Bench, end, wait_until


def tree(root: Path) -> dict[str, bytes | None]:
    """Every name below *root*, with the bytes of files."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


STARTERS = [("run", "in", "out"), ("plan", "in", "out"), ("worker", "in", "out")]
COMMANDS_ON_A_JOB = [
    ("status", "out"),
    ("why", "out", "x"),
    ("retry", "out"),
    ("export", "out"),
    ("check", "out"),
    ("reduce", "out"),
]


@pytest.mark.parametrize("command", ["run", "plan", "worker"])
def test_a_missing_input_directory_is_named(bench: Bench, command: str) -> None:
    """IN that does not exist is a usage error, and no OUT comes of it."""
    line = bench.fails(2, command, "missing", "out")

    assert line == "claimwork: IN 'missing' does not exist; give the directory that holds the inputs"
    assert not bench.out.exists()


def test_an_input_directory_without_inputs_may_be_the_wrong_one(bench: Bench) -> None:
    """Who expects inputs plans nothing where none fits; the same command does once they are there, or when it is told."""
    told = {"CLAIMWORK_EXPECT_INPUTS": "1"}
    bench.put("a.csv")

    line = bench.fails(12, "plan", "in", "out", "--include", "*.txt", "--expect-inputs")
    assert line == (
        "claimwork: IN 'in' holds no inputs: is the right directory mounted there? Nothing was planned; if it is meant "
        "to be empty, plan without --expect-inputs (CLAIMWORK_EXPECT_INPUTS=0)"
    )
    assert os.listdir(bench.out) == []

    assert bench.ok("plan", "in", "out", env=told).stdout.startswith("planned 1 new input (12 B)")
    (bench.inputs / "a.csv").unlink()
    assert "holds no inputs" in bench.fails(12, "plan", "in", "out", env=told)
    assert bench.ok("plan", "in", "out", env={"CLAIMWORK_EXPECT_INPUTS": "0"}).stdout.startswith("planned 0 new inputs")


def test_an_input_directory_that_cannot_be_read_holds_none(open_bench: Bench) -> None:
    """And the line says which."""
    open_bench.put("deep/a")
    (open_bench.inputs / "deep").chmod(0)
    open_bench.out.mkdir()
    os.chown(open_bench.out, NOBODY, NOBODY)

    line = open_bench.fails(12, "plan", "in", "out", "--expect-inputs", uid=NOBODY)

    assert "holds no inputs that can be read ('in/deep': Permission denied)" in line


def test_input_that_is_a_file_is_named(bench: Bench) -> None:
    """IN that is a file is a usage error."""
    line = bench.fails(2, "run", "tasks.py", "out")

    assert line == "claimwork: IN 'tasks.py' is not a directory; give the directory that holds the inputs"
    assert not bench.out.exists()


@pytest.mark.parametrize(
    ("command", "given_in", "given_out", "words"),
    [
        ("run", "in", "in", "IN and OUT are the same directory"),
        ("worker", "in", "in", "IN and OUT are the same directory"),
        ("plan", "in", "./in/../in/", "IN and OUT are the same directory"),
        ("run", "in", "link", "IN and OUT are the same directory"),
        ("run", "in", "in/out", "lies inside IN"),
        ("worker", "in/deep", "in", "lies inside OUT"),
    ],
)
def test_input_and_output_must_be_apart(bench: Bench, command: str, given_in: str, given_out: str, words: str) -> None:
    """IN and OUT that are one directory, or one inside the other, are refused before anything is written."""
    bench.put("deep/x")
    (bench.root / "link").symlink_to("in")
    before = tree(bench.root)

    line = bench.fails(2, command, given_in, given_out)

    assert words in line
    assert tree(bench.root) == before


@pytest.mark.parametrize("command", ["plan", "worker"])
def test_output_that_is_a_file_is_left_alone(bench: Bench, command: str) -> None:
    """OUT that is a file is a usage error, and the file stays as it is."""
    bench.put("x")
    bench.out.write_text("precious")

    line = bench.fails(2, command, "in", "out")

    assert line == "claimwork: OUT 'out' is not a directory; choose another"
    assert bench.out.read_text() == "precious"


@pytest.mark.parametrize("command", COMMANDS_ON_A_JOB, ids=lambda command: command[0])
def test_what_is_no_job_is_called_so(bench: Bench, command: tuple[str, ...]) -> None:
    """Commands on a job answer 10 where there is none, name the path, and create nothing there."""
    if command[0] in ("why", "export"):
        bench.out.write_text("precious")
    before = tree(bench.root)

    line = bench.fails(10, *command)

    assert f"{str(bench.out)!r} is not a job" in line
    assert "claimwork run IN" in line
    assert tree(bench.root) == before


def future(text: str) -> str:
    """The job of a later release."""
    return json.dumps({**json.loads(text), "format": "2.0"})


def half(text: str) -> str:
    """What a careless copy leaves."""
    return text[: len(text) // 2]


def empty(_: str) -> str:
    """What a crash of the server leaves."""
    return ""


def binary(_: str) -> str:
    """No text at all."""
    return "\x00\x01"


def luck(text: str) -> str:
    """A word that this release does not know."""
    return json.dumps({**json.loads(text), "claims": "luck"})


@pytest.mark.parametrize(
    ("damage", "words", "command"),
    [
        *((future, "has format 2.0, and this release", args) for args in [*COMMANDS_ON_A_JOB, *STARTERS]),
        *((half, "it is damaged", args) for args in [("status", "out"), *STARTERS]),
        (empty, "it is damaged", ("run", "in", "out")),
        (binary, "it is damaged", ("status", "out")),
        (luck, "is damaged", ("worker", "in", "out")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else getattr(value, "__name__", ""),
)
def test_a_job_that_cannot_be_read_is_left_alone(
    bench: Bench, damage: Callable[[str], str], words: str, command: tuple[str, ...]
) -> None:
    """A job of another format, or whose job.json is damaged, is refused by every command and stays as it is."""
    bench.put("x")
    home = bench.out / ".claimwork"
    home.mkdir(parents=True)
    whole = {"format": "1.0", "id": "0" * 32, "task": "wordcount", "claims": "rename"}
    (home / "job.json").write_text(damage(json.dumps(whole)))
    before = tree(bench.root)

    line = bench.fails(10, *command)

    assert words in line
    assert "job.json" in line
    assert tree(bench.root) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--command", ""], "--command is empty"),
        (["--command", "cat 'x"], "--command cannot be split into arguments: No closing quotation"),
        (["--command", "cat file"], "--command names no {input}"),
        (["--command", "cat {input}", "--task", "wordcount"], "--task and --command exclude each other"),
        (["--task", "lengths"], "neither built in nor of the form module:name"),
        (["--task", "no_such_module:x"], "No module named 'no_such_module'"),
        (["--task", "tasks:no_such_task"], "no_such_task"),
        (["--task", "tasks:not_callable"], "is a int, not a function"),
        (["--task", "broken:x"], "ZeroDivisionError"),
        (["--suffix", "json"], "--suffix 'json' is not a dot and a few letters or digits"),
        (["--suffix", "./x"], "--suffix './x' is not"),
        (["--suffix", ""], "--suffix '' is not"),
        (["--claims", "luck"], "--claims 'luck' is unknown; there are rename and marker"),
        (["--errors", "ignore"], "--errors 'ignore' is unknown; there are strict and replace"),
        (["--timeout", "0"], "--timeout must be more than 0 seconds"),
        (["--timeout", "-1"], "--timeout must be more than 0 seconds"),
        (["--timeout", "nan"], "--timeout"),
        (["--timeout", "soon"], "--timeout"),
        (["--slots", "0"], "--slots"),
        (["--max-attempts", "0"], "--max-attempts"),
        (["--backoff", "-1"], "--backoff"),
        (["--backoff", "nan"], "--backoff"),
        (["--backoff", "inf"], "--backoff"),
        (["--patience", "0"], "--patience"),
        (["--patience", "nan"], "--patience"),
        (["--grace", "-1"], "--grace"),
        (["--max-quarantined", "-1"], "--max-quarantined"),
        (["--no-such-option"], "--no-such-option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_meant(bench: Bench, options: list[str], words: str) -> None:
    """A bad option is a usage error that names the option, and no job comes of it."""
    bench.put("x")
    (bench.root / "broken.py").write_text("x = 1 / 0\n")

    line = bench.fails(2, "worker", "in", "out", *options)

    assert words in line
    assert not (bench.out / ".claimwork").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("run", "in"),
        ("status",),
        ("worker",),
        ("worker", "in"),
        ("nonsense",),
        ("status", "out", "more"),
        ("why", "out"),
    ],
    ids=" ".join,
)
def test_arguments_that_are_missing_or_too_many(bench: Bench, args: tuple[str, ...]) -> None:
    """Too few or too many arguments are a usage error."""
    bench.fails(2, *args)


@pytest.mark.parametrize("command", ["run", "plan", "worker"])
def test_two_tasks_on_one_job(bench: Bench, command: str) -> None:
    """One OUT holds one job: another task is refused, and the job stays as it is."""
    bench.put("x")
    bench.run("--task", "tasks:size")
    before = tree(bench.out)

    line = bench.fails(2, command, "in", "out", "--task", "wordcount")

    assert "the job has task 'tasks:size', not task 'wordcount': one OUT holds one job" in line
    assert tree(bench.out) == before
    assert "not command 'cat {input}'" in bench.fails(2, command, "in", "out", "--command", "cat {input}")


def test_an_input_that_was_never_planned(bench: Bench) -> None:
    """`why` for an unknown input says so."""
    bench.put("x")
    bench.run("-q")

    assert "input 'y' is not in the plan" in bench.fails(2, "why", "out", "y")


def test_an_unknown_export_format(bench: Bench) -> None:
    """`export --format` takes three words."""
    bench.put("x")
    bench.run("-q")

    line = bench.fails(2, "export", "out", "--format", "xml")

    assert line == "claimwork: format 'xml' is unknown; there are json, jsonl and csv"


def test_an_export_file_that_cannot_be_written(bench: Bench) -> None:
    """`export -o` into a directory that is not there names the file."""
    bench.put("x")
    bench.run("-q")

    assert "no/such/file" in bench.fails(12, "export", "out", "-o", "no/such/file")


# -- workers on the wrong mount ---------------------------------------------------------------------------------------


def test_joining_where_no_job_ever_appears(bench: Bench) -> None:
    """A worker with --join never creates a job: after --join-timeout it ends with 12 and says what to look at."""
    bench.put("x")

    line = bench.fails(12, "worker", "in", "out", "--join", "--join-timeout", "0.2", "-q")

    assert line.startswith(
        f"claimwork: no job appeared in {str(bench.out)!r} within 0.2 s: is the right directory mounted"
    )
    assert not bench.out.exists()


def test_a_worker_whose_input_is_not_mounted(bench: Bench) -> None:
    """A worker that joins without IN ends with 12."""
    bench.put("x")
    bench.plan()

    line = bench.fails(12, "worker", "elsewhere", "out", "-q")

    assert "IN 'elsewhere' is not there" in line
    assert "no input was charged" in line


@pytest.mark.parametrize("others", [[], ["stranger"]], ids=["empty", "strangers"])
def test_a_worker_with_the_wrong_input_mounted_charges_nobody(bench: Bench, others: list[str]) -> None:
    """A worker that sees none of the planned inputs says so and ends with 12; the inputs keep their attempts."""
    bench.put("a", "b", "c", "d")
    bench.plan()
    (bench.root / "wrong").mkdir()
    for name in others:
        (bench.root / "wrong" / name).touch()

    line = bench.fails(12, "worker", "wrong", "out", "-q", "--slots", "2")

    assert "none of the planned inputs is under 'wrong': the wrong directory is mounted there" in line
    assert bench.inside("failures") == []
    assert {name.rpartition("/")[2].split(".")[6] for name in bench.inside("ready")} == {"a1"}
    bench.run("-q")
    assert len(bench.results()) == 4


def test_a_worker_without_the_task_charges_nobody(bench: Bench) -> None:
    """A worker that cannot import the job's task ends with 2; another one that can finishes the job."""
    bench.put("a", "b")
    bench.plan("--task", "tasks:size")
    (bench.root / "tasks.py").rename(bench.root / "elsewhere.py")

    line = bench.fails(2, "worker", "in", "out", "-q")

    assert "cannot import task 'tasks:size': ModuleNotFoundError" in line
    assert bench.inside("failures") == []
    (bench.root / "elsewhere.py").rename(bench.root / "tasks.py")
    bench.run("-q")
    assert bench.export() == {"a": 12, "b": 12}


# -- mounts that cannot be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "plan", "worker"])
def test_an_output_that_this_user_cannot_write(open_bench: Bench, command: str) -> None:
    """OUT of another user is a fault of the mount: the line names the uid and both remedies."""
    open_bench.put("x")
    open_bench.out.mkdir(mode=0o755)

    line = open_bench.fails(12, command, "in", "out", uid=NOBODY)

    assert "permission is denied" in line
    assert f"uid {NOBODY}" in line
    assert "chown" in line
    assert "--user" in line
    assert tree(open_bench.out) == {}


def test_a_job_that_this_user_cannot_write(open_bench: Bench) -> None:
    """A job of another user can be looked at, but not worked on; it takes no harm from the attempt."""
    open_bench.put("x")
    open_bench.run("-q")
    open_bench.put("y")
    open_bench.plan("-q")
    before = tree(open_bench.out)

    for args in (["run", "in", "out"], ["worker", "in", "out", "-q"], ["plan", "in", "out"]):
        assert f"uid {NOBODY}" in open_bench.fails(12, *args, uid=NOBODY)

    assert open_bench.call("status", "out", uid=NOBODY).code == 3
    assert json.loads(open_bench.call("export", "out", uid=NOBODY).stdout)["x"] == {"words": 2, "letters": 10}
    assert tree(open_bench.out) == before


def test_a_job_that_this_user_cannot_read(open_bench: Bench) -> None:
    """An OUT without any permission is a fault of the mount, also for commands that only look."""
    open_bench.put("x")
    open_bench.run("-q")
    open_bench.out.chmod(0o700)

    for args in (["status", "out"], ["export", "out"], ["worker", "in", "out", "-q"], ["run", "in", "out"]):
        assert "permission is denied" in open_bench.fails(12, *args, uid=NOBODY)


@pytest.mark.parametrize("how", [["--task", "tasks:text"], ["--command", "cat {input}"]], ids=["task", "command"])
def test_a_full_disk_loses_nothing(bench: Bench, small_disk: Callable[..., None], how: list[str]) -> None:
    """When the disk is full the run ends with 12; with more room the next one finishes, and nobody was charged."""
    names = [f"{number:02d}" for number in range(40)]
    bench.put(*names, text="x" * 60_000)

    ended = bench.ok("run", "in", "out", "--slots", "1", "-q", *how, code=12)

    *talk, line = ended.stderr.splitlines()
    assert talk in ([], ["cat: write error: No space left on device"])
    assert line.startswith("claimwork: cannot write ")
    assert "no space is left on the device; free some space, then start workers again: nothing was lost" in line
    assert bench.inside("failures") == []
    assert bench.reports() == {}
    assert bench.status()["verdict"] == "STALLED"
    small_disk("size=20m")
    bench.run("-q")
    assert bench.export() == dict.fromkeys(names, "x" * 60_000)
    assert bench.summary() == {"inputs": 40, "quarantined": 0}


def test_a_disk_that_is_full_from_the_start(bench: Bench, small_disk: Callable[..., None]) -> None:
    """A job cannot even be created on a full disk, and can be once there is room."""
    bench.put("x")
    subprocess.run(["dd", "if=/dev/zero", f"of={bench.out}/ballast", "bs=4096"], capture_output=True, check=False)

    for command in ("run", "plan", "worker"):
        assert "no space is left" in bench.fails(12, command, "in", "out", "-q")

    (bench.out / "ballast").unlink()
    bench.run("-q")
    assert bench.summary() == {"inputs": 1, "quarantined": 0, "words": 2, "letters": 10}


def test_a_read_only_mount_can_be_looked_at(bench: Bench, small_disk: Callable[..., None]) -> None:
    """On a read-only OUT work ends with 12, and every command that only looks still answers."""
    bench.put("x")
    bench.run("-q")
    bench.put("y")
    small_disk("ro")

    for args in (["run", "in", "out", "-q"], ["plan", "in", "out", "-q"]):
        assert "the filesystem is read-only; mount it read-write" in bench.fails(12, *args)
    assert bench.call("status", "out").code == 0
    assert bench.ok("why", "out", "x").stdout.startswith("x: done\n")
    assert bench.export() == {"x": {"words": 2, "letters": 10}}
    assert bench.call("reduce", "out").code == 0
    assert bench.ok("retry", "out").stderr == "0 inputs are back in ready\n"
    small_disk("rw")
    bench.run("-q")
    assert sorted(bench.export()) == ["x", "y"]


def test_an_output_that_vanishes_under_a_worker(bench: Bench) -> None:
    """A worker whose OUT is removed ends with one line instead of going on for ever or making a new tree."""
    bench.put("held", "other")
    bench.plan("--task", "tasks:hold")
    worker = bench.worker("--quiet")
    bench.wait_for_run("held")
    shutil.rmtree(bench.out, ignore_errors=True)
    bench.say("go")

    ended = end(worker)

    assert ended.code in (10, 12), ended
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert not os.path.exists(bench.out / "results")


def test_doctor_examines_a_directory(bench: Bench) -> None:
    """The verdict and what to choose; the same as one document; nothing stays behind."""
    bench.out.mkdir()

    lines = bench.ok("doctor", "out").stdout.splitlines()

    assert lines[-2].startswith("fit: ")
    assert lines[-1] == "suggested: --claims rename --patience 75"
    assert [line for line in lines if line.startswith(" bad")] == []
    told = json.loads(bench.ok("doctor", "out", "--json").stdout)
    assert (told["schema"], told["verdict"], told["claims"], told["paired"]) == (1, "fit", "rename", False)
    assert {each["probe"] for each in told["findings"]} >= {"link", "fence", "link raced", "rename raced", "listing"}
    assert list(bench.out.iterdir()) == []
    assert "is not a directory" in bench.fails(2, "doctor", "nowhere")
    assert "is not a code" in bench.fails(2, "doctor", "out", "--pair", "../x")
    assert "start both doctors within that time" in bench.fails(12, "doctor", "out", "--pair", "x", "--pair-wait", "1")


def test_two_doctors_meet(bench: Bench) -> None:
    """Two processes with one code: both tell the same verdict, and what each saw of the other."""
    bench.out.mkdir()
    other = bench.start("doctor", "out", "--pair", "monday")

    mine = bench.ok("doctor", "out", "--pair", "monday").stdout
    theirs = end(other)

    assert theirs.code == 0
    for told in (mine, theirs.stdout):
        assert "link between two" in told
        assert "each can clean up after the other" in told
        assert "\nfit: " in told
    assert list(bench.out.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_doctor_that_is_ended_while_it_waits_leaves_nothing(bench: Bench, number: signal.Signals) -> None:
    """The code is free again."""
    bench.out.mkdir()
    waiting = bench.start("doctor", "out", "--pair", "monday")
    wait_until((bench.out / ".claimwork-pair-monday" / "a" / "1").exists, "the first doctor to wait")

    waiting.send_signal(number)
    ended = end(waiting)

    assert (ended.code, ended.stderr) == (128 + number, "")
    assert list(bench.out.iterdir()) == []
