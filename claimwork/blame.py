"""Whom to blame for failures: the inputs, or the worker that fails whatever it touches.

A worker whose image is broken, or that lacks a mount, would fail input after input until all are quarantined. So as long as a
worker has not shown that it can succeed, its failures are *held*: nobody is charged for them yet. What decides:

- an input succeeds here, or a part of one: the worker is sound, and the held failures are charged to their inputs;
- a *control*, an input that somebody has a result of or a part that has a value, is run here once more. It succeeds: as above.
  Two of them fail, or the only one twice: the worker is to blame. It hands everything back as it was and stops;
- there is no control, since nothing in the job has succeeded yet: after ``limit`` different inputs the worker stops as well,
  and where there are not so many, they are charged.

A worker that has succeeded charges failures at once; after ``limit`` in a row it must show itself sound once more, and
then after twice as many.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONTROLS = 2  # so many must fail: an input that succeeded elsewhere may fail now and then


@dataclass
class Blame:
    """The evidence that one worker has about itself. ``limit`` 0: it is never doubted."""

    limit: int
    sound: bool = False
    controls: list[tuple[int, int]] = field(default_factory=list)  # that failed here
    _streak: set[tuple[int, int]] = field(default_factory=set)

    def succeeded(self) -> None:
        """An input or a control succeeded here."""
        if not self.sound and self._streak:
            self.limit *= 2  # doubted for nothing
        self.sound = True
        self.controls.clear()
        self._streak.clear()

    def failed(self, segment: int, index: int) -> bool:
        """An input failed here. True: charge it; False: hold it."""
        if not self.limit:
            return True
        self._streak.add((segment, index))
        if len(self._streak) >= self.limit:
            self.sound = False
        return self.sound

    def control_failed(self, segment: int, index: int) -> None:
        """An input that succeeded elsewhere failed here."""
        self.controls.append((segment, index))

    def verdict(self, *, can_control: bool, more_inputs: bool) -> str:
        """``worker``, ``inputs``, or ``open`` while there is too little evidence.

        *can_control*: there is a control to run. *more_inputs*: something else may still succeed here.
        """
        if self.sound:
            return "inputs"
        if len(self.controls) >= CONTROLS:
            return "worker"
        if can_control:
            return "open"
        if len(self._streak) >= self.limit:
            return "worker"
        return "open" if more_inputs else "inputs"
