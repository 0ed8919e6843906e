"""The HTTP service: rows, errors, limits and what it must never do, over real connections."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the serve extra")
pytest.importorskip("prometheus_client", reason="needs the serve extra")

from prometheus_client.parser import text_string_to_metric_families

from helpers.hostile import encode, make_odd_files, photo
from helpers.hostile_many import many_scans
from helpers.map_model import RED, make_map_model, plain
from helpers.serving import BOUNDARY, MapScorer, ask, form, post, served
from moslens.picture.windows import window_origins
from moslens.scoring.result import COLUMNS, Score
from moslens.scoring.scorer import Scorer
from moslens.serve import Settings
from moslens.serve.logs import JsonLines
from moslens.system.text import name_in

JPEG = encode(photo(), "JPEG")
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def scorer(tiny_model: Path) -> Scorer:
    return Scorer(tiny_model, threads=1)


@pytest.fixture(scope="module")
def url(scorer: Scorer) -> Iterator[str]:
    with served(scorer) as address:
        yield address


class Slow(MapScorer):
    """Scores when told to."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, threads=1)
        self.go = threading.Event()
        self.begun = 0

    def score(self, source: Any, *, max_pixels: int = 200_000_000, detail: bool = False) -> Score:
        if isinstance(source, np.ndarray):  # how the service warms up
            return super().score(source, max_pixels=max_pixels, detail=detail)
        self.begun += 1
        assert self.go.wait(90)
        return super().score(source, max_pixels=max_pixels, detail=detail)


@pytest.fixture
def slow(tiny_model: Path) -> Iterator[Slow]:
    scorer = Slow(tiny_model)
    yield scorer
    scorer.go.set()


def gauge(url: str, name: str) -> float:
    text = ask(f"{url}/metrics").body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


class TestRows:
    def test_a_file_gives_the_row_of_the_command_line(self, url: str, scorer: Scorer, photo_folder: Path) -> None:
        paths = sorted(photo_folder.iterdir())
        answer = post(f"{url}/v1/score", [(path.name, path.read_bytes()) for path in paths])
        assert answer.status == 200
        rows = answer.json()
        assert rows == [{**scorer.score(path).to_row(), "path": path.name} for path in paths]
        assert [tuple(row) for row in rows] == [COLUMNS] * len(paths)

    def test_every_odd_file_gives_its_row_and_code(self, url: str, tmp_path: Path) -> None:
        expected = {n: code for n, code in make_odd_files(tmp_path).items() if (tmp_path / n).is_file()}
        names = list(expected)
        sent = [(f"{number}.bin", (tmp_path / name).read_bytes()) for number, name in enumerate(names)]
        rows = post(f"{url}/v1/score", sent, timeout=120).json()
        assert [row["path"] for row in rows] == [name for name, _ in sent]
        found = {name: row["error"] and row["error"]["code"] for name, row in zip(names, rows, strict=True)}
        assert found == {name: code if name != "forbidden.jpg" else None for name, code in expected.items()}
        for row in rows:
            assert row["error"] is None or row["error"]["message"].startswith(f"{row['path']}: ")

    def test_names_come_back_as_sent_whatever_they_are(self, url: str) -> None:
        names = ["фото 猫 🌄.jpg", "=1+1.jpg", "../../etc/passwd", b"not utf-8 \xff.jpg", ""]
        answer = post(f"{url}/v1/score", [(name, JPEG) for name in names])
        rows = answer.json()
        assert [row["path"] for row in rows] == [*names[:3], "not utf-8 \ufffd.jpg", ""]
        assert [name_in(row) for row in rows] == [*names[:3], os.fsdecode(names[3]), ""]
        assert ["path_base64" in row for row in rows] == [False, False, False, True, False]
        assert b"\\udcff" not in answer.body

    def test_a_file_without_a_name_and_other_fields(self, url: str) -> None:
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        ).encode() + JPEG
        (row,) = ask(f"{url}/v1/score", "POST", body + f"\r\n--{BOUNDARY}--\r\n".encode(), MULTIPART).json()
        assert row["path"] is None
        assert row["status"] == "ok"

    def test_large_pictures_are_scored_too(self, url: str, scorer: Scorer) -> None:
        data = encode(photo(60, 80), "PNG")
        large = encode_large()
        rows = post(f"{url}/v1/score", [("l", large), ("s", data), ("m", large)], timeout=60).json()
        assert [row["status"] for row in rows] == ["ok"] * 3
        assert rows[0]["width"] * rows[0]["height"] > 30_000_000
        assert rows[0]["score"] == rows[2]["score"] == pytest.approx(scorer.score(large).score, abs=1e-4)

    def test_pixels_are_limited(self, scorer: Scorer) -> None:
        with served(scorer, Settings(max_pixels=1000)) as small:
            (row,) = post(f"{small}/v1/score", [("a.jpg", JPEG)]).json()
        assert row["error"]["code"] == "too_large"


