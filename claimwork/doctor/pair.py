"""Two doctors on one mount, in two containers or on two hosts: who excludes whom, and how late one sees the other.

They meet in one directory by a code that people give to both. Each writes numbered messages into a directory of its own,
and reads those of the other by fresh listings. Lags are half of round trips on one clock, so no clocks are compared.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..clock import Clock
from ..errors import RecordError, UsageError, WorkerFault
from ..fs import Beat, PosixFs, encode_path
from ..records import SMALL_LIMIT_BYTES
from .finding import Finding, Weight

_POLL_S = 0.002
_TICK_S = 0.02  # of servers: a hundredth of a second at most
_ECHOES = 20
_ECHOES_S = 5.0
_NAMES = 200
_RACES: tuple[tuple[str, Weight], ...] = (
    ("link", Weight.UNFIT),
    ("rename", Weight.MARKER),
    ("exclusive create", Weight.FACT),
    ("mkdir", Weight.FACT),
)


@dataclass(frozen=True, slots=True)
class Lag:
    """How late one side sees what the other did."""

    median_s: float
    most_s: float

    @property
    def words(self) -> str:
        """In milliseconds."""
        return f"within {1000 * self.median_s:.0f} ms as a rule, {1000 * self.most_s:.0f} ms at most"


@dataclass
class Pair:
    """One side of a pair. ``first``: the one that came first leads."""

    fs: PosixFs
    root: str
    clock: Clock
    limit_s: float
    first: bool = False
    listing_lag: Lag | None = None
    beat_lag: Lag | None = None
    _sent: int = 0
    _received: int = 0
    _facts: dict[str, Any] = field(default_factory=dict)

    def meet(self) -> None:
        """Wait for the other side. Raises UsageError when the code is in use, WorkerFault when nobody comes."""
        self.fs.mkdir(self.root)
        self.first = self._takes("a")
        if not self.first and not self._takes("b"):
            raise UsageError(f"two doctors met here already ({self.root!r}); choose another --pair CODE")
        try:
            self._send({"host": socket.gethostname(), "uid": os.geteuid(), "pid": os.getpid()})
            self._facts = self._receive()
        except BaseException:  # also a signal: the code is free again
            self.fs.remove_tree(self.root)
            raise

    def examine(self) -> Iterator[Finding]:
        """All findings of the pair; both sides come to the same ones. Raises WorkerFault when the other goes silent."""
        try:
            yield Finding("pair", True, f"met {self._facts['host']}, process {self._facts['pid']}", Weight.FACT)
            yield self._messages()
            yield self._beats()
            yield self._lookups()
            for kind, weight in _RACES:
                yield self._race(kind, weight)
            yield self._locks()
            yield self._owners()
            yield self._clocks()
        finally:
            self._leave()

    # -- probes -------------------------------------------------------------------------------------------------------

    def _messages(self) -> Finding:
        """How late a new file is seen by a fresh listing."""
        self._barrier()  # both have met
        lags = list[float]()
        more = True
        while more:
            started = self.clock.monotonic()
            self._barrier()
            lags.append((self.clock.monotonic() - started) / 2)
            more = self._goes_on(lags)
        lag = self.listing_lag = self._agreed(lags)
        return Finding("listing lag", lag.most_s < 1.0, f"a new file is listed by the other {lag.words}", Weight.ADVICE)

    def _beats(self) -> Finding:
        """How late a heartbeat that is rewritten in place is read, measured by the first.

        Between two writes a tick of the server's clock must pass: on NFSv3 a reader never sees what was written in the tick
        in which it read before. Workers beat every few seconds.
        """
        mine, theirs = ("beat-a", "beat-b") if self.first else ("beat-b", "beat-a")
        held = self.fs.open_beat(f"{self.root}/{mine}", b"%08d" % 0)
        self._barrier()
        lags = list[float]()
        more = True
        try:
            while more:
                number = len(lags) + 1
                sent = self._write_beat(held, number) if self.first else 0.0
                self._until(
                    lambda number=number: self.fs.read(f"{self.root}/{theirs}", 64) == b"%08d" % number,  # type: ignore[misc]
                    "a heartbeat that is read as it is written",
                )
                if self.first:
                    lags.append((self.clock.monotonic() - sent - _TICK_S) / 2)
                else:
                    self._write_beat(held, number)
                    lags.append(0.0)
                more = self._goes_on(lags)
        finally:
            held.close()
        lag = self.beat_lag = self._agreed(lags)
        return Finding("heartbeat lag", lag.most_s < 5.0, f"is read by the other {lag.words}", Weight.ADVICE)

    def _write_beat(self, held: Beat, number: int) -> float:
        self.clock.sleep(_TICK_S)
        started = self.clock.monotonic()
        held.write(b"%08d" % number)
        return started

    def _lookups(self) -> Finding:
        """A name that was looked up too early: a cache remembers its absence, and a listing must cure that."""
        name = f"{self.root}/late"
        cured = True
        if self.first:
            self._receive()  # the other has looked
            self.fs.stage(name, b"")
            self._send({})
        else:
            self.fs.inode(name)
            self._send({})
            self._receive()
            self._until(lambda: "late" in self.fs.names(self.root), "a new file to be listed")
            cured = self.fs.inode(name) is not None
        cured = bool(self._agree(min, int(cured)))
        words = "is found after a listing" if cured else "is not found although it is listed: results may be made twice"
        return Finding("name looked up too early", cured, words, Weight.ADVICE)

    def _race(self, kind: str, weight: Weight) -> Finding:
        directory = f"{self.root}/{kind.replace(' ', '-')}"
        mine = f"{directory}-{'a' if self.first else 'b'}"
        self.fs.mkdir(directory)
        self.fs.mkdir(mine)
        if kind == "link" or (kind == "rename" and self.first):
            sources = mine if kind == "link" else directory
            for number in range(_NAMES):  # a file for each link, as in `probes.races`
                self.fs.stage(f"{sources}/{number}", b"")
        self._barrier()
        act: Callable[[int], None] = {
            "link": lambda n: self.fs.link(f"{mine}/{n}", f"{directory}/{n}"),
            "rename": lambda n: self.fs.rename(f"{directory}/{n}", f"{mine}/{n}"),
            "exclusive create": lambda n: _create(f"{directory}/{n}"),
            "mkdir": lambda n: os.mkdir(encode_path(f"{directory}/{n}")),
        }[kind]
        won, tried, number = [], [], 0
        while number < _NAMES:
            tried.append(number)
            try:
                act(number)
                won.append(number)
                number += 1
            except (FileExistsError, FileNotFoundError):
                number += 2  # whoever is behind leaps ahead, so that both stay close
        theirs = self._exchange({"tried": tried, "won": won})
        both = set(tried) & set(theirs["tried"])
        double = set(won) & set(theirs["won"])
        nobody = both - set(won) - set(theirs["won"])
        words = (
            f"{len(both)} names tried by both: {len(both & set(won))} to {len(both & set(theirs['won']))}, "
            f"{len(double)} double winners, {len(nobody)} without a winner"
        )
        return Finding(f"{kind} between two", not double and not nobody, words, weight)

    def _locks(self) -> Finding:
        path = f"{self.root}/locked"
        lock = self.fs.try_lock(path) if self.first else None
        self._barrier()
        second = None if self.first else self.fs.try_lock(path)
        # None tells nothing by itself: where locks are of one mount only, neither gets one
        refused = bool(self._agree(min, int((lock is not None) if self.first else (second is None))))
        for each in (lock, second):
            if each is not None:
                each.release()
        words = (
            "an OS lock is seen by the other" if refused else "an OS lock is not seen by the other; none is relied on"
        )
        return Finding("lock between two", True, words, Weight.FACT)

    def _owners(self) -> Finding:
        """A9: each must be able to remove and link what the other made, as reapers do."""
        mine = f"{self.root}/of-{'a' if self.first else 'b'}"
        theirs = f"{self.root}/of-{'b' if self.first else 'a'}"
        self.fs.mkdir(mine)
        self.fs.stage(f"{mine}/file", b"")
        self._barrier()
        trouble = ""
        try:
            self.fs.link(f"{theirs}/file", f"{mine}/theirs")
        except OSError as error:
            trouble = f"cannot link the other's file ({(error.strerror or str(error)).lower()})"
        self._barrier()
        try:
            self.fs.unlink(f"{theirs}/theirs")
        except FileNotFoundError:
            pass
        except OSError as error:
            trouble = trouble or f"cannot remove the other's file ({(error.strerror or str(error)).lower()})"
        other = self._exchange({"trouble": trouble})["trouble"]
        uids = f"uid {os.geteuid()} here, uid {self._facts['uid']} there"
        trouble = trouble or other
        words = (
            f"{uids}: {trouble}; run all workers under one uid"
            if trouble
            else f"{uids}: each can clean up after the other"
        )
        return Finding("owners", not trouble, words, Weight.ADVICE)

    def _clocks(self) -> Finding:
        before = self.clock.monotonic()
        theirs = self._exchange({"at": self.clock.time()})["at"]
        offset = abs(float(theirs) - self.clock.time()) - (self.clock.monotonic() - before)
        offset = self._agree(min, max(offset, 0.0))
        return Finding("clocks", True, f"about {offset:.1f} s apart, which matters to nobody", Weight.FACT)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _takes(self, side: str) -> bool:
        try:
            os.mkdir(encode_path(f"{self.root}/{side}"))
        except FileExistsError:
            return False
        return True

    def _send(self, message: dict[str, Any]) -> None:
        side = f"{self.root}/{'a' if self.first else 'b'}"
        self._sent += 1
        self.fs.stage(f"{side}/.new", json.dumps(message).encode())
        self.fs.rename(f"{side}/.new", f"{side}/{self._sent}")

    def _receive(self) -> dict[str, Any]:
        side = f"{self.root}/{'b' if self.first else 'a'}"
        self._received += 1
        name = str(self._received)

        def there() -> bool:
            try:
                return name in self.fs.names(side)
            except FileNotFoundError:
                self.fs.names(self.root)  # or a cache remembers for half a minute that it was not there
                return False

        self._until(there, "the other side")
        try:
            message = json.loads(self.fs.read(f"{side}/{name}", SMALL_LIMIT_BYTES))
        except ValueError:
            raise RecordError(f"{side!r} holds something that no doctor wrote") from None
        if not isinstance(message, dict):
            raise RecordError(f"{side!r} holds something that no doctor wrote")
        return message

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        self._send(message)
        return self._receive()

    def _barrier(self) -> None:
        """Nobody goes on before the other has come here."""
        self._exchange({})

    def _agree(self, choose: Callable[..., Any], value: float) -> Any:
        return choose(value, self._exchange({"value": value})["value"])

    def _goes_on(self, lags: list[float]) -> bool:
        """Whether there is another echo: where each takes seconds, a few must do. The first decides for both."""
        more = len(lags) < _ECHOES and sum(lags) < _ECHOES_S
        theirs = self._exchange({"value": more})["value"]
        return more if self.first else bool(theirs)

    def _agreed(self, lags: list[float]) -> Lag:
        return Lag(self._agree(max, median(lags)), self._agree(max, max(lags)))

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        until = self.clock.monotonic() + self.limit_s
        while not condition():
            if self.clock.monotonic() > until:
                raise WorkerFault(
                    f"waited {self.limit_s:g} s for {what} in {self.root!r}: start both doctors within that time"
                )
            self.clock.sleep(_POLL_S)

    def _leave(self) -> None:
        """The second to leave removes everything; the first leaves a word."""
        try:
            os.mkdir(encode_path(f"{self.root}/left"))
        except FileExistsError:
            self.fs.remove_tree(self.root)
        except OSError:
            pass


def _create(path: str) -> None:
    os.close(os.open(encode_path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
