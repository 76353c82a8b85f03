"""Deliberate protocol bugs: each must be caught by the simulation. A mutant that nobody catches means a missing test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from claimwork import (
    aftermath,
    blame,
    child,
    claims,
    coverage,
    finalizer,
    heartbeat,
    marker_store,
    policy,
    reaper,
    results,
    ticket_store,
    worker,
)
from claimwork.coverage import Coverage
from claimwork.names import Ticket
from claimwork.records import Outcome
from claimwork.results import Places
from tests.simulation.simulator import Profile, Violation, draw_case, simulate

Patch = pytest.MonkeyPatch
SEEDS = 4000  # at most; most mutants die within a hundred


def no_rmdir_fence(patch: Patch) -> None:
    """The directory of a dead worker's tickets stays: a late rename puts one where nobody looks."""
    patch.setattr(ticket_store.RenameStore, "fence", lambda _self, _dead: True)


def no_stage_fence(patch: Patch) -> None:
    """The stage of a dead worker stays: a late or paused child still publishes."""
    patch.setattr(reaper, "empty_directory", lambda _fs, _path: 0)
    patch.setattr(reaper, "remove_directory", lambda _fs, _path: True)


def rename_over(patch: Patch) -> None:
    """Results are published by rename, which replaces."""

    def publish(fs: Any, source: str, target: str, out: str) -> bool:
        results.make_parents(fs, target, out)
        fs.rename(source, target)
        return True

    patch.setattr(child, "publish", publish)


def never_lists_own(patch: Patch) -> None:
    """A claim whose reply was lost is never noticed."""
    patch.setattr(claims.Claims, "_claimed_unawares", lambda _self: None)


def attempt_not_raised(patch: Patch) -> None:
    """A failed attempt comes back as the attempt it was."""
    real = policy.after_failure

    def after_failure(ticket: Ticket, index: int, max_attempts: int, base_s: float) -> Ticket | None:
        again = real(ticket, index, 10**6, base_s)
        return None if again is None else replace(again, attempt=1)

    patch.setattr(policy, "after_failure", after_failure)


def done_before_result(patch: Patch) -> None:
    """The done record is written first, the results after it."""
    real_run, real_publish = child.Mapper._run, child.Mapper._publish

    def publish(self: Any, ticket: Any, pending: list[Any], outcomes: dict[int, Any], report: Any) -> None:
        early = {item.index: item.outcome for item in pending}
        if early:
            results.write_done(self._fs, self._layout, self._stage, ticket.segment, early, [])
        real_publish(self, ticket, pending, outcomes, report)

    patch.setattr(child.Mapper, "_publish", publish)
    assert real_run is child.Mapper._run


def no_settle(patch: Patch) -> None:
    """A second attempt publishes as the first did, and quarantine asks nobody."""

    def settle(fs: Any, layout: Any, job: Any, places: Places, staged: str) -> tuple[bool, Any]:
        report = results.quarantine_report(fs, job, staged)
        if report is not None:
            results.publish(fs, staged, places.quarantine, layout.out)
            return True, Outcome(False, reason=report[-1].error)
        mine = results.publish(fs, staged, places.result, layout.out)
        return mine, results.adopt(fs, places.result)

    patch.setattr(child, "settle", settle)
    patch.setattr(aftermath, "settle", settle)


def lost_on_reclaim(patch: Patch) -> None:
    """The reaper throws away what the dead held, and nothing offers it again."""
    patch.setattr(ticket_store, "after_loss", lambda *_: [])
    patch.setattr(marker_store, "after_loss", lambda *_: [])
    patch.setattr(Coverage, "missing_tickets", lambda *_: [])


def never_reclaims(patch: Patch) -> None:
    """Nobody is ever taken for dead."""
    patch.setattr(reaper.Reaper, "_bury", lambda _self, _worker, _why: None)


def absence_is_done(patch: Patch) -> None:
    """The job counts as done as soon as no ticket waits."""

    def is_full(self: Any, segment: int, count: int) -> bool:
        waiting = [
            name
            for shard in self._fs.names(self._layout.ready)
            if shard.isdigit()
            for name in self._fs.names(f"{self._layout.ready}/{shard}")
        ]
        return not waiting

    patch.setattr(coverage.Coverage, "is_full", is_full)


