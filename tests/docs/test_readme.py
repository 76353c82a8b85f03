"""The README's commands do what it shows; those for Docker at least fit the image and the stack."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from claimwork.tasks import Task
from claimwork.testing import run_task
from tests.docs.markdown import ROOT, Step, blocks, matches, steps, text_of

STEPS = {step.command: step for step in steps("README.md")}
DOCKER = [shlex.split(command.replace("$PWD", "/tmp/here")) for command in STEPS if command.startswith("docker ")]
SAMPLE = {"test1.txt": "Hello world\n", "test2.txt": "Another test file with text\n"}


def run(command: str, directory: Path) -> str:
    """All that a command prints, as on a terminal that both streams go to."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLAIMWORK_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        shlex.split(command),
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    # where there is no terminal, progress says a line every ten seconds: on a slow machine there are some
    lines = done.stdout.splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"(STALLED|PLANNING|RUNNING|REDUCING): ", line))


def check(step: Step, output: str) -> None:
    """Compare what a command printed with what the document shows."""
    assert matches(step.printed, output), f"{step.command} printed:\n{output}"


def docker(*words: str) -> list[str]:
    """The docker command that begins with *words*."""
    return next(argv for argv in DOCKER if argv[1 : len(words) + 1] == list(words))


def option(argv: list[str], name: str) -> list[str]:
    """All values of an option."""
    return [value for flag, value in pairwise(argv) if flag == name]


def dockerfile(variable: str) -> str:
    """What the image sets a variable to."""
    found = re.search(rf"\b{variable}=(\S+)", text_of("Dockerfile"))
    assert found is not None
    return found[1]


def test_the_first_command_prints_what_is_shown(tmp_path: Path) -> None:
    """With an OUT of its own: where it ran before it would say that nothing is left to do."""
    step = STEPS["scripts/run"]

    check(step, run(f"{ROOT}/scripts/run {tmp_path}/output", ROOT))


def test_the_second_command_ends_as_shown() -> None:
    """It cannot run inside itself; its words are compared."""
    script = text_of("scripts/test")
    assert STEPS["scripts/test"].printed[-1] == "skipped: nothing"
    assert 'echo "skipped: ${skipped:-nothing}"' in script


def test_a_task_of_ones_own_as_shown(tmp_path: Path) -> None:
    """The module, the commands below it, and what they print."""
    (tmp_path / "mytasks.py").write_text(blocks("README.md", "python")[0])
    (tmp_path / "data").mkdir()
    for name, text in SAMPLE.items():
        (tmp_path / "data" / name).write_text(text)
    mine = [step for step in STEPS.values() if step.command.startswith("claimwork ")]

    assert len(mine) == 3
    for step in mine:
        check(step, run(step.command, tmp_path))


def test_the_tasks_page_runs(tmp_path: Path) -> None:
    """Its task passes its own test, the reducer reduces, and the one that can be split gives the same in parts."""
    names: dict[str, object] = {}
    for block in blocks("docs/tasks.md", "python"):
        exec(block, names)
    test_lengths, lengths, lines = names["test_lengths"], names["lengths"], names["lines"]
    text = tmp_path / "text"
    text.write_text("one\ntwo\nthree")

    assert callable(test_lengths)
    test_lengths(tmp_path)
    assert isinstance(lengths, Task)
    assert isinstance(lines, Task)
    assert run_task(lines, text) == run_task(lines, text, split=5) == {"lines": 3}


def test_the_image_that_is_built_is_the_one_that_is_run() -> None:
    """One name in all commands."""
    (image,) = option(docker("build"), "-t")

    assert docker("build")[-1] == "."
    assert [docker("run")[-1], docker("service", "create")[-1]] == [image, image]


def test_docker_run_mounts_what_the_image_reads() -> None:
    """IN and OUT of the image are the targets of the two mounts; without arguments it does the whole job."""
    targets = [volume.split(":")[1] for volume in option(docker("run"), "-v")]

    assert targets == [dockerfile("CLAIMWORK_INPUT"), dockerfile("CLAIMWORK_OUTPUT")]
    assert 'ENTRYPOINT ["claimwork"]' in text_of("Dockerfile")
    assert 'CMD ["worker"]' in text_of("Dockerfile")


def test_docker_service_create_fits_as_well() -> None:
    """Mounts to the same places, several replicas, and finished ones are not started again."""
    argv = docker("service", "create")
    mounts = [dict(part.partition("=")[::2] for part in mount.split(",")) for mount in option(argv, "--mount")]

    assert [mount["target"] for mount in mounts] == [dockerfile("CLAIMWORK_INPUT"), dockerfile("CLAIMWORK_OUTPUT")]
    assert ["readonly" in mount for mount in mounts] == [True, False]
    assert option(argv, "--restart-condition") == ["on-failure"]
    assert option(argv, "--replicas") == ["5"]


def test_the_stack_that_is_deployed_has_the_service_that_is_scaled() -> None:
    """The file exists; the service is called by the name of the stack and its own."""
    deploy = docker("stack", "deploy")
    (file,) = option(deploy, "-c")
    services = re.findall(r"^  (\w+):$", text_of(file).split("\nservices:")[1], re.MULTILINE)
    scaled = [argv[-1].partition("=")[0] for argv in DOCKER if argv[1:3] == ["service", "scale"]]

    assert scaled == [*option(docker("service", "create"), "--name"), f"{deploy[-1]}_worker"]
    assert "worker" in services


@pytest.mark.parametrize("name", ["README.md", "stack/README.md"])
def test_the_uid_is_the_one_of_the_image(name: str) -> None:
    """Whoever prepares a directory by the text prepares it for the right user."""
    found = re.search(r"^USER (\d+)", text_of("Dockerfile"), re.MULTILINE)
    assert found is not None

    assert set(re.findall(r"chown (\d+)|uid (\d+)", text_of(name))) <= {(found[1], ""), ("", found[1])}
