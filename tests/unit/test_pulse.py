"""What a health check concludes from the pulses of a container's processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from claimwork.policy import HEALTHY_WITHIN
from claimwork.pulse import Pulse, ailment
from claimwork.testing import ManualClock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a pulse")


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A process table with this process in it, and no other of this machine."""
    (tmp_path / str(os.getpid())).symlink_to("/proc/self")
    return tmp_path


def test_a_worker_is_well_until_its_last_beat_is_four_patiences_old(container: Path) -> None:
    """T is the one of its job."""
    clock = ManualClock()
    pulse = Pulse(clock.monotonic)
    pulse.beat(10.0)
    clock.advance(HEALTHY_WITHIN * 10.0)

    assert not ailment(clock.monotonic, str(container))
    clock.advance(1.0)
    assert (
        ailment(clock.monotonic, str(container)) == "the last beat of this worker that reached the mount was 41 s ago"
    )
    pulse.beat(10.0)
    assert not ailment(clock.monotonic, str(container))


def test_where_no_worker_runs_none_is_well(tmp_path: Path) -> None:
    """A container in which something else runs, or nothing any more."""
    assert ailment(ManualClock().monotonic, str(tmp_path)) == "no worker runs here"
