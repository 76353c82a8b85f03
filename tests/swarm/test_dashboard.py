"""The dashboard of the stack: at a port of the node that runs it, from the job's first moments until somebody removes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.swarm.conftest import Site
from tests.swarm.lab.node import Node

pytestmark = pytest.mark.swarm

PORT = 8765
TRUTH = ("verdict", "job_id", "total", "done", "quarantined", "running", "total_bytes", "done_bytes")


def seen_from_elsewhere(site: Site, node: Node) -> dict[str, Any]:
    """What the dashboard of a node tells to another one; nothing while it does not answer."""
    elsewhere = next(each for each in site.lab.nodes if each is not node)
    status, body = elsewhere.get(node, PORT, "/status.json")
    found: dict[str, Any] = json.loads(body) if status == 200 else {}
    return found


def test_it_tells_the_truth_and_stays_when_the_job_is_done(site: Site) -> None:
    """Another node reads it while the job runs and after; it is healthy, and its results are mounted for reading only."""
    site.put("held", "a", "b")
    site.deploy(REPLICAS="1", DASHBOARDS="1")
    site.wait_for_run("held")
    ((node, container),) = site.wait_for_containers(1, "dashboard")

    def health() -> str:
        return node.docker("inspect", "-f", "{{.State.Health.Status}}", container).strip()

    running = site.wait_until(lambda: (now := seen_from_elsewhere(site, node)).get("running") and now, "one runs")
    assert (running["verdict"], running["running"], running["done"], running["total"]) == ("RUNNING", 1, 0, 3)
    site.wait_until(lambda: health() == "healthy", "it is healthy")
    (inspected,) = json.loads(node.docker("inspect", container))
    assert [(each["Destination"], each["RW"]) for each in inspected["Mounts"]] == [("/app/output", False)]
    for place in ("/app/output/mine", "/app/mine"):
        assert "Read-only file system" in node.call("exec", container, "touch", place).stderr

    site.say(".go")
    site.finish()

    site.wait_until(lambda: seen_from_elsewhere(site, node)["verdict"] == "DONE", "it tells that the job is done")
    told, true = seen_from_elsewhere(site, node), site.status()
    assert {name: told[name] for name in TRUTH} == {name: true[name] for name in TRUTH}
    assert site.containers("dashboard") == [(node, container)]
    assert health() == "healthy"
    site.scale(0, "dashboard")
    site.wait_for_containers(0, "dashboard")
    site.verify()
    site.verify_that_nobody_was_charged()


def test_one_that_has_no_place_holds_up_nobody(site: Site) -> None:
    """A node has a port once: of four dashboards three run on three nodes, the fourth waits, and the job is done."""
    site.put("a", "b", "c")
    site.deploy(REPLICAS="1", DASHBOARDS="4")
    site.finish()

    nodes = {node.name for node, _ in site.wait_for_containers(3, "dashboard")}
    assert nodes == {"n1", "n2", "n3"}
    (waiting,) = [task for task in site.tasks("dashboard") if task.state == "pending"]
    assert "host-mode port already in use on 3 nodes" in waiting.error
    site.verify()


def test_it_can_have_a_place_a_port_and_a_token(site: Site) -> None:
    """It leaves a node that is drained. Kept at one, it answers there alone, at the chosen port, and to who has the token."""
    site.put("a")
    site.deploy(REPLICAS="1", DASHBOARDS="1", DASHBOARD_PORT="9000", TOKEN="sesame")
    site.finish()
    ((home, _),) = site.wait_for_containers(1, "dashboard")
    others = [each for each in site.lab.nodes if each is not home]

    def is_at(*nodes: Node) -> bool:
        where = [node for node, _ in site.containers("dashboard")]
        return len(where) == 1 and where[0] in nodes and others[0].get(where[0], 9000, "/healthz") == (200, "ok\n")

    site.lab.manager.docker("node", "update", "--availability", "drain", home.name)
    site.wait_until(lambda: is_at(*others), "it is at another node")
    site.lab.manager.docker("node", "update", "--availability", "active", home.name)
    constraint = ("--constraint-add", f"node.hostname=={home.name}")
    site.lab.manager.docker("service", "update", "-d", *constraint, f"{site.name}_dashboard")
    site.wait_until(lambda: is_at(home), "it is back")

    assert others[0].get(home, 9000, "/status.json")[0] == 401
    assert others[0].get(home, 9000, "/status.json", token="wrong")[0] == 401
    status, body = others[0].get(home, 9000, "/status.json", token="sesame")
    assert (status, json.loads(body)["verdict"]) == (200, "DONE")
    assert [home.get(each, 9000, "/healthz")[0] for each in others] == [0, 0]
    site.verify()
