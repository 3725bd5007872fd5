"""Checks of a request before it is read: who asks, how much, and how often."""

from __future__ import annotations

import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from qupath_bridge.errors import UsageError
from qupath_bridge.service.settings import ServiceSettings

from .web_page import FOLDER

__all__ = ["Guard", "check_open_address"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

OPEN_PATHS = ("/", "/health", "/openapi.json")
"""Paths that need no token; the files of the page, whose folder this is, need none either."""

NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Policy of answers that are not for browsers: if one shows them, nothing in them runs."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

CLIENTS = 10_000
"""Clients whose requests are counted; of more, the one that was silent longest is forgotten."""


def check_open_address(settings: ServiceSettings) -> None:
    """Refuse to let everybody in from other machines.

    Raises
    ------
    UsageError
        If there is no token and the address is not one of this machine alone.
    """
    if settings.token is None and settings.host not in LOOPBACK:
        raise UsageError(
            f"Without a token the service listens on this machine alone, not on {settings.host}.",
            hint="Set QUPATH_BRIDGE_TOKEN to a long random text.",
        )


class Guard:
    """Refuses requests without the token, from web pages, too many, or too large.

    Parameters
    ----------
    app : ASGI application
    settings : ServiceSettings
    clock : callable
        Seconds.
    """

    def __init__(
        self, app: Any, settings: ServiceSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._token = None if settings.token is None else settings.token.get_secret_value().encode()
        self._largest = settings.max_body_bytes
        self._rate = _Rate(settings.requests_per_minute, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        client = (scope.get("client") or ("",))[0]
        if wait := self._rate.wait(client):
            more = [(b"retry-after", str(int(wait) + 1).encode())]
            await _refuse(send, 429, "Too many requests.", f"Wait {wait:.0f} seconds.", more)
        elif problem := self._stranger(scope["path"], headers):
            await _refuse(send, *problem)
        elif _length(headers) > self._largest:
            await _refuse(send, 413, _TOO_LARGE, f"At most {self._largest} bytes are read.")
        else:
            await self._app(scope, _bounded(receive, self._largest), _plain(send))

    def _stranger(
        self, path: str, headers: MutableMapping[bytes, bytes]
    ) -> tuple[int, str, str] | None:
        """Return the answer to somebody who may not ask."""
        if path in OPEN_PATHS or path.startswith(f"/{FOLDER}/"):
            return None
        if self._token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
                return None
            return 401, "The token is missing or wrong.", "Send it as Authorization: Bearer TOKEN."
        # Without a token, a web page in a browser of this machine could ask, too: its requests
        # name the page as their origin, or another host that it made lead here. Our own page is
        # where the request goes to.
        place = headers.get(b"host", b"")
        host = place.decode("latin-1").rsplit(":", 1)[0].strip("[]")
        elsewhere = headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
        foreign = headers.get(b"origin", b"http://" + place) != b"http://" + place
        if elsewhere or foreign or host not in LOOPBACK:
            return 403, "Without a token only programs of this machine may ask.", "Set a token."
        return None


_TOO_LARGE = "The request is too large."


class _Rate:
    """Requests of each client: so many per minute, and as many at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Count a request; return the seconds to wait before it is allowed, 0 if it is."""
        now = self._clock()
        left, seen = self._clients.pop(client, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - seen) * self._per_minute / 60)
        allowed = left >= 1
        self._clients[client] = (left - allowed, now)
        while len(self._clients) > CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) * 60 / self._per_minute


def _length(headers: MutableMapping[bytes, bytes]) -> int:
    text = headers.get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


def _bounded(receive: Receive, largest: int) -> Receive:
    """Return what reads a body, whose length nobody announced, up to a size."""
    size = 0

    async def read() -> MutableMapping[str, Any]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > largest:  # the rest is not read
            return {"type": "http.disconnect"}
        return message

    return read


def _plain(send: Send) -> Send:
    """Return what sends an answer that no browser takes for anything else than it says."""

    async def answer(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", ()))
            more = [
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
                (b"referrer-policy", b"no-referrer"),
            ]
            if all(name.lower() != b"content-security-policy" for name, _ in given):
                more.append((b"content-security-policy", NOTHING.encode()))
            message = {**message, "headers": [*given, *more]}
        await send(message)

    return answer


async def _refuse(
    send: Send,
    status: int,
    error: str,
    hint: str,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    body = json.dumps({"error": error, "hint": hint}).encode()
    known = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        known.append((b"www-authenticate", b"Bearer"))
    start = {"type": "http.response.start", "status": status, "headers": [*known, *(headers or [])]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
