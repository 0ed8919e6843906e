"""Where the service is reached and how pictures are sent to it: a prefix, HEAD, other origins, bodies and names."""

from __future__ import annotations

import base64
import gzip
import http.client
import quopri
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest

pytest.importorskip("fastapi", reason="needs the serve extra")

from helpers.hostile import encode, photo
from helpers.serving import BOUNDARY, MapScorer, ask, form, post, served
from moslens.scoring.scorer import Scorer
from moslens.serve import Settings

JPEG = encode(photo(), "JPEG")
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
CAT = "猫.jpg"
PREFIX = "/iqa/"


@pytest.fixture(scope="module")
def scorer(tiny_model: Path) -> Scorer:
    return MapScorer(tiny_model, threads=1)


@pytest.fixture(scope="module")
def url(scorer: Scorer) -> Iterator[str]:
    with served(scorer) as address:
        yield address


@contextmanager
def behind_a_prefix(target: str) -> Iterator[str]:
    """A reverse proxy that has ``target`` under PREFIX and nothing else; its address with the prefix."""
    service = urlsplit(target)

    class Proxy(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not self.path.startswith(PREFIX):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            connection = http.client.HTTPConnection(service.hostname or "", service.port, timeout=60)
            connection.request(self.command, "/" + self.path.removeprefix(PREFIX), body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name in ("content-type", "content-security-policy"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_POST = forward

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    finally:
        server.shutdown()
        server.server_close()


class TestPrefix:
    def test_everything_that_the_pages_name_is_found_behind_a_prefix(self, url: str) -> None:
        with behind_a_prefix(url) as page:
            assert ask(urljoin(page, "/static/style.css")).status == 404, "the proxy passes nothing else on"
            pending, seen = [page], set()
            while pending:
                address = pending.pop()
                answer = ask(address)
                assert answer.status == 200, address
                seen.add(address.removeprefix(page))
                text = answer.body.decode("utf-8", "replace")
                named = re.findall(r'(?:href|src)="([^"]*)"', text) if "html" in answer.headers["content-type"] else []
                if address.endswith(".js"):
                    named = re.findall(r'from "([^"]*)"', text)
                pending += {urljoin(address, name) for name in named} - {page + one for one in seen} - set(pending)
        assert {"", "docs", "openapi.json", "static/main.js", "static/api.js", "static/style.css"} <= seen

    def test_the_calls_of_the_page_work_behind_a_prefix(self, url: str) -> None:
        script = ask(f"{url}/static/api.js").body.decode()
        calls = re.findall(r"[\"`](/?v1/[a-z]+)", script)
        assert sorted(calls) == ["v1/models", "v1/score"]
        with behind_a_prefix(url) as page:
            assert ask(urljoin(page, "v1/models")).json()[0]["maps"] is True
            (row,) = post(urljoin(page, "v1/score") + "?map=true&overlay=false", [(CAT, JPEG)]).json()
        assert (row["path"], row["status"]) == (CAT, "ok")

    def test_the_address_in_the_description_is_beside_it(self, url: str) -> None:
        (server,) = ask(f"{url}/openapi.json").json()["servers"]
        assert urljoin(f"http://host{PREFIX}openapi.json", server["url"]) == f"http://host{PREFIX}"


class TestDocumentation:
    def test_the_page_shows_every_call_and_loads_nothing_from_elsewhere(self, url: str) -> None:
        answer = ask(f"{url}/docs")
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        text = answer.body.decode()
        document = ask(f"{url}/openapi.json").json()
        for path, methods in document["paths"].items():
            for method, call in methods.items():
                assert f"<code>{method.upper()} {path}</code>" in text
                for status in call["responses"]:
                    assert f"<code>{status}</code>" in text
        for word in ("multipart/form-data", "image/*", "application/octet-stream", "overlay", "worst_block"):
            assert word in text
        assert "http:" not in text
        assert "https:" not in text
        assert "<script" not in text
        assert len(answer.body) < 40_000

    @pytest.mark.parametrize(
        "path", ["/", "/docs", "/openapi.json", "/healthz", "/v1/models", "/metrics", "/static/main.js"]
    )
    def test_head_works_where_get_does(self, url: str, path: str) -> None:
        found, head = ask(f"{url}{path}"), ask(f"{url}{path}", "HEAD")
        assert (found.status, head.status, head.body) == (200, 200, b"")
        assert head.headers["content-type"] == found.headers["content-type"]
        if path != "/metrics":  # it counts the requests
            assert head.headers["content-length"] == str(len(found.body))


class TestOtherOrigins:
    def test_no_other_origin_is_allowed_unless_told(self, url: str) -> None:
        answer = ask(f"{url}/v1/models", headers={"Origin": "https://example.org"})
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]

    @pytest.mark.parametrize(
        ("allowed", "origin", "answered"),
        [
            (("https://a.org", "https://b.org:8443"), "https://b.org:8443", "https://b.org:8443"),
            (("https://a.org",), "https://a.org.evil.com", None),
            (("https://a.org",), "http://a.org", None),
            (("*",), "https://anyone.org", "*"),
        ],
    )
    def test_origins_that_are_named_may_call(
        self, scorer: Scorer, allowed: tuple[str, ...], origin: str, answered: str | None
    ) -> None:
        with served(scorer, Settings(cors_origins=allowed)) as url:
            sent = {"Origin": origin, "Content-Type": "image/jpeg"}
            answer = ask(f"{url}/v1/score", "POST", JPEG, sent)
            assert answer.status == 200
            assert answer.headers.get("access-control-allow-origin") == answered
            refusal = ask(f"{url}/v1/score", "POST", b"{}", {"Origin": origin, "Content-Type": "application/json"})
            assert (refusal.code, refusal.headers.get("access-control-allow-origin")) == ("not_multipart", answered)
            asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
            preflight = ask(f"{url}/v1/score", "OPTIONS", None, {"Origin": origin, **asked})
            assert (preflight.status == 200) == (answered is not None)


class TestBodies:
    @pytest.mark.parametrize("field", ["file", "files", "image"])
    def test_fields_by_several_names(self, url: str, field: str) -> None:
        body = form([("a.jpg", JPEG), ("b.jpg", b"text")], field)
        rows = ask(f"{url}/v1/score", "POST", body, MULTIPART).json()
        assert [(row["path"], row["status"]) for row in rows] == [("a.jpg", "ok"), ("b.jpg", "error")]
        explained = ask(f"{url}/v1/explain", "POST", form([("a.jpg", JPEG)], field), MULTIPART).json()
        assert explained["score"] == pytest.approx(rows[0]["score"], abs=1e-4)

    @pytest.mark.parametrize("kind", ["image/jpeg", "image/*", "IMAGE/PNG; q=1", "application/octet-stream"])
    def test_a_body_that_is_a_picture(self, url: str, scorer: Scorer, kind: str) -> None:
        expected = scorer.score(JPEG).score
        (row,) = ask(f"{url}/v1/score", "POST", JPEG, {"Content-Type": kind}).json()
        assert (row["path"], row["score"]) == (None, pytest.approx(expected, abs=1e-4))
        named = f"?path={quote(f'a b/{CAT}')}"
        (row,) = ask(f"{url}/v1/score{named}", "POST", JPEG, {"Content-Type": kind}).json()
        assert (row["path"], row["status"]) == (f"a b/{CAT}", "ok")
        explained = ask(f"{url}/v1/explain{named}", "POST", JPEG, {"Content-Type": kind}).json()
        assert (explained["path"], explained["score"]) == (f"a b/{CAT}", pytest.approx(expected, abs=1e-4))

    def test_a_name_in_the_query_keeps_its_bytes(self, url: str) -> None:
        (row,) = ask(f"{url}/v1/score?path=x%FFy.jpg", "POST", JPEG, {"Content-Type": "image/jpeg"}).json()
        assert row["path"] == "x\ufffdy.jpg"
        assert base64.b64decode(row["path_base64"]) == b"x\xffy.jpg"

    def test_what_is_no_picture_is_a_row(self, url: str) -> None:
        for body, code in ((b"", "empty"), (b"text", "not_an_image")):
            (row,) = ask(f"{url}/v1/score", "POST", body, {"Content-Type": "image/png"}).json()
            assert row["error"]["code"] == code
            answer = ask(f"{url}/v1/explain", "POST", body, {"Content-Type": "image/png"})
            assert (answer.status, answer.code) == (422, code)

    def test_limits_hold_for_a_body_that_is_a_picture(self, url: str, scorer: Scorer) -> None:
        parts = urlsplit(url)
        for call in ("score", "explain"):
            with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as connection:
                head = f"POST /v1/{call} HTTP/1.1\r\nHost: x\r\nContent-Length: {33 * 2**20}\r\n"
                connection.sendall(f"{head}Content-Type: image/jpeg\r\n\r\n".encode())
                assert b" 413 " in connection.recv(4096)
            chunks = (bytes(2**20) for _ in range(40))
            answer = ask(f"{url}/v1/{call}", "POST", chunks, {"Content-Type": "image/jpeg"})
            assert (answer.status, answer.code) == (413, "body_too_large")
        with served(scorer, Settings(timeout=0.4, max_buffered=50_000)) as small:
            slow = {"Content-Type": "image/jpeg", "Content-Length": "40000"}
            assert ask(f"{small}/v1/score", "POST", JPEG[:200], slow).code == "upload_timeout"
            full = ask(f"{small}/v1/score", "POST", bytes(60_000), {"Content-Type": "image/jpeg"})
            assert (full.status, full.code) == (503, "busy")


WORD = f"=?utf-8?B?{base64.b64encode(CAT.encode()).decode()}?="


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (f"filename*=UTF-8''{quote(CAT)}", CAT),
        (f"filename*=utf-8'zh'{quote(CAT).lower()}; filename=\"cat.jpg\"", CAT),
        (f"filename=\"cat.jpg\"; filename*=UTF-8''{quote(CAT)}", CAT),
        (f"filename=\"{WORD}\"; filename*=utf-8''{quote(CAT)}", CAT),
        (f'filename="{WORD}"', CAT),
        (f"filename={WORD}", CAT),
        ('filename="=?UTF-8?Q?caf=C3=A9?= =?iso-8859-1?Q?_=E9.jpg?="', "café é.jpg"),
        ("filename*=iso-8859-1''caf%E9.jpg", "café.jpg"),
        ("filename*=\"UTF-8''%C3%A4.jpg\"", "ä.jpg"),
        ("filename*0=a-very-; filename*1=long.jpg", "a-very-long.jpg"),
        ("filename*0*=UTF-8''%C3%A4; filename*1=-b; filename*2*=%C3%A9.jpg", "ä-bé.jpg"),
        ("filename*=klingon''a.jpg; filename=b.jpg", "b.jpg"),
        ('filename="=?klingon?B?AAAA?="', "=?klingon?B?AAAA?="),
        ('filename="=?utf-8?B?/?="', "=?utf-8?B?/?="),
        ("filename=\"a; filename*=UTF-8''b.jpg\"", "a; filename*=UTF-8''b.jpg"),
        ('filename="is it =?utf-8?B?YQ==?= or not.jpg"', "is it =?utf-8?B?YQ==?= or not.jpg"),
    ],
)
def test_names_however_they_are_encoded(url: str, given: str, name: str) -> None:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; {given}\r\n\r\n'.encode()
    body = head + JPEG + f"\r\n--{BOUNDARY}--\r\n".encode()
    (row,) = ask(f"{url}/v1/score", "POST", body, MULTIPART).json()
    assert (row["path"], row["status"]) == (name, "ok")


