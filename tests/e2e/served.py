"""A dashboard that tests talk to over HTTP."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import LIMIT_S, Bench


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    code: int
    headers: dict[str, str]
    body: str


class Site:
    """A dashboard that listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()
        assert self.url, process.communicate()
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """One request."""
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            asked.request(method, path, body, headers)
            answer = asked.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read().decode())
        finally:
            asked.close()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("/status.json").body)
        return found

    def metrics(self) -> dict[str, float]:
        """Every sample: its name, and the values of its labels."""
        return {
            "/".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(self.ask("/metrics").body)
            for sample in family.samples
        }

    @contextmanager
    def news(self) -> Iterator[Iterator[dict[str, Any]]]:
        """What the server sends on its own, one after the other."""
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        asked.request("GET", "/events")
        answer = asked.getresponse()
        assert answer.getheader("content-type", "").startswith("text/event-stream")

        def told() -> Iterator[dict[str, Any]]:
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

        yield told()
        asked.close()


def serve(bench: Bench, *options: str, env: dict[str, str] | None = None) -> Site:
    """Start a dashboard on a free port, that looks often."""
    return Site(bench.start("dashboard", "out", "--port", "0", "--interval", "0.1", *options, env=env))
