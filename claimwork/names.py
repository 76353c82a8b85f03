"""The only grammar of file names on OUT: every name is formed and parsed here.

Inside `.claimwork` a name is built from numbers and hexadecimal ids alone, never from the name of an input. A ticket is
an empty file whose name is the record::

    m.h000003.c17.s12.128-256.b40960.a1.d0.n5f0c…      map: inputs 128 to 255 of segment 12
    p.h000000.c0.s0.0-0.b0.a1.d0.n9a31…                plan: list IN, append segments
    r.h000000.c0.s13.0-0.b0.a1.d0.n0000…               reduce: the generation that log entry 13 closes
    x.h000004.c27.s14.3-4.b67108864.a1.d0.n0000…       part 3 of the large input that is alone in segment 14

kind . shard . weight class . segment . range . bytes . attempt . back-off in ms . nonce. A name once claimed never
comes back (a rename sent long ago could still claim it), so each move to another state derives a fresh nonce from the
old name: two workers that make the same move make the same name, and one of them finds it taken.

Results mirror IN: ``a/b.txt`` becomes ``results/a/b.txt.json``. A directory that ends like a result gets a ``~``, so that
inputs ``x`` and ``x.json/y`` cannot meet; a component over 255 bytes is shortened and carries its hash, and so does one
that looks as if it did.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from .errors import RecordError

NAME_MAX_BYTES = 255  # NAME_MAX of every filesystem in docs/filesystems.md
_HASH_HEX = 32  # 128 bits of the full path tell shortened names apart
_INITIAL_NONCE = "0" * 16
_FAILED = ".failed"


class Kind(StrEnum):
    """What a ticket asks for."""

    PLAN = "p"
    MAP = "m"
    REDUCE = "r"
    PART = "x"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A claimable name. ``lo`` to ``hi`` (exclusive) index the inputs of ``segment``; ``size_bytes`` is their sum.

    Those of a part index the parts of the one input of ``segment``.
    """

    kind: Kind
    shard: int
    weight: int
    segment: int
    lo: int
    hi: int
    size_bytes: int
    attempt: int
    delay_ms: int
    nonce: str

    @property
    def name(self) -> str:
        """The file name: the whole record."""
        return (
            f"{self.kind.value}.h{self.shard:06d}.c{self.weight}.s{self.segment}.{self.lo}-{self.hi}"
            f".b{self.size_bytes}.a{self.attempt}.d{self.delay_ms}.n{self.nonce}"
        )

    @property
    def count(self) -> int:
        """How many inputs it stands for."""
        return self.hi - self.lo

    @property
    def first_input(self) -> int:
        """Index of the first input that it stands for; the one of a part is alone in its segment."""
        return 0 if self.kind is Kind.PART else self.lo

    @property
    def gathers(self) -> bool:
        """Whether the parts of its input have tickets of their own: it weighs nothing, for it is run after them."""
        return self.kind is Kind.MAP and not self.weight and self.size_bytes > 0

    @property
    def shard_name(self) -> str:
        """The directory under ready/ where it waits."""
        return _CONTROL_SHARDS.get(self.kind) or f"{self.shard:06d}"

    def successor(self, move: str = "", **changes: int) -> Ticket:
        """The ticket that follows this one, with a nonce that the old name, the changes and the *move* determine."""
        changed = replace(self, **changes)  # type: ignore[arg-type]
        seed = f"{self.name}>{changed.lo}-{changed.hi}.a{changed.attempt}.d{changed.delay_ms}{move}"
        return replace(changed, nonce=hashlib.blake2b(seed.encode(), digest_size=8).hexdigest())

    def again(self, nonce: str) -> Ticket:
        """This ticket offered once more because it seems lost: a new name, and not the first attempt any more."""
        return replace(self, attempt=2, nonce=nonce)


_CONTROL_SHARDS = {Kind.PLAN: "plan", Kind.REDUCE: "reduce"}
_TICKET = re.compile(
    r"([pmrx])\.h([0-9]{6,9})\.c([0-9]{1,3})\.s([0-9]{1,9})\.([0-9]{1,9})-([0-9]{1,9})"
    r"\.b([0-9]{1,19})\.a([0-9]{1,4})\.d([0-9]{1,9})\.n([0-9a-f]{16})"
)
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_NUMBER = re.compile(r"[0-9]{6,9}")
_WORKER = re.compile(r"[0-9a-f]{32}")
_HASHED = re.compile(r"~[0-9a-f]{32}\Z")
_FAILURE = re.compile(r"([0-9]{1,9})\.a([0-9]{1,4})")


@lru_cache(maxsize=4096)  # a listing of a shard is mostly the last one again
def parse_ticket(name: str) -> Ticket:
    """The ticket that *name* is. Raises RecordError for anything else."""
    match = _TICKET.fullmatch(name)
    if match is None:
        raise RecordError(f"{name!r} is not the name of a ticket")
    kind, *numbers, nonce = match.groups()
    shard, weight, segment, lo, hi, size, attempt, delay = map(int, numbers)
    if hi < lo or attempt < 1:
        raise RecordError(f"{name!r} is not the name of a ticket")
    ticket = Ticket(Kind(kind), shard, weight, segment, lo, hi, size, attempt, delay, nonce)
    if ticket.name != name:  # another spelling of it: whoever moved it by its own name would never find it
        raise RecordError(f"{name!r} is not the name of a ticket")
    return ticket


def tickets_among(names: list[str]) -> list[Ticket]:
    """The tickets in a listing; strangers' files are passed over (`check` names them)."""
    found = []
    for name in names:
        try:
            found.append(parse_ticket(name))
        except RecordError:
            continue
    return found


