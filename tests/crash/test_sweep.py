"""Real processes struck at their system calls; a spread sample, or all with scripts/crash-sweep --full."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claimwork.fs import filesystem_kind
from tests.crash import power_cut
from tests.crash.sweep import COMMANDS, POWER_FAULTS, Point, Sweep, Zygote, spread
from tests.machine import skip_for

IS_FULL = os.environ.get("CRASH_SWEEP") == "full"
SAMPLE = {"plan": 14, "worker": 22, "reduce": 8}
POWER_SAMPLE = {"plan": 3, "worker": 6, "reduce": 2}

pytestmark = pytest.mark.strace


@pytest.fixture(params=["disk", "tmpfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty directory on each filesystem."""
    if request.param == "disk":
        yield tmp_path
        return
    if not Path("/dev/shm").is_dir():
        pytest.skip("no tmpfs at /dev/shm: only Linux has one")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="claimwork-crash-") as made:
        yield Path(made)


@pytest.mark.parametrize("claims", ["rename", "marker"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_struck_at_its_calls(
    root: Path, command: str, claims: str, record_property: Callable[[str, object], None]
) -> None:
    """Whichever call it dies in, or gets an error from, a fresh worker publishes the same and nothing is amiss."""
    zygote = Zygote(root / "zygote.log")
    try:
        sweep = Sweep(zygote, root, command, claims)
        points = sweep.points()
        for point in points if IS_FULL else spread(points, SAMPLE[command] // (1 if claims == "rename" else 2)):
            sweep.strike(point)
    finally:
        zygote.close()

    record_property("crash sweep", sweep.tally.row(command, claims, filesystem_kind(str(root))))
    assert not sweep.tally.violations, "\n".join(sweep.tally.violations)
    missed = sweep.tally.tried - sweep.tally.struck.total()  # two runs are not alike call for call
    assert missed <= 1 + sweep.tally.tried * 0.1


@pytest.mark.parametrize("claims", ["rename", "marker"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_loses_its_power_under_a_command(
    tmp_path: Path, command: str, claims: str, record_property: Callable[[str, object], None]
) -> None:
    """After whichever call: what was reported done is there and whole, and a fresh worker publishes the same."""
    skip_for(power_cut.why_not())
    zygote = Zygote(tmp_path / "zygote.log")
    try:
        sweep = power_cut.PoweredSweep(zygote, tmp_path, command, claims)
        try:
            for fault in POWER_FAULTS:
                points = sweep.points((fault,))
                at_the_end = Point(fault, power_cut.AT_THE_END, 1, in_child=False)
                for point in [*(points if IS_FULL else spread(points, POWER_SAMPLE[command])), at_the_end]:
                    sweep.strike(point)
        finally:
            sweep.close()
    finally:
        zygote.close()

    record_property("crash sweep", sweep.tally.row(command, claims, "ext4 without power"))
    assert not sweep.tally.violations, "\n".join(sweep.tally.violations)
    missed = sweep.tally.tried - sweep.tally.struck.total()  # two runs are not alike call for call
    assert missed <= 1 + sweep.tally.tried * 0.1
