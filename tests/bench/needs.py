"""What the suites compare with, and how a machine gets it: Debian's packages, and an environment of the benchmark's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.machine import can_install, install_packages

PACKAGES = {"parallel": "parallel", "redis-server": "redis-server", "strace": "strace"}  # program: Debian's package
ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv-bench"
PYTHON = HOME / "bin" / "python"
_LOCK = ROOT / "scripts" / "requirements-bench.txt"


def install_peers() -> str:
    """The Python packages of the lock; what went wrong, or nothing."""
    made_from = HOME / "made-from"
    if PYTHON.exists() and made_from.exists() and made_from.read_text(encoding="utf-8") == _key():
        return ""
    print("scripts/bench: installing the peers", file=sys.stderr)
    for argv in (
        [sys.executable, "-m", "venv", "--clear", str(HOME)],
        [str(HOME / "bin" / "pip"), "-qq", "install", "--require-hashes", "-r", str(_LOCK)],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"cannot install the peers: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    made_from.write_text(_key(), encoding="utf-8")
    return ""


def install_program(name: str) -> str:
    """A program of Debian's; how to get it where that is not possible, or nothing."""
    if shutil.which(name):
        return ""
    package = PACKAGES[name]
    if can_install():
        install_packages([package])
    return "" if shutil.which(name) else f"there is no {name}; as root on Debian: apt-get install {package}"


def _key() -> str:
    return f"{sys.version}\n{ROOT}\n{_LOCK.read_text(encoding='utf-8')}"
