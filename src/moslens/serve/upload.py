"""Reads the files of a request into memory, within the limits; nothing is written to disk.

The body is multipart/form-data with the files in parts named as in FIELDS, or one picture as it is (image/* or
application/octet-stream).
"""

import asyncio
import base64
import quopri
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from moslens.serve.refusal import Refusal
from moslens.serve.settings import MEGABYTE, Settings

FIELDS = ("file", "files", "image")
MAX_PART_HEADERS = 16 * 1024
OTHER_PARTS = 100

ENCODED_WORDS = re.compile(r"(\s*=\?[^?\s]+\?[bq]\?[^?\s]*\?=)+", re.IGNORECASE)


@dataclass
class Upload:
    """One file of a request: the name it was sent under (None without one) and its bytes."""

    name: str | None
    data: bytes


@dataclass
class UploadBuffer:
    """How many bytes of uploads are in memory, over all requests."""

    limit: int
    used: int = 0


@dataclass
class Reservation:
    """The share of one request in the upload buffer. A context manager: the end of the request frees it."""

    buffer: UploadBuffer
    size: int = 0

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *error: object) -> None:
        self.buffer.used -= self.size

    def grow(self, count: int) -> bool:
        """Reserve ``count`` more bytes; False, and nothing is reserved, where the buffer has no room for them."""
        if self.buffer.used + count > self.buffer.limit:
            return False
        self.buffer.used += count
        self.size += count
        return True


UploadReader = Callable[[Request, Settings, Reservation], Awaitable[list[Upload]]]
"""Reads the pictures of a request, as :func:`read_uploads` does."""


@dataclass
class _FileCollector:
    """The callbacks of the multipart parser; keeps the parts named as in FIELDS."""

    max_files: int
    files: list[Upload] = field(default_factory=list)
    ended: bool = False
    _chunks: list[bytes] | None = None
    _name: str | None = None
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _field: bytes = b""
    _value: bytes = b""
    _parts: int = 0

    def on_part_begin(self) -> None:
        self._headers, self._field, self._value = {}, b"", b""
        self._parts += 1
        if self._parts > self.max_files + OTHER_PARTS:
            raise Refusal("too_many_files")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._check_header_size()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header_size()

    def on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def on_headers_finished(self) -> None:
        self._chunks = None
        header = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(header)
        if kind != b"form-data" or options.get(b"name", b"").decode("latin-1") not in FIELDS:
            return
        if len(self.files) >= self.max_files:
            raise Refusal("too_many_files", f"more than {self.max_files} files in one request")
        self._name = file_name(header, options.get(b"filename"))
        self._chunks = []

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])

    def on_part_end(self) -> None:
        if self._chunks is not None:
            coding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
            self.files.append(Upload(self._name, _decoded(b"".join(self._chunks), coding)))
            self._chunks = None

    def on_end(self) -> None:
        self.ended = True

    def _check_header_size(self) -> None:
        if sum(map(len, (*self._headers, *self._headers.values(), self._field, self._value))) > MAX_PART_HEADERS:
            raise Refusal("bad_multipart", "the headers of a part are too long")


def _decoded(data: bytes, coding: bytes) -> bytes:
    """The content of a part; clients that write forms like mail encode it. Raises Refusal for broken base64."""
    if coding == b"base64":
        try:
            return base64.b64decode(b"".join(data.split()), validate=True)
        except ValueError as error:
            raise Refusal("bad_multipart", f"a part is not the base64 that its header says: {error}") from None
    return quopri.decodestring(data) if coding == b"quoted-printable" else data


def file_name(header: bytes, plain: bytes | None) -> str | None:
    """The name that a part was sent under: ``filename*`` (RFC 5987), else ``plain``, its ``filename``.

    Some clients write ``filename`` as encoded words (RFC 2047), which are decoded.
    """
    extended, pieces = _extended_names(header)
    if extended is not None:
        return extended
    if plain is None:
        return pieces
    name = plain.decode("utf-8", "surrogateescape")
    if ENCODED_WORDS.fullmatch(name):
        try:
            return str(make_header(decode_header(name)))
        except (HeaderParseError, LookupError, ValueError):  # not what it looks like
            return name
    return name


def _extended_names(header: bytes) -> tuple[str | None, str | None]:
    """The name in ``filename*``, whole or in numbered pieces (RFC 2231), and that in pieces without a character set."""
    message = Message()
    message["content-disposition"] = header.decode("latin-1")
    pieces = None
    for name, value in message.get_params([], "content-disposition"):
        if name == "filename" and isinstance(value, tuple):
            charset, _, text = value
            try:
                return str(text).encode("latin-1").decode(charset or "utf-8", "surrogateescape"), None
            except (LookupError, ValueError):
                return None, None
        if name == "filename":
            pieces = str(value).encode("latin-1").decode("utf-8", "surrogateescape")
    return None, pieces


def _name_in_query(query: bytes) -> str | None:
    """The field ``path``, with surrogates for bytes that are not UTF-8."""
    fields = parse_qsl(query.decode("ascii", "surrogateescape"), keep_blank_values=True, errors="surrogateescape")
    path = dict(fields).get("path")
    return None if path is None else path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


async def read_uploads(request: Request, settings: Settings, reservation: Reservation) -> list[Upload]:
    """The files of a request, in order. A body that is one picture has its name in the query, as ``path``.

    Raises Refusal where the body is malformed, too large or too slow, and starlette's ClientDisconnect.
    """
    refuse_compressed(request)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind.startswith(b"image/") or kind == b"application/octet-stream":
        chunks: list[bytes] = []
        await receive(request, settings, reservation, chunks.append)
        return [Upload(_name_in_query(request.scope["query_string"]), b"".join(chunks))]
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal("not_multipart")
    collector = _FileCollector(settings.max_files)
    names = [name for name in dir(collector) if name.startswith("on_")]
    try:
        parser = MultipartParser(boundary, {name: getattr(collector, name) for name in names})  # type: ignore[arg-type]
        await receive(request, settings, reservation, parser.write)
        parser.finalize()
    except FormParserError as error:
        raise Refusal("bad_multipart", f"not well-formed multipart/form-data: {error}") from None
    if not collector.ended:
        raise Refusal("bad_multipart", "the body ends before its last boundary")
    if not collector.files:
        raise Refusal("no_file")
    return collector.files


def refuse_compressed(request: Request) -> None:
    """Raises Refusal for a body in another encoding than its own."""
    if (coding := request.headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
        raise Refusal("not_multipart", f"a compressed body is not taken (Content-Encoding: {coding}): send it as it is")


async def receive(
    request: Request, settings: Settings, reservation: Reservation, take: Callable[[bytes], object]
) -> None:
    """Give the body to ``take`` as it comes. Raises Refusal where it is too large or too slow."""
    too_large = Refusal("body_too_large", f"the body is larger than {settings.max_body / MEGABYTE:g} MB")
    if int(request.headers.get("content-length", 0)) > settings.max_body:
        raise too_large
    count = 0
    try:
        async with asyncio.timeout(settings.timeout):
            async for chunk in request.stream():
                count += len(chunk)
                if count > settings.max_body:
                    raise too_large
                if not reservation.grow(len(chunk)):
                    raise Refusal("busy", "the memory for uploads is full", retry_after=1)
                take(chunk)
    except TimeoutError:
        raise Refusal("upload_timeout", f"the request did not arrive within {settings.timeout:g} s") from None
