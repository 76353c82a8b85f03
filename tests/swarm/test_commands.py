"""The plain commands of the README, as it has them: no stack, no numbers of replicas in the environment."""

from __future__ import annotations

import json
import os
import shlex

import pytest

from tests.docs.markdown import steps
from tests.swarm.conftest import STEERED, Site

pytestmark = pytest.mark.swarm

SAMPLE = {"test1.txt": "Hello world\n", "test2.txt": "Another test file with text\n"}


def readme(site: Site, *words: str, **places: str) -> list[str]:
    """The docker command of the README that begins with *words*, with this test's directories in place of the reader's."""
    begin = " ".join(("docker", *words))
    found = [each.command for each in steps("README.md") if each.command.startswith(begin)]
    (command,) = [each for each in found if all(written in each for written in places)]
    for written, meant in places.items():
        command = command.replace(written, meant)
    for place in ("$PWD/", "/mnt/share/"):
        command = command.replace(f"{place}data", str(site.inputs)).replace(f"{place}output", str(site.out))
    return shlex.split(command)[1:]


def test_docker_run_does_the_whole_job(site: Site) -> None:
    """One container plans, counts, reduces and ends with 0; the numbers are those of the README's task."""
    for name, text in SAMPLE.items():
        (site.inputs / name).write_text(text)

    site.lab.manager.docker(*readme(site, "run"))

    assert json.loads((site.out / "summary.json").read_text()) == {
        "inputs": 2,
        "quarantined": 0,
        "words": 7,
        "letters": 33,
    }
    assert json.loads(site.results()["test1.txt.json"]) == {"words": 2, "letters": 10}
    site.verify(task="wordcount")


def test_an_image_with_ones_own_task_needs_nothing_else(site: Site) -> None:
    """Three lines of Dockerfile upon the shipped image; also without capabilities and with a read-only root."""
    site.put("a", "b", "c")
    argv = readme(site, "run")

    site.lab.manager.docker(*argv[:-1], "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp", STEERED)

    site.verify()
    site.verify_that_nobody_was_charged()


def test_docker_service_create_does_it_with_replicas(site: Site) -> None:
    """Five replicas and then more, which know nothing of each other, share the inputs; nothing else is there to set up."""
    for number in range(300):
        (site.inputs / f"{number:03}.txt").write_text("some words of an input\n" * 2000)

    site.lab.manager.docker(*readme(site, "service", "create", counting=f"{site.name}_worker"))
    site.wait_for_results(1)
    site.lab.manager.docker(*readme(site, "service", "scale", **{"counting=20": f"{site.name}_worker=8"}))
    site.finish("worker")

    assert {task.code for task in site.tasks()} == {0}
    assert len(site.tasks()) == 8
    site.verify(task="wordcount")


def test_where_the_user_may_not_write_the_line_says_who_it_is_and_what_to_do(site: Site) -> None:
    """The container ends with 12 after one line with its uid and both remedies; either remedy works."""
    site.put("a")
    (site.out / ".runs").rmdir()
    site.out.chmod(0o755)
    owner = 1234
    os.chown(site.out, owner, owner)
    argv = readme(site, "run")

    refused = site.lab.manager.call(*argv)

    assert refused.returncode == 12
    (line,) = refused.stderr.splitlines()
    assert line.startswith("claimwork: cannot write '/app/output'")
    assert "uid 10001" in line
    assert "chown 10001" in line
    assert "--user" in line
    assert list(site.out.iterdir()) == []
    site.lab.manager.docker(*argv[:-1], "--user", str(owner), argv[-1])
    site.verify(task="wordcount")
