"""Parts of large inputs: a help while the input is open, and nothing but space when it is done."""

from __future__ import annotations

from functools import partial

from claimwork.names import parse_number
from claimwork.repair import Repairer

from .disk import Disk, Finding, Suspicion
from .plan import Plan


class Parts:
    """Looks at parts/."""

    def __init__(self, disk: Disk, plan: Plan) -> None:
        self._disk = disk
        self._plan = plan

    def look(self) -> list[Suspicion]:
        """What is left of inputs that are done. A part that cannot be read is no finding: it is computed again."""
        layout = self._disk.layout
        found = []
        for name in self._disk.names(layout.parts):
            number = parse_number(name)
            if number is None or number not in self._plan.segments:
                self._disk.note(f"{layout.parts}/{name}", "is none of this job's; it is left alone")
            elif self._disk.done_ranges(number):
                what = "holds parts of an input that is done: harmless"
                finding = Finding(
                    "stray-parts", layout.parts_of(number), what, "it is emptied and removed", harmless=True
                )
                found.append(Suspicion(finding, partial(_remove, number)))
        return found


def _remove(number: int, repairer: Repairer) -> None:
    repairer.remove_parts(number)
