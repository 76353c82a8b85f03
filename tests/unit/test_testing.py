"""The fakes that users get, and the tools that the other tests rest on."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

import claimwork
from claimwork.tasks import Attempt
from claimwork.testing import Died, FaultyFs, HookedFs, ManualClock, MemoryFs, MemoryServer, PausingFs, run_task


def test_run_task_gives_the_value_as_it_would_be_published(tmp_path: Path) -> None:
    """After a round trip through JSON; with or without the attempt; a plain function or a task."""
    path = tmp_path / "x.txt"
    path.write_text("hello")

    def lengths(path: Path, attempt: Attempt) -> object:
        assert list(attempt.scratch.iterdir()) == []
        return {"size": attempt.size_bytes, "name": attempt.input, "number": attempt.number, "pair": (1, 2)}

    assert run_task(lengths, path, number=2) == {"size": 5, "name": "x.txt", "number": 2, "pair": [1, 2]}
    assert run_task(lambda path: path.read_text(), str(path)) == "hello"
    assert run_task(claimwork.task(lambda path: path.name), path) == "x.txt"


def test_run_task_lets_exceptions_pass(tmp_path: Path) -> None:
    """A value that is no JSON is one as well."""
    path = tmp_path / "x.txt"
    path.write_text("hello")
    with pytest.raises(ZeroDivisionError):
        run_task(lambda _: 1 / 0, path)
    with pytest.raises(TypeError):
        run_task(lambda path: path, path)
    with pytest.raises(ValueError, match="JSON"):
        run_task(lambda _: float("nan"), path)


def test_manual_time() -> None:
    """It moves when told to or slept away; people may set the wall clock, not the other."""
    slept: list[float] = []
    clock = ManualClock(slept.append)
    start, wall = clock.monotonic(), clock.time()
    clock.sleep(2.5)
    clock.advance(1.0)
    clock.wall -= 3600

    assert (clock.monotonic() - start, clock.time() - wall) == (3.5, 3.5 - 3600)
    assert slept == [2.5]


def test_processes_share_a_server_and_die_alone() -> None:
    """What one wrote the other reads; the dead one's locks are free, and it does nothing more."""
    server = MemoryServer()
    one, two = MemoryFs(server), MemoryFs(server)
    one.stage("/f", b"1")
    assert one.try_lock("/lock") is not None
    assert two.try_lock("/lock") is None
    one.die()

    assert two.read("/f", 9) == b"1"
    assert two.try_lock("/lock") is not None
    with pytest.raises(Died):
        one.names("/")


def test_a_beat_ends_with_its_process() -> None:
    """The open file does not outlive it."""
    fs = MemoryFs()
    beat = fs.open_beat("/beat", b"1")
    fs.die()
    with pytest.raises(Died):
        beat.write(b"2")


def test_hooks_see_every_call() -> None:
    """Before it is made, and after it succeeded."""
    seen: list[tuple[str, str, tuple[object, ...]]] = []
    fs = HookedFs(MemoryServer())
    fs.before = lambda op, args: seen.append(("before", op, args))  # type: ignore[method-assign]
    fs.after = lambda op, args: seen.append(("after", op, args))  # type: ignore[method-assign]
    fs.stage("/a", b"1")
    with pytest.raises(FileNotFoundError):
        fs.unlink("/b")
    fs.open_beat("/c", b"2").write(b"3")

    assert seen == [
        ("before", "stage", ("/a", b"1")),
        ("after", "stage", ("/a", b"1")),
        ("before", "unlink", ("/b",)),
        ("before", "open_beat", ("/c", b"2")),
        ("after", "open_beat", ("/c", b"2")),
        ("before", "write_beat", (b"3",)),
        ("after", "write_beat", (b"3",)),
    ]


@pytest.mark.parametrize(("executed", "expected"), [(True, ["a", "b", "c"]), (False, ["a", "c"])])
def test_faults_hit_one_mutating_call(executed: bool, expected: list[str]) -> None:
    """Reads do not count, and the next call is fine again."""
    server = MemoryServer()
    fs = FaultyFs(server, 1, OSError(errno.EIO, "injected"), executed=executed)
    fs.stage("/a", b"")
    fs.names("/")
    with pytest.raises(OSError, match="injected"):
        fs.stage("/b", b"")
    fs.stage("/c", b"")

    assert (server.names("/"), fs.calls) == (expected, ["stage", "stage", "stage"])


def test_a_pause_lets_something_else_happen() -> None:
    """Between two calls, once."""
    server = MemoryServer()
    fs = PausingFs(server)
    fs.stage("/a", b"")
    fs.pause(1, lambda: server.stage("/between", b""))
    fs.stage("/b", b"")
    fs.stage("/c", b"")

    assert (server.names("/"), fs.calls) == (["a", "b", "between", "c"], 2)


def test_listings_come_in_any_order() -> None:
    """As from a real server, when a test wants it."""
    server = MemoryServer(rng=Random(1))
    for name in "abcdefgh":
        server.stage(f"/{name}", b"")

    assert len({tuple(server.names("/")) for _ in range(20)}) > 10
