"""Count the words and letters of UTF-8 text, exactly and in bounded memory.

Words are `len(text.split())` and letters are the characters for which `str.isalpha()` holds, with
the whole file decoded as UTF-8. Every table is derived from the running interpreter, so the answer
is always its own; two Python minors may disagree about letters that Unicode added in between.

Call `count_path` for a file, `count_fd` for an open one or for a byte range of it, `count_bytes`
for text in memory. The counts of adjacent ranges add up to the count of the whole.

Text that is not UTF-8 raises `BadUtf8` with the offset of the first bad byte. With
`errors="replace"` a bad byte is a character that is neither space nor letter. An `OSError` passes
through unchanged.

Two kernels do the counting, block by block: `ByteKernel` in `wordcount_bytes` if `stringzilla` can
be imported and agrees with `PlainKernel` on a probe, otherwise `PlainKernel` itself, which needs
the standard library only. CLAIMWORK_WORDCOUNT=plain in the environment rules the first one out.
"""

import errno
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from claimwork.wordcount_bytes import ByteKernel

_FIRST_READ_BYTES = 1 << 14  # a small file costs no memory that is mapped and unmapped each time
_SEQUENCE_BYTES = 4  # the longest UTF-8 sequence
_CONTINUATION = range(0x80, 0xC0)  # every byte of a sequence but its first
_LEADS = (0xC0, 0xE0, 0xF0)  # from here on a first byte wants one, two, three more bytes
_ADLER_MODULUS = 65_521  # of Adler-32, whose lower half is one more than the sum of the bytes
_ADLER_BYTES = _ADLER_MODULUS - 1  # so many ones do not wrap around
_PLANES = 8  # a class byte has eight bits
_PASSES_MAX = 3  # after three passes asking every character is no slower
_UNKNOWN_PAGE = 0xFF  # no page has more than two planes, so this byte is free
_ASTRAL_SHARE = 8  # at most one character in eight is worth looking up on its own


@dataclass(frozen=True, slots=True)
class Count:
    """The words and letters of one text."""

    words: int
    letters: int


class BadUtf8(ValueError):
    """The text is not UTF-8; `offset` is its first bad byte, from the start of the file."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)  # the offset and not the message, so that a pickled copy is equal
        self.offset = offset

    def __str__(self) -> str:
        return f"invalid UTF-8 at byte {self.offset}"


def count_path(
    path: str | os.PathLike[str], *, errors: str = "strict", start: int = 0, end: int | None = None
) -> Count:
    """Count the file at *path*, or a range of it as `count_fd` does.

    Raises OSError for what is no file, and waits for nothing: a FIFO would have no end.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", os.fspath(path))
        return count_fd(fd, errors=errors, start=start, end=end)
    finally:
        os.close(fd)


def count_fd(fd: int, *, errors: str = "strict", start: int = 0, end: int | None = None) -> Count:
    """Count an open file, or its bytes from *start* up to *end*.

    The whole is read from the current position, so a pipe will do. A range needs a regular file
    and leaves the position alone. Its cuts move on to the next character, in the same way for the
    range before and the range after, and a word belongs to the range in which it begins.
    """
    if start == 0 and end is None:
        return _count(partial(os.read, fd), _new_kernel(errors))
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"a range from {start} to {end} has no bytes")
    first = _next_character(fd, start)
    last = None if end is None else _next_character(fd, end)
    return _count(
        _range_reader(fd, first, last),
        _new_kernel(errors),
        offset=first,
        after_space=_is_after_space(fd, first),
    )


def count_bytes(data: bytes, *, errors: str = "strict") -> Count:
    """Count text in memory."""
    return _count(BytesIO(data).read, _new_kernel(errors))


# Blocks


class _Kernel(Protocol):
    """Counts blocks of whole characters; may learn from one block to be faster at the next."""

    @property
    def block_bytes(self) -> int: ...

    def count(self, block: bytes, *, after_space: bool) -> tuple[int, int, bool]:
        """Return words that begin in *block*, its letters, and whether it ends in a space."""


def _count(
    read: Callable[[int], bytes],
    kernel: _Kernel,
    *,
    offset: int = 0,
    after_space: bool = True,
    block_bytes: int | None = None,
) -> Count:
    words = letters = 0
    try:
        for block in _blocks(read, block_bytes or kernel.block_bytes):
            more_words, more_letters, after_space = kernel.count(block, after_space=after_space)
            words += more_words
            letters += more_letters
            offset += len(block)
    except UnicodeDecodeError as error:
        raise BadUtf8(offset + error.start) from None
    return Count(words, letters)


def _blocks(read: Callable[[int], bytes], block_bytes: int) -> Iterator[bytes]:
    """Cut what is read between characters; only the end of the text may be in the midst of one."""
    held = b""
    size = min(_FIRST_READ_BYTES, block_bytes)
    while chunk := read(size):
        if len(chunk) == size:
            size = block_bytes
        block = held + chunk
        whole = len(block) - _unfinished_bytes(block)
        held = block[whole:]
        if whole:
            yield block[:whole]
    if held:
        yield held


