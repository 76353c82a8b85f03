"""Whole jobs by workers on two and three hosts that nothing befalls."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nfs.conftest import PATIENCE, Site

pytestmark = pytest.mark.nfs

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
MakeSite = Callable[[str], Site]


@pytest.mark.parametrize(
    ("flavour", "claims", "hosts"),
    [
        ("v4.2", "rename", (1, 2, 3)),
        ("v4.2", "marker", (1, 2)),
        ("v4.2-cached", "rename", (1, 2)),
        ("v4.2-cached", "marker", (1, 2, 3)),
        ("v3", "rename", (1, 2, 3)),
        ("v3-nolock", "marker", (1, 2)),
    ],
)
def test_hosts_share_a_job(make_site: MakeSite, flavour: str, claims: str, hosts: tuple[int, ...]) -> None:
    """Two or three of them give each input to one worker, once, and the same results as one alone."""
    site = make_site(flavour)
    names = [f"{number:02d}" for number in range(30)]
    site.put(*names)
    site.ship("--task", "tasks:steered", "--claims", claims)

    site.finish(*site.workers(*hosts))

    site.verify(host=hosts[-1])
    assert [(1, name) for name in names] == sorted((attempt, name) for _, attempt, name in site.runs())
    told = site.told()
    assert (told["fenced"], told["reclaimed"], told["trouble"]) == (0, 0, [])


def test_words_are_counted(make_site: MakeSite) -> None:
    """The main job on the sample texts, whose names are odd, by three hosts."""
    site = make_site("v4.2")
    shutil.copytree(SAMPLES, site.local / "in", dirs_exist_ok=True)
    site.ship()

    site.finish(*site.workers(1, 2, 3))

    site.verify()


@pytest.mark.parametrize("flavour", ["v3", "v4.2-cached"])
def test_inputs_are_added_from_another_host(make_site: MakeSite, flavour: str) -> None:
    """Workers that are busy with the first inputs take the new ones as well, and the summary covers both."""
    site = make_site(flavour)
    site.put("held", "first")
    site.ship("--task", "tasks:steered")
    worker = site.worker(1)
    site.wait_for_run("held")

    site.add("second", "third")
    planned = site.call(2, "plan", "in", "out")
    site.let_go(1)
    site.finish(worker)

    assert planned.code == 0, planned
    site.verify(host=2)
    assert site.told()["generation"] == 2


def test_a_finalizer_on_another_host_misses_nothing(make_site: MakeSite) -> None:
    """It looked too early, so its caches say that there is nothing; right after the last commit it sees all the same."""
    site = make_site("v4.2-cached")
    names = [f"{number:02d}" for number in range(8)]
    site.put("held", *names)
    site.ship("--task", "tasks:steered")
    worker = site.worker(1)
    site.wait_for_run("held", host=1)
    other = site.worker(2)
    site.wait_until(lambda: len(site.done()) == len(names), "all that is not held")
    early = site.call(3, "reduce", "out")
    site.let_go(1)
    site.wait_until(lambda: len(site.done()) == len(names) + 1, "the last commit")

    right = site.call(3, "reduce", "out")
    site.finish(worker, other)

    assert (early.code, right.code) == (3, 0), (early, right)
    site.verify(host=3)


def test_a_job_is_scaled_up_and_down(make_site: MakeSite) -> None:
    """From one host to three and back: whoever is told to stop hands back what it holds, and no input is charged."""
    site = make_site("v4.2")
    names = [f"slow-{number:02d}" for number in range(40)]
    site.put(*names)
    site.ship("--task", "tasks:steered", *PATIENCE)
    first = site.worker(1)
    site.wait_for_results(3)
    others = site.workers(2, 3)
    site.wait_until(lambda: {"client2", "client3"} <= {host for host, _, _ in site.runs()}, "all hosts at work")

    for worker in others:
        worker.signal(signal.SIGTERM)
    ended = [worker.wait() for worker in others]
    site.finish(first)

    assert {each.code for each in ended} <= {0, 143}, ended
    site.verify()
    assert {attempt for _, attempt, _ in site.runs()} == {1}
    assert (site.told()["reclaimed"], site.told()["fenced"]) == (0, 0)
