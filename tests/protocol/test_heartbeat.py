"""What a worker says about itself, and what a peer may conclude, on every filesystem."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from claimwork.errors import Fenced
from claimwork.fs import Fs
from claimwork.heartbeat import Heartbeat, Watch, live_workers
from claimwork.layout import Layout
from claimwork.records import BEAT_BYTES, BeatRecord, parse_beat
from claimwork.testing import FaultyFs, HookedFs, ManualClock

T = 75.0
ALICE, BOB = f"{1:032x}", f"{2:032x}"
RECORD = BeatRecord(ALICE, 0, boot="kernel", host="h", started_at=1.0)


def started(fs: Fs, layout: Layout, clock: ManualClock, worker: str = ALICE, jitter: float = 0.5) -> Heartbeat:
    """A heartbeat that has begun."""
    fs.mkdir(layout.stage_of(worker))
    heartbeat = Heartbeat(fs, layout, clock, T, jitter)
    heartbeat.start(replace(RECORD, worker=worker))
    return heartbeat


def test_a_beat_is_read_by_peers(mount: tuple[Fs, str], layout: Layout) -> None:
    """From the start on, and each one replaces the one before."""
    fs, clock = mount[0], ManualClock()
    heartbeat = started(fs, layout, clock)
    first = fs.read(layout.live_of(ALICE), 9999)
    heartbeat.beat(replace(RECORD, beat=1, current=[("a", 1.5)]))
    second = fs.read(layout.live_of(ALICE), 9999)
    heartbeat.stop()

    assert parse_beat(first, "") == RECORD
    assert parse_beat(second, "") == replace(RECORD, beat=1, current=[("a", 1.5)])
    assert [len(first), len(second)] == [BEAT_BYTES, BEAT_BYTES]
    assert live_workers(fs, layout) == [ALICE]


@pytest.mark.parametrize(("jitter", "period"), [(0.0, 12.0), (0.5, 15.0), (1.0, 18.0)])
def test_beats_come_every_fifth_of_patience(
    mount: tuple[Fs, str], layout: Layout, jitter: float, period: float
) -> None:
    """Give or take a fifth, so that workers drift apart."""
    clock = ManualClock()
    heartbeat = started(mount[0], layout, clock, jitter=jitter)
    assert heartbeat.due_in() == pytest.approx(period)
    clock.advance(period)
    heartbeat.beat(RECORD)
    heartbeat.stop()

    assert heartbeat.due_in() == pytest.approx(period)


@pytest.mark.parametrize("how", ["buried", "swept"])
def test_a_worker_sees_that_it_was_given_up_before_it_began(mount: tuple[Fs, str], layout: Layout, how: str) -> None:
    """Its first request was executed, the reply lost with the server; sent again long after, it makes a second file."""
    fs, clock = mount[0], ManualClock()
    fs.mkdir(layout.stage_of(ALICE))

    def executed_long_ago(op: str, args: object) -> None:
        if op != "open_beat":
            return
        fs.open_beat(layout.live_of(ALICE), b" " * BEAT_BYTES).close()
        fs.rename(layout.live_of(ALICE), layout.dead_of(ALICE))
        if how == "swept":
            fs.rmdir(layout.stage_of(ALICE))
            fs.rename(layout.dead_of(ALICE), layout.left_of(ALICE))

    slow = HookedFs(fs)
    slow.before = executed_long_ago  # type: ignore[method-assign]
    heartbeat = Heartbeat(slow, layout, clock, T, 0.5)
    with pytest.raises(Fenced, match="before it had begun"):
        heartbeat.start(RECORD)
    heartbeat.give_up()


@pytest.mark.parametrize("how", ["buried", "removed", "replaced"])
def test_a_worker_sees_that_it_was_given_up(mount: tuple[Fs, str], layout: Layout, how: str) -> None:
    """Its name in live/ is gone or somebody else's."""
    fs = mount[0]
    heartbeat = started(fs, layout, ManualClock())
    if how == "buried":
        fs.rename(layout.live_of(ALICE), layout.dead_of(ALICE))
    else:
        fs.unlink(layout.live_of(ALICE))
    if how == "replaced":
        fs.stage(f"{layout.home}/other", b"")
        fs.rename(f"{layout.home}/other", layout.live_of(ALICE))
    with pytest.raises(Fenced):
        heartbeat.beat(RECORD)
    heartbeat.stop()


