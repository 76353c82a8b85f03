"""Creates names in the tick of the server's clock in which they are listed: ``same_tick.py SEEN MADE``.

Both are the same directory of the share through mounts whose caches know nothing of each other. Prints how often a change
left the directory's times as they were, how often a plain listing then missed the name, and how often that of claimwork did.
"""

from __future__ import annotations

import json
import os
import sys

from claimwork.fs import PosixFs

ROUNDS = 2000
ENOUGH = 20


def main(seen: str, made: str) -> None:
    """Race against the clock until it was hit often enough."""
    fs = PosixFs(seen)
    found = {"same tick": 0, "plain missed": 0, "names missed": 0}
    for number in range(ROUNDS):
        name = f"round-{number}"
        os.mkdir(f"{made}/{name}")
        open(f"{made}/{name}/first", "wb").close()
        fs.names(f"{seen}/{name}")
        before = os.stat(f"{made}/{name}").st_ctime_ns
        open(f"{made}/{name}/second", "wb").close()
        if os.stat(f"{made}/{name}").st_ctime_ns != before:
            continue
        found["same tick"] += 1
        found["plain missed"] += "second" not in os.listdir(f"{seen}/{name}")
        found["names missed"] += "second" not in fs.names(f"{seen}/{name}")
        if found["plain missed"] >= ENOUGH:
            break
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
