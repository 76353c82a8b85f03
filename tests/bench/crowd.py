"""Crowd: what many workers ask of a server, in round trips; simulated with the shipping code, nothing fails.

The world is that of crowd_world.py and its neighbours; time in it is simulated, so the figures are those of the code and not of a
machine. An input takes a second on average and one goes on when all others are done, so that idle workers can be watched. It
counts what `docs/performance.md` tables: round trips for each input and what they are for, lost races, sizes of listings, idle
workers, the final pass; and how long the job takes against the least that is possible.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

from tests.bench.crowd_workers import simulate
from tests.bench.crowd_world import Crowd, World
from tests.bench.measure import Measure, Options

SIZES = ((10, 1_000), (10, 10_000), (100, 1_000), (100, 10_000))  # workers, inputs: together under a minute
PER_INPUT, PER_TICKET = 8.0, 9.0  # the project's budget of round trips
LOST_RACES = 1.0  # and of lost races for each claim
IDLE_TRIPS, IDLE_S = 20.0, 30.0  # and of a worker with nothing to do
WATCHED_S = 300.0  # ten times as long is watched

Key = tuple[str, str, str]  # role, area, operation


def measure(options: Options) -> list[Measure]:
    """One run for each size: the same seed gives the same figures."""
    sizes = [(options.workers, options.inputs)] if options.workers and options.inputs else SIZES
    return [each for workers, inputs in sizes for each in _measure(workers, inputs, options.input_s)]


def _measure(workers: int, inputs: int, input_s: float) -> list[Measure]:
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, 50, 1000)  # what is there stays there
    try:
        world = simulate(Crowd(workers, inputs, input_s, WATCHED_S), seed=1)
    finally:
        gc.set_threshold(*thresholds)
    return [
        Measure(f"{workers} workers, {inputs} inputs: {name}", unit, [value], limit)
        for name, unit, value, limit in _figures(world)
    ]


def _figures(world: World) -> list[tuple[str, str, float, float | None]]:
    crowd, marks = world.crowd, world.marks
    begun, nearly = marks["begun"], marks["nearly"]
    working = nearly.trips - begun.trips
    per_ticket = crowd.inputs / world.claims
    watched = marks["idle ends"].trips - marks["idle"].trips
    idle = _of(watched, lambda key: key[0] == "idle") / (crowd.workers - 1) * IDLE_S / WATCHED_S
    final = world.trips - marks["done"].trips

    def per_input(holds: Callable[[Key], bool]) -> float:
        return _of(working, holds) / crowd.inputs

    all_told = working.total() / crowd.inputs
    took_s = nearly.at - begun.at
    least_s = world.busy_s / (crowd.workers - 1)  # one is at the input that goes on
    ready = world.listings["ready"]
    return [
        ("inputs in a ticket", "", per_ticket, None),
        ("round trips per input", "", all_told, PER_INPUT + PER_TICKET / per_ticket),
        ("of these, reading it", "", per_input(lambda key: key[1] == "in"), None),
        ("of these, publishing results and records", "", per_input(_publishes), None),
        ("of these, beats and watching", "", per_input(lambda key: key[1] in _LIVENESS), None),
        ("of these, claiming and looking for work", "", per_input(_claims), None),
        ("lost races per claim", "", world.lost_races / world.claims, LOST_RACES),
        ("names in a listing of ready tickets, mean", "", _mean(ready), None),
        ("names in a listing of ready tickets, most", "", max(ready), None),
        ("names in any listing, most", "", max(max(each) for each in world.listings.values()), None),
        (f"round trips of an idle worker in {IDLE_S:g} s", "", idle, IDLE_TRIPS),
        ("planning, round trips per input", "", _of(world.trips, lambda key: key[0] == "plan") / crowd.inputs, None),
        ("summary, round trips per ticket", "", _of(final, lambda key: key[0] == "reduce") / world.claims, None),
        ("leaving, round trips per worker", "", _of(final, lambda key: key[0] != "reduce") / crowd.workers, None),
        ("round trips in a second", "", working.total() / took_s, None),
        ("time to the least", "", took_s / least_s, None),
    ]


_RESULT = frozenset(["stage", "results", "settled", "done"])
_LIVENESS = frozenset(["live", "dead", "oslock"])


def _publishes(key: Key) -> bool:
    return key[0] == "map" and key[1] in _RESULT


def _claims(key: Key) -> bool:
    return key[1] not in _LIVENESS and key[1] != "in" and not _publishes(key) and key[0] != "plan"


def _of(trips: Counter[Key], holds: Callable[[Key], bool]) -> int:
    return sum(count for key, count in trips.items() if holds(key))


def _mean(sizes: Counter[int]) -> float:
    return sum(size * times for size, times in sizes.items()) / sizes.total()
