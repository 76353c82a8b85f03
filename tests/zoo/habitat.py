"""A habitat: hosts with kernels of their own that have one filesystem mounted, and how they lose and regain their power."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.nfs.lab.lab import Client, Lab, Server, at_once
from tests.nfs.lab.machine import Guest, LabError
from tests.zoo.species import IMAGE, IMAGE_BYTES, LAIR, SHARE, Species

HOSTS = 2
"""Of a shared filesystem."""


class Habitat(Protocol):
    """Use `open_habitat`. A *host* is counted from 0."""

    lair: Path

    @property
    def hosts(self) -> list[Guest]:
        """The hosts, dead ones too."""

    def restore(self) -> None:
        """Bring back every host that was killed, with the filesystem mounted."""


class _Local:
    """One host; with a disk image its files survive it."""

    def __init__(self, species: Species, lair: Path) -> None:
        self.lair = lair
        self._species = species
        self._boot()

    @property
    def hosts(self) -> list[Guest]:
        return [self._guest]

    def restore(self) -> None:
        if not self._guest.is_alive:
            self._guest.kill()
            self._boot()

    def close(self) -> None:
        self._guest.kill()

    def _boot(self) -> None:
        self._guest = Guest("host1", [], self.lair, self._species.memory_mb)
        try:
            self._guest.wait_until_ready()
            _mount(self._guest, self._species, self.lair, "")
        except BaseException:
            self._guest.kill()
            raise


class _Shared:
    """A server and hosts, each with a cable to it."""

    def __init__(self, species: Species, lair: Path, lab: Lab) -> None:
        self.lair = lair
        self._species = species
        self._lab = lab
        at_once(lab.clients, self._mount)

    @property
    def hosts(self) -> list[Guest]:
        return [client.guest for client in self._lab.clients]

    def restore(self) -> None:
        for client in self._lab.clients:
            if not client.guest.is_alive:
                client.guest.kill()
                client.boot()
                client.set_up()
                self._mount(client)

    def _mount(self, client: Client) -> None:
        _mount(client.guest, self._species, self.lair, f"10.7.{client.number}.1")


@contextmanager
def open_habitat(species: Species) -> Iterator[Habitat]:
    """Boot machines with *species* mounted on each of them; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="claimwork-zoo-", ignore_cleanup_errors=True) as name:
        lair = Path(name)
        if species.make:
            with (lair / IMAGE).open("wb") as image:
                image.truncate(IMAGE_BYTES)
            script = _filled(species.make, lair)
            done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False, env=_PATHS)
            if done.returncode:
                raise LabError(f"{species.name}: {script!r} failed: {done.stderr.strip()}")
        if not species.is_shared:
            local = _Local(species, lair)
            try:
                yield local
            finally:
                local.close()
            return
        with Lab(HOSTS, _server_of(species, lair)) as lab:
            yield _Shared(species, lair, lab)


_PATHS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def _server_of(species: Species, lair: Path) -> type[Server]:
    if not species.serve:
        return Server  # the kernel's

    class _Keeper(Server):
        memory_mb = species.memory_mb
        disk_kb = 256 * 1024  # some daemons keep a part of it free

        def serve(self) -> None:
            self.guest.run("@modules", *species.modules)
            self.guest.shell(_filled(species.serve, lair), limit_s=120.0)

    return _Keeper


def _mount(guest: Guest, species: Species, lair: Path, server: str) -> None:
    guest.run("@modules", *species.modules)
    guest.run("@mount", "none", LAIR, "hostfs", str(lair))
    guest.shell(
        f"mkdir -p {SHARE}; echo {guest.name} >/proc/sys/kernel/hostname; {_filled(species.mount, lair, server)}",
        limit_s=120.0,
    )


def _filled(script: str, lair: Path, server: str = "") -> str:
    return script.replace("{lair}", str(lair)).replace("{server}", server)


def names_of(hosts: Sequence[Guest]) -> str:
    """For a person."""
    return ", ".join(each.name for each in hosts)
