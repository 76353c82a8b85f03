"""The worker: claim → run → publish → finish, until nothing is left.

A worker is a supervisor without user code and some children with it. The supervisor holds the claims, beats, and watches its
peers; children run, publish and write done records; `aftermath` decides what follows from each of their reports. On SIGTERM it
drains: inputs in hand may end within the grace, everything else goes back unchanged and uncharged.

If peers take it for dead it stops, drops what it held and starts afresh under a new id (`run_worker`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from . import policy
from .aftermath import Aftermath, Tally
from .attempts import noted
from .backups import Backups
from .blame import Blame
from .claims import Claims, idle_wait_s, is_control
from .clock import Clock
from .coverage import Coverage, JobState
from .effort import Pace
from .errors import ClaimworkError, Exit, Fenced, mount_fault
from .executor import Event, Executor, Faulted, Running, signal_name
from .finalizer import is_shown, show_newest
from .fs import Fs, is_local
from .heartbeat import Heartbeat
from .layout import Layout
from .missing import Missing
from .names import Kind, Ticket, place_name, plan_ticket
from .news import Tell, silent
from .parts import are_known
from .plan_log import PlanLog
from .reaper import Reaper
from .records import BeatRecord, Job
from .results import Stage
from .retrying import PASSING, WAITS_S
from .snapshot import counted
from .stores import make_store
from .story import Story
from .ticket_store import empty_directory, remove_directory

_BUSY_LOOK_S = 1.0  # how often a busy worker looks whether a ticket lasts too long, and tells how far it is


class ReducerFailed(ClaimworkError):
    """The user's reducer failed as often as it may."""

    exit_code = Exit.WORK_REMAINS


@dataclass(frozen=True)
class Setup:
    """What a worker is told. ``kinds``: which tickets it takes. ``stay``: it waits for more when nothing is left.

    ``fault_after``: after so many failed inputs in a row it is doubted (`blame`); 0: never.
    """

    kinds: frozenset[Kind] = frozenset(Kind)
    stay: bool = False
    rescan: bool = False
    wait: bool = True
    grace_s: float = policy.GRACE_S
    fault_after: int = policy.FAULT_AFTER
    tell: Tell = silent

    @property
    def role(self) -> str:
        """What people call a worker that takes these tickets."""
        names = {frozenset({Kind.PLAN}): "planner", frozenset({Kind.REDUCE}): "finalizer"}
        return names.get(self.kinds, "worker")


@dataclass
class Stop:
    """A request to drain, set by a signal handler; asked for twice, the worker does not wait for the inputs in hand."""

    signal: int = 0
    times: int = 0

    def request(self, signal: int) -> None:
        """Ask the worker to drain."""
        self.signal = self.signal or signal
        self.times += 1


@dataclass
class Context:
    """What one id of a worker lives on. ``on_beat`` is called after each beat that reached the mount."""

    fs: Fs
    layout: Layout
    job: Job
    clock: Clock
    rng: Random
    identity: BeatRecord
    make_executor: Callable[[str], Executor]
    setup: Setup
    stop: Stop
    on_beat: Callable[[], None] = lambda: None
    tally: Tally = field(default_factory=Tally)
    told: Tally = field(default_factory=Tally)  # what beats of earlier ids said of it: `status` adds up
    blame: Blame = field(init=False)

    def __post_init__(self) -> None:
        self.blame = Blame(self.setup.fault_after)


def run_worker(context: Context) -> Tally:
    """Work until nothing is left, or until told to stop; under a new id each time peers took the last one for dead.

    Raises WorkerFault, UsageError and ReducerFailed after handing everything back.
    """
    while True:
        _settle_in(context)
        worker = Worker(context)
        try:
            worker.run()
        except Fenced as error:
            context.told = worker.told
            context.tally.fenced += 1
            worker.story.fenced(error)
            worker.abandon()
            _take_new_id(context)
        else:
            return context.tally


def _settle_in(context: Context) -> None:
    """Make the directories of my id. If a request for one fails, it may yet come, and undo the fence: that id is given up."""
    for wait_s in WAITS_S:
        try:
            _make_directories(context)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            context.clock.sleep(wait_s)
            _take_new_id(context)
        else:
            return
    _make_directories(context)


