"""What a user touches: `task`, its reducer, `Attempt`, `GiveUp`; and what a child process runs for each kind of task.

A task is a function of one input's path. Its return value, which must be JSON, is the result; an exception is a failed
attempt, repeated after a back-off; `GiveUp` quarantines the input at once. Execution is at-least-once: an input whose
worker was lost is run again, with a higher `Attempt.number`. Publication of the result is exactly-once.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, overload

from . import records
from .errors import UsageError, mount_fault
from .records import Job


class GiveUp(Exception):
    """Raise it in a task to quarantine the input at once, for a reason that no second attempt would change."""


class Lost(Protocol):
    """Tells a task that its claim is gone, so that going on is pointless."""

    def is_set(self) -> bool:
        """True once this attempt's result cannot be accepted any more."""


@dataclass
class Attempt:
    """What a task may know about the attempt it is part of; its optional second parameter.

    ``number`` counts from 1 and rises with each failed or lost attempt; a planned stop, or a neighbour's crash, repeats it.
    ``input`` is its path below IN; ``size_bytes`` as planned. ``start`` and ``stop`` (exclusive) say which of its bytes are
    asked for: all of them, unless the task declares a merge and the job splits large inputs.
    """

    number: int
    input: str
    size_bytes: int
    lost: Lost
    start: int = 0
    stop: int = -1
    _scratch: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.stop < 0:
            self.stop = self.size_bytes

    def lines(self, path: str | os.PathLike[str]) -> Iterator[bytes]:
        """The lines of the file at *path* that begin in this part, whole and with their ends.

        Each line belongs to exactly one part, wherever the cuts are; the last part goes on to the end of the file.
        """
        with open(path, "rb") as file:
            at = self.start
            if at:
                file.seek(at - 1)
                at += len(file.readline()) - 1  # the rest of a line that begins before
            while self.stop >= self.size_bytes or at < self.stop:
                line = file.readline()
                if not line:
                    return
                at += len(line)
                yield line

    @property
    def scratch(self) -> Path:
        """A private empty directory where temporary files go, removed when the attempt ends."""
        if self._scratch is None:
            self._scratch = tempfile.mkdtemp(prefix="claimwork-")
        return Path(self._scratch)

    def cleanup(self) -> None:
        """Remove the scratch directory, if there is one."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


@dataclass(frozen=True, slots=True)
class Result:
    """One result as a reducer sees it: the input's path below IN, and the value its task returned."""

    input: str
    value: Any


class Results(Protocol):
    """What a reducer gets: iterate once, in the order of the plan. ``quarantined`` is final after the iteration."""

    quarantined: int

    def __iter__(self) -> Iterator[Result]:
        """All results; values are read as they are asked for, never held together."""


class Task:
    """A function with a reducer, and perhaps a merge; calling it calls the function.

    ``side_effects``: it does more than return a value, so no copy of it is run while another worker is at the same input.
    """

    def __init__(self, function: Callable[..., Any], *, side_effects: bool = False) -> None:
        self.function = function
        self.side_effects = side_effects
        self.reduce: Callable[[Results], Any] = count_results
        self.merged: Callable[[Iterator[Any]], Any] | None = None
        self.__name__ = getattr(function, "__name__", "task")
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, as in a plain test."""
        return self.function(*args, **kwargs)

    def reducer(self, function: Callable[[Results], Any]) -> Callable[[Results], Any]:
        """Declare how results become the summary: a function of an iterator over `Result` that returns JSON."""
        self.reduce = function
        return function

    def merge(self, function: Callable[[Iterator[Any]], Any]) -> Callable[[Iterator[Any]], Any]:
        """Declare that inputs may be split: a function of the values of all parts, in their order, that returns the whole's.

        The task then takes an `Attempt` and keeps to its ``start`` and ``stop``.
        """
        self.merged = function
        return function


@overload
def task(function: Callable[..., Any]) -> Task: ...
@overload
def task(*, side_effects: bool = False) -> Callable[[Callable[..., Any]], Task]: ...
def task(
    function: Callable[..., Any] | None = None, *, side_effects: bool = False
) -> Task | Callable[[Callable[..., Any]], Task]:
    """Make a function of one path a task. *side_effects*: see `Task`."""
    made = partial(Task, side_effects=side_effects)
    return made if function is None else made(function)


def count_results(results: Results) -> dict[str, int]:
    """The summary of a task without a reducer."""
    inputs = sum(1 for _ in results)
    return {"inputs": inputs, "quarantined": results.quarantined}


class Runner(Protocol):
    """What a child does for each input."""

    reduce: Callable[[Results], Any]

    def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
        """The result as a line of JSON, or None when it is in the file *staged*. Any exception is a failed attempt."""

    def value(self, path: str, attempt: Attempt) -> Any:
        """The value of the part that *attempt* asks for; only of jobs that split."""

    def merged(self, values: Iterator[Any]) -> bytes:
        """The result that the values of all parts make, as a line of JSON; only of jobs that split."""


def load_runner(job: Job) -> Runner:
    """The runner for a job's task. Raises UsageError when a Python task cannot be imported, or split as the job wants."""
    if job.command:
        return CommandRunner(job.command)
    if job.task == "wordcount":
        return PythonRunner(_wordcount(job.errors))
    return PythonRunner(load_task(job.task, splits=job.split_bytes is not None))


