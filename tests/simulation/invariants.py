"""What must hold at the end of every schedule, read from the disk alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claimwork.fs import digest_of
from claimwork.records import loads

if TYPE_CHECKING:
    from tests.simulation.simulator import World


class Violation(BaseException):
    """An invariant does not hold. Nothing in the shipping code may catch it."""


def check_world(world: World) -> None:
    """The invariants, from the disk alone."""
    server, layout = world.server, world.layout
    for path, (data, inode) in server.published.items():
        if server.inode(path) != (1, inode) or server.read(path, 1 << 30) != data:
            raise Violation(f"{path} changed after it was published")
    planned = _planned(world)
    results = {name.removesuffix(".json") for name in server.names(layout.results)}
    reports = {name.removesuffix(".json") for name in server.names(layout.quarantine)}
    if results & reports:
        raise Violation(f"both a result and a report: {sorted(results & reports)}")
    if results | reports != set(planned):
        raise Violation(f"planned {sorted(planned)}, but there are {sorted(results)} and {sorted(reports)}")
    for name in results:
        value = loads(server.read(f"{layout.results}/{name}.json", 1 << 20), name)
        if value[0] != name or name.startswith(("bad", "kill")):
            raise Violation(f"the result of {name} is {value}")
    _check_done(world)
    _check_reports(world, reports)
    _check_summary(world, planned, results, reports)


def _planned(world: World) -> list[str]:
    """Inputs in the order of the plan; each must be planned once, but for retries."""
    seen: list[str] = []
    for number, name in enumerate(sorted(world.server.names(world.layout.plan))):
        if int(name) != number:
            raise Violation(f"the plan has a gap before {name}")
        entry = loads(world.server.read(f"{world.layout.plan}/{name}", 1 << 30), name)
        for row in entry.get("inputs", []):
            again = len(row) == 4 and row[3] is not None
            if again != (row[0] in seen):
                raise Violation(f"{row[0]} is planned twice, or retried without having been planned")
            if not again:
                seen.append(row[0])
    if set(seen) != set(world.inputs) & set(seen) or not set(world.case.inputs) <= set(seen):
        raise Violation(f"inputs {world.inputs} were given, {seen} were planned")
    return seen


def _check_done(world: World) -> None:
    """Every done record tells the truth about its inputs."""
    server, layout = world.server, world.layout
    for number in server.names(layout.done):
        inputs = loads(server.read(f"{layout.plan}/{number}", 1 << 30), number)["inputs"]
        for name in server.names(f"{layout.done}/{number}"):
            done = loads(server.read(f"{layout.done}/{number}/{name}", 1 << 30), name)
            for row, outcome in zip(inputs[done["lo"] : done["hi"]], done["outcomes"], strict=True):
                result = f"{layout.results}/{row[0]}.json"
                if outcome[0] == "ok" and (
                    server.inode(result) is None or outcome[2] != digest_of(server.read(result, 1 << 20))
                ):
                    raise Violation(f"done record {number}/{name} has another digest than the result of {row[0]}")


def _check_reports(world: World, reports: set[str]) -> None:
    for name in reports:
        report = loads(world.server.read(f"{world.layout.quarantine}/{name}.json", 1 << 20), name)
        kinds = [attempt["kind"] for attempt in report["attempts"]]
        # a worker that stood still past T and gave itself up charges what it held, as one that was killed does, or one
        # that ended while the server was away and could hand nothing back
        is_excused = world.kills or world.case.kinds["away"] or any(tally.fenced for tally in world.tallies)
        if name.startswith(("ok", "slow")) and not is_excused:
            raise Violation(f"{name} is quarantined although nothing was killed or given up: {kinds}")
        if name.startswith(("ok", "slow")) and any(kind not in ("lost", "crash") for kind in kinds):
            raise Violation(f"{name} is quarantined for {kinds}")


def _check_summary(world: World, planned: list[str], results: set[str], reports: set[str]) -> None:
    server, layout = world.server, world.layout
    newest = max(server.names(layout.summaries), default=None)
    if newest is None:
        raise Violation("there is no summary")
    summary = loads(server.read(f"{layout.summaries}/{newest}", 1 << 30), newest)
    if server.inode(layout.summary_json) is None:
        raise Violation("there is no summary.json")
    shown = loads(server.read(layout.summary_json, 1 << 30), "summary.json")
    if shown != summary["value"]:
        raise Violation(f"summary.json shows {shown}, and the newest generation has {summary['value']}")
    values = {name: loads(server.read(f"{layout.results}/{name}.json", 1 << 20), name) for name in results}
    if sorted(map(tuple, shown)) != sorted(tuple(value) for value in values.values()):
        raise Violation(f"the summary counts {shown}, the results are {values}")
    counts = (summary["inputs"], summary["results"], summary["quarantined"])
    if counts != (len(planned), len(results), len(reports)):
        raise Violation(
            f"the summary counts {counts} of {len(planned)} inputs, {len(results)} results, {len(reports)} reports"
        )
