"""Child processes that run user code; crash, timeout and report come back as data.

`multiprocessing` from the standard library forks the children and carries messages (docs/decisions says why); what is said
over the pipes is JSON. A child leads a process group of its own, so that a timeout also ends what it started; it dies with its
worker; and it never sees the signals meant for the worker. Where it is in its ticket stands in shared memory: no
message per input.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from . import policy
from .child import MapReport
from .child_process import CONTROL, LOST, NEVER, SharedProgress, child_main
from .claims import is_control
from .clock import Clock
from .errors import ClaimworkError, Fenced, UsageError, WorkerFault
from .finalizer import ReduceReport
from .fs import Fs
from .layout import Layout
from .names import Kind, Ticket
from .planner import PlanReport
from .records import Job
from .results import purge_stage

_KILL_WAIT_S = 5.0
_STANDSTILL_S = 1.0  # a wait ends so much later on no machine that is merely busy
_EXIT_LOOKS = 20  # from the end of the pipe to the end of the process


@dataclass(frozen=True, slots=True)
class Finished:
    """A child is done with its ticket; with no report, it was a reduction that a later one has made needless."""

    slot: int
    ticket: Ticket
    mapped: MapReport | None = None
    planned: PlanReport | None = None
    reduced: ReduceReport | None = None


@dataclass(frozen=True, slots=True)
class Crashed:
    """A child ended or was ended in the middle of input ``index`` (None: of no input).

    ``loaded``: it had loaded the task, so that an input may have been what ended it.
    """

    slot: int
    ticket: Ticket
    kind: str
    error: str
    detail: str
    index: int | None
    loaded: bool = True


@dataclass(frozen=True, slots=True)
class Faulted:
    """The fault lies with the worker, its mount or its task: the ticket is untouched. ``error`` says what to raise."""

    slot: int
    ticket: Ticket
    error: ClaimworkError


Event = Finished | Crashed | Faulted


@dataclass(frozen=True, slots=True)
class Running:
    """What a slot is at: the input's index (None before the first), and since when on the worker's monotonic clock.

    ``counted``: so many inputs a plan has listed, or results a reduction has read.
    """

    ticket: Ticket
    index: int | None
    index_since: float
    since: float
    counted: int = 0


class Executor(Protocol):
    """What a worker needs of its children."""

    slots: int

    def free(self) -> list[int]:
        """Slots without a ticket."""

    def running(self) -> dict[int, Running]:
        """What each busy slot is at."""

    def start(self, slot: int, ticket: Ticket, *, control: bool = False) -> None:
        """Give a ticket to a free slot. *control*: run its one input, and throw the result away."""

    def stop_before(self, slot: int, index: int) -> None:
        """Ask a child to stop before input *index*; 0: after the input in hand."""

    def poll(self, timeout_s: float) -> list[Event]:
        """What happened, waiting up to *timeout_s* for it. Also ends inputs that exceed the job's timeout."""

    def end(self, slot: int) -> None:
        """End what a slot is at, and remove what it staged; nothing is reported of it."""

    def kill(self) -> list[Ticket]:
        """End all children at once and remove what they staged; the tickets they were at."""


class _Slot:
    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.shared = SharedProgress.from_buffer(self.memory)
        self.process: BaseProcess | None = None
        self.connection: Connection | None = None
        self.log_fd = -1
        self.log_ended = (
            False  # the task closed its stdout and stderr: nothing more comes, and that would end each wait
        )
        self.tail = b""
        self.ticket: Ticket | None = None
        self.since = 0.0
        self.generation = 0


