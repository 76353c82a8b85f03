"""The program behind scripts/nfs-lab."""

from __future__ import annotations

import argparse
import sys
import time

from tests.machine import exit_on_signals
from tests.nfs.lab import needs
from tests.nfs.lab.aloud import start_aloud, wait_aloud
from tests.nfs.lab.lab import DISK, FLAVOURS, Lab
from tests.nfs.lab.machine import LabError
from tests.nfs.lab.shell import Shell

EPILOG = """\
examples:
  scripts/nfs-lab run -- sh -c 'hostname >>names; cat names'     three clients at once; where the share is mounted
  scripts/nfs-lab run --clients 1 --flavour v3 --delay-ms 20 -- sh -c 'time ls -l'
  scripts/nfs-lab run -- claimwork worker "$PWD/tests/samples" out
  scripts/nfs-lab demo                                           a job on three machines, of which one loses its power
  scripts/nfs-lab shell                                          a prompt: commands, cut, heal, kill, ... (`help` there)

Each guest is a Linux kernel of its own in processes of this one. It has this machine's files, read-only, under the paths
that they have here, and `claimwork` is the one of this checkout. Commands begin in the share, which is empty and holds
some 60 MB. It and all else that guests write is in memory, and gone at the end.
"""


def _share(lab: Lab, told: argparse.Namespace) -> str:
    """The share, mounted and as far away as was told."""
    share = lab.share(told.flavour)
    for client in lab.clients:
        client.cable.delay_s = told.delay_ms / 1000
    return share


# -- run --------------------------------------------------------------------------------------------------------------


def run(told: argparse.Namespace) -> int:
    """COMMAND in every client at once, in the share."""
    with Lab(told.clients) as lab:
        share = _share(lab, told)
        return wait_aloud([start_aloud(client.guest, told.command, share) for client in lab.clients])


# -- demo -------------------------------------------------------------------------------------------------------------

_INPUTS = 48
_DEMO = f"""\
mkdir {DISK}/in
for each in $(seq -w 1 {_INPUTS}); do echo "these are some words of input $each" >{DISK}/in/$each.txt; done
printf 'sleep 0.5\\nwc -w <"$1"\\n' >{DISK}/count
"""


def demo(told: argparse.Namespace) -> int:
    """Three workers on three machines; one loses its power in mid-job."""
    with Lab(3) as lab:
        share = _share(lab, told)
        lab.server.guest.shell(_DEMO)
        argv = ["claimwork", "worker", "in", "out", "--slots", "1", "--patience", "5", "--command", "sh count {input}"]
        started = [start_aloud(client.guest, argv, share) for client in lab.clients]
        done, victim = 0, lab.clients[2].guest
        while any(process.code is None for process, _ in started[:2]):
            before, done = (
                done,
                int(lab.server.guest.shell(f"find {DISK}/out/results -type f 2>/dev/null | wc -l || true")),
            )
            if done != before:
                print(f"{done} of {_INPUTS} results", flush=True)
            if victim.is_alive and done >= _INPUTS // 3:
                victim.kill()
                print("client3 has lost its power; the others notice when its beat stands still for 5 s", flush=True)
            time.sleep(1)
        worst = wait_aloud(started[:2])
        guest = lab.clients[0].guest
        for words in (["claimwork", "check", "out"], ["claimwork", "status", "out"], ["cat", "out/summary.json"]):
            worst = max(worst, wait_aloud([start_aloud(guest, words, share)]))
        return worst


# -- shell ------------------------------------------------------------------------------------------------------------


def shell(told: argparse.Namespace) -> int:
    """A prompt."""
    with Lab(told.clients) as lab:
        Shell(lab, _share(lab, told)).serve()
    return 0


# -- all --------------------------------------------------------------------------------------------------------------


def install(_told: argparse.Namespace) -> int:
    """Nothing more than what comes before every command; then see that it works here."""
    with Lab(1) as lab:
        lab.share("v4.2")
    print("scripts/nfs-lab: ready: two kernels booted, and one mounted what the other exports")
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/nfs-lab",
        description="Real NFS between Linux kernels of their own, on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--flavour", choices=FLAVOURS, default="v4.2", help="how the share is mounted (default: v4.2)")
    where.add_argument("--delay-ms", type=float, default=0.0, help="how long a frame takes, each way (default: 0)")
    count = argparse.ArgumentParser(add_help=False)
    count.add_argument("--clients", type=int, choices=range(1, 4), default=3, help="how many (default: 3)")
    one = commands.add_parser("run", parents=[where, count], help="run a command in every client at once")
    one.add_argument(
        "command", nargs="+", metavar="COMMAND", help="after --; the worst of its exit codes is that of this"
    )
    one.set_defaults(act=run)
    commands.add_parser("demo", parents=[where], help="a job on three clients, one of which is killed").set_defaults(
        act=demo
    )
    commands.add_parser("shell", parents=[where, count], help="a prompt for commands and faults").set_defaults(
        act=shell
    )
    commands.add_parser("install", help="install what the lab needs, as root on Debian, and try it").set_defaults(
        act=install
    )
    return parser.parse_args()


def main() -> int:
    """Parse, boot, act; whatever ends it, no guest is left."""
    told = parse()
    exit_on_signals()
    try:
        needs.install()
        code: int = told.act(told)
    except KeyboardInterrupt:
        return 130
    except LabError as error:
        print(f"scripts/nfs-lab: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
