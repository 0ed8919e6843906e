"""The tutorials work word for word: every shell block, in order, in an empty folder with tiny inputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers.paths import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder with ``photos``: four small pictures, one of them a near-duplicate, and a truncated file."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, source in enumerate(sorted((ROOT / "examples" / "photos").glob("*.jpg"))[:3]):
        with Image.open(source) as photo:
            photo.resize((240, 240)).save(photos / f"{number}.jpg", quality=95)
            if number == 0:
                photo.resize((240, 240)).save(photos / "copy.jpg", quality=80)
    whole = (photos / "1.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def follow(name: str, place: Path) -> str:
    """Run every shell block of a tutorial as a reader would, with this Python's moslens; all that was printed."""
    programs = place / "bin"
    programs.mkdir()
    for command, arguments in (("python", ""), ("moslens", "-P -m moslens ")):
        script = programs / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        script.chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    blocks = BLOCK.findall((TUTORIALS / name).read_text("utf-8"))
    assert len(blocks) >= 5
    printed = ""
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=place, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    return printed


def test_every_tutorial_is_tested_here() -> None:
    text = Path(__file__).read_text("utf-8")
    names = [path.name for path in TUTORIALS.glob("*.md")]
    assert len(names) == 3
    assert [name for name in names if f'follow("{name}"' not in text] == []


@pytest.mark.slow
def test_photos_are_scored_and_shown_and_left_as_they_are(place: Path) -> None:
    (place / "photos" / "cut.jpg").unlink()  # this tutorial is about good files
    before = {path.name: path.read_bytes() for path in (place / "photos").iterdir()}
    printed = follow("score-my-photos.md", place)
    assert all(f"photos/{name}" in printed for name in before)
    assert len((place / "scores.csv").read_text("utf-8").splitlines()) == 1 + len(before)
    assert "2.jpg" in (place / "scores.html").read_text("utf-8")
    assert (place / "maps" / "index.html").is_file()
    assert {path.name: path.read_bytes() for path in (place / "photos").iterdir()} == before


@pytest.mark.slow
def test_a_data_set_is_cleaned_of_a_broken_file_and_a_copy(place: Path) -> None:
    pytest.importorskip("imagehash", reason="needs the [pick] extra")
    printed = follow("clean-my-data-set.md", place)
    assert "5 pictures, 1 broken: Counter({'truncated': 1})" in printed
    kept = (place / "keep.txt").read_text("utf-8").splitlines()
    assert len(list((place / "duplicates").rglob("*.jpg"))) == 1
    assert 1 <= len(kept) <= 3
    assert all((place / path).is_file() for path in kept)
    assert len((place / "checked.jsonl").read_text("utf-8").splitlines()) == len(kept)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # three trainings and an export of the full network
def test_a_model_is_trained_exported_and_published(place: Path) -> None:
    pytest.importorskip("torch", reason="needs the [train] extra")
    printed = follow("train-and-publish.md", place)
    card = json.loads((place / "my-model" / "card.json").read_text("utf-8"))
    assert card["name"] == "mine-all"
    assert card["trained_on"].startswith("labels.csv: 60 pictures with opinion scores from 1 to 5 (higher is better)")
    assert card["calibration"]["labels"] == {"mos_range": [1, 5], "direction": "higher"}
    assert "measured_coverage" in card["calibration"]
    assert "LIVE" not in json.dumps(card)
    assert (place / "repository" / "README.md").is_file()
    assert "data/" in printed
