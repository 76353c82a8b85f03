"""One suite for both claim stores on every filesystem: whatever happens, a ticket is in one place."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest

from claimwork.errors import Fenced
from claimwork.fs import Fs
from claimwork.layout import Layout
from claimwork.names import Ticket, map_ticket, plan_ticket, reduce_ticket
from claimwork.policy import after_failure, after_loss, part_of
from claimwork.testing import Died, FaultyFs, HookedFs, PausingFs
from claimwork.ticket_store import empty_directory
from tests.conftest import MakePeer, Peer

TICKET = map_ticket(shard=3, weight=10, segment=0, lo=0, hi=8, size_bytes=800)
LIGHTER = map_ticket(shard=3, weight=5, segment=0, lo=8, hi=9, size_bytes=20)
# EEXIST comes from a retransmission: the call was executed, the name is there
ERRORS = [(errno.EEXIST, True)] + [
    (code, executed) for code in (errno.ENOENT, errno.EIO, errno.ESTALE) for executed in (True, False)
]
ERROR_IDS = [f"{errno.errorcode[code]}{'' if executed else ' not'} executed" for code, executed in ERRORS]


def everything(_: Ticket) -> bool:
    """Any ticket will do."""
    return True


def claimable(peer: Peer) -> list[Ticket]:
    """What a worker can get now, by getting it."""
    got = []
    while ticket := peer.claims.next(everything):
        got.append(ticket)
    return sorted(got, key=lambda each: each.name)


def held(peer: Peer) -> list[Ticket]:
    """What a worker holds, in a fixed order."""
    return sorted(peer.store.held(), key=lambda each: each.name)


def wipe(layout: Layout, fs: Fs) -> None:
    """Make room for the next round of a test: a job never uses a name twice."""
    for root in (layout.ready, layout.locks, layout.work, layout.stage):
        for directory in fs.names(root):
            empty_directory(fs, f"{root}/{directory}")
            fs.rmdir(f"{root}/{directory}")


def bury(fs: Fs, layout: Layout, peer: Peer, dead: Peer) -> None:
    """What a reaper does, in its order."""
    empty_directory(fs, layout.stage_of(dead.id))
    fs.rmdir(layout.stage_of(dead.id))
    for _ in range(3):
        peer.store.take_back(dead.id)
        if peer.store.fence(dead.id):
            return
    raise AssertionError("the fence does not close")


def ranges(tickets: list[Ticket]) -> list[tuple[int, int, int]]:
    """Tickets as far as a test cares: inputs and attempt."""
    return sorted((each.lo, each.hi, each.attempt) for each in tickets)


@pytest.mark.parametrize("ticket", [TICKET, plan_ticket("0" * 16), reduce_ticket(5)], ids=["map", "plan", "reduce"])
def test_a_ticket_has_one_owner(peer: MakePeer, ticket: Ticket) -> None:
    """Offered once, claimed once; the second claim fails and leaves nothing behind."""
    alice, bob = peer(1), peer(2)
    alice.store.offer(ticket)

    assert alice.store.claim(ticket)
    assert not bob.store.claim(ticket)
    assert ([ticket], []) == (held(alice), held(bob))


def test_offering_twice_leaves_one(peer: MakePeer) -> None:
    """Whoever thinks that a ticket is missing may create it again."""
    alice, bob = peer(1), peer(2)
    alice.store.offer(TICKET)
    bob.store.offer(TICKET)

    assert claimable(alice) == [TICKET]


def test_a_ticket_that_is_not_there(peer: MakePeer) -> None:
    """Claims are made from listings; a ticket that went since is a lost race, not an error."""
    alice = peer(1)
    alice.store.offer(TICKET)
    alice.store.claim(TICKET)
    alice.store.drop(TICKET)

    assert not peer(2).claims.next(everything)


def test_the_heaviest_ticket_goes_first(peer: MakePeer) -> None:
    """Large inputs start early, so that workers finish together."""
    alice = peer(1)
    alice.store.offer(LIGHTER)
    alice.store.offer(TICKET)

    assert [alice.claims.next(everything), alice.claims.next(everything)] == [TICKET, LIGHTER]


def test_what_others_hold_does_not_keep_me_from_the_rest(peer: MakePeer) -> None:
    """A held ticket that is heavier than all that wait used to win every pick, so that workers took turns."""
    alice, bob = peer(1), peer(2)
    for ticket in TICKET, LIGHTER:
        alice.store.offer(ticket)
    assert alice.store.claim(TICKET)

    assert claimable(bob) == [LIGHTER]
    assert bob.claims.lost_races == 0


def test_a_claim_between_listing_and_picking_costs_one_race(peer: MakePeer) -> None:
    """The first lost race throws the listing away."""
    alice, bob = peer(1), peer(2)
    second = map_ticket(3, 9, 0, 9, 10, 20)
    third = map_ticket(3, 8, 0, 10, 11, 20)
    for ticket in TICKET, second, third:
        alice.store.offer(ticket)
    assert bob.claims.next(everything) == TICKET
    assert alice.store.claim(second)

    assert [third] == claimable(bob)
    assert bob.claims.lost_races == 1


def test_only_wanted_tickets_are_claimed(peer: MakePeer) -> None:
    """A worker takes nothing that it cannot do."""
    alice = peer(1)
    alice.store.offer(TICKET)

    assert alice.claims.next(lambda ticket: ticket.hi < 8) is None
    assert held(alice) == []


def test_a_back_off_is_waited_for(peer: MakePeer) -> None:
    """It runs on the clock of whoever sees the ticket, from when it first sees it."""
    alice = peer(1)
    alice.store.offer(TICKET)
    alice.store.claim(TICKET)
    again = after_failure(TICKET, 3, max_attempts=3, base_s=2.0)
    assert again is not None
    alice.store.offer(again)
    alice.store.drop(TICKET)

    assert alice.claims.next(everything) is None
    alice.clock.advance(1.9)
    assert alice.claims.next(everything) is None
    alice.clock.advance(0.2)
    assert again == alice.claims.next(everything)


def test_strangers_in_ready_are_ignored(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """Files that people or other programs leave there stop nobody."""
    alice, fs = peer(1), mount[0]
    alice.store.offer(LIGHTER)
    shard = f"{layout.ready}/000003"
    almost = TICKET.name.replace(".c10.", ".c010.")
    for name in (
        "x",
        ".hidden",
        "a\nb",
        "\udcff",
        almost,
        TICKET.name + "~",
        TICKET.name.replace("h000003", "h000004"),
    ):
        fs.stage(f"{shard}/{name}", b"")
    fs.mkdir(f"{shard}/directory")
    fs.stage(f"{layout.ready}/file", b"")
    fs.stage(f"{layout.ready}/000000", b"")
    fs.mkdir(f"{layout.ready}/other")

    assert claimable(alice) == [LIGHTER]
    assert held(alice) == [LIGHTER]


def test_empty_shards_are_removed_and_come_back(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """A shard that is used up costs later listings nothing."""
    alice, bob = peer(1), peer(2)
    alice.store.offer(TICKET)
    alice.store.claim(TICKET)
    alice.store.drop(TICKET)
    assert claimable(bob) == []
    assert mount[0].names(layout.ready) == []
    alice.store.offer(LIGHTER)

    assert claimable(bob) == [LIGHTER]


@pytest.mark.parametrize("move", ["offer", "release", "take back", "halves"])
def test_a_shard_that_vanishes_while_a_ticket_is_put_there(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, move: str
) -> None:
    """An idle worker may find the shard empty and remove it at the worst moment."""
    fs = mount[0]
    racing = HookedFs(fs)
    alice, bob = peer(1, racing), peer(2)
    dead = peer(3)
    start = {"release": TICKET, "take back": TICKET, "halves": after_loss(TICKET)[0], "offer": None}[move]
    if start is not None:
        (alice if move == "release" else dead).store.offer(start)
        (alice if move == "release" else dead).store.claim(start)
    removed = 0

    def before(op: str, args: tuple[object, ...]) -> None:
        nonlocal removed
        if op in ("rename", "link") and str(args[1]).startswith(layout.ready + "/") and removed < 3:
            removed += 1
            try:
                fs.rmdir(f"{layout.ready}/000003")
            except OSError:
                pass

    racing.before = before  # type: ignore[method-assign]
    if move == "offer":
        alice.store.offer(TICKET)
    elif move == "release":
        alice.store.release(TICKET, TICKET.successor(lo=4))
    else:
        alice.store.take_back(dead.id)

    expected = {
        "offer": [(0, 8, 1)],
        "release": [(4, 8, 1)],
        "take back": [(0, 8, 2)],
        "halves": [(0, 4, 2), (4, 8, 2)],
    }
    assert expected[move] == ranges(claimable(bob))


def test_split_keeps_the_parts(peer: MakePeer) -> None:
    """Nobody else can have them, and the whole is gone."""
    alice, bob = peer(1), peer(2)
    alice.store.offer(TICKET)
    alice.claims.next(everything)
    parts = [part_of(TICKET, 0, 3), part_of(TICKET, 3, 8)]
    alice.claims.split(TICKET, parts)

    assert sorted(parts, key=lambda each: each.name) == held(alice)
    assert claimable(bob) == []
    assert {each.name for each in parts} == set(alice.claims.mine)


def test_release_gives_it_to_others_under_a_fresh_name(peer: MakePeer) -> None:
    """The rest of a ticket goes back in one step, its attempt unchanged."""
    alice, bob = peer(1), peer(2)
    alice.store.offer(TICKET)
    alice.claims.next(everything)
    rest = TICKET.successor(lo=5)
    alice.claims.release(TICKET, rest)

    assert (held(alice), alice.claims.mine) == ([], {})
    assert [rest] == claimable(bob)
    assert (rest.lo, rest.hi, rest.attempt) == (5, 8, 1)
    assert rest.nonce != TICKET.nonce


def test_release_of_all_of_it_has_a_fresh_name_too(peer: MakePeer) -> None:
    """A claim of the old name that is still under way somewhere must not succeed."""
    alice, bob = peer(1), peer(2)
    alice.store.offer(TICKET)
    alice.claims.next(everything)
    alice.claims.release(TICKET, TICKET.successor())

    assert not bob.store.claim(TICKET)
    assert [TICKET.successor()] == claimable(bob)


def test_release_after_take_back_does_nothing(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """A worker that wakes late cannot put back what is somebody else's now."""
    alice, bob, carol = peer(1), peer(2), peer(3)
    alice.store.offer(TICKET)
    alice.store.claim(TICKET)
    bury(mount[0], layout, bob, alice)
    again = claimable(carol)
    try:
        alice.store.release(TICKET, TICKET.successor(lo=5))
    except Fenced:
        pass

    assert ranges(again) == [(0, 8, 2)]
    assert again == held(carol)
    assert claimable(bob) == []