def _unfinished_bytes(block: bytes) -> int:
    """Return how many last bytes may begin a sequence; to hold some in vain does no harm."""
    for length, byte in enumerate(reversed(block[-len(_LEADS) :])):
        if byte >= _LEADS[length]:
            return length + 1
    return 0


# Ranges


def _next_character(fd: int, cut: int) -> int:
    """Return the first place from *cut* on that no well-formed sequence straddles.

    It depends on the file alone, so neighbours agree on it. Three continuation bytes at the cut
    put every lead too far back to reach beyond them.
    """
    if cut == 0:
        return 0
    window = os.pread(fd, _SEQUENCE_BYTES - 1, cut)
    for skipped, byte in enumerate(window):
        if byte not in _CONTINUATION:
            return cut + skipped
    return cut + len(window)


def _is_after_space(fd: int, cut: int) -> bool:
    if cut == 0:
        return True
    back = min(cut, _SEQUENCE_BYTES)
    return os.pread(fd, back, cut - back).decode("utf-8", "replace")[-1:].isspace()


def _range_reader(fd: int, start: int, end: int | None) -> Callable[[int], bytes]:
    position = start

    def read(size: int) -> bytes:
        nonlocal position
        if end is not None:
            size = min(size, end - position)
        chunk = os.pread(fd, size, position)
        position += len(chunk)
        return chunk

    return read


# The standard library's kernel
#
# A block becomes a string of class bytes, one for each character. Two tables say which classes are
# letters and which are spaces, and `_tally` counts both without a step per character. ASCII and
# Latin-1 are their own classes; other text is classed by the two bytes of its UTF-16 units.


class PlainKernel:
    """Counts with the standard library only."""

    block_bytes = 1 << 15  # a block and all that is made of it stay in a level 2 cache

    def __init__(self, errors: str) -> None:
        if errors not in {"strict", "replace"}:
            raise ValueError(f"errors is {errors!r}, not 'strict' or 'replace'")
        self._errors = errors
        self._pages = frozenset({0})  # those of the last blocks, as the next ones will be alike

    def count(self, block: bytes, *, after_space: bool) -> tuple[int, int, bool]:
        """Return words that begin in *block*, its letters, and whether it ends in a space."""
        if block.isascii():
            return _tally(block, _page(0), after_space=after_space)
        text = block.decode("utf-8", self._errors)
        try:
            return _tally(text.encode("latin-1"), _page(0), after_space=after_space)
        except UnicodeEncodeError:
            units = text.encode("utf-16-le")
        lows, highs = units[::2], units[1::2]
        astral = len(highs) - len(text)
        passes = _plane_passes(self._pages)
        marks = highs.translate(passes[0].of_high)
        if _UNKNOWN_PAGE in marks:
            passes = self._learn(frozenset(highs))
            marks = highs.translate(passes[0].of_high)
        if len(passes) > 1:
            self._pages = frozenset({0})  # the next block may need fewer
        if len(passes) > _PASSES_MAX or astral * _ASTRAL_SHARE > len(text):
            return _ask_each_character(text, after_space=after_space)
        classes = passes[0].classes(lows, marks)
        words, letters, ends_in_space = _tally(classes, passes[0].flags, after_space=after_space)
        for planes in passes[1:]:
            classes = planes.classes(lows, highs.translate(planes.of_high))
            letters += _count_ones(classes.translate(planes.flags.letters))
        if astral:
            letters += _astral_letters(block)
        return words, letters, ends_in_space

    def _learn(self, seen: frozenset[int]) -> list["_Planes"]:
        self._pages |= seen
        if len(_plane_passes(self._pages)) > 1:
            self._pages = seen
        return _plane_passes(self._pages)


class _Flags(NamedTuple):
    """Two tables for `bytes.translate`: class byte to 1 or 0."""

    letters: bytes
    spaces: bytes


class _Planes(NamedTuple):
    """Bits for at most eight sets of characters, each a set of high bytes times one of low bytes.

    A character is in at most one of them, so its class byte has one bit or none.
    """

    of_high: bytes
    of_low: bytes
    flags: _Flags

    def classes(self, lows: bytes, marks: bytes) -> bytes:
        from_low = int.from_bytes(lows.translate(self.of_low), "little")
        from_high = int.from_bytes(marks, "little")
        return (from_low & from_high).to_bytes(len(lows), "little")


def _tally(classes: bytes, flags: _Flags, *, after_space: bool) -> tuple[int, int, bool]:
    letters = _count_ones(classes.translate(flags.letters))
    spaces = classes.translate(flags.spaces)
    row = int.from_bytes(spaces, "little")
    first, last = spaces[0], spaces[-1]
    # Shifted by one, the row meets its own neighbours: a 1 for each change, and one for `last`.
    changes = (row ^ row >> 8).bit_count() - last
    words = (changes + first - last) // 2 + (after_space and not first)
    return words, letters, last == 1


