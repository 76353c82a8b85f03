"""A node: a docker daemon with its own containerd, in network, pid, mount and uts namespaces and cgroups of its own.

All that runs on it, containers included, dies with its first process: that is a loss of power. Its disk and its cable stay.
What is known of a node is in its directory, so that one program can start it and another one end it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.swarm.lab.shell import LabError, call, children, environment, is_alive, run, wait_until

_V1 = Path("/sys/fs/cgroup/freezer")
_V2 = Path("/sys/fs/cgroup")
_HAS_V2 = (_V2 / "cgroup.controllers").exists()
_INTO_CGROUP = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
# A /run of its own hides the sockets and locks of the host's daemons; below it, nothing of the node outlives its power.
_INIT = """
set -e
hostname "$1"
mount -t tmpfs -o mode=755 run /run
mkdir -p /var/lib/docker
mount --bind "$2/data" /var/lib/docker
touch /run/ready
exec sleep infinity
"""


_GET = """
import http.client, json, sys
host, port, path, token = sys.argv[1:]
asked = http.client.HTTPConnection(host, int(port), timeout=10)
asked.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
answer = asked.getresponse()
json.dump([answer.status, answer.read().decode()], sys.stdout)
"""


class Cables:
    """The switch that all nodes are plugged into: a bridge in a network namespace of its own.

    On the host's side a docker daemon of the host would filter what crosses the bridge.
    """

    def __init__(self, tag: str) -> None:
        self.namespace = f"{tag}-hub"

    def make(self) -> None:
        """Make the switch."""
        run("ip", "netns", "add", self.namespace)
        for words in ("link set lo up", "link add br0 type bridge", "link set br0 up"):
            run("ip", "-n", self.namespace, *words.split())

    def remove(self) -> None:
        """Remove it; it may be gone."""
        call("ip", "netns", "delete", self.namespace)


class Node:
    """One node of the lab with this *tag*; *number* makes its address and its name."""

    def __init__(self, tag: str, number: int, lab: Path, cables: Cables, *, dies_with_us: bool) -> None:
        self.name = f"n{number}"
        self.address = f"10.213.0.{10 + number}"
        self.directory = lab / self.name
        self.namespace = f"{tag}-{self.name}"
        self._cable = f"{tag}v{number}"
        self._cables = cables
        self._cgroup = (_V2 if _HAS_V2 else _V1) / self.namespace
        self._dies_with_us = dies_with_us
        self._started: list[subprocess.Popen[bytes]] = []

    # -- power --------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Its cable. The caller has made its directory, with a disk in it."""
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        hub = self._cables.namespace
        run("ip", "link", "add", self._cable, "netns", hub, "type", "veth", "peer", "eth0", "netns", self.namespace)
        run("ip", "-n", hub, "link", "set", self._cable, "master", "br0", "up")
        run("ip", "-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")  # and no route: nothing leads out of the lab

    def power_on(self) -> None:
        """An empty machine with namespaces and a first process; `is_on` tells when it is there."""
        (self._cgroup / "init").mkdir(parents=True, exist_ok=True)
        dying = ["setpriv", "--pdeathsig", "KILL"] if self._dies_with_us else []
        process = self._start(
            *dying,
            *("nsenter", f"--net=/run/netns/{self.namespace}"),  # not `ip netns exec`: that hides the cgroups
            *("unshare", "--kill-child=KILL", "--fork", "--pid", "--mount", "--mount-proc", "--uts", "--"),
            *("tini", "-s", "--", "sh", "-c", _INIT, "sh", self.name, str(self.directory)),
        )
        self._write("power", process.pid)

    @property
    def has_power(self) -> bool:
        """Whether its first process lives."""
        return is_alive(self._read("power"))

    def is_on(self) -> bool:
        """Whether its first process is ready for the daemon."""
        if not self.has_power:
            raise LabError(f"{self.name} has no power: {self._log_tail()}")
        for init in children(self._read("power")):
            if Path(f"/proc/{init}/root/run/ready").exists():
                self._write("init", init)
                return True
        return False

    def start_daemon(self) -> None:
        """Start the docker daemon; `answers` tells when it can be talked to."""
        (self.directory / "docker.sock").unlink(missing_ok=True)
        process = self._start(
            *("nsenter", "-t", str(self._read("init")), "--mount", "--pid", "--uts", "--net", "--"),
            *("dockerd", "-H", self._host, "--storage-driver", "overlay2", "--userland-proxy=false"),
            *("--cgroup-parent", f"/{self.namespace}/containers"),
        )
        self._write("daemon", process.pid)

    def answers(self) -> bool:
        """Whether the docker daemon answers."""
        if not is_alive(self._read("daemon")):
            raise LabError(f"the docker daemon of {self.name} does not start: {self._log_tail()}")
        return self.call("version").returncode == 0

    def kill_daemon(self) -> None:
        """Kill -9 of the docker daemon alone: containers go on, and nobody watches them."""
        for daemon in children(self._read("daemon")):
            subprocess.run(["kill", "-KILL", str(daemon)], check=True)
            wait_until(partial(_is_dead, daemon), f"the daemon of {self.name} dies")

    def kill(self) -> None:
        """Power loss. On return nothing of it runs."""
        if self.has_power:
            subprocess.run(["kill", "-KILL", str(self._read("power"))], check=False)
        self.thaw(containers=True)  # what is frozen does not die before it thaws
        wait_until(lambda: not self.has_power and not self._members(), f"{self.name} dies")
        for process in self._started:
            process.wait()
        self._started.clear()

    def remove(self) -> None:
        """Leave nothing of it but its directory."""
        self.kill()
        call("ip", "netns", "delete", self.namespace)
        roots = [_V2] if _HAS_V2 else [each for each in Path("/sys/fs/cgroup").iterdir() if each.is_dir()]
        for root in roots:
            top = root / self.namespace
            for each in sorted(top.rglob("*"), reverse=True) if top.exists() else []:
                if each.is_dir():
                    each.rmdir()
            if top.exists():
                top.rmdir()

    # -- faults -------------------------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stop the time of daemon and containers, as of a virtual machine that hangs."""
        if _HAS_V2:
            (self._cgroup / "cgroup.freeze").write_text("1")
        else:
            (self._cgroup / "freezer.state").write_text("FROZEN")

    def thaw(self, *, containers: bool = False) -> None:
        """Undo `freeze`; with *containers* also what was paused in it."""
        name, word = ("cgroup.freeze", "0") if _HAS_V2 else ("freezer.state", "THAWED")
        files = self._cgroup.rglob(name) if containers else [self._cgroup / name]
        for each in sorted(files):
            try:
                each.write_text(word)
            except OSError:
                continue  # it has just gone

    def cut(self) -> None:
        """Unplug its cable."""
        run("ip", "-n", self._cables.namespace, "link", "set", self._cable, "down")

    def mend(self) -> None:
        """Plug its cable in."""
        run("ip", "-n", self._cables.namespace, "link", "set", self._cable, "up")

    def inside(self, *argv: str) -> str:
        """Run a program of this machine among the mounts of the node; what it said."""
        return run("nsenter", "-t", str(self._read("init")), "--mount", "--", *argv)

    def get(self, node: Node, port: int, path: str, token: str = "") -> tuple[int, str]:
        """Ask a port of a node over the cable; the HTTP status and the body, or 0 and why there is no answer."""
        words = (node.address, str(port), path, token)
        done = call("nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-c", _GET, *words)
        if done.returncode:
            return 0, done.stderr
        status, body = json.loads(done.stdout)
        return status, body

    # -- docker -------------------------------------------------------------------------------------------------------

    @property
    def _host(self) -> str:
        return f"unix://{self.directory}/docker.sock"

    def argv(self, *args: str | Path) -> list[str]:
        """The command that runs the docker client against this node."""
        return ["docker", "-H", self._host, *map(str, args)]

    def environment(self, **more: str) -> dict[str, str]:
        """The environment for `argv`."""
        return environment(DOCKER_CONFIG=str(self.directory), **more)

    def call(self, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the docker client against this node, to whatever end."""
        return call(*self.argv(*args), env={"DOCKER_CONFIG": str(self.directory), **env})

    def docker(self, *args: str | Path, **env: str) -> str:
        """Run the docker client against this node; what it said."""
        return run(*self.argv(*args), env={"DOCKER_CONFIG": str(self.directory), **env})

    # -- all ----------------------------------------------------------------------------------------------------------

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["sh", "-c", _INTO_CGROUP, str(self._cgroup / "init"), *argv],
                # or each task would first wait for a registry that is not there
                env=environment(DOCKER_SERVICE_PREFER_OFFLINE_IMAGE="1"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _members(self) -> list[int]:
        """Processes in its network."""
        return [int(each) for each in call("ip", "netns", "pids", self.namespace).stdout.split() if is_alive(int(each))]

    def _read(self, name: str) -> int:
        try:
            return int((self.directory / name).read_text())
        except FileNotFoundError:
            return 0

    def _write(self, name: str, pid: int) -> None:
        (self.directory / name).write_text(str(pid))

    def _log_tail(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-2000:]


def _is_dead(pid: int) -> bool:
    return not is_alive(pid)
