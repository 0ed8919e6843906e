"""--sort and --worst: which rows, in which order, in files of every format, and after a resume."""

import csv
import io
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command import call
from moslens.bulk.rows import FLAT_COLUMNS, RowLine, encode, read_rows
from moslens.bulk.selection import SelectingWriter, Selection, Sort
from moslens.bulk.spreadsheet import XlsxWriter
from moslens.bulk.writers import FileWriter, ParquetWriter, StreamWriter
from moslens.errors import ImageError, OutputError
from moslens.scoring.result import Failure, Score

FAULT = {"kind": "motion_blur", "group": "blur", "severity": 3.5, "share": 0.25}
SECOND = {"kind": "jpeg", "group": "compression", "severity": 2.0, "share": 0.1}


def line(path: str, score: float | None, model: str = "m@0", **fields: Any) -> RowLine:
    if score is None:
        return RowLine.of(Failure(path, ImageError("broken", path), model).to_row())
    return RowLine.of(Score(path, score, 0.0, 100.0, 40, 30, model, **fields).to_row())


def paths_in(file: Path, format: str = "jsonl") -> list[str]:
    with file.open("rb") as stream:
        return [row["path"] for row, _ in read_rows(stream, format, str(file))]


class Rows:
    """A writer that keeps what it gets."""

    def __init__(self) -> None:
        self.rows: list[RowLine] = []
        self.closed = False

    def write(self, row: RowLine) -> None:
        self.rows.append(row)

    def close(self) -> None:
        self.closed = True


KEYS = st.lists(st.tuples(st.none() | st.floats(0, 100), st.text("abc", max_size=3)), max_size=40)


@given(KEYS, st.none() | st.sampled_from(Sort), st.none() | st.integers(1, 45))
def test_places_are_the_lowest_and_all_errors_in_order(
    keys: list[tuple[float | None, str]], sort: Sort | None, worst: int | None
) -> None:
    places = Selection(sort, worst).places(keys)
    assert len(set(places)) == len(places)
    errors = [place for place, (score, _) in enumerate(keys) if score is None]
    scores = sorted(score for score, _ in keys if score is not None)
    assert set(errors) <= set(places)
    chosen = [keys[place][0] for place in places]
    found = [score for score in chosen if score is not None]
    assert sorted(found) == scores[: len(scores) if worst is None else worst]
    if sort is Sort.path:
        assert [keys[place][1] for place in places] == sorted(keys[place][1] for place in places)
    elif sort or worst:
        assert found == sorted(found)
        assert places[len(found) :] == errors
    else:
        assert places == list(range(len(keys)))


def test_the_worst_are_kept_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moslens.bulk.selection._SPARE_ROWS", 10)
    inner = Rows()
    writer = SelectingWriter(inner, Selection(worst=5))
    most = 0
    for number in range(500):
        writer.write(line(f"{number}.jpg", None if number == 250 else (number * 37) % 500 / 5))
        most = max(most, len(writer._rows))
    assert most <= 2 * 5 + 10 + 1
    assert not inner.rows
    writer.close()
    assert inner.closed
    assert [row.score for row in inner.rows] == [0.0, 0.2, 0.4, 0.6, 0.8, None]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_a_file_is_sorted_in_place_and_goes_on(tmp_path: Path, format: str) -> None:
    target = tmp_path / f"rows.{format}"
    link = tmp_path / f"link.{format}"
    link.symlink_to(target)
    writer = FileWriter(str(link), format)
    for row in (line("other.jpg", 1, "n@1"), line("=b.jpg", 50), line("bad.jpg", None), line("a.jpg", 9)):
        writer.write(row)
    writer.select(Selection(Sort.score), "m@0")
    writer.close()
    assert link.is_symlink()
    assert paths_in(target, format) == ["other.jpg", "a.jpg", "=b.jpg", "bad.jpg"]
    with target.open("ab") as torn:
        torn.write(line("torn.jpg", 3).encoded(format)[:-20])
    writer = FileWriter(str(target), format, resume=True)
    assert writer.done == {
        ("other.jpg", "n@1"): 1.0, ("a.jpg", "m@0"): 9.0, ("=b.jpg", "m@0"): 50.0, ("bad.jpg", "m@0"): None,
    }  # fmt: skip
    writer.write(line("c.jpg", 20))
    writer.select(Selection(worst=2), "m@0")
    writer.close()
    assert paths_in(target, format) == ["other.jpg", "a.jpg", "c.jpg", "bad.jpg"]


