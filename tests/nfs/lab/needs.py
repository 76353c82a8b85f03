"""What a machine must have to run the lab, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.nfs.lab.machine import KERNEL, LabError

PACKAGES = ("user-mode-linux", "nfs-kernel-server", "nfs-common", "rpcbind", "e2fsprogs", "iproute2")
_PROGRAMS = (
    *(KERNEL, "rpc.nfsd", "rpc.mountd", "exportfs", "nfsdcld"),
    *("mount.nfs", "rpc.statd", "rpcbind", "mkfs.ext4", "ip"),
)
_POLICY = Path("/usr/sbin/policy-rc.d")  # Debian asks it before a package starts its services
_START_NOTHING = "#!/bin/sh\nexit 101\n"


def missing(more: Sequence[str] = ()) -> str:
    """What is missing, in one line that says how to get it; empty when the lab can run, with the programs *more* as well."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the NFS lab needs Linux on x86_64"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [each for each in (*_PROGRAMS, *more) if shutil.which(each, path=path) is None]
    return f"the NFS lab needs {', '.join(absent)}; as root on Debian: scripts/nfs-lab install" if absent else ""


def install(more: Sequence[str] = (), packages: Sequence[str] = ()) -> None:
    """Install what is missing, *packages* for the programs *more*; no service is started. Raises LabError when it cannot."""
    if not missing(more):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LabError(missing(more))
    with no_services():
        for words in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES, *packages]):
            done = subprocess.run(
                ["apt-get", "-qq", *words],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise LabError(f"apt-get {words[0]} failed: {done.stderr.strip().splitlines()[-1:]}; {missing(more)}")
    if missing(more):
        raise LabError(missing(more))


@contextmanager
def no_services() -> Iterator[None]:
    """Forbid packages to start services; a machine that has a policy of its own keeps that."""
    try:
        with _POLICY.open("x") as file:
            file.write(_START_NOTHING)
    except FileExistsError:
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()
