"""Raw files of cameras: DNG files written here, with and without a preview, turned, damaged, and hostile bytes."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rawpy", reason="needs the raw extra")

import tifffile

from helpers.processes import alive, wait_for
from moslens import CorruptImage, ImageError, ImageTooLarge, TruncatedImage, UnsupportedImage
from moslens.bulk.watched import WatchedScorer
from moslens.picture import raw
from moslens.picture.load import load

CFA = 32803
_UNIT = [value for number in (1, 0, 0, 0, 1, 0, 0, 0, 1) for value in (number, 1)]


def write_dng(path: Path, *, preview: tuple[int, int] | None = None, orientation: int = 1) -> Path:
    """An uncompressed mosaic of 240 x 160, the left half dark, perhaps with a JPEG preview of (width, height)."""
    mosaic = np.full((160, 240), 9000, np.uint16)
    mosaic[:, :120] = 1500
    camera: list[Any] = [
        (50706, "B", 4, (1, 4, 0, 0)),
        (50708, "s", 0, "Moslens Test"),
        (50721, "2i", 9, _UNIT),
        (50728, "2I", 3, (1, 2, 1, 1, 1, 2)),
        (50778, "H", 1, 21),
        (274, "H", 1, orientation),
    ]
    sensor: list[Any] = [
        (33421, "H", 2, (2, 2)),
        (33422, "B", 4, (0, 1, 1, 2)),
        (50714, "H", 1, 0),
        (50717, "I", 1, 16383),
    ]
    with tifffile.TiffWriter(path) as writer:
        if preview is None:
            writer.write(mosaic, photometric=CFA, extratags=camera + sensor, metadata=None)
            return path
        width, height = preview
        photo = np.full((height, width, 3), 128, np.uint8)  # YCbCr, grey
        photo[..., 0] = 200
        photo[:, : width // 2, 0] = 20
        thumbnail = np.zeros((8, 8, 3), np.uint8)
        writer.write(thumbnail, photometric="rgb", subfiletype=1, subifds=2, extratags=camera, metadata=None)
        writer.write(mosaic, photometric=CFA, subfiletype=0, extratags=sensor, metadata=None)
        jpeg = {"compression": "jpeg", "compressionargs": {"level": 90}}
        writer.write(photo, photometric="ycbcr", subfiletype=1, rowsperstrip=height, metadata=None, **jpeg)
    return path


def test_the_preview_is_taken_when_it_is_large_and_the_row_says_so(tmp_path: Path) -> None:
    picture = load(write_dng(tmp_path / "a.dng", preview=(1600, 1064)))
    assert (picture.width, picture.height, picture.notes) == (1600, 1064, ("preview",))
    half = picture.pixels.shape[1] // 2
    assert abs(picture.pixels[:, : half - 4].mean() - 20) < 2
    assert abs(picture.pixels[:, half + 4 :].mean() - 200) < 2


@pytest.mark.parametrize("preview", [None, (1599, 1063)])
def test_without_a_large_preview_it_is_developed_at_half_size(tmp_path: Path, preview: tuple[int, int] | None) -> None:
    picture = load(write_dng(tmp_path / "a.NEF", preview=preview))
    assert (picture.width, picture.height, picture.notes) == (120, 80, ())
    assert picture.pixels[:, :50].mean() < 0.6 * picture.pixels[:, -50:].mean()


@pytest.mark.parametrize("preview", [None, (1600, 1064)])
def test_orientation_turns_preview_and_development_alike(tmp_path: Path, preview: tuple[int, int] | None) -> None:
    picture = load(write_dng(tmp_path / "a.dng", preview=preview, orientation=6))
    assert picture.width < picture.height
    half = picture.pixels.shape[0] // 2
    assert picture.pixels[: half - 4].mean() < 0.6 * picture.pixels[half + 4 :].mean(), "left is above, turned by 90"


def test_bytes_without_a_name_and_a_tiff_name_are_known_by_their_tags(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.tif")
    assert np.array_equal(load(path).pixels, load(path.read_bytes()).pixels)


def test_size_caps_hold_for_the_sensor(tmp_path: Path) -> None:
    with pytest.raises(ImageTooLarge, match=r"a\.dng: 240 x 160 = 38,400 pixels are more than the cap of 38,399"):
        load(write_dng(tmp_path / "a.dng", preview=(1600, 1064)), max_pixels=38_399)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.98])
def test_a_file_that_ends_early_is_truncated(tmp_path: Path, kept: float) -> None:
    path = write_dng(tmp_path / "a.dng")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(TruncatedImage, match=r"a\.dng: the camera raw file ends before"):
        load(path)


def test_bytes_of_no_format_are_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "a.nef"
    path.write_bytes(random.Random(0).randbytes(50_000))
    with pytest.raises(UnsupportedImage, match="that libraw does not read"):
        load(path)


def test_flipped_bytes_give_a_picture_or_a_typed_error(tmp_path: Path) -> None:
    data = write_dng(tmp_path / "a.dng", preview=(1600, 1064)).read_bytes()
    draw = random.Random(1)
    for number in range(6):
        broken = bytearray(data)
        for _ in range(40):
            broken[draw.randrange(2000) if number % 2 else draw.randrange(len(data))] = draw.randrange(256)
        path = tmp_path / f"{number}.dng"
        path.write_bytes(broken)
        found: object = None
        try:
            found = load(path).pixels.shape[2]
        except ImageError as error:
            found = error.path
        assert found in (3, str(path))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "ended its process"),
        ("import time; time.sleep(60)", "took more than"),
        ("print()", "ended its process"),
    ],
)
def test_a_reader_that_crashes_hangs_or_says_nothing_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    monkeypatch.setattr(raw, "_START", code)
    monkeypatch.setattr(raw, "SECONDS", 2.0)
    with pytest.raises(CorruptImage, match=message):
        load(write_dng(tmp_path / "a.dng"))


def test_the_reader_ends_with_its_parent(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    child = (
        "import os, sys, time; from pathlib import Path; from moslens.system.children import end_with_parent;"
        f"end_with_parent(int(sys.argv[1])); Path({str(started)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys, time; from pathlib import Path;"
        f"subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())]);"
        f"path = Path({str(started)!r})\n"
        "while not path.exists() or not path.read_text(): time.sleep(0.05)\n"
        "os.abort()"
    )
    subprocess.run([sys.executable, "-c", parent], check=False, timeout=60, stderr=subprocess.DEVNULL)
    wait_for(lambda: not alive(int(started.read_text())), 10)


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(UnsupportedImage) as refused:
        load(write_dng(tmp_path / "a.dng"))
    assert "a.dng: a camera raw file needs rawpy: pip install rawpy (the extra raw)" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rows_carry_the_note_and_a_broken_raw_file_costs_its_own(tmp_path: Path, tiny_model: Path) -> None:
    good = str(write_dng(tmp_path / "a.dng", preview=(1600, 1064)))
    bad = tmp_path / "b.dng"
    bad.write_bytes(Path(good).read_bytes()[:40_000])
    with WatchedScorer(tiny_model) as scorer:
        rows = [row.to_row() for row in scorer.score_many([good, os.fspath(bad), good], workers=1)]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert rows[0]["notes"] == ["preview", "not_a_photo", "monochrome"]  # the preview is a ramp of grey
    assert rows[1]["error"]["code"] == "truncated"
