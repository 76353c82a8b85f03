"""Taking back what the dead held: on every filesystem, for both ways to claim, whoever dies on the way."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import partial
from random import Random

import pytest

from claimwork.claims import Claims
from claimwork.errors import Fenced
from claimwork.fs import Fs
from claimwork.heartbeat import Heartbeat
from claimwork.layout import Layout
from claimwork.names import Ticket, map_ticket
from claimwork.reaper import Reaper
from claimwork.records import BeatRecord
from claimwork.testing import Died, FaultyFs, HookedFs, ManualClock, MemoryServer, PausingFs
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


class Network:
    """Members on a network mount, where each look is a request, all on one clock."""

    def __init__(self, numbers: range, boots: dict[int, str] | None = None) -> None:
        self.server = MemoryServer("nfs4")
        self.layout = Layout("/mnt")
        for directory in ("/mnt", *self.layout.directories()):
            self.server.mkdir(directory)
        self.clock = ManualClock()
        self.calls: list[tuple[str, str]] = []
        make = MakePeer(self.server, self.layout, "rename")
        self.members = {
            number: join(self.layout, make(number), self.clock, (boots or {}).get(number, "")) for number in numbers
        }
        self.boots = boots or {}

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            process = self.members.pop(number).peer.fs
            assert isinstance(process, HookedFs)
            process.die()

    def pass_by(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            for number, member in list(self.members.items()):
                if member.heartbeat.due_in() <= 0:
                    boot, watches = self.boots.get(number, ""), member.reaper.watches
                    record = BeatRecord(member.peer.id, int(self.clock.now), boot=boot, watches=watches)
                    member.heartbeat.beat(record)
                if member.reaper.due_in() <= 0:
                    member.reaper.work(idle=True)
            self.clock.advance(0.5)

    def listen(self, number: int) -> list[tuple[str, str]]:
        """What a member asks for from now on."""
        calls: list[tuple[str, str]] = []
        hooked = self.members[number].peer.fs
        assert isinstance(hooked, HookedFs)
        hooked.before = lambda op, args: calls.append((op, str(args[0])))  # type: ignore[method-assign]
        return calls

    def live(self) -> list[int]:
        return [int(name, 16) for name in sorted(self.server.names(self.layout.live))]


def test_on_a_network_mount_only_the_next_peer_is_read_while_it_lives() -> None:
    """Each read is three requests: five minutes cost the beats of one peer, live/ every other time, and dead/ once in T."""
    network = Network(range(1, 13))
    network.pass_by(100.0)
    calls = network.listen(4)
    network.pass_by(300.0)

    read = [path for op, path in calls if op == "read"]
    assert set(read) == {network.layout.live_of(f"{5:032x}")}
    assert len(read) == 20
    assert calls.count(("names", network.layout.live)) == 10
    assert calls.count(("names", network.layout.dead)) == 4
    assert network.live() == list(range(1, 13))


@pytest.mark.parametrize("seed", range(12))
def test_whoever_dies_is_watched_by_the_nearest_that_lives(seed: int) -> None:
    """However many die beside each other, all are found within T and a look for each of those between; nobody else is."""
    rng = Random(seed)
    network = Network(range(1, 13))
    network.pass_by(rng.uniform(60.0, 120.0))
    first = rng.randrange(12)
    adjacent = {1 + (first + nth) % 12 for nth in range(seed % 8 + 1)}  # round the end, too
    network.kill(*adjacent, *rng.sample(sorted({*range(1, 13)} - adjacent), 3))
    network.pass_by(T + 30.0 + 15.0 * (seed % 8 + 3))

    assert network.live() == sorted(network.members)
    assert network.server.names(network.layout.dead) == []


def test_who_lives_and_cannot_watch_hides_nobody() -> None:
    """Its own beats fail at times, say, so that what it has seen proves nothing, again and again."""
    network = Network(range(1, 13))
    network.pass_by(100.0)
    network.kill(3)
    for _ in range(5):
        network.pass_by(30.0)
        network.members[2].reaper.reset()

    assert network.live() == sorted(network.members)


def test_who_is_watched_while_the_next_is_silent_is_judged_by_all_the_evidence() -> None:
    """A peer that beats slowly shows the same bytes at times; who stands behind it is then read, and never given up for that."""
    network = Network(range(1, 13))
    network.members[2].heartbeat.period_s = 29.0
    network.pass_by(1500.0)

    assert network.live() == list(range(1, 13))


def test_who_has_just_come_is_watched() -> None:
    """live/ is listed every other time: two looks later at most."""
    network = Network(range(1, 13, 3))
    network.pass_by(40.0)
    late = join(network.layout, MakePeer(network.server, network.layout, "rename")(5), network.clock)
    network.members[5] = late
    network.kill(5)
    network.pass_by(T + 45.0)

    assert network.live() == [1, 4, 7, 10]


def test_a_grave_is_swept_with_the_reaper_that_died_over_it() -> None:
    """Nobody lists graves often: who buries a reaper looks for those it had begun."""
    network = Network(range(1, 13))
    network.pass_by(80.0)  # all have listed dead/ since T, and will not for most of it
    network.kill(5, 6)
    grave = network.layout.dead_of(f"{6:032x}")
    network.server.rename(network.layout.live_of(f"{6:032x}"), grave)
    calls = {number: network.listen(number) for number in network.members}
    network.pass_by(T + 30.0)

    assert network.server.names(network.layout.dead) == []
    assert network.live() == sorted(network.members)
    assert any(
        op == "rmdir" and path == network.layout.work_of(f"{6:032x}") for each in calls.values() for op, path in each
    )


def test_a_grave_that_could_not_be_swept_is_swept_at_the_next_look() -> None:
    """Something is in the directory of what the dead held, as after a claim that was executed late."""
    network = Network(range(1, 4))
    network.pass_by(100.0)
    network.kill(2)
    wedge = f"{network.layout.work_of(f'{2:032x}')}/wedge"
    network.server.mkdir(wedge)
    network.pass_by(T + 15.0)
    assert network.server.names(network.layout.dead) == [f"{2:032x}"]
    network.server.rmdir(wedge)
    network.pass_by(15.5)

    assert network.server.names(network.layout.dead) == []


def test_few_workers_watch_the_os_lock_of_the_next_on_their_own_kernel() -> None:
    """Whoever is between them: a worker that is killed is found at once, on a network mount too."""
    network = Network(range(1, 7), {number: "odd" if number % 2 else "even" for number in range(1, 7)})
    network.pass_by(40.0)
    network.kill(3)
    network.pass_by(8.0)

    assert network.live() == [1, 2, 4, 5, 6]


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