def test_a_worker_that_cannot_beat_gives_up_before_its_peers_do(mount: tuple[Fs, str], layout: Layout) -> None:
    """At four fifths of T; until then it tries again."""
    clock = ManualClock()
    fs = HookedFs(mount[0])
    heartbeat = started(fs, layout, clock)

    def fail(op: str, args: tuple[object, ...]) -> None:
        raise OSError(errno.ESTALE, "injected")

    fs.before = fail  # type: ignore[method-assign]
    for _ in range(4):
        clock.advance(15.0)
        heartbeat.beat(RECORD)
    clock.advance(0.1)
    with pytest.raises(Fenced):
        heartbeat.check()
    with pytest.raises(Fenced):
        heartbeat.beat(RECORD)
    heartbeat.stop()


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ENOENT, errno.ENOSPC])
def test_one_failed_beat_is_no_end(mount: tuple[Fs, str], layout: Layout, code: int) -> None:
    """One ESTALE ended the heartbeat of others."""
    clock = ManualClock()
    fs = FaultyFs(mount[0], 2, OSError(code, "injected"), executed=False)
    heartbeat = started(fs, layout, clock)
    for beat in range(1, 4):
        clock.advance(15.0)
        heartbeat.beat(replace(RECORD, beat=beat))
    heartbeat.stop()

    assert parse_beat(mount[0].read(layout.live_of(ALICE), 9999), "").beat == 3


def test_a_beat_that_fails_is_tried_again_each_second(mount: tuple[Fs, str], layout: Layout) -> None:
    """A worker that waits until it is due neither asks a broken mount without pause nor misses its end."""
    broken, clock = HookedFs(mount[0]), ManualClock()
    heartbeat = started(broken, layout, clock)

    def fail(op: str, args: tuple[object, ...]) -> None:
        raise OSError(errno.EIO, "injected")

    broken.before = fail  # type: ignore[method-assign]
    tries = 0
    while clock.now - heartbeat.last_at <= 0.8 * T:
        assert heartbeat.beat(RECORD) is False
        clock.advance(max(heartbeat.due_in(), 0.001))
        tries += 1
    heartbeat.stop()

    assert 40 <= tries <= 80


def test_leaving_moves_the_last_record(mount: tuple[Fs, str], layout: Layout) -> None:
    """Nobody watches who left, and `status` still knows."""
    fs = mount[0]
    heartbeat = started(fs, layout, ManualClock())
    heartbeat.leave(replace(RECORD, state="left"))

    assert live_workers(fs, layout) == []
    assert parse_beat(fs.read(layout.left_of(ALICE), 9999), "").state == "left"


def test_leaving_twice_leaves_no_lock_behind(mount: tuple[Fs, str], layout: Layout) -> None:
    """The move was executed, its reply lost: sent again it finds nothing, and nobody else may remove the lock's file."""
    fs = mount[0]

    def executed_before(op: str, args: tuple[object, ...]) -> None:
        if op == "rename":
            fs.rename(layout.live_of(ALICE), layout.left_of(ALICE))

    slow = HookedFs(fs)
    slow.before = executed_before  # type: ignore[method-assign]
    heartbeat = started(slow, layout, ManualClock())
    heartbeat.leave(replace(RECORD, state="left"))

    assert live_workers(fs, layout) == []
    assert fs.names(layout.oslock_of(ALICE).rpartition("/")[0]) == []


# -- evidence ---------------------------------------------------------------------------------------------------------


def look_each(watch: Watch, clock: ManualClock, seconds: float, times: int) -> list[bool]:
    """Whether alice is suspect after each of so many looks."""
    found = []
    for _ in range(times):
        watch.look(ALICE)
        found.append(watch.is_suspect(ALICE))
        clock.advance(seconds)
    return found


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (15.0, [False] * 5 + [True]),  # at least T
        (7.5, [False] * 10 + [True]),
        (20.0, [False] * 4 + [True]),  # at least five reads
        (40.0, [False] * 4 + [True]),
        (46.0, [False] * 12),  # so rare that each look begins anew
    ],
)
def test_a_peer_is_suspect_after_five_looks_over_patience(
    mount: tuple[Fs, str], layout: Layout, seconds: float, expected: list[bool]
) -> None:
    """The same bytes, often enough and long enough, on my own clock."""
    clock = ManualClock()
    started(mount[0], layout, clock).stop()

    assert look_each(Watch(mount[0], layout, clock, T), clock, seconds, len(expected)) == expected


