"""docs/architecture.md and the import contract say the same, and the contract holds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.docs.markdown import ROOT, steps, text_of

PACKAGE = ROOT / "claimwork"


FAKES = {"testing", "memory_fs"}  # on top of the layers


def modules() -> set[str]:
    """Modules and packages directly below claimwork."""
    found = {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    return found | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def described() -> dict[str, set[str]]:
    """The modules that the page has in each of its layers."""
    sections = re.split(r"^## ", text_of("docs/architecture.md"), flags=re.MULTILINE)
    found = {}
    for section in sections[1:]:
        title = section.splitlines()[0]
        rows = re.findall(r"^\| `(\w+)` \| \w", section, re.MULTILINE)
        assert len(rows) == len(set(rows))
        if rows:
            found[title] = set(rows)
    return found


def contract() -> list[set[str]]:
    """The layers of the contract, from the top, without testing."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["id"] == "layers")
    return [set(re.findall(r"\w+", layer)) for layer in layers if not FAKES & set(re.findall(r"\w+", layer))]


def test_every_module_has_its_sentence() -> None:
    """Nothing is left out, and nothing is told that is gone; the fakes are told of below the layers."""
    assert modules() - FAKES == set().union(*described().values())
    assert all(f"`{fake}`" in text_of("docs/architecture.md") for fake in FAKES)


def test_every_module_is_in_the_layer_of_the_contract() -> None:
    """The page has four layers; the contract cuts the edge and the role layer finer."""
    layers = contract()
    page = described()
    edge = set().union(*layers[:-4])
    role, protocol, base = layers[-4] | layers[-3], layers[-2], layers[-1]

    existing = modules()
    assert {"Edge": edge & existing, "Role": role & existing, "Protocol": protocol & existing, "Base": base} == page


def test_imports_point_downwards() -> None:
    """And the README shows what the check says."""
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    shown = next(step.printed for step in steps("README.md") if step.command == "scripts/test")
    assert next(line for line in shown if line.startswith("Contracts:")) in done.stdout
