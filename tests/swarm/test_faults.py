"""Replicas that cannot work, and what Swarm makes of it: they end with one line, are replaced, and nobody is charged."""

from __future__ import annotations

import os

import pytest

from tests.swarm.conftest import NEXT, Site

pytestmark = pytest.mark.swarm


def test_a_node_with_the_wrong_mount_does_no_harm(site: Site) -> None:
    """Its replicas find no job where the results should be, say so and end with 12, again and again; the others finish."""
    site.put(*(f"{number:03}" for number in range(40)), seconds=0.2)
    manager, wrong = site.lab.manager, site.lab.nodes[2]
    manager.docker("node", "update", "--availability", "drain", wrong.name)
    site.deploy(REPLICAS="2", JOIN_TIMEOUT="1")
    site.wait_for_results(1)

    wrong.inside("mount", "-t", "tmpfs", "-o", "mode=1777", "elsewhere", str(site.out))
    manager.docker("node", "update", "--availability", "active", wrong.name)
    site.scale(4)
    site.wait_until(lambda: any(task.node == "n3" and task.code == 12 for task in site.tasks()), "a task on n3 fails")
    site.wait_until((site.out / "summary.json").exists, "the summary")
    said = site.log()
    wrong.inside("umount", str(site.out))
    site.finish()

    assert "no job appeared in '/app/output' within 1 s: is the right directory mounted there?" in said
    site.verify()
    site.verify_that_nobody_was_charged()


def test_a_mount_that_nobody_may_write_is_mended_while_the_stack_waits(site: Site) -> None:
    """Every service says which uid it has and what to do, and is started again; after that it needs no command."""
    site.put("a", "b", "c")
    os.chown(site.out, 0, 0)
    site.deploy(REPLICAS="2")
    site.wait_until(lambda: any(task.code == 12 for task in site.tasks("plan")), "the planner fails")
    assert "this process has uid 10001: give that uid write permission (chown 10001 on the host)" in site.log("plan")

    os.chown(site.out, 10001, 10001)
    site.finish()

    site.verify()
    site.verify_that_nobody_was_charged()


def test_a_planner_that_sees_no_inputs_waits_for_the_right_mount(site: Site) -> None:
    """It says so, ends with 12 and is started again, and no job is created; once there are inputs it needs no command."""
    site.deploy(REPLICAS="2")
    site.wait_until(lambda: any(task.code == 12 for task in site.tasks("plan")), "the planner fails")
    assert "IN '/app/data' holds no inputs: is the right directory mounted there?" in site.log("plan")
    assert not (site.out / ".claimwork").exists()

    site.put("a", "b", "c")
    site.finish()

    site.verify()
    site.verify_that_nobody_was_charged()


def test_a_worker_that_is_wedged_is_replaced(site: Site) -> None:
    """Its supervisor is stopped, so no beat reaches the mount: the health check ends its container, and another one comes."""
    site.put("held", "a", "b")
    site.deploy(NEXT, REPLICAS="1", PATIENCE="1", GRACE="0")
    site.wait_for_run("held")
    ((node, container),) = site.wait_for_containers(1)

    node.docker("exec", container, "sh", "-c", "kill -STOP $(cat /proc/1/task/1/children)")
    site.wait_until(lambda: (node, container) not in site.containers(), "the container ends")
    site.wait_for_containers(1)
    site.say(".go")
    site.finish()

    site.verify()


def test_an_outage_that_fails_all_health_checks_ends_no_worker_for_good(site: Site) -> None:
    """The file server answers nobody for longer than 4 T, and all are ended; when it is back all are there, and finish."""
    site.put("held")
    site.put(*(f"{number:03}" for number in range(20)), seconds=0.5)
    site.deploy(NEXT, REPLICAS="3", PATIENCE="1", GRACE="0")
    site.wait_for_run("held")
    before = {container for _, container in site.wait_for_containers(3)}
    # one that has not yet begun to beat goes by the T of a worker that still waits for its job: it fails after minutes
    site.wait_until(lambda: beating(site) == before, "three workers beat")

    site.lab.share.freeze()
    # Swarm ends them now; but a process that waits for its mount dies when the mount is back, and only then is it told
    site.wait_until(lambda: all(failed_checks(site, each) >= 2 for each in before), "all have failed their checks")
    site.lab.share.thaw()
    site.wait_until(lambda: not before & {each for _, each in site.containers()}, "all have been replaced")
    site.say(".go")
    site.finish()

    complete = [task for task in site.tasks() if task.state == "complete"]
    assert {task.name for task in complete} == {f"{site.name}_worker.{slot}" for slot in (1, 2, 3)}
    site.verify()


def beating(site: Site) -> set[str]:
    """The containers of workers that have begun to beat."""
    hosts = {each["host"] for each in site.status()["workers"]}
    return {container for _, container in site.containers() if container[:12] in hosts}


def failed_checks(site: Site, container: str) -> float:
    """How many of its health checks failed in a row; of one that is gone all."""
    for node in site.lab.nodes:
        told = node.call("inspect", "-f", "{{.State.Health.FailingStreak}}", container)
        if told.returncode == 0:
            return int(told.stdout)
    return float("inf")
