"""The job's own record: it decides what all the rest means, so without it nothing else is looked at."""

from __future__ import annotations

from claimwork import records
from claimwork.errors import NotAJob, RecordError
from claimwork.records import Job

from .disk import Disk, Finding, in_words


def open_job(disk: Disk) -> tuple[Job | None, list[Finding]]:
    """The job, or why there is none to look at: job-missing, job-format or job-damaged."""
    path = disk.layout.job
    try:
        data = disk.record(path, records.JOB_LIMIT_BYTES)
    except RecordError as error:
        return None, [_damaged(path, str(error))]
    except OSError as error:
        return None, [Finding("unreadable", path, f"cannot be read: {in_words(error)}; mend the mount", None)]
    if data is None:
        what = "there is no job here; restore this file if there was one: it is the same for the whole life of a job"
        return None, [Finding("job-missing", path, what, None)]
    try:
        return records.parse_job(data, path), []
    except NotAJob as error:
        if _has_other_format(data):
            return None, [Finding("job-format", path, str(error), None)]
        return None, [_damaged(path, str(error))]


def _damaged(path: str, why: str) -> Finding:
    what = f"{why}; restore this file from a copy, or start over in another OUT: the results stay as they are"
    return Finding("job-damaged", path, what, None)


def _has_other_format(data: bytes) -> bool:
    try:
        body = records.loads(data, "job.json")
    except RecordError:
        return False
    found = body.get("format") if isinstance(body, dict) else None
    if not isinstance(found, str):
        return False
    major, dot, minor = found.partition(".")
    return bool(dot) and major.isdecimal() and minor.isdecimal() and major != str(records.FORMAT_MAJOR)
