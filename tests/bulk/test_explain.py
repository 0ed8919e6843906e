"""``moslens explain``: maps, JSON, rows, the page over them, exit codes."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from helpers.command import call
from helpers.hostile import make_odd_files
from helpers.map_model import BLUE, GREEN, RED, make_map_model, plain
from moslens import Failure, NotAnImage, QualityMap, Scorer
from moslens.system.text import name_in


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_map_model(tmp_path_factory.mktemp("maps") / "colours")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name, colours in {"fine.png": GREEN, "red.png": RED, "below/blue.png": BLUE, "below/red.png": RED}.items():
        pixels = plain(260, 240)
        pixels[:, : 250 if name == "red.png" else 130] = colours
        Image.fromarray(pixels).save(folder / name)
    return folder


class Page(HTMLParser):
    """What a page shows: list items with the labels of their faults, links, pictures, cells of the table of errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.faults: list[list[str]] = []
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values: dict[str, Any] = dict(attributes)
        self.tags.append(tag)
        if tag == "li":
            self.faults.append(json.loads(values["data-faults"]))
        elif tag == "a":
            self.links.append(unquote(values["href"]))
        elif tag == "img":
            self.pictures.append(unquote(values["src"]))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "td" and data.strip():
            self.cells.append(data)


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]


def test_a_map_and_json_for_each_picture_and_a_page_worst_first(photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert call("explain", photos, "--output", output, "--model", model, "--workers", "2") == 0
    assert {path.name for path in output.iterdir()} == {
        "index.html", "rows.jsonl", "thumbnails", "CACHEDIR.TAG",
        *(f"{name}.{suffix}" for name in ("fine", "red", "red-2", "blue") for suffix in ("png", "json")),
    }  # fmt: skip
    rows = rows_of(output)
    assert [Path(row["path"]).name for row in rows] == ["blue.png", "red.png", "fine.png", "red.png"]
    scorer = Scorer(model)
    for row in rows:
        assert row == scorer.score(row["path"], detail=True).to_row()
    assert json.loads((output / "blue.json").read_text()) == scorer.explain(rows[0]["path"]).to_dict()
    with Image.open(output / "red-2.png") as overlay:
        overlay.load()
        assert overlay.format == "PNG"
    page = Page((output / "index.html").read_text())
    order = [link.removesuffix(".json") for link in page.links if link.endswith(".json")]
    by_score = sorted(zip((row["score"] for row in rows), ("blue", "red", "fine", "red-2"), strict=True))
    assert order == [name for _, name in by_score]
    assert order[-1] == "fine"
    assert page.faults[-1] == []
    assert sorted(page.faults[:-1]) == [["JPEG artefacts"], ["JPEG artefacts"], ["noise"]]
    assert page.pictures[:2] == [f"thumbnails/{order[0]}.jpg", f"thumbnails/{order[0]}-map.jpg"]


def test_the_page_needs_nothing_from_outside(photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    call("explain", photos, "--output", output, "--model", model)
    text = (output / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|<script src|base64", text)
    page = Page(text)
    assert len(page.pictures) == 8
    assert all((output / link).is_file() for link in [*page.links, *page.pictures])
    for name in page.pictures:
        with Image.open(output / name) as shown:
            assert (shown.format, max(shown.size) <= 384) == ("JPEG", True)


def test_hostile_files_cost_a_row_each_and_nothing_else(model: Path, tmp_path: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    expected = make_odd_files(photos)
    # slow, and two suffixes that a walk leaves out
    for name in ("one_colour_100_megapixels.png", "layers.psd", "figure.eps"):
        (photos / name).unlink()
        del expected[name]
    evil = "<script>alert('x')</script>\"&.png"
    Image.fromarray(plain(64, 64)).save(photos / evil.replace("/", "_"))
    expected[evil.replace("/", "_")] = None
    assert call("explain", photos, "--output", output, "--model", model) == 1
    rows = rows_of(output)
    found = {Path(name_in(row)).name: row["error"] and row["error"]["code"] for row in rows}
    # a walk goes through folders, whatever they are called
    expected.pop("folder.jpg")
    assert found == expected
    text = (output / "index.html").read_text()
    assert "<script>alert" not in text
    page = Page(text)
    assert page.tags.count("script") == 1
    assert len(page.faults) == sum(code is None for code in expected.values())
    assert len(page.cells) == 3 * sum(code is not None for code in expected.values())
    assert len(list(output.glob("*.json"))) == len(page.faults)
    assert not list(output.glob("*.partial"))


def test_wrong_use_is_one_line_and_writes_nothing(
    photos: Path, model: Path, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "kept.txt").write_text("mine")
    file.write_text("mine")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        "scores alone": (photos, "--output", tmp_path / "a", "--model", tiny_model),
        "has content": (photos, "--output", full, "--model", model),
        "file": (photos, "--output", file, "--model", model),
        "no picture": (empty, "--output", tmp_path / "b", "--model", model),
        "no such file": (tmp_path / "nowhere", "--output", tmp_path / "c", "--model", model),
    }
    for word, words in cases.items():
        assert call("explain", *words) == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert word in lines[0]
    assert [path.name for path in full.iterdir()] == ["kept.txt"]
    assert file.read_text() == "mine"
    assert not any((tmp_path / name).exists() for name in "abc")


def test_an_interrupt_keeps_what_was_finished(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = Scorer.explain_or_failure

    def interrupted(self: Scorer, source: Any, **options: Any) -> Any:
        if Path(source).name == "fine.png":
            raise KeyboardInterrupt
        return genuine(self, source, **options)

    monkeypatch.setattr(Scorer, "explain_or_failure", interrupted)
    output = tmp_path / "out"
    assert call("explain", photos, "--output", output, "--model", model, "--workers", "1") == 130
    rows = rows_of(output)
    names = [Path(row["path"]).name for row in rows]
    assert names[:2] == ["blue.png", "red.png"]
    assert "fine.png" not in names
    # a picture behind the interrupt may have been finished before its turn: it has its row too
    assert len(list(output.glob("*.png"))) == len(rows) in (2, 3)
    page = Page((output / "index.html").read_text())
    assert len(page.faults) == len(rows)
    assert (output / "blue.png").is_file()


def test_score_rows_carry_the_map_in_every_format(photos: Path, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.jsonl"
    assert call("score", photos, "--model", model, "--output", target) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["distortions"][0]["kind"] if row["distortions"] else None for row in rows] == [
        "white_noise", "jpeg", None, "jpeg",
    ]  # fmt: skip
    assert all(set(row["worst_block"]) == {"x", "y", "width", "height", "score"} for row in rows)
    assert call("score", photos, "--model", model, "--output", tmp_path / "rows.csv") == 0
    assert "white_noise" in (tmp_path / "rows.csv").read_text()


def test_detail_in_rows_of_score_and_beside_the_maps(model: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    large = plain(1300, 1100, RED)
    Image.fromarray(large).save(photos / "large.png")
    Image.fromarray(large[:300, :400]).save(photos / "small.png")
    wanted = [Scorer(model).score(path, detail=True).to_row() for path in sorted(photos.iterdir())]
    assert [row["detail"] is None for row in wanted] == [False, True]
    assert call("score", photos, "--model", model, "--detail", "--output", tmp_path / "rows.jsonl") == 0
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == wanted
    assert call("score", photos, "--model", model, "--output", tmp_path / "without.jsonl") == 0
    without = [json.loads(line) for line in (tmp_path / "without.jsonl").read_text().splitlines()]
    assert without == [{**row, "detail": None} for row in wanted]
    assert call("explain", photos, "--model", model, "--output", tmp_path / "maps") == 0
    assert rows_of(tmp_path / "maps") == wanted
    assert json.loads((tmp_path / "maps" / "large.json").read_text())["detail"] == wanted[0]["detail"]
    page = (tmp_path / "maps" / "index.html").read_text()
    assert f"at 100 %: {wanted[0]['detail']['score']:.1f}, JPEG artefacts" in page
    assert wanted[0]["notes"] == ["not_a_photo", "monochrome"]
    assert "black and white or toned" in page
    assert call("explain", photos, "--model", model, "--no-detail", "--output", tmp_path / "plain") == 0
    assert rows_of(tmp_path / "plain") == without


def test_the_longest_names_have_maps(photos: Path, model: Path, tmp_path: Path) -> None:
    for name in ("l" * 251 + ".png", "é" * 125 + ".png"):
        (photos / "fine.png").rename(photos / name)
        assert call("explain", photos / name, "--model", model, "--output", tmp_path / "out" / name[0]) == 0
        assert len(list((tmp_path / "out" / name[0] / "thumbnails").iterdir())) == 2
        (photos / name).rename(photos / "fine.png")


@pytest.mark.parametrize("size", [(1200, 380), (300, 1500), (6000, 200)])
def test_detail_of_banners_and_strips(model: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    Image.fromarray(plain(height, width, RED)).save(tmp_path / "strip.png")
    assert call("explain", tmp_path / "strip.png", "--model", model, "--output", tmp_path / "maps") == 0
    (row,) = rows_of(tmp_path / "maps")
    assert all(min(tile["width"], tile["height"]) == min(size) for tile in row["detail"]["tiles"])


def test_a_fault_of_ours_costs_one_row(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = QualityMap.to_json

    def broken(self: QualityMap) -> str:
        if str(self.path).endswith("fine.png"):
            raise TypeError("cannot be written")
        return genuine(self)

    monkeypatch.setattr(QualityMap, "to_json", broken)
    assert call("explain", photos, "--output", tmp_path / "out", "--model", model) == 1
    rows = {Path(row["path"]).name: row for row in rows_of(tmp_path / "out")}
    assert len(rows_of(tmp_path / "out")) == 4
    error = rows["fine.png"]["error"]
    assert error["code"] == "internal"
    assert error["message"].endswith("fine.png: TypeError: cannot be written")


def test_maps_written_among_the_photos_are_no_photos_of_the_same_run(model: Path, tmp_path: Path) -> None:
    for name in ("a.png", "zz.png"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / name)
    output = tmp_path / "maps"
    assert call("explain", tmp_path, "--output", output, "--model", model, "--workers", "1") == 0
    assert [Path(row["path"]).name for row in rows_of(output)] == ["a.png", "zz.png"]


def test_resumed_after_an_interrupt_it_is_as_if_nothing_had_happened(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call("explain", photos, "-o", whole, "--model", model) == 1
    explained: list[str] = []
    genuine = Scorer.explain_or_failure

    def interrupted(self: Scorer, source: Any, **options: Any) -> Any:
        explained.append(source)
        if len(explained) == 3:
            raise KeyboardInterrupt
        return genuine(self, source, **options)

    monkeypatch.setattr(Scorer, "explain_or_failure", interrupted)
    assert call("explain", photos, "-o", parts, "--model", model, "--workers", "1") == 130
    there = {Path(row["path"]) for row in rows_of(parts)}
    explained[:] = [""] * 3
    capsys.readouterr()
    assert call("explain", photos, "-o", parts, "--model", model, "--resume") == 1
    assert f"{len(there)} had their row" in capsys.readouterr().err
    assert not there & set(map(Path, explained[3:]))
    # A picture behind the interrupted one may have been finished and has its row before it.
    unbroken, resumed = (
        {path.name: sorted(path.read_bytes().splitlines()) for path in folder.rglob("*") if path.is_file()}
        for folder in (whole, parts)
    )
    assert unbroken == resumed


def test_a_resumed_run_keeps_the_names_of_maps_and_leaves_out_its_own_folder(model: Path, tmp_path: Path) -> None:
    for name in ("m/a.png", "z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), "red").save(tmp_path / name)
    output = tmp_path / "maps"
    assert call("explain", tmp_path, "-o", output, "--model", model) == 0
    before = (output / "a.json").read_bytes()
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "a.png")
    assert call("explain", tmp_path, "-o", output, "--model", model, "--resume") == 0
    assert (output / "a.json").read_bytes() == before
    assert json.loads((output / "a-2.json").read_text())["path"] == f"{tmp_path}/a.png"
    assert sorted(Path(row["path"]).name for row in rows_of(output)) == ["a.png", "a.png", "z.png"]
    assert len(Page((output / "index.html").read_text()).faults) == 3


def test_a_folder_of_another_model_or_run_is_not_continued(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "rows.jsonl").write_text(json.dumps({**Failure("a", NotAnImage("x"), "other@0").to_row()}) + "\n")
    assert call("explain", photos, "-o", output, "--model", model, "--resume") == 2
    assert "has maps by other@0: give another folder" in capsys.readouterr().err
    (output / "rows.jsonl").rename(output / "other.jsonl")
    assert call("explain", photos, "-o", output, "--model", model, "--resume") == 2
    assert "no rows.jsonl, so it is not continued" in capsys.readouterr().err
    assert {path.name for path in output.iterdir()} == {"other.jsonl", "CACHEDIR.TAG"}
