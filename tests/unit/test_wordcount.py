import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
import stringzilla
from hypothesis import given, settings
from hypothesis import strategies as st

from claimwork import wordcount
from claimwork.wordcount import BadUtf8, Count, PlainKernel, count_bytes, count_fd, count_path
from claimwork.wordcount_bytes import ByteKernel

MakeKernel = Callable[[str], PlainKernel | ByteKernel]
Write = Callable[[bytes], Path]


def _tree_kernel(errors: str) -> ByteKernel:
    return ByteKernel(PlainKernel(errors), small_bytes=0, nodes_max=10_000)


def _tired_kernel(errors: str) -> ByteKernel:
    return ByteKernel(PlainKernel(errors), small_bytes=20, nodes_max=3)


KERNELS: list[MakeKernel] = [PlainKernel, _tree_kernel, _tired_kernel]
NAMES = ["plain", "bytes", "bytes-and-rescue"]
SPACES = [chr(point) for point in range(sys.maxunicode + 1) if chr(point).isspace()]
SALAD = "Ab1 \t\n\x1c\x85\xa0\xaa\xb2\xd7éЖж҈\u0301अिऄ\u1680\u2003\u2028’\u207f一。ァ\u3000\ufeff\uff21\uffff😀𐐀𝐀𠀀\0"
RAGGED = [
    b"\x80",
    b"\xbf\xbf\xbf\xbf",
    b"\xc0\xaf",  # overlong
    b"\xc1\xbf",
    b"\xc2",
    b"\xe0\x80\xaf",  # overlong
    b"\xe0\x9f\xbf",
    b"\xe3\x80",
    b"\xed\xa0\x80",  # surrogate
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\xaf",  # overlong
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\xf5\x80\x80\x80",
    b"\xff\xfe",
    b"\xc3\x80\x80",
    b"\xe2\x80",  # begins many spaces
    b"\xc3x\x80",  # a sequence cut short and a stray byte that makes up for it
    b"\xe3\x80x\x80",
    b"\xf0\x9f\x98x\x80",
]


def _by_definition(data: bytes, errors: str = "strict") -> Count:
    text = data.decode("utf-8", errors)
    return Count(len(text.split()), sum(character.isalpha() for character in text))


def _counted(kernel: MakeKernel, data: bytes, block_bytes: int | None = None, errors: str = "strict") -> Count:
    return wordcount._count(BytesIO(data).read, kernel(errors), block_bytes=block_bytes)


def _first_bad_byte(data: bytes) -> int | None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


@pytest.fixture(name="kernel", params=KERNELS, ids=NAMES)
def _kernel(request: pytest.FixtureRequest) -> MakeKernel:
    return cast(MakeKernel, request.param)


@pytest.fixture(name="write")
def _write(tmp_path: Path) -> Write:
    path = tmp_path / "text"

    def write(data: bytes) -> Path:
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "words", "letters"),
    [
        ("Hello world\n", 2, 10),
        ("Another test file with text\n", 5, 23),
        ("", 0, 0),
        (" \n\t ", 0, 0),
        ("\0", 1, 0),
        ("a\0b c", 2, 3),
        ("\ufeffHello", 1, 5),
        ("\ufeff", 1, 0),
        ("Привет,\u3000мир!", 2, 9),
        ("你好。", 1, 2),
        ("I\u2003♥\xa0NY", 3, 3),
        ("नमस्ते", 1, 4),
        ("😀 𝐀𠀀", 2, 2),
    ],
)
def test_known_answers(kernel: MakeKernel, text: str, words: int, letters: int) -> None:
    """Every kernel gives the counts that a person can check."""
    assert _counted(kernel, text.encode()) == Count(words, letters)


characters = st.one_of(st.characters(codec="utf-8"), st.sampled_from(SALAD), st.sampled_from(SPACES), st.just("e"))
block_sizes = st.one_of(st.integers(1, 50), st.just(1 << 18))


@pytest.mark.parametrize("make_kernel", KERNELS, ids=NAMES)
@given(text=st.text(characters, max_size=300), block_bytes=block_sizes)
@settings(max_examples=150, deadline=None)
def test_any_text_counts_as_the_definition_says(make_kernel: MakeKernel, text: str, block_bytes: int) -> None:
    """Whatever the text and however it is cut into blocks, the counts are those of `str`."""
    data = text.encode()

    assert _counted(make_kernel, data, block_bytes) == _by_definition(data)


pieces = st.lists(
    st.one_of(
        st.binary(max_size=5),
        st.sampled_from(RAGGED),
        characters.map(str.encode),
        st.tuples(characters.map(str.encode), st.integers(0, 3)).map(lambda cut: cut[0][: cut[1]]),
    ),
    max_size=40,
)


