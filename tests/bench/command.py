"""scripts/bench: measure suites, print what they found beside their targets.

A suite is a module of this directory with a function `measure`; another one needs a line in `SUITES` and nothing else.
Numbers depend on the machine and on what else it does, so nothing here is a test and no exit code depends on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from claimwork import __version__
from claimwork.fs import filesystem_kind
from tests.bench import (
    coordination,
    crowd,
    eta,
    growth,
    look,
    recovery,
    round_trips,
    skew,
    startup,
    straggler,
    whole_job,
    wordcount,
)
from tests.bench.measure import Options, Suite, table
from tests.bench.picture import draw
from tests.machine import exit_on_signals
from tests.nfs.lab.lab import FLAVOURS
from tests.nfs.lab.machine import LabError

SUITES: dict[str, Suite] = {
    "coordination": coordination,
    "crowd": crowd,
    "eta": eta,
    "growth": growth,
    "look": look,
    "recovery": recovery,
    "round_trips": round_trips,
    "skew": skew,
    "startup": startup,
    "straggler": straggler,
    "whole_job": whole_job,
    "wordcount": wordcount,
}
# machines in software with delays, and jobs of a minute each: longer than all the others together
MUST_BE_NAMED = frozenset({"eta", "round_trips"})
REPEATS = 11  # an odd number has a median of its own; fewer say little on a machine that others use


def main() -> None:
    """Parse, measure, print."""
    suites = "\n".join(f"  {name}: {(suite.__doc__ or '').splitlines()[0]}" for name, suite in SUITES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench", epilog=f"suites:\n{suites}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"which ones; default: all but {', '.join(sorted(MUST_BE_NAMED))}"
    )
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"how often; default: {REPEATS}")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="on which filesystem")
    parser.add_argument("--workers", type=int, help="crowd: how many are simulated; default: several sizes")
    parser.add_argument("--inputs", type=int, help="crowd: with how many inputs")
    parser.add_argument("--input-seconds", type=float, default=1.0, help="crowd: how long each lasts; default: 1")
    parser.add_argument(
        "--flavour", choices=FLAVOURS, default="v4.2", help="round_trips: how its share is mounted; default: v4.2"
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write an SVG of each suite that has one there")
    parser.add_argument("--json", action="store_true", help="one document on stdout, with every single value")
    args = parser.parse_args()
    unknown = set(args.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if (args.workers is None) != (args.inputs is None) or min(args.workers or 2, args.inputs or 2) < 2:
        parser.error("--workers and --inputs go together, each at least 2")
    if args.input_seconds <= 0:
        parser.error("--input-seconds must be more than 0")
    exit_on_signals()
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    options = Options(args.repeats, args.dir, args.workers, args.inputs, args.input_seconds, args.flavour)
    machine = {
        "claimwork": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "filesystem": filesystem_kind(str(args.dir)),
        "load_before": round(os.getloadavg()[0], 1),
    }
    try:
        names = args.suites or [name for name in SUITES if name not in MUST_BE_NAMED]
        measures = {name: SUITES[name].measure(options) for name in names}
    except LabError as error:
        sys.exit(f"scripts/bench: {error}")
    for name in measures if args.pictures else ():
        picture = getattr(SUITES[name], "PICTURE", None)
        if picture is not None:
            (args.pictures / f"{name}.svg").write_text(draw(picture, measures[name]), encoding="utf-8")
    if args.json:
        found = {name: [each.as_dict() for each in values] for name, values in measures.items()}
        json.dump({"machine": machine, "suites": found}, sys.stdout, indent=1)
        print()
        return
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name, values in measures.items():
        print(f"\n{name}\n\n{table(values)}")


if __name__ == "__main__":
    main()
