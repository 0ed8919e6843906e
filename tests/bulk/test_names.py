"""Names that are not UTF-8: every reader opens the results, and resume goes by the bytes."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from helpers.map_model import make_map_model
from helpers.tiny_model import make_photo
from moslens.bulk.inputs import find_pictures
from moslens.bulk.parquet_parts import ParquetParts
from moslens.bulk.rows import RowLine, encode
from moslens.bulk.writers import FileWriter
from moslens.errors import CorruptImage
from moslens.scoring.result import Failure, Score
from moslens.system.text import name_fields, name_in, path_of_csv_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")

RAW = b"b\xe4r \xff\xfe.png"
SHOWN = "b\ufffdr \ufffd\ufffd.png"
BOX = {"x": 0, "y": 0, "width": 4, "height": 3, "score": 41.0}
KINDS = ({"kind": "motion_blur", "group": "blur", "severity": 3.2, "share": 0.25},)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A name that is not UTF-8, of a picture and of a broken file, among other names."""
    place = tmp_path / "pictures"
    place.mkdir()
    for name in ("a.png", "ü.png", os.fsdecode(RAW)):
        make_photo(80, 60, seed=len(name)).save(place / name)
    (place / os.fsdecode(b"bad\xe4.png")).write_bytes(b"no picture")
    return place


def moslens(*words: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "moslens", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False, timeout=300)


def names(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir(), key=os.fsencode)]


def test_a_row_holds_the_replacement_character_and_the_bytes() -> None:
    path = os.fsdecode(b"p/" + RAW)
    for row in (
        Score(path, 50.0, 40.0, 60.0, 4, 3, "m@0").to_row(),
        Failure(path, CorruptImage("broken", path), "m@0").to_row(),
    ):
        assert list(row)[:3] == ["path", "path_base64", "status"]
        assert row["path"] == f"p/{SHOWN}"
        assert os.fsencode(name_in(row)) == b"p/" + RAW
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    assert row["error"]["message"] == f"p/{SHOWN}: broken"


def test_rows_of_other_names_are_as_they_were() -> None:
    row = Score("a/ü \u2028.jpg", 71.25, 62.0, 80.5, 40, 30, "m@0", KINDS, BOX, "0.1.0").to_row()
    assert encode(row, "jsonl") == (
        b'{"path": "a/\\u00fc \\u2028.jpg", "status": "ok", "score": 71.25, "low": 62.0, "high": 80.5, "width": 40, '
        b'"height": 30, "distortions": [{"kind": "motion_blur", "group": "blur", "severity": 3.2, "share": 0.25}], '
        b'"worst_block": {"x": 0, "y": 0, "width": 4, "height": 3, "score": 41.0}, "notes": [], "detail": null, '
        b'"model": "m@0", "version": "0.1.0", '
        b'"error": null}\n'
    )
    row = Failure("b.jpg", CorruptImage("broken", "b.jpg"), "m@0", "0.1.0").to_row()
    assert encode(row, "jsonl") == (
        b'{"path": "b.jpg", "status": "error", "score": null, "low": null, "high": null, "width": null, '
        b'"height": null, "distortions": [], "worst_block": null, "notes": [], "detail": null, "model": "m@0", '
        b'"version": "0.1.0", "error": {"code": "corrupt", "message": "b.jpg: broken"}}\n'
    )
    assert encode(row, "csv") == (
        b'b.jpg,error,,,,,,[],,[],,,m@0,0.1.0,"{""code"": ""corrupt"", ""message"": ""b.jpg: broken""}",,,,,,\n'
    )


def test_half_of_a_surrogate_pair_from_a_program_is_readable_too() -> None:
    fields = name_fields("path", "\ud800.png")
    assert fields["path"] == "\ufffd.png"
    json.dumps(fields, ensure_ascii=False).encode("utf-8")


