"""A real Docker Swarm on one machine: several nodes, one directory that all of them share, no registry.

    with Lab(3) as lab:
        lab.manager.docker("stack", "deploy", …)      # the first node; all have the images of `Builder`
        lab.nodes[2].kill()                           # it loses its power
        lab.nodes[1].cut()                            # its cable is unplugged
        lab.share.freeze()                            # the file server does not answer
        lab.mend()                                    # all as it was, and no service is left

The share is a file with a filesystem in it, mounted under one path before the nodes are made: one kernel, so its caches and
clocks are no test of NFS. However the ``with`` ends, nothing is left but what `Builder` keeps.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.swarm.lab.images import ROOT, Builder
from tests.swarm.lab.node import Cables, Node
from tests.swarm.lab.shell import LabError, call, is_alive, run, wait_until

_SHARE_MB = 512
_HEARTBEAT = "2s"  # a lost node is noticed after two or three of them; Swarm's own choice is 5 s


class Share:
    """The shared directory, `path` on all nodes and here."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "share"
        self._image = directory / "share.img"
        self._is_frozen = False

    def make(self) -> None:
        """Mount an empty filesystem."""
        with self._image.open("wb") as file:
            file.truncate(_SHARE_MB << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
        self.path.mkdir()
        run("mount", "-o", "loop,noatime", self._image, self.path)
        self.path.chmod(0o1777)

    def freeze(self) -> None:
        """From now on whoever writes waits, as if the file server were away; not even SIGKILL ends the wait."""
        run("fsfreeze", "--freeze", self.path)
        self._is_frozen = True

    def thaw(self) -> None:
        """Undo `freeze`."""
        if self._is_frozen:
            run("fsfreeze", "--unfreeze", self.path)
            self._is_frozen = False

    def remove(self) -> None:
        """Unmount it; the directory is the lab's to remove."""
        call("fsfreeze", "--unfreeze", self.path)
        if self.path.is_mount():
            wait_until(lambda: call("umount", self.path).returncode == 0, "the share can be unmounted")


class Lab:
    """See the module. *name*: of a lab that outlives this program; without one it dies with it."""

    def __init__(self, nodes: int = 3, name: str = "") -> None:
        self.directory = ROOT / f"lab-{name or os.getpid()}"
        tag = f"cw{name or os.getpid()}"
        self._cables = Cables(tag)
        self.share = Share(self.directory)
        self.nodes = [
            Node(tag, number, self.directory, self._cables, dies_with_us=not name) for number in range(1, nodes + 1)
        ]

    @property
    def manager(self) -> Node:
        """The node that takes the commands for the swarm."""
        return self.nodes[0]

    def __enter__(self) -> Lab:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Make share and nodes, and one swarm of them. Images must have been built, and no builder may run."""
        sweep()
        self.directory.mkdir(mode=0o711)
        self.share.make()
        self._cables.make()
        with Builder(seeds_only=True) as builder:
            for node in self.nodes:
                node.directory.mkdir(mode=0o711)
                builder.seed(node.directory / "data")
                node.install()
        self._start(self.nodes)
        init = ("swarm", "init", "--advertise-addr", self.manager.address, "--dispatcher-heartbeat", _HEARTBEAT)
        self.manager.docker(*init)
        token = self.manager.docker("swarm", "join-token", "-q", "worker").strip()
        join = ("swarm", "join", "--token", token, f"{self.manager.address}:2377")
        at_once([partial(node.docker, *join) for node in self.nodes[1:]])

    def down(self) -> None:
        """Leave nothing."""
        at_once([node.remove for node in self.nodes])
        self._cables.remove()
        self.share.remove()
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def _start(self, nodes: list[Node]) -> None:
        for node in nodes:
            node.power_on()  # in this thread: what dies with a thread's end must not be started in a short one
        for node in nodes:
            wait_until(node.is_on, f"{node.name} is on")
            node.start_daemon()
        for node in nodes:
            wait_until(node.answers, f"the docker daemon of {node.name} answers")

    def start(self, node: Node) -> None:
        """Power for a node that lost it, and a daemon for one whose daemon was killed."""
        if node.has_power:
            node.start_daemon()
            wait_until(node.answers, f"the docker daemon of {node.name} answers")
        else:
            self._start([node])

    def mend(self) -> None:
        """Undo every fault; remove every service and every container."""
        self.share.thaw()
        for node in self.nodes:
            if node.has_power:
                node.thaw(containers=True)
            node.mend()
        self._start([node for node in self.nodes if not node.has_power])
        for node in self.nodes:
            if node.call("version").returncode:
                self.start(node)
        wait_until(lambda: self.manager.call("node", "ls").returncode == 0, "the manager manages")
        for node in self.nodes:
            self.manager.docker("node", "update", "--availability", "active", node.name)
        services = self.manager.docker("service", "ls", "-q").split()
        if services:
            self.manager.docker("service", "rm", *services)
        at_once([partial(self._clear, node) for node in self.nodes])
        wait_until(self._is_whole, "all nodes are ready")

    def _clear(self, node: Node) -> None:
        def is_empty() -> bool:
            left = node.docker("ps", "-aq").split()
            if left:
                node.call("rm", "-f", *left)
            return not left

        wait_until(is_empty, f"{node.name} has no containers")

    def _is_whole(self) -> bool:
        states = self.manager.docker("node", "ls", "--format", "{{.Status}} {{.Availability}}").splitlines()
        return states == ["Ready Active"] * len(self.nodes)


def at_once(acts: list[Callable[[], object]]) -> None:
    """Do all of it at once; when one fails the others are waited for, so that nothing is half made behind our back."""
    with ThreadPoolExecutor(max(1, len(acts))) as pool:
        futures = [pool.submit(act) for act in acts]
    for future in futures:
        future.result()


def sweep() -> None:
    """Remove what labs of programs that were killed have left."""
    for left in ROOT.glob("lab-*"):
        owner = left.name.removeprefix("lab-")
        if owner.isdecimal() and not is_alive(int(owner)):
            stale = Lab(len(list(left.glob("n[0-9]*"))), owner)
            stale.down()


def existing(name: str) -> Lab:
    """A lab that another program has made. Raises LabError when there is none."""
    found = len(list((ROOT / f"lab-{name}").glob("n[0-9]*")))
    if not found:
        raise LabError("there is no lab; make one: scripts/swarm-lab up")
    return Lab(found, name)