def _make_directories(context: Context) -> None:
    for directory in (context.layout.stage_of, context.layout.work_of):
        context.fs.make_own(directory(context.identity.worker))


def _take_new_id(context: Context) -> None:
    context.identity = replace(context.identity, worker=f"{context.rng.getrandbits(128):032x}")


class Worker:
    """One id of a worker, from joining to leaving."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fs, self._layout, self._job = context.fs, context.layout, context.job
        self._clock, self._setup, self._tally = context.clock, context.setup, context.tally
        self._me = context.identity.worker
        self.story = Story(self._setup.tell, self._me, rescans=self._setup.rescan)
        self._stage = Stage(self._fs, self._layout, self._me, "w")
        self._store = make_store(self._job, self._fs, self._layout, self._me, self._stage)
        self._claims = Claims(self._fs, self._layout, self._store, self._clock, context.rng)
        self._log = PlanLog(self._fs, self._layout)
        self._coverage = Coverage(self._fs, self._layout, self._log)
        self._missing = Missing(self._fs, self._job, self._claims, self._coverage, self._clock, context.rng, self.story)
        self._heartbeat = Heartbeat(self._fs, self._layout, self._clock, self._job.patience_s, context.rng.random())
        self._reaper = Reaper(
            self._fs, self._layout, self._store, self._clock, context.identity, self._job.patience_s, self.story
        )
        self._executor = context.make_executor(self._me)
        self._aftermath = Aftermath(
            self._fs,
            self._layout,
            self._job,
            self._stage,
            self._claims,
            self._coverage,
            self._clock,
            context.identity,
            self._tally,
            context.blame,
            self.story,
            lambda: bool(context.stop.times),
        )
        self._backups = Backups(
            self._fs, self._layout, self._job, self._log, self._stage, self._clock, context.rng, self._me, self.story
        )
        self._backlog = self._aftermath.backlog
        self._shedding = self._aftermath.shedding
        self._beats = 0
        self._pace = Pace()
        self.told = context.told  # as of the last beat
        self._idle_rounds = 0
        self._look_at = self._clock.monotonic()  # when to look for work again, unless something happens before
        self._local = is_local(self._fs.kind)
        self._saw_open = False  # I was there when there was no summary yet of all that is planned
        self._saw_spent = False  # a reduction that failed too often: whoever waits for it may have to stop
        self._rescan_at = self._clock.monotonic() + policy.RESCAN_S
        self._drain_until: float | None = None
        self._told_at = self._clock.monotonic()  # how far a plan or a reduction is

    # -- life ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Join, work, leave. Raises Fenced when peers took this id for dead, and what `run_worker` tells."""
        self._heartbeat.start(self._record())
        self._context.on_beat()
        self.story.joined(self._setup.role, self._context.identity, self._executor.slots, self._job, self._layout.out)
        self.told = replace(self._tally)
        self._aftermath.mind_quarantine()
        try:
            while self._turn():
                pass
        except Fenced:
            raise
        except ClaimworkError as error:
            self._aftermath.fault = self._aftermath.fault or error
        except OSError as error:
            self._aftermath.fault = self._aftermath.fault or mount_fault(error, self._layout.out)
        self._leave()  # also after a fault: what can be handed back is, and children that lived on would keep this process
        if self._aftermath.fault is not None:
            raise self._aftermath.fault
        if self._tally.complete or self._tally.stopped_by or Kind.MAP in self._setup.kinds:
            self.story.left(self._tally.done, self._tally.failed, complete=self._tally.complete)

    def abandon(self) -> None:
        """Peers took this id for dead: end the children and leave everything as it is."""
        self._executor.kill()
        self._heartbeat.give_up()

    def _turn(self) -> bool:
        """One round: tend, collect, feed. False when this worker is to leave."""
        self._tend()
        for event in self._executor.poll(self._wait_s()):
            self._look_now()
            if self._backups.is_copy(event.ticket):
                self._copy_ended(event)
            else:
                self._aftermath.of(event)
        if self._context.stop.times or self._aftermath.fault is not None:
            return self._drain()
        if self._clock.monotonic() < self._look_at and not self._backlog:
            return True
        self._feed()
        if any(not self._backups.is_copy(at.ticket) for at in self._executor.running().values()):
            return True
        return self._idle()

    def _tend(self) -> None:
        self._heartbeat.check()
        if self._heartbeat.due_in() <= 0:
            self._beats += 1
            last_at = self._heartbeat.last_at
            if not self._heartbeat.beat(self._record()):
                self._reaper.reset()
            if self._heartbeat.last_at != last_at:  # it went through
                self._context.on_beat()
            self.told = replace(self._tally)
            self._aftermath.mind_quarantine()
        if self._reaper.due_in() <= 0:
            reclaimed = self._reaper.work(idle=not self._executor.running())
            self._tally.reclaimed += reclaimed
            self._claims.workers = self._reaper.peers + 1
            if reclaimed:
                self._claims.forget_listing()
                self._look_now()
        running = self._executor.running()
        self._look_at_tickets(running)
        for slot, at in self._backups.overtaken(running, self._claims.mine):
            self._executor.end(slot)
            if at.ticket.name in self._claims.mine and at.index is not None:
                self._aftermath.overtaken(at.ticket, at.index)
            self._look_now()

    def _wait_s(self) -> float:
        waits = [self._heartbeat.due_in(), self._reaper.due_in()]
        if self._executor.running():
            waits.append(_BUSY_LOOK_S)
        if self._drain_until is not None:
            waits.append(self._drain_until - self._clock.monotonic())
        elif self._executor.free():
            waits.append(0.0 if self._backlog else self._look_at - self._clock.monotonic())
        return max(min(waits), 0.0)

    def _look_now(self) -> None:
        """Something happened, so there may be work."""
        self._idle_rounds = 0
        self._look_at = self._clock.monotonic()

    def _record(self) -> BeatRecord:
        running = self._executor.running()
        now = self._clock.monotonic()
        current = [
            (
                _place(at.ticket, at.index),
                round(now - (at.index_since if at.index is not None else at.since), 1),
            )
            for at in running.values()
        ]
        state = "draining" if self._context.stop.times else "busy" if running else "idle"
        told = self._context.told
        effort = self._tally.effort - told.effort
        self._pace.note(now, self._tally.done - told.done, self._tally.done_bytes - told.done_bytes, effort.took_s)
        return replace(
            self._context.identity,
            beat=self._beats,
            state=state,
            slots=self._executor.slots,
            done=self._tally.done - told.done,
            done_bytes=self._tally.done_bytes - told.done_bytes,
            failed=self._tally.failed - told.failed,
            reclaimed=self._tally.reclaimed - told.reclaimed,
            fenced=self._tally.fenced - told.fenced,
            at=self._clock.time(),
            current=current,
            effort=effort,
            pace=self._pace.marks(now),
            watches=self._reaper.watches,
        )

    # -- claiming -----------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        for slot in self._executor.free() or self._given_way():
            control = self._aftermath.next_control()
            if control is not None:
                self._executor.start(slot, control, control=True)
                self.story.doubted(control)
                continue
            ticket = self._next()
            if ticket is None:
                return
            if ticket.kind not in self._setup.kinds:  # mine by a reply that was lost, and nothing for me
                self._claims.release(ticket, ticket.successor())
            elif not is_control(ticket) and policy.is_lost_for_good(ticket, self._job.max_attempts):
                self._aftermath.fail(ticket, "lost", "each worker that ran it was lost", "", final=True)
            else:
                self._executor.start(slot, ticket)

    def _next(self) -> Ticket | None:
        """A ticket that I hold and have not started; None when there is none to be had, and then I look again later."""
        ticket = (
            self._backlog.pop()
            if self._backlog
            else self._claims.next(self._wanted, any_weight=self._aftermath.in_doubt)
        )
        if ticket is None:
            self._look_later()
        else:
            self._idle_rounds = 0
        return ticket

    def _look_later(self) -> None:
        self._idle_rounds += 1
        self._look_at = self._clock.monotonic() + idle_wait_s(self._idle_rounds, local=self._local)

    def _given_way(self) -> list[int]:
        """The slot of a copy that lasts as well, ended for something that is ready."""
        for slot, at in self._executor.running().items():
            if not self._backups.is_copy(at.ticket):
                continue
            if not self._backups.is_late(at):
                self._look_later()
            elif ticket := self._next():
                self._backlog.append(ticket)
                self._executor.end(slot)
                self._backups.make_way()
                return [slot]
        return []

    def _wanted(self, ticket: Ticket) -> bool:
        if ticket.kind not in self._setup.kinds:
            return False
        if ticket.kind is Kind.REDUCE:
            # one that failed too often waits for `claimwork reduce`, and goes once there is a summary after all
            spent = self._coverage.is_spent(ticket, self._job) and not self._coverage.is_reduced(ticket.segment)
            self._saw_spent = self._saw_spent or spent
            # Of many that wait only who has just finished something looks through the segments, and who looks for all: whoever
            # finished last finds all done. Where there is nothing to finish or a listing costs nothing, each look tells.
            look = not self._idle_rounds or self._local or Kind.MAP not in self._setup.kinds
            return not spent and self._coverage.covers_entry(ticket.segment, look=look)
        if ticket.kind is Kind.PART:
            return not self._aftermath.holds_parts
        if ticket.gathers:
            return ticket.segment in self._missing.partless or are_known(self._fs, self._layout, self._job, ticket)
        return True

    def _look_at_tickets(self, running: dict[int, Running]) -> None:
        """Ask children at long tickets to stop early, so that others can have the rest; tell how far plan and reduction are."""
        now = self._clock.monotonic()
        for slot, at in running.items():
            if at.ticket.kind is not Kind.MAP:
                if at.counted and now - self._told_at >= _BUSY_LOOK_S:
                    self._told_at = now
                    self.story.how_far(at.ticket, at.counted, now - at.since)
                continue
            if at.index is None or at.ticket.name in self._shedding:
                continue
            stop = policy.shed_at(at.ticket.lo, at.index, at.ticket.hi, now - at.since)
            if stop is not None:
                self._shedding.add(at.ticket.name)
                self._executor.stop_before(slot, stop)

    # -- nothing to claim ---------------------------------------------------------------------------------------------

    def _idle(self) -> bool:
        """Nothing is running but perhaps a copy, and nothing could be claimed: leave, or see to it that work comes."""
        if self._aftermath.weigh(more_inputs=False) or self._aftermath.in_doubt:
            self._look_now()
            return True
        looks = self._missing.takes_turn(self._reaper.peers, sure=self._saw_spent)
        if looks:
            self._saw_spent = False
        # A summary that was there before me may have survived a power loss that took done records with it, and tickets that
        # wait beside one are of inputs that `check --repair` has opened again. Here a listing costs nothing.
        believes = self._saw_open and not self._local and not self._claims.maps_wait and Kind.MAP in self._setup.kinds
        state = self._coverage.state(thorough=looks or not believes)
        if not self._saw_open:
            self._saw_open = state.close is None or not self._coverage.is_reduced(state.close[0])
        complete = state.complete and not self._claims.plans_wait
        if complete and self._setup.stay:
            self._rescan()
            return True
        if complete and self._executor.running():
            return True  # a copy, which is about to be ended
        if complete or self._is_out_of_work(state):
            if complete and state.close is not None and not is_shown(self._fs, self._layout, state.close[0]):
                show_newest(self._fs, self._layout, self._stage)  # its finalizer died just before it did
            self._tally.complete = complete
            return False
        if looks:
            spent = self._missing.look(state)
            if spent is not None:
                self._fail_to_reduce(spent)
            if self._missing.partless:
                self._look_now()
        if (
            Kind.MAP in self._setup.kinds
            and state.close is not None
            and not state.covered
            and not self._claims.maps_wait
        ):
            copy = self._backups.next(self._reaper.peers, self._tally.effort)
            if copy is not None:
                self._executor.start(self._executor.free()[0], copy)
        return True

    def _copy_ended(self, event: Event) -> None:
        done, done_bytes, effort = self._backups.ended(event)
        self._tally.done += done
        self._tally.done_bytes += done_bytes
        self._tally.effort += effort
        if isinstance(event, Faulted):
            self._aftermath.faulted(event)

    def _is_out_of_work(self, state: JobState) -> bool:
        """Whether a worker of only some kinds has nothing more to wait for."""
        if Kind.MAP in self._setup.kinds:
            return False
        if Kind.PLAN in self._setup.kinds:
            return not state.planning and not any(t.kind is Kind.PLAN for t in self._claims.ready())
        if self._setup.wait:
            return False
        return not state.covered or all(
            t.kind is not Kind.REDUCE for t in self._claims.ready()
        )  # it may be tried again

    def _rescan(self) -> None:
        if not self._setup.rescan or self._clock.monotonic() < self._rescan_at:
            return
        self._rescan_at = self._clock.monotonic() + policy.RESCAN_S * (0.5 + self._context.rng.random())
        self._store.offer(plan_ticket(f"{self._context.rng.getrandbits(64):016x}"))
        self._look_now()

    def _fail_to_reduce(self, ticket: Ticket) -> None:
        failures = noted(self._fs, self._layout, ticket.segment, 0)
        why = failures[-1].error if failures else "unknown"
        self._aftermath.fault = ReducerFailed(
            f"the reducer failed {counted(len(failures), 'time')}, last with {why}; all inputs are done: "
            f"mend it, then: claimwork reduce {self._layout.out}"
        )

    # -- leaving ------------------------------------------------------------------------------------------------------

    def _drain(self) -> bool:
        """Told to stop: let inputs in hand end within the grace, then hand everything back. False when done."""
        now = self._clock.monotonic()
        if self._drain_until is None:
            self._drain_until = now + self._setup.grace_s
            for slot in self._executor.running():
                self._executor.stop_before(slot, 0)
            number = self._context.stop.signal
            why = f"told by {signal_name(number)}" if number else "since this worker cannot go on"
            self.story.draining(why, len(self._executor.running()), self._setup.grace_s)
        if self._executor.running() and now < self._drain_until and self._context.stop.times < 2:
            return True
        self._tally.stopped_by = self._context.stop.signal
        return False

    def _leave(self) -> None:
        """Hand back what is left, remove what is mine, say goodbye."""
        self._executor.kill()
        back: dict[str, Ticket] = {}
        for _ in range(8):
            mine = {ticket.name: ticket for ticket in [*self._claims.mine.values(), *self._store.held()]}
            for ticket in mine.values():
                self._claims.release(ticket, ticket.successor())
            back |= mine
            if remove_directory(self._fs, self._layout.work_of(self._me)):
                empty_directory(self._fs, self._stage.directory)
                remove_directory(self._fs, self._stage.directory)
                self._heartbeat.leave(replace(self._record(), state="left"))
                break
        else:
            self._heartbeat.stop()  # something is left here: peers find a beat that stands still, and take it back
        if back:
            self.story.handed_back(len(back), sum(ticket.count for ticket in back.values()))
        if self._tally.stopped_by:
            state = self._coverage.state()
            shown = state.close is not None and is_shown(self._fs, self._layout, state.close[0])
            self._tally.complete = state.complete and shown and not self._is_planned()

    def _is_planned(self) -> bool:
        """Whether somebody plans, or will; a listing for each worker."""
        return any(ticket.kind is Kind.PLAN for ticket in [*self._claims.ready(), *self._coverage.held()])


def _place(ticket: Ticket, index: int | None) -> str:
    """Which input a child is at, as beats tell it; of parts, the one that all are parts of."""
    if index is None:
        return ticket.kind.name.lower()
    return place_name(ticket.segment, 0 if ticket.kind is Kind.PART else index)


def boot_id() -> str:
    """Identifies this kernel's run: two processes with one boot id share a kernel."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return f"host {os.uname().nodename}"