def test_the_first_fault_has_flat_columns_in_csv_and_parquet(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    labelled = {**FAULT, "label": "blurred", "kind_certain": False}
    rows = [line("a.jpg", 9, distortions=(labelled, SECOND)), line("b.jpg", 50), line("c.jpg", None)]
    text = encode(rows[0].to_row(), "csv") + encode(rows[1].to_row(), "csv") + encode(rows[2].to_row(), "csv")
    cells = list(csv.DictReader(io.StringIO(text.decode()), FLAT_COLUMNS))
    assert [cell["fault"] for cell in cells] == ["motion_blur", "", ""]
    assert [cell["fault_kind_certain"] for cell in cells] == ["false", "", ""], "the kind is a guess"
    names = ("fault_group", "fault_label", "fault_severity", "fault_share")
    assert [cells[0][name] for name in names] == ["blur", "blurred", "3.5", "0.25"]
    writer = ParquetWriter(str(tmp_path / "rows.parquet"))
    for row in rows:
        writer.write(row)
    writer.close()
    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["fault"] for row in table] == ["motion_blur", None, None]
    assert [row["fault_kind_certain"] for row in table] == [False, None, None]
    assert [table[0][name] for name in names] == ["blur", "blurred", 3.5, 0.25]
    assert table[0]["distortions"] == [labelled, {**SECOND, "label": None, "kind_certain": None}]


def test_the_table_shows_faults_by_label() -> None:
    stream = io.BytesIO()
    writer = StreamWriter(stream, "table")
    writer.write(line("a.jpg", 9, distortions=({**FAULT, "label": "shaken \x1b[31m"}, SECOND)))
    writer.write(line("b.jpg", 50))
    shown = stream.getvalue().decode().splitlines()
    assert "shaken \\x1b[31m, jpeg" in shown[1]
    assert shown[2].split()[-2:] == ["-", "b.jpg"]


def test_texts_from_a_model_are_no_formulas_in_csv_and_come_back(tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    writer = FileWriter(str(target), "csv")
    writer.write(line("@a.jpg", 9, "=m@0", distortions=({**FAULT, "kind": "+k", "group": "=g", "label": "-l"},)))
    writer.close()
    (row,) = csv.DictReader(io.StringIO(target.read_text(), newline=""))
    assert not any(str(cell).startswith(("=", "+", "-", "@")) for cell in row.values())
    writer = FileWriter(str(target), "csv", resume=True)
    writer.close()
    assert writer.done == {("@a.jpg", "=m@0"): 9.0}


class TestXlsx:
    @pytest.fixture(autouse=True)
    def needs(self) -> None:
        pytest.importorskip("xlsxwriter", reason="needs the xlsx extra")

    def read(self, path: Path) -> list[dict[str, Any]]:
        openpyxl = pytest.importorskip("openpyxl")
        sheet = openpyxl.load_workbook(path)["scores"]
        assert all(cell.data_type != "f" for row in sheet for cell in row), "a formula"
        assert not any(cell.hyperlink for row in sheet for cell in row)
        header, *rows = sheet.iter_rows(values_only=True)
        assert header == FLAT_COLUMNS
        return [dict(zip(header, row, strict=True)) for row in rows]

    def test_texts_stay_texts_and_numbers_are_numbers(self, tmp_path: Path) -> None:
        names = ["=1+1.jpg", "+a.jpg", "-a.jpg", "@a.jpg", "http://a.jpg", "a\x07\nb.jpg", "007", "\udcff.jpg"]
        writer = XlsxWriter(str(tmp_path / "rows.xlsx"))
        for number, name in enumerate(names):
            writer.write(line(name, 10.5 * number, distortions=({**FAULT, "kind_certain": number > 0}, SECOND)))
        writer.write(line("x" * 40_000, None))
        assert not (tmp_path / "rows.xlsx").exists()
        writer.close()
        assert [path.name for path in tmp_path.iterdir()] == ["rows.xlsx"]
        rows = self.read(tmp_path / "rows.xlsx")
        assert [row["path"] for row in rows[:5]] == names[:5]
        assert rows[6]["path"] == "007"
        assert rows[7]["path"] == '"\\udcff.jpg"'
        assert len(rows[8]["path"]) == 32_767
        assert [row["score"] for row in rows[:3]] == [0, 10.5, 21]
        assert (rows[0]["fault"], rows[0]["fault_severity"]) == ("motion_blur", 3.5)
        assert [rows[number]["fault_kind_certain"] for number in (0, 1, 8)] == [False, True, None]
        assert json.loads(rows[0]["distortions"]) == [{**FAULT, "kind_certain": False}, SECOND]
        assert (rows[8]["score"], rows[8]["status"]) == (None, "error")

    def test_a_file_that_is_there_a_second_run_and_a_full_sheet_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "rows.xlsx"
        first = XlsxWriter(str(target))
        with pytest.raises(OutputError, match="another run"):
            XlsxWriter(str(target))
        monkeypatch.setattr("moslens.bulk.spreadsheet.MOST_ROWS", 1)
        first.write(line("a.jpg", 1))
        with pytest.raises(OutputError, match="a sheet holds 1 rows: write csv or parquet"):
            first.write(line("b.jpg", 2))
        first.close()
        assert [row["path"] for row in self.read(target)] == ["a.jpg"]
        with pytest.raises(OutputError, match="is there already"):
            XlsxWriter(str(target))

    def test_a_folder_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="cannot be written"):
            XlsxWriter(str(tmp_path / "none" / "rows.xlsx"))