@pytest.mark.parametrize("make_kernel", KERNELS, ids=NAMES)
@given(data=pieces.map(b"".join), block_bytes=block_sizes)
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_replaced_or_refused_as_decode_does(
    make_kernel: MakeKernel, data: bytes, block_bytes: int
) -> None:
    """Bad bytes count as U+FFFD, or are reported at the place where `bytes.decode` stops."""
    assert _counted(make_kernel, data, block_bytes, "replace") == _by_definition(data, "replace")

    bad = _first_bad_byte(data)
    if bad is None:
        assert _counted(make_kernel, data, block_bytes) == _by_definition(data)
    else:
        with pytest.raises(BadUtf8) as caught:
            _counted(make_kernel, data, block_bytes)
        assert caught.value.offset == bad


def _texts_with_every_character() -> list[str]:
    points = [point for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    everything = "".join(map(chr, points))
    spaced = "".join(chr(point) + " " for point in points)
    around = "".join("a" + chr(point) + "b\n" for point in points[:0x3200])
    shuffled = random.Random(1).sample(points[:0xF800], 0xF800)
    return [everything, spaced, around, "".join(map(chr, shuffled))]


def test_every_character_in_context(kernel: MakeKernel) -> None:
    """Each code point of the interpreter is judged as `str.isalpha` and `str.isspace` judge it."""
    for text in _texts_with_every_character():
        data = text.encode()

        assert _counted(kernel, data) == _by_definition(data)


def test_every_space_between_at_the_edges_and_in_runs(kernel: MakeKernel) -> None:
    """Each of the interpreter's spaces ends a word, alone or beside any other."""
    for space in SPACES:
        pairs = "".join("я" + space + other + "я" + other + space for other in SPACES)
        for text in (space, f"é{space}", f"{space}é", f"a{space}b", f"字{space}{space}字", pairs):
            data = text.encode()
            for block_bytes in (1, 3, 1 << 18):
                assert _counted(kernel, data, block_bytes) == _by_definition(data)


def test_pages_of_exactly_32_and_64_letters(kernel: MakeKernel) -> None:
    """A page that is all letters, half letters or no letters is not mistaken for its default."""
    pages = [[chr(base + low) for low in range(64)] for base in range(0x80, 0x3400, 64)]
    pages += [[chr(base + low) for low in range(64)] for base in range(0x10000, 0x10800, 64)]
    wanted = [page for page in pages if sum(map(str.isalpha, page)) in {0, 1, 31, 32, 33, 63, 64}]
    for page in wanted:
        letters = [character for character in page if character.isalpha()]
        others = [character for character in page if not character.isalpha()]
        for text in (page, letters * 3, others * 3, letters + others * 2, page * 50):
            data = "".join(text).encode()
            assert _counted(kernel, data) == _by_definition(data)


def test_text_that_changes_its_script_in_mid_stream(kernel: MakeKernel) -> None:
    """What a kernel learned from one script does not spoil the count of the next."""
    generator = random.Random(2)
    pages = [range(base, base + 256) for base in (0, 0x400, 0x900, 0x2000, 0x3000, 0x4E00, 0x1F600)]
    text = "".join("".join(map(chr, generator.choices(page, k=700))) for page in generator.choices(pages, k=60))
    data = text.encode()
    for block_bytes in (1000, 5000, 1 << 18):
        assert _counted(kernel, data, block_bytes) == _by_definition(data)


@pytest.mark.parametrize("bad", RAGGED, ids=bytes.hex)
def test_strict_reports_the_first_bad_byte_of_the_file(kernel: MakeKernel, bad: bytes) -> None:
    """The offset is that of the whole file, wherever the blocks are cut."""
    for before in (b"", b"ab", "жж ".encode(), "字".encode(), b"x" * 70_000):
        for after in (b"", b"z", "ж".encode(), bad):
            data = before + bad + after
            for block_bytes in (1, 2, 3, 4, 5, 40_000) if len(data) < 100 else (40_000, 1 << 18):
                with pytest.raises(BadUtf8) as caught:
                    _counted(kernel, data, block_bytes)
                assert caught.value.offset == _first_bad_byte(data)


def test_bad_utf8_says_where_and_survives_pickling() -> None:
    """The message is one line with the offset, also after a trip between processes."""
    with pytest.raises(BadUtf8) as caught:
        count_bytes(b"abc \xff def")

    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (str(error), error.offset) == ("invalid UTF-8 at byte 4", 4)


@pytest.mark.parametrize("make_kernel", KERNELS, ids=NAMES)
def test_ranges_add_up_at_every_cut(make_kernel: MakeKernel, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """Two adjacent ranges count to the whole, wherever the cut falls."""
    monkeypatch.setattr(wordcount, "_new_kernel", make_kernel)
    texts = [SALAD.encode(), "".join(SPACES).encode(), "слово\u3000字 \xa0😀".encode(), b"", b" a b "]
    texts += [bad + "я\u2003".encode() + bad + b" x" + bad for bad in RAGGED]
    for data in texts:
        path = write(data)
        whole = _by_definition(data, "replace")
        with path.open("rb", buffering=0) as file:
            fd = file.fileno()
            for cut in range(len(data) + 2):
                left = count_fd(fd, errors="replace", end=cut)
                right = count_fd(fd, errors="replace", start=cut)
                assert (left.words + right.words, left.letters + right.letters) == (
                    whole.words,
                    whole.letters,
                )


@given(data=pieces.map(b"".join), cuts=st.lists(st.integers(0, 250), max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_set_of_adjacent_ranges_adds_up(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    """Any cuts give the counts of the whole, and the lowest bad offset is the file's first."""
    path = tmp_path_factory.getbasetemp() / "ranges"
    path.write_bytes(data)
    edges = [0, *sorted(cuts), 1000]
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = [count_fd(fd, errors="replace", start=a, end=b) for a, b in pairwise(edges)]
        bad = []
        for a, b in pairwise(edges):
            try:
                count_fd(fd, start=a, end=b)
            except BadUtf8 as error:
                bad.append(error.offset)
    finally:
        os.close(fd)

    total = Count(sum(part.words for part in parts), sum(part.letters for part in parts))
    assert total == _by_definition(data, "replace")
    assert min(bad, default=None) == _first_bad_byte(data)


@pytest.mark.parametrize(("start", "end"), [(-1, None), (-2, -1), (5, 4)])
def test_impossible_ranges_are_refused(write: Write, start: int, end: int | None) -> None:
    """A range that ends before it starts, or starts before the file, is a caller's mistake."""
    with write(b"abcdef").open("rb") as file, pytest.raises(ValueError, match="range"):
        count_fd(file.fileno(), start=start, end=end)


def test_unknown_errors_are_refused(kernel: MakeKernel) -> None:
    """Modes whose ranges would not add up do not exist here."""
    with pytest.raises(ValueError, match="'ignore'"):
        kernel("ignore")


def test_files_are_counted_by_path_and_by_descriptor(write: Write) -> None:
    """A path, an open file and a pipe all give the same counts."""
    data = "Hello wörld\n".encode() * 50_000
    path = write(data)
    expected = Count(100_000, 500_000)

    assert count_path(path) == count_path(str(path)) == count_bytes(data) == expected
    with path.open("rb") as file:
        assert count_fd(file.fileno()) == expected

    reader, writer = os.pipe()
    os.write(writer, "Hello wörld\n".encode())
    os.close(writer)
    try:
        assert count_fd(reader) == Count(2, 10)
    finally:
        os.close(reader)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """Reading errors reach the caller as they are."""
    with pytest.raises(FileNotFoundError):
        count_path(tmp_path / "missing")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody may ever write into a FIFO."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a plain file"):
        count_path(tmp_path / "fifo")


@pytest.fixture(name="fresh_choice")
def _fresh_choice() -> Iterator[None]:
    wordcount._byte_kernel.cache_clear()
    yield
    wordcount._byte_kernel.cache_clear()


@pytest.mark.usefixtures("fresh_choice")
def test_stringzilla_is_used_when_it_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra installed the fast kernel passes the check and is chosen."""
    monkeypatch.delenv("CLAIMWORK_WORDCOUNT", raising=False)

    assert isinstance(wordcount._new_kernel("strict"), ByteKernel)


@pytest.mark.usefixtures("fresh_choice")
def test_the_environment_switches_stringzilla_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLAIMWORK_WORDCOUNT=plain leaves the standard library's kernel."""
    monkeypatch.setenv("CLAIMWORK_WORDCOUNT", "plain")

    assert isinstance(wordcount._new_kernel("strict"), PlainKernel)
    assert count_bytes(b"Hello world\n") == Count(2, 10)


@pytest.mark.usefixtures("fresh_choice")
def test_counting_works_without_stringzilla(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional: without it the standard library counts, silently."""
    monkeypatch.delenv("CLAIMWORK_WORDCOUNT", raising=False)
    monkeypatch.setitem(sys.modules, "stringzilla", None)
    monkeypatch.delitem(sys.modules, "claimwork.wordcount_bytes")

    assert isinstance(wordcount._new_kernel("strict"), PlainKernel)


@pytest.mark.usefixtures("fresh_choice")
@pytest.mark.parametrize("broken", ["bytesum", "count", "find"])
def test_a_stringzilla_that_miscounts_is_left_out(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """A release with a wrong result costs speed and a warning, not a wrong count."""
    monkeypatch.delenv("CLAIMWORK_WORDCOUNT", raising=False)
    right = getattr(stringzilla, broken)
    monkeypatch.setattr(stringzilla, broken, lambda *args, **options: right(*args, **options) + 1)

    with pytest.warns(UserWarning, match="stringzilla is left out"):
        kernel = wordcount._new_kernel("strict")

    assert isinstance(kernel, PlainKernel)
