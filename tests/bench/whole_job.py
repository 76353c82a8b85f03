"""Whole job: `claimwork run` on real text, beside one plain Python process that does the same and writes one merged file.

The text is what this machine has of documentation and of Python's own sources, in their directories, and the same once more
until there are 256 MB: thousands of files, most of them small. Both begin with nothing and end with their answer on disk; the
answers are compared. Only `claimwork run` writes a file for each input, and survives the loss of any process in between.
"""

from __future__ import annotations

import json
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Measure, Options
from tests.bench.programs import CLAIMWORK, run

SOURCES = (Path("/usr/share/doc"), Path(sysconfig.get_path("stdlib")))
ENDINGS = frozenset([".txt", ".md", ".rst", ".html", ".py", ""])
TOTAL_BYTES = 256 << 20
LEAST = 20.0  # the project's target, on two cores

PLAIN = """
import json, os
counted = {}
for directory, _, names in os.walk("in"):
    for name in names:
        path = os.path.join(directory, name)
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        counted[os.path.relpath(path, "in")] = {"words": len(text.split()), "letters": sum(c.isalpha() for c in text)}
with open("merged.json", "w") as file:
    json.dump(counted, file)
"""


def measure(options: Options) -> list[Measure]:
    """Both in turn, on the same files."""
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="claimwork-bench-") as root:
        home = Path(root)
        inputs, size = _collect(home / "in")
        (home / "plain.py").write_text(PLAIN)
        took: dict[str, list[float]] = {"claimwork": [], "plain": []}
        for turn in range(options.repeats):
            out = f"out{turn}"  # none is removed in between: that would slow down the next one's disk
            took["plain"].append(run((sys.executable, "plain.py"), home).seconds)
            took["claimwork"].append(run((*CLAIMWORK, "run", "in", out, "--quiet"), home).seconds)
            _compare(home, out)
    ratios = [plain / ours for plain, ours in zip(took["plain"], took["claimwork"], strict=True)]
    return [
        Measure(f"plain process, {inputs} files, {size >> 20} MB", "s", took["plain"]),
        Measure("claimwork run", "s", took["claimwork"]),
        Measure("plain process to claimwork run", "", ratios, least=LEAST),
    ]


def _texts() -> Iterator[tuple[Path, bytes]]:
    for source in SOURCES:
        for path in sorted(source.rglob("*")):
            if (
                path.suffix in ENDINGS
                and path.is_file()
                and not path.is_symlink()
                and "site-packages" not in path.parts
            ):
                data = path.read_bytes()
                try:
                    data.decode()
                except UnicodeDecodeError:
                    continue
                yield path, data


def _collect(into: Path) -> tuple[int, int]:
    """How many files there are below *into* now, and of how many bytes."""
    inputs = size = 0
    for copy in range(1000):
        for path, data in _texts():
            if size >= TOTAL_BYTES:
                return inputs, size
            target = into / str(copy) / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            inputs, size = inputs + 1, size + len(data)
    raise RuntimeError("there is hardly any text on this machine")


def _compare(home: Path, out: str) -> None:
    merged = json.loads((home / "merged.json").read_text())
    summary = json.loads((home / out / "summary.json").read_text())
    words, letters = (sum(each[what] for each in merged.values()) for what in ("words", "letters"))
    if (summary["inputs"], summary["words"], summary["letters"]) != (len(merged), words, letters):
        raise AssertionError(f"claimwork counted {summary}, the plain process {len(merged)}, {words}, {letters}")
