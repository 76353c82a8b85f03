"""Filesystems that need no daemon, each in a kernel of its own; scripts/zoo tries the others, and harder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import skip_for
from tests.zoo import needs
from tests.zoo.habitat import open_habitat
from tests.zoo.species import QUICK as QUICK_SPECIES
from tests.zoo.species import SPECIES
from tests.zoo.torture import QUICK, torture

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.nfs
@pytest.mark.parametrize("name", QUICK_SPECIES)
def test_torture_shows_what_doctor_says(name: str) -> None:
    """Fit by both ways to claim: no claim has two owners and no result is lost when a worker, or its host, is killed."""
    species = SPECIES[name]
    skip_for(needs.missing(species))

    with open_habitat(species) as habitat:
        row = torture(species, habitat, QUICK, print)

    assert (row.doctor["verdict"], row.doctor["claims"]) == ("fit", "rename")
    assert [(job.claims, job.complaints) for job in row.jobs] == [("rename", []), ("marker", [])]
    for job in row.jobs:
        assert (job.double, job.nobody, job.lost) == (0, 0, 0)
        assert (job.raced, job.kills, job.lost_hosts) == (QUICK.raced, QUICK.kills, int(species.survives))


def test_an_unknown_filesystem() -> None:
    """One line says which there are."""
    command = [sys.executable, str(ROOT / "tests/zoo/command.py"), "ext5"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )

    assert done.returncode == 2
    assert "there is no ext5 here; there are tmpfs, ext4" in done.stderr
