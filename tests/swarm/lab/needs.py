"""What a machine must have to run the lab, and how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
_POLICY = Path("/usr/sbin/policy-rc.d")  # Debian asks it before a package starts its services
_START_NOTHING = "#!/bin/sh\nexit 101\n"


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
    if absent and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        packages = sorted({_PACKAGE_OF[each] for each in absent})
        with _no_services():
            for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
                done = subprocess.run(
                    ["apt-get", "-qq", *words],
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    raise LabError(f"apt-get {words[0]} failed: {done.stderr.strip().splitlines()[-1:]}; {missing()}")
    if missing():
        raise LabError(missing())


def _absent() -> list[str]:
    return [each for each in _PACKAGE_OF if shutil.which(each, path=PATH) is None]


@contextmanager
def _no_services() -> Iterator[None]:
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
