"""What a machine must have to run the lab, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence

from tests.machine import can_install, install_packages
from tests.nfs.lab.machine import KERNEL, LabError

PACKAGES = ("user-mode-linux", "nfs-kernel-server", "nfs-common", "rpcbind", "e2fsprogs", "iproute2")
_PROGRAMS = (
    *(KERNEL, "rpc.nfsd", "rpc.mountd", "exportfs", "nfsdcld"),
    *("mount.nfs", "rpc.statd", "rpcbind", "mkfs.ext4", "ip"),
)


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
    if not can_install():
        raise LabError(missing(more))
    if failed := install_packages([*PACKAGES, *packages]):
        raise LabError(f"{failed}; {missing(more)}")
    if missing(more):
        raise LabError(missing(more))
