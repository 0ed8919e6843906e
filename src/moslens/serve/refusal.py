"""Every answer that is not a result: a status, and ``{"error": {"code", "message"}}``.

Under ``/v2``, where another protocol says what an error is, ``{"error": "message", "code": "code"}``.
"""

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from moslens.errors import ImageError, ImageTooLarge, InternalError
from moslens.system.text import readable

DRAIN_BYTES = 64 * 2**20
DRAIN_SECONDS = 2.0

REASONS: dict[str, tuple[int, str]] = {
    "bad_multipart": (400, "The body is not well-formed multipart/form-data."),
    "no_file": (400, "The form has no part named file, files or image."),
    "one_file": (400, "This takes one file a request."),
    "bad_inference": (400, "The body is no request of the Open Inference Protocol for pictures."),
    "not_found": (404, "No such address."),
    "no_model": (404, "Another model is served."),
    "method_not_allowed": (405, "The address does not take this method."),
    "upload_timeout": (408, "The request did not arrive within the time limit."),
    "no_map": (409, "The served model scores pictures as a whole and makes no maps."),
    "body_too_large": (413, "The body is larger than the limit."),
    "too_many_files": (413, "More files than one request may have."),
    "not_multipart": (
        415,
        "The body must be multipart/form-data, or a picture as image/* or application/octet-stream.",
    ),
    "bad_picture": (422, "The picture cannot be used; the code says why, as in a row of /v1/score."),
    "bad_query": (422, "A query parameter has a value that it cannot have."),
    "internal": (500, "An internal error of the service."),
    "busy": (503, "The queue is full; see Retry-After."),
    "timeout": (503, "The answer was not ready within the time limit; see Retry-After."),
}


class AsciiJSONResponse(JSONResponse):
    """JSON in ASCII, which reads the same whatever encoding a client takes it for."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")


class Refusal(Exception):
    """Ends a request with the status of ``code``, a key of REASONS. The client sees the message.

    ``retry_after`` is in seconds.
    """

    def __init__(self, code: str, message: str | None = None, *, retry_after: int | None = None) -> None:
        self.status, reason = REASONS[code]
        self.code = code
        self.message = reason if message is None else message
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(self.message)

    def response(self, *, flat: bool = False) -> Response:
        """The answer, with the body of :func:`error_body`.

        It closes the connection, because the body of the request may not have been read to its end.
        """
        return ClosingResponse(error_body(self.code, self.message, flat=flat), self.status, self.headers)


def error_body(code: str, message: str, *, flat: bool = False) -> dict[str, Any]:
    """The JSON of an error. In the ``flat`` one ``error`` is a text, as the Open Inference Protocol has it."""
    text = readable(message)
    return {"error": text, "code": code} if flat else {"error": {"code": code, "message": text}}


def is_flat(scope: Scope) -> bool:
    """Whether the errors of a request are flat: those of the Open Inference Protocol."""
    path = str(getattr(scope.get("route"), "path", scope["path"]))
    return path == "/v2" or path.startswith("/v2/")


def picture_error_response(error: ImageError, *, flat: bool = False) -> Response:
    """The answer where the one picture of a request, or one of several that stand together, cannot be used."""
    status = 413 if isinstance(error, ImageTooLarge) else 500 if isinstance(error, InternalError) else 422
    return AsciiJSONResponse(error_body(error.code, error.message, flat=flat), status)


def http_error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None, *, flat: bool = False
) -> Response:
    """The answer for an error that the framework found, such as an unknown address."""
    code = next((code for code, (usual, _) in REASONS.items() if usual == status), "bad_request")
    text = REASONS[code][1] if code in REASONS else message or HTTPStatus(status).phrase
    return AsciiJSONResponse(error_body(code, text, flat=flat), status, headers)


class ClosingResponse(AsciiJSONResponse):
    """Answers while the client may still be sending, reads what comes for a moment, then closes the connection.

    Closing a connection with unread bytes resets it, and many clients would then never see the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        names = {name.lower() for name, _ in scope["headers"]}
        if b"expect" not in names and names & {b"content-length", b"transfer-encoding"}:
            await _drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    """Read and drop the rest of the body, within limits."""
    taken = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while taken <= DRAIN_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                taken += len(message.get("body", b""))
    except TimeoutError:
        return
