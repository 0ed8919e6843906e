"""Uploads: a multipart body into memory, within the limits, never to disk."""

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
class Budget:
    """Bytes of uploads in memory, over all requests."""

    limit: int
    used: int = 0

    def take(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give_back(self, count: int) -> None:
        self.used -= count


@dataclass
class Held:
    """What one request holds of the budget; given back when the request ends."""

    budget: Budget
    count: int = 0

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *error: object) -> None:
        self.budget.give_back(self.count)

    def add(self, count: int) -> bool:
        if not self.budget.take(count):
            return False
        self.count += count
        return True


@dataclass
class _Form:
    """Collects the parts named ``file`` from the parser's callbacks."""

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
        self._bound()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound()

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

    def _bound(self) -> None:
        if sum(map(len, (*self._headers, *self._headers.values(), self._field, self._value))) > MAX_PART_HEADERS:
            raise Refusal("bad_multipart", "the headers of a part are too long")


async def read_uploads(request: Request, settings: Settings, held: Held) -> list[Upload]:
    """The files of a request, in order. Raises Refusal, and starlette's ClientDisconnect."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal("not_multipart")
    too_large = Refusal("body_too_large", f"the body is larger than {settings.max_body / MEGABYTE:g} MB")
    if int(request.headers.get("content-length", 0)) > settings.max_body:
        raise too_large
    form = _Form(settings.max_files)
    names = [name for name in dir(form) if name.startswith("on_")]
    count = 0
    try:
        parser = MultipartParser(boundary, {name: getattr(form, name) for name in names})  # type: ignore[arg-type]
        async with asyncio.timeout(settings.timeout):
            async for chunk in request.stream():
                count += len(chunk)
                if count > settings.max_body:
                    raise too_large
                if not held.add(len(chunk)):
                    raise Refusal("busy", "as many uploads are under way as the service holds", Retry_After="1")
                parser.write(chunk)
        parser.finalize()
    except TimeoutError:
        raise Refusal("upload_timeout", f"the request did not arrive within {settings.timeout:g} s") from None
    except FormParserError as error:
        raise Refusal("bad_multipart", f"not well-formed multipart/form-data: {error}") from None
    if not form.ended:
        raise Refusal("bad_multipart", "the body ends before its last boundary")
    if not form.files:
        raise Refusal("no_file")
    return form.files
