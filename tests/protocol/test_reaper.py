"""Taking back what the dead held: on every filesystem, for both ways to claim, whoever dies on the way."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import partial

import pytest

from claimwork.claims import Claims
from claimwork.errors import Fenced
from claimwork.fs import Fs
from claimwork.heartbeat import Heartbeat
from claimwork.layout import Layout
from claimwork.names import Ticket, map_ticket
from claimwork.reaper import Reaper
from claimwork.records import BeatRecord
from claimwork.testing import Died, FaultyFs, HookedFs, ManualClock, PausingFs
from tests.conftest import MakePeer, Peer

T = 75.0
TICKETS = [map_ticket(0, 5, 0, 0, 4, 40), map_ticket(0, 4, 0, 4, 8, 20)]


@dataclass
class Member:
    """A peer with a heartbeat and a reaper."""

    peer: Peer
    clock: ManualClock
    heartbeat: Heartbeat
    reaper: Reaper


def join(layout: Layout, peer: Peer, clock: ManualClock, boot: str = "") -> Member:
    """Let a peer beat."""
    me = BeatRecord(peer.id, 0, boot=boot)
    heartbeat = Heartbeat(peer.fs, layout, clock, T, 0.5)
    heartbeat.start(me)
    return Member(peer, clock, heartbeat, Reaper(peer.fs, layout, peer.store, clock, me, T))


def watch_for(member: Member, seconds: float, *, idle: bool = True) -> None:
    """Let a member beat and look around for so long."""
    end = member.clock.now + seconds
    while member.clock.now < end:
        if member.heartbeat.due_in() <= 0:
            member.heartbeat.beat(BeatRecord(member.peer.id, int(member.clock.now)))
        member.reaper.work(idle=idle)
        member.clock.advance(0.5)


def claim_all(claims: Claims) -> list[Ticket]:
    """Everything that can be had."""
    got = []
    while ticket := claims.next(lambda _: True):
        got.append(ticket)
    return sorted(got, key=lambda each: each.lo)


def ranges(tickets: list[Ticket]) -> list[tuple[int, int, int]]:
    """Tickets as far as a test cares: inputs and attempt."""
    return sorted((each.lo, each.hi, each.attempt) for each in tickets)


def dead_worker(layout: Layout, peer: MakePeer, fs: Fs, clock: ManualClock, number: int = 1, boot: str = "") -> Peer:
    """A worker that was killed while it held two tickets and had a file staged."""
    process = HookedFs(fs)
    dead = peer(number, process)
    join(layout, dead, clock, boot)
    for ticket in TICKETS:
        dead.store.offer(ticket)
        assert dead.store.claim(ticket)
    dead.stage.put(b"half a result")
    process.die()
    return dead


def assert_buried(fs: Fs, layout: Layout, dead: Peer) -> None:
    """Nothing of it is left but its last record."""
    for directory in (layout.live, layout.dead, layout.work, layout.stage):
        assert dead.id not in fs.names(directory)
    assert dead.id in fs.names(layout.left)


BACK = [(0, 4, 2), (4, 8, 2)]


def test_a_silent_worker_is_buried(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """After T its tickets are there again, one attempt later, and nothing else of it is left."""
    fs, clock = mount[0], ManualClock()
    dead = dead_worker(layout, peer, fs, clock)
    bob = join(layout, peer(2), clock)
    watch_for(bob, 74.0)
    assert claim_all(bob.peer.claims) == []
    watch_for(bob, 20.0)

    assert ranges(claim_all(bob.peer.claims)) == BACK
    assert bob.reaper.reclaimed == 2
    assert_buried(fs, layout, dead)
    bob.heartbeat.stop()


def test_a_dead_worker_on_my_kernel_is_buried_at_once(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """Its OS lock is free: about a second is enough."""
    fs, clock = mount[0], ManualClock()
    bob = join(layout, peer(2), clock, boot="kernel")
    watch_for(bob, 5.0)
    dead = dead_worker(layout, peer, fs, clock, boot="kernel")
    watch_for(bob, 1.5)

    assert ranges(claim_all(bob.peer.claims)) == BACK
    assert_buried(fs, layout, dead)
    bob.heartbeat.stop()


def test_a_living_worker_is_left_alone(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """It beats and holds its OS lock."""
    fs, clock = mount[0], ManualClock()
    alice, bob = join(layout, peer(1), clock, boot="kernel"), join(layout, peer(2), clock, boot="kernel")
    alice.peer.store.offer(TICKETS[0])
    alice.peer.store.claim(TICKETS[0])
    for beat in range(20):
        alice.heartbeat.beat(BeatRecord(alice.peer.id, beat, boot="kernel"))
        watch_for(bob, 15.0)

    assert alice.peer.store.held() == [TICKETS[0]]
    assert sorted(fs.names(layout.live)) == [alice.peer.id, bob.peer.id]
    alice.heartbeat.stop()
    bob.heartbeat.stop()


def test_a_worker_buried_alive_starts_afresh(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """Stopped for longer than T, it finds its beat gone, and can neither claim nor offer nor stage."""
    clock = ManualClock()
    alice, bob = join(layout, peer(1), clock), join(layout, peer(2), clock)
    alice.peer.store.offer(TICKETS[0])
    alice.peer.store.claim(TICKETS[0])
    watch_for(bob, 95.0)
    with pytest.raises(Fenced):
        alice.heartbeat.check()
    with pytest.raises(Fenced):
        alice.peer.stage.put(b"late")
    with pytest.raises(Fenced):
        alice.peer.store.offer(TICKETS[1])

    assert alice.peer.store.held() == []
    assert ranges(claim_all(bob.peer.claims)) == [(0, 4, 2)]
    alice.heartbeat.stop()
    bob.heartbeat.stop()


def test_busy_workers_watch_the_next_two(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """In the order of ids and round the end, whoever is dead has two that see it."""
    fs, clock = mount[0], ManualClock()
    dead_worker(layout, peer, fs, clock, number=3)
    members = {number: join(layout, peer(number), clock) for number in (1, 2, 5, 6)}
    looked: dict[int, bool] = {}
    for number, member in members.items():
        reads: list[str] = []
        hooked = member.peer.fs
        assert isinstance(hooked, HookedFs)
        hooked.before = lambda op, args, reads=reads: reads.append(args[0])  # type: ignore[method-assign, misc]
        member.reaper.work(idle=False)
        looked[number] = layout.live_of(f"{3:032x}") in reads
        member.heartbeat.stop()

    assert looked == {1: True, 2: True, 5: False, 6: False}


def sweep_calls(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> list[str]:
    """The mutating calls of one burial."""
    clock = ManualClock()
    dead_worker(layout, peer, mount[0], clock, number=100)
    counting = FaultyFs(mount[0])
    bob = join(layout, peer(101, counting), clock)
    bob.heartbeat.stop()
    mount[0].unlink(layout.live_of(bob.peer.id))
    counting.calls.clear()
    bob.reaper._bury(f"{100:032x}", "it stood still")
    calls = counting.calls.copy()
    for ticket in claim_all(bob.peer.claims):
        bob.peer.store.drop(ticket)
    return calls


@pytest.fixture
def rounds(mount: tuple[Fs, str], layout: Layout) -> partial[None]:
    """Call it between two rounds: markers of tickets that are done go too, since a round uses the names again."""

    def wipe() -> None:
        for shard in mount[0].names(layout.locks):
            for name in mount[0].names(f"{layout.locks}/{shard}"):
                mount[0].unlink(f"{layout.locks}/{shard}/{name}")

    return partial(wipe)


@pytest.mark.parametrize("executed", [True, False], ids=["after", "before"])
def test_the_reaper_dies_at_every_step(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, executed: bool, rounds: partial[None]
) -> None:
    """Whoever comes next finishes the burial, of the first dead and of the reaper."""
    calls = sweep_calls(peer, mount, layout)
    for at, call in enumerate(calls):
        rounds()
        clock = ManualClock()
        dead = dead_worker(layout, peer, mount[0], clock, number=10 * at + 1)
        dying = FaultyFs(mount[0])
        bob = join(layout, peer(10 * at + 2, dying), clock)
        dying.calls.clear()
        dying._at, dying._error, dying._executed = at, Died(), executed
        with pytest.raises(Died):
            bob.reaper._bury(dead.id, "it stood still")
        dying.die()
        carol = join(layout, peer(10 * at + 3), clock)
        watch_for(carol, 95.0)

        found = ranges(claim_all(carol.peer.claims))
        assert sorted({(lo, hi) for lo, hi, _ in found}) == [(0, 4), (4, 8)], f"died at {call}, call {at}"
        assert_buried(mount[0], layout, dead)
        assert_buried(mount[0], layout, bob.peer)
        for ticket in list(carol.peer.claims.mine.values()):
            carol.peer.claims.drop(ticket)
        carol.heartbeat.leave(BeatRecord(carol.peer.id, 0))


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])
def test_a_burial_answered_with_an_error(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, code: int, executed: bool, rounds: partial[None]
) -> None:
    """At each call: looking around again finishes it; a reaper that takes itself for dead leaves it to others."""
    calls = sweep_calls(peer, mount, layout)
    for at, call in enumerate(calls):
        rounds()
        clock = ManualClock()
        dead = dead_worker(layout, peer, mount[0], clock, number=10 * at + 1)
        faulty = FaultyFs(mount[0])
        bob = join(layout, peer(10 * at + 2, faulty), clock)
        carol = join(layout, peer(10 * at + 3), clock)
        faulty.calls.clear()
        faulty._at, faulty._error, faulty._executed = at, OSError(code, "injected"), executed
        try:
            bob.reaper._bury(dead.id, "it stood still")
        except (OSError, Fenced):
            pass
        bob.heartbeat.leave(BeatRecord(bob.peer.id, 0))
        watch_for(carol, 95.0)

        assert ranges(claim_all(carol.peer.claims)) == BACK, f"{call}, call {at}"
        assert_buried(mount[0], layout, dead)
        for ticket in list(carol.peer.claims.mine.values()):
            carol.peer.claims.drop(ticket)
        carol.heartbeat.leave(BeatRecord(carol.peer.id, 0))


def test_two_reapers_at_every_interleaving(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, rounds: partial[None]
) -> None:
    """One stops before each of its calls while the other buries: each ticket comes back once."""
    for stop in range(80):
        rounds()
        clock = ManualClock()
        dead = dead_worker(layout, peer, mount[0], clock, number=10 * stop + 1)
        pausing = PausingFs(mount[0])
        bob, carol = (join(layout, peer(10 * stop + nth, fs), clock) for nth, fs in ((2, pausing), (3, None)))
        pausing.pause(stop, partial(carol.reaper._bury, dead.id, "it stood still"))
        bob.reaper._bury(dead.id, "it stood still")

        assert ranges(claim_all(carol.peer.claims)) == BACK, f"stopped before call {stop}"
        assert_buried(mount[0], layout, dead)
        for ticket in list(carol.peer.claims.mine.values()):
            carol.peer.claims.drop(ticket)
        assert carol.peer.claims.ready() == []
        for member in (bob, carol):
            member.heartbeat.leave(BeatRecord(member.peer.id, 0))
        if pausing.calls <= stop:
            return
    raise AssertionError("a burial makes more calls than this test expects")