def _count_ones(ones: bytes) -> int:
    checksum = _adler32()
    if len(ones) <= _ADLER_BYTES:
        return ((checksum(ones) & 0xFFFF) - 1) % _ADLER_MODULUS
    starts = range(0, len(ones), _ADLER_BYTES)
    return sum(_count_ones(ones[start : start + _ADLER_BYTES]) for start in starts)


@cache
def _adler32() -> Callable[[bytes], int]:
    from zlib import adler32  # half a millisecond that `--help` need not pay

    return adler32


def _ask_each_character(text: str, *, after_space: bool) -> tuple[int, int, bool]:
    words = len(text.split()) - (not after_space and not text[0].isspace())
    letters = list(map(str.isalpha, text)).count(True)
    return words, letters, text[-1].isspace()


def _astral_letters(block: bytes) -> int:
    """Count letters beyond U+FFFF; an ill-formed sequence decodes to something that is no word."""
    letters = 0
    for lead in (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4"):
        for rest in block.split(lead)[1:]:
            letters += (lead + rest[: _SEQUENCE_BYTES - 1]).decode("utf-8", "replace").isalpha()
    return letters


@lru_cache(maxsize=256)
def _page(high: int) -> _Flags:
    characters = [chr(high << 8 | low) for low in range(256)]
    return _Flags(
        bytes(character.isalpha() for character in characters),
        bytes(character.isspace() for character in characters),
    )


@lru_cache(maxsize=64)
def _plane_passes(pages: frozenset[int]) -> list[_Planes]:
    """Spread the letters and spaces of *pages* over planes; all spaces are in the first pass."""
    spaces: dict[bytes, list[int]] = {}
    letters: dict[bytes, list[int]] = {}
    for page in sorted(pages):
        spaces.setdefault(_page(page).spaces, []).append(page)
        letters.setdefault(_page(page).letters, []).append(page)
    spaces.pop(bytes(256), None)
    letters.pop(bytes(256), None)
    planes = [*spaces.items(), *letters.items()]
    passes = []
    for start in range(0, max(len(planes), 1), _PLANES):
        of_high, of_low = bytearray([_UNKNOWN_PAGE]) * 256, bytearray(256)
        letter_flags, space_flags = bytearray(256), bytearray(256)
        for page in pages:
            of_high[page] = 0
        for number, (lows, highs) in enumerate(planes[start : start + _PLANES], start):
            bit = 1 << number - start
            for high in highs:
                of_high[high] |= bit
            for low in range(256):
                of_low[low] |= bit * lows[low]
            (space_flags if number < len(spaces) else letter_flags)[bit] = 1
        flags = _Flags(bytes(letter_flags), bytes(space_flags))
        passes.append(_Planes(bytes(of_high), bytes(of_low), flags))
    return passes


# The choice of a kernel


def _new_kernel(errors: str) -> _Kernel:
    plain = PlainKernel(errors)
    byte_kernel = _byte_kernel()
    return byte_kernel(plain) if byte_kernel else plain


@cache
def _byte_kernel() -> "type[ByteKernel] | None":
    if os.environ.get("CLAIMWORK_WORDCOUNT") == "plain":
        return None
    try:
        from claimwork.wordcount_bytes import ByteKernel
    except ImportError:
        return None
    try:
        _check(ByteKernel)
    except Exception as error:  # whatever is wrong, we can do without
        warnings.warn(f"stringzilla is left out of the word count: {error!r}", stacklevel=1)
        return None
    return ByteKernel


def _check(byte_kernel: "type[ByteKernel]") -> None:
    """Raise unless the kernel counts fixed texts as the other one does, and without its help.

    They are long enough for vector loops and their ends, and short enough not to be noticed.
    """
    ascii_text = b"Hello  world, \t hello\r\n" * 99
    wide_text = "na\xefve\xa0\u041f\u0440\u0438\u0432\u0435\u0442\u3000\u201c\xd7\u201d\u2003 ".encode() * 99
    plain = PlainKernel("replace")
    no_rescue: PlainKernel | _NoRescue = _NoRescue()
    for text, rescue in [
        (ascii_text, no_rescue),
        (b" " * 999 + ascii_text, no_rescue),
        (wide_text, no_rescue),
        (wide_text + b"\xe2\x80", plain),
        (wide_text + b"\x80" + wide_text, plain),
        (wide_text + b"\xe3\xe3\x80\x80\x80", plain),
    ]:
        counted = byte_kernel(rescue, small_bytes=0).count(text, after_space=True)
        expected = plain.count(text, after_space=True)
        if counted != expected:
            raise AssertionError(f"{counted} is not {expected}")


class _NoRescue:
    def count(self, block: bytes, *, after_space: bool) -> tuple[int, int, bool]:
        raise AssertionError(f"no count of {len(block)} bytes, {after_space=}")
