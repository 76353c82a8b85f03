"""Planning: each input once, whoever plans, whoever dies; and what counts as an input."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from claimwork import policy
from claimwork.claims import Claims
from claimwork.coverage import Coverage
from claimwork.fs import Fs, encode_path
from claimwork.names import Kind, Ticket, mirrored
from claimwork.plan_log import PlanLog
from claimwork.planner import Found, Planner, PlanReport, list_inputs
from claimwork.records import Close, Input, Job, Segment
from claimwork.results import Stage
from claimwork.testing import Died, FaultyFs, ManualClock, PausingFs
from claimwork.ticket_store import RenameStore
from tests.conftest import memory_tree

JOB = Job("job", "wordcount")
FOUND: list[Found] = [("small", 1), ("large", 900), ("b/medium", 30), ("b/twin", 30), ("empty", 0)]


class World:
    """A job in memory, and planners at it."""

    def __init__(self, job: Job = JOB) -> None:
        self.server, self.layout = memory_tree()
        self.job = job
        self.log = PlanLog(self.server, self.layout)

    def planner(self, number: int, fs: Fs | None = None) -> Planner:
        worker = f"{number:032x}"
        fs = fs or self.server
        self.server.mkdir(self.layout.stage_of(worker))
        self.server.mkdir(self.layout.work_of(worker))
        stage = Stage(fs, self.layout, worker, "p")
        return Planner(fs, self.layout, self.job, stage, RenameStore(fs, self.layout, worker, stage))

    def claims(self) -> Claims:
        stage = Stage(self.server, self.layout, f"{99:032x}", "w")
        self.server.mkdir(stage.directory)
        store = RenameStore(self.server, self.layout, f"{99:032x}", stage)
        return Claims(self.server, self.layout, store, ManualClock(), Random(0))

    def ready(self) -> list[Ticket]:
        return sorted(self.claims().ready(), key=lambda each: each.name)

    def inputs(self) -> list[Input]:
        entries = [entry for _, entry in self.log.entries()]
        return [each for entry in entries if isinstance(entry, Segment) for each in entry.inputs]

    def closes(self) -> list[Close]:
        return [entry for _, entry in self.log.entries() if isinstance(entry, Close)]


def covered(tickets: list[Ticket]) -> list[tuple[int, int]]:
    """Every (segment, index) that map tickets stand for, with repetitions."""
    return sorted(
        (each.segment, index) for each in tickets if each.kind is Kind.MAP for index in range(each.lo, each.hi)
    )


def planned(world: World) -> list[tuple[int, int]]:
    """Every (segment, index) in the plan."""
    return sorted(
        (number, index)
        for number, entry in world.log.entries()
        if isinstance(entry, Segment)
        for index in range(len(entry.inputs))
    )


def test_a_plan_is_a_log_and_tickets() -> None:
    """Largest first; each input in one ticket; a close; a reduce ticket."""
    world = World()
    report = world.planner(1).plan(FOUND)

    assert report == PlanReport(added=5, added_bytes=961, generation=1)
    assert [(each.path, each.size_bytes) for each in world.inputs()] == [
        ("large", 900),
        ("b/medium", 30),
        ("b/twin", 30),
        ("small", 1),
        ("empty", 0),
    ]
    assert world.closes() == [Close(1, None, [(0, 5, 961)])]
    assert covered(world.ready()) == planned(world)
    assert [each.segment for each in world.ready() if each.kind is Kind.REDUCE] == [1]


def test_an_empty_plan_is_closed_too() -> None:
    """A job without inputs ends with a summary of nothing."""
    world = World()

    assert world.planner(1).plan([]) == PlanReport(generation=1)
    assert world.closes() == [Close(1, None, [])]
    assert [each.kind for each in world.ready()] == [Kind.REDUCE]


def test_planning_again_adds_what_is_new() -> None:
    """What is planned stays; an input that changed is counted and stays as it was."""
    world = World()
    world.planner(1).plan(FOUND)

    assert world.planner(2).plan(FOUND) == PlanReport(known=5)
    assert world.log.length() == 2
    report = world.planner(3).plan([*FOUND[1:], ("small", 2), ("new", 7)])
    assert report == PlanReport(added=1, added_bytes=7, known=5, changed=1, generation=2)
    assert world.closes() == [Close(1, None, [(0, 5, 961)]), Close(2, 1, [(2, 1, 7)])]
    assert covered(world.ready()) == planned(world)


def test_large_plans_have_many_segments() -> None:
    """Each holds so many inputs; shards so many tickets."""
    world = World()
    world.planner(1).plan((f"f{number:04}", 10) for number in range(2 * policy.SEGMENT_INPUTS + 7))
    segments = [entry for _, entry in world.log.entries() if isinstance(entry, Segment)]

    assert [len(each.inputs) for each in segments] == [policy.SEGMENT_INPUTS, policy.SEGMENT_INPUTS, 7]
    assert covered(world.ready()) == planned(world)
    shards = [each.shard for each in world.ready() if each.kind is Kind.MAP]
    assert max(shards.count(shard) for shard in shards) <= policy.SHARD_TICKETS


@pytest.mark.parametrize("theirs", [FOUND, FOUND[:2], [*FOUND[2:], ("theirs", 5)], []])
def test_two_planners_at_every_interleaving(theirs: list[Found]) -> None:
    """They see the same IN, or IN as it was a moment before: each input is planned once."""
    for stop in range(200):
        world = World()
        pausing = PausingFs(world.server)
        slow, quick = world.planner(1, pausing), world.planner(2)
        pausing.pause(stop, partial(quick.plan, theirs))
        slow.plan(FOUND)

        expected = {path for path, _ in [*FOUND, *(theirs if pausing.calls > stop else [])]}
        paths = [each.path for each in world.inputs()]
        assert sorted(paths) == sorted(expected), f"stopped before call {stop}"
        assert covered(world.ready()) == planned(world)
        assert isinstance(world.log.read(world.log.length() - 1), Close)
        numbers = [number for close in world.closes() for number, _, _ in close.segments]
        assert numbers == [number for number, entry in world.log.entries() if isinstance(entry, Segment)]
        if pausing.calls <= stop:
            return
    raise AssertionError("planning makes more calls than this test expects")


@pytest.mark.parametrize("executed", [True, False], ids=["after", "before"])
def test_planners_die_at_every_call(executed: bool) -> None:
    """The successor plans the rest; ranges whose tickets were never offered are found missing and offered."""
    world = World()
    counting = FaultyFs(world.server)
    world.planner(1, counting).plan(FOUND)
    for at, call in enumerate(counting.calls):
        world = World()
        try:
            world.planner(1, FaultyFs(world.server, at, Died(), executed=executed)).plan(FOUND)
        except Died:
            pass
        world.planner(2).plan(FOUND)

        assert sorted(each.path for each in world.inputs()) == sorted(path for path, _ in FOUND), f"{call}, call {at}"
        claims = world.claims()
        for ticket in Coverage(world.server, world.layout, world.log).missing_tickets(claims, "f" * 16):
            claims.store.offer(ticket)
        assert covered(world.ready()) == planned(world)
        assert [each.kind for each in world.ready()].count(Kind.REDUCE) == 1


def test_retries_are_planned_beside_what_they_replace() -> None:
    """A quarantined input comes again under its old place, as a generation of its own."""
    world = World()
    world.planner(1).plan(FOUND)
    world.planner(2).retry([Input("small", 1, "small.json", of=(0, 3))])

    assert world.inputs()[-1] == Input("small", 1, "small.json", of=(0, 3))
    assert world.closes()[-1] == Close(2, 1, [(2, 1, 1)], retried=1, retried_bytes=1)
    assert world.planner(3).plan(FOUND) == PlanReport(known=5)


def test_names_that_a_mount_folds() -> None:
    """The first keeps its name, the others get one of their own, also over several planners."""
    world = World(Job("job", "wordcount", folds_names=True))
    world.planner(1).plan([("README", 3), ("readme", 2), ("é", 2), ("e\u0301", 1)])
    world.planner(2).plan([("README", 3), ("ReadMe", 1)])
    results = {each.path: each.result for each in world.inputs()}

    assert [path for path, result in results.items() if result is None] == ["README", "e\u0301"] or [
        path for path, result in results.items() if result is None
    ] == ["README", "é"]
    places = [result or mirrored(path, ".json") for path, result in results.items()]
    assert len({place.casefold() for place in places}) == 5


# -- what counts as an input ------------------------------------------------------------------------------------------


def listed(root: Path, **options: object) -> dict[str, int]:
    """What is found below a directory."""
    return dict(list_inputs(str(root), Job("j", "t", **options), lambda words: None))  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory as people have them."""
    for name in ("a.txt", "b.csv", ".hidden.txt", "sub/c.txt", "sub/deep/d.txt", ".git/e.txt", "-x.txt", "a\nb.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link.txt").symlink_to("a.txt")
    (tmp_path / "dangling.txt").symlink_to("none")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "out of here").symlink_to("/etc")
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_regular_files_are_inputs(tree: Path) -> None:
    """With their sizes; no links, no FIFOs, nothing hidden."""
    assert listed(tree) == {
        "a.txt": 5,
        "b.csv": 5,
        "sub/c.txt": 9,
        "sub/deep/d.txt": 14,
        "-x.txt": 6,
        "a\nb.txt": 7,
    }


