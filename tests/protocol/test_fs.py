"""One suite for every Fs: a fake that differs from the real one here is worse than none."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from claimwork.errors import RecordError
from claimwork.fs import Fs, MountEntry, PosixFs, mount_entry, shares_locks
from claimwork.testing import MemoryServer

Mount = tuple[Fs, str]


def code_of(call: Callable[..., object], *args: object) -> str:
    """Name of the errno with which a call fails; empty when it does not."""
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


@pytest.fixture
def tree(mount: Mount) -> Mount:
    """Files f (b"f") and g (b"g"), an empty directory d, and a full one with d2/x."""
    fs, root = mount
    for name in "f", "g":
        fs.stage(f"{root}/{name}", name.encode())
    for name in "d", "d2":
        fs.mkdir(f"{root}/{name}")
    fs.stage(f"{root}/d2/x", b"x")
    return fs, root


def test_names_are_listed(tree: Mount) -> None:
    """A listing has every name once, in no order."""
    fs, root = tree

    assert sorted(fs.names(root)) == ["d", "d2", "f", "g"]
    assert fs.names(f"{root}/d") == []


def test_leftovers_of_nfs_are_not_listed(tree: Mount) -> None:
    """Files that the NFS client keeps for unlinked but open ones are nobody's business."""
    fs, root = tree
    fs.stage(f"{root}/d/.nfs0000000001", b"")

    assert fs.names(f"{root}/d") == []


@pytest.mark.parametrize(
    ("path", "code"), [("none", "ENOENT"), ("f", "ENOTDIR"), ("f/x", "ENOTDIR"), ("none/x", "ENOENT")]
)
def test_names_of_what_is_no_directory(tree: Mount, path: str, code: str) -> None:
    """Only a directory can be listed."""
    fs, root = tree

    assert code == code_of(fs.names, f"{root}/{path}")


@pytest.mark.parametrize("name", ["-x", "a\nb", " ", "ä", "a\u0308", "\udcff\udc80", "x" * 255, "ä" * 127, "..."])
def test_odd_names_are_kept_as_they_are(mount: Mount, name: str) -> None:
    """Every name that Linux allows goes in and comes out the same."""
    fs, root = mount
    fs.stage(f"{root}/{name}", b"1")

    assert ([name], b"1") == (fs.names(root), fs.read(f"{root}/{name}", 9))


@pytest.mark.parametrize("name", ["x" * 256, "ä" * 128, "\udcff" * 256])
def test_names_that_are_too_long(mount: Mount, name: str) -> None:
    """A component has 255 bytes at most."""
    fs, root = mount

    assert code_of(fs.stage, f"{root}/{name}", b"") == "ENAMETOOLONG"
    assert code_of(fs.mkdir, f"{root}/{name}") == "ENAMETOOLONG"
    assert code_of(fs.inode, f"{root}/{name}") == "ENAMETOOLONG"


def test_read_gives_the_whole_file_up_to_the_limit(tree: Mount) -> None:
    """The limit itself is allowed, one byte more is no record."""
    fs, root = tree
    data = bytes(range(256)) * 2000
    fs.stage(f"{root}/big", data)

    assert data == fs.read(f"{root}/big", len(data))
    with pytest.raises(RecordError):
        fs.read(f"{root}/big", len(data) - 1)


@pytest.mark.parametrize("method", ["read", "digest", "seal"])
@pytest.mark.parametrize(("path", "code"), [("none", "ENOENT"), ("f/x", "ENOTDIR")])
def test_reading_what_is_not_there(tree: Mount, method: str, path: str, code: str) -> None:
    """Absent files raise what the kernel says."""
    fs, root = tree

    assert code == code_of(getattr(fs, method), f"{root}/{path}", 9)


@pytest.mark.parametrize("method", ["read", "digest", "seal"])
def test_reading_a_directory_is_refused(tree: Mount, method: str) -> None:
    """What stands where a record should be and is none gets the same error as a damaged record."""
    fs, root = tree
    with pytest.raises(RecordError):
        getattr(fs, method)(f"{root}/d", 9)


