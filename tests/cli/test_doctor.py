"""What ``moslens doctor`` says of the graph and of what runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import pytest

from helpers.command import call
from helpers.tiny_model import make_tiny_model
from moslens.scoring.card import graph_metadata


def with_metadata(folder: Path, **changes: str) -> Path:
    """A model whose graph states what its card does, except for ``changes``."""
    card = json.loads((make_tiny_model(folder) / "card.json").read_text())
    graph = onnx.load(folder / "model.onnx")
    for key, value in (graph_metadata(card) | changes).items():
        graph.metadata_props.add(key=key, value=value)
    data = graph.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (folder / "card.json").write_text(json.dumps(card | {"sha256": digest, "id": f"tiny@{digest[:12]}"}))
    return folder


def doctor(model: Path) -> int:
    return call("doctor", "--model", model)


def test_the_graph_and_the_provider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(with_metadata(tmp_path / "m")) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["provider"].startswith("cpu; this onnxruntime has ")
    assert lines["graph"].startswith("states ")
    assert {"name", "range", "licence"} <= set(lines["graph"].replace(",", "").split())


def test_a_graph_that_is_not_that_of_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(with_metadata(tmp_path / "m", direction="lower is better")) == 1
    assert "the graph and its card differ in: direction" in capsys.readouterr().out


def test_a_graph_that_states_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(make_tiny_model(tmp_path / "m")) == 0
    assert "says nothing of itself" in capsys.readouterr().out
