"""Process number one of a guest. It starts programs for the host and passes on what they say.

The root directory is the host's, read-only. Over it come the file systems that a running system needs, and directories in
memory for what programs write. Then requests arrive on a serial line, one JSON object a line:

    {"start": 7, "argv": [...], "cwd": "/", "env": {}}   a program; its answers come as they happen:
        {"of": 7, "pid": 31}   {"of": 7, "stream": 1, "text": "..."}   {"of": 7, "code": 0}
    {"signal": 15, "pid": 31}                            to that program and all that it has started

Functions of this module are called as programs with a leading ``@``. Everything that may block is done by a child.
When the line closes, the host has ended, and so does the guest.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import selectors
import signal
import sys
import termios
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LINE = "/dev/ttyS0"
MODULES = "/usr/lib/uml/modules"
_IN_MEMORY = ("/run", "/run/tmp", "/var/lib/nfs", "/dev/shm")  # not /tmp: this checkout may lie there
_FINIT_MODULE = 313  # the number of this system call on x86_64; the host may have no insmod
_POWER_OFF = 0x4321FEDC
_CHUNK_BYTES = 4096  # what a serial line takes at once

_libc = ctypes.CDLL(None, use_errno=True)


# -- functions that the host calls as @name ---------------------------------------------------------------------------


def mount(source: str, target: str, kind: str, options: str = "") -> None:
    """Mount a filesystem; makes the mount point."""
    os.makedirs(target, exist_ok=True)
    if _libc.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()):
        raise _error(f"mount {kind} on {target}")


def modules(*wanted: str) -> None:
    """Load kernel modules, each ``name`` or ``name parameters``, and what they depend on."""
    base = f"{MODULES}/{platform.release()}"
    known: dict[str, tuple[str, list[str]]] = {}
    with open(f"{base}/modules.dep", encoding="ascii") as table:
        for line in table:
            path, _, needed = line.partition(":")
            known[_module_name(path)] = path, needed.split()

    def load(name: str, parameters: str) -> None:
        if name not in known:
            return  # built in
        path, needed = known[name]
        for each in reversed(needed):
            load(_module_name(each), "")
        with open(f"{base}/{path}", "rb") as file:
            failed = _libc.syscall(_FINIT_MODULE, file.fileno(), parameters.encode(), 0)
        if failed and ctypes.get_errno() != errno.EEXIST:
            raise _error(f"load module {name}")

    for each in wanted:
        name, _, parameters = each.partition(" ")
        load(name, parameters)


def clock(seconds: str) -> None:
    """Set this guest's wall clock."""
    import time

    time.clock_settime(time.CLOCK_REALTIME, float(seconds))


def write(path: str, text: str) -> None:
    """Write a file, with the directories above it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def fill(path: str) -> None:
    """Make a file at *path* that leaves no free block on its filesystem."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        os.fsync(file.fileno())


def dump(path: str) -> None:
    """Print every file below a directory, with what it holds, as a JSON object."""
    found = {}
    for directory, _, names in os.walk(path):
        for name in names:
            file = os.path.join(directory, name)
            try:
                with open(file, "rb") as opened:
                    found[os.path.relpath(file, path)] = opened.read().decode("utf-8", "surrogateescape")
            except FileNotFoundError:
                pass  # it went meanwhile
    print(json.dumps(found), flush=True)


FUNCTIONS: dict[str, Callable[..., None]] = {
    f"@{each.__name__}": each for each in (mount, modules, clock, write, fill, dump)
}


def _module_name(path: str) -> str:
    return os.path.basename(path).partition(".")[0].replace("-", "_")


def _error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


# -- children ---------------------------------------------------------------------------------------------------------


@dataclass
class Child:
    """A program that was started: the request it belongs to, and its pipes that are open yet."""

    number: int
    pid: int
    pipes: dict[int, int] = field(default_factory=dict)
    """Pipe to read from → 1 or 2."""