def test_new_bytes_start_anew(mount: tuple[Fs, str], layout: Layout) -> None:
    """Whatever they say: a torn beat is a sign of life too."""
    clock, fs = ManualClock(), mount[0]
    beat = fs.open_beat(layout.live_of(ALICE), b"one")
    watch = Watch(fs, layout, clock, T)
    before = look_each(watch, clock, 15.0, 5)
    beat.write(b"{\xff")
    after = look_each(watch, clock, 15.0, 6)
    beat.close()

    assert (before, after) == ([False] * 5, [False] * 5 + [True])


def test_a_peer_shows_life_while_its_bytes_change(mount: tuple[Fs, str], layout: Layout) -> None:
    """The first look shows nothing against it; the same bytes once more do, and so does a beat that cannot be read."""
    clock, fs = ManualClock(), mount[0]
    beat = fs.open_beat(layout.live_of(ALICE), b"one")
    watch = Watch(fs, layout, clock, T)
    shown = [watch.shows_life(ALICE)]
    for data in (b"one", b"two", b"two", b"six"):
        beat.write(data)
        watch.look(ALICE)
        shown.append(watch.shows_life(ALICE))
        clock.advance(15.0)
    beat.close()
    fs.unlink(layout.live_of(ALICE))
    watch.look(ALICE)

    assert [*shown, watch.shows_life(ALICE)] == [False, True, True, False, True, False]


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_wall_clocks_do_not_matter(mount: tuple[Fs, str], layout: Layout, jump: float) -> None:
    """Nobody is suspect early or late because a clock was set."""
    clock = ManualClock()
    started(mount[0], layout, clock).stop()
    watch = Watch(mount[0], layout, clock, T)
    before = look_each(watch, clock, 15.0, 3)
    clock.wall += jump

    assert before + look_each(watch, clock, 15.0, 3) == [False] * 5 + [True]


@pytest.mark.parametrize("disturbance", ["slow read", "failed read", "stall", "reset"])
def test_a_disturbance_of_mine_starts_anew(mount: tuple[Fs, str], layout: Layout, disturbance: str) -> None:
    """When I, or the mount, stood still, others may have done so for the same reason."""
    clock = ManualClock()
    started(mount[0], layout, clock).stop()
    fs = HookedFs(mount[0])
    watch = Watch(fs, layout, clock, T)
    before = look_each(watch, clock, 15.0, 5)

    def disturb(op: str, args: tuple[object, ...]) -> None:
        if disturbance == "slow read":
            clock.advance(15.1)
        elif disturbance == "failed read":
            raise OSError(errno.EIO, "injected")

    fs.before = disturb  # type: ignore[method-assign]
    if disturbance == "stall":
        clock.advance(35.0)
    elif disturbance == "reset":
        watch.reset()
    else:
        watch.look(ALICE)
    fs.before = lambda op, args: None  # type: ignore[method-assign]

    assert before + look_each(watch, clock, 15.0, 6) == [False] * 10 + [True]


def test_a_peer_that_left_is_forgotten(mount: tuple[Fs, str], layout: Layout) -> None:
    """One that comes back under the same name begins anew."""
    clock, fs = ManualClock(), mount[0]
    started(fs, layout, clock).stop()
    watch = Watch(fs, layout, clock, T)
    look_each(watch, clock, 15.0, 5)
    fs.rename(layout.live_of(ALICE), layout.left_of(ALICE))

    assert watch.look(ALICE) is None
    fs.rename(layout.left_of(ALICE), layout.live_of(ALICE))
    assert look_each(watch, clock, 15.0, 2) == [False, False]
    watch.forget_all_but([BOB])
    assert not watch.is_suspect(ALICE)


def test_what_is_no_beat_hides_nobody(mount: tuple[Fs, str], layout: Layout) -> None:
    """Somebody's directory in live/ does not keep me from judging real peers."""
    clock, fs = ManualClock(), mount[0]
    started(fs, layout, clock).stop()
    fs.mkdir(layout.live_of(BOB))
    watch = Watch(fs, layout, clock, T)
    suspect = []
    for _ in range(6):
        assert watch.look(BOB) is None
        suspect += look_each(watch, clock, 15.0, 1)

    assert suspect == [False] * 5 + [True]
    assert not watch.is_suspect(BOB)


def test_the_os_lock_tells_at_once(mount: tuple[Fs, str], layout: Layout) -> None:
    """Held while the worker lives, free when it is dead."""
    process: Callable[[], HookedFs] = lambda: HookedFs(mount[0])  # noqa: E731
    clock, dying = ManualClock(), process()
    started(dying, layout, clock)
    watch = Watch(process(), layout, clock, T)

    assert not watch.is_dead_here(ALICE)
    dying.die()
    assert watch.is_dead_here(ALICE)
    assert watch.is_dead_here(ALICE)