def retried_counts_twice(patch: Patch) -> None:
    """The summary counts a retried input in both generations."""
    patch.setattr(finalizer.ResultReader, "_replaced", lambda _self: set())


def own_result_believed(patch: Patch) -> None:
    """Whoever finds a result there already reports a digest of its own."""
    for module in (child, results):
        patch.setattr(module, "adopt", lambda _fs, _path: Outcome(True, 1, "0" * 32))


def ticket_name_comes_back(patch: Patch) -> None:
    """A reclaimed ticket is dropped as soon as it was offered under its old name again, attempt and all."""
    patch.setattr(Ticket, "successor", lambda self, move="", **changes: replace(self, **changes))


def summary_not_shown(patch: Patch) -> None:
    """summary.json is only written by whoever made the summary, and never looked at again."""
    patch.setattr(worker, "is_shown", lambda _fs, _layout, _entry: True)


def leaves_while_planning(patch: Patch) -> None:
    """A worker leaves when what is planned is done, although a plan ticket waits."""
    real = claims.Claims._refresh

    def refresh(self: Any, wanted: Callable[[Ticket], bool], *, any_weight: bool) -> bool:
        found = real(self, wanted, any_weight=any_weight)
        self.plans_wait = False
        return found

    patch.setattr(claims.Claims, "_refresh", refresh)


def stat_instead_of_listing(patch: Patch) -> None:
    """A worker that got no answer to a claim asks for the one name, and its cache remembers that there was none."""

    def claim(self: Any, ticket: Ticket) -> bool:
        mine = self._layout.held_ticket(self._me, ticket)
        if self._fs.inode(mine) is not None:
            return True
        try:
            self._fs.rename(self._layout.ready_ticket(ticket), mine)
        except OSError:
            return self._fs.inode(mine) is not None
        return True

    patch.setattr(ticket_store.RenameStore, "claim", claim)
    patch.setattr(claims.Claims, "_claimed_unawares", lambda _self: None)


def broken_worker_charges(patch: Patch) -> None:
    """A worker under which everything fails charges the inputs for it."""
    patch.setattr(blame.Blame, "failed", lambda _self, _segment, _index: True)


def begins_although_buried(patch: Patch) -> None:
    """A worker whose first beat was executed long before the reply came does not look whether it was buried meanwhile."""
    patch.setattr(heartbeat, "graves", lambda _fs, _layout: [])
    patch.setattr(heartbeat, "_exists", lambda _fs, _directory: True)


MUTANTS = [
    no_rmdir_fence,
    no_stage_fence,
    rename_over,
    never_lists_own,
    attempt_not_raised,
    done_before_result,
    no_settle,
    lost_on_reclaim,
    never_reclaims,
    absence_is_done,
    retried_counts_twice,
    own_result_believed,
    ticket_name_comes_back,
    summary_not_shown,
    leaves_while_planning,
    stat_instead_of_listing,
    broken_worker_charges,
    begins_although_buried,
]


# workers and inputs: a rare moment needs many short schedules
SHAPES = {summary_not_shown.__name__: (1, 1), begins_although_buried.__name__: (2, 1)}
# and nothing but the fault that it needs
ONLY = {
    begins_although_buried.__name__: Profile(
        again=0.04, faults=12, operators=2, stale_s=16.0, patience_s=20.0, job_exists=True
    )
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_simulation_catches_a_protocol_bug(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """With one deliberate bug in the shipping code, some schedule violates an invariant."""
    mutant(monkeypatch)
    for seed in range(SEEDS):
        try:
            case = draw_case(seed, *SHAPES.get(mutant.__name__, ()))
            simulate(replace(case, profile=ONLY.get(mutant.__name__, case.profile)))
        except Violation:
            return
    pytest.fail(f"{mutant.__name__} survived {SEEDS} schedules: {mutant.__doc__}")
