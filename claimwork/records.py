"""Records on the mount: dataclasses here, versioned JSON there, and nothing else parses bytes read from OUT.

Parsers give a value or raise RecordError, whatever the bytes. Unknown keys are ignored, so that a newer minor format can
add some; an unknown major format is refused by `parse_job`. Strings that are no Unicode (names of inputs with other
bytes) travel as JSON escapes of surrogates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from . import policy
from .effort import Effort, Mark
from .errors import NotAJob, RecordError

FORMAT_MAJOR, FORMAT_MINOR = 1, 0
JOB_LIMIT_BYTES = 1 << 20
SEGMENT_LIMIT_BYTES = 64 << 20  # 1024 paths of 4 KiB, escaped
DONE_LIMIT_BYTES = 64 << 20
BEAT_BYTES = 2048  # a beat is rewritten in place, so every one has the same length
SMALL_LIMIT_BYTES = 4 << 20


def dumps(value: object) -> bytes:
    """Compact JSON of any value; readable UTF-8 unless a string is no Unicode. ValueError for NaN and strange types."""
    try:
        return _READABLE.encode(value).encode()
    except UnicodeEncodeError:
        return _ESCAPED.encode(value).encode()


def loads(data: bytes, what: str) -> Any:
    """Parse JSON. Raises RecordError naming *what* it should have been."""
    try:
        return _DECODER.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError):
        raise RecordError(f"{what} is damaged: not JSON") from None


def _finite(number: str) -> float:
    # what Python's JSON would read as NaN or infinity, `dumps` could not write into a done record
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("no JSON number")
    return value


_NUMBER_LIMIT = 1e18  # of seconds: an integer far beyond it is no float any more
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
_READABLE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # made once: `json.dumps` makes one for each call
_ESCAPED = json.JSONEncoder(allow_nan=False)
_COMPACT = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True)
class Job:
    """What all workers of a job agree on; immutable once published."""

    id: str
    task: str
    command: list[str] = field(default_factory=list)
    errors: str = "strict"
    suffix: str = ".json"
    claims: str = "rename"
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    recurse: bool = True
    hidden: bool = False
    timeout_s: float | None = None
    max_attempts: int = policy.MAX_ATTEMPTS
    backoff_s: float = policy.BACKOFF_S
    patience_s: float = policy.PATIENCE_S
    max_quarantined: int | None = None
    folds_names: bool = False
    split_bytes: int | None = None
    backups: bool = True
    created_at: float = 0.0
    created_by: str = ""

    def describe(self) -> str:
        """The task in words."""
        return f"command {' '.join(self.command)!r}" if self.command else f"task {self.task!r}"


@dataclass(frozen=True, slots=True)
class Input:
    """One file to process. ``result`` is its name below results/ where that does not follow from the path;
    ``of`` is the segment and index that a retried input had before.
    """

    path: str
    size_bytes: int
    result: str | None = None
    of: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A numbered part of the input list and the tickets it was cut into: ``(lo, hi, bytes, weight class, shard)``.
    ``previous`` is the number of the last close before it.
    """

    inputs: list[Input]
    tickets: list[tuple[int, int, int, int, int]]
    previous: int | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """A log entry that ends a generation: which segments it added, ``(number, inputs, bytes)``, and the close before.
    ``retried`` of those inputs, with ``retried_bytes``, were in an earlier generation already.
    """

    generation: int
    previous: int | None
    segments: list[tuple[int, int, int]]
    retried: int = 0
    retried_bytes: int = 0


# The next two are made for each input, and to freeze them takes as long as a system call does: nobody changes one.


@dataclass(slots=True)
class Ran:
    """One execution, for people: when it began by the wall clock of its worker, how long it took, and its input's size."""

    began_at: float
    took_s: float
    input_bytes: int


