"""The page: files of this package, read once, served with a policy that forbids content from other addresses."""

import hashlib
from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.responses import Response

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add_page(app: FastAPI) -> None:
    """Serve ``static/index.html`` at ``/`` and the other files under ``/static/``."""
    for entry in files("moslens.serve").joinpath("static").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in MEDIA_TYPES:
            address = "/" if entry.name == "index.html" else f"/static/{entry.name}"
            add_file(app, address, entry.read_bytes(), MEDIA_TYPES[suffix])


def add_file(app: FastAPI, address: str, content: bytes, media_type: str) -> None:
    """Serve ``content`` at ``address``, with its hash as the tag by which a browser asks whether it is still so."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"etag": tag, "cache-control": "no-cache", "content-security-policy": CONTENT_SECURITY_POLICY}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    app.add_api_route(address, answer, methods=["GET", "HEAD"], include_in_schema=False)
