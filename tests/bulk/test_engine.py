"""Bulk scoring: which pictures are found, how rows are written and read back, and what a kill leaves."""

import codecs
import csv
import fcntl
import glob
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from helpers.hostile import make_odd_files
from helpers.processes import heed_interrupts
from helpers.tiny_model import make_photo
from moslens.bulk.engine import RunCounts, score_all
from moslens.bulk.inputs import PICTURE_SIGNATURES, distinct_names, find_pictures, read_listing
from moslens.bulk.rows import FLAT_COLUMNS, RowLine, encode, fault_columns, read_rows
from moslens.bulk.writers import FileWriter, ParquetWriter, StreamWriter, parquet_table
from moslens.errors import ConfigError, CorruptImage, MissingExtra, OutputError
from moslens.picture.walk import walk
from moslens.scoring.result import Detail, Failure, Score
from moslens.scoring.scorer import Scorer
from moslens.system.text import name_in, path_of_csv_name

NO_LIST = io.BytesIO()
ODD_NAMES = ["a b.jpg", "ü.jpg", "日本.PNG", "new\nline.jpg", 'quo"te,comma.jpg', '"whole".jpg', "u2028\u2028.jpg"]
ODD_NAMES += [os.fsdecode(b"\xff\xfe.jpg"), "\x1b[31mred.jpg", "back\\slash.jpg", "-dash.jpg", "tab\t.jpg"]
paths = st.text(st.characters(exclude_characters="\0", codec=None), min_size=1).map(
    lambda text: os.fsdecode(text.encode("utf-8", "surrogatepass"))
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ok_row(path: str, model: str = "m@0") -> dict[str, Any]:
    return Score(path, 71.25, 62.0, 80.5, 40, 30, model).to_row()


def error_row(path: str, model: str = "m@0") -> dict[str, Any]:
    return Failure(path, CorruptImage('broken, "quoted"\ndata', path), model).to_row()


class TestInputs:
    def test_a_folder_is_walked_in_the_order_of_sorted_paths(self, tmp_path: Path) -> None:
        names = ["a.jpg", "a/b.jpg", "a-b.jpg", "a/b/c.PNG", "a/B.JPEG", "z.webp", "Z.tif", "é.bmp", ".hidden/x.gif"]
        touch(tmp_path, *names, "a/notes.txt", "jpg", "a/data.csv", "thumbs.db", ".jpg")
        found = list(walk(str(tmp_path)))
        assert found == sorted(str(tmp_path / name) for name in names)

    def test_paths_are_joined_to_the_folder_as_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "p/a.jpg", "p/q/b.jpg")
        monkeypatch.chdir(tmp_path)
        for given_as, expected in {
            "p": ["p/a.jpg", "p/q/b.jpg"],
            "p/": ["p/a.jpg", "p/q/b.jpg"],
            "./p": ["./p/a.jpg", "./p/q/b.jpg"],
            ".": ["./p/a.jpg", "./p/q/b.jpg"],
            "p/../p/a.jpg": ["p/../p/a.jpg"],
        }.items():
            assert list(find_pictures([given_as], NO_LIST)) == expected

    def test_links_are_followed_and_loops_end(self, tmp_path: Path) -> None:
        touch(tmp_path, "tree/a/x.jpg", "elsewhere/y.jpg")
        tree = tmp_path / "tree"
        (tree / "a" / "up").symlink_to(tree)
        (tree / "a" / "again").symlink_to(tree / "a")
        (tree / "out").symlink_to(tmp_path / "elsewhere")
        (tree / "link.jpg").symlink_to(tree / "a" / "x.jpg")
        (tree / "self.jpg").symlink_to(tree / "self.jpg")
        (tree / "gone.jpg").symlink_to(tree / "nowhere")
        (tree / "self").symlink_to(tree / "self")
        names = [os.path.relpath(path, tree) for path in walk(str(tree))]
        assert names == ["a/x.jpg", "gone.jpg", "link.jpg", "out/y.jpg", "self.jpg"]

    def test_a_folder_that_cannot_be_listed_is_given_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "a.jpg", "locked/b.jpg", "z.jpg")
        scandir = os.scandir

        def guarded(path: str) -> Any:
            if "locked" in path:
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)
        found = list(walk(str(tmp_path)))
        assert found == [f"{tmp_path}/a.jpg", f"{tmp_path}/locked/", f"{tmp_path}/z.jpg"]

    def test_files_are_taken_whatever_their_name_and_order_is_kept(self, tmp_path: Path) -> None:
        touch(tmp_path, "b.dat", "a.jpg", "f/c.jpg", "[x].jpg")
        arguments = [str(tmp_path / name) for name in ("b.dat", "f", "a.jpg", "b.dat", "[x].jpg")]
        expected = ["b.dat", "f/c.jpg", "a.jpg", "b.dat", "[x].jpg"]
        assert list(find_pictures(arguments, NO_LIST)) == [str(tmp_path / name) for name in expected]

    def test_globs(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "b.txt", "d/c.JPG", "d/e/f.jpg", "d/e/g.dat")

        def found(pattern: str) -> list[str]:
            matches = find_pictures([str(tmp_path / pattern)], NO_LIST)
            return [os.path.relpath(path, tmp_path) for path in matches]

        assert found("*") == ["a.jpg"]
        assert found("**/*") == ["a.jpg", "d/c.JPG", "d/e/f.jpg"]
        assert found("**/*.jpg") == ["a.jpg", "d/e/f.jpg"]
        assert found("d/**/*.dat") == ["d/e/g.dat"], "an extension that is spelled out is meant"
        assert found("nothing*") == []

    @pytest.mark.timeout(120)
    def test_globs_end_where_links_lead_in_circles(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "a/x.jpg", "a/b/c/y.jpg")
        for number in range(6):
            (tmp_path / "a" / f"up{number}").symlink_to(tmp_path)
        (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
        monkeypatch.chdir(tmp_path)
        assert list(find_pictures(["**/*.jpg"], NO_LIST)) == ["a/b/c/y.jpg", "a/x.jpg"]
        assert list(find_pictures(["**/c/**"], NO_LIST)) == ["a/b/c/y.jpg"]

    @pytest.mark.parametrize(
        "pattern", ["**/*.jpg", "**", "d/**/*", "*/**/e/*", "**/**/f.jpg", "[[]d]/**/g.jpg", "./**/c.jpg", "**/.h/*"]
    )
    def test_globs_are_those_of_python(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
        touch(tmp_path, "a.jpg", "b.txt", "d/c.jpg", "d/e/f.jpg", "d/.h/i.jpg", ".j/k.jpg", "[d]/l/g.jpg", "m/e/f.jpg")
        monkeypatch.chdir(tmp_path)
        for given_as in (pattern, f"{glob.escape(str(tmp_path))}/{pattern}"):
            expected = sorted({path for path in glob.glob(given_as, recursive=True) if path.endswith(".jpg")})  # noqa: PTH207
            assert list(find_pictures([given_as], NO_LIST)) == expected

    def test_names_that_are_one_file_on_some_system_are_kept_apart(self) -> None:
        names = distinct_names(
            ["\u00e9.jpg", "e\u0301.png", "E\u0301.webp", "a.jpg", "A.JPG", "b/a.png", "stra\u00dfe.jpg"]
        )
        assert names == ["\u00e9", "e\u0301-2", "E\u0301-3", "a", "A-2", "a-3", "stra\u00dfe"]
        assert distinct_names(["stra\u00dfe.jpg", "STRASSE.jpg"])[1] == "STRASSE-2"

    def test_long_names_leave_room_for_numbers_and_extensions(self) -> None:
        names = distinct_names([f"{folder}/{'x' * 250}.jpg" for folder in range(12)])
        assert names[0] == "x" * 239
        assert names[1:9] == [f"{'x' * 237}-{number}" for number in range(2, 10)]
        assert names[9:] == [f"{'x' * 236}-{number}" for number in (10, 11, 12)]

    def test_a_single_argument_that_names_nothing_is_refused_and_one_of_several_is_given(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "missing")
        with pytest.raises(ConfigError, match="missing"):
            find_pictures([missing], NO_LIST)
        assert list(find_pictures([str(tmp_path), missing], NO_LIST)) == [missing]

    def test_a_url_without_fsspec_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fsspec.core", None)
        with pytest.raises(MissingExtra, match=r"the extra bulk"):
            find_pictures(["s3://bucket/a.jpg"], NO_LIST)

    @given(st.lists(st.binary(min_size=1).filter(lambda b: b"\0" not in b), min_size=1), st.integers(1, 9))
    def test_a_nul_list_gives_any_name_back(self, names: list[bytes], size: int) -> None:
        whole = b"".join(name + b"\0" for name in names)
        first = len(names[0]) + 1
        chunks = [whole[:first], *(whole[i : i + size] for i in range(first, len(whole), size))]
        assume(not whole.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not PICTURE_SIGNATURES.match(whole))
        assert [os.fsencode(name) for name in read_listing(Chunks(chunks))] == names

    @given(
        st.lists(st.binary(min_size=1).filter(lambda b: not set(b) & {0, 10, 13}), min_size=1),
        st.integers(1, 9),
        st.booleans(),
    )
    def test_a_newline_list_gives_names_back(self, names: list[bytes], size: int, ended: bool) -> None:
        whole = b"\n".join(names) + b"\n" * ended
        marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        assume(not whole.startswith(marks) and not PICTURE_SIGNATURES.match(whole))
        chunks = [whole[i : i + size] for i in range(0, len(whole), size)]
        assert [os.fsencode(name) for name in read_listing(Chunks(chunks))] == names

    def test_names_are_given_before_the_list_ends(self) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"a.jpg\nb"
            raise AssertionError("read on although a name was there")

        assert next(read_listing(Chunks(chunks()))) == "a.jpg"

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "GIF", "BMP"])
    def test_a_picture_is_no_list(self, format: str) -> None:
        file = io.BytesIO()
        Image.new("RGB", (40, 40)).save(file, format)
        with pytest.raises(ConfigError, match="standard input is a picture"):
            next(read_listing(io.BytesIO(file.getvalue())))


