"""A worker under which everything fails stops itself; the inputs are not charged for it."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Bench

TASK = """
import os
from pathlib import Path

if os.environ.get("BROKEN") == "import":
    os.kill(os.getpid(), 4)  # an instruction that this processor does not have

def run(path):
    with open(Path(__file__).parent / "runs", "a") as file:
        file.write(f"{os.getppid()} 0 0 {path.name}\\n")
    if path.name.startswith("bad"):
        raise ValueError(path.name)
    if how := os.environ.get("BROKEN"):
        if how == "crash":
            os._exit(9)
        raise ImportError("no module named numpy")
    return path.stat().st_size
"""
NAMES = [f"{number:02d}" for number in range(30)]


@pytest.fixture
def broken(bench: Bench) -> Bench:
    """Thirty inputs, and a task that fails wherever BROKEN is set."""
    (bench.root / "brittle.py").write_text(TASK)
    bench.put(*NAMES)
    return bench


@pytest.mark.parametrize("how", ["raise", "crash"])
@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_a_broken_image_quarantines_nothing(broken: Bench, how: str, claims: str) -> None:
    """Nothing has succeeded anywhere: after eight inputs the worker says so in one line and ends with code 12, however
    often it is started; a sound one then finds every input at its first attempt.
    """
    options = ("--task", "brittle:run", "--claims", claims)
    broken.plan(*options)
    for _ in range(3):
        line = broken.fails(12, "worker", "in", "out", "--quiet", "--slots", "1", env={"BROKEN": how})

        assert "the first 8 inputs all failed here, and nothing in the job has succeeded yet" in line
        assert "is the image whole" in line
    assert broken.inside("failures") == []

    broken.run("--quiet")
    assert len(broken.results()) == 30
    assert broken.is_settled()


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_a_task_that_ends_the_process_as_it_is_loaded(broken: Bench, claims: str) -> None:
    """No input had begun, so none is charged: after three children the worker says so and ends with code 12. It reduces
    nothing either.
    """
    broken.plan("--task", "brittle:run", "--claims", claims)

    line = broken.fails(12, "worker", "in", "out", "--quiet", env={"BROKEN": "import"})

    assert "3 child processes in a row ended as they loaded the task" in line
    assert "killed by SIGILL" in line
    assert broken.inside("failures") == broken.inside("done") == []
    broken.run("--quiet")
    assert len(broken.results()) == 30

    (summary,) = (broken.out / ".claimwork/summary").iterdir()
    summary.unlink()
    line = broken.fails(12, "reduce", "out", "--quiet", env={"BROKEN": "import"})
    assert "killed by SIGILL" in line
    assert broken.inside("failures") == []
    assert json.loads(broken.ok("reduce", "out", "--quiet").stdout) == {"inputs": 30, "quarantined": 0}


def test_a_broken_replica_beside_sound_ones(broken: Bench) -> None:
    """What succeeded elsewhere fails here: two such controls, and the worker stops, with a handful of inputs left too."""
    broken.run("--task", "brittle:run", "--quiet")
    broken.put("late-1", "late-2")
    broken.plan()

    line = broken.fails(12, "worker", "in", "out", "--quiet", env={"BROKEN": "raise"})

    assert "inputs that succeeded elsewhere fail here as well" in line
    assert "ImportError: no module named numpy" in line
    assert broken.inside("failures") == []
    broken.run("--quiet")
    assert len(broken.results()) == 32


def test_bad_inputs_are_no_fault_of_a_fresh_worker(broken: Bench) -> None:
    """Only bad inputs are left, and the worker that meets them has succeeded at nothing: a control clears it."""
    broken.run("--task", "brittle:run", "--quiet", "--max-attempts", "2", "--backoff", "0")
    bad = [f"bad{number:02d}" for number in range(20)]
    broken.put(*bad)
    before = len(broken.runs())

    broken.run("--quiet", code=4)

    assert sorted(broken.reports()) == [f"{name}.json" for name in bad]
    controls = [ran.input for ran in broken.runs()[before:] if ran.input in NAMES]
    assert 1 <= len(controls) <= 4  # rarer and rarer
    assert len(broken.results()) == 30
    assert broken.is_settled()


def test_a_bad_first_input_and_many_later_are_no_fault_of_a_worker(broken: Bench) -> None:
    """The doubt that the first one raised, when there was no control yet, is over: for the later ones one is looked for."""
    (broken.root / "brittle.py").write_text(
        """
from pathlib import Path

def run(path):
    runs = Path(__file__).parent / "runs"
    seen = runs.read_text().split() if runs.exists() else []
    if path.name not in seen:
        runs.write_text(" ".join([*seen, path.name]))
        seen.append(path.name)
    if not 0 < seen.index(path.name) <= 10:
        raise ValueError(path.name)
    return 1
"""
    )

    broken.run("--task", "brittle:run", "--max-attempts", "1", "--slots", "1", "--quiet", code=4)

    assert (len(broken.results()), len(broken.reports())) == (10, 20)


def test_a_worker_whose_mount_vanishes_in_mid_run(broken: Bench) -> None:
    """It has succeeded before, so failures are charged at once; eight in a row, and two controls tell whose fault it is."""
    vanishes = TASK.replace('how := os.environ.get("BROKEN")', "how := count > 5 and 'raise'")
    count = '    count = len((Path(__file__).parent / "runs").read_text().splitlines())\n'
    (broken.root / "brittle.py").write_text(vanishes.replace("    if path.name", f"{count}    if path.name", 1))
    broken.plan("--task", "brittle:run")

    line = broken.fails(12, "worker", "in", "out", "--quiet", "--slots", "1")

    assert "inputs that succeeded elsewhere fail here as well" in line
    assert [name.rpartition(".a")[2] for name in broken.inside("failures")] == ["1"] * 7
    (broken.root / "brittle.py").write_text(TASK)
    broken.run("--quiet")
    assert len(broken.results()) == 30


def test_never_doubted(broken: Bench) -> None:
    """With --fault-after 0 the inputs are charged, whoever is to blame."""
    ended = broken.run(
        "--task", "brittle:run", "--fault-after", "0", "--max-attempts", "1", code=4, env={"BROKEN": "raise"}
    )

    assert "30 of them quarantined" in ended.stderr
    assert len(broken.reports()) == 30
