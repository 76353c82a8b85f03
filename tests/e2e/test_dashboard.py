"""`claimwork dashboard` over real HTTP, while a real job runs: numbers, names, doors, and that it only reads."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from claimwork.compose import Mount
from claimwork.web import server
from claimwork.web.live import LiveJob
from claimwork.worker import Stop
from tests.e2e.conftest import LIMIT_S, Bench, end, wait_until
from tests.e2e.served import Site, serve

ROOT = Path(__file__).parents[2]
PLAIN = ["/", "/input", "/metrics", "/status.json", "/healthz", "/style.css", "/live.js"]


def tree(bench: Bench) -> dict[str, bytes]:
    """All files of the job."""
    return {str(path): path.read_bytes() for path in bench.out.rglob("*") if path.is_file()}


def test_numbers_follow_the_job(bench: Bench) -> None:
    """While it runs, page, metrics and status tell what runs where; then they and an open page tell that it is done."""
    bench.put("done-1", "done-2", "raises-1")
    bench.run("-q", "--task", "tasks:both", "--max-attempts", "1", "--patience", "10", code=4)
    bench.put("held-1")
    bench.plan()
    worker = bench.worker(slots=2)
    bench.wait_for_run("held-1")
    site = serve(bench)

    def all_told() -> bool:
        now = site.status()
        return (now["done"], now["quarantined"], now["running"]) == (2, 1, 1)

    wait_until(all_told, "two done, one quarantined; and a beat that tells of the one that runs")

    page = site.ask("/")
    numbers = site.metrics()

    assert page.code == 200
    for words in ("RUNNING", "2 of 4 done, 1 running, 1 quarantined", "held-1", "ZeroDivisionError"):
        assert words in page.body, words
    wanted = {"done": 2, "quarantined": 1, "running": 1, "backing_off": 0, "pending": 0}
    assert {state: numbers[f"claimwork_inputs/{state}"] for state in wanted} == wanted
    assert numbers["claimwork_verdict/RUNNING"] == 1
    assert (numbers["claimwork_workers/busy"], numbers["claimwork_slots"]) == (1, 2)
    assert numbers["claimwork_input_bytes/settled"] == 36
    assert wait_until(lambda: site.metrics()["claimwork_failed_attempts_total"], "the failed attempt") == 1
    assert site.ask("/healthz").body == "ok\n"

    with site.news() as news:
        first = next(news)
        assert first["verdict"] == "RUNNING"
        assert "held-1" in first["sections"]["at_work"]
        bench.say("go")
        last = next(each for each in news if each["verdict"] == "DONE")
        assert "3 of 4 done" in last["sections"]["progress"]
        assert "facts" not in last["sections"]  # only what is new is sent
    assert end(worker).code == 0
    assert site.metrics()["claimwork_verdict/DONE"] == 1
    assert site.status()["exit_code"] == 4


def test_search_and_the_page_of_an_input(bench: Bench) -> None:
    """A part of a name or a glob finds inputs; a name leads to its life, with the log of what failed."""
    bench.put("deep/a.txt", "deep/b.txt", "raises-1")
    bench.run("--task", "tasks:troubled", "--max-attempts", "2", "--backoff", "0", code=4)
    site = serve(bench)

    assert re.findall(r'<a href="/input\?name=([^"]*)"', site.ask("/input?name=eep/").body) == [
        "deep%2Fa.txt",
        "deep%2Fb.txt",
    ]
    assert "deep/b.txt" not in site.ask("/input?name=*a.txt").body
    assert site.ask("/input?name=nothing").code == 404
    assert "<strong>done</strong>" in site.ask("/input?name=deep/a.txt").body
    page = site.ask("/input?name=raises-1").body
    for words in ("quarantined", "attempt 1", "attempt 2", "ZeroDivisionError", "Traceback"):
        assert words in page, words


def test_hostile_names_are_text(bench: Bench) -> None:
    """Wherever a name is shown or asked for, it is escaped; links to names of any bytes lead to them."""
    names: list[str | bytes] = [
        "raises<script>alert(1)<\\script>",
        'raises"><img src=x onerror=alert(1)>',
        b"raises\xff\xfe",
        "raises\nline",
    ]
    bench.put(*names)
    bench.run("-q", "--task", "tasks:troubled", "--max-attempts", "1", code=4)
    site = serve(bench)
    pages = [site.ask(path).body for path in ("/", "/input?name=raises", "/input?name=%3Cscript%3E%22onload=")]
    with site.news() as news:
        pages += next(news)["sections"].values()

    found = re.findall(r'href="(/input\?name=[^"]*)"', pages[1])
    assert len(found) == len(names)
    for link in found:
        answer = site.ask(link)
        assert (answer.code, "<strong>quarantined</strong>" in answer.body) == (200, True), link
        pages.append(answer.body)
    for page in pages:
        assert "<img" not in page
        assert set(re.findall(r"<script[^>]*>", page)) <= {'<script src="/live.js" defer>'}
        assert not re.search(r"<[^>]* (on\w+|style)=[^>]*>", re.sub('"[^"]*"', '""', page))
    assert quote("raises<script>", safe="") in pages[1]


def test_headers_and_methods(bench: Bench) -> None:
    """Every answer forbids what the pages do not need, also an error; nothing but reading is answered."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench)
    before = tree(bench)

    for path in [*PLAIN, "/nothing", "/../../etc/passwd", "/input?name=" + "x" * 9000]:
        answer = site.ask(path)
        assert answer.code in (200, 404), path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        for path in ("/", "/input?name=a", "/nothing"):
            assert site.ask(path, method, "a=b").code == 405, (method, path)
    assert site.ask("/", "HEAD").code == 200
    assert tree(bench) == before


