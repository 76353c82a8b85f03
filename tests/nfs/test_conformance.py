"""The suites of the filesystem and of both claim stores, run in a guest on a mount of each flavour.

They are those of tests/protocol; pytest's temporary directory is on the mount, so what they call a disk is NFS. What they
inject by themselves, at each call in turn, is the same on every filesystem: one flavour gets that as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.nfs.lab.lab import DISK, FLAVOURS, Lab

pytestmark = pytest.mark.nfs

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("tests/protocol/test_fs.py", "tests/protocol/test_claims.py")
SWEEPS = ("answered_with_an_error", "dies_in_mid_move", "every_interleaving", "fenced_at_every_call")
IS_FULL = os.environ.get("NFS_CONFORMANCE") == "full"
# A network mount flushes when it stages, so there flush() is nothing to do, and cannot find that a file is missing.
OTHERWISE_ON_NFS = "test_flush_takes_files_and_directories"
LIMIT_S = 900.0


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_suites_pass_on_a_mount(lab: Lab, flavour: str) -> None:
    """Every call behaves on this mount as on a local disk, and both ways to claim work there."""
    share = lab.share(flavour)
    left_out = [OTHERWISE_ON_NFS, *(() if IS_FULL or flavour == "v4.2" else SWEEPS)]
    chosen = f"disk and not ({' or '.join(left_out)})"
    argv = ["pytest", "-q", *SUITES, "-k", chosen, "-p", "no:cacheprovider", "-o", "tmp_path_retention_policy=all"]

    ended = lab.clients[0].guest.call(*argv, f"--basetemp={share}/suites", cwd=str(ROOT), limit_s=LIMIT_S)
    lab.server.guest.run("rm", "-r", f"{DISK}/suites")

    assert ended.code == 0, ended.stdout + ended.stderr
    passed = re.search(r"^(\d+) passed(?:, \d+ deselected)? in", ended.stdout, re.MULTILINE)
    assert passed is not None, ended.stdout
    assert int(passed[1]) > 100
