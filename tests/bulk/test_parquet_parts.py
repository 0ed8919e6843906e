"""Parquet parts: named by content, whole or not at all, read back by a later run; and the pieces they hold."""

import os
import pickle
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moslens.bulk.parquet_parts import ParquetParts, chunks, part_name
from moslens.errors import CorruptImage, OutputError
from moslens.scoring.result import Failure, Score

ODD = ["plain.jpg", os.fsdecode(b"\xff\xfe.jpg"), '"quoted".jpg', "new\nline.jpg", "日本.jpg"]


def rows(paths: list[str], model: str = "m@1") -> list[dict[str, object]]:
    good = [Score(path, 50.0, 40.0, 60.0, 4, 3, model).to_row() for path in paths[:-1]]
    return [*good, Failure(paths[-1], CorruptImage("broken", paths[-1]), model).to_row()]


@given(st.lists(st.text("abc", min_size=1, max_size=2), max_size=40), st.integers(1, 7), st.integers(0, 40))
def test_a_listing_that_did_not_change_is_cut_at_the_same_places(paths: list[str], size: int, finished: int) -> None:
    whole = list(chunks(paths, set(), size))
    assert [path for _, piece in whole for path in piece] == list(dict.fromkeys(paths)), "each path once, in order"
    assert all(paths[start] == piece[0] for start, piece in whole)
    assert all(len(piece) == size for _, piece in whole[:-1])
    kept = whole[:: finished + 1]
    rest = list(chunks(paths, {path for _, piece in kept for path in piece}, size))
    assert rest == [piece for piece in whole if piece not in kept]


def test_the_name_tells_model_and_paths_apart() -> None:
    names = [part_name(0, ["a", "b"], "m@1"), part_name(0, ["a", "b"], "m@2"), part_name(0, ["a", "c"], "m@1")]
    names += [part_name(1, ["a", "b"], "m@1"), part_name(0, ["ab"], "m@1"), part_name(0, ODD, "m@1")]
    assert len(set(names)) == len(names)
    assert sorted([part_name(10**9, ["a"], "m"), part_name(9, ["a"], "m")])[0].startswith("part-0000000009-")


@pytest.mark.parametrize("place", ["local", "memory"])
def test_rows_come_back_and_unfinished_files_do_not(place: str, tmp_path: Path) -> None:
    url = str(tmp_path / "out") if place == "local" else "memory://parts"
    parts: ParquetParts = pickle.loads(pickle.dumps(ParquetParts(url)))
    assert not parts
    parts.write("part-0000000000-aa.parquet", rows(ODD))
    parts.write("part-0000000000-aa.parquet", rows(ODD))
    parts.write("part-0000000005-bb.parquet", rows(["x", "y"], "m@2"))
    assert parts
    assert parts.done("m@1") == (set(ODD), 1)
    assert parts.done("m@2") == ({"x", "y"}, 1)
    if place == "local":
        left = tmp_path / "out" / ".part-0000000007-cc.parquet.1234"
        left.write_bytes(b"PAR1 half")
        assert ParquetParts(url).done("m@1") == (set(ODD), 1)
        assert pq.read_table(tmp_path / "out").num_rows == len(ODD) + 2, "readers of the folder pass over it"
        parts.tidy()
        assert not left.exists()
    else:
        fsspec.filesystem("memory").store.clear()


def test_what_is_no_part_or_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-1.parquet").write_bytes(b"nonsense")
    with pytest.raises(OutputError, match=r"part-1\.parquet: not a part"):
        ParquetParts(str(tmp_path)).done("m")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        ParquetParts(str(tmp_path / "file"))