def test_the_pages_ask_nobody_else(bench: Bench) -> None:
    """No page, script or style names another host, and none has a script or a style of its own in it."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench)

    for path in ("/", "/input?name=a", "/style.css", "/live.js"):
        body = site.ask(path).body
        assert re.search(r"https?:|//[\w.]+/|url\(|@import", body) is None, path
        assert not re.search(r"<style|<script>|javascript:| style=", body), path
    linked = set(re.findall(r'(?:src|href)="([^"?]*)', site.ask("/").body)) - {"data:,"}
    assert {site.ask(path).code for path in linked} == {200}


def test_a_token(bench: Bench) -> None:
    """Without it only the health is told; with it in a header all is, and one visit with it is remembered by the browser."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench, env={"CLAIMWORK_TOKEN": "sesame"})

    for path in [*PLAIN, "/events"]:
        assert site.ask(path).code == (200 if path == "/healthz" else 401), path
        assert site.ask(path, Authorization="Bearer wrong").code == (200 if path == "/healthz" else 401), path
    assert site.ask("/?token=wrong").code == 401
    assert site.ask("/", Cookie="claimwork=sesame").code == 401
    assert site.ask("/metrics", Authorization="Bearer sesame").code == 200
    visit = site.ask("/?token=sesame")
    assert (visit.code, visit.headers["location"]) == (303, "/")
    cookie = visit.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "sesame" not in cookie
    assert site.ask("/", Cookie=cookie.partition(";")[0]).code == 200
    os.kill(site.process.pid, signal.SIGTERM)
    ended = end(site.process)
    assert "sesame" not in ended.stdout + ended.stderr


def test_only_names_of_this_machine(bench: Bench) -> None:
    """On a loopback address, a page of another site cannot have a browser read the job under a name of its own."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench)

    assert site.ask("/status.json", Host=f"localhost:{site.port}").code == 200
    assert site.ask("/status.json", Host=f"evil.example:{site.port}").code == 400


def test_a_mount_that_goes_and_comes_back(bench: Bench) -> None:
    """While the job cannot be looked at, the page says so with what it knew, and the health check fails; then all is well."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench)
    bench.out.rename(bench.root / "away")

    sick = wait_until(lambda: (answer := site.ask("/healthz")).code == 503 and answer, "an ailment")
    assert "cannot look at the job" in sick.body
    page = site.ask("/").body
    assert "cannot look at the job" in page
    assert "1 of 1 done" in page
    assert "cannot look" in site.status()["notice"]
    assert site.ask("/input?name=a").code == 503
    (bench.root / "away").rename(bench.out)
    wait_until(lambda: site.ask("/healthz").code == 200, "health")


