"""What programs and tests that need much of a machine share: Debian's packages, an end by signal, a reason not to run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_POLICY = Path("/usr/sbin/policy-rc.d")  # Debian asks it before a package starts its services
_START_NOTHING = "#!/bin/sh\nexit 101\n"


def can_install() -> bool:
    """Whether this process may install packages of Debian's."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_packages(packages: Sequence[str]) -> str:
    """Install packages; no service is started. What went wrong, in one line, or nothing."""
    with _no_services():
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", "-qq", *words],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                return f"apt-get {words[0]} failed: {done.stderr.strip().splitlines()[-1:]}"
    return ""


@contextmanager
def _no_services() -> Iterator[None]:
    """Forbid packages to start services; a machine that has a policy of its own keeps that."""
    try:
        with _POLICY.open("x") as file:
            file.write(_START_NOTHING)
    except FileExistsError:
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()


def exit_on_signals() -> None:
    """SIGTERM and SIGHUP end this process like Ctrl-C, once, so that what it made is taken down."""

    def end(number: int, _frame: object) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)  # tearing down takes less than a second, and happens once
        sys.exit(128 + number)

    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, end)


def skip_for(why_not: str) -> None:
    """Skip the test when there is a reason; on CI that is a failure."""
    if why_not and os.environ.get("CI") == "true":
        pytest.fail(why_not)
    if why_not:
        pytest.skip(why_not)
