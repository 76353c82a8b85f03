"""What befalls the hosts of workers: they lose their power or their network, and their clocks are wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.nfs.conftest import PATIENCE, Site

pytestmark = pytest.mark.nfs

MakeSite = Callable[[str], Site]
NAMES = [f"{number:02d}" for number in range(12)]


@pytest.mark.parametrize(("flavour", "claims"), [("v4.2-cached", "marker"), ("v3", "rename")])
def test_a_host_that_lost_its_power_is_replaced(make_site: MakeSite, flavour: str, claims: str) -> None:
    """What it held is run again by a peer on another host, as the second attempt; nobody else is taken for dead."""
    site = make_site(flavour)
    site.put("held", *NAMES)
    site.ship("--task", "tasks:steered", "--claims", claims, *PATIENCE)
    site.worker(3)
    site.wait_for_run("held", host=3)
    survivors = site.workers(1, 2)
    site.let_go(1, 2)

    site.lab.clients[2].guest.kill()
    site.finish(*survivors)

    site.verify()
    ran = site.runs()
    assert sorted(attempt for _, attempt, name in ran if name == "held") == [1, 2]
    assert {attempt for _, attempt, name in ran if name != "held"} == {1}
    told = site.told()
    assert (told["reclaimed"], told["fenced"]) == (1, 0)


@pytest.mark.parametrize(("flavour", "claims"), [("v4.2", "rename"), ("v3", "marker")])
def test_a_host_that_was_cut_off_comes_back_late(make_site: MakeSite, flavour: str, claims: str) -> None:
    """It was given up meanwhile, and another published what it held: what it does now counts for nothing, and is counted."""
    site = make_site(flavour)
    site.put("held", *NAMES)
    site.ship("--task", "tasks:steered", "--claims", claims, *PATIENCE)
    late = site.worker(3)
    site.wait_for_run("held", host=3)
    cable = site.lab.clients[2].cable

    cable.is_cut = True
    site.let_go(1, 2, 3)  # its task ends while nothing that it asks reaches the server
    site.finish(*site.workers(1, 2))
    published = site.inside("out/results")
    cable.is_cut = False
    site.finish(late)

    assert site.inside("out/results") == published
    site.verify(host=3)
    told = site.told()
    assert told["reclaimed"] == 1
    assert told["fenced"] >= 1


def test_clocks_may_be_an_hour_off(make_site: MakeSite) -> None:
    """One host is an hour ahead, one an hour behind: nobody is taken for dead, nothing is run twice, nothing waits."""
    site = make_site("v4.2")
    names = [f"slow-{number:02d}" for number in range(60)]
    site.put(*names)
    site.ship("--task", "tasks:steered", "--patience", "5")
    site.lab.clients[1].skew(3600)
    site.lab.clients[2].skew(-3600)

    site.finish(*site.workers(1, 2, 3))

    site.verify(host=2)
    assert [(1, name) for name in names] == sorted((attempt, name) for _, attempt, name in site.runs())
    told = site.told(host=3)
    assert (told["reclaimed"], told["fenced"], told["trouble"]) == (0, 0, [])


def test_the_lease_of_a_dead_host_holds_nobody_up(make_site: MakeSite) -> None:
    """NFSv4 lends a file to whoever opens it for reading, and lets nobody rename it until the lease is over (10 s here).

    Workers opened their beat for reading and writing: whoever buried one within its lease waited, could not beat, and gave
    itself up, so that all that it held was run again.
    """
    site = make_site("v4.2")
    site.put("held", *NAMES)
    site.ship("--task", "tasks:steered")
    site.worker(3)
    site.wait_for_run("held", host=3)

    states = site.lab.server.guest.shell("cat /proc/fs/nfsd/clients/*/states")

    beats = [line for line in states.splitlines() if "live/" in line]
    assert [line for line in beats if "type: open" in line]
    assert not [line for line in beats if "type: deleg" in line]