@dataclass(slots=True)
class Outcome:
    """How one input ended: a result of ``size_bytes`` with ``digest``, or quarantined for ``reason``.

    ``value`` is what the result says; where a record is to be written, bytes are its JSON as `dumps` made it.
    ``ran`` tells how it came about, where that is known; outcomes are the same whatever it says.
    """

    ok: bool
    size_bytes: int = 0
    digest: str = ""
    has_value: bool = False
    value: Any = None
    reason: str = ""
    ran: Ran | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Done:
    """Outcomes of inputs ``lo`` to ``hi`` (exclusive) of a segment, in order."""

    segment: int
    lo: int
    hi: int
    worker: str
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. ``kind``: exception, gave_up, crash, timeout, lost or unreadable."""

    input: str
    segment: int
    index: int
    attempt: int
    kind: str
    error: str
    detail: str = ""
    worker: str = ""
    host: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of one part of a large input: the value of the task, or the error that it ended with.

    ``began_at`` is by the clock of the host that ran it; 0: nobody tells.
    """

    value: Any = None
    error: str = ""
    began_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The reduced value of one generation and what it covers."""

    generation: int
    entry: int
    inputs: int
    results: int
    quarantined: int
    value: Any


@dataclass(frozen=True)
class BeatRecord:
    """What a worker tells about itself; only a change of its bytes means anything to the protocol.

    ``pace`` has a mark for each of `effort.WINDOWS_S`. ``watches``: nothing has disturbed its watching of peers for T; older
    releases do not tell.
    """

    worker: str
    beat: int
    boot: str = ""
    host: str = ""
    pid: int = 0
    slot: str = ""
    node: str = ""
    service: str = ""
    version: str = ""
    state: str = "idle"
    slots: int = 1
    done: int = 0
    failed: int = 0
    done_bytes: int = 0
    reclaimed: int = 0
    fenced: int = 0
    started_at: float = 0.0
    at: float = 0.0
    current: list[tuple[str, float]] = field(default_factory=list)
    effort: Effort = field(default_factory=Effort)
    pace: list[Mark] = field(default_factory=list)
    watches: bool = True


_BEAT_FIELDS = tuple(each.name for each in fields(BeatRecord))


# -- encoding ---------------------------------------------------------------------------------------------------------


def encode_job(job: Job) -> bytes:
    """job.json, for people as well."""
    body = {"format": f"{FORMAT_MAJOR}.{FORMAT_MINOR}", **asdict(job)}
    return json.dumps(body, indent=1, allow_nan=False).encode() + b"\n"


def encode_segment(segment: Segment) -> bytes:
    """A log entry that holds inputs."""
    inputs: list[list[Any]] = []
    for each in segment.inputs:
        row: list[Any] = [each.path, each.size_bytes]
        if each.result is not None or each.of is not None:
            row += [each.result, each.of]
        inputs.append(row)
    head = {"v": 1, "kind": "inputs", "previous": segment.previous}
    return dumps({**head, "tickets": segment.tickets, "inputs": inputs}) + b"\n"


def encode_close(close: Close) -> bytes:
    """A log entry that ends a generation."""
    return dumps({"v": 1, "kind": "close", **asdict(close)}) + b"\n"


def encode_done(done: Done) -> bytes:
    """A done record; values stand in it while they are small."""
    rows = b", ".join(map(_encode_outcome, done.outcomes))
    head = dumps({"v": 1, "segment": done.segment, "lo": done.lo, "hi": done.hi, "worker": done.worker})
    return b'%b, "outcomes": [%b], "ran": %b}\n' % (head[:-1], rows, dumps(_encode_ran(done.outcomes)))


def _encode_outcome(each: Outcome) -> bytes:
    if not each.ok:
        return dumps(["failed", each.reason])
    if not each.has_value:
        return dumps(["ok", each.size_bytes, each.digest])
    value = each.value if isinstance(each.value, bytes) else dumps(each.value)
    return b'["ok", %d, %b, %b]' % (each.size_bytes, dumps(each.digest), value)


def _encode_ran(outcomes: Sequence[Outcome]) -> list[Any]:
    """The wall clock of the first execution, then for each outcome milliseconds since then, milliseconds taken, bytes."""
    first = min((each.ran.began_at for each in outcomes if each.ran is not None), default=0.0)
    rows: list[Any] = [
        None
        if each.ran is None
        else [round(1000 * (each.ran.began_at - first)), round(1000 * each.ran.took_s, 2), each.ran.input_bytes]
        for each in outcomes
    ]
    return [round(first, 3), *rows] if any(rows) else []


def encode_failure(failure: Failure) -> bytes:
    """The record of one failed attempt."""
    return dumps({"v": 1, **asdict(failure)}) + b"\n"


def encode_quarantine(job_id: str, failures: Sequence[Failure], path: str, segment: int, index: int) -> bytes:
    """The report a person reads: the last error first, then the attempts; the last ones, when there are very many."""
    last = failures[-1]
    kept = list(failures)
    while True:
        body = {
            "input": path,
            "error": last.error,
            "kind": last.kind,
            "attempts": [asdict(each) for each in kept],
            "segment": segment,
            "index": index,
            "quarantined_in": job_id,
        }
        data = json.dumps(body, indent=1, allow_nan=False).encode() + b"\n"
        if len(data) <= SMALL_LIMIT_BYTES or len(kept) == 1:
            return data
        kept = kept[len(kept) // 2 :]  # a report too large to be read back would be taken for a result


def encode_part(part: Part) -> bytes:
    """The record of one part."""
    return dumps({"v": 1, **asdict(part)}) + b"\n"


def encode_summary(summary: Summary) -> bytes:
    """The summary record of one generation."""
    return dumps({"v": 1, **asdict(summary)}) + b"\n"


def encode_beat(beat: BeatRecord) -> bytes:
    """Exactly `BEAT_BYTES` bytes; what is too long is left out, the list of current inputs first."""
    body = {name: getattr(beat, name) for name in _BEAT_FIELDS}  # `asdict` would copy every value
    body["effort"] = beat.effort.to_json() if beat.effort.count else []
    body["pace"] = [[each.age_s, each.done, each.done_bytes, each.took_s] for each in beat.pace]
    data = _COMPACT.encode(body).encode()
    for cut in ("current", "pace", "effort", "service", "node", "slot", "host"):
        if len(data) < BEAT_BYTES:
            break
        body.pop(cut)
        data = _COMPACT.encode(body).encode()
    return data[: BEAT_BYTES - 1].ljust(BEAT_BYTES - 1) + b"\n"


# -- parsing ----------------------------------------------------------------------------------------------------------


def parse_job(data: bytes, path: str) -> Job:
    """job.json. Raises NotAJob when it is none, or when its format is not this release's."""
    try:
        body = _object(loads(data, path), path)
        major, _, minor = _text(body, "format").partition(".")
        if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (major, minor)):
            raise RecordError("no format")
    except RecordError:
        raise NotAJob(f"{path!r} is not a job of claimwork: it is damaged or somebody else's file") from None
    if int(major) != FORMAT_MAJOR:
        raise NotAJob(
            f"{path!r} has format {major}.{minor}, and this release of claimwork works on {FORMAT_MAJOR}.x: "
            "use the release that created the job, or another OUT"
        )
    try:
        return _job(body)
    except RecordError as error:
        raise NotAJob(f"{path!r} is damaged: {error}; restore it, or start over in another OUT") from None


