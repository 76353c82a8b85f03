"""The program behind scripts/swarm-lab."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

from tests.machine import exit_on_signals
from tests.swarm.lab import needs
from tests.swarm.lab.demo import demo
from tests.swarm.lab.images import Builder
from tests.swarm.lab.lab import Lab, existing
from tests.swarm.lab.node import Node
from tests.swarm.lab.shell import LabError

EPILOG = """\
examples:
  scripts/swarm-lab demo                        a job on three nodes, of which one loses its power
  scripts/swarm-lab up                          a lab that stays until `down`; it prints what to type next
  scripts/swarm-lab docker n1 node ls           docker on a node; n1 is the manager
  scripts/swarm-lab cut n3                      unplug its cable; `mend n3`
  scripts/swarm-lab down                        leave nothing but the images, for the next time

Each node is a docker daemon in namespaces of its own. The images are built here, upon a stand-in for python:3.13-slim from
Debian's packages, or upon $BASE_IMAGE where that can be pulled. Needs root.
"""
NAME = "hand"
_FAULTS: dict[str, tuple[str, Callable[[Lab, Node], None]]] = {
    "kill": ("take a node's power", lambda _, node: node.kill()),
    "kill-daemon": ("kill -9 of its docker daemon; containers go on", lambda _, node: node.kill_daemon()),
    "start": ("power on, or start the daemon again", lambda lab, node: lab.start(node)),
    "cut": ("unplug its cable", lambda _, node: node.cut()),
    "mend": ("plug its cable in", lambda _, node: node.mend()),
    "freeze": ("stop its time, daemon and containers", lambda _, node: node.freeze()),
    "thaw": ("let its time go on", lambda _, node: node.thaw()),
    "drain": ("let Swarm move its tasks away", lambda lab, node: _make(lab, node, "drain")),
    "activate": ("undo drain", lambda lab, node: _make(lab, node, "active")),
}


def _make(lab: Lab, node: Node, availability: str) -> None:
    lab.manager.docker("node", "update", "--availability", availability, node.name)


def up(told: argparse.Namespace) -> int:
    """A lab that outlives this program."""
    with Builder() as builder:
        builder.build_claimwork()
    lab = Lab(told.nodes, NAME)
    if lab.directory.exists():
        raise LabError("there is a lab already; to remove it: scripts/swarm-lab down")
    with_lab(lab)
    print(f"{len(lab.nodes)} nodes share {lab.share.path}; image claimwork; next:")
    print(f"  export DOCKER_HOST=unix://{lab.manager.directory}/docker.sock    # or: scripts/swarm-lab docker n1 …")
    print(f"  mkdir {lab.share.path}/data {lab.share.path}/results; chown 10001 {lab.share.path}/results")
    print(f"  export CLAIMWORK_DATA={lab.share.path}/data CLAIMWORK_RESULTS={lab.share.path}/results CLAIMWORK_TOKEN=")
    print("  docker stack deploy --resolve-image never -c stack/claimwork.yml counting")
    return 0


def with_lab(lab: Lab) -> None:
    """Bring a lab up, or leave nothing of it."""
    try:
        lab.up()
    except BaseException:
        lab.down()
        raise


def down(_told: argparse.Namespace) -> int:
    """Remove the lab."""
    existing(NAME).down()
    return 0


def docker(told: argparse.Namespace) -> int:
    """The docker client against a node."""
    node = _node(existing(NAME), told.node)
    ours = {name: value for name, value in os.environ.items() if name.startswith("CLAIMWORK_")}
    return subprocess.run(node.argv(*told.words), env=node.environment(**ours), check=False).returncode


def fault(told: argparse.Namespace) -> int:
    """One of `_FAULTS`."""
    lab = existing(NAME)
    _FAULTS[told.fault][1](lab, _node(lab, told.node))
    return 0


def _node(lab: Lab, name: str) -> Node:
    for node in lab.nodes:
        if node.name == name:
            return node
    raise LabError(f"there is no node {name}; there are {', '.join(each.name for each in lab.nodes)}")


def install(_told: argparse.Namespace) -> int:
    """Nothing more than what comes before every command."""
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/swarm-lab",
        description="A real Docker Swarm of several nodes on this machine, without a registry.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("install", help="install what the lab needs, as root on Debian").set_defaults(act=install)
    commands.add_parser("demo", help="a job on three nodes, scaled, with the loss of one; then clean up").set_defaults(
        act=lambda _: demo()
    )
    made = commands.add_parser("up", help="build the image, start nodes, make them a swarm")
    made.add_argument("--nodes", type=int, choices=range(1, 10), default=3, help="how many (default: 3)")
    made.set_defaults(act=up)
    commands.add_parser("down", help="leave nothing of it").set_defaults(act=down)
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("node", help="n1, n2, …")
    asked = commands.add_parser("docker", parents=[one], help="the docker client against a node")
    asked.add_argument("words", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    asked.set_defaults(act=docker)
    for name, (text, _) in _FAULTS.items():
        commands.add_parser(name, parents=[one], help=text).set_defaults(act=fault, fault=name)
    return parser.parse_args()


def main() -> int:
    """Parse and act; SIGTERM ends it like Ctrl-C, so that what it made is taken down."""
    told = parse()
    exit_on_signals()
    try:
        needs.install()
        code: int = told.act(told)
    except KeyboardInterrupt:
        return 130
    except LabError as error:
        print(f"scripts/swarm-lab: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