def test_drop_forgets(peer: MakePeer) -> None:
    """A ticket whose inputs are done is nowhere any more; dropping it twice is fine."""
    alice, bob = peer(1), peer(2)
    alice.store.offer(TICKET)
    alice.store.claim(TICKET)
    alice.store.drop(TICKET)
    alice.store.drop(TICKET)

    assert (held(alice), claimable(bob)) == ([], [])


def test_take_back_charges_an_attempt(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """What a dead worker held is there again, one attempt later, and its directories are gone."""
    alice, bob = peer(1), peer(2)
    for ticket in TICKET, LIGHTER, reduce_ticket(7):
        alice.store.offer(ticket)
        alice.store.claim(ticket)
    bury(mount[0], layout, bob, alice)

    assert ranges(claimable(bob)) == [(0, 0, 2), (0, 8, 2), (8, 9, 2)]
    assert [[bob.id], [bob.id]] == [mount[0].names(layout.work), mount[0].names(layout.stage)]


def test_a_range_lost_twice_comes_back_in_halves(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """A poison input isolates itself, its neighbours are not charged again."""
    alice, bob = peer(1), peer(2)
    again = after_loss(TICKET)[0]
    alice.store.offer(again)
    alice.store.claim(again)
    bury(mount[0], layout, bob, alice)

    assert ranges(claimable(bob)) == [(0, 4, 2), (4, 8, 2)]


@pytest.mark.parametrize("lost", [TICKET, after_loss(TICKET)[0]], ids=["whole", "halves"])
def test_taken_back_by_two_at_every_interleaving(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, lost: Ticket
) -> None:
    """One reaper stops before each of its calls in turn while another does all of it: no ticket comes twice."""
    for stop in range(40):
        wipe(layout, mount[0])
        dead, quick = peer(1), peer(2)
        pausing = PausingFs(mount[0])
        slow = peer(3, pausing)
        dead.store.offer(lost)
        assert dead.store.claim(lost)
        pausing.pause(stop, partial(quick.store.take_back, dead.id))
        slow.store.take_back(dead.id)
        assert slow.store.fence(dead.id)

        found = claimable(quick)
        assert ranges(found) == ranges(after_loss(lost)), f"stopped before call {stop}"
        for ticket in found:
            quick.store.drop(ticket)
        assert quick.claims.ready() == []
        if pausing.calls <= stop:
            return
    raise AssertionError("take_back makes more calls than this test expects")


@pytest.mark.parametrize("lost", [TICKET, after_loss(TICKET)[0]], ids=["whole", "halves"])
def test_what_was_taken_back_is_claimed_before_a_second_reaper_is_done(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, lost: Ticket
) -> None:
    """Nothing is lost; a half may come twice, at an attempt whose outcome is settled exclusively."""
    for stop in range(40):
        wipe(layout, mount[0])
        dead, quick, carol = peer(1), peer(2), peer(4)
        got: list[Ticket] = []

        def meanwhile(quick: Peer = quick, dead: Peer = dead, got: list[Ticket] = got) -> None:
            quick.store.take_back(dead.id)
            got += claimable(quick)

        pausing = PausingFs(mount[0])
        dead.store.offer(lost)
        assert dead.store.claim(lost)
        slow = peer(3, pausing)
        pausing.pause(stop, meanwhile)
        slow.store.take_back(dead.id)
        assert slow.store.fence(dead.id)

        found = ranges(got + claimable(carol))
        assert sorted(set(found)) == ranges(after_loss(lost)), f"stopped before call {stop}"
        if peer.claims == "marker" or lost is TICKET:
            assert len(found) == len(set(found)), f"stopped before call {stop}"
        if pausing.calls <= stop:
            return
    raise AssertionError("take_back makes more calls than this test expects")


def test_after_the_fence_nothing_can_be_claimed(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """A dead worker's request that the server executes late finds no directory."""
    alice, bob = peer(1), peer(2)
    bob.store.offer(TICKET)
    bury(mount[0], layout, bob, alice)
    try:
        assert not alice.store.claim(TICKET)
    except Fenced:
        pass

    assert held(alice) == []
    assert claimable(bob) == [TICKET]


def test_a_late_claim_is_executed_after_each_step_of_the_reaper(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout
) -> None:
    """The claim of a worker that died is on its way: before the fence it is taken back, after it it fails."""
    fs = mount[0]
    for step in range(5):
        wipe(layout, fs)
        sent: list[Callable[[], None]] = []
        dying = HookedFs(fs)
        dead, alice = peer(10 * step, dying), peer(10 * step + 1)
        alice.store.offer(TICKET)

        def before(op: str, args: tuple[object, ...]) -> None:
            if op in ("rename", "link") and layout.ready not in str(args[1]):
                sent.append(lambda: getattr(fs, op)(*args))  # noqa: B023 - called in this round only
                raise Died

        dying.before = before  # type: ignore[method-assign]
        with pytest.raises(Died):
            dead.store.claim(TICKET)
        steps: list[Callable[[], object]] = [
            lambda: empty_directory(fs, layout.stage_of(dead.id)),  # noqa: B023
            lambda: fs.rmdir(layout.stage_of(dead.id)),  # noqa: B023
            lambda: alice.store.take_back(dead.id),  # noqa: B023
            lambda: alice.store.fence(dead.id),  # noqa: B023
        ]
        for each in steps[:step]:
            each()
        try:
            sent[0]()
        except FileNotFoundError:
            pass
        for each in steps[step:]:
            each()
        while not alice.store.fence(dead.id):
            alice.store.take_back(dead.id)

        found = claimable(alice)
        assert [(each.lo, each.hi) for each in found] == [(0, 8)], f"executed after step {step}"
        alice.store.drop(found[0])


def test_a_fenced_worker_can_offer_nothing(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """Its stage is gone, and whatever it creates starts there."""
    alice, bob = peer(1), peer(2)
    bury(mount[0], layout, bob, alice)
    with pytest.raises(Fenced):
        alice.store.offer(TICKET)

    assert claimable(bob) == []


def test_an_offer_is_fenced_between_staging_and_naming(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """The worker is buried after it staged a ticket and before it gave it its name."""
    pausing = HookedFs(mount[0])
    alice, bob = peer(1, pausing), peer(2)

    def before(op: str, args: tuple[object, ...]) -> None:
        if op in ("rename", "link"):
            pausing.before = lambda op, args: None  # type: ignore[method-assign]
            bury(mount[0], layout, bob, alice)

    pausing.before = before  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        alice.store.offer(TICKET)

    assert claimable(bob) == []


def test_a_split_is_fenced_at_every_call(peer: MakePeer, mount: tuple[Fs, str], layout: Layout) -> None:
    """Buried in mid-split, the range comes back; nothing of it stays with the dead worker."""
    for stop in range(40):
        wipe(layout, mount[0])
        bob = peer(2)
        pausing = PausingFs(mount[0])
        alice = peer(1, pausing)
        alice.store.offer(TICKET)
        alice.store.claim(TICKET)
        pausing.pause(stop, partial(bury, mount[0], layout, bob, alice))
        try:
            alice.store.split(TICKET, [part_of(TICKET, 0, 3), part_of(TICKET, 3, 8)])
        except Fenced:
            pass
        if pausing.calls <= stop:
            return

        found = claimable(bob)
        assert {index for each in found for index in range(each.lo, each.hi)} == set(range(8))
        assert [each.attempt for each in found] == [2] * len(found)
        assert held(alice) == []
        for ticket in found:
            bob.store.drop(ticket)
        assert bob.claims.ready() == []
    raise AssertionError("split makes more calls than this test expects")


def test_halves_are_not_called_like_the_parts_of_a_dying_owner(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout
) -> None:
    """Killed while it split a ticket in the middle, its owner left locked parts; the halves that peers made were
    called like them, and with marker claims nobody could ever have them.
    """
    lost = after_loss(TICKET)[0]
    parts = after_loss(lost)
    counting = FaultyFs(mount[0])
    first = peer(1, counting)
    first.store.offer(lost)
    assert first.store.claim(lost)
    start = len(counting.calls)
    first.store.split(lost, parts)
    for at in range(len(counting.calls) - start):
        wipe(layout, mount[0])
        dying = FaultyFs(mount[0])
        alice, bob = peer(1, dying), peer(2)
        alice.store.offer(lost)
        assert alice.store.claim(lost)
        dying._at, dying._error, dying._executed = len(dying.calls) + at, Died(), False
        with pytest.raises(Died):
            alice.store.split(lost, parts)
        bury(mount[0], layout, bob, alice)

        assert {index for each in claimable(bob) for index in range(each.lo, each.hi)} == set(range(8)), f"call {at}"


def test_a_claim_that_happens_long_after_its_error_is_found(peer: MakePeer, mount: tuple[Fs, str]) -> None:
    """A soft mount gives up on a request that the server still executes: an idle worker looks at what it holds."""
    fs = mount[0]
    late: list[Callable[[], None]] = []
    losing = HookedFs(fs)
    alice = peer(1, losing)
    alice.store.offer(TICKET)

    def before(op: str, args: tuple[str, ...]) -> None:
        if op in ("rename", "link") and "/ready/" not in args[1]:
            late.append(partial(getattr(fs, op), *args))
            raise OSError(errno.EIO, "injected")

    losing.before = before  # type: ignore[method-assign]
    assert alice.claims.next(everything) is None
    losing.before = lambda op, args: None  # type: ignore[method-assign]
    if peer.claims == "marker":
        assert alice.claims.next(everything) == TICKET  # the link was tried again: it is the same file
        return
    late[0]()

    assert alice.claims.next(everything) == TICKET


def _offer(peer: Peer) -> None:
    peer.store.offer(TICKET)


def _claim(peer: Peer) -> None:
    peer.claims.next(everything)


def _split(peer: Peer) -> None:
    peer.store.split(TICKET, [part_of(TICKET, 0, 3), part_of(TICKET, 3, 8)])


def _release(peer: Peer) -> None:
    peer.store.release(TICKET, TICKET.successor(lo=5))


def _drop(peer: Peer) -> None:
    peer.store.drop(TICKET)


def _take_back(peer: Peer) -> None:
    for _ in range(3):
        peer.store.take_back(f"{3:032x}")
        if peer.store.fence(f"{3:032x}"):
            return
    raise AssertionError("the fence does not close")


def _take_back_halves(peer: Peer) -> None:
    _take_back(peer)


# move; who holds what before it; what can be had after it
MOVES: dict[str, tuple[Callable[[Peer], None], list[tuple[int, Ticket]], list[tuple[int, int, int]]]] = {
    "offer": (_offer, [], [(0, 8, 1)]),
    "claim": (_claim, [(0, TICKET)], [(0, 8, 1)]),
    "split": (_split, [(1, TICKET)], [(0, 3, 1), (3, 8, 1)]),
    "release": (_release, [(1, TICKET)], [(5, 8, 1)]),
    "drop": (_drop, [(1, TICKET)], []),
    "take back": (_take_back, [(3, TICKET)], [(0, 8, 2)]),
    "halves": (_take_back_halves, [(3, after_loss(TICKET)[0])], [(0, 4, 2), (4, 8, 2)]),
}


def prepare(peer: MakePeer, layout: Layout, fs: Fs, move: str) -> None:
    """A tree as it is before a move."""
    wipe(layout, fs)
    for owner, ticket in MOVES[move][1]:
        other = peer(owner or 4)
        other.store.offer(ticket)
        if owner:
            assert other.store.claim(ticket)


def clean_calls(peer: MakePeer, layout: Layout, fs: Fs, move: str) -> list[str]:
    """The mutating calls of a move that nothing disturbs."""
    prepare(peer, layout, fs, move)
    counting = FaultyFs(fs)
    MOVES[move][0](peer(1, counting))
    return counting.calls


@pytest.mark.parametrize(("code", "executed"), ERRORS, ids=ERROR_IDS)
@pytest.mark.parametrize("move", MOVES)
def test_a_call_is_answered_with_an_error(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, move: str, code: int, executed: bool
) -> None:
    """At each call of each move: tried again after an error, no ticket is lost and none doubled."""
    fs = mount[0]
    act, _, expected = MOVES[move]
    for at, call in enumerate(clean_calls(peer, layout, fs, move)):
        prepare(peer, layout, fs, move)
        mover = peer(1, FaultyFs(fs, at, OSError(code, "injected"), executed=executed))
        for _ in range(3):
            try:
                act(mover)
                break
            except OSError:
                continue
            except Fenced:  # it takes itself for dead, so it stops, and peers take back what it held
                assert code in (errno.ENOENT, errno.ESTALE), f"fenced at {call}, call {at}"
                swept(peer, layout, fs, mover, move, f"{call}, call {at}")
                break
        else:
            raise AssertionError("the move did not go through")
        if mover.id not in fs.names(layout.work):
            continue
        found = ranges(held(mover) + claimable(peer(2)))

        if (move, executed) == ("drop", False) and found:
            assert found == [(0, 8, 1)]  # its inputs are done: the next owner sees that
        elif (move, executed) == ("split", False) and (0, 8, 1) in found:
            assert found == sorted([*expected, (0, 8, 1)])  # the whole stayed beside its parts
        else:
            assert expected == found, f"{call}, call {at}"


def swept(peer: MakePeer, layout: Layout, fs: Fs, dead: Peer, move: str, context: str) -> None:
    """Bury a worker that did a part of a move: every input is in a ticket, or was dropped."""
    indexes = {index for _, ticket in MOVES[move][1] for index in range(ticket.lo, ticket.hi)}
    bob = peer(2)
    bury(fs, layout, bob, dead)
    _take_back(bob)
    found = {index for lo, hi, _ in ranges(claimable(bob)) for index in range(lo, hi)}
    if move == "offer":
        assert found in (set(), set(range(8))), context  # a planner's successor offers it again
    elif move == "release":
        assert found in (set(range(5, 8)), set(range(8))), context
    elif move == "drop":
        assert found in (set(), indexes), context  # done: the next owner sees that
    else:
        assert found == indexes, context
    assert {f"{number:032x}" for number in (2, 4)} >= set(fs.names(layout.work)), context


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])
@pytest.mark.parametrize("move", MOVES)
def test_a_worker_dies_in_mid_move(
    peer: MakePeer, mount: tuple[Fs, str], layout: Layout, move: str, executed: bool
) -> None:
    """Before and after each call of each move: once its grave is swept, every input is in a ticket or was dropped."""
    fs = mount[0]
    act, _, _ = MOVES[move]
    for at, call in enumerate(clean_calls(peer, layout, fs, move)):
        prepare(peer, layout, fs, move)
        mover = peer(1, FaultyFs(fs, at, Died(), executed=executed))
        try:
            act(mover)
        except Died:
            pass
        else:
            assert executed  # the call failed by itself: dying after it is dying before the next
            continue
        swept(peer, layout, fs, mover, move, f"{call}, call {at}")


def test_a_claim_answered_with_an_error_is_found_by_listing(peer: MakePeer, mount: tuple[Fs, str]) -> None:
    """An error does not say that it did not happen: the next look at my own directory tells."""
    fs = mount[0]
    alice = peer(1)
    alice.store.offer(TICKET)
    clean = clean_claim_calls(peer, fs)
    faulty = peer(2, FaultyFs(fs, clean - 1, OSError(errno.EIO, "injected")))

    assert faulty.claims.next(everything) == TICKET
    assert {TICKET.name: TICKET} == faulty.claims.mine


def clean_claim_calls(peer: MakePeer, fs: Fs) -> int:
    """How many mutating calls a claim of `LIGHTER` takes up to its commit point."""
    counting = FaultyFs(fs)
    peer(8).store.offer(LIGHTER)
    claimer = peer(9, counting)
    assert claimer.store.claim(LIGHTER)
    claimer.store.drop(LIGHTER)
    return max(nth for nth, call in enumerate(counting.calls, 1) if call in ("rename", "link"))


def test_a_claim_that_happened_much_later_is_found_when_in_doubt(peer: MakePeer, mount: tuple[Fs, str]) -> None:
    """Nobody else misses what a living worker holds: it looks itself, whenever it has nothing to do for a while."""
    alice = peer(1)
    ticket = map_ticket(0, 5, 0, 0, 4, 40)
    alice.store.offer(ticket)
    assert alice.claims.next(lambda _: False) is None
    assert peer(1, mount[0]).store.claim(ticket)  # by a request of hers that she gave up on long ago

    assert alice.claims.next(lambda _: True) is None
    alice.claims.doubt()
    assert alice.claims.next(lambda _: True) == ticket


def test_what_only_seems_to_be_held_is_tidied_up(mount: tuple[Fs, str], layout: Layout) -> None:
    """Announcements of claims that failed, or were handed back, made by requests that came late: peers would take those
    tickets for held by a living worker, and never offer again what is lost with them.
    """
    peer = MakePeer(mount[0], layout, "marker")
    alice, bob = peer(1), peer(2)
    lost, moved = map_ticket(0, 5, 0, 0, 4, 40), map_ticket(0, 4, 0, 4, 8, 20)
    for ticket in (lost, moved):
        alice.store.offer(ticket)
    assert alice.store.claim(lost)
    assert bob.store.claim(moved)
    bob.store.release(moved, moved.successor())
    for ticket in (lost, moved):
        mount[0].stage(layout.held_ticket(bob.id, ticket), b"")

    assert bob.store.held() == []
    assert mount[0].names(layout.work_of(bob.id)) == []
    assert alice.store.held() == [lost]


def test_a_full_disk_is_not_a_lost_race(peer: MakePeer, mount: tuple[Fs, str]) -> None:
    """It is the worker's trouble, and it says so."""
    alice = peer(1)
    alice.store.offer(TICKET)
    bob = peer(2, FaultyFs(mount[0], 0, OSError(errno.ENOSPC, "injected"), executed=False))
    with pytest.raises(OSError, match="injected"):
        bob.claims.next(everything)

    assert bob.claims.next(everything) == TICKET


def test_ready_shows_the_whole_picture(peer: MakePeer) -> None:
    """Decisions about missing tickets need everything that waits."""
    alice = peer(1)
    for ticket in TICKET, LIGHTER, plan_ticket("0" * 16):
        alice.store.offer(ticket)

    assert sorted(each.name for each in (TICKET, LIGHTER, plan_ticket("0" * 16))) == sorted(
        each.name for each in alice.claims.ready()
    )
