"""Containers and nodes that are killed, stand still or are cut off: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import pytest

from tests.swarm.conftest import Run, Site
from tests.swarm.lab.node import Node

pytestmark = pytest.mark.swarm

NAMES = [f"{number:02d}" for number in range(12)]


def container_of(site: Site, run: Run) -> tuple[Node, str]:
    """The container that an execution is in; it runs on."""
    for service in ("worker", "finalizer", "plan"):
        for node, container in site.containers(service):
            if container.startswith(run.container):
                return node, container
    pytest.fail(f"the container of {run} is gone")


def kill(site: Site, run: Run) -> None:
    """Kill -9 of the container that an execution is in."""
    node, container = container_of(site, run)
    node.docker("kill", "-s", "KILL", container)


def test_each_service_may_be_killed_in_mid_work(site: Site) -> None:
    """Kill -9 of the planner as soon as there is a job, of a worker in mid-input, of whoever reduces in mid-reduce."""
    site.put(*(f"{number:03}" for number in range(400)), "held")
    site.say(".hold-reduce")
    site.deploy(REPLICAS="2")
    site.wait_until((site.out / ".claimwork/job.json").exists, "a job")
    for node, container in site.containers("plan"):
        node.call("kill", "-s", "KILL", container)

    kill(site, site.wait_for_run("held"))
    site.wait_for_run("held", 2)
    site.say(".go")
    kill(site, site.wait_for_run("reduce"))
    site.wait_for_run("reduce", 2)
    site.say(".go-reduce")
    site.finish()

    site.verify()
    assert [run.attempt for run in site.runs("held")] == [1, 2]
    others = [run.input for run in site.runs() if run.input not in ("held", "reduce")]
    assert sorted(others) == [f"{number:03}" for number in range(400)]


def test_a_container_that_was_paused_for_longer_than_t_comes_back_late(site: Site) -> None:
    """Another worker has its input by then; what the paused one does when it wakes up counts for nothing, and is counted."""
    site.put("held", *NAMES)
    site.deploy(REPLICAS="2", PATIENCE="3")
    node, container = container_of(site, site.wait_for_run("held"))

    node.docker("pause", container)
    second = site.wait_for_run("held", 2)
    assert not container.startswith(second.container)
    site.say(".go")
    site.wait_for_results(len(NAMES) + 1)
    node.docker("unpause", container)
    site.finish()

    site.verify()
    assert site.status()["fenced"] == 1


def test_a_node_is_lost_with_its_tasks(site: Site) -> None:
    """Power loss: Swarm starts its tasks elsewhere, and the input that one of them held is run again."""
    site.put("held", *NAMES)
    site.deploy(REPLICAS="3")
    first = site.wait_for_run("held")
    lost, _ = container_of(site, first)
    if lost is site.lab.manager:  # the manager is not to be lost: another one is to hold the input
        kill(site, first)
        first = site.wait_for_run("held", 2)
        lost, _ = container_of(site, first)
    before = len(site.runs("held"))

    lost.kill()
    second = site.wait_for_run("held", before + 1)
    site.say(".go")
    site.finish()

    assert second.node != first.node
    site.verify()


def test_a_node_that_is_cut_off_works_on_under_numbers_that_are_given_twice(site: Site) -> None:
    """Swarm replaces its tasks while they live: two tasks have one slot. The share is all that they need, so nobody minds."""
    site.put("held")
    site.put(*(f"{number:03}" for number in range(60)), seconds=0.2)
    site.deploy(REPLICAS="3")
    site.wait_for_containers(3)
    cut = site.lab.nodes[2]
    site.wait_until(lambda: any(run.node == cut.name for run in site.runs()), "a run on n3")

    cut.cut()
    site.wait_for_containers(4)
    site.say(".go")
    site.wait_until((site.out / "summary.json").exists, "the summary")
    cut.mend()
    site.finish()

    site.verify()
    site.verify_that_nobody_was_charged()
