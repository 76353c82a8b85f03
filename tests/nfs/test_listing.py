"""What clients remember of directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nfs.lab.lab import DISK, Lab

pytestmark = pytest.mark.nfs


def test_a_name_made_in_the_tick_of_a_listing_is_seen(lab: Lab) -> None:
    """The directory's times are the same before and after, so a v3 client that merely opens it again lists what it had.

    Two doctors waited for each other's messages until they gave up, each in one of ten runs: a worker would have waited for a
    done record that was there.
    """
    seen, made = lab.share("v3"), lab.share("v3-nolock")
    guest = lab.clients[0].guest
    guest.run("mkdir", f"{made}/ticks")

    script = str(Path(__file__).with_name("same_tick.py"))
    found = json.loads(guest.run("python", script, f"{seen}/ticks", f"{made}/ticks"))
    lab.server.guest.run("rm", "-r", f"{DISK}/ticks")

    assert found["plain missed"] > 0  # or the next line would say nothing
    assert found["names missed"] == 0
