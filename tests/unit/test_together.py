"""Publishing several results at once: all of them, by threads that are gone before the task runs again."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from claimwork import policy
from claimwork.child import Mapper
from claimwork.child_process import some_at_once
from claimwork.errors import Fenced
from claimwork.fs import PosixFs
from claimwork.layout import Layout
from claimwork.names import map_ticket
from claimwork.plan_log import PlanLog
from claimwork.records import Input, Job, Segment
from claimwork.results import Stage, done_ranges
from claimwork.testing import HookedFs, ManualClock
from tests.unit.test_child import Scripted, Told

LIMIT_S = 30.0
NAMES = [f"{number:03d}" for number in range(100)]


def test_calls_are_made_side_by_side() -> None:
    """As many as may be in flight wait for each other; what they return comes in the order in which they were given."""
    meeting = threading.Barrier(policy.IN_FLIGHT)

    def meet(number: int) -> int:
        meeting.wait(LIMIT_S)
        return number

    assert some_at_once([partial(meet, number) for number in range(policy.IN_FLIGHT)]) == [*range(policy.IN_FLIGHT)]
    assert threading.active_count() == 1


def test_all_have_ended_when_an_error_is_told() -> None:
    """Whoever was told of a fault may rely on it that nothing more is published."""
    ended = []

    def fail() -> None:
        raise Fenced("gone")

    def last() -> None:
        time.sleep(0.05)
        ended.append(1)

    with pytest.raises(Fenced):
        some_at_once([fail, last, last])

    assert ended == [1, 1]
    assert threading.active_count() == 1


@pytest.mark.parametrize("errors", [0, 3])
def test_a_range_is_published_by_threads(tmp_path: Path, errors: int) -> None:
    """Each input has its own result, one record says so, the stage is empty; also where links are answered with errors."""
    layout, job = Layout(str(tmp_path)), Job("job", "wordcount")
    real = PosixFs(layout.out)
    for directory in layout.directories():
        real.mkdir(directory)
    me = f"{1:032x}"
    real.mkdir(layout.stage_of(me))
    fs, failing = HookedFs(real), [*range(errors)]

    def answer(op: str, args: object) -> None:
        if op == "link" and failing:
            failing.pop()
            raise InterruptedError(4, "reply lost")

    stage = Stage(fs, layout, me, "c0")
    PlanLog(fs, layout).append(0, Segment([Input(each, 1) for each in NAMES], [(0, len(NAMES), 1, 1, 0)]), stage)
    fs.after = answer  # type: ignore[method-assign]
    mapper = Mapper(fs, layout, job, stage, "/in", Scripted(), ManualClock(), Told(), some_at_once)

    report = mapper.run(map_ticket(0, 1, 0, 0, len(NAMES), len(NAMES)))

    assert (report.done, report.failures) == (len(NAMES), [])
    published = {each.stem: each.read_text() for each in (tmp_path / "results").iterdir()}
    assert published == {each: f'"{each}"' for each in NAMES}
    assert done_ranges(fs, layout, 0) == [(0, len(NAMES))]
    assert real.names(layout.stage_of(me)) == []
