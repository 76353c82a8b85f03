"""Reads the project's Markdown: blocks, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_MADE = {".venv", "output", "build", "dist", "node_modules"}


@dataclass(frozen=True)
class Step:
    """A command of a console block and the lines that the document says it prints."""

    command: str
    printed: list[str]


def documents() -> list[Path]:
    """Every Markdown file of the project."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(path for path in found if not any(part.startswith(".") or part in _MADE for part in path.parts[:-1]))


def text_of(document: Path | str) -> str:
    """A document as text."""
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: Path | str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for found, body in _FENCE.findall(text_of(document)) if found == language]


def steps(document: Path | str) -> list[Step]:
    """The commands of all console blocks, in order."""
    found: list[Step] = []
    for block in blocks(document, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            else:
                found[-1].printed.append(line)
    return found


def links(document: Path | str) -> list[str]:
    """Targets of all links outside fenced blocks."""
    return _LINK.findall(_FENCE.sub("", text_of(document)))


def anchors(document: Path | str) -> set[str]:
    """What a link can point at in a document: its headings, spelled as GitHub does."""
    found = set()
    for line in _FENCE.sub("", text_of(document)).splitlines():
        if line.startswith("#"):
            title = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(title.replace(" ", "-"))
    return found


def matches(printed: list[str], output: str) -> bool:
    """Whether *output* is what a document shows; ``…`` stands for anything in a line, and alone for any lines."""
    pattern = "".join(
        r"(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n" for line in printed
    )
    return re.fullmatch(pattern, output) is not None