@pytest.mark.parametrize("method", ["digest", "seal"])
def test_digest_keeps_small_contents(tree: Mount, method: str) -> None:
    """Size and digest always, the bytes while there are no more than asked for."""
    fs, root = tree
    data = b"z" * 600_000
    fs.stage(f"{root}/big", data)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()

    assert (600_000, digest, data) == getattr(fs, method)(f"{root}/big", 600_000)
    assert (600_000, digest, None) == getattr(fs, method)(f"{root}/big", 599_999)


def test_inode_tells_files_apart(tree: Mount) -> None:
    """Two files differ, two names of one file do not, an absent name has none."""
    fs, root = tree
    fs.link(f"{root}/f", f"{root}/f2")

    assert fs.inode(f"{root}/f") == fs.inode(f"{root}/f2") != fs.inode(f"{root}/g")
    assert fs.inode(f"{root}/none") is None
    assert fs.inode(f"{root}/none/x") is None
    assert code_of(fs.inode, f"{root}/f/x") == "ENOTDIR"


def test_mkdir_may_be_repeated(tree: Mount) -> None:
    """An existing name is fine, whatever it is; a missing parent is not."""
    fs, root = tree
    fs.mkdir(f"{root}/d2")
    fs.mkdir(f"{root}/f")

    assert fs.names(f"{root}/d2") == ["x"]
    assert code_of(fs.mkdir, f"{root}/none/x") == "ENOENT"
    assert code_of(fs.mkdir, f"{root}/f/x") == "ENOTDIR"


def test_stage_truncates_what_was_there(tree: Mount) -> None:
    """Staging again replaces the content under all names of the file."""
    fs, root = tree
    fs.stage(f"{root}/f", b"long content")
    fs.link(f"{root}/f", f"{root}/f2")
    fs.stage(f"{root}/f", b"short")

    assert fs.read(f"{root}/f2", 99) == b"short"


@pytest.mark.parametrize(("path", "code"), [("none/x", "ENOENT"), ("f/x", "ENOTDIR"), ("d", "EISDIR")])
def test_stage_where_it_cannot_be(tree: Mount, path: str, code: str) -> None:
    """Staging creates a file and nothing else: a removed stage directory stays removed."""
    fs, root = tree

    assert code == code_of(fs.stage, f"{root}/{path}", b"")


def test_flush_takes_files_and_directories(tree: Mount) -> None:
    """Both kinds survive a power loss, few or many."""
    fs, root = tree
    fs.flush([])
    fs.flush([f"{root}/f", f"{root}/d"])
    fs.flush(f"{root}/{name}" for name in ("f", "g", "d", "d2", "d2/x"))

    assert code_of(fs.flush, [f"{root}/none"]) == "ENOENT"


def test_link_publishes_once(tree: Mount) -> None:
    """The first of two links wins, the second changes nothing."""
    fs, root = tree
    fs.link(f"{root}/f", f"{root}/d/public")

    assert code_of(fs.link, f"{root}/g", f"{root}/d/public") == "EEXIST"
    assert code_of(fs.link, f"{root}/f", f"{root}/d/public") == "EEXIST"
    fs.unlink(f"{root}/f")
    assert fs.read(f"{root}/d/public", 9) == b"f"


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ("none", "new", "ENOENT"),
        ("none", "g", "ENOENT"),
        ("f", "none/x", "ENOENT"),
        ("f", "g/x", "ENOTDIR"),
        ("f/x", "new", "ENOTDIR"),
        ("f", "d", "EEXIST"),
        ("d", "g", "EEXIST"),
        ("d", "new", "EPERM"),
    ],
)
def test_link_that_cannot_be(tree: Mount, source: str, target: str, code: str) -> None:
    """A failed link says why and leaves nothing."""
    fs, root = tree

    assert code == code_of(fs.link, f"{root}/{source}", f"{root}/{target}")
    assert sorted(fs.names(root)) == ["d", "d2", "f", "g"]


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ("none", "new", "ENOENT"),
        ("none", "g", "ENOENT"),
        ("f", "none/x", "ENOENT"),
        ("none/x", "new", "ENOENT"),
        ("f", "g/x", "ENOTDIR"),
        ("f", "d", "EISDIR"),
        ("d", "f", "ENOTDIR"),
        ("d", "d2", "ENOTEMPTY"),
        ("d", "d/x", "EINVAL"),
    ],
)
def test_rename_that_cannot_be(tree: Mount, source: str, target: str, code: str) -> None:
    """A failed rename says why and moves nothing."""
    fs, root = tree

    assert code == code_of(fs.rename, f"{root}/{source}", f"{root}/{target}")
    assert sorted(fs.names(root)) == ["d", "d2", "f", "g"]


