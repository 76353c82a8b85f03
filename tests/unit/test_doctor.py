"""Doctor: each assumption that a filesystem breaks is found, named, and ends in the right verdict."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from claimwork.clock import SystemClock
from claimwork.doctor import Diagnosis, Finding, Weight, diagnose, mount, pair, probes, refuse_unfit
from claimwork.errors import UnfitFilesystem, UsageError, WorkerFault
from claimwork.fs import Fs, MountEntry, PosixFs
from claimwork.testing import FaultyFs, HookedFs, MemoryServer


class Shared(MemoryServer):
    """A filesystem in memory that threads may share, as a kernel's can be."""

    def __init__(self) -> None:
        super().__init__("ext4", Random(1))
        self.mkdir("/root")
        self._one = threading.Lock()
        for name in ("link", "rename", "unlink", "stage", "names", "rmdir"):
            setattr(self, name, self._alone(getattr(self, name)))

    def _alone(self, call: Callable[..., object]) -> Callable[..., object]:
        def locked(*args: object) -> object:
            with self._one:
                return call(*args)

        return locked


def failing(fs: Fs, probe: probes.Probe) -> list[Finding]:
    """What *probe* finds amiss."""
    return [each for each in probes.run(fs, "/root", (probe,)) if not each.ok]


@pytest.mark.parametrize("probe", [probes.link, probes.fence, probes.races, probes.listing, probes.beat, probes.lock])
def test_a_sound_filesystem_passes(probe: probes.Probe) -> None:
    """The same probes on memory: what they find elsewhere is not their own doing."""
    if probe is probes.races:
        findings = list(probes.run(Shared(), "/root", (probe,)))
        assert [each.ok for each in findings] == [True, True]
    else:
        assert failing(Shared(), probe) == []


def test_everything_on_the_real_one(tmp_path: Path) -> None:
    """Nothing is amiss, and nothing stays behind."""
    found = diagnose(str(tmp_path), SystemClock())

    assert found.verdict == "fit"
    assert (found.claims, found.patience_s) == ("rename", 75)
    assert [each for each in found.findings if not each.ok] == []
    assert os.listdir(tmp_path) == []


class NoLinks(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.link = self._refuse  # type: ignore[method-assign]

    def _refuse(self, source: str, target: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), source)


class Replacing(Shared):
    """link replaces, as a copy would."""

    def __init__(self) -> None:
        super().__init__()
        real = self.link

        def link(source: str, target: str) -> None:
            if self.inode(target) is not None:
                self.unlink(target)
            real(source, target)

        self.link = link  # type: ignore[method-assign]


class Copying(Shared):
    """link makes a copy with an inode of its own."""

    def __init__(self) -> None:
        super().__init__()

        def link(source: str, target: str) -> None:
            if self.inode(target) is not None:
                raise FileExistsError(errno.EEXIST, "", target)
            self.stage(target, self.read(source, 1 << 20))

        self.link = link  # type: ignore[method-assign]


class NoFence(Shared):
    """rmdir takes directories with all in them."""

    def __init__(self) -> None:
        super().__init__()
        real = self.rmdir

        def rmdir(path: str) -> None:
            for name in self.names(path):
                self.unlink(f"{path}/{name}")
            real(path)

        self.rmdir = rmdir  # type: ignore[method-assign]


class LateListings(Shared):
    """Listings are those of a moment ago."""

    def __init__(self) -> None:
        super().__init__()
        real, before = self.names, dict[str, list[str]]()

        def names(path: str) -> list[str]:
            shown, before[path] = before.get(path, []), real(path)
            return shown

        self.names = names  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fs", "probe", "words"),
    [
        (NoLinks, probes.link, "there are no hard links here (operation not permitted)"),
        (Replacing, probes.link, "a second link replaced the first"),
        (Copying, probes.link, "different inode numbers"),
        (NoFence, probes.fence, "rmdir removed a directory that was not empty"),
        (LateListings, probes.listing, "listings were out of date"),
    ],
)
def test_what_no_job_can_do_without(fs: type[Shared], probe: probes.Probe, words: str) -> None:
    """Each makes the mount unfit, with the reason in words."""
    (finding,) = failing(fs(), probe)

    assert finding.weight is Weight.UNFIT
    assert words in finding.words
    diagnosis = Diagnosis("/root", MountEntry("fuse.x"), (finding,))
    assert diagnosis.verdict == "unfit"
    assert words in diagnosis.words


