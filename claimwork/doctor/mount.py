"""What the mount table tells, and which options are known to bring trouble."""

from __future__ import annotations

from collections.abc import Iterator

from ..fs import MountEntry, has_atomic_rename, is_local
from .finding import Finding, Weight

# option, and what it does to a job; nfs(5) describes them
_NFS_TROUBLE = {
    "soft": "a slow server becomes errors, and a request that timed out may still be executed: mount it hard",
    "softerr": "a slow server becomes errors, and a request that timed out may still be executed: mount it hard",
    "nocto": "what is opened may be stale, heartbeats too, so that living workers are taken for dead: leave it out",
}
_NFS_FACTS = {
    "nolock": "OS locks hold in this mount only, so nobody looks at them: a dead worker is noticed after T, not at once",
    "local_lock=all": "OS locks hold in this mount only, so nobody looks at them: a dead worker is noticed after T, not at once",
    "local_lock=flock": "OS locks hold in this mount only, so nobody looks at them: a dead worker is noticed after T, not at once",
    "noac": "every look at a file asks the server: slower, nothing gained, since claimwork lists and opens afresh",
    "sync": "every write waits for the server: slower, nothing gained, since claimwork flushes what counts",
}


def examine(entry: MountEntry) -> Iterator[Finding]:
    """Findings from type and options alone."""
    kind, options = entry.kind, entry.options
    yield Finding("type", True, f"{kind}{f' from {entry.source}' if entry.source else ''}", Weight.FACT)
    if "ro" in options:
        yield Finding("options", False, "it is mounted read-only", Weight.UNFIT)
    if not has_atomic_rename(kind):
        yield Finding(
            "rename is one step",
            False,
            f"nothing is known of renames on {kind}: marker claims do without",
            Weight.MARKER,
        )
    if kind == "overlay":
        words = "this is a container's own layer: no other container sees it; mount a shared volume here"
        yield Finding("shared", False, words, Weight.ADVICE)
    elif is_local(kind):
        words = f"{kind} belongs to one kernel: all workers must run on this machine"
        yield Finding("shared", True, words, Weight.FACT)
    if kind.startswith("nfs"):
        yield from _examine_nfs(options)
    if kind == "9p" and any(option in options for option in ("cache=loose", "cache=fscache")):
        yield Finding(
            "options", False, "cache=loose shows other hosts' files late or never: use cache=none", Weight.ADVICE
        )


def _examine_nfs(options: frozenset[str]) -> Iterator[Finding]:
    shown = [each for each in sorted(options) if each.startswith(("vers=", "proto=", "actimeo", "ac", "lookupcache"))]
    words = ", ".join(["hard" if "hard" in options else "not hard", *shown])
    yield Finding("options", True, words, Weight.FACT)
    for option, trouble in _NFS_TROUBLE.items():
        if option in options:
            yield Finding("options", False, f"{option}: {trouble}", Weight.ADVICE)
    for option, words in _NFS_FACTS.items():
        if option in options:
            yield Finding("options", True, f"{option}: {words}", Weight.FACT)