def _job(body: Mapping[str, Any]) -> Job:
    claims, suffix, errors = _text(body, "claims"), _text(body, "suffix"), _text(body, "errors")
    if claims not in ("rename", "marker") or errors not in ("strict", "replace"):
        raise RecordError("unknown option")
    if not is_suffix(suffix):
        raise RecordError("unknown suffix")
    return Job(
        id=_text(body, "id"),
        task=_text(body, "task"),
        command=_texts(body, "command"),
        errors=errors,
        suffix=suffix,
        claims=claims,
        include=_texts(body, "include"),
        exclude=_texts(body, "exclude"),
        recurse=bool(body.get("recurse", True)),
        hidden=bool(body.get("hidden", False)),
        timeout_s=None if body.get("timeout_s") is None else _number(body, "timeout_s"),
        max_attempts=max(1, _int(body, "max_attempts")),
        backoff_s=_number(body, "backoff_s"),
        patience_s=_number(body, "patience_s"),
        max_quarantined=None if body.get("max_quarantined") is None else _int(body, "max_quarantined"),
        folds_names=bool(body.get("folds_names", False)),
        split_bytes=None if body.get("split_bytes") is None else max(1, _int(body, "split_bytes")),
        backups=bool(body.get("backups", False)),
        created_at=_number(body, "created_at"),
        created_by=_text(body, "created_by"),
    )


