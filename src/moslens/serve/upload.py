"""Reads the files of a multipart body into memory, within the limits; nothing is written to disk."""

import asyncio
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from moslens.serve.refusal import Refusal
from moslens.serve.settings import MEGABYTE, Settings

FIELD = b"file"
MAX_PART_HEADERS = 16 * 1024
OTHER_PARTS = 100


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


@dataclass
class _FileCollector:
    """The callbacks of the multipart parser; keeps the parts named ``file``."""

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
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or options.get(b"name") != FIELD:
            return
        if len(self.files) >= self.max_files:
            raise Refusal("too_many_files", f"more than {self.max_files} files in one request")
        name = options.get(b"filename")
        self._name = None if name is None else name.decode("utf-8", "surrogateescape")
        self._chunks = []

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])

    def on_part_end(self) -> None:
        if self._chunks is not None:
            self.files.append(Upload(self._name, b"".join(self._chunks)))
            self._chunks = None

    def on_end(self) -> None:
        self.ended = True

    def _check_header_size(self) -> None:
        if sum(map(len, (*self._headers, *self._headers.values(), self._field, self._value))) > MAX_PART_HEADERS:
            raise Refusal("bad_multipart", "the headers of a part are too long")


async def read_uploads(request: Request, settings: Settings, reservation: Reservation) -> list[Upload]:
    """The files of a request, in order.

    Raises Refusal where the body is malformed, too large or too slow, and starlette's ClientDisconnect.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal("not_multipart")
    too_large = Refusal("body_too_large", f"the body is larger than {settings.max_body / MEGABYTE:g} MB")
    if int(request.headers.get("content-length", 0)) > settings.max_body:
        raise too_large
    collector = _FileCollector(settings.max_files)
    names = [name for name in dir(collector) if name.startswith("on_")]
    count = 0
    try:
        parser = MultipartParser(boundary, {name: getattr(collector, name) for name in names})  # type: ignore[arg-type]
        async with asyncio.timeout(settings.timeout):
            async for chunk in request.stream():
                count += len(chunk)
                if count > settings.max_body:
                    raise too_large
                if not reservation.grow(len(chunk)):
                    raise Refusal("busy", "the memory for uploads is full", retry_after=1)
                parser.write(chunk)
        parser.finalize()
    except TimeoutError:
        raise Refusal("upload_timeout", f"the request did not arrive within {settings.timeout:g} s") from None
    except FormParserError as error:
        raise Refusal("bad_multipart", f"not well-formed multipart/form-data: {error}") from None
    if not collector.ended:
        raise Refusal("bad_multipart", "the body ends before its last boundary")
    if not collector.files:
        raise Refusal("no_file")
    return collector.files
