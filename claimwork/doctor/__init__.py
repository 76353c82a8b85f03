"""Doctor: what a mount can be relied on for, found out by trying; a verdict in words.

Alone it tries one kernel's view; as a pair it tries exclusion and visibility between two. It leaves nothing behind.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

from .. import policy
from ..clock import Clock
from ..errors import UnfitFilesystem, UsageError, mount_fault
from ..fs import Fs, MountEntry, PosixFs, mount_entry
from . import mount, probes
from .finding import Finding, Weight
from .pair import Lag, Pair

_CODE_MAX = 40

__all__ = ["Diagnosis", "Finding", "Weight", "diagnose", "refuse_unfit"]


@dataclass(frozen=True)
class Diagnosis:
    """All findings about a directory."""

    directory: str
    entry: MountEntry
    findings: tuple[Finding, ...]
    listing_lag: Lag | None = None  # of a pair
    beat_lag: Lag | None = None

    def failed(self, weight: Weight) -> list[Finding]:
        """Findings of this weight that are not as they should be."""
        return [each for each in self.findings if not each.ok and each.weight is weight]

    @property
    def verdict(self) -> str:
        """``fit``, ``fit with marker claims`` or ``unfit``."""
        if self.failed(Weight.UNFIT):
            return "unfit"
        return "fit with marker claims" if self.failed(Weight.MARKER) else "fit"

    @property
    def claims(self) -> str:
        """What `--claims` should be."""
        return "marker" if self.failed(Weight.MARKER) else "rename"

    @property
    def patience_s(self) -> float:
        """What `--patience`, T, should be: five beats, and twenty times as long as a beat takes to be seen."""
        return max(policy.PATIENCE_S, math.ceil(20 * self.beat_lag.most_s) if self.beat_lag else 0)

    @property
    def words(self) -> str:
        """The verdict with its reason."""
        reasons = self.failed(Weight.UNFIT) or self.failed(Weight.MARKER)
        why = "; ".join(f"{each.probe}: {each.words}" for each in reasons)
        return f"{self.verdict}: {why or self.entry.kind}"


def diagnose(directory: str, clock: Clock, pair: str = "", wait_s: float = 300.0) -> Diagnosis:
    """Examine the mount that holds *directory*; with a *pair* code together with another doctor that is given the same.

    Raises WorkerFault when the directory cannot be written, or when nobody comes within *wait_s*.
    """
    if pair and not (pair.isascii() and pair.replace("-", "").isalnum() and len(pair) <= _CODE_MAX):
        raise UsageError(f"--pair {pair!r} is not a code of letters, digits and dashes, up to {_CODE_MAX} of them")
    entry, fs = mount_entry(directory), PosixFs(directory, clock)
    findings = list(mount.examine(entry))
    listing_lag = beat_lag = None
    try:
        root = f"{directory.rstrip('/')}/.claimwork-probe-{secrets.token_hex(8)}"
        fs.mkdir(root)
        try:
            findings += probes.run(fs, root, probes.ALL)
        finally:
            fs.remove_tree(root)
        if pair:
            both = Pair(fs, f"{directory.rstrip('/')}/.claimwork-pair-{pair}", clock, wait_s)
            both.meet()
            findings += both.examine()
            listing_lag, beat_lag = both.listing_lag, both.beat_lag
    except OSError as error:
        raise mount_fault(error, directory) from error
    return Diagnosis(directory, entry, tuple(findings), listing_lag, beat_lag)


def refuse_unfit(fs: Fs, out: str, root: str) -> None:
    """What every worker tries before it joins, in a new directory *root*: some twenty round trips.

    Raises UnfitFilesystem with the words of `diagnose`, WorkerFault for an error that says nothing about the type of mount.
    """
    findings: list[Finding] = []
    try:
        fs.mkdir(root)
        try:
            for probe in probes.CHEAP:
                findings += probe(fs, root)
        finally:
            fs.remove_tree(root)
    except OSError as error:
        raise mount_fault(error, out) from error
    unfit = [f"{each.probe}: {each.words}" for each in findings if not each.ok]
    if unfit:
        raise UnfitFilesystem(
            f"{out!r} is unfit: {'; '.join(unfit)}; choose an OUT elsewhere (claimwork doctor tells more)"
        )
