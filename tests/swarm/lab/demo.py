"""A job for people to watch: a swarm of three nodes, scaled while it works, of which one loses its power."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from tests.swarm.lab.images import PROJECT, Builder
from tests.swarm.lab.lab import Lab
from tests.swarm.lab.shell import LabError, wait_until

_INPUTS = 240
_UID = 10001
_COMMAND = "sh -c 'sleep 0.5; wc -w <\"$0\"' {input}"
_LIMIT_S = 600.0
_STACK = "demo"
_PORT = 8765


def demo() -> int:
    """From packages to a summary; 0 when every input has its result."""
    print("building the image from this checkout (the first time takes a minute or two) …", flush=True)
    with Builder() as builder:
        builder.build_claimwork()
    print("starting a swarm of three nodes …", flush=True)
    with Lab(3) as lab:
        return _Demo(lab).run()


class _Demo:
    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._inputs, self._out = lab.share.path / "data", lab.share.path / "results"
        self._done = -1
        self._last_said = 0.0

    def run(self) -> int:
        self._prepare()
        variables = {"DATA": str(self._inputs), "RESULTS": str(self._out), "COMMAND": _COMMAND, "REPLICAS": "2"}
        variables["TOKEN"] = ""  # only the lab's own network reaches the dashboard
        argv = ("stack", "deploy", "--resolve-image", "never", "-c", "stack/claimwork.yml", _STACK)
        self._say(*(f"CLAIMWORK_{name}={value!r}" for name, value in variables.items()), "docker", *argv)
        path = PROJECT / "stack/claimwork.yml"
        words = [path if each == "stack/claimwork.yml" else each for each in argv]
        self._lab.manager.docker(*words, **{f"CLAIMWORK_{name}": value for name, value in variables.items()})
        self._until(_INPUTS // 8)
        self._scale(6)
        self._until(_INPUTS * 3 // 8)
        print("n3 loses its power; its tasks start elsewhere, and what they held is run again", flush=True)
        self._lab.nodes[2].kill()
        self._until(_INPUTS * 5 // 8)
        self._scale(1)
        self._until(_INPUTS * 6 // 8)
        self._scale(4)
        self._until(_INPUTS)
        return self._finish()

    def _prepare(self) -> None:
        self._inputs.mkdir()
        self._out.mkdir()
        os.chown(self._out, _UID, _UID)
        for number in range(_INPUTS):
            (self._inputs / f"{number:03}.txt").write_text(f"these are the words of input {number}\n" * (number + 1))

    def _say(self, *words: str) -> None:
        print("$", *words, flush=True)

    def _scale(self, replicas: int) -> None:
        argv = ("service", "scale", "-d", f"{_STACK}_worker={replicas}")
        self._say("docker", *argv)
        self._lab.manager.docker(*argv)

    def _status(self, *options: str) -> str:
        """`claimwork status` in a container, as any machine of the share can ask."""
        mount = f"{self._out}:/app/output:ro"
        asked = self._lab.manager.call("run", "--rm", "--no-healthcheck", "-v", mount, "claimwork", "status", *options)
        return asked.stdout

    def _until(self, done: int) -> None:
        until = time.monotonic() + _LIMIT_S
        while True:
            if time.monotonic() > until:
                raise LabError(f"the job stands still: {self._status()}")
            told = self._status("--json")
            status: dict[str, Any] = json.loads(told) if told else {"done": 0, "workers": [], "verdict": "WAITING"}
            if status["done"] != self._done:
                self._done = status["done"]
                workers = ", ".join(
                    sorted(f"{each['slot']} on {each['node']}" for each in status["workers"] if each["slot"])
                )
                print(f"{status['verdict']}: {self._done} of {_INPUTS} done; {workers or 'no worker yet'}", flush=True)
            if self._done >= done:
                return
            time.sleep(1)

    def _visit(self) -> None:
        """Where the dashboard is, and what it tells there. It is reached from the lab's own network only."""
        argv = ("service", "ps", "-f", "desired-state=running", "--format", "{{.Node}}", f"{_STACK}_dashboard")
        self._say("docker", *argv)
        found: list[str] = []

        def tells() -> bool:
            names = self._lab.manager.docker(*argv).split()
            for node in (each for each in self._lab.nodes if each.name in names):
                status, body = self._lab.manager.get(node, _PORT, "/status.json")
                if status == 200 and json.loads(body)["verdict"] == "DONE":
                    found.append(f"http://{node.address}:{_PORT}/ on {node.name} says {json.loads(body)['words']}")
            return bool(found)

        wait_until(tells, "the dashboard tells that the job is done")
        print("dashboard:", found[0], flush=True)

    def _finish(self) -> int:
        summary = self._out / "summary.json"
        until = time.monotonic() + _LIMIT_S
        while not summary.exists():
            if time.monotonic() > until:
                raise LabError(f"there is no summary: {self._status()}")
            time.sleep(0.5)
        print(self._status(), end="")
        print("summary:", summary.read_text(), end="")
        self._visit()
        mount = f"{self._out}:/app/output"
        checked = self._lab.manager.call("run", "--rm", "-v", mount, "claimwork", "check")
        print("check:", checked.stdout, end="")
        self._say("docker", "stack", "rm", _STACK)
        self._lab.manager.docker("stack", "rm", _STACK)
        return checked.returncode