class ProcessExecutor:
    """`Executor` over forked processes, one per slot, started when first needed and again after a crash."""

    def __init__(
        self,
        fs: Fs,
        layout: Layout,
        job: Job,
        worker: str,
        input_dir: str,
        slots: int,
        clock: Clock,
        log_fd: int = 2,
        *,
        verbose: bool = False,
    ) -> None:
        self._verbose = verbose
        self.slots = slots
        self._fs = fs
        self._layout = layout
        self._job = job
        self._worker = worker
        self._input_dir = input_dir
        self._clock = clock
        self._log_fd = log_fd
        self._slots = [_Slot() for _ in range(slots)]
        self._context = multiprocessing.get_context("fork")
        self._wakeup, self._wakeup_end = os.pipe()  # a signal ends the wait at once
        os.set_blocking(self._wakeup, False)
        os.set_blocking(self._wakeup_end, False)
        signal.set_wakeup_fd(self._wakeup_end, warn_on_full_buffer=False)

    def free(self) -> list[int]:
        return [number for number, slot in enumerate(self._slots) if slot.ticket is None]

    def running(self) -> dict[int, Running]:
        return {
            number: Running(
                slot.ticket,
                slot.shared.index if slot.shared.index >= 0 else None,
                slot.shared.begun_at,
                slot.since,
                slot.shared.counted,
            )
            for number, slot in enumerate(self._slots)
            if slot.ticket is not None
        }

    def start(self, slot: int, ticket: Ticket, *, control: bool = False) -> None:
        at = self._slots[slot]
        at.shared.index, at.shared.stop, at.shared.counted = -1, NEVER, 0
        at.since = self._clock.monotonic()
        at.ticket = ticket
        if at.process is None:
            self._spawn(slot)
        assert at.connection is not None
        try:
            at.connection.send_bytes((CONTROL if control else b"") + ticket.name.encode())
        except OSError:
            pass  # it died while it had nothing to do: poll() finds out and reports

    def stop_before(self, slot: int, index: int) -> None:
        self._slots[slot].shared.stop = index

    def poll(self, timeout_s: float) -> list[Event]:
        timeout_s = min(timeout_s, self._next_timeout())
        sources: dict[Any, int] = {self._wakeup: -1}
        for number, slot in enumerate(self._slots):
            if slot.process is not None:
                sources[slot.connection] = number
                if not slot.log_ended:
                    sources[slot.log_fd] = number
        asked = self._clock.monotonic()
        ready = wait(list(sources), max(timeout_s, 0))
        self._forgive(self._clock.monotonic() - asked - max(timeout_s, 0))
        events: list[Event] = []
        numbers = {sources[source] for source in ready}
        if -1 in numbers:
            os.read(self._wakeup, 4096)
            numbers.remove(-1)
        for number in numbers:
            self._forward_log(self._slots[number])
        # All slots, since something that a task left behind may keep the pipes of a dead child open.
        for number, slot in enumerate(self._slots):
            if slot.process is None:
                continue
            event = self._collect(number)
            if event is not None:
                events.append(event)
        events += self._end_overdue()
        return events

    def end(self, slot: int) -> None:
        self._slots[slot].shared.stop = LOST
        self._end(slot)
        self._slots[slot].ticket = None

    def kill(self) -> list[Ticket]:
        tickets = []
        for number, slot in enumerate(self._slots):
            if slot.ticket is not None:
                tickets.append(slot.ticket)
            self.end(number)
        signal.set_wakeup_fd(-1)
        for fd in (self._wakeup, self._wakeup_end):
            try:
                os.close(fd)
            except OSError:
                pass
        return tickets

    def _spawn(self, number: int) -> None:
        slot = self._slots[number]
        slot.generation += 1
        slot.shared.loaded = 0
        ours, theirs = self._context.Pipe()
        log_read, log_write = os.pipe()
        slot.process = self._context.Process(
            target=child_main,
            args=(
                theirs,
                log_write,
                slot.shared,
                self._layout.out,
                self._job,
                self._worker,
                f"{number}-{slot.generation}",
                self._input_dir,
            ),
            kwargs={"verbose": self._verbose},
            daemon=True,
        )
        slot.process.start()
        theirs.close()
        os.close(log_write)
        os.set_blocking(log_read, False)
        slot.connection, slot.log_fd, slot.log_ended, slot.tail = ours, log_read, False, b""

    def _collect(self, number: int) -> Event | None:
        slot = self._slots[number]
        assert slot.connection is not None
        assert slot.process is not None
        try:
            if slot.connection.poll():
                message = slot.connection.recv_bytes()
                ticket, slot.ticket = slot.ticket, None
                assert ticket is not None
                return event_of(number, ticket, json.loads(message))
        except (EOFError, OSError):
            for _ in range(_EXIT_LOOKS):  # join() would wait for ever if the task closed that pipe, too
                if not slot.process.is_alive():
                    break
                self._clock.sleep(0.05)
            else:  # it could never answer, and each wait would end at once
                return self._crashed(number, "crash", "the task closed the pipe to its worker")
        if slot.process.is_alive():
            return None
        slot.process.join()
        status = slot.process.exitcode or 0
        words = (
            f"the process was killed by {signal_name(-status)}" if status < 0 else f"the process exited with {status}"
        )
        return self._crashed(number, "crash", words)

    def _crashed(self, number: int, kind: str, words: str) -> Event | None:
        slot = self._slots[number]
        self._forward_log(slot)
        index = slot.shared.index if slot.shared.index >= 0 else None
        tail = slot.tail.decode("utf-8", "replace")
        ticket, slot.ticket = slot.ticket, None
        self._end(number)
        if ticket is None:
            return None
        loaded = ticket.kind is Kind.PLAN or bool(slot.shared.loaded)
        return Crashed(number, ticket, kind, words, tail, index, loaded)

    def _forgive(self, stood_still_s: float) -> None:
        """A wait that lasted longer than asked for: this machine, or its containers, stood still, and no input ran."""
        if stood_still_s > _STANDSTILL_S:
            for slot in self._slots:
                slot.shared.begun_at += stood_still_s

    def _end_overdue(self) -> list[Event]:
        if self._job.timeout_s is None:
            return []
        events = []
        now = self._clock.monotonic()
        for number, slot in enumerate(self._slots):
            if slot.ticket is None or is_control(slot.ticket) or slot.shared.index < 0:
                continue
            if now - slot.shared.begun_at > self._job.timeout_s:
                event = self._crashed(number, "timeout", f"it took longer than {self._job.timeout_s:g} s")
                events += [] if event is None else [event]
        return events

    def _next_timeout(self) -> float:
        if self._job.timeout_s is None:
            return float("inf")
        now = self._clock.monotonic()
        begun = [slot.shared.begun_at for slot in self._slots if slot.ticket is not None and slot.shared.index >= 0]
        left = min((at + self._job.timeout_s - now for at in begun), default=self._job.timeout_s)
        return min(max(left, 0.01), self._job.timeout_s)

    def _end(self, number: int) -> None:
        """Kill a child with all that it started; then nothing that it staged may be published by a late request."""
        slot = self._slots[number]
        process, slot.process = slot.process, None
        if process is None:
            return
        assert process.pid is not None
        for kill in (os.killpg, os.kill):  # before it leads its group, the child alone
            try:
                kill(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        process.join(_KILL_WAIT_S)
        if slot.connection is not None:
            slot.connection.close()
        os.close(slot.log_fd)
        purge_stage(self._fs, self._layout, self._worker, f"{number}-{slot.generation}-")

    def _forward_log(self, slot: _Slot) -> None:
        """Pass on what the child printed, and keep its end for reports. Bounded, so that no flood stops the worker."""
        for _ in range(16):
            try:
                data = os.read(slot.log_fd, 65536)
            except (BlockingIOError, OSError):
                return
            if not data:
                slot.log_ended = True
                return
            slot.tail = (slot.tail + data)[-policy.LOG_TAIL_BYTES :]
            try:
                os.write(self._log_fd, data)
            except OSError:
                pass


def event_of(slot: int, ticket: Ticket, body: dict[str, Any]) -> Event:
    """What the answer of a child means."""
    match body["kind"]:
        case "mapped":
            return Finished(slot, ticket, mapped=MapReport.from_json(body["report"]))
        case "planned":
            return Finished(slot, ticket, planned=PlanReport(**body["report"]))
        case "reduced":
            report = body["report"]
            return Finished(slot, ticket, reduced=None if report is None else ReduceReport(**report))
        case "fenced":
            return Faulted(slot, ticket, Fenced(body["error"]))
        case "fault":
            return Faulted(slot, ticket, WorkerFault(body["error"]))
        case "usage":
            return Faulted(slot, ticket, UsageError(body["error"]))
        case _:
            return Crashed(slot, ticket, "exception", body["error"], body["detail"], None)


def signal_name(number: int) -> str:
    """SIGTERM for 15, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
