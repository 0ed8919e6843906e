"""``--retry-errors``: pictures that could not be read are tried again, and nothing else is."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.command import call
from helpers.map_model import GREEN, RED, make_map_model, plain
from moslens.bulk import writers
from moslens.bulk.writers import FileWriter, drop_errors
from moslens.errors import OutputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_map_model(tmp_path_factory.mktemp("retry") / "colours")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "d.png"):
        Image.fromarray(plain(300, 260, RED)).save(folder / name)
    for name in ("a, 1.png", "c\n2.png"):
        (folder / name).write_bytes((folder / "b.png").read_bytes()[:200])
    return folder


def rows_of(file: Path) -> list[dict[str, Any]]:
    text = file.read_text()
    if file.suffix == ".csv":
        return list(csv.DictReader(text.splitlines(keepends=True)))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "page.html"])
def test_errors_are_tried_again_and_scores_stay(
    name: str, photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / name
    file = tmp_path / "page_files" / "rows.jsonl" if name.endswith("html") else output
    words = ("score", photos, "--model", model, "--output", output)
    assert call(*words) == 1
    before = rows_of(file)
    Image.fromarray(plain(300, 260, GREEN)).save(photos / "a, 1.png")
    assert call(*words, "--resume") == 1
    assert "4 had their row (2 of them errors, which --retry-errors tries again)" in capsys.readouterr().err
    assert rows_of(file) == before
    assert call(*words, "--resume", "--retry-errors") == 1
    assert "2 rows" in capsys.readouterr().err
    after = rows_of(file)
    assert len(after) == 4
    assert after[:2] == [row for row in before if row["status"] == "ok"]
    assert [(Path(row["path"]).name, row["status"]) for row in after[2:]] == [("a, 1.png", "ok"), ("c\n2.png", "error")]


def test_maps_are_tried_again(photos: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    words = ("explain", photos, "--model", model, "--output", folder)
    assert call(*words) == 1
    Image.fromarray(plain(300, 260, GREEN)).save(photos / "a, 1.png")
    assert call(*words, "--resume", "--retry-errors") == 1
    rows = rows_of(folder / "rows.jsonl")
    assert sorted(row["status"] for row in rows) == ["error", "ok", "ok", "ok"]
    assert (folder / "a, 1.png").is_file()


def test_rows_of_other_models_stay_and_a_half_line_goes(photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    assert call("score", photos, "--model", model, "--output", output) == 1
    mine = output.read_bytes()
    model_id = rows_of(output)[0]["model"]
    others = mine.replace(model_id.encode(), b"other@000000000000")
    output.write_bytes(others + mine + b'{"path": "half')
    drop_errors(str(output), "jsonl", model_id)
    kept = b"".join(line for line in mine.splitlines(keepends=True) if b'"status": "ok"' in line)
    assert output.read_bytes() == others + kept


def test_a_kill_while_errors_are_dropped_loses_nothing(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rows.jsonl"
    assert call("score", photos, "--model", model, "--output", output) == 1
    before = output.read_bytes()

    def killed(path: str, spans: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(writers, "_lines", killed)
    with pytest.raises(KeyboardInterrupt):
        drop_errors(str(output), "jsonl", rows_of(output)[0]["model"])
    assert output.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rows.jsonl"]


def test_a_file_that_another_run_writes_is_left_alone(photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    assert call("score", photos, "--model", model, "--output", output) == 1
    other = FileWriter(str(output), "jsonl", resume=True)
    try:
        with pytest.raises(OutputError, match="another run"):
            drop_errors(str(output), "jsonl", rows_of(output)[0]["model"])
    finally:
        other.close()
    drop_errors(str(tmp_path / "absent.jsonl"), "jsonl", "any")


@pytest.mark.parametrize("command", ["score", "explain"])
def test_it_needs_resume(
    command: str, photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (command, photos, "--model", model, "--output", tmp_path / "out.jsonl", "--retry-errors")
    assert call(*words) == 2
    assert "--retry-errors needs --resume" in capsys.readouterr().err