def test_a_rename_of_two_steps_means_marker_claims() -> None:
    """Two racers both get a file: each answers yes, and there are two."""
    fs = Shared()
    started = threading.Barrier(4)

    def rename(source: str, target: str) -> None:
        data = fs.read(source, 10)
        if "/from/0" in source:
            started.wait()  # all have read it before anyone removes it
        fs.stage(target, data)
        try:
            fs.unlink(source)
        except FileNotFoundError:
            pass

    fs.rename = rename  # type: ignore[method-assign]

    (finding,) = [each for each in failing(fs, probes.races) if each.probe == "rename raced"]

    assert "became" in finding.words
    assert Diagnosis("/root", MountEntry("ext4"), (finding,)).claims == "marker"


def test_a_link_race_with_two_winners_is_unfit() -> None:
    """By the answers alone."""
    fs = Replacing()

    findings = {each.probe: each for each in failing(fs, probes.races)}

    assert findings["link raced"].weight is Weight.UNFIT
    assert "double winners" in findings["link raced"].words


@pytest.mark.parametrize(
    ("entry", "verdict", "words"),
    [
        (MountEntry("nfs4", "s:/x", frozenset({"hard", "vers=4.2"})), "fit", ""),
        (MountEntry("nfs4", "s:/x", frozenset({"soft"})), "fit", "soft: a slow server becomes errors"),
        (MountEntry("nfs", "s:/x", frozenset({"hard", "nocto"})), "fit", "nocto: what is opened may be stale"),
        (MountEntry("nfs", "s:/x", frozenset({"hard", "nolock"})), "fit", ""),
        (MountEntry("fuse.sshfs"), "fit with marker claims", "nothing is known of renames on fuse.sshfs"),
        (MountEntry("9p", "x", frozenset({"cache=loose"})), "fit with marker claims", "cache=loose"),
        (MountEntry("overlay"), "fit", "a container's own layer"),
        (MountEntry("ext4", "/dev/x", frozenset({"ro"})), "unfit", "read-only"),
    ],
)
def test_what_the_mount_table_tells(entry: MountEntry, verdict: str, words: str) -> None:
    """Types and options that are known to bring trouble."""
    findings = tuple(mount.examine(entry))

    assert Diagnosis("/x", entry, findings).verdict == verdict
    amiss = "; ".join(each.words for each in findings if not each.ok)
    assert words in amiss
    assert bool(words) == bool(amiss)


