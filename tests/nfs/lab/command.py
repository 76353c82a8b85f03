"""The program behind scripts/nfs-lab."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable

from tests.machine import exit_on_signals
from tests.nfs.lab import needs
from tests.nfs.lab.lab import DISK, FLAVOURS, Client, Lab
from tests.nfs.lab.machine import Guest, LabError, Process

EPILOG = """\
examples:
  scripts/nfs-lab run -- sh -c 'hostname >>names; cat names'     three clients at once; where the share is mounted
  scripts/nfs-lab run --clients 1 --flavour v3 --delay-ms 20 -- time ls -l
  scripts/nfs-lab run -- claimwork worker in out --patience 10   the claimwork of this checkout, in every client
  scripts/nfs-lab demo                                           a job on three machines, of which one loses its power
  scripts/nfs-lab shell                                          a prompt: run, cut, heal, kill, ... (`help` there)

Each guest is a Linux kernel of its own in processes of this one. Its root directory is this machine's, read-only; the
share and what guests write is in memory, and gone at the end.
"""
HELP = """\
  client1 COMMAND         run a shell command there, in the share; `server COMMAND`, `all COMMAND`
  cut client1             unplug its cable; `heal client1`
  delay client1 50        each frame takes 50 ms, each way; 0 for none
  kill client1            it loses its power; `boot client1`
  skew client1 3600       its clock is an hour ahead; 0 for right
  stop-server             stop nfsd; `start-server`, `restart-server`
  fill                    leave no space on the server's disk; `free`
  mend                    undo all that, and end all programs
  quit
"""
_LIMIT_S = 24 * 3600.0
_talking = threading.Lock()


class Teller:
    """Prints whole lines of one program, each with the name of its guest; the rest in `finish`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said = {1: "", 2: ""}

    def hear(self, stream: int, text: str) -> None:
        """Take in some text of stdout (1) or stderr (2)."""
        *lines, self._said[stream] = (self._said[stream] + text).split("\n")
        with _talking:
            for line in lines:
                print(f"{self._name} | {line}", file=sys.stderr if stream == 2 else sys.stdout, flush=True)

    def finish(self) -> None:
        """Print a line that never ended."""
        for stream, text in self._said.items():
            if text:
                self.hear(stream, "\n")


def start_aloud(guest: Guest, argv: list[str], cwd: str) -> tuple[Process, Teller]:
    """Start a program whose lines are printed."""
    teller = Teller(guest.name)
    return guest.start(*argv, cwd=cwd, hear=teller.hear), teller


def wait_aloud(started: list[tuple[Process, Teller]]) -> int:
    """Wait for programs; the worst of their exit codes, as a shell tells it. Ctrl-C ends them, and is then an exit code."""
    code = 0
    for process, teller in started:
        try:
            ended = process.wait(_LIMIT_S)
        except KeyboardInterrupt:
            for each, _ in started:
                each.signal(signal.SIGINT)
            ended = process.wait(_LIMIT_S)
        teller.finish()
        code = max(code, ended.code if ended.code >= 0 else 128 - ended.code)
    return code


# -- run --------------------------------------------------------------------------------------------------------------


def run(told: argparse.Namespace) -> int:
    """COMMAND in every client at once, in the share."""
    with Lab(told.clients) as lab:
        share = lab.share(told.flavour)
        for client in lab.clients:
            client.cable.delay_s = told.delay_ms / 1000
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
        share = lab.share(told.flavour)
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


class Shell:
    """A prompt over a lab; each line is carried out, whatever comes of it."""

    def __init__(self, lab: Lab, share: str) -> None:
        self._lab = lab
        self._share = share
        self._clients = {client.name: client for client in lab.clients}
        self._for_client: dict[str, Callable[[Client, float], None]] = {
            "cut": lambda client, _: setattr(client.cable, "is_cut", True),
            "heal": lambda client, _: setattr(client.cable, "is_cut", False),
            "delay": lambda client, ms: setattr(client.cable, "delay_s", ms / 1000),
            "kill": lambda client, _: client.guest.kill(),
            "boot": lambda client, _: self._boot(client),
            "skew": lambda client, seconds: client.skew(seconds),
        }
        self._for_lab: dict[str, Callable[[], None]] = {
            "stop-server": lab.server.stop,
            "start-server": lab.server.start,
            "restart-server": self._restart,
            "fill": lab.server.fill,
            "free": lab.server.free,
            "mend": lab.mend,
            "help": lambda: print(HELP, end=""),
        }

    def serve(self) -> None:
        """Read lines until `quit` or the end of stdin."""
        print(f"ready: {', '.join(self._clients)} with the share in {self._share}; `help` tells what can be done here")
        while True:
            try:
                line = input("nfs-lab> ").strip()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                continue
            if line in ("quit", "exit"):
                return
            try:
                self._do(line)
            except LabError as error:
                print(f"nfs-lab: {error}")

    def _do(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        words = rest.split()
        if verb in ("all", "server") or verb in self._clients:
            self._run(verb, rest)
        elif verb in self._for_lab and not words:
            self._for_lab[verb]()
        elif verb in self._for_client and words and words[0] in self._clients:
            try:
                number = float(words[1]) if len(words) > 1 else 0.0
            except ValueError:
                print(f"nfs-lab: {words[1]!r} is no number")
                return
            self._for_client[verb](self._clients[words[0]], number)
        elif line:
            print(f"nfs-lab: what is {line!r}? `help` tells what can be done here")

    def _run(self, where: str, script: str) -> None:
        clients = [client.guest for client in self._lab.clients]
        guests = {"all": clients, "server": [self._lab.server.guest]}.get(where) or [self._clients[where].guest]
        cwd = DISK if where == "server" else self._share
        code = wait_aloud([start_aloud(guest, ["sh", "-c", script], cwd) for guest in guests if guest.is_alive])
        if code or not any(guest.is_alive for guest in guests):
            print(f"exit code {code}" if code else f"{where} has no power; `boot {where}`")

    def _boot(self, client: Client) -> None:
        if client.guest.is_alive:
            raise LabError(f"{client.name} runs; `kill {client.name}` first")
        client.boot()
        client.set_up()

    def _restart(self) -> None:
        self._lab.server.stop()
        self._lab.server.start()


def shell(told: argparse.Namespace) -> int:
    """A prompt."""
    with Lab(told.clients) as lab:
        Shell(lab, lab.share(told.flavour)).serve()
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
    count = argparse.ArgumentParser(add_help=False)
    count.add_argument("--clients", type=int, choices=range(1, 4), default=3, help="how many (default: 3)")
    one = commands.add_parser("run", parents=[where, count], help="run a command in every client at once")
    one.add_argument("--delay-ms", type=float, default=0.0, help="how long a frame takes, each way (default: 0)")
    one.add_argument("command", nargs="+", metavar="-- COMMAND", help="runs in the share; the worst exit code is told")
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
