"""How a command that works on a job ends: the summary on stdout, the last words on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import Exit
from ..lines import printable, teller
from ..news import News
from ..records import dumps
from ..snapshot import Snapshot, counted, duration


@dataclass(frozen=True)
class Since:
    """What the job was like when a command began, and how many seconds ago that is."""

    first: Snapshot
    took_s: float


def finish(snapshot: Snapshot, *, quiet: bool, form: str = "text", since: Since | None = None) -> Exit | int:
    """Print the summary, and last words if there is something to be said; the exit code."""
    if snapshot.has_summary:
        sys.stdout.write(dumps(snapshot.summary).decode() + "\n")
        sys.stdout.flush()
    if form == "json":
        _tell_verdict(snapshot, quiet=quiet)
        return snapshot.exit_code
    if not quiet:
        for line in _last_words(snapshot, since):
            sys.stderr.write(f"{printable(line)}\n")
    if snapshot.quarantined:  # also when quiet: it is why the exit code is not 0
        where = f"{snapshot.quarantined} quarantined: look at {snapshot.out}/quarantine"
        sys.stderr.write(f"{printable(where)}, then: {printable(snapshot.retry)}\n")
    return snapshot.exit_code


def give_up(snapshot: Snapshot, *, form: str = "text") -> Exit | int:
    """Say why there is no summary; the exit code."""
    if form == "json":
        _tell_verdict(snapshot, quiet=False)
    else:
        from ..render import counts_line, verdict_line

        sys.stderr.write(f"{printable(verdict_line(snapshot))}; {counts_line(snapshot)}\n")
    return snapshot.exit_code


def _last_words(snapshot: Snapshot, since: Since | None) -> Iterator[str]:
    """What was done; how much, how long it took and how fast; where it is."""
    from ..render import counts_line, verdict_line

    yield verdict_line(snapshot)
    yield counts_line(snapshot) + ("" if since is None else f"; {_pace(snapshot, since)}")
    if snapshot.has_summary:
        yield f"results in {snapshot.out}/results, summary in {snapshot.out}/summary.json"
    else:
        yield f"results so far in {snapshot.out}/results; the same command goes on from here"


def _pace(last: Snapshot, since: Since) -> str:
    from ..render import per_second

    first = since.first
    inputs = last.done + last.quarantined - first.done - first.quarantined
    speed = per_second(inputs / since.took_s, (last.done_bytes - first.done_bytes) / since.took_s)
    failed = last.failed - first.failed
    trouble = f", {counted(failed, 'attempt')} failed" if failed > 0 else ""
    return f"{counted(inputs, 'input')} in {duration(since.took_s)}, {speed}{trouble}"


def _tell_verdict(snapshot: Snapshot, *, quiet: bool) -> None:
    facts = {
        "verdict": snapshot.verdict,
        "code": int(snapshot.exit_code),
        "inputs": snapshot.total,
        "done": snapshot.done,
        "quarantined": snapshot.quarantined,
        "out": snapshot.out,
        "retry": snapshot.retry or None,
    }
    teller("json", quiet=quiet)(News.VERDICT, f"{snapshot.verdict}: {snapshot.words}", **facts)
