"""scripts/nfs-lab as a person uses it, with a lab of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import skip_for
from tests.nfs.lab import needs
from tests.nfs.lab.machine import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "samples"


def lab(*args: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """The program behind the script."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tests/nfs/lab/command.py"), *args],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * LIMIT_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.nfs
def test_a_job_and_its_faults_at_the_prompt() -> None:
    """What ends in & goes on while its host is cut off or lost; each program's end is told, and so is what was lost."""
    skip_for(needs.missing())
    lines = f"""
        # inputs of this machine, workers on three
        all claimwork worker {SAMPLES} out --quiet --patience 10 &
        delay all 1
        cut client2
        heal client2
        wait
        client1 claimwork check out && echo all is well
        client3 sleep 600 &
        client1 sleep 600 &
        stop client1
        kill client3
        wait
        client3 hostname
        boot client3
        client3 hostname && test -s out/summary.json
        all false
        cut client4
    """

    done = lab("shell", lines=lines)

    assert (done.returncode, done.stderr) == (0, "")
    ends = re.findall(r"^(client\d): claimwork worker .* ended with exit code (\d+)$", done.stdout, re.MULTILINE)
    assert sorted(ends) == [("client1", "0"), ("client2", "0"), ("client3", "0")], done.stdout
    told = done.stdout.splitlines()
    for line in (
        "client1 | all is well",
        "client1: sleep 600 ended with exit code 143",
        "client3: sleep 600 was lost with its host",
        "nfs-lab: client3 has no power; `boot client3`",
        "client3 | client3",
        "exit code 1",
        "nfs-lab: what is 'cut client4'? `help` tells what can be done here",
    ):
        assert line in told, done.stdout
    assert told.count("client3 | client3") == 1


@pytest.mark.nfs
def test_the_worst_exit_code_of_all_hosts_is_that_of_run() -> None:
    """And lines come with the name of the host."""
    skip_for(needs.missing())

    done = lab("run", "--clients", "2", "--", "sh", "-c", "hostname; test $(hostname) = client1 || exit 7")

    assert done.returncode == 7
    assert sorted(done.stdout.splitlines()) == ["client1 | client1", "client2 | client2"]
