"""Single lines on stderr: errors and news, as text or as JSON. Without the library for screens, which workers do without."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from .news import News, Tell

LINE_EVERY_S = 10.0  # how often something that lasts says a line of how far it is, where there is no terminal


def printable(name: str) -> str:
    """A file name as text: control characters and stray bytes escaped, so that it cannot play with the terminal."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def teller(form: str, *, quiet: bool, monotonic: Callable[[], float] = time.monotonic) -> Tell:
    """What prints a line for each of the news, in a *form* of ``text`` or ``json``, or nothing when *quiet*.

    Of news that repeats only the first after each ten seconds is printed.
    """
    make = _as_json if form == "json" else _as_text
    told_at = monotonic()

    def tell(news: News, words: str, **facts: Any) -> None:
        nonlocal told_at
        if quiet:
            return
        if news.repeats:
            if monotonic() - told_at < LINE_EVERY_S:
                return
            told_at = monotonic()
        _write(make(news, words, facts))

    return tell


def complain(message: str, form: str = "text", code: int | None = None) -> None:
    """One error line; *code* is what the command exits with."""
    if form == "json":
        _write(_as_json(News.ERROR, message, {"code": code}))
    else:
        _write(f"claimwork: {printable(message)}")


def _as_text(_news: News, words: str, _facts: dict[str, Any]) -> str:
    return f"{time.strftime('%H:%M:%S')} {printable(words)}"


def _as_json(news: News, words: str, facts: dict[str, Any]) -> str:
    import json

    now = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
    known = {name: value for name, value in facts.items() if value is not None}
    # in ASCII, so that a name with stray bytes is escaped and no locale matters
    return json.dumps({"time": at, "level": news.level, "event": news.value, **known, "message": words})


def _write(line: str) -> None:
    """One write for a line, so that lines of several processes do not mix; a reader who is gone ends no worker."""
    try:
        os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass
