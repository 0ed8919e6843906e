"""The OpenAPI document: complete, and the service does what it says whatever is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the serve extra")
pytest.importorskip("schemathesis", reason="needs schemathesis: pip install '.[dev]'")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from helpers.serving import MapScorer, ask, served


@pytest.fixture(scope="module")
def url(tiny_model: Path) -> Iterator[str]:
    with served(MapScorer(tiny_model, threads=1)) as address:
        yield address


FITTING, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CALLS = [
    ("POST /v1/score", FITTING), ("POST /v1/score", WRONG), ("POST /v1/explain", FITTING), ("POST /v1/explain", WRONG),
    ("GET /v1/models", FITTING), ("GET /healthz", FITTING), ("GET /metrics", FITTING),
    ("GET /v2", FITTING), ("GET /v2/health/live", FITTING), ("GET /v2/health/ready", FITTING),
    ("GET /v2/models/{name}", FITTING), ("GET /v2/models/{name}/ready", FITTING),
    ("POST /v2/models/{name}/infer", FITTING), ("POST /v2/models/{name}/infer", WRONG),
]  # fmt: skip


@pytest.mark.parametrize(("call", "mode"), CALLS)
def test_whatever_is_sent_the_answer_is_one_the_document_has(url: str, call: str, mode: GenerationMode) -> None:
    """Status, headers and schema of every answer, and no server error, for data that fits and data that does not.

    Left out are the checks that think any bytes a good picture, or a form field without a file name a wrong one.
    """
    method, path = call.split()
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")[path][method]
    sent = 0

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(excluded_checks=[checks.positive_data_acceptance, checks.negative_data_rejection])

    run()
    assert sent


def test_every_call_has_words_examples_and_its_errors(url: str) -> None:
    document = ask(f"{url}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    own = {path for path in document["paths"] if not path.startswith("/v2")}
    assert own == {"/v1/score", "/v1/explain", "/v1/models", "/healthz", "/metrics"}
    assert set(document["paths"]) - own == {
        "/v2", "/v2/health/live", "/v2/health/ready",
        "/v2/models/{name}", "/v2/models/{name}/ready", "/v2/models/{name}/infer",
    }  # fmt: skip
    for path, calls in document["paths"].items():
        for call in calls.values():
            assert call["summary"]
            assert "200" in call["responses"]
            if path not in ("/v1/score", "/v1/explain"):
                continue
            assert {"400", "408", "413", "415", "500", "503"} <= set(call["responses"])
            assert "Retry-After" in call["responses"]["503"]["headers"]
            for status, answer in call["responses"].items():
                if status != "200":
                    for code, example in answer["content"]["application/json"]["examples"].items():
                        assert example["value"]["error"]["code"] == code
            bodies = call["requestBody"]["content"]
            assert set(bodies) == {"multipart/form-data", "image/*", "application/octet-stream"}
            assert set(bodies["multipart/form-data"]["schema"]["properties"]) == {"file", "files", "image"}
            assert "path" in {each["name"] for each in call["parameters"]}
    schemas = document["components"]["schemas"]
    assert len(schemas["Row"]["examples"]) == 2
    assert schemas["Explanation"]["examples"]
