"""The image that docs/swarm.md shows is the one that the tests of the stack run on, but for the name of the module."""

from __future__ import annotations

import csv
import re
import shlex

import yaml

from claimwork.compose import JOB_WITHIN_S
from claimwork.policy import GRACE_S
from tests.docs.cli_page import parameters
from tests.docs.markdown import blocks, steps, text_of


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

    assert passed <= {each.variable for each in parameters()}
    assert {name for name in passed if f"`{name}`" not in listed} == set()


def test_what_a_job_and_its_workers_can_be_told_the_stack_passes_on() -> None:
    """All twins of options but what the stack sets by itself; otherwise a job would be made without what was asked for."""
    stack = yaml.safe_load(text_of("stack/claimwork.yml"))
    of_worker = {
        each.variable for each in parameters() if each.command in ("plan", "worker", "reduce") and each.is_option
    }
    commands = {word for service in stack["services"].values() for word in service["command"]}
    by_itself = {each.variable for each in parameters() if each.name in commands}
    passed = {name for service in stack["services"].values() for name in service["environment"]}

    assert {"CLAIMWORK_JOIN", "CLAIMWORK_WAIT"} <= by_itself
    assert of_worker - by_itself - passed == {"CLAIMWORK_QUIET"}


def test_swarm_kills_later_than_a_worker_needs() -> None:
    """With the grace that it was told, or its own: docker adds up durations that stand behind each other."""
    service = yaml.safe_load(text_of("stack/claimwork.yml"))["services"]["worker"]
    spelled = re.fullmatch(r"(\d+)s\$\{CLAIMWORK_GRACE:-(\d+)\}s", service["stop_grace_period"])

    assert spelled
    assert float(spelled[2]) == GRACE_S
    assert float(spelled[1]) > 2
    assert service["environment"]["CLAIMWORK_GRACE"] is None


def test_only_answers_use_up_the_restarts_of_the_finalizer() -> None:
    """It repeats one within seconds. A wait for a job takes a minute, and drains are rarer: so many are in no window."""
    finalizer = yaml.safe_load(text_of("stack/claimwork.yml"))["services"]["finalizer"]["deploy"]["restart_policy"]

    window_s = int(finalizer["window"].removesuffix("s"))
    assert 10 * finalizer["max_attempts"] < window_s < JOB_WITHIN_S * finalizer["max_attempts"]


def test_a_stack_is_deployed_with_a_decision_about_its_dashboard() -> None:
    """Unset is an error that says what to set; empty is an answer."""
    told = yaml.safe_load(text_of("stack/claimwork.yml"))["services"]["dashboard"]["environment"]["CLAIMWORK_TOKEN"]

    assert re.fullmatch(r"\$\{CLAIMWORK_TOKEN\?[^{}]+CLAIMWORK_TOKEN=[^{}]+\}", told)


def test_the_planner_of_every_engine_expects_inputs() -> None:
    """A wrong mount has none, and a job of none would be done at once."""
    stack = yaml.safe_load(text_of("stack/claimwork.yml"))["services"]["plan"]["environment"]
    pods = yaml.safe_load(text_of("stack/kubernetes/claimwork.yml"))["items"]

    assert stack["CLAIMWORK_EXPECT_INPUTS"] == "${CLAIMWORK_EXPECT_INPUTS:-1}"
    assert ["plan", "--expect-inputs"] in [
        each["spec"]["template"]["spec"]["containers"][0]["args"] for each in pods if each["kind"] == "Job"
    ]


def test_the_table_tells_what_a_variable_is_when_nobody_sets_it() -> None:
    """For each that the stack files give a default, the table has that one."""
    rows = [line.split(" | ") for line in text_of("stack/README.md").splitlines() if line.startswith("| `CLAIMWORK_")]
    told: dict[str, str] = {}
    for names, _, defaults in rows:
        told |= dict(zip(re.findall(r"`(\w+)`", names), re.findall(r"`([^`]+)`", defaults), strict=False))
    read = dict(
        re.findall(r"\$\{(CLAIMWORK_\w+):-([^}]*)\}", text_of("stack/claimwork.yml") + text_of("stack/nfs.yml"))
    )

    assert {"CLAIMWORK_MEMORY", "CLAIMWORK_USER"} <= read.keys()
    assert {name: told.get(name) for name in read} == read


def test_a_service_that_mounts_nfs_by_itself_mounts_as_the_stack_does() -> None:
    """Docker reads a mount as a line of CSV: without quotes around it, all options of NFS but the first would be lost."""
    (command,) = [each.command for each in steps("docs/swarm.md") if each.command.startswith("docker service create")]
    argv = shlex.split(command)
    told = [next(csv.reader([argv[at + 1]])) for at, word in enumerate(argv) if word == "--mount"]
    volumes = yaml.safe_load(text_of("stack/nfs.yml"))["volumes"].values()
    options = {re.sub(r"\$\{.*\}", "SERVER", each["driver_opts"]["o"]) for each in volumes}

    assert {f"volume-opt=o={each}" for each in options} == {mount[-1] for mount in told}
    assert ["target=/app/data" in mount and "readonly" in mount for mount in told] == [True, False]
    assert all("volume-nocopy=true" in mount for mount in told)


def test_every_service_of_the_stack_has_as_few_rights_as_the_page_says() -> None:
    """No root, no capability, a root and inputs that cannot be written; all have one user."""
    services = yaml.safe_load(text_of("stack/claimwork.yml"))["services"]
    mounts = [mount for service in services.values() for mount in service["volumes"]]

    assert [each["cap_drop"] for each in services.values()] == [["ALL"]] * len(services)
    assert {(each["read_only"], each["user"]) for each in services.values()} == {
        (True, "${CLAIMWORK_USER:-10001:10001}")
    }
    assert {mount["read_only"] for mount in mounts if mount["target"] == "/app/data"} == {True}
    assert {mount["target"] for mount in mounts} == {"/app/data", "/app/output", "/tmp"}
    assert [mount["target"] for mount in services["dashboard"]["volumes"] if not mount["read_only"]] == []