def part(data: bytes, *lines: str, name: str = 'name="file"; filename="a.jpg"') -> bytes:
    head = "\r\n".join((f"Content-Disposition: form-data; {name}", *lines))
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


class TestCodings:
    @pytest.mark.parametrize(
        ("coding", "data"),
        [
            ("base64", base64.b64encode(JPEG)),
            ("BASE64", base64.encodebytes(JPEG).replace(b"\n", b"\r\n")),
            ("quoted-printable", quopri.encodestring(JPEG)),
            ("binary", JPEG),
            ("8bit", JPEG),
        ],
    )
    def test_a_part_may_be_encoded_as_in_mail(self, url: str, scorer: Scorer, coding: str, data: bytes) -> None:
        body = part(data, "Content-Type: image/jpeg", f"content-transfer-encoding: {coding}") + END
        (row,) = ask(f"{url}/v1/score", "POST", body, MULTIPART).json()
        assert row["score"] == pytest.approx(scorer.score(JPEG).score, abs=1e-4)

    def test_broken_base64_is_refused(self, url: str) -> None:
        body = part(b"*" + base64.b64encode(JPEG), "Content-Transfer-Encoding: base64") + END
        answer = ask(f"{url}/v1/score", "POST", body, MULTIPART)
        assert (answer.status, answer.code) == (400, "bad_multipart")

    @pytest.mark.parametrize("kind", ["image/jpeg", MULTIPART["Content-Type"]])
    def test_a_compressed_body_is_refused_in_words(self, url: str, kind: str) -> None:
        sent = {"Content-Type": kind, "Content-Encoding": "gzip"}
        answer = ask(f"{url}/v1/score", "POST", gzip.compress(form([("a.jpg", JPEG)])), sent)
        assert (answer.status, answer.code) == (415, "not_multipart")
        assert "gzip" in answer.json()["error"]["message"]
        plain = ask(f"{url}/v1/score", "POST", JPEG, {"Content-Type": "image/jpeg", "Content-Encoding": "identity"})
        assert plain.status == 200


class TestOddForms:
    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (part(b"x", name="") + part(JPEG) + END, MULTIPART["Content-Type"]),
            (part(JPEG) + END, f'Multipart/Form-Data; charset=utf-8; Boundary="{BOUNDARY}"'),
            (b"\r\n\r\n" + part(JPEG) + END, MULTIPART["Content-Type"]),
            (part(JPEG) + END + b"\r\nan epilogue", MULTIPART["Content-Type"]),
        ],
        ids=["a part without a name", "a quoted boundary", "empty lines in front", "an epilogue"],
    )
    def test_they_are_read(self, url: str, body: bytes, kind: str) -> None:
        rows = ask(f"{url}/v1/score", "POST", body, {"Content-Type": kind}).json()
        assert [(row["path"], row["status"]) for row in rows] == [("a.jpg", "ok")]

    @pytest.mark.parametrize("boundary", ["", "=", "\xe9", "x" * 5000, '"unclosed'])
    def test_boundaries_that_are_none_are_no_fault_of_the_service(self, url: str, boundary: str) -> None:
        sent = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        assert ask(f"{url}/v1/score", "POST", part(JPEG) + END, sent).status in (400, 415)