def test_rename_moves_the_name(tree: Mount) -> None:
    """One name goes, one comes, the file is the same."""
    fs, root = tree
    before = fs.inode(f"{root}/f")
    fs.rename(f"{root}/f", f"{root}/d/h")

    assert (sorted(fs.names(root)), fs.names(f"{root}/d")) == (["d", "d2", "g"], ["h"])
    assert before == fs.inode(f"{root}/d/h")
    assert code_of(fs.rename, f"{root}/f", f"{root}/d/h") == "ENOENT"


def test_rename_replaces_a_file(tree: Mount) -> None:
    """The old target is gone from this name and stays under others."""
    fs, root = tree
    fs.link(f"{root}/g", f"{root}/g2")
    fs.rename(f"{root}/f", f"{root}/g")

    assert (fs.read(f"{root}/g", 9), fs.read(f"{root}/g2", 9)) == (b"f", b"g")


def test_rename_between_two_names_of_one_file_does_nothing(tree: Mount) -> None:
    """POSIX demands it: both names stay."""
    fs, root = tree
    fs.link(f"{root}/f", f"{root}/f2")
    fs.rename(f"{root}/f", f"{root}/f2")
    fs.rename(f"{root}/f", f"{root}/f")

    assert sorted(fs.names(root)) == ["d", "d2", "f", "f2", "g"]


def test_rename_moves_directories(tree: Mount) -> None:
    """With everything in it, and over an empty directory."""
    fs, root = tree
    fs.rename(f"{root}/d2", f"{root}/d")
    fs.rename(f"{root}/d", f"{root}/d")

    assert (sorted(fs.names(root)), fs.names(f"{root}/d")) == (["d", "f", "g"], ["x"])


def test_unlink_removes_one_name(tree: Mount) -> None:
    """The file lives on under its others."""
    fs, root = tree
    fs.link(f"{root}/f", f"{root}/f2")
    fs.unlink(f"{root}/f")

    assert fs.read(f"{root}/f2", 9) == b"f"
    assert [code_of(fs.unlink, f"{root}/{name}") for name in ("f", "d", "g/x")] == ["ENOENT", "EISDIR", "ENOTDIR"]


def test_remove_tree_removes_all_below(tree: Mount) -> None:
    """What a program left in a stage goes, directories within directories and all."""
    fs, root = tree
    fs.mkdir(f"{root}/d2/deep")
    fs.stage(f"{root}/d2/deep/y", b"y")

    fs.remove_tree(f"{root}/d2")

    assert sorted(fs.names(root)) == ["d", "f", "g"]


def test_rmdir_removes_only_empty_directories(tree: Mount) -> None:
    """The step that the fence rests on."""
    fs, root = tree
    fs.rmdir(f"{root}/d")

    assert [code_of(fs.rmdir, f"{root}/{name}") for name in ("d", "d2", "f", "f/x")] == [
        "ENOENT",
        "ENOTEMPTY",
        "ENOTDIR",
        "ENOTDIR",
    ]


