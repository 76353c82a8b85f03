"""The program behind scripts/zoo."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.machine import exit_on_signals
from tests.nfs.lab.machine import LabError
from tests.zoo import needs
from tests.zoo.habitat import open_habitat
from tests.zoo.species import QUICK as QUICK_SPECIES
from tests.zoo.species import SPECIES
from tests.zoo.table import HEAD, line
from tests.zoo.torture import FULL, QUICK, Row, torture

EPILOG = f"""\
filesystems: {", ".join(SPECIES)}

For each: claimwork doctor as a pair, a race for tickets, and a job whose workers and host are killed, once for each way to
claim that doctor allows. Everything runs in virtual machines in processes of this one, with the daemons in a machine of their
own; nothing is left. Exit code 1 when torture did not show what doctor said, 2 when something could not be tried.
"""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/zoo",
        description="Tries claimwork on real filesystems.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which filesystems (default: all)")
    parser.add_argument("--quick", action="store_true", help=f"less of everything; default: {', '.join(QUICK_SPECIES)}")
    parser.add_argument("--json", metavar="FILE", help="write all figures there as well")
    told = parser.parse_args()
    unknown = [name for name in told.names if name not in SPECIES]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)} here; there are {', '.join(SPECIES)}")
    return told


def try_one(name: str, *, quick: bool) -> Row | None:
    """One filesystem, aloud; None when it could not be tried."""
    started = time.monotonic()

    def say(words: str) -> None:
        print(f"{name} | {time.monotonic() - started:3.0f} s | {words}", file=sys.stderr, flush=True)

    species = SPECIES[name]
    try:
        needs.install(species)
        with open_habitat(species) as habitat:
            say("mounted")
            return torture(species, habitat, QUICK if quick else FULL, say)
    except LabError as error:
        say(f"could not be tried: {error}")
        return None


def main() -> int:
    """Try each in turn, then print the table."""
    told = parse()
    exit_on_signals()
    rows = {}
    try:
        for name in told.names or (QUICK_SPECIES if told.quick else SPECIES):
            rows[name] = try_one(name, quick=told.quick)
    except KeyboardInterrupt:
        return 130
    print(HEAD)
    for row in rows.values():
        if row is not None:
            print(line(row))
    for name, row in rows.items():
        if row is None:
            print(f"could not be tried: {name}", file=sys.stderr)
    if told.json:
        Path(told.json).write_text(
            json.dumps([asdict(row) for row in rows.values() if row is not None], indent=1) + "\n"
        )
    if any(row is None for row in rows.values()):
        return 2
    return 0 if all(row is None or row.ok for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