def test_every_reader_opens_json_lines(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    done = moslens("score", folder, "--model", tiny_model, "--output", output)
    assert done.returncode == 1, done.stderr
    data = output.read_bytes()
    assert b"\\ud" not in data
    rows = [json.loads(line) for line in data.splitlines()]
    assert [name_in(row) for row in rows] == sorted(names(folder))
    assert [("path_base64" in row) for row in rows] == [b"\\ufffd" in line for line in data.splitlines()]
    shown = [row["path"] for row in rows]
    assert list(pd.read_json(output, lines=True)["path"]) == shown
    table = pyarrow.json.read_json(output)
    assert table["path"].to_pylist() == shown
    assert table["path_base64"].to_pylist() == [row.get("path_base64") for row in rows]
    (bad,) = [row for row in rows if row["error"]]
    assert bad["error"]["message"].startswith(f"{folder}/bad\ufffd.png: ")


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_resume_knows_the_file_by_its_bytes(folder: Path, tiny_model: Path, tmp_path: Path, format: str) -> None:
    output = tmp_path / f"rows.{format}"
    words = ("score", folder, "--model", tiny_model, "--output", output, "--resume")
    assert moslens(*words).returncode == 1
    before = output.read_bytes()
    (folder / os.fsdecode(RAW.replace(b"\xfe", b"\xfd"))).write_bytes((folder / "a.png").read_bytes())
    again = moslens(*words)
    assert b"1 row in" in again.stderr, "one that reads the same but has other bytes is another file"
    assert b"4 had their row" in again.stderr
    assert output.read_bytes().startswith(before)


def test_rows_of_an_earlier_version_are_known_too(tmp_path: Path) -> None:
    path = os.fsdecode(RAW)
    row = {**Score("x", 50.0, 40.0, 60.0, 4, 3, "m@0").to_row(), "path": path}
    (tmp_path / "rows.jsonl").write_bytes(json.dumps(row).encode("ascii") + b"\n")
    writer = FileWriter(str(tmp_path / "rows.jsonl"), "jsonl", resume=True)
    writer.close()
    assert writer.done == {(path, "m@0"): 50.0}


def test_csv_is_ascii_where_a_name_is_not_utf8(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    assert moslens("score", folder, "--model", tiny_model, "--output", output).returncode == 1
    rows = list(csv.DictReader(io.StringIO(output.read_bytes().decode("utf-8"), newline="")))
    assert [path_of_csv_name(row["path"]) for row in rows] == sorted(names(folder))
    assert list(pd.read_csv(output)["path"]) == [row["path"] for row in rows]
    assert [row["path"].isascii() for row in rows if "\\udc" in row["path"]] == [True, True]


def test_parquet_has_the_bytes_in_a_column_and_is_a_list_again(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.parquet"
    assert moslens("score", folder, "--model", tiny_model, "--output", output).returncode == 1
    rows = pq.read_table(output).to_pylist()
    assert [name_in(row) for row in rows] == sorted(names(folder))
    assert [row["path_base64"] is None for row in rows] == ["\ufffd" not in row["path"] for row in rows]
    assert list(pd.read_parquet(output)["path"]) == [row["path"] for row in rows]
    assert list(find_pictures([str(output)], io.BytesIO())) == sorted(names(folder))


def test_parts_of_this_and_of_an_earlier_version_are_known(tmp_path: Path) -> None:
    path = os.fsdecode(RAW)
    parts = ParquetParts(str(tmp_path / "parts"))
    quoted = ['"quoted".jpg', path]
    parts.write("part-0000000000-aa.parquet", [Score(one, 1.0, 0.0, 2.0, 4, 3, "m@0").to_row() for one in quoted])
    old = {"path": [json.dumps(path[::-1]), '"x"'], "model": ["m@0", "m@0"], "status": ["ok", "error"]}
    pq.write_table(pa.table(old), tmp_path / "parts" / "part-0000000002-bb.parquet")
    assert parts.done("m@0") == ({*quoted, path[::-1], "x"}, 1)


def test_a_part_without_the_columns_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"], "model": ["m@0"]}), tmp_path / "part-1.parquet")
    with pytest.raises(Exception, match="not a part of results"):
        ParquetParts(str(tmp_path)).done("m@0")


def test_explain_writes_names_that_every_reader_takes(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = moslens("explain", folder, "--output", output, "--model", make_map_model(tmp_path / "colours"))
    assert done.returncode == 1, done.stderr
    written = [*output.glob("*.json"), output / "rows.jsonl"]
    assert len(written) == 4
    found = [json.loads(line) for path in written for line in path.read_bytes().splitlines()]
    for row in found:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    assert {name_in(row) for row in found} == set(names(folder))
    (output / "index.html").read_bytes().decode("utf-8")


def test_degrade_labels_are_readable(folder: Path, tmp_path: Path) -> None:
    assert moslens("degrade", folder, "--output", tmp_path / "out").returncode == 1
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_bytes().splitlines()
    ]
    for row in rows:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    assert sorted(name_in(row, "source") for row in rows) == sorted(names(folder))
    pictures = [name_in(row) for row in rows if row["path"] is not None]
    assert all((tmp_path / "out" / name).is_file() for name in pictures)
    (bad,) = [row for row in rows if "error" in row]
    assert bad["error"]["message"].startswith(f"{folder}/bad\ufffd.png: ")


def test_a_batch_of_rows_gets_readable_messages(tiny_model: Path) -> None:
    from moslens import Scorer

    batch = Scorer(tiny_model)({"path": [os.fsdecode(b"gone\xff.png")]})
    assert batch["error"] == ["gone\ufffd.png: No such file or directory"]


def test_a_line_that_is_sent_keeps_the_bytes() -> None:
    row = Score(os.fsdecode(RAW), 50.0, 40.0, 60.0, 4, 3, "m@0").to_row()
    assert name_in(RowLine.of(row).to_row()) == os.fsdecode(RAW)


@pytest.mark.parametrize("format", ["json", "table"])
def test_compare_shows_such_names(folder: Path, tiny_model: Path, tmp_path: Path, format: str) -> None:
    model = make_map_model(tmp_path / "colours")
    done = moslens("compare", tiny_model, model, folder, "--format", format)
    assert done.returncode == 1, done.stderr
    assert b"Traceback" not in done.stderr
    done.stdout.decode("utf-8")
    if format == "json":
        moved = json.loads(done.stdout)["moved"]
        assert f"{folder}/{SHOWN}" in [move["name"] for move in moved]
