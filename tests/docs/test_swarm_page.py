"""The image that docs/swarm.md shows is the one that the tests of the stack run on, but for the name of the module."""

from __future__ import annotations

import yaml

from tests.docs.cli_page import parameters
from tests.docs.markdown import blocks, text_of


def test_the_image_with_ones_own_task_is_the_tested_one() -> None:
    """Three lines, of which the module and the task differ."""
    (shown,) = blocks("docs/swarm.md", "dockerfile")
    tested = (
        text_of("tests/swarm/Dockerfile").replace("steered:steered", "mytasks:lengths").replace("steered", "mytasks")
    )

    assert shown == tested
    assert len(shown.splitlines()) == 3


def test_the_variables_that_the_stack_passes_on_are_options_and_are_listed() -> None:
    """A variable without a value is the deploying shell's; whoever sets one that nobody reads or passes on is misled."""
    common = yaml.safe_load(text_of("stack/claimwork.yml"))["x-environment"]
    passed = {name for name, value in common.items() if value is None}
    listed = text_of("stack/README.md")

    assert "CLAIMWORK_LOG_FORMAT" in passed
    assert passed <= {each.variable for each in parameters()}
    assert {name for name in passed if f"`{name}`" not in listed} == set()
