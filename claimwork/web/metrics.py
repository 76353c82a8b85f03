"""Metrics: a snapshot in the words of Prometheus. docs/watching.md lists the names; a test compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .. import __version__
from ..snapshot import Snapshot

VERDICTS = ("PLANNING", "RUNNING", "DRAINING", "STALLED", "BLOCKED", "REDUCING", "DONE")


class _Taken(Collector):
    """One snapshot."""

    def __init__(self, snapshot: Snapshot, failed_attempts: int, age_s: float) -> None:
        self._now = snapshot
        self._failed_attempts = failed_attempts
        self._age_s = age_s

    def collect(self) -> Iterator[Metric]:
        now = self._now
        info = GaugeMetricFamily("claimwork_info", "The job, and what looks at it.", labels=["job", "task", "version"])
        info.add_metric([_utf8(now.job_id), _utf8(now.task), __version__], 1.0)
        yield info
        yield _gauges(
            "claimwork_verdict", "1 for the verdict of status.", "verdict", {v: v == now.verdict for v in VERDICTS}
        )
        states = ("done", "quarantined", "running", "backing_off", "pending")
        yield _gauges("claimwork_inputs", "Planned inputs.", "state", {state: getattr(now, state) for state in states})
        sizes = {"settled": now.done_bytes, "open": now.total_bytes - now.done_bytes}
        yield _gauges("claimwork_input_bytes", "Bytes of planned inputs.", "state", sizes)
        yield _gauge("claimwork_generation", "Generation of the plan.", now.generation)
        beating = Counter(each.state for each in now.workers)
        workers = {state: beating[state] for state in ("idle", "busy", "draining", "suspect")}
        yield _gauges("claimwork_workers", "Workers that beat; suspect: their beat stands still.", "state", workers)
        yield _gauge(
            "claimwork_slots", "Slots of live workers.", sum(each.slots for each in now.workers if each.is_live)
        )
        rates = {"1m": now.rate_1m, "10m": now.rate_10m}
        inputs = {window: rate.inputs for window, rate in rates.items()}
        yield _gauges("claimwork_rate_inputs_per_second", "Inputs a second, as workers tell it.", "window", inputs)
        sizes_s = {window: rate.bytes for window, rate in rates.items()}
        yield _gauges("claimwork_rate_bytes_per_second", "Bytes a second, as workers tell it.", "window", sizes_s)
        if now.eta is not None:
            bounds = {"low": now.eta.low_s, "high": now.eta.high_s}
            yield _gauges(
                "claimwork_eta_seconds", "Time left, at best and at worst; absent while unknown.", "bound", bounds
            )
        yield _gauge("claimwork_started_timestamp_seconds", "When the job was created.", now.started_at)
        yield _gauge("claimwork_look_age_seconds", "Since the last look at the mount that succeeded.", self._age_s)
        yield _counter("claimwork_failed_attempts_total", "Attempts that failed.", self._failed_attempts)
        yield _counter("claimwork_workers_lost_total", "Workers that were given up.", now.lost)
        yield _counter("claimwork_workers_fenced_total", "Workers that came back after they were given up.", now.fenced)
        yield _counter("claimwork_tickets_reclaimed_total", "Tickets taken back from lost workers.", now.reclaimed)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=float(value))


def _utf8(label: str) -> str:
    return label.encode("utf-8", "backslashreplace").decode()


def exposition(snapshot: Snapshot, failed_attempts: int, age_s: float, accept: str) -> tuple[bytes, str]:
    """The metrics, in the form that whoever scrapes accepts, and its content type."""
    registry = CollectorRegistry()
    registry.register(_Taken(snapshot, failed_attempts, age_s))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
