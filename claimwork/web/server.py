"""The server of the dashboard: reads only, trusts nobody's names, and asks for a token where there is one.

Every answer carries a policy that allows a browser nothing but this host's own style and script. On a loopback address only names of
this machine are served, so that no page of another site can have a browser read the job under a name of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ClaimworkError, UsageError
from ..lines import printable
from ..worker import Stop
from .live import LiveJob
from .metrics import exposition
from .pages import asset, dashboard, input_page, search_page

_LOOK_S = 0.25  # how soon a stream tells what is new, and ends with the server
_ALIVE_S = 15.0  # a stream without news says something, so that proxies keep it
_CLIENTS = 200
_COOKIE = "claimwork"
_NAME_LIMIT = 4096
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets through who may read, and puts the headers on whatever is answered."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode("utf-8", "surrogateescape")
        self._cookie = hashlib.sha256(self._token).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._refusal(Request(scope)) or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("this server only reads\n", 405, {"Allow": "GET, HEAD"})
        if not self._token or request.url.path == "/healthz":
            return None
        given = request.query_params.get("token")
        if given is not None and self._is_token(given):
            answer = RedirectResponse("/", 303)  # the token stays in no address bar
            answer.set_cookie(_COOKIE, self._cookie, httponly=True, samesite="lax")
            return answer
        scheme, _, told = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(told):
            return None
        if hmac.compare_digest(request.cookies.get(_COOKIE, "").encode(), self._cookie.encode()):
            return None
        words = "a token is needed: open /?token=... once, or send it as Authorization: Bearer\n"
        return PlainTextResponse(words, 401, {"WWW-Authenticate": "Bearer"})

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)


class Dashboard:
    """The answers."""

    def __init__(self, live: LiveJob) -> None:
        self._live = live
        self.is_stopping = False
        self._one_search = asyncio.Lock()  # each reads the whole plan

    def routes(self) -> list[Route]:
        """Which path is answered by what."""
        return [
            Route("/", self._page),
            Route("/events", self._events),
            Route("/input", self._input),
            Route("/metrics", self._metrics),
            Route("/status.json", self._status),
            Route("/healthz", self._health),
            Route("/style.css", self._style),
            Route("/live.js", self._script),
        ]

    async def _page(self, _request: Request) -> Response:
        view = self._live.view()
        parts = await run_in_threadpool(self._live.draw, view)
        return _html(dashboard(view.snapshot, parts))

    async def _events(self, _request: Request) -> Response:
        return StreamingResponse(self._news(), media_type="text/event-stream")

    async def _news(self) -> AsyncIterator[str]:
        sent: dict[str, str] = {}
        parts: dict[str, str] = {}
        shown: tuple[int, str] | None = None
        quiet_s = 0.0
        yield "retry: 2000\n\n"
        while not self.is_stopping:
            view = self._live.view()
            if shown != (view.number, view.notice):
                shown = (view.number, view.notice)
                parts = await run_in_threadpool(self._live.draw, view)
            fresh = {name: html for name, html in parts.items() if sent.get(name) != html}
            if fresh:
                news = {"verdict": view.snapshot.verdict, "sections": fresh}
                yield f"data: {json.dumps(news)}\n\n"
            elif quiet_s >= _ALIVE_S:
                yield ": nothing new\n\n"
            quiet_s = 0.0 if fresh or quiet_s >= _ALIVE_S else quiet_s + _LOOK_S
            sent = parts
            await asyncio.sleep(_LOOK_S)

    async def _input(self, request: Request) -> Response:
        query = parse_qs(request.scope["query_string"].decode("ascii", "replace"), errors="surrogateescape")
        name = query.get("name", [""])[0][:_NAME_LIMIT]
        if not name:
            return _html(search_page(name, []))
        async with self._one_search:
            try:
                life = await run_in_threadpool(self._live.life, name)
            except UsageError:
                found = await run_in_threadpool(self._live.find, name)
                return _html(search_page(name, found), 200 if found else 404)
        return _html(input_page(self._live.job, life))

    async def _metrics(self, request: Request) -> Response:
        view = self._live.view()
        failed = int(self._live.history["failed"])
        body, kind = exposition(view.snapshot, failed, self._live.age_s(), request.headers.get("accept", ""))
        return Response(body, media_type=kind)

    async def _status(self, _request: Request) -> Response:
        view = self._live.view()
        document = {**view.snapshot.to_json(), "notice": view.notice}
        return Response(json.dumps(document) + "\n", media_type="application/json")

    async def _style(self, _request: Request) -> Response:
        return Response(asset("style.css"), media_type="text/css")

    async def _script(self, _request: Request) -> Response:
        return Response(asset("live.js"), media_type="text/javascript")

    async def _health(self, _request: Request) -> Response:
        notice = self._live.view().notice
        return PlainTextResponse(f"{notice or 'ok'}\n", 503 if notice else 200)


def _html(page: str, code: int = 200) -> Response:
    return Response(page, code, media_type="text/html")


async def _unwell(_request: Request, error: Exception) -> Response:
    """The mount or a record on it hinders an answer; the next request may get one."""
    why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return PlainTextResponse(f"cannot look at the job: {printable(why)}\n", 503)


def make_app(live: LiveJob, host: str, token: str) -> tuple[Starlette, Dashboard]:
    """The application, and what to tell when it is to stop."""
    names = ["localhost", "127.0.0.1", "[::1]", host] if is_loopback(host) else ["*"]
    made = Dashboard(live)
    guards = [
        Middleware(Guard, token=token),
        Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False),
    ]
    troubles = {OSError: _unwell, ClaimworkError: _unwell}
    return Starlette(routes=made.routes(), middleware=guards, exception_handlers=troubles), made


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket for the server. Raises UsageError when the address cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()  # from now on nobody is refused: who comes early waits
    except (OSError, OverflowError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"cannot listen on {host}, port {port}: {why}; choose others with --host and --port") from None
    return made


class _Server(uvicorn.Server):
    """Ends the streams as soon as it is told to stop: they would keep it. Was it told before it began, it ends at once."""

    def __init__(self, config: uvicorn.Config, answers: Dashboard, stop: Stop) -> None:
        super().__init__(config)
        self._answers = answers
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            self.should_exit = self.should_exit or self._stop.times > 0
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._answers.is_stopping = True
        super().handle_exit(sig, frame)


def serve(live: LiveJob, bound: socket.socket, host: str, token: str, stop: Stop) -> None:
    """Answer until a signal comes, which is passed on to *stop* by the handlers that were there before."""
    app, answers = make_app(live, host, token)
    config = uvicorn.Config(
        app,
        access_log=False,  # it would write down tokens
        log_level="warning",
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CLIENTS,
        timeout_graceful_shutdown=3,
    )
    _Server(config, answers, stop).run(sockets=[bound])
