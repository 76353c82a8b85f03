"""Names and kinds of files that bite others: each input gets its own result, and nothing else is taken for an input."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import unicodedata

import pytest

from tests.e2e.conftest import NOBODY, Bench

NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
ODD: dict[str, list[str | bytes]] = {
    "a result's name as a directory": ["x", "x.json/y", "x.json/x.json/y", "x.json~/y", "x.jso"],
    "255 bytes": ["n" * 255, "n" * 254 + "m", "é" * 127 + "a", "d" * 255 + "/" + "f" * 255, "n" * 250 + ".json"],
    "case": ["Readme", "README", "readme", "Dir/a", "dir/a", "DIR/A"],
    "composed and decomposed": [NFC, NFD, f"d{NFC}/{NFD}", f"d{NFD}/{NFC}"],
    "newline and controls": ["new\nline", "tab\tbed", "\x1b[31mred", "carriage\rreturn", "back\\slash"],
    "dashes": ["-", "--help", "-rf", "-d/-f"],
    "no UTF-8": [b"\xff\xfe", b"caf\xe9/\x80", b"\xed\xa0\x80"],
    "shell": [
        "$(touch hacked)",
        "`touch hacked`",
        "a; touch hacked",
        "a b  c",
        "'",
        '"',
        "*",
        "?",
        "[a]",
        "~",
        "%s",
        "{input}",
    ],
    "JSON": ['"', "\\", "\\u0041", '{"a": 1}', "é", "\U0001f600", "\u2028"],
    "dots": ["...", "a..b", "a.", "a.json.json", "..a"],
    "like ours": ["results/a", "quarantine/a", "summary.json", "claimwork/job.json", "m.h000000.c1.s0.0-1.b1.a1.d0.n0"],
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_names(bench: Bench, kind: str) -> None:
    """Every input with an odd name gets one result of its own, and `export` and `why` know it by its own name."""
    names = [name.encode() if isinstance(name, str) else name for name in ODD[kind]]
    for number, name in enumerate(names):
        bench.put(name, text="word " * (number + 1))
    hidden = ["--hidden"] if kind == "dots" else []

    ended = bench.run("--task", "wordcount", *hidden)

    assert json.loads(ended.stdout)["inputs"] == len(names)
    exported = bench.export()
    wanted = {os.fsdecode(name): number + 1 for number, name in enumerate(names)}
    assert {name: value["words"] for name, value in exported.items()} == wanted
    assert len(bench.results()) == len(names)
    assert not (bench.root / "hacked").exists()
    assert bench.ok("why", "out", "--", os.fsdecode(names[0])).stdout.count(": done\n") == 1
    assert bench.is_settled()


@pytest.mark.parametrize("kind", ["shell", "dashes", "no UTF-8", "newline and controls"])
def test_odd_names_for_a_program(bench: Bench, kind: str) -> None:
    """A program gets the path of an input as one argument, whatever is in it: no shell looks at it."""
    names = [os.fsdecode(name) for name in ODD[kind]]
    bench.put(*names)

    bench.run("--command", "stat -c %s {input}")

    assert bench.export() == dict.fromkeys(names, 12)
    assert not (bench.root / "hacked").exists()


def test_odd_names_cannot_play_with_the_terminal(bench: Bench) -> None:
    """Control characters and stray bytes in names are escaped wherever a name is shown."""
    bench.put(b"raises\x1b[31m\n\xff")
    bench.run("--task", "tasks:troubled", "--max-attempts", "1", code=4)
    name = os.fsdecode(b"raises\x1b[31m\n\xff")

    shown = [
        bench.call("status", "out").stdout,
        bench.call("why", "out", name).stdout,
        bench.call("retry", "out", "--dry-run").stdout,
        bench.call("why", "out", "unknown\x1b[31m").stderr,
    ]

    for each in shown:
        assert "\\x1b[31m" in each
        assert "\x1b" not in each
    assert bench.ok("retry", "out", "--dry-run").stdout == "raises\\x1b[31m\\n\\udcff\n"
    assert bench.ok("retry", "out", name, "--dry-run").stderr.startswith("1 input would be back in ready")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_do_not_depend_on_the_locale(bench: Bench, locale: str) -> None:
    """Planner, worker and reader may have different locales: a name is its bytes."""
    names = ["café", NFD, "日本語"]
    bench.put(*names)
    env = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    bench.ok("plan", "in", "out", env=env)
    bench.ok("worker", "in", "out", "-q", env={"LC_ALL": "C.UTF-8"})

    assert sorted(bench.export()) == sorted(names)
    assert bench.results() == sorted(f"{name}.json" for name in names)
    exported = bench.ok("export", "out", env=env).stdout.encode("utf-8", "surrogateescape")
    assert sorted(json.loads(exported)) == sorted(names)
    assert "café: done" in bench.ok("why", "out", "café").stdout


def test_what_is_no_regular_file_is_passed_over(bench: Bench) -> None:
    """Links (out of IN, dangling, in circles), FIFOs, sockets and devices are no inputs, and nothing hangs on them."""
    bench.put("plain", "dir/plain")
    secret = bench.root / "secret"
    secret.write_text("not an input")
    (bench.inputs / "link-out").symlink_to(secret)
    (bench.inputs / "link-in").symlink_to("plain")
    (bench.inputs / "dangling").symlink_to("nowhere")
    (bench.inputs / "circle").symlink_to(".")
    (bench.inputs / "up").symlink_to("..")
    os.mkfifo(bench.inputs / "fifo")
    if os.geteuid() == 0:
        os.mknod(bench.inputs / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    here = os.getcwd()
    os.chdir(bench.inputs)  # the path of a socket may only be short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
    finally:
        os.chdir(here)

    ended = bench.run()

    assert json.loads(ended.stdout)["inputs"] == 2
    assert sorted(bench.export()) == ["dir/plain", "plain"]


def test_an_input_replaced_by_something_else_after_planning(bench: Bench) -> None:
    """An input that became a directory, a FIFO or a link after planning never hangs a worker."""
    bench.put("becomes-directory", "becomes-fifo", "stays")
    bench.plan("--max-attempts", "1")
    (bench.inputs / "becomes-directory").unlink()
    (bench.inputs / "becomes-directory").mkdir()
    (bench.inputs / "becomes-fifo").unlink()
    os.mkfifo(bench.inputs / "becomes-fifo")

    bench.run("-q", code=4)

    reports = bench.reports()
    assert sorted(reports) == ["becomes-directory.json", "becomes-fifo.json"]
    assert {each["error"] for each in reports.values()} == {"cannot read the input: not a plain file"}
    assert sorted(bench.export()) == ["stays"]


def test_files_that_this_user_cannot_read(open_bench: Bench) -> None:
    """An unreadable file is quarantined as such, an unreadable directory is passed over and told."""
    open_bench.put("a", "b", "c", "private", "closed/x")
    (open_bench.inputs / "private").chmod(0o600)
    (open_bench.inputs / "closed").chmod(0o700)
    open_bench.out.mkdir()
    os.chown(open_bench.out, NOBODY, NOBODY)

    planned = open_bench.ok("plan", "in", "out", "--max-attempts", "2", "--backoff", "0", uid=NOBODY)
    open_bench.ok("worker", "in", "out", "-q", "--slots", "1", uid=NOBODY)

    assert "passed over 1 directory that could not be read" in planned.stdout
    (report,) = open_bench.reports().values()
    assert [(each["kind"], each["error"]) for each in report["attempts"]] == [
        ("unreadable", "cannot read the input: permission denied") for _ in range(2)
    ]
    assert sorted(open_bench.export()) == ["a", "b", "c"]
    assert open_bench.summary()["quarantined"] == 1


def test_directories_that_vanish_while_planning(bench: Bench) -> None:
    """Files and directories that come and go while IN is listed do not disturb the plan of the others."""
    stays = [f"stays/{number}" for number in range(50)]
    bench.put(*stays)
    script = """
