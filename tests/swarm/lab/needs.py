"""What a machine must have to run the lab, and how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.machine import can_install, install_packages
from tests.swarm.lab.shell import PATH, LabError

_PACKAGE_OF = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "tini": "tini",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    "fsfreeze": "util-linux",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}


def missing() -> str:
    """What is missing, in one line that says how to get it; empty when the lab can run."""
    if sys.platform != "linux":
        return "the Swarm lab needs Linux"
    if os.geteuid() != 0:
        return "the Swarm lab needs root: it makes network namespaces and mounts"
    if not Path("/dev/loop-control").exists():
        return "the Swarm lab needs loop devices, and this machine has no /dev/loop-control"
    absent = _absent()
    return f"the Swarm lab needs {', '.join(absent)}; on Debian: scripts/swarm-lab install" if absent else ""


def install() -> None:
    """Install what is missing; no service is started. Raises LabError when this machine cannot."""
    absent = _absent()
    if absent and can_install():
        failed = install_packages(sorted({_PACKAGE_OF[each] for each in absent}))
        if failed:
            raise LabError(f"{failed}; {missing()}")
    if missing():
        raise LabError(missing())


def _absent() -> list[str]:
    return [each for each in _PACKAGE_OF if shutil.which(each, path=PATH) is None]
