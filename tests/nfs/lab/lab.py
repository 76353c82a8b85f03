"""A small network of real kernels: one NFS server, a cable to each of some clients, and the faults that befall them.

    with Lab(clients=3) as lab:
        share = lab.share("v4.2")                       # mounted there on every client
        lab.clients[0].guest.run("touch", f"{share}/x")
        lab.clients[1].cable.is_cut = True              # a partition
        lab.clients[2].guest.kill()                     # a host that loses its power
        lab.mend()                                      # all as it was, but for what is on the disk

Guests are processes of this machine, run by user-mode-linux; see machine.py. The exported disk is in the server's memory.
However the ``with`` ends, nothing is left of all that. Needs what `needs.missing` tells.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from tests.nfs.lab.machine import Guest
from tests.nfs.lab.wire import Cable

FLAVOURS = {
    "v4.2": "vers=4.2,hard",
    "v4.2-cached": "vers=4.2,hard,actimeo=60",  # sees what others do up to a minute late
    "v3": "vers=3,hard",
    "v3-nolock": "vers=3,hard,nolock",  # OS locks are this client's own
}
DISK = "/run/disk"
_PREFIX = "claimwork-nfs-"
_FILLER = f"{DISK}/filler"
_CLIENT_MB = 384
_LEASE_S = 10  # the shortest that nfsd takes: a client that is gone for longer loses its locks
_LOCKD_S = 3  # as short for v3

T = TypeVar("T")
S = TypeVar("S")


class Client:
    """A client: its cable stays, its guest is another one after each boot."""

    def __init__(self, number: int, directory: Path) -> None:
        self.name = f"client{number}"
        self.number = number
        self.cable = Cable()
        self._directory = directory
        self._mounted: list[str] = []
        self._is_skewed = False
        self.boot()

    def boot(self) -> None:
        """Begin to boot; `set_up` waits for the end of it."""
        self._is_skewed = False
        self.guest = Guest(self.name, [self.cable.client_end], self._directory, _CLIENT_MB)

    def close(self) -> None:
        """Leave nothing of it."""
        self.guest.kill()
        self.cable.close()

    def set_up(self) -> None:
        """Network, NFS, and what was mounted before it died."""
        self.guest.wait_until_ready()
        self.guest.run("@modules", "nfsv3", "nfsv4")
        self.guest.shell(f"{_network(self.name, [f'10.7.{self.number}.2'])}; {_LOCKING}")
        for flavour in self._mounted:
            self._mount(flavour)

    def mount(self, flavour: str) -> None:
        """Mount the share in one of `FLAVOURS`; once is enough."""
        if flavour not in self._mounted:
            self._mount(flavour)
            self._mounted.append(flavour)

    def _mount(self, flavour: str) -> None:
        options, point = FLAVOURS[flavour], place_of(flavour)
        exported = "/" if flavour.startswith("v4") else DISK
        self.guest.shell(f"mkdir -p {point}; mount -t nfs -o {options} 10.7.{self.number}.1:{exported} {point}")

    def skew(self, seconds: float) -> None:
        """Put its wall clock so far ahead of the host's."""
        self.guest.run("@clock", str(time.time() + seconds))
        self._is_skewed = bool(seconds)

    def mend(self) -> None:
        """End all programs and put the clock right."""
        self.guest.end_programs()
        if self._is_skewed:
            self.skew(0)


