"""``moslens pick``: the whole way from a folder to rows, page and moves; wrong use; what it leaves alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.bursts import frame, jpeg, scene
from helpers.command import call
from moslens.bulk.transfer import LOG

pytest.importorskip("imagehash", reason="needs the [pick] extra")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    for number, change in enumerate(({}, {"across": 0.03}, {"stops": -0.8})):
        (folder / f"frame {number}.jpg").write_bytes(jpeg(frame(scene(1), **change)))
        (folder / f"frame {number}.jpg.xmp").write_text(f"sidecar {number}")
    (folder / "alone.jpg").write_bytes(jpeg(scene(2)))
    return folder


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_from_a_folder_to_rows_a_page_and_moves(
    album: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (album / "broken.jpg").write_bytes(b"no picture")
    words: tuple[str | Path, ...] = ("pick", album, "--model", tiny_model, "--workers", "1")
    words += ("--scores", tmp_path / "rows.jsonl", "--move-to", tmp_path / "out")
    before = sorted(album.iterdir())
    assert call(*words, "--html", tmp_path / "picks.html") == 1, "one could not be read"
    shown = capsys.readouterr()
    rows = rows_of(shown.out)
    assert [(row["group"], row["place"], row["keep"]) for row in rows] == [
        (1, 1, True), (1, 2, False), (1, 3, False), (None, None, True), (None, None, None)
    ]  # fmt: skip
    assert "With --yes 2 pictures would be moved" in shown.err
    assert sorted(album.iterdir()) == before
    assert not (tmp_path / "out").exists()
    assert "frame 0.jpg" in (tmp_path / "picks.html").read_text()

    assert call(*words, "--yes") == 1
    shown = capsys.readouterr()
    moved = [Path(row["moved_to"]).name for row in rows_of(shown.out) if row["moved_to"]]
    assert sorted(moved) == sorted(Path(row["path"]).name for row in rows[1:3])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {LOG, *moved, *(f"{name}.xmp" for name in moved)}
    assert {path.name for path in album.iterdir()} == {
        "alone.jpg", "broken.jpg", Path(rows[0]["path"]).name, f"{Path(rows[0]['path']).name}.xmp"
    }  # fmt: skip
    assert "4 files moved" in shown.err


def test_what_lies_in_the_folder_is_not_picked_from_and_json_has_groups(
    album: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: tuple[str | Path, ...] = ("pick", album, "--model", tiny_model, "--workers", "1", "--format", "json")
    assert call(*words, "--copy-to", album / "best", "--yes") == 0
    first = json.loads(capsys.readouterr().out)
    best = Path(first["groups"][0][0]["path"]).name
    assert {path.name for path in (album / "best").iterdir()} == {LOG, best, f"{best}.xmp", "alone.jpg"}
    assert call(*words, "--copy-to", album / "best", "--yes") == 0
    assert json.loads(capsys.readouterr().out) == first, "and nothing is copied twice"
    assert len(list((album / "best").iterdir())) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--yes",), "--yes needs --move-to or --copy-to"),
        (("--move-to", "a", "--copy-to", "b"), "exclude each other"),
        (("--html", "mine.html"), "no page of moslens pick"),
        (("--scores", "rows.xlsx"), "--scores reads jsonl, csv and parquet"),
        (("--keep", "0"), "--keep"),
        (("--move-to", "."), "every picture given lies in it"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_scored(
    album: Path,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(album)
    (album / "mine.html").write_text("mine")
    assert call("pick", album, *words) == 2
    assert message in capsys.readouterr().err
    assert (album / "mine.html").read_text() == "mine"


def test_without_the_extra_one_line_says_what_to_install(
    album: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    assert call("pick", album) == 2
    assert "(the extra pick)" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pick", "--help") == 0
    text = capsys.readouterr().out
    assert "moslens pick photos --html picks.html" in text
    assert "NOT kept" in text
