"""Records: what is written is read, and no bytes whatever give anything but a value or the error for damage."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimwork import records
from claimwork.errors import NotAJob, RecordError
from claimwork.records import (
    BEAT_BYTES,
    BeatRecord,
    Close,
    Done,
    Failure,
    Input,
    Job,
    Outcome,
    Segment,
    Summary,
)

# strings as paths have them: Unicode, and other bytes as surrogate escapes
TEXT = st.one_of(st.text(max_size=20), st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
COUNT = st.integers(0, 10**12)
PATH = TEXT.filter(records.is_input_path)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
INPUTS = st.builds(Input, PATH, COUNT, st.none() | PATH, st.none() | st.tuples(COUNT, COUNT))
OUTCOMES = st.one_of(
    st.builds(lambda size, digest: Outcome(True, size, digest), COUNT, TEXT),
    st.builds(lambda size, value: Outcome(True, size, "d", has_value=True, value=value), COUNT, JSON),
    st.builds(lambda reason: Outcome(False, reason=reason), TEXT),
)
FAILURES = st.builds(Failure, TEXT, COUNT, COUNT, COUNT, TEXT, TEXT, TEXT, TEXT, TEXT, st.floats(0, 1e17))
JOBS = st.builds(
    Job,
    id=TEXT,
    task=TEXT,
    command=st.lists(TEXT, max_size=3),
    errors=st.sampled_from(["strict", "replace"]),
    suffix=st.sampled_from([".json", ".a", ".tar.gz"]),
    claims=st.sampled_from(["rename", "marker"]),
    include=st.lists(TEXT, max_size=2),
    exclude=st.lists(TEXT, max_size=2),
    recurse=st.booleans(),
    hidden=st.booleans(),
    timeout_s=st.none() | st.floats(0, 1e6),
    max_attempts=st.integers(1, 100),
    max_quarantined=st.none() | COUNT,
    folds_names=st.booleans(),
    created_at=st.floats(0, 1e10),
    created_by=TEXT,
)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Log entries with inputs, and tickets within them."""
    inputs = draw(st.lists(INPUTS, min_size=1, max_size=5))
    edges = sorted(draw(st.sets(st.integers(0, len(inputs)), min_size=2, max_size=4)))
    tickets = [(lo, hi, 5, 3, 0) for lo, hi in itertools.pairwise(edges)]
    return Segment(inputs, tickets, draw(st.none() | COUNT))


CLOSES = st.builds(Close, COUNT, st.none() | COUNT, st.lists(st.tuples(COUNT, COUNT, COUNT), max_size=3), COUNT)
DONES = st.builds(
    lambda segment, lo, worker, outcomes: Done(segment, lo, lo + len(outcomes), worker, outcomes),
    COUNT,
    COUNT,
    TEXT,
    st.lists(OUTCOMES, max_size=4),
)
SUMMARIES = st.builds(Summary, COUNT, COUNT, COUNT, COUNT, COUNT, JSON)

PARSERS: dict[str, Callable[[bytes], Any]] = {
    "job": lambda data: records.parse_job(data, "p"),
    "entry": lambda data: records.parse_entry(data, "p"),
    "done": lambda data: records.parse_done(data, "p"),
    "failure": lambda data: records.parse_failure(data, "p"),
    "quarantine": lambda data: records.parse_quarantine(data, "p", "job"),
    "summary": lambda data: records.parse_summary(data, "p"),
    "beat": lambda data: records.parse_beat(data, "p"),
    "loads": lambda data: records.loads(data, "p"),
}
FAILURE = Failure("a/\udcff", 1, 2, 3, "crash", "killed", "trace", "w", "h", 1.5)
WHOLE: dict[str, bytes] = {
    "job": records.encode_job(Job("i", "wordcount", created_at=1.5, timeout_s=2.0, max_quarantined=3)),
    "entry": records.encode_segment(Segment([Input("a", 1), Input("\udcff\n", 2, "b", (1, 2))], [(0, 2, 3, 2, 0)], 4)),
    "close": records.encode_close(Close(2, 1, [(2, 5, 50)], 1)),
    "done": records.encode_done(Done(1, 0, 2, "w", [Outcome(True, 1, "d", has_value=True, value=1.5), Outcome(False)])),
    "failure": records.encode_failure(FAILURE),
    "quarantine": records.encode_quarantine("job", [FAILURE], "a", 1, 2),
    "summary": records.encode_summary(Summary(1, 2, 3, 4, 5, {"x": ["é", None]})),
    "beat": records.encode_beat(BeatRecord("w", 1, current=[("1:2", 3.5)])),
}