class TestCommand:
    @pytest.fixture
    def photos(self, photo_folder: Path, tmp_path: Path) -> Path:
        copy = tmp_path / "photos"
        shutil.copytree(photo_folder, copy)
        (copy / "bad.jpg").write_bytes(b"not a picture")
        return copy

    def test_a_limit_counts_and_tells_low_from_unreadable(
        self, photos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "rows.jsonl"
        words = ("score", photos, "--model", tiny_model, "-o", target)
        assert call(*words) == 1
        scores = sorted(row["score"] for row in map(json.loads, target.read_text().splitlines()) if row["score"])
        limit = (scores[1] + scores[2]) / 2
        capsys.readouterr()
        assert call(*words, "--resume", "--min-score", limit) == 1
        assert "2 pictures below" in (shown := capsys.readouterr().err)
        assert "1 could not be read" in shown
        (photos / "bad.jpg").unlink()
        words = ("score", photos, "--model", tiny_model, "-o", tmp_path / "again.jsonl", "--min-score")
        assert call(*words, limit) == 1
        assert "2 pictures below" in (shown := capsys.readouterr().err)
        assert "0 could not be read" in shown
        assert call(*words, 0, "--resume") == 0
        assert "0 pictures below 0, 0 could not be read" in capsys.readouterr().err

    def test_sorted_and_resumed_is_as_sorted_at_once(self, photos: Path, tiny_model: Path, tmp_path: Path) -> None:
        at_once, resumed = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
        options = ("--model", tiny_model, "--sort", "score")
        assert call("score", photos, *options, "-o", at_once) == 1
        assert call("score", photos / "a.jpg", photos / "bad.jpg", *options, "-o", resumed) == 1
        assert call("score", photos, *options, "-o", resumed, "--resume") == 1
        assert at_once.read_bytes() == resumed.read_bytes()
        assert call("score", photos, *options, "-o", resumed, "--resume", "--worst", "2") == 1
        lines = at_once.read_bytes().splitlines()
        assert resumed.read_bytes().splitlines() == [*lines[:2], lines[-1]]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("-o", "rows.json"), "rows.json: no format has the ending .json"),
            (("--format", "html"), "html needs --output"),
            (("--format", "xlsx"), "xlsx needs --output"),
            (("-o", "rows.xlsx", "--resume"), "--resume needs --output with a jsonl, csv or html file"),
            (("--engine", "ray", "-o", "rows", "--worst", "2"), "are for --engine local"),
        ],
    )
    def test_wrong_use_is_one_line(
        self,
        photo_folder: Path,
        words: tuple[str, ...],
        message: str,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert call("score", photo_folder, *words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert message in lines[0]
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["xlsx", "parquet"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    ending: str, photo_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("xlsxwriter" if ending == "xlsx" else "pyarrow", reason="the extras xlsx and bulk")
    place = tmp_path / "out"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "moslens", "score", photo_folder, "--model", tiny_model, "-o", place / f"rows.{ending}"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"moslens: {place / f'rows.{ending}'}: cannot be written: File too large\n"
    assert list(place.iterdir()) == []
