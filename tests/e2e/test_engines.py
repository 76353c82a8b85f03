"""What is shipped for other engines: as far as it can be tried without them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from click.testing import CliRunner

from claimwork.cli import app
from claimwork.records import parse_beat
from tests.e2e.conftest import PROGRAM, Bench, end, wait_until
from tests.e2e.served import serve

STACK = Path(__file__).parents[2] / "stack"


def test_the_slurm_script_does_a_job(bench: Bench) -> None:
    """With an srun that only runs what it is given: the script hands on IN, OUT, cores and options, and says how it is used."""
    bench.put("a", "b")
    srun = bench.root / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nexec "$@"\n')
    srun.chmod(0o755)
    path = f"{srun.parent}:{Path(PROGRAM).parent}:{os.environ['PATH']}"
    argv = ["bash", str(STACK / "slurm/claimwork.sbatch"), str(bench.inputs), str(bench.out), "--task", "tasks:hold"]
    told = {**bench.env, "PATH": path, "SLURM_ARRAY_TASK_ID": "7", "SLURM_CPUS_PER_TASK": "3"}

    done = subprocess.run(argv, cwd=bench.root, env=told, capture_output=True, text=True, check=False)
    asked = subprocess.run(argv[:2], cwd=bench.root, env=told, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert bench.summary() == {"inputs": 2, "quarantined": 0, "bytes": 24}
    left = [parse_beat(path.read_bytes(), path.name) for path in (bench.out / ".claimwork/left").iterdir()]
    assert [(each.slots, each.slot) for each in left] == [(3, "7")]
    assert (asked.returncode, asked.stderr) == (2, "usage: sbatch claimwork.sbatch IN OUT [OPTION…]\n")


def test_the_stacks_health_check_of_the_dashboard(bench: Bench) -> None:
    """It fails while the mount does not answer, is content when it does again, and fails when nobody listens."""
    check = yaml.safe_load((STACK / "claimwork.yml").read_text())["services"]["dashboard"]["healthcheck"]["test"]
    bench.put("a")
    bench.run("-q")
    site = serve(bench, env={"CLAIMWORK_TOKEN": "sesame"})

    def says() -> int:
        argv = [sys.executable if each == "python" else each.replace("8765", str(site.port)) for each in check[1:]]
        told = {**bench.env, "http_proxy": "http://127.0.0.1:9"}
        return subprocess.run(argv, env=told, stderr=subprocess.DEVNULL, check=False).returncode

    assert check[0] == "CMD"
    assert says() == 0
    bench.out.rename(bench.root / "away")
    wait_until(says, "it fails")
    (bench.root / "away").rename(bench.out)
    wait_until(lambda: says() == 0, "it is content")
    os.kill(site.process.pid, signal.SIGTERM)
    end(site.process)
    assert says() == 1


def test_the_kubernetes_jobs_run_commands_that_exist() -> None:
    """No Job is indexed, each has its own command of the image, none may write to its root or be root.

    A worker has as many children as it may use cores, and not as many as the node has.
    """
    items = yaml.safe_load((STACK / "kubernetes/claimwork.yml").read_text())["items"]
    jobs = [each["spec"] for each in items if each["kind"] == "Job"]

    assert [each["kind"] for each in items] == ["PersistentVolumeClaim", "Job", "Job", "Job", "Deployment", "Service"]
    for job in jobs:
        assert not {"completions", "completionMode"} & job.keys()
        pod = job["template"]["spec"]
        assert (pod["restartPolicy"], pod["securityContext"]["runAsUser"]) == ("OnFailure", 10001)
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert [each["mountPath"] for each in container["volumeMounts"]] == ["/app/data", "/app/output", "/tmp"]
        told = {each["name"]: each.get("value") for each in container["env"]}
        assert told["CLAIMWORK_TASK"] == "wordcount"
        assert "worker" not in container["args"] or told["CLAIMWORK_SLOTS"] == container["resources"]["limits"]["cpu"]
        asked = CliRunner().invoke(app, [*container["args"], "--help"])
        assert asked.exit_code == 0, asked.output


def test_the_kubernetes_dashboard_is_reached_and_only_reads() -> None:
    """Its Service leads to the port that the command listens on, its probes ask what the server answers, nothing can be written."""
    items = yaml.safe_load((STACK / "kubernetes/claimwork.yml").read_text())["items"]
    deployment, service = items[-2]["spec"], items[-1]["spec"]
    pod = deployment["template"]
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    options = {name: each for each in app.commands["dashboard"].params for name in each.opts}

    assert service["selector"] == deployment["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    assert port["containerPort"] == options["--port"].default
    assert container["args"][0] == "dashboard"
    assert {each for each in container["args"] if each.startswith("--")} <= options.keys()
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert [(each["mountPath"], each["readOnly"]) for each in container["volumeMounts"]] == [("/app/output", True)]
    assert (pod["spec"]["restartPolicy"], pod["spec"]["securityContext"]["runAsUser"]) == ("Always", 10001)
    assert container["securityContext"]["readOnlyRootFilesystem"]
