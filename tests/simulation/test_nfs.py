"""The model of NFS does what was measured on real clients and servers, and each of its faults occurs."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from claimwork.testing import Died
from tests.simulation.nfs import OUT
from tests.simulation.process import Process
from tests.simulation.simulator import Case, Profile, World, draw_case, simulate

A, B = f"{OUT}/a", f"{OUT}/b"
GRACE_S = 30.0


def make_world(**profile: Any) -> World:
    """Two hosts and a server, and nothing else that goes wrong."""
    case = Case(0, "rename", 0, 1, [], [], Profile(**profile))
    world = next(found for case.seed in range(100) if len((found := World(case)).hosts) == 2)
    world.server.stage(A, b"")
    return world


def start(world: World, host: int, steps: Callable[[Process], None]) -> Process:
    """A process on one of the hosts."""
    return Process(world, f"process{len(world.processes)}", world.hosts[host], steps)


GRACE: list[tuple[str, Callable[[Process], object], bool]] = [
    ("stage", lambda p: p.fs.stage(B, b""), True),
    ("read", lambda p: p.fs.read(A, 10), True),
    ("open_beat", lambda p: p.fs.open_beat(B, b""), True),
    ("rename", lambda p: p.fs.rename(A, B), True),
    ("unlink", lambda p: p.fs.unlink(A), True),
    ("link", lambda p: p.fs.link(A, B), False),
    ("mkdir", lambda p: p.fs.mkdir(B), False),
    ("names", lambda p: p.fs.names(OUT), False),
    ("inode", lambda p: p.fs.inode(A), False),
]


@pytest.mark.parametrize(("call", "waits"), [each[1:] for each in GRACE], ids=[each[0] for each in GRACE])
def test_a_call_in_the_grace_period(call: Callable[[Process], object], *, waits: bool) -> None:
    """Create, open, rename and unlink wait for its end; link, mkdir, look-ups and listings go through."""
    world = make_world()
    world.grace_until = GRACE_S
    returned: list[float] = []

    def calls(process: Process) -> None:
        call(process)
        returned.append(world.now)

    start(world, 0, calls)

    assert world.run(100)

    assert (returned[0] >= GRACE_S) == waits
    assert world.case.kinds == ({"wait": 1} if waits else {})


def test_a_beat_is_written_in_the_grace_period() -> None:
    """A write through an open file goes through, so that nobody is taken for dead because the server restarted."""
    world = make_world()
    returned: list[float] = []

    def beats(process: Process) -> None:
        beat = process.fs.open_beat(B, b"1")
        world.grace_until = world.now + GRACE_S
        beat.write(b"2")
        returned.append(world.now)

    start(world, 0, beats)

    assert world.run(100)

    assert returned[0] < GRACE_S
    assert world.server.read(B, 10) == b"2"


def test_who_is_killed_in_the_grace_period_may_be_served_after_it() -> None:
    """The rename of the dead waits like that of the living, and no longer."""
    world = make_world()
    world.grace_until = GRACE_S
    dying = start(world, 0, lambda process: process.fs.rename(A, B))
    seen: list[bool] = []

    def kills(_: Process) -> None:
        world.sleep(1.0)
        world.kill(dying, late=True)

    start(world, 1, kills)

    def looks(_: Process) -> None:
        world.sleep(GRACE_S - 5.0)
        seen.append(world.server.inode(B) is not None)
        world.sleep(1000.0)
        seen.append(world.server.inode(B) is not None)

    start(world, 1, looks)

    assert world.run(100)

    assert seen == [False, True]


def test_a_call_on_its_way_when_the_server_restarts() -> None:
    """It was executed, or not, or its sender gives up; a request that is sent again tells nothing about that."""
    outcomes = Counter[tuple[str, bool]]()
    for seed in range(60):
        world = make_world()
        world.rng.seed(seed)
        answers: list[str] = []

        def renames(process: Process, answers: list[str] = answers) -> None:
            try:
                process.fs.rename(A, B)
            except OSError as error:
                answers.append(errno.errorcode[error.errno or 0])
            else:
                answers.append("OK")

        process = start(world, 0, renames)
        while process.pending is None and not process.ended:
            world.run(1)
        if process.ended:
            continue
        world.restart_server()
        world.run(100)
        known = answers[0] if answers[0] in ("OK", "ENOENT") else "error"
        outcomes[known, world.server.inode(B) is not None] += 1

    assert set(outcomes) == {("OK", True), ("ENOENT", True), ("error", True), ("error", False)}


def listings(world: World, change: Callable[[Process], None]) -> list[bool]:
    """Whether host 1 sees A in each of many listings, ten milliseconds apart, after a change by host 0."""
    shown: list[bool] = []

    def looks(process: Process) -> None:
        while world.now < 2.0:
            seen = "a" in process.fs.names(OUT)
            if world.now > changed_at[0]:
                shown.append(seen)
            world.sleep(0.01)

    changed_at = [9.9]

    def changes(process: Process) -> None:
        world.sleep(1.0)
        change(process)
        changed_at[0] = world.now + 0.05  # nobody looks at the very moment

    start(world, 0, changes)
    start(world, 1, looks)
    assert world.run(2000)
    return shown


def test_a_listing_may_still_show_what_another_client_removed_a_moment_ago() -> None:
    """The change attribute of a directory is coarse: a cached listing seems to be fresh, but not for long."""
    stale = 0
    for seed in range(20):
        world = make_world(coarse_s=0.3)
        world.rng.seed(seed)
        shown = listings(world, lambda process: process.fs.unlink(A))

        assert shown == sorted(shown, reverse=True)
        assert not shown[-1]
        stale += shown[0]
    assert stale


def test_a_listing_may_miss_what_another_client_made_a_moment_ago() -> None:
    """The same for a name that is new."""
    missed = 0
    for seed in range(20):
        world = make_world(coarse_s=0.3)
        world.rng.seed(seed)
        world.server.unlink(A)
        shown = listings(world, lambda process: process.fs.stage(A, b""))

        assert shown == sorted(shown)
        assert shown[-1]
        missed += not shown[0]
    assert missed


def test_a_client_sees_its_own_changes_at_once() -> None:
    """The same client, another process."""
    for seed in range(20):
        world = make_world(coarse_s=0.2)
        world.rng.seed(seed)

        def changes_and_looks(process: Process) -> None:
            process.fs.names(OUT)
            process.fs.unlink(A)
            assert process.fs.names(OUT) == []
            process.fs.mkdir(A)
            assert process.fs.names(OUT) == ["a"]

        start(world, 0, changes_and_looks)
        assert world.run(100)


def test_a_directory_that_another_client_removed_is_a_stale_handle_once() -> None:
    """The first call in it may be answered with ESTALE; then the client looks the directory up again."""
    answers = Counter[tuple[str, ...]]()
    for seed in range(20):
        world = make_world(stale_handles=True)
        world.rng.seed(seed)
        world.server.mkdir(B)
        found: list[str] = []

        def looks(process: Process, world: World = world, found: list[str] = found) -> None:
            world.sleep(1.0)
            for _ in range(2):
                try:
                    process.fs.stage(f"{B}/x", b"")
                except OSError as error:
                    found.append(errno.errorcode[error.errno or 0])

        start(world, 0, lambda process: process.fs.rmdir(B))
        start(world, 1, looks)
        assert world.run(100)
        answers[tuple(found)] += 1

    assert set(answers) == {("ESTALE", "ENOENT"), ("ENOENT", "ENOENT")}


def test_a_held_process_is_woken_by_nothing() -> None:
    """A paused worker does not go on because its child has ended."""
    world = make_world()
    woken: list[float] = []

    def pauses(process: Process) -> None:
        world.hold(process, 10.0)
        woken.append(world.now)

    paused = start(world, 0, pauses)

    def wakes(_: Process) -> None:
        world.sleep(1.0)
        paused.wake(world.now)

    start(world, 1, wakes)

    assert world.run(100)

    assert woken[0] >= 10.0


def test_nobody_outlives_a_kill() -> None:
    """A process that kills itself makes no further call."""
    world = make_world()

    def dies(process: Process) -> None:
        world.kill(process)
        with pytest.raises(Died):
            process.fs.names(OUT)
        raise Died

    start(world, 0, dies)

    assert world.run(100)


def test_every_fault_occurs() -> None:
    """In some hundred schedules each kind of fault strikes, and tickets of one and of several inputs are claimed."""
    kinds, sizes = Counter[str](), set[int]()
    for seed in range(400):
        case = draw_case(seed)
        world = simulate(case)
        kinds += case.kinds
        for number in world.server.names(world.layout.done):
            for name in world.server.names(f"{world.layout.done}/{number}"):
                lo, _, hi = name.partition("-")
                sizes.add(int(hi) - int(lo))

    assert set(kinds) == {
        *("error", "reply", "kill", "kill after", "kill late", "torn", "kill host", "broken"),
        *("pause", "pause host", "slow", "full"),
        *("restart", "in flight", "wait", "old listing", "stale handle", "away", "late", "again"),
    }
    assert len(sizes) > 2
