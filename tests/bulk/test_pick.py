"""What is picked: the order in a group, what is kept, rows; and the page over it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.bursts import exif, frame, jpeg, scene
from moslens.bulk.engine import RunCounts
from moslens.bulk.pick import Pick, distinct_files, one_of_each_photo, pick, rank, score_rows
from moslens.bulk.pick_page import check_page, write_page
from moslens.bulk.rows import RowLine
from moslens.bulk.writers import FileWriter, ParquetWriter
from moslens.errors import OutputError, UnreadableImage
from moslens.scoring.result import Failure, Score
from moslens.system.text import name_in

pytest.importorskip("imagehash", reason="needs the [pick] extra")

HOSTILE = '<script>alert(1)<∕script> "quoted" \'n\nл.jpg'
BLUR = {"kind": "gaussian_blur", "group": "blur", "severity": 2.0, "share": 0.5}


def row(path: str | Path, score: float = 50.0, **more: Any) -> dict[str, Any]:
    return {**Score(str(path), score, score - 5, score + 5, 480, 360, "tiny@1").to_row(), **more}


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bursts of three frames, one with times, and two pictures by themselves."""
    folder = tmp_path_factory.mktemp("album")
    for number, change in enumerate(({}, {"across": 0.03}, {"stops": -0.8})):
        (folder / f"one-{number}.jpg").write_bytes(jpeg(frame(scene(1), **change)))
        data = exif("2024:05:01 12:00:00", subseconds=str(number))
        name = HOSTILE if number == 1 else f"two-{number}.jpg"
        (folder / name).write_bytes(jpeg(frame(scene(2), **change), exif=data))
    for number in (3, 4):
        (folder / f"alone-{number}.jpg").write_bytes(jpeg(scene(number)))
    return folder


def picks_of(album: Path, keep: int = 1, scores: dict[str, float] | None = None) -> list[Pick]:
    names = sorted(path.name for path in album.iterdir())
    paths = [str(album / name) for name in names]
    rows = [row(path, (scores or {}).get(Path(path).name, 50.0)) for path in paths]
    return pick(paths, rows, keep=keep, workers=1)


def test_bursts_are_groups_with_the_best_first(album: Path) -> None:
    picks = picks_of(album, scores={"one-2.jpg": 60.0, "one-0.jpg": 55.0, HOSTILE: 70.0, "two-2.jpg": 20.0})
    shown = [(Path(one.path).name, one.group, one.place, one.keep) for one in picks]
    assert shown == [
        (HOSTILE, 1, 1, True), ("two-0.jpg", 1, 2, False), ("two-2.jpg", 1, 3, False),
        ("one-2.jpg", 2, 1, True), ("one-0.jpg", 2, 2, False), ("one-1.jpg", 2, 3, False),
        ("alone-3.jpg", None, None, True), ("alone-4.jpg", None, None, True),
    ]  # fmt: skip
    assert picks[0].likeness == 1
    assert all(0.5 < one.likeness < 1 for one in picks if one.place in (2, 3))


def test_keep_says_how_many_of_each_group(album: Path) -> None:
    assert [one.keep for one in picks_of(album, keep=2)] == [True, True, False] * 2 + [True, True]
    assert all(one.keep for one in picks_of(album, keep=9))


def test_the_order_of_the_arguments_changes_no_group(album: Path) -> None:
    paths = [str(path) for path in sorted(album.iterdir())]
    groups = []
    for order in (paths, paths[::-1], paths[3:] + paths[:3]):
        picks = pick(order, [row(path) for path in order], workers=1)
        members: dict[int, list[str]] = {}
        for one in picks:
            if one.group is not None:
                members.setdefault(one.group, []).append(one.path)
        groups.append(sorted(members.values()))
    assert groups[0] == groups[1] == groups[2]
    assert [len(group) for group in groups[0]] == [3, 3]


def test_rows_say_what_was_picked_and_all_that_score_says(album: Path) -> None:
    first = picks_of(album, scores={HOSTILE: 70.0})[0].to_row()
    assert list(first)[:6] == ["group", "place", "keep", "likeness", "taken", "moved_to"]
    assert first["taken"] == "2024-05-01T12:00:00.100000"
    assert {key: first[key] for key in row("x")} == row(album / HOSTILE, 70.0)
    json.dumps(first, allow_nan=False)