def test_it_ends_when_told_to_with_pages_open(bench: Bench) -> None:
    """SIGTERM ends it although browsers listen, without a word."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench)
    with site.news() as news:
        next(news)
        os.kill(site.process.pid, signal.SIGTERM)
        ended = end(site.process)

    assert (ended.code, ended.stderr) == (143, "")


def test_told_to_stop_before_it_serves_it_does_not_serve(bench: Bench) -> None:
    """A signal that came while it took its first look is not forgotten."""
    bench.put("a")
    bench.run("-q")
    mount, stop = Mount(str(bench.out)), Stop()
    live = LiveJob(mount.fs, mount.layout, mount.clock, 1.0)
    stop.request(signal.SIGTERM)

    with server.listen("127.0.0.1", 0) as bound:
        thread = Thread(target=server.serve, args=(live, bound, "127.0.0.1", "", stop), daemon=True)
        thread.start()
        thread.join(LIMIT_S)

    assert not thread.is_alive()


def test_with_wait_it_may_be_there_before_the_job(bench: Bench) -> None:
    """It serves as soon as somebody plans, and ends when it is told to before that; without, it is one line."""
    bench.fails(10, "dashboard", "out", "--port", "0")
    waiting = [bench.start("dashboard", "out", "--wait", "--port", "0") for _ in range(2)]
    wait_until(lambda: all(has_pulse(each.pid) for each in waiting), "both wait")
    os.kill(waiting[0].pid, signal.SIGTERM)
    ended = end(waiting[0])

    bench.put("a", "b")
    bench.plan()

    assert (ended.code, ended.stdout, ended.stderr) == (143, "", "")
    assert Site(waiting[1]).status()["total"] == 2


def has_pulse(pid: int) -> bool:
    """Whether a process has said, to a health check, that it gets through to the mount."""
    return any("claimwork-pulse" in os.path.realpath(each) for each in Path(f"/proc/{pid}/fd").iterdir())


def test_what_it_cannot_do_is_one_line(bench: Bench) -> None:
    """No job; a port that is taken; a host that is none; a port that everybody reaches is worth a warning."""
    bench.fails(10, "dashboard", "nowhere")
    bench.put("a")
    bench.run("-q")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = bench.fails(2, "dashboard", "out", "--port", str(taken.getsockname()[1]))
    assert "in use" in line
    assert "--port" in line
    assert "--host" in bench.fails(2, "dashboard", "out", "--host", "256.0.0.1")

    site = serve(bench, "--host", "0.0.0.0")
    assert site.ask("/healthz", Host="whatever").code == 200
    os.kill(site.process.pid, signal.SIGTERM)
    assert "--token" in end(site.process).stderr


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "prometheus_client"])
def test_without_the_extra(bench: Bench, missing: str) -> None:
    """The line says what to install; all other commands do without."""
    bench.put("a")
    bench.run("-q")
    hide = f"import sys; sys.modules[{missing!r}] = None; from claimwork.cli import main; main()"

    argv = [sys.executable, "-c", hide, "dashboard", "out"]
    done = subprocess.run(argv, cwd=bench.root, env=bench.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"claimwork: the dashboard needs {missing}: pip install 'claimwork[dashboard]'\n"
    argv = [sys.executable, "-c", hide, "report", "out"]
    assert subprocess.run(argv, cwd=bench.root, env=bench.env, capture_output=True, check=False).returncode == 0


def test_the_documented_metrics_are_those_that_are_served(bench: Bench) -> None:
    """Each name with its labels, and no other; the time left is there only while it is known."""
    bench.put("a")
    bench.run("-q")
    site = serve(bench)
    rows = re.findall(
        r"^\| `(claimwork_\w+)`(?: `(\w+(?:, \w+)*)`)? \|", (ROOT / "docs" / "watching.md").read_text(), re.MULTILINE
    )
    served = {
        sample.name: ", ".join(sample.labels)
        for family in text_string_to_metric_families(site.ask("/metrics").body)
        for sample in family.samples
    }

    assert dict(rows) == {**served, "claimwork_eta_seconds": "bound"}