def is_suffix(suffix: str) -> bool:
    """True for what may end the name of a result: a dot and one to sixteen letters, digits, dots."""
    return 2 <= len(suffix) <= 17 and suffix[0] == "." and suffix.isascii() and suffix.replace(".", "").isalnum()


def parse_entry(data: bytes, path: str) -> Segment | Close:
    """A log entry."""
    body = _object(loads(data, path), path)
    kind = _text(body, "kind")
    previous = None if body.get("previous") is None else _int(body, "previous")
    if kind == "close":
        return Close(
            generation=_int(body, "generation"),
            previous=previous,
            segments=[_ints(row, 3) for row in _list(body, "segments")],  # type: ignore[misc]
            retried=_int(body, "retried"),
            retried_bytes=_int(body, "retried_bytes"),
        )
    if kind != "inputs":
        raise RecordError(f"{path!r} is a log entry of unknown kind {kind[:40]!r}")
    inputs = [_input(row) for row in _list(body, "inputs")]
    tickets = [_ints(row, 5) for row in _list(body, "tickets")]
    if any(not 0 <= row[0] < row[1] <= len(inputs) for row in tickets):
        raise RecordError(f"{path!r} has tickets outside its inputs")
    return Segment(inputs, tickets, previous)  # type: ignore[arg-type]


def _input(row: Any) -> Input:
    if not (isinstance(row, list) and len(row) in (2, 4) and isinstance(row[0], str)):
        raise RecordError("an input is malformed")
    if not isinstance(row[1], int) or isinstance(row[1], bool) or row[1] < 0 or not is_input_path(row[0]):
        raise RecordError("an input is malformed")
    if len(row) == 2:
        return Input(row[0], row[1])
    result, of = row[2], row[3]
    if result is not None and not (isinstance(result, str) and is_input_path(result)):
        raise RecordError("an input is malformed")
    return Input(row[0], row[1], result, None if of is None else _ints(of, 2))  # type: ignore[arg-type]


def is_input_path(path: str) -> bool:
    """True for a relative path that stays where it is: no empty, ``.`` or ``..`` component, no NUL, nothing but bytes."""
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    between = f"/{path}/"
    return not ("\0" in path or "//" in between or "/./" in between or "/../" in between)


def parse_done(data: bytes, path: str) -> Done:
    """A done record."""
    body = _object(loads(data, path), path)
    rows = _list(body, "outcomes")
    ran = _parse_ran(body.get("ran"), len(rows))
    done = Done(
        _int(body, "segment"),
        _int(body, "lo"),
        _int(body, "hi"),
        _text(body, "worker"),
        [_outcome(row, path, each) for row, each in zip(rows, ran, strict=True)],
    )
    if done.hi - done.lo != len(done.outcomes):
        raise RecordError(f"{path!r} has {len(done.outcomes)} outcomes for {done.hi - done.lo} inputs")
    return done


def _outcome(row: Any, path: str, ran: Ran | None) -> Outcome:
    match row:
        case ["ok", int(size), str(digest)]:
            return Outcome(True, size, digest, ran=ran)
        case ["ok", int(size), str(digest), value]:
            return Outcome(True, size, digest, has_value=True, value=value, ran=ran)
        case ["failed", str(reason)]:
            return Outcome(False, reason=reason, ran=ran)
    raise RecordError(f"{path!r} has a malformed outcome")


def _parse_ran(body: Any, count: int) -> list[Ran | None]:
    """How each outcome came about; nothing of a damaged list, since it is for people only."""
    if not isinstance(body, list) or len(body) != count + 1 or not _is_number(body[0]):
        return [None] * count
    found: list[Ran | None] = []
    for row in body[1:]:
        if isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)):
            found.append(Ran(body[0] + row[0] / 1000, row[1] / 1000, int(row[2])))
        else:
            found.append(None)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _NUMBER_LIMIT


