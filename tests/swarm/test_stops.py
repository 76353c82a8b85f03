"""Planned stops, by Swarm's own commands: nothing is charged, and whoever was stopped before the end is replaced."""

from __future__ import annotations

import json

import pytest

from tests.swarm.conftest import NEXT, Site

pytestmark = pytest.mark.swarm


def test_a_node_is_drained(site: Site) -> None:
    """Its tasks end and start elsewhere; what they have in hand may end or goes back."""
    site.put(*(f"{number:03}" for number in range(60)), seconds=0.3)
    site.deploy(REPLICAS="3")
    site.wait_until(lambda: any(run.node == "n2" for run in site.runs()), "a run on n2")

    site.lab.manager.docker("node", "update", "--availability", "drain", "n2")
    site.wait_until(lambda: all(node.name != "n2" for node, _ in site.containers()), "n2 is empty")
    site.finish()

    site.verify()
    site.verify_that_nobody_was_charged()


def test_a_rolling_update_leaves_two_versions_at_work(site: Site) -> None:
    """Replicas are replaced one by one while the others work on; both images share one job."""
    site.put("held")
    site.put(*(f"{number:03}" for number in range(40)), seconds=0.3)
    site.deploy(REPLICAS="3", GRACE="1")
    site.wait_for_containers(3)
    site.wait_for_results(3)

    update = ("service", "update", "-d", "--no-resolve-image", "--image", NEXT, f"{site.name}_worker")
    site.lab.manager.docker(*update)
    site.wait_until(lambda: len(images(site)) == 2, "two versions at once")
    site.wait_until(lambda: images(site) == {NEXT}, "the new version alone")
    site.say(".go")
    site.finish()

    site.verify()
    site.verify_that_nobody_was_charged()


def images(site: Site) -> set[str]:
    """The images of the workers that run."""
    told = [json.loads(node.docker("inspect", container))[0] for node, container in site.containers()]
    return {each["Config"]["Image"] for each in told}


def test_a_task_that_is_longer_than_the_grace_is_handed_back(site: Site) -> None:
    """A worker gives its input two seconds to end; Swarm would kill it twelve later. The input is run again, uncharged."""
    site.put("held", "a", "b")
    site.deploy(REPLICAS="1", GRACE="2")
    site.wait_for_run("held")

    site.scale(0)
    site.wait_for_containers(0)
    site.scale(2)
    site.wait_for_run("held", 2)
    site.say(".go")
    site.finish()

    site.verify()
    site.verify_that_nobody_was_charged()


def test_a_worker_that_docker_stops_early_is_replaced_and_one_that_is_done_is_not(site: Site) -> None:
    """It ends with 143, which Swarm takes for a failure. With 0 it would be gone for good, as the others are at the end."""
    site.put("held", "a", "b")
    site.deploy(REPLICAS="2", GRACE="0")
    site.wait_for_run("held")
    site.wait_for_containers(2)

    for node, container in site.containers():
        node.docker("stop", container)
    site.wait_for_containers(2)
    stopped = [task for task in site.tasks() if task.desired == "shutdown"]
    site.say(".go")
    site.finish()

    assert {(task.state, task.code, task.error) for task in stopped} == {("failed", 143, "task: non-zero exit (143)")}
    ended = site.tasks()
    assert {(task.name, task.code) for task in ended if task.state == "complete"} == {
        (f"{site.name}_worker.{slot}", 0) for slot in (1, 2)
    }
    for service in ("plan", "finalizer"):  # workers would have built the summary without a finalizer that fails
        assert [(task.state, task.code) for task in site.tasks(service)] == [("complete", 0)]
    site.verify()
    site.verify_that_nobody_was_charged()


def test_workers_that_stay_take_what_is_added_later(site: Site) -> None:
    """A standing service: the summary is there, workers wait, and `plan` brings them more."""
    site.put("a", "b")
    site.deploy(REPLICAS="2", STAY="1")
    site.finish("finalizer")
    before = {container for _, container in site.containers()}

    site.put("c")
    mounts = ("-v", f"{site.inputs}:/app/data:ro", "-v", f"{site.out}:/app/output")
    site.lab.manager.docker("run", "--rm", *mounts, "claimwork", "plan")
    site.wait_until(lambda: '"inputs": 3' in (site.out / "summary.json").read_text(), "a summary of three inputs")

    site.verify()
    assert {container for _, container in site.containers()} == before
    assert len(before) == 2