@given(JOBS)
def test_a_job_comes_back(job: Job) -> None:
    """With every option."""
    assert records.parse_job(records.encode_job(job), "p") == job


@given(st.one_of(segments(), CLOSES))
def test_a_log_entry_comes_back(entry: Segment | Close) -> None:
    """With names of any bytes."""
    encoded = records.encode_segment(entry) if isinstance(entry, Segment) else records.encode_close(entry)

    assert records.parse_entry(encoded, "p") == entry


@given(JSON)
def test_a_value_that_is_json_already_stands_as_it_is(value: object) -> None:
    """A record with it is the one with the value itself."""
    made, given = (
        records.encode_done(Done(1, 0, 1, "w", [Outcome(True, 1, "d", has_value=True, value=each)]))
        for each in (records.dumps(value), value)
    )

    assert made == given


@given(DONES)
def test_a_done_record_comes_back(done: Done) -> None:
    """With values of any JSON."""
    assert records.parse_done(records.encode_done(done), "p") == done


@given(FAILURES)
def test_a_failure_comes_back(failure: Failure) -> None:
    """Alone, and in a quarantine report of its job; other jobs do not take the report for theirs."""
    report = records.encode_quarantine("job", [failure, failure], "p", 1, 2)

    assert records.parse_failure(records.encode_failure(failure), "p") == failure
    assert records.parse_quarantine(report, "p", "job") == (failure, failure)
    assert records.parse_quarantine(report, "p", "other") is None


@given(SUMMARIES)
def test_a_summary_comes_back(summary: Summary) -> None:
    """And encoding it twice gives the same bytes."""
    encoded = records.encode_summary(summary)

    assert records.parse_summary(encoded, "p") == summary
    assert records.encode_summary(records.parse_summary(encoded, "p")) == encoded


@given(st.lists(st.tuples(TEXT, st.floats(0, 1e9)), max_size=100), TEXT)
def test_a_beat_has_one_length(current: list[tuple[str, float]], host: str) -> None:
    """It is rewritten in place; what is too long is left out, the inputs first."""
    beat = BeatRecord("w" * 32, 7, host=host, current=current)
    encoded = records.encode_beat(beat)

    assert len(encoded) == BEAT_BYTES
    assert records.parse_beat(encoded, "p") in (beat, replace(beat, current=[]))


def test_a_beat_that_cannot_be_shortened_is_torn() -> None:
    """A host name of kilobytes costs the name, not the beat."""
    beat = BeatRecord("w", 7, host="h" * 5000, service="s" * 5000)

    assert records.parse_beat(records.encode_beat(beat), "p") == replace(beat, host="", service="")
    assert len(records.encode_beat(BeatRecord("w" * 5000, 1))) == BEAT_BYTES


@pytest.mark.parametrize("what", WHOLE)
def test_torn_at_every_length(what: str) -> None:
    """A record cut anywhere is whole, or damaged, or no job: never another value, never another error."""
    data = WHOLE[what]
    parse = PARSERS["entry" if what == "close" else what]
    whole = parse(data)
    for length in range(len(data)):
        try:
            found = parse(data[:length])
        except (RecordError, NotAJob):
            continue
        assert found is None or found == whole, f"cut at {length}"


@pytest.mark.parametrize("what", WHOLE)
def test_torn_writes_over_an_older_record(what: str) -> None:
    """The first part new, the rest old, as rewriting in place may leave it."""
    data = WHOLE[what]
    old = data.replace(b"1", b"7").replace(b"w", b"v")
    parse = PARSERS["entry" if what == "close" else what]
    for length in range(len(data)):
        try:
            parse(data[:length] + old[length:])
        except (RecordError, NotAJob):
            pass


