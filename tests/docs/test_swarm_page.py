"""The image that docs/swarm.md shows is the one that the tests of the stack run on, but for the name of the module."""

from __future__ import annotations

from tests.docs.markdown import blocks, text_of


def test_the_image_with_ones_own_task_is_the_tested_one() -> None:
    """Three lines, of which the module and the task differ."""
    (shown,) = blocks("docs/swarm.md", "dockerfile")
    tested = (
        text_of("tests/swarm/Dockerfile").replace("steered:steered", "mytasks:lengths").replace("steered", "mytasks")
    )

    assert shown == tested
    assert len(shown.splitlines()) == 3
