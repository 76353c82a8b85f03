"""The trees that people see: results/ and quarantine/ hold the outcomes of this job and nothing else.

What does not belong there is noted and never touched, a link never followed.
"""

from __future__ import annotations

from collections.abc import Iterator

from claimwork.errors import RecordError

from .disk import Disk, Finding, Suspicion
from .outcomes import OK, OPEN, not_plain, set_aside
from .plan import Names, Plan


class Trees:
    """Looks at both trees, after the outcomes."""

    def __init__(self, disk: Disk, plan: Plan) -> None:
        self._disk = disk
        self._plan = plan
        self._foreign: list[str] = []

    def results(self) -> list[Suspicion]:
        """Whatever stands in the place of a result that is not done yet is a plain file."""
        found: list[Suspicion] = []
        root = self._disk.layout.results
        for name in self._walk(root, "", self._plan.results, found):
            if self._state(self._plan.results, name) == OPEN:
                try:
                    self._disk.file(f"{root}/{name}", 0)
                except RecordError:
                    found.append(not_plain(f"{root}/{name}"))
        self._note_foreign(root, self._plan.results)
        return found

    def reports(self) -> list[Suspicion]:
        """No report stands beside a result."""
        found: list[Suspicion] = []
        root = self._disk.layout.quarantine
        for name in self._walk(root, "", self._plan.reports, found):
            if self._state(self._plan.reports, name) == OK:
                path = f"{root}/{name}"
                finding = Finding(
                    "both", path, "is a quarantine report beside a result", "it is set aside: a result outranks it"
                )
                found.append(Suspicion(finding, set_aside(path)))
        self._note_foreign(root, self._plan.reports)
        return found

    def _state(self, names: Names, name: str) -> int:
        place = names.places[name]
        return self._plan.state(place >> 32, place & 0xFFFFFFFF)

    def _walk(self, root: str, below: str, names: Names, found: list[Suspicion]) -> Iterator[str]:
        pending = [below]
        while pending:
            below = pending.pop()
            path = f"{root}/{below}".rstrip("/")
            if self._disk.is_linked(path):
                found.append(not_plain(path))
                continue
            try:
                listed = self._disk.fs.names(path)
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                found.append(not_plain(path))
                continue
            for each in listed:
                name = f"{below}{each}"
                if name in names.places:
                    yield name
                elif name in names.directories:
                    pending.append(f"{name}/")
                else:
                    self._foreign.append(name)

    def _note_foreign(self, root: str, names: Names) -> None:
        """After reading on in the plan: what was planned during the walk is not foreign."""
        self._plan.learn()
        if self._plan.is_whole:
            for name in self._foreign:
                if name not in names.places and name not in names.directories:
                    self._disk.note(f"{root}/{name}", "is none of this job's; it is left alone")
        self._foreign.clear()
