"""What befalls the server and its network: restarts, replies that are lost, requests that come late, a full disk."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nfs.conftest import PATIENCE, Site
from tests.nfs.lab.machine import Process

pytestmark = pytest.mark.nfs

MakeSite = Callable[[str], Site]
NAMES = [f"{number:02d}" for number in range(6)]
# What stands in the request by which a step happens, and in no other: a rename has two names, a look-up has one.
ASKS_FOR = {
    ("claim", "rename"): rb"m\.h000000.*m\.h000000",
    ("claim", "marker"): rb"\.lock",
    ("publish", "rename"): rb"\.json",
    ("publish", "marker"): rb"\.json",
    ("release", "rename"): rb"m\.h000000.*m\.h000000",
    ("release", "marker"): rb"\.next",
    ("offer", "rename"): rb"p\.h000000",
}


@dataclass
class Member:
    """A worker of one step (steps.py) that is about to take it."""

    process: Process
    worker: str
    ticket: str

    def go(self) -> None:
        """Let it take the step."""
        self.process.signal(signal.SIGUSR1)

    def outcome(self) -> str:
        """What it says at its end."""
        ended = self.process.wait()
        assert ended.code == 0, ended
        return ended.stdout.splitlines()[-1]


def join(site: Site, host: int, step: str) -> Member:
    """Start a worker of one step on a host, up to the step; it holds one ticket."""
    script = str(Path(__file__).with_name("steps.py"))
    guest = site.lab.clients[host - 1].guest
    process = guest.start("python", script, "out", step, cwd=site.share)
    process.wait_for_words("ready")
    _, worker, ticket = process.stdout.splitlines()[0].split()
    return Member(process, worker, ticket)


def works(site: Site, member: Member) -> list[str]:
    """Names in the work directory of a worker, by the server's disk."""
    below = f"work/{member.worker}/"
    return [name.removeprefix(below) for name in site.state() if name.startswith(below)]


def planned(make_site: MakeSite, flavour: str, claims: str) -> Site:
    """A job that has tickets, and no workers."""
    site = make_site(flavour)
    site.put(*NAMES)
    site.ship("--task", "tasks:steered", "--claims", claims, *PATIENCE)
    made = site.call(1, "plan", "in", "out", *site.options)
    assert made.code == 0, made
    return site


@pytest.mark.parametrize(
    ("flavour", "claims", "third"),
    [("v4.2", "rename", "release"), ("v4.2-cached", "marker", "release"), ("v3", "rename", "offer")],
)
def test_a_reply_that_a_restart_took_is_found_out(make_site: MakeSite, flavour: str, claims: str, third: str) -> None:
    """The server does what three workers ask, restarts before it has answered, and is asked again: each gets it right."""
    site = planned(make_site, flavour, claims)
    steps = (third, "publish", "claim")  # each has chosen its ticket when the next one joins
    other, publish, claim = everybody = [join(site, host, step) for host, step in enumerate(steps, 1)]

    for step, member, client in zip(steps, everybody, site.lab.clients, strict=True):
        client.cable.lose_replies_to(ASKS_FOR[step, claims])
        member.go()

    def are_done() -> bool:
        inside = site.state()
        released = other.ticket not in works(site, other) or any(name.endswith(".next") for name in inside)
        offered = any(name.startswith("ready/plan/") for name in inside)
        third_done = released if third == "release" else offered
        return bool(third_done and len(works(site, claim)) == 2 and site.inside("out/results"))

    site.wait_until(are_done, "all three steps on the server's disk")
    site.lab.server.stop()
    site.lab.server.start()
    for client in site.lab.clients:
        client.cable.mend()

    assert (publish.outcome(), other.outcome()) == ("True", "done")
    assert sorted([claim.ticket, claim.outcome()]) == works(site, claim)
    site.finish(*site.workers(1, 2))
    site.verify(host=3)


@pytest.mark.parametrize(
    ("flavour", "claims", "late"),
    [("v4.2", "rename", "after"), ("v3", "rename", "before"), ("v4.2-cached", "marker", "after")],
)
def test_a_claim_is_executed_after_its_worker_died(make_site: MakeSite, flavour: str, claims: str, late: str) -> None:
    """Its request was under way when it was killed, and arrives before or after its peers have buried it: nothing is lost."""
    site = planned(make_site, flavour, claims)
    doomed = join(site, 3, "claim")
    cable = site.lab.clients[2].cable

    cable.cut_at(ASKS_FOR["claim", claims])
    doomed.go()
    site.wait_until(lambda: cable.is_cut, "the request for the claim")
    doomed.process.signal(signal.SIGKILL)
    if late == "before":
        cable.is_cut = False
        site.finish(*site.workers(1, 2))
    else:
        site.finish(*site.workers(1, 2))
        cable.is_cut = False
    assert doomed.process.wait().code == -signal.SIGKILL

    site.verify(host=3)
    assert not [each for each in site.state() if each.startswith(("work/", "stage/", "live/", "dead/"))]


def test_a_worker_is_killed_while_the_server_is_down(make_site: MakeSite) -> None:
    """It waits for an answer to a rename; when the server is back, a peer on another host takes over."""
    site = planned(make_site, "v4.2", "rename")
    doomed = join(site, 3, "claim")

    site.lab.server.stop()
    doomed.go()
    stack = f"/proc/{doomed.process.pid}/stack"
    site.wait_until(lambda: "nfs_rename+" in site.lab.clients[2].guest.run("cat", stack), "a rename under way")
    doomed.process.signal(signal.SIGKILL)
    site.lab.server.start()
    site.finish(*site.workers(1, 2))

    assert doomed.process.wait().code == -signal.SIGKILL
    site.verify(host=3)


@pytest.mark.parametrize(("flavour", "claims"), [("v4.2", "marker"), ("v3", "rename")])
def test_the_server_restarts_under_workers(make_site: MakeSite, flavour: str, claims: str) -> None:
    """They wait until it is back, twice: no input is run again, and nobody is taken for dead."""
    site = make_site(flavour)
    names = [f"slow-{number:02d}" for number in range(40)]
    site.put(*names)
    site.ship("--task", "tasks:steered", "--claims", claims)
    workers = site.workers(1, 2)
    for results in (4, 16):
        site.wait_for_results(results)
        site.lab.server.stop()
        site.lab.server.start()

    site.finish(*workers)

    site.verify()
    assert [(1, name) for name in names] == sorted((attempt, name) for _, attempt, name in site.runs())
    told = site.told()
    assert (told["reclaimed"], told["fenced"], told["trouble"]) == (0, 0, [])


@pytest.mark.parametrize("flavour", ["v4.2", "v3"])
def test_a_full_disk_stops_workers_and_charges_nobody(make_site: MakeSite, flavour: str) -> None:
    """Workers on two hosts end with one line that says what to do; when there is space again, new ones finish the job."""
    site = make_site(flavour)
    site.put(*(f"slow-{number:02d}" for number in range(40)))
    site.ship("--task", "tasks:steered")
    workers = site.workers(1, 2)
    site.wait_for_results(4)

    site.lab.server.fill()
    ended = [worker.wait() for worker in workers]
    site.lab.server.free()

    assert [each.code for each in ended] == [12, 12], ended
    assert all("free some space, then start workers again" in each.stderr.splitlines()[-1] for each in ended), ended
    assert not any("Traceback" in each.stderr for each in ended)
    site.finish(*site.workers(1, 2))
    site.verify()
    assert {attempt for _, attempt, _ in site.runs()} == {1}