class Chunks(io.RawIOBase):
    """A stream whose every read gives the next chunk, as a pipe does."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = iter(chunks)

    def read(self, size: int = -1) -> bytes:
        return next(self._chunks, b"")


class TestFormats:
    @given(paths, st.booleans())
    def test_json_lines_give_the_row_back(self, path: str, good: bool) -> None:
        row = ok_row(path) if good else error_row(path)
        line = encode(row, "jsonl")
        assert json.loads(line) == row
        assert line.isascii()
        assert len(line.decode().splitlines()) == 1

    @given(paths, st.booleans())
    def test_csv_gives_the_row_back(self, path: str, good: bool) -> None:
        row = ok_row(path) if good else error_row(path)
        line = encode(row, "csv")
        (cells,) = csv.reader(io.StringIO(line.decode("utf-8"), newline=""))
        back = dict(zip(FLAT_COLUMNS, cells, strict=True))
        assert path_of_csv_name(back["path"]) == path
        assert json.loads(back["distortions"]) == []
        assert back["worst_block"] == ""
        assert (json.loads(back["error"]) if back["error"] else None) == row["error"]
        assert back["score"] == ("71.25" if good else "")
        ((again, end),) = read_rows(io.BytesIO(encode_header("csv") + line), "csv", "x.csv")
        assert (again["path"], again["status"]) == (path, row["status"])
        assert end == len(encode_header("csv") + line)

    def test_detail_has_its_score_in_a_column_of_its_own(self) -> None:
        names = {"kind": "jpeg", "group": "compression", "label": "JPEG artefacts", "kind_certain": True}
        fault = {**names, "severity": 3.0, "share": 0.5}
        tile = {"x": 0, "y": 8, "width": 384, "height": 384, "score": 40.5}
        row = Score("a.jpg", 71.25, 62.0, 80.5, 4000, 3000, "m@0", detail=Detail(41.5, (tile,), (fault,))).to_row()
        (cells,) = csv.reader(io.StringIO(encode(row, "csv").decode("utf-8"), newline=""))
        back = dict(zip(FLAT_COLUMNS, cells, strict=True))
        assert back["detail_score"] == "41.5"
        assert json.loads(back["detail"]) == row["detail"] == {"score": 41.5, "tiles": [tile], "distortions": [fault]}
        (again,) = parquet_table([row]).to_pylist()
        assert again["detail"] == row["detail"]
        assert encode(row, "table").endswith(b"a.jpg  (at 100 %: 41.5, JPEG artefacts)\n")

    def test_notes_are_words_in_the_table(self) -> None:
        line = encode({**ok_row("a.png"), "notes": ["not_a_photo", "of_tomorrow"]}, "table").decode()
        assert "(not a photo: the score is outside what this model knows; of tomorrow)" in line

    def test_plain_names_stay_plain_in_csv(self) -> None:
        row = encode(ok_row("photos/a b.jpg"), "csv")
        assert row.startswith(b"photos/a b.jpg,ok,71.25,62.0,80.5,40,30,[],,[],,,m@0,")

    @pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "\uff1d", '"='])
    def test_no_name_is_a_formula_in_csv(self, begin: str) -> None:
        name = f"{begin}HYPERLINK(1).jpg"
        line = encode(ok_row(name), "csv").decode("utf-8")
        (cells,) = csv.reader(io.StringIO(line, newline=""))
        assert cells[0].startswith('"')
        assert path_of_csv_name(cells[0]) == name
        assert path_of_csv_name(name.lstrip('"')) == name.lstrip('"'), "as earlier versions wrote it"

    def test_broken_names_are_readable_in_json_and_have_their_bytes_beside_them(self) -> None:
        line = encode(ok_row(os.fsdecode(b"\xff.jpg")), "jsonl")
        assert line.startswith(rb'{"path": "\ufffd.jpg", "path_base64": "/y5qcGc=", "status": ')

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_a_table_line_cannot_steer_the_terminal(self, name: str) -> None:
        for row in (ok_row(name), error_row(name)):
            line = encode(row, "table").decode("utf-8")
            assert line.endswith("\n")
            assert line[:-1].isprintable()


def encode_header(format: str) -> bytes:
    stream = io.BytesIO()
    StreamWriter(stream, format)
    return stream.getvalue()


class TestResultsFile:
    @pytest.mark.parametrize("format", ["jsonl", "csv"])
    def test_cut_anywhere_and_resumed_it_is_whole_again(self, tmp_path: Path, format: str) -> None:
        rows = [make(name) for name in ODD_NAMES[:8] for make in (ok_row, error_row)]
        whole = encode_header(format) + b"".join(encode(row, format) for row in rows)
        ends = [len(encode_header(format))]
        for row in rows:
            ends.append(ends[-1] + len(encode(row, format)))
        path = tmp_path / "rows"
        for cut in sorted({*range(0, len(whole), 7), *ends, *(end - 1 for end in ends[1:])}):
            path.write_bytes(whole[:cut])
            writer = FileWriter(str(path), format, resume=True)
            survived = sum(end <= cut for end in ends[1:])
            assert set(writer.done) == {(name_in(row), "m@0") for row in rows[:survived]}
            for row in rows[survived:]:
                writer.write(RowLine.of(row))
            writer.close()
            assert path.read_bytes() == whole

    def test_a_file_with_content_is_left_alone_without_resume(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text("hours of work\n")
        with pytest.raises(OutputError, match="--resume"):
            FileWriter(str(path), "jsonl")
        assert path.read_text() == "hours of work\n"
        path.write_text("")
        FileWriter(str(path), "jsonl").close()

    @pytest.mark.parametrize(
        ("format", "text"),
        [
            ("jsonl", "hours of work\n"),
            ("jsonl", "[1]\n"),
            ("jsonl", '{"path": "a"}\n'),
            ("csv", "a,b\n1,2\n"),
            ("csv", f"{','.join(FLAT_COLUMNS)}\n{'x' * 200_000}\n"),
        ],
    )
    def test_a_file_of_another_kind_is_not_resumed(self, tmp_path: Path, format: str, text: str) -> None:
        path = tmp_path / "rows"
        path.write_text(text)
        with pytest.raises(OutputError, match="not a"):
            FileWriter(str(path), format, resume=True)
        assert path.read_text() == text

    def test_a_second_run_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        first = FileWriter(str(path), "jsonl")
        for resume in (False, True):
            with pytest.raises(OutputError, match="another run"):
                FileWriter(str(path), "jsonl", resume=resume)
        first.close()
        FileWriter(str(path), "jsonl", resume=True).close()

    def test_a_file_system_without_locks_gives_a_warning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def no_locks(file: object, how: int) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        FileWriter(str(tmp_path / "rows.jsonl"), "jsonl").close()
        assert "cannot be locked" in caplog.text

    @pytest.mark.parametrize("place", ["missing/rows.jsonl", "."])
    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path, place: str) -> None:
        with pytest.raises(OutputError, match="cannot be written") as refused:
            FileWriter(str(tmp_path / place), "jsonl")
        assert refused.value.path == str(tmp_path / place)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_an_output_error(self) -> None:
        writer = FileWriter("/dev/full", "jsonl")
        with pytest.raises(OutputError, match="No space left"):
            writer.write(RowLine.of(ok_row("a.jpg")))
        writer.close()

    def test_only_regular_files_are_resumed(self) -> None:
        with pytest.raises(OutputError, match="regular"):
            FileWriter("/dev/null", "jsonl", resume=True)
        FileWriter("/dev/null", "jsonl").close()


class TestParquet:
    def test_without_pyarrow_the_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtra, match=r"the extra bulk"):
            ParquetWriter(str(tmp_path / "rows.parquet"))

    def test_rows_come_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs the [bulk] extra")
        monkeypatch.setattr(ParquetWriter, "GROUP", 3)
        names = {"kind": "motion_blur", "group": "blur", "label": "blurred", "kind_certain": False}
        kinds = [{**names, "severity": 3.2, "share": 0.25}]
        rows = [make(name) for name in ODD_NAMES for make in (ok_row, error_row)]
        rows[0] |= {"distortions": kinds, "worst_block": {"x": 0, "y": 5, "width": 6, "height": 7, "score": 41.0}}
        path = tmp_path / "rows.parquet"
        writer = ParquetWriter(str(path))
        for row in rows:
            writer.write(RowLine.of(row))
        assert not path.exists()
        writer.close()
        back = parquet.read_table(path).to_pylist()
        assert back == [{"path_base64": None, **row, **fault_columns(row)} for row in rows]
        with pytest.raises(OutputError, match="is there already"):
            ParquetWriter(str(path))


@pytest.fixture(scope="module")
def scorer(tiny_model: Path) -> Scorer:
    return Scorer(tiny_model)


class StubScorer:
    """Gives rows that it has as lines, as the watched process sends them."""

    model_id = "m@0"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def score_many(self, paths: Any, *, workers: int | None, max_pixels: int, detail: bool) -> Iterator[RowLine]:
        for _, row in zip(paths, self.rows, strict=True):
            yield RowLine.of(row)


class TestRowLine:
    @given(paths, st.booleans())
    def test_it_is_the_row_in_every_format(self, path: str, good: bool) -> None:
        row = ok_row(path) if good else error_row(path)
        line = RowLine.of(row)
        assert line.status == row["status"]
        assert line.to_row() == row
        for format in ("jsonl", "csv", "table"):
            assert line.encoded(format) == encode(row, format)

    def test_a_line_is_written_as_it_came_and_never_parsed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [ok_row("a.jpg"), error_row("b.jpg")]
        scorer, stream, counts = StubScorer(rows), io.BytesIO(), RunCounts()
        monkeypatch.delattr(RowLine, "to_row")
        score_all(scorer, ["a.jpg", "b.jpg"], StreamWriter(stream, "jsonl"), counts)  # type: ignore[arg-type]
        assert stream.getvalue() == encode(rows[0], "jsonl") + encode(rows[1], "jsonl")
        assert counts == RunCounts(2, 1, 0, 0)


class TestRun:
    @pytest.fixture
    def rows(self, tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
        return lambda: [json.loads(line) for line in (tmp_path / "rows.jsonl").read_bytes().splitlines()]

    def resume(self, scorer: Scorer, tmp_path: Path, names: list[str]) -> RunCounts:
        counts = RunCounts()
        writer = FileWriter(str(tmp_path / "rows.jsonl"), "jsonl", resume=True)
        score_all(scorer, names, writer, counts, done=writer.done, workers=2)
        writer.close()
        return counts

    def test_resume_leaves_out_what_has_a_row_errors_included(
        self, scorer: Scorer, photo_folder: Path, tmp_path: Path, rows: Callable[[], list[dict[str, Any]]]
    ) -> None:
        names = [str(path) for path in sorted(photo_folder.iterdir())] + ["missing.jpg"]
        assert self.resume(scorer, tmp_path, names[:3] + names[6:]) == RunCounts(4, 1, 0, 0)
        assert self.resume(scorer, tmp_path, names) == RunCounts(3, 0, 4, 1)
        assert sorted(row["path"] for row in rows()) == sorted(names)
        assert self.resume(scorer, tmp_path, names) == RunCounts(0, 0, 7, 1)
        assert len(rows()) == 7

    def test_resume_keeps_rows_of_another_model_and_adds_its_own(
        self, scorer: Scorer, photo_folder: Path, tmp_path: Path, rows: Callable[[], list[dict[str, Any]]]
    ) -> None:
        name = str(photo_folder / "a.jpg")
        (tmp_path / "rows.jsonl").write_bytes(encode(ok_row(name, "other@000000000000"), "jsonl"))
        assert self.resume(scorer, tmp_path, [name]) == RunCounts(1, 0, 0, 0)
        assert [row["model"] for row in rows()] == ["other@000000000000", scorer.model_id]

    def test_a_path_named_twice(
        self, scorer: Scorer, photo_folder: Path, tmp_path: Path, rows: Callable[[], list[dict[str, Any]]]
    ) -> None:
        name = str(photo_folder / "a.jpg")
        assert self.resume(scorer, tmp_path, [name, name]) == RunCounts(1, 0, 0, 0)
        assert len(rows()) == 1
        stream, counts = io.BytesIO(), RunCounts()
        score_all(scorer, [name, name], StreamWriter(stream, "jsonl"), counts)
        assert counts == RunCounts(2, 0, 0, 0)
        assert stream.getvalue().count(b"\n") == 2

    def test_rows_are_written_one_by_one(self, scorer: Scorer, photo_folder: Path, tmp_path: Path) -> None:
        writer = FileWriter(str(tmp_path / "rows.jsonl"), "jsonl")
        sizes: list[int] = []

        def count() -> None:
            sizes.append((tmp_path / "rows.jsonl").read_bytes().count(b"\n"))

        score_all(scorer, sorted(map(str, photo_folder.iterdir())), writer, RunCounts(), on_row=count)
        writer.close()
        assert sizes == [1, 2, 3, 4, 5, 6]


class TestHostile:
    def test_every_odd_file_gets_its_row(self, tiny_model: Path, tmp_path: Path) -> None:
        expected = make_odd_files(tmp_path)
        names = sorted(expected)
        listing = b"".join(os.fsencode(f"{tmp_path}/{name}") + b"\0" for name in names)
        done = subprocess.run(
            [sys.executable, "-m", "moslens", "score", "-", "--model", str(tiny_model)],
            input=listing, capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [name_in(row) for row in rows] == [f"{tmp_path}/{name}" for name in names]
        found = {name: row["error"] and row["error"]["code"] for name, row in zip(names, rows, strict=True)}
        assert found == expected
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 small pictures, two of them broken."""
    folder = tmp_path_factory.mktemp("many")
    data = [io.BytesIO() for _ in range(3)]
    for seed, stream in enumerate(data):
        make_photo(320, 240, seed=seed).save(stream, "JPEG")
    for number in range(300):
        name = folder / f"{number:03}.jpg"
        name.write_bytes(b"no picture" if number in (7, 250) else data[number % 3].getvalue())
    return folder


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "moslens", "score", *map(str, arguments)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, preexec_fn=heed_interrupts, **options)  # noqa: PLW1509


