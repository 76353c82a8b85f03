"""What one probe found, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Weight(StrEnum):
    """What it means when a probe fails: no job can be here; not by rename claims; something to mend; nothing."""

    UNFIT = "unfit"
    MARKER = "marker"
    ADVICE = "advice"
    FACT = "fact"


@dataclass(frozen=True, slots=True)
class Finding:
    """``words`` tell what was seen, and on failure what follows."""

    probe: str
    ok: bool
    words: str
    weight: Weight
