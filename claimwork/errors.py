"""Everything claimwork raises on purpose, and the exit code that each becomes.

    ClaimworkError            1   anything below; str() is the one line a user reads
    ├── UsageError            2   the command, its paths or its options do not fit together
    ├── NotAJob              10   no job here, or one this release cannot work on
    ├── UnfitFilesystem      11   the mount lacks something the protocol relies on
    ├── WorkerFault          12   this worker cannot work: full disk, wrong or unwritable mount, all fails
    ├── RecordError           1   bytes on the mount are not the record they should be
    └── Fenced                –   this worker was given up by its peers; it starts afresh (internal)

A message says what failed, which path, why in words, and what to run next.
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class Exit(IntEnum):
    """Every exit code of the command line; the table in docs/cli.md is made from this."""

    COMPLETE = 0, "complete: nothing is left to do"
    UNEXPECTED = 1, "unexpected error; please report it"
    USAGE = 2, "usage: the command, its paths or its options do not fit together"
    WORK_REMAINS = 3, "work remains"
    QUARANTINED = 4, "complete, but some inputs are quarantined"
    NOT_A_JOB = 10, "not a job, or a job of another format version"
    UNFIT = 11, "the filesystem is unfit"
    WORKER_FAULT = 12, "worker-level fault: full disk, wrong or unwritable mount, all inputs fail here"
    SIGINT = 130, "stopped by SIGINT while work remained"
    SIGTERM = 143, "stopped by SIGTERM while work remained"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Exit:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class ClaimworkError(Exception):
    """Base of all deliberate errors."""

    exit_code = Exit.UNEXPECTED


class UsageError(ClaimworkError):
    """Options or paths that cannot be meant."""

    exit_code = Exit.USAGE


class NotAJob(ClaimworkError):
    """There is no job at this path, or its format is not ours."""

    exit_code = Exit.NOT_A_JOB


class UnfitFilesystem(ClaimworkError):
    """The mount cannot give a guarantee that the protocol needs."""

    exit_code = Exit.UNFIT


class WorkerFault(ClaimworkError):
    """The fault lies with this worker or its mount: no input is charged for it."""

    exit_code = Exit.WORKER_FAULT


class RecordError(ClaimworkError):
    """A record or name read from the mount is not well formed."""


class Fenced(ClaimworkError):
    """Peers have taken back what this worker held; nothing it does counts any more."""


# Errors of the mount or the machine, never of an input: whoever meets one hands its work back.
_MOUNT_ERRNOS = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the filesystem is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "the operation is not permitted",
    errno.ENFILE: "the system has too many open files",
    errno.EMFILE: "this process has too many open files",
    errno.ENOMEM: "memory is exhausted",
    errno.EIO: "the device reports an input/output error",
    errno.ENOTCONN: "the mount is not connected",
    errno.EHOSTDOWN: "the file server does not answer",
    errno.ETIMEDOUT: "the file server does not answer",
    errno.EMLINK: "a file has too many links",
}
_REMEDIES = {
    errno.ENOSPC: "free some space, then start workers again: nothing was lost",
    errno.EDQUOT: "free some space, then start workers again: nothing was lost",
    errno.EROFS: "mount it read-write",
}


def mount_fault(error: OSError, path: str) -> WorkerFault:
    """Words for an OSError met on OUT: which path, why, what to do."""
    code = error.errno or 0
    why = _MOUNT_ERRNOS.get(code) or (error.strerror or str(error)).lower()
    if code in (errno.EACCES, errno.EPERM):
        uid = os.geteuid()
        remedy = (
            f"this process has uid {uid}: give that uid write permission (chown {uid} on the host), "
            "or run claimwork as the owner (docker run --user)"
        )
    else:
        remedy = _REMEDIES.get(code, "mend the mount, then start workers again: nothing was lost")
    return WorkerFault(f"cannot write {path!r}: {why}; {remedy}")


def is_mount_errno(code: int | None) -> bool:
    """True when *code* speaks of the mount or the machine rather than of one file."""
    return code in _MOUNT_ERRNOS