def wait_for_rows(path: Path, count: int, run: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert run.poll() is None, f"ended early: {run.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestProcess:
    @pytest.mark.parametrize("format", ["jsonl", "csv"])
    def test_killed_three_times_and_resumed_every_row_is_there_once(
        self, many: Path, tiny_model: Path, tmp_path: Path, format: str
    ) -> None:
        output = tmp_path / f"rows.{format}"
        options = ("--model", tiny_model, "--output", output, "--resume", "--workers", 3)
        listing = b"".join(os.fsencode(path) + b"\n" for path in sorted(many.iterdir()))
        moments = sorted(random.Random(format).sample(range(1, 290), 3))
        for rows in moments:
            run = start("-", *options, stdin=subprocess.PIPE)  # a list that stays open, so that the run cannot end
            assert run.stdin is not None
            run.stdin.write(listing)
            run.stdin.flush()
            wait_for_rows(output, rows, run)
            run.kill()
            assert run.wait() == -signal.SIGKILL
            run.communicate()
            if rows == moments[1]:
                with output.open("ab") as file:
                    file.write(output.read_bytes().splitlines()[-1][:40])
        run = start(many, *options)
        errors = run.communicate(timeout=120)[1]
        assert run.returncode == 1, errors
        with output.open("rb") as file:
            found = [(row["path"], row["status"]) for row, _ in read_rows(file, format, "rows")]
        expected = [(str(path), "error" if path.stem in {"007", "250"} else "ok") for path in sorted(many.iterdir())]
        assert found == expected
        assert output.read_bytes().count(b"\n") == 300 + (format == "csv")

    def test_interrupted_it_leaves_whole_rows_and_says_130(self, many: Path, tiny_model: Path, tmp_path: Path) -> None:
        output = tmp_path / "rows.jsonl"
        run = start(many, "--model", tiny_model, "--output", output)
        wait_for_rows(output, 20, run)
        run.send_signal(signal.SIGINT)
        errors = run.communicate(timeout=60)[1].decode()
        assert run.returncode == 130
        assert "interrupted: " in errors
        assert "Traceback" not in errors
        rows = [json.loads(line) for line in output.read_bytes().splitlines()]
        assert 20 <= len(rows) < 300
        assert f"{len(rows)} rows" in errors

    def test_names_are_scored_as_they_come_and_an_idle_list_can_be_interrupted(
        self, many: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "rows.jsonl"
        run = start("-", "--model", tiny_model, "--output", output, stdin=subprocess.PIPE)
        assert run.stdin is not None
        for number in range(3):
            run.stdin.write(f"{many}/{number:03}.jpg\n".encode())
            run.stdin.flush()
            wait_for_rows(output, number + 1, run)
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
        errors = run.communicate()[1]
        assert b"interrupted: 3 rows" in errors
        assert b"Fatal" not in errors

    def test_a_closed_pipe_ends_quietly(self, many: Path, tiny_model: Path) -> None:
        run = start(many, "--model", tiny_model, stdout=subprocess.PIPE)
        assert run.stdout is not None
        assert b'"path"' in run.stdout.readline()
        run.stdout.close()
        errors = run.communicate(timeout=60)[1]
        assert run.returncode == 0
        assert errors == b""
