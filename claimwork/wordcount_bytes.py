"""Count words and letters on the bytes of UTF-8 text, with the vector loops of `stringzilla`.

`ByteKernel` decodes nothing. A table turns each byte into a class, and sums and searches over the
classes give the counts. Such a loop takes a few hundredths of a nanosecond for a byte but several
nanoseconds for a match, so whatever is searched for is something rare.

Words begin where a space ends: at every space less those before another space. That is counted for
ASCII first, and wider spaces are added if there are any.

Letters are a sum over a tree. Its root takes each character for what most characters with the same
first byte are. A node puts that right for one prefix: children that are mostly not what the node
takes them for are counted and turned over. A child that is mixed itself is watched for, and becomes
a node of its own when it is seen, so a text pays for the scripts that it has.

Text that is small, ill-formed or in too many scripts is left to the *rescue*, another kernel, which
also decides what becomes of ill-formed text.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple, Protocol

import stringzilla as sz

_CONTINUATION = frozenset(range(0x80, 0xC0))  # every byte of a sequence but its first
_FIRST = frozenset(range(256)) - _CONTINUATION
_LEADS = [frozenset(range(low, 0xF5)) for low in (0xC2, 0xE0, 0xF0)]  # of at least 2, 3, 4 bytes
_BEYOND_ASCII = _FIRST - frozenset(range(0x80))
_CHILD_BITS = 6  # of a code point in each continuation byte
_TOO_MANY_MISSING = 3  # continuation bytes: 262,144 characters to ask, before the text needs it
_SMALL_BYTES = 1 << 12  # each file grows its own tree, which takes as long as this many bytes
_NODES_MAX = 48  # about where the rescue is as fast
_REST_MAX = 64  # blocks between two attempts at a tree


class _Rescue(Protocol):
    def count(self, block: bytes, *, after_space: bool) -> tuple[int, int, bool]: ...


class ByteKernel:
    """Counts with `stringzilla`."""

    block_bytes = 1 << 18  # far below the 1 MiB from which some releases have gone wrong

    def __init__(self, rescue: _Rescue, *, small_bytes: int = _SMALL_BYTES, nodes_max: int = _NODES_MAX) -> None:
        self._rescue = rescue
        self._small_bytes = small_bytes
        self._nodes_max = nodes_max
        self._translate = _Translator()
        self._tree = _Tree()
        self._rest = 0
        self._next_rest = 1

    def count(self, block: bytes, *, after_space: bool) -> tuple[int, int, bool]:
        """Return words that begin in *block*, its letters, and whether it ends in a space."""
        if block.isascii():
            letters = sz.bytesum(self._translate(block, _letters(frozenset())))
            words, starts, ends = self._count_ends_of_ascii_spaces(block)
        else:
            counted = self._count_letters(block) if self._suits(block) else None
            if counted is None:
                return self._rescue.count(block, after_space=after_space)
            letters = counted
            words, starts, ends = self._count_ends_of_ascii_spaces(block)
            words += self._count_ends_of_wide_spaces(block)
            starts = starts or block.startswith(self._tree.spaces)
            ends = ends or block.endswith(self._tree.spaces)
        return words + (after_space and not starts), letters, ends

    def _count_ends_of_ascii_spaces(self, block: bytes) -> tuple[int, bool, bool]:
        """Return how many ASCII spaces end before the block does, and if it starts, ends with one."""
        flags = self._translate(block, _flags(_ascii_spaces()))
        first, last = flags[0], flags[-1]
        spaces = sz.bytesum(flags)
        # The number of runs is that of their bytes less pairs within a run, be they runs of spaces
        # or of what lies between: count the pairs that are fewer.
        if spaces * 2 <= len(block):
            ends = spaces - sz.count(flags, b"\1\1", allowoverlap=True) - last
        else:
            others = len(block) - spaces
            ends = others - sz.count(flags, b"\0\0", allowoverlap=True) - (1 - first)
        return ends, first == 1, last == 1

    def _count_ends_of_wide_spaces(self, block: bytes) -> int:
        """Return what wide spaces add to the ends of ASCII ones; those before an ASCII one take."""
        rows = [row for row in self._tree.space_rows if self._find(block, _pattern(*row))]
        ends = 0 - block.endswith(self._tree.spaces)
        for row in rows:
            ends += self._count(block, _pattern(*row))
            for before, after in [
                ((_ascii_spaces(),), row),
                (row, (_ascii_spaces(),)),
                *((row, other) for other in rows),
            ]:
                ends -= self._count(block, _pattern(*before, *after))
        return ends

    def _count_letters(self, block: bytes) -> int | None:
        tree = self._tree
        while lead := self._find(block, _pattern(tree.unseen)):
            if lead[0] not in _LEADS[0]:
                return None
            tree.meet(lead)
        letters: int = sz.bytesum(self._translate(block, _letters(tree.letters)))
        for node in tree.nodes:  # which grows meanwhile
            if not self._find(block, node.notable()):
                continue
            while met := self._find(block, node.watched()):
                tree.meet(met, node)
            turned = self._count(block, node.turned())
            letters += -turned if node.default else turned
            if len(tree.nodes) > self._nodes_max:
                self._tree = _Tree()
                self._rest = self._next_rest
                self._next_rest = min(self._next_rest * 2, _REST_MAX)
                return None
        self._next_rest = 1
        return letters

    def _suits(self, block: bytes) -> bool:
        self._rest -= self._rest > 0
        return self._rest == 0 and len(block) >= self._small_bytes and self._is_utf8(block)

    def _is_utf8(self, block: bytes) -> bool:
        """Tell whether the block is whole and well-formed, but for bytes that never occur.

        If no lead is cut short, the leads ask for as many continuation bytes as there are, unless
        some of those are stray.
        """
        wanted = sz.bytesum(self._translate(block, _continuation_bytes_wanted()))
        present = sz.bytesum(self._translate(block, _flags(_CONTINUATION)))
        return (
            wanted == present
            and not any(byte in leads for byte, leads in zip(reversed(block[-3:]), _LEADS, strict=False))
            and not any(self._find(block, pattern) for pattern in _ill_formed())
        )

    def _find(self, block: bytes, pattern: "_Pattern") -> bytes | None:
        if not pattern.needles or (pattern.lead is not None and pattern.lead not in block):
            return None
        classes = self._translate(block, pattern.table)
        for needle in pattern.needles:
            at = sz.find(classes, needle)
            if at >= 0:
                return block[at : at + len(needle)]
        return None

    def _count(self, block: bytes, pattern: "_Pattern") -> int:
        if not pattern.needles:
            return 0
        classes = self._translate(block, pattern.table)
        return sum(sz.count(classes, needle, allowoverlap=True) for needle in pattern.needles)


class _Translator:
    """Gives the classes of a block, in memory that the next call uses again.

    Fresh memory every time would be trimmed off the heap and faulted in again every time.
    """

    def __init__(self) -> None:
        self._memory = bytearray()
        self._view = memoryview(b"")

    def __call__(self, block: bytes, table: bytes) -> memoryview:
        if len(self._view) != len(block):
            if len(self._memory) < len(block):
                self._memory = bytearray(len(block))
            self._view = memoryview(self._memory)[: len(block)]
        sz.translate(block, table, out=self._view)
        return self._view


class _Tree:
    """What one text has shown so far; of *letters* and *unseen* only leads are members."""

    def __init__(self) -> None:
        self.letters: frozenset[int] = frozenset()
        self.unseen = _BEYOND_ASCII  # also those that never occur
        self.nodes: list[_Node] = []
        self.spaces: tuple[bytes, ...] = ()
        self.space_rows: list[tuple[frozenset[int], ...]] = []

    def meet(self, prefix: bytes, parent: "_Node | None" = None) -> None:
        habit = _habit(prefix)
        if habit.mixed:
            self.nodes.append(_Node(prefix))
        if parent is not None:
            parent.meet(prefix[-1], habit)
            return
        self.unseen -= {prefix[0]}
        self.spaces += _wide_spaces(prefix[0])
        self.space_rows += _wide_space_rows(prefix[0])
        if habit.letters:
            self.letters |= {prefix[0]}


class _Node:
    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.default = _habit(prefix).letters
        self._turned, self._unseen = _children(prefix)

    def meet(self, child: int, habit: "_Habit") -> None:
        self._unseen -= {child}
        if habit.letters != self.default:
            self._turned |= {child}

    def turned(self) -> "_Pattern":
        return _pattern(*_singletons(self.prefix), self._turned)

    def notable(self) -> "_Pattern":
        return _pattern(*_singletons(self.prefix), self._turned | self._unseen)

    def watched(self) -> "_Pattern":
        return _pattern(*_singletons(self.prefix), self._unseen)


class _Habit(NamedTuple):
    letters: bool  # most characters with this prefix are letters
    mixed: bool  # but not all


@lru_cache(maxsize=1 << 14)
def _habit(prefix: bytes) -> _Habit:
    missing = sum(prefix[0] in leads for leads in _LEADS) + 1 - len(prefix)
    if missing == _TOO_MANY_MISSING:
        return _Habit(letters=False, mixed=True)
    points = 1 << _CHILD_BITS * missing
    letters = _count_letters_below(prefix, missing)
    return _Habit(letters * 2 > points, 0 < letters < points)


@lru_cache(maxsize=1 << 14)
def _count_letters_below(prefix: bytes, missing: int) -> int:
    if missing > 1:
        children = (prefix + bytes([child]) for child in _CONTINUATION)
        return sum(_count_letters_below(child, missing - 1) for child in children)
    return list(map(str.isalpha, _characters(prefix, missing))).count(True)


def _characters(prefix: bytes, missing: int) -> Iterator[str]:
    point = prefix[0] & (0x3F >> len(prefix) + missing - 1)
    for byte in prefix[1:]:
        point = point << _CHILD_BITS | byte & 0x3F
    points = range(point << _CHILD_BITS * missing, point + 1 << _CHILD_BITS * missing)
    return map(chr, points)


@lru_cache(maxsize=1 << 10)
def _children(prefix: bytes) -> tuple[frozenset[int], frozenset[int]]:
    """Return the children to turn over and those to watch for, at the start."""
    if prefix[0] in _LEADS[2] and len(prefix) == 1:
        return frozenset(), _CONTINUATION
    habits = {child: _habit(prefix + bytes([child])) for child in _CONTINUATION}
    default = _habit(prefix).letters
    return (
        frozenset(child for child, habit in habits.items() if habit.letters != default),
        frozenset(child for child, habit in habits.items() if habit.mixed),
    )


class _Pattern(NamedTuple):
    """A row of byte sets to search for, as a table of classes and the rows of classes to find."""

    table: bytes
    needles: list[bytes]
    lead: int | None  # if the row can only begin with this byte


@lru_cache(maxsize=1 << 10)
def _pattern(*row: frozenset[int]) -> _Pattern:
    table = bytearray(256)
    for place, members in enumerate(row):
        for byte in members:
            table[byte] |= 1 << place
    classes = [sorted({table[byte] for byte in members}) for members in row]
    lead = next(iter(row[0])) if len(row[0]) == 1 else None
    return _Pattern(bytes(table), [bytes(needle) for needle in product(*classes)], lead)


@lru_cache(maxsize=1 << 10)
def _singletons(prefix: bytes) -> list[frozenset[int]]:
    return [frozenset({byte}) for byte in prefix]


@cache
def _ill_formed() -> list[_Pattern]:
    rows = [
        [_LEADS[0], _FIRST],  # cut short
        [_LEADS[1], _CONTINUATION, _FIRST],
        [_LEADS[2], _CONTINUATION, _CONTINUATION, _FIRST],
        [frozenset({0xE0}), frozenset(range(0x80, 0xA0))],  # longer than need be
        [frozenset({0xED}), frozenset(range(0xA0, 0xC0))],  # surrogates
        [frozenset({0xF0}), frozenset(range(0x80, 0x90))],  # longer than need be
        [frozenset({0xF4}), frozenset(range(0x90, 0xC0))],  # beyond U+10FFFF
    ]
    return [_pattern(*row) for row in rows]


@cache
def _ascii_spaces() -> frozenset[int]:
    return frozenset(point for point in range(0x80) if chr(point).isspace())


@cache
def _wide_spaces(lead: int) -> tuple[bytes, ...]:
    if lead not in _LEADS[0] or lead in _LEADS[2]:  # a test sees to it that astral spaces get known
        return ()
    characters = _characters(bytes([lead]), sum(lead in leads for leads in _LEADS))
    spaces = [character.encode() for character in filter(str.isspace, characters)]
    return tuple(space for space in spaces if space[0] == lead)


@cache
def _wide_space_rows(lead: int) -> list[tuple[frozenset[int], ...]]:
    """Return a row for each prefix, with all the last bytes that make it a space."""
    lasts: dict[bytes, set[int]] = {}
    for space in _wide_spaces(lead):
        lasts.setdefault(space[:-1], set()).add(space[-1])
    return [(*_singletons(prefix), frozenset(last)) for prefix, last in lasts.items()]


@lru_cache(maxsize=1 << 8)
def _letters(leads: frozenset[int]) -> bytes:
    return _flags(leads | {point for point in range(0x80) if chr(point).isalpha()})


@lru_cache(maxsize=1 << 8)
def _flags(members: frozenset[int]) -> bytes:
    return bytes(byte in members for byte in range(256))


@cache
def _continuation_bytes_wanted() -> bytes:
    return bytes(sum(byte in leads for leads in _LEADS) for byte in range(256))
