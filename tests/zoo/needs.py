"""What a machine must have for a filesystem of the zoo, and how to get it."""

from __future__ import annotations

from tests.nfs.lab import needs
from tests.zoo.species import Species


def missing(species: Species) -> str:
    """What is missing, in one line that says how to get it; empty when it can be tried."""
    return needs.missing(species.programs)


def install(species: Species) -> None:
    """Install what is missing; no service is started. Raises LabError when this machine cannot."""
    needs.install(species.programs, species.packages)
