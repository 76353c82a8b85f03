"""Rules that hold for every document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchors, documents, links, text_of

DOCUMENTS = [pytest.param(path, id=str(path)) for path in documents()]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document: Path) -> None:
    """To a file or directory of the project, and to a heading that is there."""
    broken = []
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_and_tests_that_are_named_exist(document: Path) -> None:
    """A name in backticks that looks like a path of ours, or like a part of a test's name, is one."""
    spans = re.findall(r"`([^`\n]+)`", text_of(document))
    paths = {each for each in spans if re.fullmatch(r"(scripts|claimwork|docs|tests|stack)/[\w./-]+", each)}
    names = {each for each in spans if re.fullmatch(r"[a-z]+(_[a-z]+){2,}", each)}
    sources = "".join(
        path.read_text(encoding="utf-8") for top in ("tests", "claimwork") for path in (ROOT / top).rglob("*.py")
    )

    assert {path for path in paths if not (ROOT / path).exists()} == set()
    assert {name for name in names if name not in sources} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_of_this_machine_and_no_registry(document: Path) -> None:
    """A document is true on every machine, whatever mirror or proxy it uses."""
    text = text_of(document)
    hosts = r"pypi\.org|pythonhosted\.org|docker\.io|docker\.com|ghcr\.io|quay\.io|gcr\.io|npmjs\.(org|com)"

    assert re.search(hosts, text) is None
    assert re.search(r"(?<![\w.])/(work|root|home|Users)/", text) is None
    assert str(ROOT) not in text


@pytest.mark.parametrize(("document", "limit"), [("README.md", 120), ("docs/CONTRIBUTING.md", 60)])
def test_what_everybody_reads_is_short(document: str, limit: int) -> None:
    """What does not fit belongs on a page of its own."""
    assert len(text_of(document).splitlines()) <= limit


def test_documents_that_the_code_names_exist() -> None:
    """A comment that sends its reader to a page sends him to one that is there."""
    named: set[str] = set()
    for path in [
        *(ROOT / "claimwork").rglob("*.py"),
        *filter(Path.is_file, (ROOT / "stack").rglob("*")),
        ROOT / "Dockerfile",
    ]:
        named.update(re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8")))

    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("record", [pytest.param(path, id=path.stem) for path in RECORDS])
def test_decisions_have_one_shape_and_are_listed(record: Path) -> None:
    """Numbered without gaps, with the five parts, and in the list."""
    parts = re.findall(r"^## (.*)$", record.read_text(encoding="utf-8"), re.MULTILINE)
    number = int(record.name[:4])

    assert parts == ["Problem", "Goals", "Options", "Decision", "Consequences"]
    assert number == RECORDS.index(record) + 1
    assert record.name in links("docs/decisions/README.md")


def test_the_table_of_promises_is_small_and_each_row_has_its_proof() -> None:
    """At most eight rows; a promise links to its test, and the limits to the page about them."""
    section = text_of("README.md").split("## Guarantees and limits")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    rows = [row for row in rows if not row.startswith("| ---")]

    assert 0 < len(rows) <= 8
    assert [row for row in rows if "](tests/" not in row and not row.startswith("| **Limits**")] == []
