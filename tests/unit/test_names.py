"""The grammar of file names: what is formed is parsed, anything else is refused, no two inputs share a place."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from claimwork.errors import RecordError
from claimwork.names import (
    Kind,
    Ticket,
    failure_name,
    folded,
    hashed,
    is_worker,
    map_ticket,
    mirrored,
    number_name,
    parse_failure,
    parse_number,
    parse_range,
    parse_ticket,
    plan_ticket,
    range_name,
    reduce_ticket,
    tickets_among,
)

NONCES = st.text("0123456789abcdef", min_size=16, max_size=16)
TICKETS = st.builds(
    lambda kind, shard, weight, segment, lo, count, size, attempt, delay, nonce: Ticket(
        kind, shard, weight, segment, lo, lo + count, size, attempt, delay, nonce
    ),
    st.sampled_from(Kind),
    st.integers(0, 10**9 - 1),
    st.integers(0, 64),
    st.integers(0, 10**9 - 1),
    st.integers(0, 10**8),
    st.integers(0, 1024),
    st.integers(0, 2**63),
    st.integers(1, 9999),
    st.integers(0, 3_600_000),
    NONCES,
)
TICKET = map_ticket(3, 17, 12, 128, 256, 40960)

# bytes that a name may have, as Python spells them: anything but NUL and the slash, at most 255 bytes
COMPONENTS = (
    st.one_of(
        st.binary(min_size=1, max_size=255),
        st.text(min_size=1, max_size=80).map(lambda text: text.encode("utf-8", "ignore")),
        st.sampled_from(
            [b"x", b"x.json", b"x.json~", b"x.json~~", b"~", b".json", b"a" * 250, b"a" * 255, b"-", b"\n"]
        ),
    )
    .filter(lambda name: name not in (b"", b".", b"..") and not set(name) & {0, 0x2F} and len(name) <= 255)
    .map(lambda name: name.decode("utf-8", "surrogateescape"))
)
PATHS = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)


@given(TICKETS)
def test_a_ticket_is_its_name(ticket: Ticket) -> None:
    """Nothing is lost, and the name fits into a directory."""
    assert parse_ticket(ticket.name) == ticket
    assert len(ticket.name) + len(".lock") <= 255


def test_a_name_is_readable() -> None:
    """People look at directories too; the docstring of the module shows this form."""
    assert TICKET.name == "m.h000003.c17.s12.128-256.b40960.a1.d0.n0000000000000000"
    assert plan_ticket("9a31" * 4).name == "p.h000000.c0.s0.0-0.b0.a1.d0.n9a319a319a319a31"
    assert reduce_ticket(13).name == "r.h000000.c0.s13.0-0.b0.a1.d0.n0000000000000000"
    assert [TICKET.shard_name, plan_ticket("0" * 16).shard_name, reduce_ticket(1).shard_name] == [
        "000003",
        "plan",
        "reduce",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "x",
        TICKET.name + "\n",
        TICKET.name + ".lock",
        " " + TICKET.name,
        TICKET.name.upper(),
        TICKET.name.replace("m.", "y."),
        TICKET.name.replace("h000003", "h3"),
        TICKET.name.replace("h000003", "h0000003"),
        TICKET.name.replace("c17", "c017"),
        TICKET.name.replace("128-256", "256-128"),
        TICKET.name.replace("128-256", "0128-256"),
        TICKET.name.replace(".a1.", ".a0."),
        TICKET.name.replace(".a1.", ".a01."),
        TICKET.name.replace(".a1.", ".a-1."),
        TICKET.name.replace(".a1.", ".a١."),
        TICKET.name.replace("b40960", "b" + "9" * 20),
        TICKET.name[:-1],
        TICKET.name + "0",
        "../" + TICKET.name,
        "m.h000003.c17.s12.128-256.b40960.a1.d0.n../../../../etc",
        "\udcff" * 40,
    ],
)
def test_other_names_are_no_tickets(name: str) -> None:
    """One spelling for each ticket, so that whoever finds one can move it by its own name."""
    with pytest.raises(RecordError):
        parse_ticket(name)
    assert tickets_among([name, TICKET.name, name]) == [TICKET]


@given(st.text(max_size=80))
def test_any_text_is_a_ticket_or_an_error(name: str) -> None:
    """Never another exception, never another spelling."""
    try:
        assert parse_ticket(name).name == name
    except RecordError:
        pass


@given(TICKETS)
def test_each_move_has_a_fresh_name(ticket: Ticket) -> None:
    """A name once claimed never comes back, and two workers that make one move make one name."""
    moved = [
        ticket.successor(),
        ticket.successor(attempt=ticket.attempt + 1),
        ticket.successor(delay_ms=ticket.delay_ms + 1),
        ticket.successor(hi=ticket.hi + 1),
        ticket.successor().successor(),
    ]
    assert len({ticket.name, *(each.name for each in moved)}) == 6
    assert ticket.successor() == dataclasses.replace(ticket, nonce=ticket.successor().nonce)
    assert ticket.again("f" * 16) == dataclasses.replace(ticket, attempt=2, nonce="f" * 16)


@given(st.integers(0, 10**9 - 1))
def test_numbers_come_back(number: int) -> None:
    """Their names sort like they do, as far as six digits go."""
    assert parse_number(number_name(number)) == number


@pytest.mark.parametrize(
    "name", ["", "1", "00001", "0000001", "00001x", "000001\n", "-00001", "+00001", "00000١", "1e0005"]
)
def test_other_names_are_no_numbers(name: str) -> None:
    """One spelling for each."""
    assert parse_number(name) is None


@given(st.integers(0, 10**8), st.integers(1, 1024), st.integers(1, 9999))
def test_ranges_and_failures_come_back(lo: int, count: int, attempt: int) -> None:
    """Names of done records and of failed attempts."""
    assert parse_range(range_name(lo, lo + count)) == (lo, lo + count)
    assert parse_failure(failure_name(lo, attempt)) == (lo, attempt)


@pytest.mark.parametrize("name", ["", "1", "1-1", "2-1", "01-2", "1-02", "1-2.json", "1-2\n", "-1-2", "1-2-3", "٣-٤"])
def test_other_names_are_no_ranges(name: str) -> None:
    """Done is positive evidence: only exact names count."""
    assert parse_range(name) is None


@pytest.mark.parametrize("name", ["", "1", "1.a", "1.a1 ", "01.a1", "1.a01", "1.a1.json", "1.a1\n", "x.a1", "1.b1"])
def test_other_names_are_no_failures(name: str) -> None:
    """One spelling for each."""
    assert parse_failure(name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0" * 32, True), ("f" * 32, True), ("F" * 32, False), ("0" * 31, False), ("0" * 32 + "\n", False), ("", False)],
)
def test_worker_ids(name: str, expected: bool) -> None:
    """128 bits as lower-case hex."""
    assert is_worker(name) == expected


# -- where results go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x", "x.json"),
        ("x.json", "x.json.json"),
        ("a/b.txt", "a/b.txt.json"),
        ("x.json/y", "x.json~/y.json"),
        ("x.json~/y", "x.json~~/y.json"),
        ("x~/y", "x~/y.json"),
        (".json/y", ".json~/y.json"),
        ("a\nb/-c", "a\nb/-c.json"),
        ("\udcff/\udc80", "\udcff/\udc80.json"),
        ("é/e\u0301", "é/e\u0301.json"),
        ("a" * 250, "a" * 250 + ".json"),
    ],
)
def test_results_mirror_their_inputs(path: str, expected: str) -> None:
    """A person finds the result of an input without a table."""
    assert mirrored(path, ".json") == expected


@given(PATHS, st.sampled_from([".json", ".a", ".tar.gz", ".json.json"]))
def test_results_have_possible_names(path: str, suffix: str) -> None:
    """Each component has one to 255 bytes, none is special, and the last ends with the suffix."""
    for result in mirrored(path, suffix), hashed(path, suffix):
        parts = [part.encode("utf-8", "surrogateescape") for part in result.split("/")]

        assert all(1 <= len(part) <= 255 and part not in (b".", b"..") for part in parts)
        assert len(parts) == path.count("/") + 1
        assert result.endswith(suffix)
        assert "\0" not in result


@given(st.lists(PATHS, min_size=2, max_size=6, unique=True), st.sampled_from([".json", ".a"]))
def test_no_two_inputs_share_a_place(paths: list[str], suffix: str) -> None:
    """Nor is one's result a directory of another's."""
    results = [mirrored(path, suffix) for path in paths]

    assert len(set(results)) == len(paths)
    files = set(results)
    directories = {result[:at] for result in results for at, char in enumerate(result) if char == "/"}
    assert not files & directories


@given(PATHS, PATHS)
def test_no_two_directories_become_one(one: str, two: str) -> None:
    """Files of two directories stay apart."""
    assume(one != two)

    assert mirrored(f"{one}/x", ".json") != mirrored(f"{two}/x", ".json")


@pytest.mark.parametrize("length", [250, 251, 252, 254, 255])
@pytest.mark.parametrize("char", ["a", "ä", "\udcff", "漢"], ids=["one", "two", "raw", "three"])
def test_a_name_made_to_look_shortened_collides_with_none(length: int, char: str) -> None:
    """The hash in a shortened name is no secret: somebody may name a file like the result of another."""
    long = (char * 255).encode("utf-8", "surrogateescape")[:length].decode("utf-8", "surrogateescape")
    taken = mirrored(long, ".json")
    fake = taken.removesuffix(".json")

    assert (fake == long) == (length == 250)
    assert fake == long or mirrored(fake, ".json") != taken
    below = mirrored(f"{long}/x", ".json")
    fake = below.removesuffix("/x.json")
    assert fake == long or mirrored(f"{fake}/x", ".json") != below


def test_a_shortened_name_carries_the_hash_of_the_path() -> None:
    """So the same base in two directories stays apart on a mount that folds them."""
    path = "d/" + "n" * 255
    digest = hashlib.blake2b(path.encode(), digest_size=16).hexdigest()

    assert mirrored(path, ".json") == f"d/{'n' * 217}~{digest}.json"
    assert re.fullmatch(r"d/x~[0-9a-f]{32}\.json", hashed("d/x", ".json"))


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("README", "readme", True),
        ("é", "e\u0301", True),
        ("É", "e\u0301", True),
        ("straße", "STRASSE", True),
        ("a", "b", False),
        ("\udcff", "\udcfe", False),
    ],
)
def test_folding(one: str, two: str, same: bool) -> None:
    """What a mount that folds case or Unicode forms takes for one name."""
    assert (folded(one) == folded(two)) == same