def test_nothing_gets_into_a_removed_directory(tree: Mount) -> None:
    """After the rmdir no request that was meant for the directory can succeed, however late."""
    fs, root = tree
    fs.rmdir(f"{root}/d")

    assert [
        code_of(fs.stage, f"{root}/d/x", b""),
        code_of(fs.link, f"{root}/f", f"{root}/d/x"),
        code_of(fs.rename, f"{root}/f", f"{root}/d/x"),
        code_of(fs.mkdir, f"{root}/d/x"),
        code_of(fs.open_beat, f"{root}/d/x", b""),
    ] == ["ENOENT"] * 5


def test_a_beat_is_rewritten_in_place(tree: Mount) -> None:
    """Peers read the new bytes, in the same file, wherever its name goes; its owner needs no name."""
    fs, root = tree
    beat = fs.open_beat(f"{root}/beat", b"one")
    inode = fs.inode(f"{root}/beat")
    beat.write(b"two")

    assert (b"two", inode) == (fs.read(f"{root}/beat", 9), fs.inode(f"{root}/beat"))
    fs.rename(f"{root}/beat", f"{root}/d/grave")
    beat.write(b"333")
    assert fs.read(f"{root}/d/grave", 9) == b"333"
    fs.unlink(f"{root}/d/grave")
    beat.write(b"444")
    assert fs.names(f"{root}/d") == []
    beat.close()


def test_a_shorter_beat_leaves_the_rest(tree: Mount) -> None:
    """Rewriting does not truncate: records have one length for that reason."""
    fs, root = tree
    beat = fs.open_beat(f"{root}/beat", b"long")
    beat.write(b"xy")
    beat.close()

    assert fs.read(f"{root}/beat", 9) == b"xyng"


def test_opening_a_beat_twice_is_opening_it_once(tree: Mount) -> None:
    """The name is random: when it exists, the reply to my own first call was lost."""
    fs, root = tree
    fs.open_beat(f"{root}/beat", b"one").close()
    inode = fs.inode(f"{root}/beat")
    fs.open_beat(f"{root}/beat", b"two").close()

    assert (fs.read(f"{root}/beat", 9), fs.inode(f"{root}/beat")) == (b"two", inode)
    assert code_of(fs.open_beat, f"{root}/d", b"") == "EISDIR"


def test_an_os_lock_has_one_holder(tree: Mount) -> None:
    """Held: nobody else gets it. Released: the next one does. Where locks are of one mount only, nobody gets any."""
    fs, root = tree
    first = fs.try_lock(f"{root}/d/lock")
    if isinstance(fs, PosixFs) and not shares_locks(mount_entry(root)):
        assert first is None
        return
    assert first is not None

    assert fs.try_lock(f"{root}/d/lock") is None
    first.release()
    first.release()
    second = fs.try_lock(f"{root}/d/lock")
    assert second is not None
    second.release()


@pytest.mark.parametrize(
    ("entry", "shares"),
    [
        (MountEntry("ext4"), True),
        (MountEntry("nfs4", "s:/x", frozenset({"local_lock=none"})), True),
        (MountEntry("nfs4", "s:/x", frozenset({"local_lock=posix"})), True),  # ours are flock(2)
        (MountEntry("nfs4", "s:/x", frozenset({"local_lock=flock"})), False),
        (MountEntry("nfs", "s:/x", frozenset({"nolock", "local_lock=all"})), False),
        (MountEntry("fuse.sshfs"), False),
    ],
)
def test_locks_of_one_mount_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: MountEntry, *, shares: bool
) -> None:
    """A neighbour that came by another mount of the same share would look dead, and would be buried again and again."""
    monkeypatch.setattr("claimwork.fs.mount_entry", lambda _path: entry)

    lock = PosixFs(str(tmp_path)).try_lock(f"{tmp_path}/lock")

    assert (lock is not None) == shares
    if lock is not None:
        lock.release()


def test_link_counts_of_the_memory_server() -> None:
    """A name more or less is counted, a replaced one as well."""
    server = MemoryServer()
    for name in "/a", "/b":
        server.stage(name, b"")
    server.link("/a", "/c")
    server.link("/b", "/d")
    server.rename("/a", "/d")
    server.unlink("/c")

    assert {name: server.links(name) for name in ("/b", "/d")} == {"/b": 1, "/d": 1}
