"""Execution providers: names, what is passed over and said so, and which is in use."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.tiny_model import make_photo
from moslens import Scorer
from moslens.errors import ConfigError
from moslens.scoring.providers import CPU, SHORT, session_providers, short_name, warn_of_fallback
from moslens.scoring.session import import_onnxruntime

TENSORRT = "TensorrtExecutionProvider"


def runtime(*available: str) -> Any:
    return SimpleNamespace(
        get_all_providers=lambda: [TENSORRT, *SHORT.values()], get_available_providers=lambda: [*available, CPU]
    )


def names(wanted: Any, *available: str) -> list[str]:
    return [name for name, _ in session_providers(wanted, runtime(*available))]


def test_short_and_long_names_mean_the_same_and_the_cpu_is_last() -> None:
    everything = tuple(name for name in SHORT.values() if name != CPU)
    for short, name in SHORT.items():
        assert names([short], *everything) == names([name], *everything) == list(dict.fromkeys([name, CPU]))
        assert short_name(name) == short
    assert names(["openvino", "cuda", "OpenVINOExecutionProvider"], *everything) == [
        SHORT["openvino"], SHORT["cuda"], CPU,
    ]  # fmt: skip
    assert names("cuda", *everything) == [SHORT["cuda"], CPU]
    assert names([TENSORRT], TENSORRT) == [TENSORRT, CPU]
    assert names(["cpu", "cuda"], *everything) == [CPU, SHORT["cuda"]]
    assert names(None, *everything) == names([], *everything) == [CPU]
    assert short_name(TENSORRT) == TENSORRT


def test_precision_is_never_lowered() -> None:
    given = dict(session_providers(["cuda", "openvino"], runtime(SHORT["cuda"], SHORT["openvino"])))
    assert given[SHORT["cuda"]] == {"use_tf32": "0"}
    assert given[SHORT["openvino"]] == {"precision": "ACCURACY"}
    assert given[CPU] == {}


@pytest.mark.parametrize("wrong", ["gpu", "CUDA", "", "CudaExecutionProvider"])
def test_an_unknown_name_is_refused(tiny_model: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="cpu, cuda, openvino, coreml"):
        Scorer(tiny_model, providers=[wrong])


def test_a_wrong_name_is_answered_by_the_providers_that_are_there() -> None:
    """``gpu`` is spelled like ``cpu``, which is not what was meant."""
    with pytest.raises(ConfigError) as refused:
        names(["gpu"], TENSORRT, SHORT["cuda"])
    assert str(refused.value) == (
        f"no provider 'gpu': this onnxruntime has {TENSORRT}, cuda, cpu; the names are cpu, cuda, openvino, coreml, and"
        " those of onnxruntime"
    )


def test_what_this_onnxruntime_lacks_is_passed_over_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert names(["openvino", "cuda"], SHORT["cuda"]) == [SHORT["cuda"], CPU]
    assert "no openvino: it comes with onnxruntime-openvino" in caplog.text


def test_what_could_not_be_started_is_said(caplog: pytest.LogCaptureFixture) -> None:
    asked = session_providers(["cuda"], runtime(SHORT["cuda"]))
    with caplog.at_level(logging.WARNING):
        warn_of_fallback(asked, [SHORT["cuda"], CPU])
        assert caplog.text == ""
        warn_of_fallback(asked, [CPU])
    assert "cuda could not be started; in use: cpu" in caplog.text


def test_the_scores_are_those_of_the_cpu_where_it_falls_back(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    photo = make_photo(320, 240, seed=1)
    with caplog.at_level(logging.WARNING):
        scorer = Scorer(tiny_model, providers=["cuda"])
    assert "no cuda" in caplog.text
    assert scorer.providers == Scorer(tiny_model).providers == ("cpu",)
    assert scorer.score(photo) == Scorer(tiny_model).score(photo)
    assert pickle.loads(pickle.dumps(scorer)).providers == ("cpu",)


def test_openvino_scores_as_the_cpu() -> None:
    if "OpenVINOExecutionProvider" not in import_onnxruntime().get_available_providers():
        pytest.skip("needs onnxruntime-openvino in place of onnxruntime")
    photo = make_photo(500, 400, seed=2)
    scorer = Scorer(providers=["openvino"])
    assert scorer.providers == ("openvino", "cpu")
    assert scorer.score(photo).score == pytest.approx(Scorer().score(photo).score, abs=0.1)
