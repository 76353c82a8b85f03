"""The real program, tampered with as the environment says: `python tampered.py ARGUMENTS`.

``TAMPER`` is JSON. ``ahead_s`` shifts the wall clock of the process. ``at`` holds the first process that comes to a chosen
call: it says so in the file ``reached`` and stands still, until somebody makes ``pass``. A test that acts in between acts in
that phase for certain. ``passed`` is there when the call was made, whether it succeeded or not; ``told`` when a signal was
handled; ``draining`` when a child was asked to stop.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from claimwork.cli import main
from claimwork.executor import ProcessExecutor
from claimwork.fs import PosixFs

WORKER = os.getpid()


def shift_wall_clock(ahead_s: float) -> None:
    """Let this machine's wall clock be wrong; monotonic clocks are not concerned."""
    right = time.time
    time.time = lambda: right() + ahead_s


def hold(who: str, when: str, call: str, path: str) -> None:
    """Stand still *when* ("before" or "after") *who* ("worker" or "child") calls *call* on a path that has *path* in it."""
    made = getattr(PosixFs, call)

    def held(self: PosixFs, *args: Any) -> Any:
        target = [each for each in args if type(each) is str][-1]
        is_it = path in target and (os.getpid() == WORKER) == (who == "worker")
        if is_it and when == "before":
            stand_still()
        try:
            answer = made(self, *args)
        finally:
            if is_it:
                Path("passed").touch()
        if is_it and when == "after":
            stand_still()
        return answer

    setattr(PosixFs, call, held)


def stand_still() -> None:
    """Wait for `pass`; only whoever comes first."""
    try:
        Path("reached").touch(exist_ok=False)
    except FileExistsError:
        return
    while not Path("pass").exists():
        time.sleep(0.01)


def tell_of_stopping() -> None:
    """Say when a signal was handled, and when a child was asked to stop."""
    install, stop_before = signal.signal, ProcessExecutor.stop_before

    def install_telling(number: int, handler: Any) -> Any:
        def handle(got: int, frame: FrameType | None) -> None:
            handler(got, frame)
            Path("told").touch()

        return install(number, handle if callable(handler) else handler)

    def stop_telling(self: ProcessExecutor, slot: int, index: int) -> None:
        stop_before(self, slot, index)
        Path("draining").touch()

    signal.signal = install_telling  # type: ignore[assignment]
    ProcessExecutor.stop_before = stop_telling  # type: ignore[method-assign]


if __name__ == "__main__":
    how = json.loads(os.environ["TAMPER"])
    if "ahead_s" in how:
        shift_wall_clock(how["ahead_s"])
    if "at" in how:
        hold(*how["at"])
        tell_of_stopping()
    sys.argv[0] = "claimwork"
    main()
