"""Who may ask: checks of host, origin and token before every request, and the headers of every answer."""

import hmac
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs

App = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Headers of every answer: nothing but the server's own scripts, styles and data; no frames, nothing kept."""


@dataclass(frozen=True)
class Guard:
    """An ASGI application that refuses what does not come from its own page.

    The `Host` must be a name that the server has, which stops rebound names; an `Origin` must be that host, which stops other
    pages; and every request needs the token: by a cookie that `/?token=…` sets, or as `Authorization: Bearer …`.
    """

    app: App
    """What answers the requests that pass."""
    token: str
    """The secret."""
    host: str = "127.0.0.1"
    """The address the server listens on."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page has no sockets

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self.refusal(scope, headers)
        if refusal is None and self.brings_token(scope):
            await answer_with_cookie(send_with_headers, self.token, cookie_name(headers))
        elif refusal is None:
            await self.app(scope, receive, send_with_headers)
        else:
            await answer_text(send_with_headers, *refusal)

    def brings_token(self, scope: Any) -> bool:
        """Whether the request is the address that the command printed."""
        values = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        return scope["path"] == "/" and scope["method"] == "GET" and same_secret(values[0], self.token)

    def refusal(self, scope: Any, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason for which a request is refused, None where it is not."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.knows_host(host):
            return 400, "This server does not have that name. Open the address that becalm printed."
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "Another page sent this request."
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and scope["method"] != "GET":
            return 403, "Another page sent this request."
        if self.brings_token(scope):
            return None
        given = (cookie_value(headers), headers.get("authorization", "").removeprefix("Bearer "))
        if not any(same_secret(secret, self.token) for secret in given):
            return 401, "Open the address that becalm printed: it ends in a token, without which nobody gets in."
        return None

    def knows_host(self, host: str) -> bool:
        """Whether a `Host` header names this server: by a loopback name, by its own, or, off loopback, by any number."""
        name = host_name(host)
        if name in LOOPBACK or name == self.host:
            return True
        try:
            return self.host not in LOOPBACK and bool(ip_address(name))
        except ValueError:
            return False


def host_name(host: str) -> str:
    """A `Host` header without its port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def same_secret(given: str, token: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode(), token.encode())


def cookie_name(headers: dict[str, str]) -> str:
    """The name of the token's cookie: browsers keep cookies for a host, whatever its port."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"becalm-{port if port.isdigit() else '80'}"


def cookie_value(headers: dict[str, str]) -> str:
    """The token that the request's cookie holds, empty where it holds none."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(cookie_name(headers))
    except CookieError:
        return ""
    return morsel.value if morsel else ""


async def answer_with_cookie(send: Any, token: str, name: str) -> None:
    """Answer by a cookie with the token and the page's address without it."""
    cookie = f"{name}={token}; Path=/; HttpOnly; SameSite=Strict"
    await answer_text(send, 303, "", ((b"location", b"/"), (b"set-cookie", cookie.encode("latin-1"))))


async def answer_text(send: Any, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer with plain text."""
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "http.response.body", "body": text.encode()})