def load_task(spec: str, *, splits: bool = False) -> Task:
    """Import ``module:name``; a plain function will do. With *splits* it must declare a merge. Raises UsageError."""
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(
            f"task {spec!r} is neither built in nor of the form module:name; try --task wordcount or --task mytasks:lengths"
        )
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the user's module raises
        raise UsageError(
            f"cannot import task {spec!r}: {type(error).__name__}: {error}; "
            "is the module in the current directory or on PYTHONPATH?"
        ) from error
    if not callable(found):
        raise UsageError(f"task {spec!r} is a {type(found).__name__}, not a function")
    task = found if isinstance(found, Task) else Task(found)
    if splits and (task.merged is None or _positional_parameters(task.function) < 2):
        raise UsageError(
            f"task {spec!r} cannot be split: it needs a merge, and an Attempt as its second parameter; leave --split out"
        )
    return task


class PythonRunner:
    """Calls a Python function and encodes what it returns."""

    def __init__(self, of: Task) -> None:
        self._function = of.function
        self._wants_attempt = _positional_parameters(of.function) >= 2
        self._directory = Path()
        self._directory_name = ""
        self.reduce = of.reduce
        self._merge = of.merged

    def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
        return records.dumps(self.value(path, attempt)) + b"\n"

    def value(self, path: str, attempt: Attempt) -> Any:
        given = self._path(path)
        return self._function(given, attempt) if self._wants_attempt else self._function(given)

    def merged(self, values: Iterator[Any]) -> bytes:
        if self._merge is None:
            raise UsageError("the task declares no merge, so its inputs cannot be split")
        return records.dumps(self._merge(values)) + b"\n"

    def _path(self, path: str) -> Path:
        # inputs of one directory follow each other, and to parse all of its path costs as much as to read a small file
        directory, slash, name = path.rpartition("/")
        if directory + slash != self._directory_name:
            self._directory, self._directory_name = Path(directory + slash), directory + slash
        return self._directory / name


def _positional_parameters(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(
        each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
        for each in parameters
    )


class CommandRunner:
    """Runs a program for each input, without a shell: ``{input}`` and ``{output}`` are replaced inside arguments."""

    def __init__(self, command: list[str]) -> None:
        self.reduce: Callable[[Results], Any] = count_results
        self._command = command
        self._has_output = any("{output}" in each for each in command)

    def value(self, path: str, attempt: Attempt) -> Any:
        raise UsageError("a program cannot be asked for a part of its input")  # the command line refuses such jobs

    def merged(self, values: Iterator[Any]) -> bytes:
        raise UsageError("a program says nothing of how parts are merged")

    def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
        argv = [_replaced(each, path, staged) for each in self._command]
        environment = {**os.environ, "CLAIMWORK_ATTEMPT": str(attempt.number)}
        stdout = None if self._has_output else open(staged, "wb")  # noqa: SIM115 - closed below
        try:
            # the output of a program with {output} is talk, and goes where the child's own goes
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                env=environment,
                check=False,
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
            )
            end_orphans()
        except OSError as error:
            raise CommandFailed(f"cannot start {argv[0]!r}: {error.strerror}") from None
        finally:
            if stdout is not None:
                stdout.close()
        if done.returncode:
            _mind_the_disk(staged)
            raise CommandFailed(f"{argv[0]!r} {_exit_in_words(done.returncode)}", done.returncode)
        if self._has_output and not os.path.isfile(staged):
            raise CommandFailed(f"{argv[0]!r} exited with 0 but wrote no {{output}}")
        return None


def die_with_parent(parent: int, number: int) -> None:
    """Get signal *number* when the parent dies: PR_SET_PDEATHSIG where there is one, else nothing.

    Without it a child of claimwork ends when it next looks at its closed pipe, and a program runs on.
    """
    try:
        ctypes.CDLL(None).prctl(1, number)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of whatever its programs leave behind (PR_SET_CHILD_SUBREAPER; Linux only)."""
    try:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    except (OSError, AttributeError):
        pass


def end_orphans() -> None:
    """Kill what a program left running: it could write on into a result that is published by then."""
    for _ in range(100):  # each round may uncover what those had started
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                left = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


class CommandFailed(Exception):
    """A program could not be started or exited with an error."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def _mind_the_disk(staged: str) -> None:
    """Raise WorkerFault when the disk is full: then it is not the input's fault that a program failed."""
    directory = os.path.dirname(staged)
    found = os.statvfs(directory)
    if not (found.f_bfree if os.geteuid() == 0 else found.f_bavail):
        raise mount_fault(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), directory)


def _replaced(argument: str, path: str, staged: str) -> str:
    # in one pass: a path that itself contains {output} stays as it is
    pieces = argument.split("{input}")
    return path.join(piece.replace("{output}", staged) for piece in pieces)


def _exit_in_words(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"exited with {status}"


def _wordcount(errors: str) -> Task:
    from . import wordcount

    def count(path: Path, attempt: Attempt) -> dict[str, int]:
        end = None if attempt.stop >= attempt.size_bytes else attempt.stop
        try:
            found = wordcount.count_path(path, errors=errors, start=attempt.start, end=end)
        except wordcount.BadUtf8 as error:
            raise GiveUp(f"{error}; --errors replace counts such bytes as neither letter nor space") from None
        return {"words": found.words, "letters": found.letters}

    counted = Task(count)

    @counted.merge
    def of_parts(values: Iterator[Any]) -> dict[str, int]:
        words = letters = 0
        for each in values:
            words += each["words"]
            letters += each["letters"]
        return {"words": words, "letters": letters}

    @counted.reducer
    def total(results: Results) -> dict[str, int]:
        inputs = words = letters = 0
        for each in results:
            inputs += 1
            words += each.value["words"]
            letters += each.value["letters"]
        return {"inputs": inputs, "quarantined": results.quarantined, "words": words, "letters": letters}

    return counted