def _start(request: dict[str, Any], inherited: list[int]) -> Child:
    pipes = [os.pipe(), os.pipe()]
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for fd, stream in ((nothing, 0), (pipes[0][1], 1), (pipes[1][1], 2)):
                os.dup2(fd, stream)
            for fd in (nothing, *inherited, *pipes[0], *pipes[1]):
                os.close(fd)
            os.environ.update(request["env"])
            os.chdir(request["cwd"])
            code = _become(request["argv"])
        except BaseException:
            traceback.print_exc()
            code = 127
        os._exit(code)
    for _, write_end in pipes:
        os.close(write_end)
    for read_end, _ in pipes:
        os.set_blocking(read_end, False)
    return Child(request["start"], pid, {pipes[0][0]: 1, pipes[1][0]: 2})


def _become(argv: list[str]) -> int:
    """Turn this child into a program; returns when that is a function."""
    function = FUNCTIONS.get(argv[0])
    if function is None:
        os.execvp(argv[0], argv)
    function(*argv[1:])
    return 0


# -- the agent --------------------------------------------------------------------------------------------------------


class Agent:
    """Reads requests, starts children, tells what they say and how they end."""

    def __init__(self) -> None:
        self._line = os.open(LINE, os.O_RDWR | os.O_NOCTTY)
        how = termios.tcgetattr(self._line)
        how[0] = how[1] = how[3] = 0  # raw
        how[6][termios.VMIN], how[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._line, termios.TCSANOW, how)
        self._asked = b""
        self._children: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        woken, wakes = os.pipe()
        for fd in (woken, wakes):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._own = [self._line, woken, wakes, self._selector.fileno()]
        self._woken = woken
        self._selector.register(self._line, selectors.EVENT_READ, self._read_line)
        self._selector.register(woken, selectors.EVENT_READ, self._reap)

    def serve(self) -> None:
        """Work until the line closes."""
        self._tell(ready=True)
        while True:
            for key, _ in self._selector.select():
                key.data(key.fd)

    def _tell(self, **what: Any) -> None:
        data = json.dumps(what).encode() + b"\n"
        while data:
            data = data[os.write(self._line, data[:_CHUNK_BYTES]) :]

    def _read_line(self, fd: int) -> None:
        data = os.read(fd, _CHUNK_BYTES)
        if not data:
            raise EOFError
        *lines, self._asked = (self._asked + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, request: dict[str, Any]) -> None:
        if "start" in request:
            inherited = [*self._own, *(pipe for child in self._children.values() for pipe in child.pipes)]
            child = _start(request, inherited)
            self._children[child.pid] = child
            for pipe in child.pipes:
                self._selector.register(pipe, selectors.EVENT_READ, lambda fd, child=child: self._pass_on(child, fd))
            self._tell(of=child.number, pid=child.pid)
        else:
            for kill in (os.killpg, os.kill):  # one that was started just now has no group yet
                try:
                    kill(request["pid"], request["signal"])
                    break
                except ProcessLookupError:
                    pass

    def _pass_on(self, child: Child, fd: int) -> None:
        """What a child says; a pipe that is closed or has no more is let go."""
        if fd not in child.pipes:
            return  # closed by `_reap`, after the selector had seen it
        try:
            data = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if data:
            self._tell(of=child.number, stream=child.pipes[fd], text=data.decode("latin-1"))
        else:
            self._close(child, fd)

    def _close(self, child: Child, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)
        del child.pipes[fd]

    def _reap(self, fd: int) -> None:
        """Tell which children have ended. A daemon that one of them left behind may hold its pipes: they are closed."""
        os.read(fd, _CHUNK_BYTES)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is None:
                continue  # an orphan
            for pipe in list(child.pipes):
                while pipe in child.pipes and _has_data(pipe):
                    self._pass_on(child, pipe)
                if pipe in child.pipes:
                    self._close(child, pipe)
            self._tell(of=child.number, code=os.waitstatus_to_exitcode(status))


def _has_data(pipe: int) -> bool:
    import select

    return bool(select.select([pipe], [], [], 0)[0])


def main() -> None:
    """Boot, then serve."""
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    for path in _IN_MEMORY:
        mount("tmpfs", path, "tmpfs", "mode=1777")
    os.environ.update(
        PATH=f"{os.path.dirname(sys.executable)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME="/run",
        TMPDIR="/run/tmp",
        LC_ALL="C.UTF-8",
        PYTHONDONTWRITEBYTECODE="1",
    )
    sys.dont_write_bytecode = True
    Agent().serve()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
    _libc.sync()
    _libc.reboot(ctypes.c_int(_POWER_OFF))