def map_ticket(shard: int, weight: int, segment: int, lo: int, hi: int, size_bytes: int) -> Ticket:
    """The first ticket of a range: its name follows from the segment, so that anyone may create it again."""
    return Ticket(Kind.MAP, shard, weight, segment, lo, hi, size_bytes, 1, 0, _INITIAL_NONCE)


def part_ticket(shard: int, weight: int, segment: int, nth: int, size_bytes: int) -> Ticket:
    """The first ticket of part *nth* of a large input."""
    return Ticket(Kind.PART, shard, weight, segment, nth, nth + 1, size_bytes, 1, 0, _INITIAL_NONCE)


def plan_ticket(nonce: str) -> Ticket:
    """A request to list IN; *nonce* is 16 hexadecimal digits, new for each request."""
    return Ticket(Kind.PLAN, 0, 0, 0, 0, 0, 0, 1, 0, nonce)


def reduce_ticket(entry: int) -> Ticket:
    """The ticket that builds the summary of the generation closed by log entry *entry*."""
    return Ticket(Kind.REDUCE, 0, 0, entry, 0, 0, 0, 1, 0, _INITIAL_NONCE)


def is_worker(name: str) -> bool:
    """True for the id of a worker: 128 random bits as hex."""
    return _WORKER.fullmatch(name) is not None


def number_name(number: int) -> str:
    """Name of a numbered thing (segment, shard, generation) that sorts by number."""
    return f"{number:06d}"


def parse_number(name: str) -> int | None:
    """Inverse of `number_name`; None for anything else."""
    if _NUMBER.fullmatch(name) is None:
        return None
    number = int(name)
    return number if number_name(number) == name else None


def numbers_among(names: Iterable[str]) -> list[int]:
    """The numbers that a listing names; strangers' files are passed over."""
    return [number for number in map(parse_number, names) if number is not None]


def part_name(nth: int, *, failed: bool) -> str:
    """Name of what is known of a part: its value, or that it has none."""
    return number_name(nth) + (_FAILED if failed else "")


def parse_part_name(name: str) -> tuple[int, bool] | None:
    """Inverse of `part_name`: which part, and whether it failed; None for anything else."""
    nth = parse_number(name.removesuffix(_FAILED))
    return None if nth is None else (nth, name.endswith(_FAILED))


def backup_name(segment: int, index: int) -> str:
    """Name of the right to run a copy of an input."""
    return f"{number_name(segment)}.{index}"


def parse_backup(name: str) -> tuple[int, int] | None:
    """Inverse of `backup_name`: segment and index; None for anything else."""
    place = parse_place(name.replace(".", ":", 1))
    return place if place is not None and backup_name(*place) == name else None


def place_name(segment: int, index: int) -> str:
    """An input as beats tell of it."""
    return f"{segment}:{index}"


def parse_place(what: str) -> tuple[int, int] | None:
    """Segment and index of what a beat says that a slot is at; None for a plan, a reduction, or nonsense."""
    segment, colon, index = what.partition(":")
    if not colon or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (segment, index)):
        return None
    return int(segment), int(index)


def range_name(lo: int, hi: int) -> str:
    """Name of a done record."""
    return f"{lo}-{hi}"


def parse_range(name: str) -> tuple[int, int] | None:
    """Inverse of `range_name`; None for anything else."""
    match = _RANGE.fullmatch(name)
    if match is None:
        return None
    lo, hi = int(match[1]), int(match[2])
    return (lo, hi) if lo < hi and range_name(lo, hi) == name else None


def failure_name(index: int, attempt: int) -> str:
    """Name of the record of one failed attempt."""
    return f"{index}.a{attempt}"


def parse_failure(name: str) -> tuple[int, int] | None:
    """Inverse of `failure_name`: index and attempt; None for anything else."""
    match = _FAILURE.fullmatch(name)
    if match is None:
        return None
    index, attempt = int(match[1]), int(match[2])
    return (index, attempt) if failure_name(index, attempt) == name else None


def mirrored(path: str, suffix: str) -> str:
    """Where the outcome of input *path* goes below results/ or quarantine/; distinct inputs get distinct names."""
    parent, base = _mirrored_parent(path, suffix)
    return parent + _fitting(base, suffix, path)


def hashed(path: str, suffix: str) -> str:
    """A name for *path* that no other input has, for mounts that fold case or Unicode forms."""
    parent, base = _mirrored_parent(path, suffix)
    return parent + _cut(base, suffix, path)


def folded(name: str) -> str:
    """What a case-insensitive, normalizing filesystem takes *name* for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _mirrored_parent(path: str, suffix: str) -> tuple[str, str]:
    if "/" not in path:
        return "", path
    *directories, base = path.split("/")
    parent = ""
    for depth, directory in enumerate(directories, 1):
        tail = directory.rfind(suffix)
        if tail >= 0 and not directory[tail + len(suffix) :].strip("~"):
            directory += "~"  # looks like a result, perhaps already escaped
        parent += _fitting(directory, "", "/".join(directories[:depth])) + "/"
    return parent, base


def _fitting(component: str, suffix: str, path: str) -> str:
    if component[-33:-32] == "~" and _HASHED.search(component):  # or it could be the shortened name of another
        return _cut(component, suffix, path)
    if len(component) + len(suffix) <= NAME_MAX_BYTES // 4:  # no character takes more than 4 bytes
        return component + suffix
    size = len(component.encode("utf-8", "surrogateescape")) + len(suffix)
    return component + suffix if size <= NAME_MAX_BYTES else _cut(component, suffix, path)


def _cut(component: str, suffix: str, path: str) -> str:
    digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    room = NAME_MAX_BYTES - len(suffix) - 1 - _HASH_HEX
    head = component.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore")
    return f"{head}~{digest}{suffix}"
