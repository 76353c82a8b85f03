"""Doctor on mounts between kernels of their own."""

from __future__ import annotations

import json

import pytest

from tests.nfs.conftest import PROGRAM
from tests.nfs.lab.lab import Lab

pytestmark = pytest.mark.nfs


@pytest.mark.parametrize(("flavour", "sees_locks"), [("v4.2", True), ("v3-nolock", False)])
def test_two_hosts_examine_a_mount(lab: Lab, flavour: str, sees_locks: bool) -> None:
    """NFS is fit: of two hosts exactly one wins each name, and each sees what the other wrote. Locks are told, not needed."""
    share = lab.share(flavour)
    argv = (PROGRAM, "doctor", share, "--pair", "lab", "--json")

    other = lab.clients[1].guest.start(*argv)
    mine = lab.clients[0].guest.call(*argv, limit_s=300.0)
    theirs = other.wait(300.0)

    assert (mine.code, theirs.code) == (0, 0), (mine, theirs)
    for ended in (mine, theirs):
        told = json.loads(ended.stdout)
        assert (told["verdict"], told["claims"], told["paired"]) == ("fit", "rename", True)
        assert told["type"].startswith("nfs")
        words = {each["probe"]: each["words"] for each in told["findings"]}
        assert "0 double winners, 0 without a winner" in words["link between two"]
        assert "0 double winners, 0 without a winner" in words["rename between two"]
        assert ("is seen by the other" in words["lock between two"]) == sees_locks
        amiss = {each["probe"] for each in told["findings"] if not each["ok"] and each["weight"] != "fact"}
        assert amiss <= {"space", "listing lag"}  # the lab's disk is small, and its machines may be slow