import os, sys, time
root = sys.argv[1]
until = time.monotonic() + 30
while time.monotonic() < until and not os.path.exists(root + "/../stop"):
    for each in range(30):
        os.makedirs(f"{root}/comes/{each}/deep", exist_ok=True)
        open(f"{root}/comes/{each}/deep/file", "w").close()
    for each in range(30):
        os.unlink(f"{root}/comes/{each}/deep/file")
        os.removedirs(f"{root}/comes/{each}/deep") if each == 29 else os.rmdir(f"{root}/comes/{each}/deep")
        if each < 29: os.rmdir(f"{root}/comes/{each}")
"""
    with subprocess.Popen([sys.executable, "-c", script, str(bench.inputs)]) as churn:
        try:
            for _ in range(2):
                bench.ok("plan", "in", "out", "--include", "stays/*", "-q")
        finally:
            bench.say("stop")
    assert churn.returncode == 0

    assert bench.status()["total"] == 50


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], ["a.txt", "b.md", "deep/c.txt", "deep/skip/d.txt"]),
        (["--hidden"], [".h/e.txt", ".hidden", "a.txt", "b.md", "deep/c.txt", "deep/skip/d.txt"]),
        (["--no-recurse"], ["a.txt", "b.md"]),
        (["--include", "*.txt"], ["a.txt", "deep/c.txt", "deep/skip/d.txt"]),
        (["--include", "deep/*"], ["deep/c.txt", "deep/skip/d.txt"]),
        (["--include", "*.md", "--include", "c.*"], ["b.md", "deep/c.txt"]),
        (["--exclude", "skip"], ["a.txt", "b.md", "deep/c.txt"]),
        (["--exclude", "*.txt"], ["b.md"]),
        (["--exclude", "deep/*.txt", "--include", "*.txt"], ["a.txt"]),
        (["--include", "nothing"], []),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_which_files_are_inputs(bench: Bench, options: list[str], wanted: list[str]) -> None:
    """Globs, recursion and hidden files choose the inputs; a glob without a slash means the name alone."""
    bench.put("a.txt", "b.md", "deep/c.txt", "deep/skip/d.txt", ".hidden", ".h/e.txt")

    bench.plan(*options)

    assert bench.planned() == wanted


def test_hidden_names_of_results(bench: Bench) -> None:
    """Inputs whose names begin with a dot have results whose names do too."""
    bench.put(".a", ".b/.c")

    bench.run("--hidden")

    assert sorted(path.name for path in (bench.out / "results").rglob("*") if path.is_file()) == [".a.json", ".c.json"]
