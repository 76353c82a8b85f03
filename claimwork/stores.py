"""Which claim store a job uses."""

from __future__ import annotations

from .claims import ClaimStore
from .fs import Fs
from .layout import Layout
from .marker_store import MarkerStore
from .records import Job
from .results import Stage
from .ticket_store import RenameStore


def make_store(job: Job, fs: Fs, layout: Layout, worker: str, stage: Stage) -> ClaimStore:
    """The claim store that all workers of this job use."""
    if job.claims == "marker":
        return MarkerStore(fs, layout, worker, stage)
    return RenameStore(fs, layout, worker, stage)
