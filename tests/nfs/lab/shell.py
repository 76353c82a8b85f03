"""The prompt of scripts/nfs-lab: commands in guests, and what befalls guests, as a person or a file of lines wants it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from tests.nfs.lab.aloud import Teller, exit_code, start_aloud, wait_aloud
from tests.nfs.lab.lab import DISK, Client, Lab
from tests.nfs.lab.machine import Guest, LabError, Process

HELP = """\
  client1 COMMAND         run a shell command there, in the share; `server COMMAND`, `all COMMAND`
  client1 COMMAND &       the same, and come back at once; its lines come as it says them
  stop client1            SIGTERM to what runs there; `wait` for all that still runs, anywhere
  cut client1             unplug its cable; `heal client1`
  delay client1 50        each frame takes 50 ms, each way; 0 for none
  kill client1            it loses its power; `boot client1`
  skew client1 3600       its clock is an hour ahead; 0 for right
  stop-server             stop nfsd; `start-server`, `restart-server`
  fill                    leave no space on the server's disk; `free`
  mend                    undo all that, and end all programs
  quit
`all` stands for every client in these too. A job, a partition, and what becomes of it:
  all claimwork worker /path/on/this/machine out --patience 10 &
  cut client1
  client2 claimwork status out
  heal client1
  wait
"""


class Shell:
    """A prompt over a lab; each line is carried out, whatever comes of it."""

    def __init__(self, lab: Lab, share: str) -> None:
        self._lab = lab
        self._share = share
        self._clients = {client.name: client for client in lab.clients}
        self._running: list[tuple[Process, Teller, Guest]] = []
        """What was started with ``&``, and has not been told to have ended."""
        self._for_client: dict[str, Callable[[Client, float], None]] = {
            "stop": lambda client, _: self._stop(client),
            "cut": lambda client, _: setattr(client.cable, "is_cut", True),
            "heal": lambda client, _: setattr(client.cable, "is_cut", False),
            "delay": lambda client, ms: setattr(client.cable, "delay_s", ms / 1000),
            "kill": lambda client, _: client.guest.kill(),
            "boot": lambda client, _: self._boot(client),
            "skew": lambda client, seconds: client.skew(seconds),
        }
        self._for_lab: dict[str, Callable[[], None]] = {
            "wait": self._wait,
            "stop-server": lab.server.stop,
            "start-server": lab.server.start,
            "restart-server": self._restart,
            "fill": lab.server.fill,
            "free": lab.server.free,
            "mend": lab.mend,
            "help": lambda: print(HELP, end=""),
        }

    def serve(self) -> None:
        """Read lines until `quit` or the end of stdin. Lines that nobody types are shown after the prompt."""
        print(f"ready: {', '.join(self._clients)} with the share in {self._share}; `help` tells what can be done here")
        while True:
            self._tell_ends()
            try:
                line = input("nfs-lab> ").strip()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                continue
            if not sys.stdin.isatty():
                print(line, flush=True)
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
            self._run(verb, rest.strip())
        elif verb in self._for_lab and not words:
            self._for_lab[verb]()
        elif verb in self._for_client and words and (words[0] == "all" or words[0] in self._clients):
            try:
                number = float(words[1]) if len(words) > 1 else 0.0
            except ValueError:
                print(f"nfs-lab: {words[1]!r} is no number")
                return
            for client in self._lab.clients if words[0] == "all" else [self._clients[words[0]]]:
                self._for_client[verb](client, number)
        elif line and not line.startswith("#"):
            print(f"nfs-lab: what is {line!r}? `help` tells what can be done here")

    def _run(self, where: str, script: str) -> None:
        clients = [client.guest for client in self._lab.clients]
        guests = {"all": clients, "server": [self._lab.server.guest]}.get(where) or [self._clients[where].guest]
        alive = [guest for guest in guests if guest.is_alive]
        if not alive:
            print(f"nfs-lab: {where} has no power; `boot {where}`")
            return
        argv = ["sh", "-c", script.removesuffix("&")]
        cwd = DISK if where == "server" else self._share
        started = [(*start_aloud(guest, argv, cwd), guest) for guest in alive]
        if script.endswith("&"):
            self._running += started
        elif code := wait_aloud([(process, teller) for process, teller, _ in started]):
            print(f"exit code {code}")

    def _tell_ends(self) -> None:
        for each in list(self._running):
            process, teller, guest = each
            if process.code is None and guest.is_alive:
                continue
            self._running.remove(each)
            teller.finish()
            how = (
                "was lost with its host" if process.code is None else f"ended with exit code {exit_code(process.code)}"
            )
            print(f"{guest.name}: {process.argv[-1].strip()} {how}")

    def _wait(self) -> None:
        """Until Ctrl-C, or until nothing of `&` runs."""
        try:
            while self._running:
                with suppress(LabError):  # lost with its guest, or it goes on
                    self._running[0][0].wait()
                self._tell_ends()
        except KeyboardInterrupt:
            print()

    def _stop(self, client: Client) -> None:
        for process, _, guest in self._running:
            if guest is client.guest and guest.is_alive:
                process.signal(signal.SIGTERM)

    def _boot(self, client: Client) -> None:
        if client.guest.is_alive:
            raise LabError(f"{client.name} runs; `kill {client.name}` first")
        client.boot()
        client.set_up()

    def _restart(self) -> None:
        self._lab.server.stop()
        self._lab.server.start()