@pytest.mark.parametrize("what", PARSERS)
@given(data=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes(what: str, data: bytes) -> None:
    """A value or the error for damage."""
    try:
        PARSERS[what](data)
    except (RecordError, NotAJob):
        pass


KEYS = sorted(
    {each.name for kind in (Job, Segment, Close, Done, Failure, Summary, BeatRecord) for each in fields(kind)}
    | {"format", "kind", "outcomes", "attempts", "quarantined_in", "v"}
)
ODD = st.one_of(
    JSON,
    st.sampled_from(["1.0", "job", "inputs", "close", "rename", ".json", "strict", "9" * 5000 + ".0", "\ud800"]),
    st.sampled_from([10**400, -1, 1e300, True, [[]], [[1, 2, 3]], [["ok", 1, "d"]], [["a", 1]], [["x", 10**400]]]),
    st.lists(
        st.lists(st.sampled_from(["ok", "failed", "", "a/..", 1, -1, True, None, 10**30]), max_size=5), max_size=2
    ),
)


@pytest.mark.parametrize("what", PARSERS)
@given(body=st.dictionaries(st.sampled_from(KEYS), ODD, max_size=12))
def test_any_object_with_our_keys(what: str, body: dict[str, Any]) -> None:
    """Right keys with wrong values."""
    try:
        PARSERS[what](json.dumps(body).encode())
    except (RecordError, NotAJob):
        pass


@pytest.mark.parametrize("what", WHOLE)
@given(odd=ODD)
def test_one_odd_value_in_a_whole_record(what: str, odd: Any) -> None:
    """At each place of a record."""
    body = json.loads(WHOLE[what])
    for key in body:
        try:
            PARSERS["entry" if what == "close" else what](json.dumps({**body, key: odd}).encode())
        except (RecordError, NotAJob):
            pass


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"[NaN]", b'{"a": -1e999}'])
def test_what_json_cannot_say_is_refused(number: bytes) -> None:
    """Python reads it all the same, and could not write it back."""
    with pytest.raises(RecordError):
        records.loads(number, "a result")
    with pytest.raises(ValueError, match="JSON"):
        records.dumps(math.nan)


@given(JSON)
def test_values_come_back(value: Any) -> None:
    """Whatever a task returns that is JSON."""
    assert records.loads(records.dumps(value), "p") == value


def test_values_are_readable() -> None:
    """UTF-8 as it is; escapes only for what is no Unicode."""
    assert records.dumps({"é": "漢"}) == '{"é": "漢"}'.encode()
    assert records.dumps(["é", "\udcff"]) == b'["\\u00e9", "\\udcff"]'


def test_deep_nesting_is_damage() -> None:
    """Not a crash of the interpreter."""
    with pytest.raises(RecordError):
        records.loads(b"[" * 200_000, "p")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "is not a job"),
        (b"[]", "is not a job"),
        (b"", "is not a job"),
        (b'{"format": "x"}', "is not a job"),
        (b'{"format": "2.0"}', "has format 2.0"),
        (b'{"format": "1.0"}', "is damaged"),
        (b'{"format": "%s.0"}' % (b"9" * 5000), "is not a job"),
    ],
)
def test_what_is_no_job_of_ours(body: bytes, words: str) -> None:
    """The error says whether it is somebody else's, another release's, or damaged."""
    with pytest.raises(NotAJob, match=words):
        records.parse_job(body, "/out/.claimwork/job.json")


def test_a_newer_minor_format_is_read() -> None:
    """Unknown keys are passed over."""
    body = {**json.loads(WHOLE["job"]), "format": "1.7", "new": [1]}

    assert records.parse_job(json.dumps(body).encode(), "p") == records.parse_job(WHOLE["job"], "p")


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", "\ud800"])
def test_paths_that_lead_elsewhere(path: str) -> None:
    """Nothing read from the mount leads out of a directory, or to no name at all."""
    assert not records.is_input_path(path)
    with pytest.raises(RecordError):
        records.parse_entry(records.encode_segment(Segment([Input(path, 1)], [(0, 1, 1, 1, 0)])), "p")


@pytest.mark.parametrize("path", ["a", "...", "a b", "-a", "a\nb", "\udcff", "é", ".a/..b", "~"])
def test_paths_that_stay(path: str) -> None:
    """Whatever else a name may be."""
    assert records.is_input_path(path)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (".json", True),
        (".tar.gz", True),
        (".a1", True),
        ("", False),
        (".", False),
        ("json", False),
        ("..", False),
        ("." + "a" * 17, False),
        (".a/b", False),
        (".é", False),
        (".a~", False),
        (".a b", False),
    ],
)
def test_suffixes(suffix: str, expected: bool) -> None:
    """What may end the name of a result."""
    assert records.is_suffix(suffix) == expected


def test_what_a_job_is_called() -> None:
    """For people."""
    assert Job("i", "wordcount").describe() == "task 'wordcount'"
    assert Job("i", "", ["wc", "-w"]).describe() == "command 'wc -w'"
