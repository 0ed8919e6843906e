"""The Open Inference Protocol: the same scores and limits as our own calls, checked with Triton's client."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the serve extra")
pytest.importorskip("prometheus_client", reason="needs the serve extra")

from helpers.hostile import encode, photo
from helpers.serving import Answer, ask, served
from moslens.scoring.scorer import Scorer
from moslens.serve import Settings
from moslens.serve.open_inference import MOST_VALUES, parse
from moslens.serve.refusal import Refusal

PICTURES = [encode(photo(), "JPEG"), encode(photo(120, 90), "PNG")]
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def scorer(tiny_model: Path) -> Scorer:
    return Scorer(tiny_model, threads=1)


@pytest.fixture(scope="module")
def url(scorer: Scorer) -> Iterator[str]:
    with served(scorer, Settings(max_files=3, max_body=4 << 20, max_pixels=100_000)) as address:
        yield address


def tensor(pictures: list[bytes], **changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return {"name": "image", "shape": [len(pictures)], "datatype": "BYTES", "data": data} | changes


def infer(url: str, tree: Any, tail: bytes = b"", headers: dict[str, str] | None = None, path: str = INFER) -> Answer:
    head = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    length = {"Inference-Header-Content-Length": str(len(head))} if tail else {}
    return ask(url + path, "POST", head + tail, length | (headers or {}))


def binary(pictures: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)


def refused(answer: Answer) -> tuple[int, str]:
    """Status and code, after a check that the error is a text, as the protocol has it."""
    found = answer.json()
    assert set(found) == {"error", "code"}
    assert isinstance(found["error"], str)
    return answer.status, found["code"]


class TestMetadata:
    def test_health_and_the_model(self, url: str, scorer: Scorer) -> None:
        assert ask(f"{url}/v2/health/live").json() == {"live": True}
        assert ask(f"{url}/v2/health/ready").json() == {"ready": True}
        assert ask(f"{url}/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
        assert ask(f"{url}/v2").json()["extensions"] == ["binary_tensor_data"]
        assert ask(f"{url}/v2/models/tiny").json() == {
            "name": "tiny",
            "versions": [scorer.model_id.partition("@")[2]],
            "platform": "moslens",
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": "score", "datatype": "FP32", "shape": [-1]},
                {"name": "interval", "datatype": "FP32", "shape": [-1, 2]},
            ],
        }
        head = ask(f"{url}/v2/health/ready", "HEAD")
        assert (head.status, head.body) == (200, b"")

    def test_another_model_and_another_address(self, url: str) -> None:
        for path in ("/v2/models/other", "/v2/models/other/ready"):
            assert refused(ask(url + path)) == (404, "no_model")
        assert refused(infer(url, {}, path="/v2/models/other/infer")) == (404, "no_model")
        assert refused(ask(f"{url}/v2/repository/index")) == (404, "not_found")
        assert refused(ask(url + INFER)) == (405, "method_not_allowed")


class TestInfer:
    def test_pictures_in_json_score_as_ever(self, url: str, scorer: Scorer) -> None:
        answer = infer(url, {"id": "seven", "inputs": [tensor(PICTURES)]}).json()
        scores = [scorer.score(picture) for picture in PICTURES]
        assert answer["id"] == "seven"
        assert f"{answer['model_name']}@{answer['model_version']}" == scorer.model_id
        score, interval = answer["outputs"]
        assert score == {
            "name": "score", "datatype": "FP32", "shape": [2], "data": [round(one.score, 6) for one in scores],
        }  # fmt: skip
        assert interval["shape"] == [2, 2]
        assert interval["data"] == [round(bound, 6) for one in scores for bound in (one.low, one.high)]

    def test_a_batch_of_one_a_picture_and_one_output(self, url: str) -> None:
        tree = {"inputs": [tensor(PICTURES, shape=[2, 1])], "outputs": [{"name": "score"}]}
        tree["inputs"][0]["data"] = [[text] for text in tree["inputs"][0]["data"]]
        (output,) = infer(url, tree).json()["outputs"]
        assert output["shape"] == [2]

    def test_binary_data_in_and_out(self, url: str, scorer: Scorer) -> None:
        tail = binary(PICTURES)
        image = {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
        outputs = [{"name": "interval", "parameters": {"binary_data": True}}, {"name": "score"}]
        answer = infer(url, {"inputs": [image], "outputs": outputs}, tail)
        length = int(answer.headers["inference-header-content-length"])
        interval, score = json.loads(answer.body[:length])["outputs"]
        scores = [scorer.score(picture) for picture in PICTURES]
        assert score["data"] == [round(one.score, 6) for one in scores]
        assert interval["parameters"] == {"binary_data_size": 16}
        found = np.frombuffer(answer.body[length:], "<f4").reshape(2, 2)
        assert found == pytest.approx(np.array([(one.low, one.high) for one in scores]), abs=1e-4)

    def test_a_picture_that_fails_fails_its_request_and_is_named(self, url: str) -> None:
        for bad, status, code in (
            (PICTURES[0][:-400], 422, "truncated"),
            (b"no picture", 422, "not_an_image"),
            (b"", 422, "empty"),
            (encode(photo(400, 300), "PNG"), 413, "too_large"),
        ):
            answer = infer(url, {"inputs": [tensor([PICTURES[0], bad])]})
            assert refused(answer) == (status, code)
            assert answer.json()["error"].startswith("picture 1: ")


class TestRefusals:
    def test_the_limits_are_those_of_our_own_calls(self, url: str) -> None:
        assert refused(infer(url, {"inputs": [tensor(PICTURES[:1] * 4)]})) == (413, "too_many_files")
        assert refused(infer(url, b"x" * (5 << 20))) == (413, "body_too_large")
        assert refused(infer(url, {}, headers={"Content-Encoding": "gzip"})) == (415, "not_multipart")
        assert refused(infer(url, {}, headers={"Inference-Header-Content-Length": "many"})) == (422, "bad_query")

    @pytest.mark.parametrize(
        "tree",
        [
            b"", b"\xff", b"null", b"[" * 5000, b"{}", b'{"inputs": 3}', b'{"inputs": [3]}', b'{"inputs": []}',
            b"9" * 5000,
            {"inputs": [tensor(PICTURES), tensor(PICTURES)]},
            {"inputs": [tensor(PICTURES, name="x")]},
            {"inputs": [tensor(PICTURES, datatype="UINT8")]},
            {"inputs": [tensor(PICTURES, shape=[3])]},
            {"inputs": [tensor(PICTURES, shape=[0])]},
            {"inputs": [tensor(PICTURES, shape=[True])]},
            {"inputs": [tensor(PICTURES, shape=[])]},
            {"inputs": [tensor(PICTURES, shape=[2, 2])]},
            {"inputs": [tensor(PICTURES, data=["%", "%"])]},
            {"inputs": [tensor(PICTURES, data=["é", "é"])]},
            {"inputs": [tensor(PICTURES, data=[1, 2])]},
            {"inputs": [tensor(PICTURES, data=None)]},
            {"inputs": [tensor(PICTURES, parameters=[])]},
            {"inputs": [tensor(PICTURES, parameters={"binary_data_size": 7})]},
            {"inputs": [tensor(PICTURES)], "id": 3},
            {"inputs": [tensor(PICTURES)], "outputs": [{"name": "other"}]},
            {"inputs": [tensor(PICTURES)], "outputs": [{"name": "score"}, {"name": "score"}]},
            {"inputs": [tensor(PICTURES)], "outputs": [{"name": ["score"]}]},
        ],
    )  # fmt: skip
    def test_what_is_no_request(self, tree: Any) -> None:
        body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
        with pytest.raises(Refusal) as found:
            parse(body, None, 3)
        assert found.value.code == "bad_inference"

    @pytest.mark.parametrize("tail", [b"\x01", struct.pack("<I", 9) + b"12345678", struct.pack("<I", 2**32 - 1)])
    def test_binary_data_that_end_too_early(self, tail: bytes) -> None:
        image = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
        head = json.dumps({"inputs": [image]}).encode()
        for length in (len(head), len(head) + len(tail) + 1, 0):
            with pytest.raises(Refusal) as found:
                parse(head + tail, length, 3)
            assert found.value.code == "bad_inference"

    def test_millions_of_values_in_a_small_body_are_not_made(self) -> None:
        with pytest.raises(Refusal, match="too many values"):
            parse(b'{"inputs": [' + b"{}," * MOST_VALUES + b"{}]}", None, 3)


class TestTritonClient:
    """``tritonclient[http]`` finds everything where it looks for it."""

    @pytest.fixture
    def client(self, url: str) -> Iterator[Any]:
        http = pytest.importorskip("tritonclient.http", reason="needs tritonclient: pip install '.[dev]'")
        client = http.InferenceServerClient(urlsplit(url).netloc)
        yield client
        client.close()

    def test_health_and_metadata(self, client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "moslens"
        assert client.get_model_metadata("tiny")["inputs"][0]["datatype"] == "BYTES"

    @pytest.mark.parametrize("as_binary", [True, False])
    def test_scores(self, client: Any, scorer: Scorer, as_binary: bool) -> None:
        from tritonclient import http

        elements = PICTURES if as_binary else [base64.b64encode(picture) for picture in PICTURES]
        image = http.InferInput("image", [2], "BYTES")
        image.set_data_from_numpy(np.array(elements, object), binary_data=as_binary)
        wanted = [http.InferRequestedOutput("score", binary_data=as_binary)]
        scores = [scorer.score(picture) for picture in PICTURES]
        for outputs in (wanted, None):
            result = client.infer("tiny", [image], outputs=outputs, request_id="7")
            assert result.get_response()["id"] == "7"
            assert result.as_numpy("score") == pytest.approx(np.array([one.score for one in scores]), abs=1e-4)
        assert result.as_numpy("interval").shape == (2, 2)
        assert result.as_numpy("score").dtype == np.float32

    def test_an_error_is_the_client_s_own(self, client: Any) -> None:
        from tritonclient import http
        from tritonclient.utils import InferenceServerException

        image = http.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([b"no picture"], object))
        with pytest.raises(InferenceServerException, match=r"\[422\] picture 0: ") as found:
            client.infer("tiny", [image])
        assert found.value.status() == "422"