def encode_large() -> bytes:
    return encode(Image.new("L", (7000, 5000), 90), "PNG")


class TestExplain:
    def test_the_map_is_that_of_the_scorer_and_lies_over_the_picture(self, tmp_path: Path) -> None:
        scorer = Scorer(make_map_model(tmp_path / "colours"), threads=1)
        picture = plain(600, 300)
        picture[:, 300:] = RED
        data = encode(picture, "PNG")
        with served(scorer) as url:
            assert ask(f"{url}/v1/models").json()[0]["maps"] is True
            answer = post(f"{url}/v1/explain", [("half.png", data)]).json()
            (row,) = post(f"{url}/v1/score", [("half.png", data)]).json()
        overlay = answer.pop("overlay")
        assert answer == {**scorer.explain(data).to_dict(), "path": "half.png"}
        assert answer["score"] == row["score"]
        assert row["distortions"][0]["kind"] == "jpeg"
        blocks = answer["grid"]["blocks"]
        assert {block["kind"] for block in blocks if block["x"] == 0} == {None}
        assert {block["kind"] for block in blocks if block["x"] + block["width"] == 600} == {"jpeg"}
        shown = Image.open(io.BytesIO(base64.b64decode(overlay.removeprefix("data:image/png;base64,"))))
        assert shown.size == (1024, 512)

    def test_the_map_comes_with_its_overlay(self, tiny_model: Path) -> None:
        with served(MapScorer(tiny_model, threads=1)) as url:
            assert ask(f"{url}/v1/models").json()[0]["maps"] is True
            answer = post(f"{url}/v1/explain", [("a.jpg", JPEG)]).json()
            assert answer["path"] == "a.jpg"
            assert answer["overlay"].startswith("data:image/png;base64,iVBOR")
            assert sum(block["width"] * block["height"] for block in answer["grid"]["blocks"]) == 128 * 96
            bad = post(f"{url}/v1/explain", [("a.jpg", b"text")])
            assert (bad.status, bad.code) == (422, "not_an_image")
            assert bad.json()["error"]["message"].startswith("a.jpg: ")
            assert post(f"{url}/v1/explain", [("a", JPEG), ("b", JPEG)]).code == "one_file"

    def test_a_model_without_maps_says_so(self, url: str) -> None:
        answer = post(f"{url}/v1/explain", [("a.jpg", JPEG)])
        assert (answer.status, answer.code) == (409, "no_map")
        assert ask(f"{url}/v1/models").json()[0]["maps"] is False


@pytest.fixture(scope="module")
def map_scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(make_map_model(tmp_path_factory.mktemp("maps") / "colours"), threads=1)


@pytest.fixture(scope="module")
def map_url(map_scorer: Scorer) -> Iterator[str]:
    with served(map_scorer) as address:
        yield address


def half_red() -> bytes:
    picture = plain(600, 300)
    picture[:, 300:] = RED
    return encode(picture, "PNG")


