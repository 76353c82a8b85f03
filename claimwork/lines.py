"""Single lines on stderr: errors and talk. Without the library for screens, which workers do without."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def printable(name: str) -> str:
    """A file name as text: control characters and stray bytes escaped, so that it cannot play with the terminal."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sayer(*, quiet: bool) -> Callable[[str], None]:
    """What prints a line of talk with the time of day, or nothing when *quiet*."""

    def say(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {printable(line)}\n")
            sys.stderr.flush()

    return say


def complain(message: str) -> None:
    """One error line."""
    sys.stderr.write(f"claimwork: {printable(message)}\n")
    sys.stderr.flush()
