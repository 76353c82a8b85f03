"""A picture of a suite: bars, as SVG, for pages in light and dark."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from statistics import median

from tests.bench.measure import Measure

_LABEL_PX, _BAR_PX, _VALUE_PX = 250, 400, 70
_ROW_PX, _HEAD_PX = 24, 36
_STYLE = """\
text { font: 13px sans-serif; fill: #24292f }
.title { font-weight: bold }
rect { fill: #8c959f }
.ours { fill: #1a7f37 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ours { fill: #3fb950 } }
"""


@dataclass(frozen=True)
class Picture:
    """Which measures of a suite are shown: those whose whole name *names* matches; its first group is the label.

    A label that *ours* matches is claimwork's.
    """

    title: str
    names: str
    ours: str = "claimwork"


def draw(picture: Picture, measures: list[Measure]) -> str:
    """The document; each bar is a median."""
    rows = [
        (match[1], median(each.values))
        for each in measures
        if (match := re.fullmatch(picture.names, each.name)) is not None
    ]
    longest = max((value for _, value in rows), default=1.0) or 1.0
    width, height = _LABEL_PX + _BAR_PX + _VALUE_PX, _HEAD_PX + _ROW_PX * len(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(picture.title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="0" y="18">{escape(picture.title)}</text>',
    ]
    for nth, (label, value) in enumerate(rows):
        top = _HEAD_PX + nth * _ROW_PX
        length = max(_BAR_PX * value / longest, 1.0)
        kind = ' class="ours"' if re.search(picture.ours, label) else ""
        lines += [
            f'<text x="{_LABEL_PX - 8}" y="{top + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect{kind} x="{_LABEL_PX}" y="{top + 2}" width="{length:.1f}" height="16"/>',
            f'<text x="{_LABEL_PX + length + 6:.1f}" y="{top + 14}">{value:.3g}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
