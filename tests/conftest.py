"""What several tiers need: mounts of each kind, processes on them, hypothesis profiles."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings

from claimwork.claims import Claims, ClaimStore
from claimwork.fs import Fs, PosixFs
from claimwork.layout import Layout
from claimwork.marker_store import MarkerStore
from claimwork.results import Stage
from claimwork.testing import HookedFs, ManualClock, MemoryServer
from claimwork.ticket_store import RenameStore

# `HYPOTHESIS_PROFILE=long pytest tests/stateful` looks further than anybody wants to wait for each time
_COMMON = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("ci", deadline=None, max_examples=100, suppress_health_check=_COMMON)
settings.register_profile("long", deadline=None, max_examples=5000, suppress_health_check=_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(params=["memory", "disk", "tmpfs"])
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Fs, str]]:
    """A filesystem and an empty directory on it."""
    if request.param == "memory":
        server = MemoryServer()
        server.mkdir("/mnt")
        yield server, "/mnt"
    elif request.param == "disk":
        yield PosixFs(str(tmp_path)), str(tmp_path)
    elif not Path("/dev/shm").is_dir():
        pytest.skip("no tmpfs at /dev/shm: only Linux has one")
    else:
        root = tempfile.mkdtemp(dir="/dev/shm", prefix="claimwork-test-")
        yield PosixFs(root), root
        shutil.rmtree(root)


@pytest.fixture
def layout(mount: tuple[Fs, str]) -> Layout:
    """The tree of a new job on the mount."""
    fs, root = mount
    tree = Layout(root)
    for directory in tree.directories():
        fs.mkdir(directory)
    return tree


def memory_tree(kind: str = "tmpfs") -> tuple[MemoryServer, Layout]:
    """The tree of a new job in memory, on a filesystem of this *kind*."""
    server, tree = MemoryServer(kind, rng=Random(0)), Layout("/out")
    for directory in ("/out", *tree.directories()):
        server.mkdir(directory)
    return server, tree


class Told:
    """A child's `Progress` without a worker: notes what it is told, and says to stop before input *stop*."""

    def __init__(self, stop: int = 1 << 62) -> None:
        self.stop = stop
        self.begun: list[int] = []
        self.counts: list[int] = []

    def loaded(self) -> None:
        """Nobody waits for it."""

    def begin(self, index: int) -> None:
        """Note the input."""
        self.begun.append(index)

    def end(self) -> None:
        """Nobody waits for it."""

    def counted(self, count: int) -> None:
        """Note the number."""
        self.counts.append(count)

    def stops_at(self) -> int:
        """What the worker would say."""
        return self.stop

    def is_set(self) -> bool:
        """No claim is ever lost here."""
        return False


class Peer:
    """What one worker needs to hold tickets, on any filesystem: its directories, its stage, its store."""

    def __init__(self, fs: Fs, layout: Layout, number: int, claims: str) -> None:
        self.id = f"{number:032x}"
        self.fs = fs
        self.stage = Stage(fs, layout, self.id, "w")
        store = RenameStore if claims == "rename" else MarkerStore
        self.store: ClaimStore = store(fs, layout, self.id, self.stage)
        self.clock = ManualClock()
        self.claims = Claims(fs, layout, self.store, self.clock, Random(number))


class MakePeer:
    """Starts worker number *n*, or gives it another view of the mount."""

    def __init__(self, fs: Fs, layout: Layout, claims: str) -> None:
        self.claims = claims
        self._fs = fs
        self._layout = layout

    def __call__(self, number: int, fs: Fs | None = None) -> Peer:
        made = Peer(fs or HookedFs(self._fs), self._layout, number, self.claims)
        self._fs.mkdir(self._layout.stage_of(made.id))
        self._fs.mkdir(self._layout.work_of(made.id))
        return made


@pytest.fixture(params=["rename", "marker"])
def peer(request: pytest.FixtureRequest, mount: tuple[Fs, str], layout: Layout) -> MakePeer:
    """Workers on the mount; for both ways to claim."""
    return MakePeer(mount[0], layout, request.param)
