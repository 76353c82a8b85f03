"""Live: what the dashboard knows of a job. One thread looks for all who watch, and each look becomes a page once."""

from __future__ import annotations

import threading

from ..clock import Clock
from ..fs import Fs
from ..history_reader import HistoryReader
from ..inputs import Life, life_of, search
from ..job import require_job
from ..layout import Layout
from ..plan_log import PlanLog
from ..snapshot import Snapshot
from ..status import StatusReader
from ..watch import View, Watcher
from .pages import sections

_READS = (
    1000  # done records for one look: a second on a network mount, and the past of a million inputs in some minutes
)
_FOUND = 100  # names that a search shows


class LiveJob:
    """A job that is looked at every *interval_s*. Raises NotAJob when there is none."""

    def __init__(self, fs: Fs, layout: Layout, clock: Clock, interval_s: float) -> None:
        self.job = require_job(fs, layout)
        self._fs = fs
        self._layout = layout
        self._clock = clock
        self._status = StatusReader(fs, layout, clock)
        self._log = PlanLog(fs, layout)
        self._past = HistoryReader(fs, layout, self._log)
        self._drawing = threading.Lock()
        self._drawn: tuple[tuple[int, str], dict[str, str]] = ((0, ""), {})
        self.history = self._past.history.to_json()
        self.looked_at = clock.monotonic()
        self.watcher = Watcher(self, clock, interval_s, self.read())

    def read(self) -> Snapshot:
        """One look, with some more of the past."""
        snapshot = self._status.read()
        self._past.advance(self._log.closes()[0], _READS)
        self.history = self._past.history.to_json()
        self.looked_at = self._clock.monotonic()
        return snapshot

    def view(self) -> View:
        """The last look, at once."""
        return self.watcher.wait(0, 0.0)

    def age_s(self) -> float:
        """Seconds since the last look that succeeded."""
        return self._clock.monotonic() - self.looked_at

    def draw(self, view: View) -> dict[str, str]:
        """The parts of the page, by name; drawn once for each look, whoever asks."""
        with self._drawing:
            if self._drawn[0] != (view.number, view.notice):
                drawn = sections(self.job, view.snapshot, self.history, view.notice)
                self._drawn = ((view.number, view.notice), drawn)
            return self._drawn[1]

    def life(self, name: str) -> Life:
        """The life of one input. Raises UsageError when there is none of this name."""
        return life_of(self._fs, self._layout, self.job, name)

    def find(self, text: str) -> list[str]:
        """Inputs whose path holds *text*, or fits it as a glob: the first of them."""
        return search(self._fs, self._layout, text, _FOUND)
