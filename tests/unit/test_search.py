"""A search among the planned inputs: by a part of the path or by a glob, each input once, and no more than asked for."""

from __future__ import annotations

from claimwork.inputs import search
from claimwork.layout import Layout
from claimwork.plan_log import PlanLog
from claimwork.records import Input, Segment
from claimwork.results import Stage
from claimwork.testing import MemoryServer
from tests.conftest import memory_tree


def planned(*paths: str) -> tuple[MemoryServer, Layout]:
    """A plan of these inputs, of which the first was planned again after them."""
    server, layout = memory_tree()
    stage = Stage(server, layout, "a" * 32, "w")
    server.mkdir(stage.directory)
    log = PlanLog(server, layout)
    log.append(0, Segment([Input(path, 1) for path in paths], []), stage)
    log.append(1, Segment([Input(paths[0], 1, None, (0, 0))], []), stage)
    return server, layout


def test_a_part_of_a_path_or_a_glob() -> None:
    """Without a wildcard any part fits; with one the whole path must."""
    server, layout = planned("deep/a.txt", "b.txt", "a.md", "A.txt")

    assert search(server, layout, "a", 9) == ["deep/a.txt", "a.md"]
    assert search(server, layout, "a.*", 9) == ["a.md"]
    assert search(server, layout, "*.txt", 9) == ["deep/a.txt", "b.txt", "A.txt"]
    assert search(server, layout, "[ab].*", 9) == ["b.txt", "a.md"]
    assert search(server, layout, "c", 9) == []


def test_no_more_than_asked_for() -> None:
    """The first ones of the plan."""
    server, layout = planned(*(f"{number:03}" for number in range(100)))

    assert search(server, layout, "0", 3) == ["000", "001", "002"]
