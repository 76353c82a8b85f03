"""Errors and exit codes: the contract with scripts."""

from __future__ import annotations

import errno

import pytest

from claimwork.errors import (
    ClaimworkError,
    Exit,
    Fenced,
    NotAJob,
    RecordError,
    UnfitFilesystem,
    UsageError,
    WorkerFault,
    is_mount_errno,
    mount_fault,
)


def test_exit_codes_never_change() -> None:
    """Scripts, systemd units and Swarm restart policies rest on them."""
    assert {each.name: each.value for each in Exit} == {
        "COMPLETE": 0,
        "UNEXPECTED": 1,
        "USAGE": 2,
        "WORK_REMAINS": 3,
        "QUARANTINED": 4,
        "NOT_A_JOB": 10,
        "UNFIT": 11,
        "WORKER_FAULT": 12,
        "SIGINT": 130,
        "SIGTERM": 143,
    }


def test_each_code_says_what_it_means() -> None:
    """In different words."""
    assert len({each.meaning for each in Exit}) == len(Exit)


def test_each_error_has_its_code() -> None:
    """The tree in the module's docstring."""
    assert {
        each: each.exit_code
        for each in (ClaimworkError, UsageError, NotAJob, UnfitFilesystem, WorkerFault, RecordError, Fenced)
    } == {
        ClaimworkError: Exit.UNEXPECTED,
        UsageError: Exit.USAGE,
        NotAJob: Exit.NOT_A_JOB,
        UnfitFilesystem: Exit.UNFIT,
        WorkerFault: Exit.WORKER_FAULT,
        RecordError: Exit.UNEXPECTED,
        Fenced: Exit.UNEXPECTED,
    }


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_a_mount_fault_tells_what_to_do(code: int) -> None:
    """Which path, why, and the remedy."""
    words = str(mount_fault(OSError(code, "system words"), "/out"))

    assert words.startswith("cannot write '/out': ")
    assert "system words" not in words
    assert "; " in words
    assert is_mount_errno(code)


def test_other_errors_keep_the_system_words() -> None:
    """And do not count as faults of the mount."""
    assert "system words" in str(mount_fault(OSError(errno.EXDEV, "System words"), "/out"))
    assert not is_mount_errno(errno.ENOENT)
    assert not is_mount_errno(None)
