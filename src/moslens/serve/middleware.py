"""What every request gets: an id, security headers, a line in the log, metrics, and a 500 where the code fails."""

import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moslens.serve.logs import event
from moslens.serve.metrics import Metrics
from moslens.serve.refusal import AsciiJSONResponse, error_body, is_flat

CLIENT_GONE = 499
LOGGED_PATH = 200
SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class RequestMiddleware:
    """ASGI middleware. The routes may set two fields of the log in ``scope["state"]``.

    ``pictures`` is how many pictures the request has, ``code`` the code of its error.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if SAFE_ID.fullmatch(given) else secrets.token_hex(8).encode()
        status, received = 0, 0
        state = scope.setdefault("state", {})

        async def receive_and_count(*_: object) -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS, (b"x-request-id", request_id)]
            await send(message)

        try:
            await self.app(scope, receive_and_count, send_with_headers)
        except Exception as error:
            path = scope["path"][:LOGGED_PATH]
            event("fault", logging.ERROR, error=error, id=request_id.decode(), path=path)
            if not status:
                message = f"an internal error; the log has it under {request_id.decode()}"
                body = error_body("internal", message, flat=is_flat(scope))
                await AsciiJSONResponse(body, 500)(scope, receive, send_with_headers)
        seconds = time.perf_counter() - start
        status = status or CLIENT_GONE
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        self.metrics.requests.labels(route, method, str(status)).inc()
        self.metrics.request_seconds.observe(seconds)
        self.metrics.received.inc(received)
        event(
            "request",
            id=request_id.decode(),
            client=(scope.get("client") or ("", 0))[0],
            method=scope["method"],
            path=scope["path"][:LOGGED_PATH],
            status=status,
            seconds=round(seconds, 4),
            bytes=received,
            pictures=state.get("pictures", 0),
            code=state.get("code"),
        )