class TestMapInRow:
    def test_the_row_has_the_answer_of_explain(self, map_url: str) -> None:
        sent = [("half.png", half_red())]
        (row,) = post(f"{map_url}/v1/score?map=true", sent).json()
        explanation = post(f"{map_url}/v1/explain", sent).json()
        assert row.pop("map") == explanation
        assert explanation["overlay"].startswith("data:image/png;base64,iVBOR")
        assert [row] == post(f"{map_url}/v1/score", sent).json()
        assert [row] == post(f"{map_url}/v1/score?map=false", sent).json()

    def test_the_drawing_can_be_left_out(self, map_url: str) -> None:
        sent = [("half.png", half_red())]
        (row,) = post(f"{map_url}/v1/score?map=true&overlay=false", sent).json()
        explanation = post(f"{map_url}/v1/explain", sent).json()
        del explanation["overlay"]
        assert row["map"] == explanation

    @pytest.mark.parametrize("query", ["", "?map=true", "?map=true&overlay=false"])
    def test_the_model_sees_every_window_once(
        self, map_url: str, map_scorer: Scorer, monkeypatch: pytest.MonkeyPatch, query: str
    ) -> None:
        run, runs = map_scorer.model.run, []
        monkeypatch.setattr(map_scorer.model, "run", lambda *args: runs.append(args) or run(*args))
        (row,) = post(f"{map_url}/v1/score{query}", [("half.png", half_red())]).json()
        assert row["status"] == "ok"
        assert len(runs) == len(list(window_origins(256, 512)))  # the working size of 600 x 300

    def test_detail_is_given_where_it_is_asked_for(self, map_url: str) -> None:
        large = plain(1300, 1100)
        large[:, 600:] = RED
        sent = [("large.png", encode(large, "PNG"))]
        (without,) = post(f"{map_url}/v1/score", sent).json()
        (row,) = post(f"{map_url}/v1/score?detail=1", sent).json()
        assert without["detail"] is None
        assert {**row, "detail": None} == without
        assert 1 <= len(row["detail"]["tiles"]) <= 6
        assert [each["label"] for each in row["detail"]["distortions"]] == ["JPEG artefacts"]
        (both,) = post(f"{map_url}/v1/score?detail=true&map=true&overlay=false", sent).json()
        assert both["detail"] == both["map"]["detail"] == row["detail"]
        assert post(f"{map_url}/v1/explain?detail=true", sent).json()["detail"] == row["detail"]
        (small,) = post(f"{map_url}/v1/score?detail=true", [("half.png", half_red())]).json()
        assert small["detail"] is None

    def test_one_picture_a_request_where_maps_are_drawn(self, map_url: str) -> None:
        sent = [("a.png", half_red()), ("b.jpg", b"text"), ("c.jpg", JPEG)]
        answer = post(f"{map_url}/v1/score?map=true", sent)
        assert (answer.status, answer.code) == (400, "one_file")
        rows = post(f"{map_url}/v1/score?map=true&overlay=false", sent).json()
        assert [row["status"] for row in rows] == ["ok", "error", "ok"]
        assert [row["map"] and row["map"]["path"] for row in rows] == ["a.png", None, "c.jpg"]
        plain_rows = [{name: row[name] for name in COLUMNS} for row in rows]
        assert plain_rows == post(f"{map_url}/v1/score", sent).json()

    def test_a_model_without_maps_gives_its_score_and_null(self, url: str) -> None:
        (row,) = post(f"{url}/v1/score?map=true", [("a.jpg", JPEG)]).json()
        assert row.pop("map") is None
        assert [row] == post(f"{url}/v1/score", [("a.jpg", JPEG)]).json()

    @pytest.mark.parametrize("query", ["map=perhaps", "map=true&overlay=", "overlay=2"])
    def test_a_value_that_is_no_boolean_is_refused(self, map_url: str, query: str) -> None:
        answer = post(f"{map_url}/v1/score?{query}", [("a.jpg", JPEG)])
        assert (answer.status, answer.code) == (422, "bad_query")
        assert query.rpartition("&")[2].partition("=")[0] in answer.json()["error"]["message"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "headers", "status", "code"),
        [
            (b"", {}, 415, "not_multipart"),
            (b"{}", {"Content-Type": "application/json"}, 415, "not_multipart"),
            (b"x", {"Content-Type": "multipart/form-data"}, 415, "not_multipart"),
            (b"", MULTIPART, 400, "bad_multipart"),
            (b"no boundary at all", MULTIPART, 400, "bad_multipart"),
            (form([("a.jpg", JPEG)])[:-40], MULTIPART, 400, "bad_multipart"),
            (form([("a.jpg", JPEG)], field="picture"), MULTIPART, 400, "no_file"),
            (form([("a" * 40_000, JPEG)]), MULTIPART, 400, "bad_multipart"),
            (form([("a.jpg", b"")] * 101), MULTIPART, 413, "too_many_files"),
            (form([("a.jpg", b"")] * 300, field="x"), MULTIPART, 413, "too_many_files"),
        ],
        ids=range(10),
    )
    def test_bodies_that_are_no_uploads(
        self, url: str, body: bytes, headers: dict[str, str], status: int, code: str
    ) -> None:
        answer = ask(f"{url}/v1/score", "POST", body, headers)
        assert (answer.status, answer.code) == (status, code)

    def test_addresses_and_methods(self, url: str) -> None:
        assert ask(f"{url}/v1/nothing").code == "not_found"
        answer = ask(f"{url}/v1/score")
        assert (answer.status, answer.code, answer.headers["allow"]) == (405, "method_not_allowed", "POST")

    def test_a_body_over_the_limit_is_refused_by_its_length_alone(self, url: str) -> None:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as connection:
            head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {33 * 2**20}\r\n"
            connection.sendall(f"{head}Content-Type: {MULTIPART['Content-Type']}\r\n\r\n".encode())
            assert b" 413 " in connection.recv(4096)

    @pytest.mark.parametrize("query", ["", "?map=true"])
    def test_a_body_over_the_limit_in_chunks_is_cut_off(self, url: str, query: str) -> None:
        sent = 0

        def chunks() -> Iterator[bytes]:
            nonlocal sent
            yield form([("a.jpg", b"")]).removesuffix(f"\r\n--{BOUNDARY}--\r\n".encode())
            while sent < 40 * 2**20:
                sent += 2**20
                yield bytes(2**20)

        answer = ask(f"{url}/v1/score{query}", "POST", chunks(), MULTIPART)
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"
        assert gauge(url, "moslens_buffered_bytes") == 0

    def test_uploads_over_all_requests_are_limited(self, scorer: Scorer) -> None:
        with served(scorer, Settings(max_buffered=50_000)) as url:
            answer = post(f"{url}/v1/score", [("a.jpg", bytes(60_000))])
            assert (answer.status, answer.code) == (503, "busy")
            assert int(answer.headers["retry-after"]) >= 1
            assert post(f"{url}/v1/score", [("a.jpg", JPEG)]).status == 200

    def test_a_slow_upload_is_ended(self, scorer: Scorer) -> None:
        with served(scorer, Settings(timeout=0.4)) as url:
            answer = ask(
                f"{url}/v1/score", "POST", form([("a.jpg", JPEG)])[:200], MULTIPART | {"Content-Length": "100000"}
            )
            assert (answer.status, answer.code) == (408, "upload_timeout")

    def test_work_over_the_time_limit_is_given_up(self, slow: Slow) -> None:
        with served(slow, Settings(timeout=2, workers=1)) as url:
            answer = post(f"{url}/v1/score", [("a.jpg", JPEG)] * 3)
            assert (answer.status, answer.code) == (503, "timeout")
            assert int(answer.headers["retry-after"]) >= 1
            assert gauge(url, "moslens_queue_pictures") == 0
            slow.go.set()
            assert post(f"{url}/v1/score", [("a.jpg", JPEG)]).status == 200

    @pytest.mark.parametrize("query", ["", "?map=true"])
    def test_decoding_ends_with_the_request(self, map_scorer: Scorer, query: str) -> None:
        endless = many_scans(2_000)  # less than a megabyte, half a minute of decoding
        with served(map_scorer, Settings(timeout=2, workers=1)) as url:
            assert post(f"{url}/v1/score{query}", [("a.jpg", endless)]).code == "timeout"
            start = time.monotonic()
            wait_for(lambda: gauge(url, "moslens_pictures_in_work") == 0)
            assert time.monotonic() - start < 15
            assert post(f"{url}/v1/score", [("a.jpg", JPEG)]).status == 200
            assert 'moslens_pictures_total{code="abandoned"} 1' in ask(f"{url}/metrics").body.decode()


