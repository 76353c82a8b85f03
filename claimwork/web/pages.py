"""Pages: fills the templates. The only module that knows their language, and all it is given comes out as text."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64encode
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..inputs import Life
from ..lines import printable
from ..records import Job
from ..render import counts_line, doing, eta_words, losses_line, rate_words, size
from ..snapshot import Snapshot, duration
from . import charts

_SUMMARY_SHOWN = 20_000  # characters
_WORKERS_SHOWN = 100


def report(job: Job, snapshot: Snapshot, history: dict[str, Any]) -> str:
    """One HTML document that asks for nothing else: style and drawings are in it, and it has no script."""
    style = asset("style.css")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # the policy names this very style: should anything else ever get in, a browser would not obey it
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return render("report.html", **parts(job, snapshot, history), policy=policy, style=Markup(style))  # noqa: S704


def parts(job: Job, snapshot: Snapshot, history: dict[str, Any]) -> dict[str, Any]:
    """What the templates of a whole job show."""
    busy = sum(each["took_s"] for each in history["workers"])
    return {
        "job": job,
        "now": snapshot,
        "history": history,
        "balance": history["balance"],
        "busy_s": busy,
        "versions": sorted({each["version"] for each in history["workers"] if each["version"]}),
        "eta": eta_words(snapshot),
        "counts": counts_line(snapshot),
        "rates": rate_words(snapshot),
        "losses": losses_line(snapshot),
        "inputs_bar": charts.stacked(
            [
                ("done", snapshot.done),
                ("quarantined", snapshot.quarantined),
                ("running", snapshot.running),
                ("waiting", snapshot.backing_off),
            ],
            snapshot.total,
        ),
        "bytes_bar": charts.stacked([("done", snapshot.done_bytes)], snapshot.total_bytes),
        "throughput": charts.throughput(history),
        "live": charts.live(history),
        "timeline": charts.timeline(history),
        "scatter": charts.scatter(history),
        "at_work": [each for each in snapshot.workers if each.state != "lost"][:_WORKERS_SHOWN],
        "summary": _summary(snapshot),
    }


TITLES = (
    ("progress", "Progress"),
    ("at_work", "At work now"),
    ("trouble", "Trouble"),
    ("past", "Over time"),
    ("balance", "Balance"),
    ("slowest", "Slowest inputs"),
    ("workers", "Workers"),
    ("summary", "Summary"),
    ("facts", "The job"),
)


def sections(job: Job, snapshot: Snapshot, history: dict[str, Any], notice: str) -> dict[str, str]:
    """The parts of the dashboard, by name: `verdict` and those of `TITLES`."""
    draw: Any = _environment().get_template("job.html").module
    it = parts(job, snapshot, history)
    now, past = snapshot, history
    made = {
        "verdict": draw.verdict(now, it["eta"], notice),
        "progress": draw.progress(now, it["counts"], it["rates"], it["losses"], it["inputs_bar"], it["bytes_bar"]),
        "at_work": draw.at_work(it["at_work"], True),
        "trouble": draw.trouble(now, past, True),
        "past": draw.past(it["throughput"], it["live"], it["timeline"], it["scatter"], past),
        "balance": draw.balance_of(it["balance"], past),
        "slowest": draw.slowest(past, now.median_s, True),
        "workers": draw.workers(past, it["busy_s"]),
        "summary": draw.summary(it["summary"]),
        "facts": draw.facts(job, now, it["versions"]),
    }
    return {name: str(html) for name, html in made.items()}


def dashboard(snapshot: Snapshot, drawn: dict[str, str]) -> str:
    """The page around what `sections` has drawn."""
    safe = {name: Markup(html) for name, html in drawn.items()}  # noqa: S704, drawn by templates that escape
    return render("dashboard.html", now=snapshot, parts=safe, titles=TITLES, asked="")


def input_page(job: Job, life: Life) -> str:
    """The life of one input."""
    return render("input.html", job=job, life=life, asked=life.path, found=[])


def search_page(asked: str, found: list[str]) -> str:
    """Inputs that fit what was asked for."""
    return render("input.html", job=None, life=None, asked=asked, found=found)


def render(template: str, **values: Any) -> str:
    """A page that can be encoded, whatever is in *values*."""
    return _environment().get_template(template).render(values)


@cache
def asset(name: str) -> str:
    """A file of this package."""
    return (files(__package__) / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("claimwork.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": size,
        "duration": duration,
        "moment": _moment,
        "log": _log,
        "query": _query,
        "doing": doing,
    }
    made.globals |= {"version": __version__, "charts": charts}
    return made


def _text(value: Any) -> Any:
    """A string of whatever origin as characters that a page can show: stray bytes and control characters escaped."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _log(text: str) -> Markup:
    """Several lines, each made fit to be shown."""
    return Markup("\n").join(printable(line.expandtabs()) for line in text.splitlines())


def _query(name: str) -> str:
    """A name of any bytes as a part of a query."""
    return quote(name, safe="", errors="surrogateescape")


def _moment(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)) if at else "unknown"
    except (OverflowError, ValueError, OSError):
        return "unknown"  # what a record says need not be a time


def _summary(snapshot: Snapshot) -> str:
    if not snapshot.has_summary:
        return ""
    text = json.dumps(snapshot.summary, indent=1, ensure_ascii=False)
    return text if len(text) <= _SUMMARY_SHOWN else f"{text[:_SUMMARY_SHOWN]}\n… the rest is in summary.json"
