"""One row of Markdown for each filesystem, as docs/filesystems.md has them."""

from __future__ import annotations

from collections.abc import Callable

from tests.zoo.torture import Row, Tortured

_COLUMNS = (
    "filesystem",
    "doctor",
    "claims raced (double)",
    "kills + hosts lost",
    "results lost",
    "a name, a beat are seen after",
    "recovery: worker, host",
    "verdict",
)
HEAD = f"| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}"


def line(row: Row) -> str:
    """The row."""
    cells = [row.what, _doctor(row), *_figures(row), _verdict(row)]
    return f"| {' | '.join(cells)} |"


def _doctor(row: Row) -> str:
    amiss = [
        f"{each['probe']}: {each['words']}"
        for each in row.doctor["findings"]
        if not each["ok"] and each["weight"] in ("unfit", "marker")
    ]
    return f"{row.doctor['verdict']}{': ' if amiss else ''}{'; '.join(amiss)}"


def _figures(row: Row) -> list[str]:
    if not row.jobs:
        return ["–"] * 5
    lags = [row.doctor[which] for which in ("listing_lag", "heartbeat_lag")]
    return [
        _each(row, lambda job: f"{job.raced} ({job.double})"),
        _each(row, lambda job: f"{job.kills} + {job.lost_hosts}"),
        _each(row, lambda job: str(job.lost)),
        "; ".join(f"{1000 * lag['median_s']:.0f} ms (at most {1000 * lag['most_s']:.0f})" for lag in lags),
        _each(row, lambda job: f"{_seconds(job.recovery_s)}, {_seconds(job.host_recovery_s)}"),
    ]


def _each(row: Row, words: Callable[[Tortured], str]) -> str:
    return "; ".join(f"{job.claims} {words(job)}" for job in row.jobs)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _verdict(row: Row) -> str:
    if not row.ok:
        return "**contradicts doctor**"
    return "refused, exit 11" if not row.jobs else "as doctor says"
