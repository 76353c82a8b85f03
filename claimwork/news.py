"""News: what a worker, planner or finalizer tells of itself, as an event, its words for people, and facts for programs.

Whoever tells knows neither the clock nor the form of a line; `lines.teller`, at the edge, makes text or JSON of it. Telling
never fails and waits for nobody on the mount. Nothing is told for an input that goes well, unless somebody asked for it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol


class News(StrEnum):
    """Every event: a stable word, its level, and what has happened. The table in docs/watching.md is this."""

    WAITING = "waiting", "info", "there is no job yet, and it is waited for"
    JOINED = "joined", "info", "the first sign of life is out; from now on peers watch this worker"
    LITTLE_MEMORY = (
        "little_memory",
        "warning",
        "the container's limit of memory is small for so many slots: children may be killed, and their inputs charged",
    )
    LISTING = "listing", "info", "a listing of IN lasts; how many inputs it has found so far"
    PLANNED = "planned", "info", "IN was listed, and what is new was planned"
    NO_INPUTS = "no_inputs", "warning", "IN was listed and holds no inputs"
    CLOSED = "closed", "info", "a generation of the plan is closed: once its inputs are settled it is reduced"
    RAN = "ran", "debug", "an input came to a result here; with `--verbose` only"
    BACKED_OFF = "backed_off", "warning", "an attempt at an input failed; the next one waits"
    QUARANTINED = "quarantined", "warning", "the last attempt at an input failed"
    PART_GIVEN_UP = (
        "part_given_up",
        "warning",
        "a part of a large input ended whoever ran it; who gathers the parts tries it again",
    )
    DOUBTED = (
        "doubted",
        "warning",
        "inputs fail here: one that succeeded elsewhere is run once more, to see who is to blame",
    )
    COPYING = "copying", "info", "an input lasts elsewhere and nothing else is to be done: a copy of it runs here"
    COPIED = "copied", "info", "a copy that ran here brought the result"
    COPY_FAILED = "copy_failed", "info", "a copy failed here; the input is still run by whoever holds it"
    MADE_WAY = "made_way", "info", "a copy that lasts here as well was ended, since something else is ready"
    OVERTAKEN = "overtaken", "info", "an input came to its outcome elsewhere, so it is run here no longer"
    LOST = "lost", "warning", "a peer is given up, since it shows no sign of life"
    TOOK_BACK = "took_back", "info", "what a lost peer held is back for everybody"
    FENCED = "fenced", "warning", "peers gave this worker up; it starts afresh under a new id"
    OFFERED_AGAIN = "offered_again", "warning", "inputs that no ticket stood for are offered again"
    REDUCING = "reducing", "info", "a reduction lasts; how many results it has read so far"
    REDUCED = "reduced", "info", "the summary of a generation is out"
    FAILED = "failed", "warning", "an attempt to plan or to reduce failed"
    DRAINING = "draining", "info", "a signal came: nothing more is claimed, and inputs in hand may end"
    HANDED_BACK = "handed_back", "info", "what was not finished is back for everybody, uncharged"
    STOPPED = "stopped", "info", "this worker is gone, and work remains"
    COMPLETE = "complete", "info", "this worker is gone, since nothing is left"
    VERDICT = "verdict", "info", "the job as it is when the command ends"
    ERROR = "error", "error", "the command ends with this exit code, and why"

    level: str
    meaning: str

    def __new__(cls, word: str, level: str, meaning: str) -> News:
        member = str.__new__(cls, word)
        member._value_ = word
        member.level = level
        member.meaning = meaning
        return member

    @property
    def repeats(self) -> bool:
        """Whether it is told every second while something lasts, for the edge to show as often as it likes."""
        return self in (News.LISTING, News.REDUCING)


class Tell(Protocol):
    """Tells *news* in *words* of one line. Facts of None do not apply; names in them are as they are on the mount."""

    def __call__(self, news: News, words: str, **facts: Any) -> None:
        """Never raises."""


def silent(news: News, words: str, **facts: Any) -> None:
    """Tell nobody."""
