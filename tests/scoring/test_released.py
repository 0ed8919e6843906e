"""The model inside the package: it is the one its card and README speak of, and it ranks real photos."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image, ImageDraw

import moslens
from helpers.paths import ROOT
from moslens.metrics import srcc
from moslens.scoring import quality_map
from moslens.scoring.card import DEFAULT_MODEL, Card, find_model

PHOTOS = ROOT / "examples" / "photos"


@pytest.fixture(scope="module")
def card() -> Card:
    return Card.read(find_model())


def opinion_scores() -> dict[str, float]:
    """MOS of the example photos, as the notice beside them states it."""
    text = (PHOTOS / "NOTICE.txt").read_text("utf-8").partition("--")[0]
    return {name: float(mos) for name, mos in re.findall(r"(livec_\d+\.jpg)\s+(\d+\.\d)", text)}


def test_example_photos_are_ranked_and_placed_as_people_did(card: Card) -> None:
    mos = opinion_scores()
    assert len(mos) == len(list(PHOTOS.glob("*.jpg"))) == 6
    scores = [moslens.Scorer().score(PHOTOS / name) for name in mos]
    assert srcc([s.score for s in scores], list(mos.values())) >= 0.8
    inside = [s.low <= value <= s.high for s, value in zip(scores, mos.values(), strict=True)]
    assert sum(inside) >= 5
    assert all(s.model == card.id for s in scores)


def test_the_card_repeats_committed_figures_and_keeps_its_promise(card: Card) -> None:
    record = card.record
    for name, entry in record["metrics"].items():
        committed = json.loads((ROOT / entry["source"]).read_text("utf-8"))
        assert committed["name"] == name
        assert entry["median"] == committed["median"]
    assert record["metrics"]
    assert 0.87 <= record["calibration"]["measured_coverage"] <= 0.94
    assert "University of Texas" in record["licence"]
    assert any(
        "results/severity.json" in limit and "Negatives" in limit and "darkening" in limit for limit in record["limits"]
    )


def test_weights_stay_small(card: Card) -> None:
    assert card.folder.name == DEFAULT_MODEL
    assert (card.folder / card.file).stat().st_size <= 25 * 2**20


def test_scoring_imports_no_torch_and_opens_no_connection() -> None:
    code = f"""
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("a connection was tried")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import moslens
result = moslens.Scorer().score({str(PHOTOS / "livec_571.jpg")!r})
assert 0 < result.score < 100
assert "torch" not in sys.modules and "scipy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_low_score_is_evidence_for_a_fault_in_photos_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    label = quality_map.label_blocks

    def watched(*arguments: Any, score: float | None, **options: Any) -> Any:
        seen.append(score)
        return label(*arguments, score=score, **options)

    monkeypatch.setattr(quality_map, "label_blocks", watched)
    logo = Image.new("RGB", (500, 500), "white")
    ImageDraw.Draw(logo).ellipse((60, 60, 440, 440), fill=(220, 40, 40))
    scorer = moslens.Scorer()
    assert "not_a_photo" in scorer.explain(logo).notes
    photo = scorer.explain(PHOTOS / "livec_680.jpg")
    assert seen == [None, photo.score]
    assert photo.score < 20
    assert [row["group"] for row in photo.distortions] == ["blur"]
    assert all(row["share"] >= 0.25 for row in photo.distortions)
