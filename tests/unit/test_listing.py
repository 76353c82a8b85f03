from __future__ import annotations

import os
from pathlib import Path

import pytest

from claimwork.listing import TICK_S, FreshListing
from claimwork.testing import ManualClock


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was asked of the kernel: an entry each time that it was told to forget what it has of a directory."""
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *args: asked.append(args[3]), raising=False)
    return asked


def test_a_listing_is_trusted_once_the_tick_of_its_directory_is_over(tmp_path: Path, forgotten: list[int]) -> None:
    """Names may be added in the tick of the change that is shown; whoever lists later than that has them all."""
    (tmp_path / "a").touch()
    clock = ManualClock()
    listing = FreshListing(clock)

    def look() -> int:
        before = len(forgotten)
        assert listing.names(os.fsencode(tmp_path)) == [b"a"]
        return len(forgotten) - before

    assert [look(), look()] == [1, 1]
    clock.sleep(TICK_S + 1)
    assert [look(), look(), look()] == [1, 0, 0]


def test_a_directory_that_changes_is_doubted_again(tmp_path: Path, forgotten: list[int]) -> None:
    """The next change has a tick of its own."""
    clock = ManualClock()
    listing = FreshListing(clock)
    for _ in range(3):
        listing.names(os.fsencode(tmp_path))
        clock.sleep(TICK_S + 1)
    known = len(forgotten)

    (tmp_path / "b").touch()

    assert listing.names(os.fsencode(tmp_path)) == [b"b"]
    assert len(forgotten) == known + 1


def test_a_mount_that_refuses_to_forget_is_listed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice is no more than that."""

    def refuse(*_: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    (tmp_path / os.fsdecode(b"\xff\xfe")).touch()

    assert FreshListing(ManualClock()).names(os.fsencode(tmp_path)) == [b"\xff\xfe"]