class Server:
    """The server: `guest` is its machine, on which the share is the local directory `DISK`."""

    memory_mb = 320
    disk_kb = 64 * 1024

    def __init__(self, clients: Iterable[Client], directory: Path) -> None:
        self._clients = list(clients)
        self._directory = directory
        self.boot()

    def boot(self) -> None:
        """Begin to boot; `set_up` waits for the end of it."""
        self._is_serving = True
        self._is_full = False
        self.guest = Guest("server", [each.cable.server_end for each in self._clients], self._directory, self.memory_mb)

    def kill(self) -> None:
        """Power loss. The disk is gone with it."""
        self.guest.kill()

    def set_up(self) -> None:
        """An empty disk, exported."""
        self.guest.wait_until_ready()
        self.guest.run("@modules", f"brd rd_nr=1 rd_size={self.disk_kb}")
        self.guest.shell(
            f"{_network('server', [f'10.7.{each.number}.1' for each in self._clients])};"
            "mkfs.ext4 -q -b 4096 -m 0 -N 40000 -J size=4 -E nodiscard /dev/ram0 >/dev/null 2>&1;"
            f"mkdir {DISK}; mount -t ext4 /dev/ram0 {DISK}; rmdir {DISK}/lost+found; chmod 1777 {DISK}"
        )
        self.serve()

    def serve(self) -> None:
        """Export the disk."""
        guest = self.guest
        guest.run("@modules", f"lockd nlm_timeout={_LOCKD_S} nlm_grace_period={_LOCKD_S}", "nfsd")
        guest.run("@mount", "nfsd", "/proc/fs/nfsd", "nfsd")
        guest.run("@mount", "rpc_pipefs", "/run/rpc_pipefs", "rpc_pipefs")
        guest.shell(
            f"{_LOCKING};"
            "touch /var/lib/nfs/etab /var/lib/nfs/rmtab; nfsdcld; rpc.mountd;"  # nfsdcld: who may reclaim after a restart
            f"exportfs -i -o rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0 '*:{DISK}'; {_START};"
            "echo Y >/proc/fs/lockd/nlm_end_grace"  # nobody has a lock to reclaim yet
        )

    def stop(self) -> None:
        """Stop nfsd: clients are refused, what they ask waits. It forgets what it has answered."""
        self.guest.run("rpc.nfsd", "0")
        self._is_serving = False

    def start(self) -> None:
        """Start it again. For up to `_LEASE_S` clients can only reclaim what they had."""
        self.guest.shell(_START)
        self._is_serving = True

    def fill(self) -> None:
        """Leave no free block on the disk."""
        self._is_full = True
        self.guest.run("@fill", _FILLER)

    def free(self) -> None:
        """Undo `fill`."""
        self.guest.run("rm", "-f", _FILLER)
        self._is_full = False

    def mend(self) -> None:
        """Serve, with space on the disk."""
        if not self._is_serving:
            self.start()
        if self._is_full:
            self.free()


class Lab:
    """See the module. Boots when entered; *clients* is their number, *server* another kind of one."""

    def __init__(self, clients: int = 3, server: type[Server] = Server) -> None:
        self._count = clients
        self._server = server
        self.clients: list[Client] = []

    def __enter__(self) -> Lab:
        with ExitStack() as undo:
            _sweep()
            prefix = f"{_PREFIX}{os.getpid()}-"
            temporary = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
            directory = Path(undo.enter_context(temporary))
            for number in range(1, self._count + 1):
                client = Client(number, directory)
                undo.callback(client.close)
                self.clients.append(client)
            self.server = self._server(self.clients, directory)
            undo.callback(self.server.kill)
            at_once([self.server.set_up, *(client.set_up for client in self.clients)], lambda set_up: set_up())
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def share(self, flavour: str) -> str:
        """The path of the share in one of `FLAVOURS`, mounted on every client."""
        at_once(self.clients, lambda client: client.mount(flavour))
        return place_of(flavour)

    def mend(self) -> None:
        """Undo every fault and end all programs; the disk keeps what is on it, unless the server fell."""
        for client in self.clients:
            client.cable.mend()
        if self.server.guest.is_alive:
            self.server.mend()
        else:
            for client in self.clients:
                client.guest.kill()  # what they have mounted is no more
            self.server.kill()
            self.server.boot()
            self.server.set_up()
        dead = [client for client in self.clients if not client.guest.is_alive]
        for client in self.clients:
            if client in dead:
                client.guest.kill()  # one that fell has left its helpers
                client.boot()
            else:
                client.mend()
        at_once(dead, Client.set_up)


def place_of(flavour: str) -> str:
    """Where clients mount a flavour."""
    return f"/run/share/{flavour}"


def at_once(items: Iterable[S], act: Callable[[S], T]) -> list[T]:
    """Do the same with all, at once. After an error, or Ctrl-C, the others are not waited for."""
    several = list(items)
    pool = ThreadPoolExecutor(max(1, len(several)))
    try:
        return [future.result() for future in [pool.submit(act, each) for each in several]]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _sweep() -> None:
    """Remove the directories of labs that were killed; their guests ended by themselves."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _network(name: str, addresses: list[str]) -> str:
    cards = "; ".join(
        f"ip address add {address}/24 dev vec{nth}; ip link set vec{nth} up" for nth, address in enumerate(addresses)
    )
    return f"echo {name} >/proc/sys/kernel/hostname; ip link set lo up; {cards}"


_LOCKING = (  # v3 keeps locks by a protocol of its own
    "mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak; touch /var/lib/nfs/state; chown -R statd /var/lib/nfs;"
    "rpcbind; rpc.statd --no-notify"
)
_START = f"rpc.nfsd --lease-time {_LEASE_S} --grace-time {_LEASE_S} 8"
