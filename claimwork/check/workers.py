"""What workers left behind: graves that nobody sweeps, and directories whose owner has no record any more.

A worker that starts makes its stage and work directory, both empty, before it has a record; one that leaves hands back
its tickets and empties both before its record moves. So tickets without an owner, at two looks, are nobody's.
"""

from __future__ import annotations

from claimwork.names import is_worker

from .disk import Disk, Finding, Mend, Suspicion


class Workers:
    """Looks at live/, dead/, work/ and stage/."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def look(self) -> list[Suspicion]:
        """Strays and graves."""
        layout = self._disk.layout
        held = self._contents(layout.work)
        staged = self._contents(layout.stage)
        live = set(self._disk.names(layout.live))
        dead = set(self._disk.names(layout.dead))
        found = []
        for worker in sorted({*held, *staged} - live - dead):
            if held.get(worker):
                what = "holds tickets, and the worker that it belongs to has no record: nobody takes them back"
                finding = Finding(
                    "stray-work", layout.work_of(worker), what, "its tickets are put back and it is removed"
                )
                found.append(Suspicion(finding, _burier(worker)))
            if staged.get(worker):
                # as after any kill between the stage of a process and its first beat, and nobody can publish from there
                what = "holds files, and the process that it belongs to has no record: harmless"
                mend = "it is emptied and removed"
                finding = Finding("stray-stage", layout.stage_of(worker), what, mend, harmless=True)
                found.append(Suspicion(finding, _burier(worker)))
        for worker in sorted(filter(is_worker, dead)):
            path = layout.dead_of(worker)
            if live:
                self._disk.note(path, "was taken for dead; the next live worker takes back what it held")
            else:
                what = "was taken for dead, and no worker is left to take back what it held"
                finding = Finding("grave", path, what, "what it held is put back and the grave is removed")
                found.append(Suspicion(finding, _sweeper(worker)))
        return found

    def _contents(self, directory: str) -> dict[str, list[str]]:
        found = {}
        for name in self._disk.names(directory):
            path = f"{directory}/{name}"
            if is_worker(name):
                found[name] = self._disk.names(path)
            else:
                self._disk.note(path, "belongs to no worker; it is left alone")
        return found


def _burier(worker: str) -> Mend:
    return lambda repairer: repairer.bury(worker)


def _sweeper(worker: str) -> Mend:
    return lambda repairer: repairer.sweep(worker)