def test_a_picture_that_is_not_readable_is_a_row_with_its_error(album: Path, tmp_path: Path) -> None:
    gone, broken = str(tmp_path / "gone.jpg"), str(tmp_path / "broken.jpg")
    error = Failure(broken, UnreadableImage("it is broken", broken), "tiny@1").to_row()
    good = str(album / "alone-3.jpg")
    picks = pick([gone, broken, good], [row(gone), error, row(good)], workers=1)
    assert [(one.row["status"], one.keep) for one in picks] == [("error", None), ("error", None), ("ok", True)]
    assert picks[0].row["error"]["code"] == "unreadable"
    assert gone in picks[0].row["error"]["message"]


def test_rank_is_by_whole_points_then_detail_then_faults_then_score() -> None:
    best_first = [
        row("a", 71.6),
        row("b", 70.9, detail={"score": 80.0}),
        row("c", 71.2, detail={"score": 75.0}),
        row("d", 71.3),
        row("e", 70.9),
        row("f", 71.4, distortions=[BLUR], detail={"score": 60.0}),
        row("g", 70.4),
        row("h", 70.4, distortions=[BLUR]),
    ]
    worst_first = best_first[::-1]
    assert sorted(worst_first, key=rank) == best_first


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(photo)
    (tmp_path / "folder").symlink_to(tmp_path)
    given = ["s3://b/a.jpg", str(photo), str(tmp_path / "link.jpg"), str(tmp_path / "folder/a.jpg"), "s3://b/a.jpg"]
    assert distinct_files(given) == ["s3://b/a.jpg", str(photo)]


def test_a_raw_file_beside_its_jpeg_is_no_picture_of_its_own() -> None:
    paths = ["p/a.CR2", "p/A.jpg", "p/b.cr2", "q/a.cr2", "p/c.tif", "p/c.cr2", "s3://b/d.nef", "s3://b/d.heic"]
    assert one_of_each_photo(paths) == ["p/A.jpg", "p/b.cr2", "q/a.cr2", "p/c.tif", "p/c.cr2", "s3://b/d.heic"]


def test_a_small_copy_is_behind_the_pictures_it_may_be_made_of(album: Path) -> None:
    paths = [str(album / f"one-{number}.jpg") for number in range(3)]
    rows = [row(path, score) for path, score in zip(paths, (40.0, 60.0, 50.0), strict=True)]
    rows[1] |= {"width": 240, "height": 180}
    picks = pick(paths, rows, workers=1)
    assert [(one.path, one.keep) for one in picks] == [(paths[2], True), (paths[0], False), (paths[1], False)]
    rows[1] |= {"width": 400, "height": 300}  # more than half of the pixels
    assert pick(paths, rows, workers=1)[0].path == paths[1]


class FakeScorer:
    """Gives every path a row, and remembers which it was asked for."""

    model_id = "tiny@1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score_many(self, paths: Any, *, workers: int | None, max_pixels: int, detail: bool) -> Any:
        for path in paths:
            self.asked.append(path)
            yield RowLine.of(row(path))


def odd_row(path: str) -> dict[str, Any]:
    """A row with something in every column."""
    box = {"x": 1, "y": 2, "width": 3, "height": 4, "score": 20.25}
    found = [{**BLUR, "label": "out of focus", "kind_certain": True}]
    detail = {"score": 61.5, "tiles": [box], "distortions": found}
    return row(path, 1 / 3, distortions=found, worst_block=box, notes=["tiny"], detail=detail)


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_what_score_wrote_is_read_back_whole(format: str, tmp_path: Path) -> None:
    rows = [
        odd_row("=b\udce4r.jpg"),
        row("b.jpg"),
        Failure("c.jpg", UnreadableImage("gone", "c.jpg"), "tiny@1").to_row(),
    ]
    file = str(tmp_path / "rows")
    writer = ParquetWriter(file) if format == "parquet" else FileWriter(file, format)
    for one in (*rows, {**row("b.jpg"), "model": "other@2"}):
        writer.write(RowLine.of(one))
    writer.close()
    before = (tmp_path / "rows").read_bytes()
    scorer, counts = FakeScorer(), RunCounts()
    paths = ["c.jpg", "=b\udce4r.jpg", "b.jpg"]
    assert score_rows(scorer, paths, counts, scores=file, format=format) == [rows[2], rows[0], rows[1]]
    assert (scorer.asked, counts.kept, counts.kept_errors) == ([], 3, 1)
    assert score_rows(scorer, ["new.jpg", "b.jpg"], RunCounts(), scores=file, format=format) == [
        row("new.jpg"),
        rows[1],
    ]
    assert scorer.asked == ["new.jpg"]
    after = (tmp_path / "rows").read_bytes()
    assert after.startswith(before)
    assert (after == before) == (format == "parquet"), "Parquet is only read"


