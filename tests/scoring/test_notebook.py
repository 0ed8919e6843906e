"""How results look in a notebook, and as a data frame."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import moslens
from helpers.map_model import BLUE, make_map_model, plain
from helpers.tiny_model import make_photo
from moslens import Failure, Score, Scorer
from moslens.errors import MissingExtra, TruncatedImage
from moslens.scoring.labels import NO_FAULT
from moslens.scoring.result import COLUMNS

HOSTILE = '<script>alert("1")</script>&\udcff.jpg'
SCORE = Score(
    HOSTILE, 61.25, 50, 72.5, 640, 480, "m<b>@1",
    ({"kind": "white_noise", "group": "noise", "severity": 3.25, "share": 0.5},
     {"kind": "x", "group": "x", "severity": 1.0, "share": 0.25, "label": "a <i>label</i>"}),
    notes=("hdr",),
)  # fmt: skip


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.images: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.images += [value or "" for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


def test_a_score_is_a_table_and_every_name_is_escaped() -> None:
    found = Tags(SCORE._repr_html_())
    assert set(found.tags) == {"table", "caption", "tr", "th", "td", "strong"}
    for words in (
        '<script>alert("1")</script>&\ufffd.jpg', "61.2", "50.0 to 72.5", "640 x 480", "high dynamic range", "m<b>@1",
        "white noise (severity 3.2, 50% of the area), a <i>label</i> (severity 1.0, 25% of the area)",
    ):  # fmt: skip
        assert words in found.text
    bare = Tags(Score(None, 1, 0, 2, 32, 32, "m@1")._repr_html_())
    assert "faults" not in bare.text
    block = {"x": 0, "y": 0, "width": 32, "height": 32, "score": 1.0}
    mapped = Tags(Score(None, 1, 0, 2, 32, 32, "m@1", worst_block=block)._repr_html_())
    assert NO_FAULT in mapped.text
    assert "picture" in bare.text


def test_a_map_shows_the_picture(tmp_path: Path) -> None:
    found = Scorer(make_map_model(tmp_path / "colours")).explain(plain(300, 200, BLUE))
    page = Tags(found._repr_html_())
    (source,) = page.images
    head, _, data = source.partition(",")
    assert head == "data:image/png;base64"
    assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) >= 640
    assert "noise (severity" in page.text


class TestFrame:
    def test_scores_and_failures_are_rows(self) -> None:
        pandas = pytest.importorskip("pandas", reason="needs the frames extra")
        failure = Failure("b.jpg", TruncatedImage("ends early", "b.jpg"), "m@1")
        frame = moslens.to_pandas(iter([SCORE, failure]))
        assert list(frame.columns) == ["path", "path_base64", *COLUMNS[1:-1], "error_code", "error"]
        assert list(frame["status"]) == ["ok", "error"]
        assert frame["score"].dtype == "float64"
        assert frame["score"][0] == 61.25
        assert math.isnan(frame["score"][1])
        assert frame["width"].dtype == "Int64"
        assert frame["width"].isna().tolist() == [False, True]
        assert frame["distortions"][0][0]["kind"] == "white_noise"
        assert frame["error_code"][1] == "truncated"
        assert frame["error"][1] == "b.jpg: ends early"
        assert pandas.isna(frame["error"][0])
        assert frame["path"][0].endswith("&\ufffd.jpg")

    def test_names_that_are_not_utf8_keep_their_bytes(self) -> None:
        pytest.importorskip("pandas", reason="needs the frames extra")
        path = os.fsdecode(b"latin\xe9.jpg")
        plain = dataclasses.replace(SCORE, path="a.jpg")
        frame = moslens.to_pandas([plain, Failure(path, TruncatedImage("ends early", path), "m@1")])
        assert list(frame["path"]) == ["a.jpg", "latin\ufffd.jpg"]
        assert base64.b64decode(frame["path_base64"][1]) == b"latin\xe9.jpg"
        assert "path_base64" not in moslens.to_pandas([plain])

    def test_no_result_gives_the_columns_all_the_same(self) -> None:
        pytest.importorskip("pandas", reason="needs the frames extra")
        empty = moslens.to_pandas([])
        assert len(empty) == 0
        assert empty["score"].dtype == "float64"
        assert list(empty.columns) == list(moslens.to_pandas([dataclasses.replace(SCORE, path="a.jpg")]).columns)

    def test_without_pandas_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingExtra, match="the extra frames"):
            moslens.to_pandas([SCORE])


def test_an_open_file_keeps_its_name(tiny_model: Path, tmp_path: Path) -> None:
    scorer = Scorer(tiny_model)
    path = tmp_path / "photo.png"
    make_photo(300, 200, seed=1).save(path)
    with path.open("rb") as file:
        found = scorer.score(file)
    assert found == scorer.score(path)
    assert found.path == str(path)
    assert json.loads(json.dumps(found.to_dict()))["path"] == str(path)
    with open(os.open(path, os.O_RDONLY), "rb") as numbered:  # noqa: PTH123
        assert scorer.score(numbered).path is None
    assert scorer.score(io.BytesIO(path.read_bytes())).path is None
    (tmp_path / "broken.png").write_bytes(b"broken")
    with (tmp_path / "broken.png").open("rb") as file:
        (failure,) = scorer.score_many([file])
    assert failure.path == str(tmp_path / "broken.png")
