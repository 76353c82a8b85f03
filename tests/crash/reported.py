"""What must hold as soon as the power is back, before anybody has repaired anything: what was reported done stands, whole."""

from __future__ import annotations

from claimwork import records
from claimwork.errors import NotAJob, RecordError
from claimwork.fs import Fs, digest_of
from claimwork.job import open_job
from claimwork.layout import Layout
from claimwork.names import parse_number, parse_range
from claimwork.plan_log import PlanLog
from claimwork.records import Job, Outcome, Segment
from claimwork.results import Places, read_done

LIMIT_BYTES = 1 << 20


def what_is_amiss(fs: Fs, layout: Layout) -> list[str]:
    """Each record that is torn, and each outcome that a done record tells of and that is not there as it says."""
    try:
        job = open_job(fs, layout)
    except NotAJob as error:
        return [f"job.json is torn: {error}"]
    found = []
    if fs.inode(layout.summary_json) is not None:
        try:
            records.loads(fs.read(layout.summary_json, LIMIT_BYTES), "summary.json")
        except RecordError as error:
            found.append(str(error))
    if job is not None and fs.inode(layout.done) is not None:
        for name in fs.names(layout.done):
            number = parse_number(name)
            assert number is not None
            for each in fs.names(layout.done_of(number)):
                found += _of_done(fs, layout, job, number, parse_range(each))
    return found


def _of_done(fs: Fs, layout: Layout, job: Job, number: int, where: tuple[int, int] | None) -> list[str]:
    assert where is not None
    try:
        done = read_done(fs, layout, number, *where)
        segment = PlanLog(fs, layout).read(number)
    except (RecordError, FileNotFoundError) as error:
        return [f"done record {number} {where}: {error}"]
    assert isinstance(segment, Segment)
    found = []
    for index, outcome in enumerate(done.outcomes, done.lo):
        places = Places.of(layout, job, number, index, segment.inputs[index])
        found += _of_outcome(fs, job, outcome, places)
    return found


def _of_outcome(fs: Fs, job: Job, outcome: Outcome, places: Places) -> list[str]:
    path = places.result if outcome.ok else places.quarantine
    try:
        data = fs.read(path, LIMIT_BYTES)
    except FileNotFoundError:
        return [f"{path} was reported done and is gone"]
    if outcome.ok and (len(data), digest_of(data)) != (outcome.size_bytes, outcome.digest):
        return [f"{path} is not what was reported done"]
    if not outcome.ok and records.parse_quarantine(data, path, job.id) is None:
        return [f"{path} is torn"]
    return []