@pytest.mark.parametrize(("format", "data"), [("csv", b"a,b\n"), ("parquet", b"PAR1"), ("jsonl", b"[1]\n")])
def test_another_file_of_scores_is_refused_and_kept(format: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(data)
    with pytest.raises(OutputError):
        score_rows(FakeScorer(), ["a.jpg"], RunCounts(), scores=str(tmp_path / "rows"), format=format)
    assert (tmp_path / "rows").read_bytes() == data
    with pytest.raises(OutputError, match="kept in jsonl and csv"):
        score_rows(FakeScorer(), ["a.jpg"], RunCounts(), scores=str(tmp_path / "gone"), format="parquet")


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_rows_of_an_earlier_run_are_taken_and_new_ones_added(format: str, tmp_path: Path) -> None:
    file = str(tmp_path / "rows")
    odd = "b\udce4r.jpg"
    for paths, fresh in ((["b.jpg", odd], 2), (["c.jpg", odd, "b.jpg"], 1), (["b.jpg"], 0)):
        scorer = FakeScorer()
        counts = RunCounts()
        rows = score_rows(scorer, paths, counts, scores=file, format=format)
        assert [name_in(one) for one in rows] == paths
        assert len(scorer.asked) == counts.written == fresh
    assert rows == [row("b.jpg")]
    assert score_rows(FakeScorer(), ["z.jpg"], RunCounts()) == [row("z.jpg")]


class Page(HTMLParser):
    """The tags of a page, its pictures and links, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values: dict[str, Any] = dict(attributes)
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(values["src"])
        elif tag == "a":
            self.links.append(values["href"])

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_shows_the_groups_with_thumbnails_beside_it(album: Path, tmp_path: Path) -> None:
    picks = picks_of(album, scores={HOSTILE: 70.0, "one-1.jpg": 60.0})
    failure = Failure("<b>.jpg", UnreadableImage("no <i>such</i> file", "<b>.jpg"), "tiny@1").to_row()
    target = tmp_path / "out" / "my picks.html"
    write_page(target, [*picks, Pick("<b>.jpg", failure)], workers=1)
    text = target.read_text()
    page = Page(text)
    assert not {"script", "b", "i"} & set(page.tags), "every name is escaped"
    assert page.tags.count("section") == 2
    assert page.tags.count("li") == len(page.pictures) == 6
    assert text.count('<li class="kept">') == 2
    assert "9 pictures: 4 kept, 4 not, 1 could not be read" in page.words
    assert "prefers-color-scheme: dark" in text
    assert "http" not in re.sub(r"<meta[^>]*>", "", text), "it needs no server"
    for number in range(1, 7):
        with Image.open(target.parent / "my picks-thumbnails" / f"{number:05d}.jpg") as thumbnail:
            assert max(thumbnail.size) == 360
    assert page.pictures[0] == "my%20picks-thumbnails/00001.jpg"
    from urllib.parse import unquote

    for link in page.links:
        assert (target.parent / unquote(link)).is_file(), link


def test_a_page_of_ours_is_replaced_and_another_file_is_not(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "picks.html"
    picks = picks_of(album)
    write_page(target, picks, workers=1)
    write_page(target, picks, workers=1)
    other = tmp_path / "index.html"
    other.write_text("<!DOCTYPE html> mine")
    with pytest.raises(OutputError, match="no page of moslens pick"):
        write_page(other, picks)
    with pytest.raises(OutputError):
        check_page(tmp_path)
    assert other.read_text() == "<!DOCTYPE html> mine"
