"""Probes of one process: each tries what the protocol relies on (docs/protocol.md, assumptions) with the calls that ship.

They work in a directory of their own. A probe that cannot be carried out raises OSError, and `run` tells what that means.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from ..errors import RecordError
from ..fs import Fs, encode_path
from .finding import Finding, Weight

NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL})
_RACERS = 4
_NAMES = 50
_LISTED = 100
_LOW_BYTES = 100 << 20
_LOW_INODES = 10_000

Probe = Callable[[Fs, str], Iterator[Finding]]


def link(fs: Fs, root: str) -> Iterator[Finding]:
    """A1: a second name for a whole file, which never replaces."""
    fs.stage(f"{root}/mine", b"mine")
    fs.stage(f"{root}/other", b"other")
    try:
        fs.link(f"{root}/mine", f"{root}/public")
    except FileExistsError:
        pass  # nobody else writes here: the reply was lost, and the call was repeated
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        words = f"there are no hard links here ({os.strerror(error.errno or 0).lower()}), and results are published by link(2)"
        yield Finding("link", False, words, Weight.UNFIT)
        return
    try:
        fs.link(f"{root}/other", f"{root}/public")
        replaced = True
    except FileExistsError:
        replaced = False
    try:
        found = fs.read(f"{root}/public", 10)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # the kernel's SMB client asks for both names with one lease key, and Samba refuses that
        words = f"a file cannot be read by its second name ({os.strerror(error.errno or 0).lower()})"
        yield Finding("link", False, words, Weight.UNFIT)
        return
    if replaced or found != b"mine":
        yield Finding("link", False, "a second link replaced the first: results could be lost", Weight.UNFIT)
    elif fs.inode(f"{root}/mine") != fs.inode(f"{root}/public"):
        words = "two names of one file have different inode numbers: lost replies cannot be told from lost races"
        yield Finding("link", False, words, Weight.UNFIT)
    else:
        yield Finding("link", True, "a second name for a file, never replacing", Weight.UNFIT)


def volume(fs: Fs, root: str) -> Iterator[Finding]:
    """A1 on GlusterFS, by what its client tells: on a distributed volume one raced link in two hundred had two winners."""
    if fs.kind != "fuse.glusterfs":
        return
    try:
        told = os.getxattr(encode_path(root), "glusterfs.pathinfo")
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        yield Finding("volume", False, f"whether it is distributed cannot be told ({why})", Weight.UNFIT)
        return
    spread = is_distributed(told)
    words = "it is distributed: two workers can both link one name" if spread else "it is not distributed"
    yield Finding("volume", not spread, words, Weight.UNFIT)


def is_distributed(pathinfo: bytes) -> bool:
    """Whether GlusterFS keeps the files of a directory in several places, where a second link to a name may find another one free."""
    return b"<DISTRIBUTE:" in pathinfo


def fence(fs: Fs, root: str) -> Iterator[Finding]:
    """A3, A4: rmdir spares what is not empty; nothing gets into a directory, or out of a name, that is gone."""
    inner = f"{root}/fenced"
    fs.mkdir(inner)
    fs.stage(f"{inner}/ticket", b"")
    broken = []
    if _works(fs.rmdir, inner):
        broken.append("rmdir removed a directory that was not empty")
    else:
        fs.rename(f"{inner}/ticket", f"{root}/ticket")
        if fs.names(inner):
            broken.append("a file that was moved away is still listed")
        fs.rmdir(inner)
    if _works(fs.rename, f"{root}/ticket", f"{inner}/ticket"):
        broken.append("a file could be moved into a directory that was removed")
    if _works(fs.stage, f"{inner}/late", b""):
        broken.append("a file could be created in a directory that was removed")
    fs.stage(f"{root}/gone", b"")
    fs.unlink(f"{root}/gone")
    if _works(fs.link, f"{root}/gone", f"{root}/late"):
        broken.append("a file that was removed could be linked")
    words = "; ".join(broken) or "nothing gets into a directory that was removed"
    yield Finding("fence", not broken, words, Weight.UNFIT)


def races(fs: Fs, root: str) -> Iterator[Finding]:
    """A1, A2: of racing threads exactly one wins, by the answers and by what is there afterwards.

    Each link has a file of its own, as results and markers have: GlusterFS refuses dozens of names for one file, and keeps the
    files of a distributed volume in several places.
    """
    for racer in range(_RACERS):
        fs.mkdir(f"{root}/to{racer}")
        fs.mkdir(f"{root}/of{racer}")
        for number in range(_NAMES):
            fs.stage(f"{root}/of{racer}/{number}", b"")
    for directory in ("from", "links"):
        fs.mkdir(f"{root}/{directory}")
    for number in range(_NAMES):
        fs.stage(f"{root}/from/{number}", b"")
    yield _judged(
        "link raced", _race(lambda r, n: _works(fs.link, f"{root}/of{r}/{n}", f"{root}/links/{n}")), Weight.UNFIT
    )
    wins = _race(lambda r, n: _works(fs.rename, f"{root}/from/{n}", f"{root}/to{r}/{n}"))
    there = [name for racer in range(_RACERS) for name in fs.names(f"{root}/to{racer}")]
    if sorted(there) != sorted(map(str, range(_NAMES))):
        words = f"{_NAMES} raced files became {len(there)}: marker claims do without rename"
        yield Finding("rename raced", False, words, Weight.MARKER)
    else:
        yield _judged("rename raced", wins, Weight.MARKER)


def _race(act: Callable[[int, int], bool]) -> list[int]:
    """How many of the racers won each name."""
    start = threading.Barrier(_RACERS)

    def run(racer: int) -> list[bool]:
        start.wait()
        return [act(racer, number) for number in range(_NAMES)]

    with ThreadPoolExecutor(_RACERS) as pool:
        rows = list(pool.map(run, range(_RACERS)))
    return [sum(column) for column in zip(*rows, strict=True)]


def _judged(probe: str, wins: list[int], weight: Weight) -> Finding:
    double, none = sum(each > 1 for each in wins), wins.count(0)
    words = f"{len(wins)} names, {_RACERS} threads: {double} double winners, {none} without a winner"
    return Finding(probe, not double and not none, words, weight)


def listing(fs: Fs, root: str) -> Iterator[Finding]:
    """A5: a fresh listing shows what was there before it began."""
    inner = f"{root}/listed"
    fs.mkdir(inner)
    wrong = 0
    there = set()
    for number in range(_LISTED):
        fs.stage(f"{inner}/{number}", b"")
        there.add(str(number))
        if number % 3 == 0:
            fs.unlink(f"{inner}/{number}")
            there.remove(str(number))
        if number % 10 == 9:
            wrong += set(fs.names(inner)) != there
    words = "shows at once what was made and removed" if not wrong else f"{wrong} of 10 listings were out of date"
    yield Finding("listing", not wrong, words, Weight.UNFIT)


def beat(fs: Fs, root: str) -> Iterator[Finding]:
    """A heartbeat rewritten through the descriptor that made it is read back by whoever opens it."""
    held = fs.open_beat(f"{root}/beat", b"first")
    try:
        seen = fs.read(f"{root}/beat", 10)
        held.write(b"after")
        ok = (seen, fs.read(f"{root}/beat", 10)) == (b"first", b"after")
    finally:
        held.close()
    yield Finding(
        "heartbeat", ok, "is read as it was written" if ok else "is read as it was, not as it is", Weight.UNFIT
    )


def flush(fs: Fs, root: str) -> Iterator[Finding]:
    """A6: fsync of files and directories is taken."""
    fs.stage(f"{root}/flushed", b"x")
    try:
        fs.flush([f"{root}/flushed"])
        fs.seal(f"{root}/flushed", 0)
    except OSError as error:
        words = f"fsync is refused ({os.strerror(error.errno or 0).lower()}): a power loss may take results that were reported"
        yield Finding("flush", False, words, Weight.ADVICE)
    else:
        yield Finding("flush", True, "fsync is taken", Weight.ADVICE)


def lock(fs: Fs, root: str) -> Iterator[Finding]:
    """A hint only: a worker that died on this kernel is noticed at once by its lock."""
    first = fs.try_lock(f"{root}/locked")
    second = fs.try_lock(f"{root}/locked") if first is not None else None
    ok = first is not None and second is None
    for each in (first, second):
        if each is not None:
            each.release()
    words = "a second holder is refused" if ok else "OS locks tell nothing here: a dead worker is noticed after T"
    yield Finding("lock", ok, words, Weight.FACT)


def names(fs: Fs, root: str) -> Iterator[Finding]:
    """Which names of inputs can be mirrored. Names inside .claimwork are short ASCII in one case."""
    refused = []
    for what, name in (
        ("255 bytes", "n" * 255),
        ("a newline", "a\nb"),
        ("bytes that are not UTF-8", b"\xff\xfe".decode("utf-8", "surrogateescape")),
    ):
        if not (_works(fs.stage, f"{root}/{name}", b"") and name in fs.names(root)):
            refused.append(what)
    fs.stage(f"{root}/probe-a\u0308", b"")
    folds = fs.inode(f"{root}/PROBE-A\u0308") is not None or fs.inode(f"{root}/probe-\u00e4") is not None
    told = [f"names with {' or '.join(refused)} are refused: such inputs cannot get a result"] if refused else []
    told += (
        ["names that differ in case or Unicode form are one: results that would collide get a hash"] if folds else []
    )
    yield Finding("names", not refused, "; ".join(told) or "any bytes, up to 255 of them", Weight.ADVICE)


def owner(fs: Fs, root: str) -> Iterator[Finding]:
    """A9: files belong to whoever made them, and not to somebody the server maps them to."""
    fs.stage(f"{root}/owned", b"")
    found, mine = os.lstat(encode_path(f"{root}/owned")).st_uid, os.geteuid()
    words = f"files belong to uid {found}, which this process is"
    if found != mine:
        words = f"this process is uid {mine}, and its files belong to uid {found}: let all workers be mapped to one uid"
    yield Finding("owner", found == mine, words, Weight.ADVICE)


def space(_fs: Fs, root: str) -> Iterator[Finding]:
    """Room for results and tickets; some mounts report no inodes."""
    told = os.statvfs(encode_path(root))
    free, inodes = told.f_bavail * told.f_frsize, told.f_favail
    low = free < _LOW_BYTES or (told.f_files > 0 and inodes < _LOW_INODES)
    words = f"{free / (1 << 30):.1f} GiB" + (f" and {inodes} inodes" if told.f_files else "") + " are free"
    yield Finding("space", not low, words, Weight.ADVICE)


ALL: tuple[Probe, ...] = (link, volume, fence, races, listing, beat, flush, lock, names, owner, space)
CHEAP: tuple[Probe, ...] = (link, volume, fence)  # about twenty round trips: what every worker tries before it joins


def run(fs: Fs, root: str, probes: tuple[Probe, ...]) -> Iterator[Finding]:
    """Carry out *probes* below the existing directory *root*."""
    for probe in probes:
        try:
            yield from probe(fs, root)
        except (OSError, RecordError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            yield Finding(probe.__name__, False, f"cannot be carried out: {why.lower()}", Weight.UNFIT)


def _works(call: Callable[..., None], *args: object) -> bool:
    try:
        call(*args)
    except OSError:
        return False
    return True