class TestQueue:
    def test_overload_is_refused_at_once_and_accepted_work_is_done(self, slow: Slow) -> None:
        with served(slow, Settings(workers=1, queue=2)) as url:
            results: list[Any] = []
            threads = [
                threading.Thread(target=lambda: results.append(post(f"{url}/v1/score", [("a.jpg", JPEG)])))
                for _ in range(3)
            ]
            for number, thread in enumerate(threads):
                thread.start()
                wait_for(lambda wanted=number: slow.begun == 1 and gauge(url, "moslens_queue_pictures") == wanted)
            start = time.monotonic()
            refused = post(f"{url}/v1/score", [("a.jpg", JPEG)])
            assert time.monotonic() - start < 10
            assert (refused.status, refused.code) == (503, "busy")
            assert int(refused.headers["retry-after"]) >= 1
            slow.go.set()
            for thread in threads:
                thread.join(30)
            assert [answer.status for answer in results] == [200] * 3

    def test_a_client_that_leaves_takes_its_pictures_along(self, slow: Slow) -> None:
        with served(slow, Settings(workers=1)) as url:
            parts = urlsplit(url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
            connection.request("POST", "/v1/score", form([("a.jpg", JPEG)] * 5), MULTIPART)
            wait_for(lambda: slow.begun == 1 and gauge(url, "moslens_queue_pictures") == 4)
            connection.close()
            wait_for(lambda: gauge(url, "moslens_queue_pictures") == 0)
            slow.go.set()
            assert post(f"{url}/v1/score", [("a.jpg", JPEG)]).status == 200
            assert slow.begun == 2
            text = ask(f"{url}/metrics").body.decode()
            assert 'method="POST",route="/v1/score",status="499"} 1' in text

    def test_a_client_that_stops_in_its_upload_leaves_nothing_behind(self, url: str) -> None:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as connection:
            head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n{'Content-Type'}: "
            connection.sendall(f"{head}{MULTIPART['Content-Type']}\r\n\r\n".encode() + form([("a", bytes(50_000))]))
            wait_for(lambda: gauge(url, "moslens_buffered_bytes") > 50_000)
        wait_for(lambda: gauge(url, "moslens_buffered_bytes") == 0)

    def test_a_request_with_one_picture_does_not_wait_for_one_with_many(self, slow: Slow) -> None:
        done: list[str] = []
        with served(slow, Settings(workers=1)) as url:

            def send(name: str, count: int) -> None:
                assert post(f"{url}/v1/score", [(name, JPEG)] * count).status == 200
                done.append(name)

            threads = [threading.Thread(target=send, args=("many", 40)), threading.Thread(target=send, args=("one", 1))]
            for thread, waiting in zip(threads, (39, 40), strict=True):
                thread.start()
                wait_for(lambda wanted=waiting: gauge(url, "moslens_queue_pictures") == wanted)
            slow.go.set()
            for thread in threads:
                thread.join(30)
        assert done == ["one", "many"]


class TestPromises:
    def test_nothing_is_written_and_nothing_is_fetched(self, url: str) -> None:
        events: list[str] = []
        active = True
        sys.addaudithook(lambda name, args: events.append(e) if active and (e := _forbidden(name, args)) else None)
        large = encode(np.zeros((1000, 1100, 3), np.uint8), "PNG", compress_level=0)
        body = form([("http://example.com/a.jpg", large), ("file:///etc/passwd", b"http://")])
        assert len(body) > 3 * 2**20  # past what form parsers usually keep in memory
        answer = ask(f"{url}/v1/score", "POST", body, MULTIPART)
        active = False
        assert [row["status"] for row in answer.json()] == ["ok", "error"]
        assert events == []
        canary = _forbidden("open", ("x", "wb", 0)), _forbidden("socket.connect", (None, ("192.0.2.1", 80)))
        assert all(canary)

    def test_logs_are_json_lines_without_file_names(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "moslens.serve")
        answer = post(f"{url}/v1/score", [("secret name.jpg", JPEG), ("b", b"text")])

        def entries() -> list[Any]:
            lines = [JsonLines().format(record) for record in caplog.records if record.name == "moslens.serve"]
            assert not any("secret" in line for line in lines)
            # the line of an earlier test's request may come late
            return [entry for entry in map(json.loads, lines) if entry.get("id") == answer.headers["x-request-id"]]

        wait_for(lambda: len(entries()) >= 1)
        (entry,) = entries()
        assert (entry["event"], entry["pictures"]) == ("request", 2)
        assert (entry["status"], entry["path"], entry["client"]) == (200, "/v1/score", "127.0.0.1")
        assert entry["bytes"] > len(JPEG)

    def test_a_line_of_the_log_is_short_whatever_the_address(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "moslens.serve")
        assert ask(f"{url}/{'a' * 50_000}").code == "not_found"
        wait_for(lambda: any(record.fields.get("status") == 404 for record in caplog.records))
        assert all(len(JsonLines().format(record)) < 1000 for record in caplog.records)

    def test_request_ids_come_back_unless_they_are_odd(self, url: str) -> None:
        assert ask(f"{url}/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
        assert ask(f"{url}/healthz", headers={"X-Request-ID": 'a"b {}'}).headers["x-request-id"] != 'a"b {}'

    def test_a_fault_of_ours_is_a_clean_500_and_an_internal_row(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with served(MapScorer(tiny_model, threads=1)) as url:
            monkeypatch.setattr(MapScorer, "explain", lambda *args, **options: 1 / 0)
            monkeypatch.setattr(MapScorer, "score", lambda *args, **options: 1 / 0)
            answer = post(f"{url}/v1/explain", [("a.jpg", JPEG)])
            assert (answer.status, answer.code) == (500, "internal")
            (row,) = post(f"{url}/v1/score", [("a.jpg", JPEG)]).json()
            assert row["error"]["code"] == "internal"
            monkeypatch.setattr("moslens.serve.app.Service.row", lambda *args: 1 / 0)
            answer = post(f"{url}/v1/score", [("a.jpg", JPEG)])
            assert (answer.status, answer.code) == (500, "internal")
            assert b"ZeroDivision" not in answer.body

    def test_metrics_count_what_happened(self, scorer: Scorer) -> None:
        with served(scorer) as url:
            post(f"{url}/v1/score", [("a.jpg", JPEG), ("b", b"text"), ("c", b"")])
            text = ask(f"{url}/metrics").body.decode()
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert {samples["moslens_pictures_total", ("code", c)] for c in ("ok", "not_an_image", "empty")} == {1}
        assert (
            samples["moslens_picture_seconds_bucket", ("le", "+Inf")] == samples["moslens_picture_seconds_count",] == 3
        )
        assert samples["moslens_received_bytes_total",] > len(JPEG)
        described = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        assert {name for name, *_ in samples if not any(name.startswith(stem) for stem in described)} == set()

    def test_metrics_have_these_names_types_labels_and_buckets(self, scorer: Scorer) -> None:
        with served(scorer) as url:
            post(f"{url}/v1/score", [("a.jpg", JPEG)])
            answer = ask(f"{url}/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = answer.body.decode()
        types = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
        assert types == {
            "moslens_info": "gauge",
            "moslens_queue_pictures": "gauge",
            "moslens_pictures_in_work": "gauge",
            "moslens_buffered_bytes": "gauge",
            "moslens_requests_total": "counter",
            "moslens_pictures_total": "counter",
            "moslens_received_bytes_total": "counter",
            "moslens_request_seconds": "histogram",
            "moslens_picture_seconds": "histogram",
        }
        families = list(text_string_to_metric_families(text))
        assert all(family.documentation for family in families)
        labels = {sample.name: set(sample.labels) for family in families for sample in family.samples}
        assert {name: names for name, names in labels.items() if names} == {
            "moslens_info": {"model", "version"},
            "moslens_requests_total": {"route", "method", "status"},
            "moslens_pictures_total": {"code"},
            "moslens_request_seconds_bucket": {"le"},
            "moslens_picture_seconds_bucket": {"le"},
        }
        for name in ("moslens_request_seconds", "moslens_picture_seconds"):
            (family,) = (family for family in families if family.name == name)
            bounds = [float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels]
            assert bounds == [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, float("inf")]

    def test_two_services_in_one_process_count_apart(self, scorer: Scorer) -> None:
        with served(scorer) as one, served(scorer) as other:
            post(f"{one}/v1/score", [("a.jpg", JPEG)])
            assert gauge(one, "moslens_picture_seconds_count") == 1
            assert gauge(other, "moslens_picture_seconds_count") == 0

    def test_health_and_model(self, url: str, scorer: Scorer) -> None:
        health = ask(f"{url}/healthz").json()
        assert ask(f"{url}/healthz", "HEAD").status == 200
        assert (health["status"], health["model"]) == ("ok", scorer.model_id)
        (model,) = ask(f"{url}/v1/models").json()
        assert model["sha256"] == scorer.model.card.sha256
        assert model["calibration"]["coverage"] == 0.9


def _forbidden(name: str, args: Any) -> str | None:
    """What an audit event says was done, if it is one that the service must not do."""
    if name == "open" and isinstance(args[2], int):
        writing = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(str(args[1] or "")) & set("wax+")
        return f"open {args[0]}" if writing else None
    if name == "socket.connect" and args[1][0] != "127.0.0.1":
        return f"connect {args[1]}"
    return name if name in ("urllib.Request", "os.mkdir", "os.rename", "tempfile.mkstemp", "subprocess.Popen") else None


def test_the_page_and_its_files_come_from_here_with_a_strict_policy(url: str) -> None:
    page = ask(f"{url}/")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    text = page.body.decode()
    for name in ("style.css", "main.js", "icon.svg"):
        assert f'"static/{name}"' in text
        assert ask(f"{url}/static/{name}").status == 200
    again = ask(f"{url}/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    for outside in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/", "/redoc"):
        with contextlib.suppress(ConnectionError):
            assert ask(f"{url}{outside}").status == 404
