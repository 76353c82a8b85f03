"""Real processes struck at their system calls; a spread sample, or all with scripts/crash-sweep --full."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claimwork.fs import filesystem_kind
from tests.crash.sweep import COMMANDS, Sweep, Zygote, spread

IS_FULL = os.environ.get("CRASH_SWEEP") == "full"
SAMPLE = {"plan": 14, "worker": 22, "reduce": 8}

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
