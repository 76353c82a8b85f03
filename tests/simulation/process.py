"""A simulated process: a greenlet with its own view of the mount."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from claimwork.testing import Died
from tests.simulation.nfs import Host, SimFs

if TYPE_CHECKING:
    from tests.simulation.simulator import World


class Process:
    """A simulated process: runs until it ends or is killed."""

    def __init__(self, world: World, name: str, host: Host, main: Callable[[Process], None]) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.fs = SimFs(world, self)
        self.wake_at = world.now
        self.held_until = world.now  # stopped, or in a call that lasts: nothing wakes it before
        self.dead = False
        self.ended = False
        self.pending: tuple[str, Callable[..., Any], tuple[Any, ...]] | None = None  # a change that was sent
        self.error = 0  # what that is answered with, instead of being executed
        self.on_death: Callable[[], None] = lambda: None
        self.greenlet = greenlet(lambda: self._run(main), world.hub)
        world.processes.append(self)

    def wake(self, at: float) -> None:
        """Let it go on at *at*, unless it is held."""
        self.wake_at = max(min(self.wake_at, at), self.held_until)

    def hold(self, until: float) -> None:
        """Let it stand still for a while."""
        self.held_until = max(self.held_until, until)
        self.wake_at = max(self.wake_at, until)

    def _run(self, main: Callable[[Process], None]) -> None:
        try:
            main(self)
        except Died:
            pass
        self.ended = True
        self.world.thinned = True
