"""Opening a job, or creating it: every worker may, and exactly one job comes of it."""

from __future__ import annotations

import errno
import os

from . import records
from .claims import ClaimStore
from .errors import NotAJob, UnfitFilesystem, UsageError, mount_fault
from .fs import Fs, has_atomic_rename
from .layout import Layout
from .names import plan_ticket
from .records import Job
from .results import Stage, publish
from .stores import make_store
from .ticket_store import remove_stage

FIRST_PLAN = "0" * 16  # the nonce of the plan ticket that a job starts with


def open_job(fs: Fs, layout: Layout) -> Job | None:
    """The job in OUT; None when there is none. Raises NotAJob for something else in its place."""
    try:
        try:
            data = fs.read(layout.job, records.JOB_LIMIT_BYTES)
        except FileNotFoundError:
            # a cache may remember that there was none; a fresh listing knows better
            if layout.job.rpartition("/")[2] not in fs.names(layout.home):
                return None
            data = fs.read(layout.job, records.JOB_LIMIT_BYTES)
        return records.parse_job(data, layout.job)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise mount_fault(error, layout.out) from error


def require_job(fs: Fs, layout: Layout) -> Job:
    """The job in OUT. Raises NotAJob when there is none."""
    job = open_job(fs, layout)
    if job is None:
        raise NotAJob(
            f"{layout.out!r} is not a job: it has no .claimwork/job.json; start one with: claimwork run IN {layout.out}"
        )
    return job


def create_job(fs: Fs, layout: Layout, wanted: Job, worker: str) -> Job:
    """Create the job, or join the one that somebody else created first; returns the one that stands.

    *worker*: a new id for this alone, whose stage goes with it. Commit point: **link to job.json**. Raises WorkerFault when
    OUT cannot be written.
    """
    try:
        os_makedirs(fs, layout)
        stage = Stage(fs, layout, worker, "job")
        fs.mkdir(stage.directory)
        staged = stage.put(records.encode_job(wanted))
        fs.flush([staged, *layout.directories()])  # whoever sees the job relies on them
        _publish_job(fs, layout, staged)
        fs.flush([layout.job])
        stage.discard(staged)
        job = require_job(fs, layout)
        offer_first_plan(make_store(job, fs, layout, worker, stage), fs, layout)
    except OSError as error:
        raise mount_fault(error, layout.out) from error
    finally:
        remove_stage(fs, layout, worker)
    return job


def _publish_job(fs: Fs, layout: Layout, staged: str) -> None:
    try:
        publish(fs, staged, layout.job, layout.out)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV):
            raise UnfitFilesystem(
                f"{layout.out!r} is on a filesystem ({fs.kind}) without hard links, and claimwork publishes by link(2); "
                "choose an OUT elsewhere"
            ) from error
        raise


def os_makedirs(fs: Fs, layout: Layout) -> None:
    """Make the directories that every job has."""
    for directory in layout.directories():
        fs.mkdir(directory)


def offer_first_plan(store: ClaimStore, fs: Fs, layout: Layout) -> None:
    """Offer the plan ticket that a job starts with, unless planning has begun."""
    if not fs.names(layout.plan):
        store.offer(plan_ticket(FIRST_PLAN))


def default_claims(kind: str) -> str:
    """How to claim on a filesystem of this type unless the user says otherwise."""
    return "rename" if has_atomic_rename(kind) else "marker"


def check_task(job: Job, wanted: Job) -> None:
    """Raise UsageError when a worker was told to do another task than the job's."""
    if (job.task, job.command) != (wanted.task, wanted.command):
        raise UsageError(
            f"the job has {job.describe()}, not {wanted.describe()}: one OUT holds one job; "
            "leave the task out to join it, or choose another OUT"
        )


def check_paths(input_dir: str | None, out: str) -> None:
    """Raise UsageError when IN is missing, or when IN and OUT are not apart."""
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"OUT {out!r} is not a directory; choose another")
    if input_dir is None:
        return
    if not os.path.isdir(input_dir):
        why = "is not a directory" if os.path.exists(input_dir) else "does not exist"
        raise UsageError(f"IN {input_dir!r} {why}; give the directory that holds the inputs")
    inner, outer = os.path.realpath(input_dir), os.path.realpath(out)
    if inner == outer:
        raise UsageError(f"IN and OUT are the same directory, {inner!r}; choose another OUT")
    if inner.startswith(outer.rstrip("/") + "/"):
        raise UsageError(f"IN {inner!r} lies inside OUT {outer!r}; choose an OUT beside it")
    if outer.startswith(inner.rstrip("/") + "/"):
        raise UsageError(f"OUT {outer!r} lies inside IN {inner!r}; choose an OUT beside it")


def prepare_out(out: str) -> None:
    """Create OUT when it is missing. Raises WorkerFault when that fails or when it cannot be written."""
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        raise mount_fault(error, out) from error
    if not os.access(out, os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(out).f_flag & os.ST_RDONLY else errno.EACCES
        raise mount_fault(OSError(code, os.strerror(code)), out)


def folds_names(fs: Fs, directory: str) -> bool:
    """Whether the filesystem takes names that differ only in case or Unicode form for one; tried in *directory*."""
    fs.stage(f"{directory}/probe-a\u0308", b"")
    try:
        return fs.inode(f"{directory}/PROBE-A\u0308") is not None or fs.inode(f"{directory}/probe-\u00e4") is not None
    finally:
        fs.unlink(f"{directory}/probe-a\u0308")