def test_hidden_files_when_asked_for(tree: Path) -> None:
    """And files in hidden directories."""
    assert set(listed(tree, hidden=True)) - set(listed(tree)) == {".hidden.txt", ".git/e.txt"}


def test_one_level_when_asked_for(tree: Path) -> None:
    """Directories are left out."""
    assert sorted(listed(tree, recurse=False)) == ["-x.txt", "a\nb.txt", "a.txt", "b.csv"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.csv"], [], ["b.csv"]),
        (["*.csv", "c.*"], [], ["b.csv", "sub/c.txt"]),
        (["sub/*"], [], ["sub/c.txt", "sub/deep/d.txt"]),
        (["*.txt"], ["*a*"], ["-x.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ([], ["sub"], ["-x.txt", "a\nb.txt", "a.txt", "b.csv"]),
        ([], ["sub/deep"], ["-x.txt", "a\nb.txt", "a.txt", "b.csv", "sub/c.txt"]),
        (["*.CSV"], [], []),
    ],
)
def test_globs(tree: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    """Without a slash they mean the file's own name, with one the whole path; a directory excluded is not entered."""
    assert sorted(listed(tree, include=include, exclude=exclude)) == expected


def test_names_of_any_bytes(tmp_path: Path) -> None:
    """They come out as surrogate escapes and go into the plan as such."""
    for name in (b"\xff", b"caf\xe9.txt", "ä".encode(), "a\u0308".encode(), b"x" * 255):
        (Path(os.fsdecode(encode_path(str(tmp_path)) + b"/" + name))).write_bytes(b"1")

    assert sorted(listed(tmp_path)) == sorted(["\udcff", "caf\udce9.txt", "ä", "a\u0308", "x" * 255])


def test_a_directory_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is listed; the person learns which and why."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "x.txt").write_text("1")
    told: list[str] = []
    real: Callable[..., object] = os.scandir

    def scandir(path: bytes) -> object:
        if path.endswith(b"gone"):
            os.rmdir(path)  # it vanishes between the listing of its parent and its own
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = dict(list_inputs(str(tmp_path), JOB, told.append))

    assert found == {"x.txt": 1}
    assert told == [f"'{tmp_path}/gone': No such file or directory"]


def test_a_root_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A mount that is missing does not plan an empty job."""
    with pytest.raises(FileNotFoundError):
        listed(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        listed(tmp_path / "file")


def test_a_slash_at_the_end_changes_nothing(tree: Path) -> None:
    """People type it."""
    assert listed(Path(f"{tree}/")) == dict(list_inputs(f"{tree}//", JOB, lambda words: None))
