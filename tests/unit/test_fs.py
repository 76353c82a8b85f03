"""The real filesystem: what a fake has not got."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from claimwork.errors import RecordError
from claimwork.fs import PosixFs, decode_path, encode_path, filesystem_kind, has_atomic_rename


@pytest.fixture
def fs(tmp_path: Path) -> PosixFs:
    """The filesystem of the temporary directory."""
    return PosixFs(str(tmp_path))


@pytest.fixture(params=["FIFO", "link", "dangling link", "link to a directory", "device", "socket", "directory"])
def strange(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What is no plain file."""
    path = tmp_path / "strange"
    (tmp_path / "plain").write_bytes(b"secret")
    match request.param:
        case "FIFO":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "plain")
        case "dangling link":
            path.symlink_to(tmp_path / "none")
        case "link to a directory":
            path.symlink_to(tmp_path)
        case "device":
            return "/dev/zero"
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case _:
            path.mkdir()
    return str(path)


@pytest.mark.parametrize("method", ["read", "digest", "seal"])
def test_only_plain_files_are_read(fs: PosixFs, strange: str, method: str) -> None:
    """Nothing blocks, nothing is followed, nothing endless is read."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RecordError):
        getattr(fs, method)(strange, 10)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_an_nfs_client_left_behind_goes_with_its_directory(fs: PosixFs, tmp_path: Path) -> None:
    """A host that lost its power with an unlinked file open leaves a name that no listing here shows; other files stay."""
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/.nfs0000000000000001").write_bytes(b"")
    assert fs.names(str(tmp_path / "stage")) == []
    fs.rmdir(str(tmp_path / "stage"))
    assert not (tmp_path / "stage").exists()

    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(b"")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(str(tmp_path / "full"))


def test_a_link_is_not_written_through(fs: PosixFs, tmp_path: Path) -> None:
    """Staging where somebody put a link does not touch what it points at."""
    (tmp_path / "plain").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    with pytest.raises(OSError, match="symbolic links"):
        fs.stage(str(tmp_path / "link"), b"mine")
    with pytest.raises(OSError, match="symbolic links"):
        fs.open_beat(str(tmp_path / "link"), b"mine")

    assert (tmp_path / "plain").read_bytes() == b"theirs"


def test_links_are_looked_at_themselves(fs: PosixFs, tmp_path: Path) -> None:
    """A name is what it is, not what it points at."""
    (tmp_path / "dangling").symlink_to(tmp_path / "none")

    assert fs.inode(str(tmp_path / "dangling")) is not None


def test_a_growing_file_is_cut_off(fs: PosixFs, tmp_path: Path) -> None:
    """The limit holds whatever fstat said: a sparse file of a terabyte costs no memory."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecordError, match="larger than 1024 bytes"):
        fs.read(str(tmp_path / "huge"), 1024)


def test_paths_do_not_depend_on_the_locale(fs: PosixFs, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 go in and come out."""
    name = b"\xff\xfe\xc3\xa9"
    (Path(os.fsdecode(encode_path(str(tmp_path)) + b"/" + name))).write_bytes(b"1")

    assert fs.names(str(tmp_path)) == [decode_path(name)]
    assert fs.read(f"{tmp_path}/{decode_path(name)}", 9) == b"1"


def test_the_kind_of_a_mount() -> None:
    """As the kernel's table has it."""
    assert filesystem_kind("/proc") == "proc"
    assert filesystem_kind("/dev/shm") == "tmpfs"
    assert filesystem_kind("/proc/none/such") == "proc"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ext4", True),
        ("xfs", True),
        ("tmpfs", True),
        ("nfs", True),
        ("nfs4", True),
        ("fuse.sshfs", False),
        ("9p", False),
    ],
)
def test_where_rename_is_one_step(kind: str, expected: bool) -> None:
    """Anything unknown gets marker claims."""
    assert has_atomic_rename(kind) == expected


@pytest.mark.parametrize("count", [1, 3, 4, 40])
def test_flush_leaves_no_descriptors(fs: PosixFs, tmp_path: Path, count: int) -> None:
    """One by one or all at once."""
    paths = [str(tmp_path / str(number)) for number in range(count)]
    for path in paths:
        fs.stage(path, b"x")
    before = len(os.listdir("/proc/self/fd"))
    fs.flush(paths)

    assert len(os.listdir("/proc/self/fd")) == before


def test_of_many_links_one_wins(fs: PosixFs, tmp_path: Path) -> None:
    """Threads that meet at a barrier: the kernel picks one."""
    racers = 8
    barrier = threading.Barrier(racers)
    for nth in range(racers):
        fs.stage(str(tmp_path / f"s{nth}"), str(nth).encode())
    for target in "abc":
        won: list[int] = []

        def race(nth: int, target: str = target, won: list[int] = won) -> None:
            barrier.wait()
            try:
                fs.link(str(tmp_path / f"s{nth}"), str(tmp_path / target))
            except FileExistsError:
                return
            won.append(nth)

        threads = [threading.Thread(target=race, args=(nth,)) for nth in range(racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [(tmp_path / target).read_bytes()] == [str(nth).encode() for nth in won]