class OneNameAtATime(Shared):
    """A second name cannot be opened, as with the kernel's SMB client and leases."""

    def read(self, path: str, limit_bytes: int) -> bytes:
        if path.endswith("/public"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return super().read(path, limit_bytes)


def test_a_second_name_that_cannot_be_read() -> None:
    """Doctor and worker say the same, and it is no passing error."""
    (finding,) = failing(OneNameAtATime(), probes.link)

    assert (finding.weight, "by its second name (invalid argument)" in finding.words) == (Weight.UNFIT, True)
    with pytest.raises(UnfitFilesystem, match="by its second name"):
        refuse_unfit(OneNameAtATime(), "/root", "/root/probe")


def test_a_worker_refuses_an_unfit_mount_in_the_same_words() -> None:
    """And cleans up."""
    fs = NoLinks()

    with pytest.raises(UnfitFilesystem, match=r"unfit: link: there are no hard links here .* choose an OUT elsewhere"):
        refuse_unfit(fs, "/root", "/root/probe")
    assert fs.names("/root") == []


def test_a_passing_error_is_not_the_type_of_the_mount() -> None:
    """It is a fault of this worker, which may try again; so is a full disk."""
    fs = FaultyFs(Shared(), 1, OSError(errno.ENOSPC, "full"), executed=False)

    with pytest.raises(WorkerFault, match="no space"):
        refuse_unfit(fs, "/root", "/root/probe")


@pytest.mark.parametrize(
    ("told", "spread"),
    [
        (b"<POSIX(/disk/brick0):server:/disk/brick0/out>\0", False),
        (b"(<REPLICATE:zoo-replicate-0> <POSIX(/a):server:/a/out> <POSIX(/b):server:/b/out>)\0", False),
        (
            (
                b"((<DISTRIBUTE:zoo-dht> <POSIX(/a):server:/a/out> <POSIX(/b):server:/b/out>)"
                b" (zoo-dht-layout (zoo-client-0 0 2147483646) (zoo-client-1 2147483647 4294967295)))\0"
            ),
            True,
        ),
        (
            (
                b"((<DISTRIBUTE:zoo-dht> (<REPLICATE:zoo-replicate-0> <POSIX(/a):server:/a/out> <POSIX(/b):server:/b/out>)"
                b" (<REPLICATE:zoo-replicate-1> <POSIX(/c):server:/c/out> <POSIX(/d):server:/d/out>))"
                b" (zoo-dht-layout (zoo-replicate-0 0 2147483646) (zoo-replicate-1 2147483647 4294967295)))\0"
            ),
            True,
        ),
    ],
)
def test_a_distributed_volume_is_told_by_its_client(told: bytes, spread: bool) -> None:
    """As GlusterFS 10.3 told it of a directory on volumes of each layout."""
    assert probes.is_distributed(told) is spread


def test_a_volume_that_tells_nothing_of_itself_is_refused() -> None:
    """Two clients both won 3 links of 602 on a distributed one, so nobody may guess."""
    fs = Shared()
    fs.kind = "fuse.glusterfs"

    (finding,) = failing(fs, probes.volume)

    assert (finding.weight, "cannot be told" in finding.words) == (Weight.UNFIT, True)
    with pytest.raises(UnfitFilesystem, match="whether it is distributed"):
        refuse_unfit(fs, "/root", "/root/probe")
    assert failing(Shared(), probes.volume) == []


# -- pairs ------------------------------------------------------------------------------------------------------------


def both(tmp_path: Path, *sides: Fs) -> list[list[Finding]]:
    """Two doctors at once; what each finds."""
    found: list[list[Finding]] = [[], []]

    def examine(number: int) -> None:
        side = pair.Pair(sides[number], f"{tmp_path}/meeting", SystemClock(), 20)  # type: ignore[arg-type]
        side.meet()
        found[number] = list(side.examine())

    threads = [threading.Thread(target=examine, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_two_doctors_agree(tmp_path: Path) -> None:
    """On a sound mount all is well, both names were raced, and nothing stays behind."""
    mine, theirs = both(tmp_path, PosixFs(str(tmp_path)), PosixFs(str(tmp_path)))

    assert [each for each in [*mine, *theirs] if not each.ok] == []
    assert [each.probe for each in mine] == [each.probe for each in theirs]
    assert len(mine) == 11
    assert os.listdir(tmp_path) == []


class Grabbing(HookedFs):
    """A client whose link says yes although somebody else was first; it lets others be first, for a while."""

    def link(self, source: str, target: str) -> None:
        until = time.monotonic() + 0.5
        while self.inner.inode(target) is None and time.monotonic() < until:
            time.sleep(0.001)
        try:
            self.inner.link(source, target)
        except FileExistsError:
            pass


def test_two_winners_between_two_hosts(tmp_path: Path) -> None:
    """One client lies: both sides come to the same verdict."""
    real = PosixFs(str(tmp_path))

    for findings in both(tmp_path, real, Grabbing(real)):
        (bad,) = [
            each for each in findings if not each.ok and each.weight is not Weight.ADVICE
        ]  # a busy machine is slow
        assert (bad.probe, bad.weight) == ("link between two", Weight.UNFIT)


class FewNames(HookedFs):
    """A brick of GlusterFS on ext4: a few dozen names use up the room that an inode has for its attributes."""

    def link(self, source: str, target: str) -> None:
        if os.stat(source).st_nlink > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        self.inner.link(source, target)


def test_a_file_may_have_only_a_few_names(tmp_path: Path) -> None:
    """Claimwork needs no more of one file: doctor did, and called GlusterFS unfit, or a full disk."""
    fs = FewNames(PosixFs(str(tmp_path)))

    alone = list(probes.run(fs, str(tmp_path), (probes.races,)))
    pairs = both(tmp_path, fs, fs)

    assert [each for each in alone if not each.ok] == []
    for findings in pairs:
        assert [each.ok for each in findings if each.probe == "link between two"] == [True]


def test_nobody_comes(tmp_path: Path) -> None:
    """One line, and nothing stays behind that would keep the next two from meeting."""
    side = pair.Pair(PosixFs(str(tmp_path)), f"{tmp_path}/meeting", SystemClock(), 0.05)

    with pytest.raises(WorkerFault, match="start both doctors"):
        side.meet()
    both(tmp_path, PosixFs(str(tmp_path)), PosixFs(str(tmp_path)))


@pytest.mark.parametrize("code", ["a/b", "..", "", "x" * 41, "ü"])
def test_codes_are_words(tmp_path: Path, code: str) -> None:
    """A code is part of a path: letters, digits and dashes. None at all means no pair."""
    if not code:
        assert diagnose(str(tmp_path), SystemClock(), code).beat_lag is None
        return
    with pytest.raises(UsageError, match="not a code"):
        diagnose(str(tmp_path), SystemClock(), code)


def test_a_third_doctor(tmp_path: Path) -> None:
    """A code serves two."""
    (tmp_path / "meeting").mkdir()
    (tmp_path / "meeting" / "a").mkdir()
    (tmp_path / "meeting" / "b").mkdir()

    with pytest.raises(UsageError, match="choose another --pair CODE"):
        pair.Pair(PosixFs(str(tmp_path)), f"{tmp_path}/meeting", SystemClock(), 1).meet()