def parse_failure(data: bytes, path: str) -> Failure:
    """The record of one failed attempt."""
    return _failure(_object(loads(data, path), path))


def _failure(body: Mapping[str, Any]) -> Failure:
    return Failure(
        _text(body, "input"),
        _int(body, "segment"),
        _int(body, "index"),
        _int(body, "attempt"),
        _text(body, "kind"),
        _text(body, "error"),
        _text(body, "detail"),
        _text(body, "worker"),
        _text(body, "host"),
        _number(body, "at"),
    )


def parse_quarantine(data: bytes, path: str, job_id: str) -> tuple[Failure, ...] | None:
    """The attempts in a quarantine report of this job; None when the bytes are anything else."""
    try:
        body = _object(loads(data, path), path)
        if body.get("quarantined_in") != job_id:
            return None
        return tuple(_failure(_object(each, path)) for each in _list(body, "attempts")) or None
    except RecordError:
        return None


def parse_part(data: bytes, path: str) -> Part:
    """The record of one part."""
    body = _object(loads(data, path), path)
    if "value" not in body:
        raise RecordError(f"{path!r} is damaged: no value")
    return Part(body["value"], _text(body, "error"), _number(body, "began_at"))


def parse_summary(data: bytes, path: str) -> Summary:
    """The summary record of one generation."""
    body = _object(loads(data, path), path)
    return Summary(
        _int(body, "generation"),
        _int(body, "entry"),
        _int(body, "inputs"),
        _int(body, "results"),
        _int(body, "quarantined"),
        body.get("value"),
    )


def parse_beat(data: bytes, path: str) -> BeatRecord:
    """A heartbeat; torn ones raise RecordError, and mean no less than whole ones to `heartbeat`."""
    body = _object(loads(data, path), path)
    current = []
    for row in _list(body, "current") if "current" in body else []:
        match row:
            case [str(name), int() | float() as since] if abs(since) < _NUMBER_LIMIT:
                current.append((name, float(since)))

    rows = body.get("pace")
    pace = [
        Mark(float(row[0]), int(row[1]), int(row[2]), float(row[3]))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, list) and len(row) == 4 and all(map(_is_number, row))
    ]

    def text(key: str) -> str:
        return str(body.get(key, ""))[:256]

    return BeatRecord(
        worker=_text(body, "worker"),
        beat=_int(body, "beat"),
        boot=text("boot"),
        host=text("host"),
        pid=_int(body, "pid"),
        slot=text("slot"),
        node=text("node"),
        service=text("service"),
        version=text("version"),
        state=text("state"),
        slots=_int(body, "slots"),
        done=_int(body, "done"),
        failed=_int(body, "failed"),
        done_bytes=_int(body, "done_bytes"),
        reclaimed=_int(body, "reclaimed"),
        fenced=_int(body, "fenced"),
        started_at=_number(body, "started_at"),
        at=_number(body, "at"),
        current=current,
        effort=Effort.from_json(body.get("effort")),
        pace=pace,
        watches=body.get("watches") is not False,
    )


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f"{path!r} is damaged: not a JSON object")
    return value


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise RecordError(f"{key!r} is not a string")
    return value


def _texts(body: Mapping[str, Any], key: str) -> list[str]:
    value = body.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise RecordError(f"{key!r} is not a list of strings")
    return value


def _int(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RecordError(f"{key!r} is not a whole number")
    return value


def _number(body: Mapping[str, Any], key: str) -> float:
    value = body.get(key, 0.0)
    # NaN and infinity compare strangely, and Python's JSON accepts them
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _NUMBER_LIMIT:
        raise RecordError(f"{key!r} is not a number")
    return float(value)


def _list(body: Mapping[str, Any], key: str) -> list[Any]:
    value = body.get(key)
    if not isinstance(value, list):
        raise RecordError(f"{key!r} is not a list")
    return value


def _ints(row: Any, length: int) -> tuple[int, ...]:
    if not isinstance(row, list) or len(row) != length:
        raise RecordError("a row is malformed")
    for each in row:
        if not isinstance(each, int) or isinstance(each, bool) or each < 0:
            raise RecordError("a row is malformed")
    return tuple(row)
