"""``moslens rate`` as a user meets it: what it shows, what it writes, killed and repeated, read back by exiftool."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import wait_for
from helpers.tiny_model import make_photo
from moslens.rating.plan import read_plan
from moslens.rating.xmp import RATING, Packet

EXIFTOOL = shutil.which("exiftool")
STARS = ("--stars", "40,50,60,70", "--reject", "5")
needs_exiftool = pytest.mark.skipif(EXIFTOOL is None, reason="needs exiftool: apt-get install libimage-exiftool-perl")


@pytest.fixture
def photos(tmp_path: Path, photo_folder: Path) -> Path:
    return Path(shutil.copytree(photo_folder, tmp_path / "photos"))


def start(folder: Path, *words: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "moslens", "rate", *map(str, words)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def rate(folder: Path, *words: object) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, rows, and what was said."""
    run = start(folder, *words, stdin=subprocess.DEVNULL)
    rows, said = run.communicate(timeout=120)
    return run.returncode, [json.loads(line) for line in rows.splitlines()], said.decode()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_shows_writes_repeats_and_takes_back(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    (photos / "b.png").write_bytes(b"no picture")
    before = contents(tmp_path)
    code, shown, said = rate(tmp_path, "photos", "--model", tiny_model, *STARS)
    assert code == 1
    assert "6 photos" in said
    assert "5 create; nothing was written, --write does it" in said
    assert contents(tmp_path) == before
    code, rows, said = rate(tmp_path, "photos", "--model", tiny_model, *STARS, "--write", "--plan", "plan")
    assert code == 1
    assert "to take it back: moslens rate --undo plan" in said
    assert rows == [row | {"written": row["status"] == "ok"} for row in shown]
    assert [row["error"] and row["error"]["code"] for row in rows] == [None, "not_an_image", None, None, None, None]
    for row in rows:
        if row["status"] == "ok":
            assert Packet((tmp_path / row["sidecar"]).read_bytes()).get(RATING) == str(row["rating"])
    _, rows, said = rate(tmp_path, "photos", "--model", tiny_model, *STARS, "--write", "--plan", "other")
    assert [row["action"] for row in rows] == ["same", None, "same", "same", "same", "same"]
    assert not (tmp_path / "other").exists()
    code, rows, said = rate(tmp_path, "--undo", "plan")
    assert (code, [row["action"] for row in rows]) == (0, ["removed"] * 5)
    assert "5 changes" in said
    (tmp_path / "plan").unlink()
    assert contents(tmp_path) == before


def test_another_folder_gets_the_sidecars(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    (photos / "deep").mkdir()
    (photos / "a.jpg").rename(photos / "deep" / "a.jpg")
    options = ("--model", tiny_model, "--sidecars", "out", "--naming", "lightroom", "--write", "--plan", "plan")
    assert rate(tmp_path, "photos", *options)[0] == 0
    assert sorted(contents(tmp_path / "out")) == ["b.xmp", "c.xmp", "d.xmp", "deep/a.xmp", "e.xmp", "f.xmp"]
    assert not list(photos.rglob("*.xmp"))
    assert rate(tmp_path, "--undo", "plan")[0] == 0
    assert not (tmp_path / "out").exists()


def test_undo_says_what_it_left(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    rate(tmp_path, "photos/a.jpg", "photos/b.png", "--model", tiny_model, "--write", "--plan", "plan")
    (photos / "a.jpg.xmp").write_bytes(b"by a person")
    run = start(tmp_path, "--undo", "plan", "--format", "table")
    shown, said = run.communicate(timeout=120)
    assert run.returncode == 1
    assert [line.split()[0] for line in shown.decode().splitlines()] == ["removed", "left"]
    assert b"1 removed, 1 left" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which photos?"),
        (("a.jpg", "--undo", "plan"), "goes without PATH"),
        (("photos", "--plan", "x"), "--plan is of a run with --write"),
        (("photos", "--stars", "1,2"), "--stars wants"),
        (("photos", "--reject", "99"), "--reject wants"),
        (("--undo", "missing"), "missing: cannot be read"),
        (("nowhere",), "no such file or folder"),
    ],
)
def test_wrong_use_is_one_line(photos: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    code, rows, said = rate(tmp_path, *words)
    assert (code, rows) == (2, [])
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_and_repeated_every_photo_has_its_rating_once_and_all_can_be_undone(
    how: signal.Signals, tmp_path: Path, tiny_model: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(30):
        make_photo(64 + number, 48, seed=number).save(photos / f"{number:02}.jpg")
    (photos / "03.jpg.xmp").write_bytes(Packet().patched({RATING: "0"}))
    before = contents(photos)
    listing = "".join(f"photos/{name}\n" for name in sorted(before) if name.endswith(".jpg")).encode()
    (tmp_path / "list").write_bytes(listing)
    words = ("-", "--model", tiny_model, "--write", "--plan", "plan", "--workers", 2)
    with (tmp_path / "list").open("rb") as names:
        run = start(tmp_path, *words, stdin=names)
    wait_for(lambda: len(list(photos.glob("*.xmp"))) > 4 or run.poll() is not None)
    run.send_signal(how)
    run.communicate(timeout=60)
    assert run.returncode in (-how, 128 + how)
    made = {path.name: path.stat().st_mtime_ns for path in photos.glob("*.xmp")}
    assert 4 < len(made) < 30
    with (tmp_path / "list").open("rb") as names:
        again = start(tmp_path, *words, stdin=names)
    rows = [json.loads(line) for line in again.communicate(timeout=120)[0].splitlines()]
    assert again.returncode == 0
    assert [row["path"] for row in rows] == listing.decode().splitlines()
    same = {Path(row["sidecar"]).name for row in rows if row["action"] == "same"}
    assert same <= set(made) <= same | {"03.jpg.xmp"}
    assert all((photos / name).stat().st_mtime_ns == made[name] for name in same)
    written = [one.sidecar for one in read_plan(tmp_path / "plan") if Path(one.sidecar).exists()]
    assert len(set(written)) == 30
    assert len(written) <= 31  # one may have been in the plan and not made
    assert rate(tmp_path, "--undo", "plan")[0] == 0
    assert contents(photos) == before


@needs_exiftool
def test_exiftool_reads_what_was_written(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    assert EXIFTOOL is not None
    own = ["-XMP-dc:Subject=lake", "-XMP-dc:Title=At the lake", "-XMP-xmp:Rating=0"]
    subprocess.run([EXIFTOOL, "-q", *own, "-o", "a.jpg.xmp", "a.jpg"], cwd=photos, check=True)
    subprocess.run([EXIFTOOL, "-q", "-overwrite_original", "-XMP-xmp:Rating=2", "c.webp"], cwd=photos, check=True)
    subprocess.run([EXIFTOOL, "-q", "-overwrite_original", "-EXIF:Rating=4", "f.jpeg"], cwd=photos, check=True)
    subprocess.run([EXIFTOOL, "-q", "-overwrite_original", "-XMP-xmp:Rating=5", "b.png"], cwd=photos, check=True)
    _, rows, _ = rate(tmp_path, "photos", "--model", tiny_model, *STARS, "--write")
    assert [row["action"] for row in rows] == ["change", "keep", "keep", "create", "create", "keep"]
    assert [row["before"] for row in rows] == ["0", "5", "2", None, None, "4"]
    for row in rows:
        if not row["written"]:
            continue
        command = [EXIFTOOL, "-j", "-G1", "-validate", "-warning", "-XMP:all", row["sidecar"]]
        (read,) = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
        assert read["XMP-xmp:Rating"] == row["rating"]
        assert read["XMP-moslens:QualityScore"] == pytest.approx(row["score"])
        assert read["XMP-moslens:RatingWritten"] == row["rating"]
        assert "ExifTool:Warning" not in read
        if row["path"] == "photos/a.jpg":
            assert (read["XMP-dc:Subject"], read["XMP-dc:Title"]) == ("lake", "At the lake")


def test_the_table_says_why_a_photo_is_left(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    (photos / "a.jpg.xmp").write_bytes(Packet().patched({RATING: "3"}))
    make_photo(300, 200, seed=3).save(photos / "f.jpeg", xmp=Packet().patched({RATING: "-1"}))
    (photos / "d.bmp").write_bytes(os.urandom(10))
    run = start(tmp_path, "photos", "--model", tiny_model, "--format", "table", "--reject", "0")
    lines = run.communicate(timeout=120)[0].decode().splitlines()
    assert lines[1].split() == ["-", "3", "keep", "photos/a.jpg.xmp"]
    assert "error" in lines[4]
    assert lines[6].split() == ["-", "-1", "keep", "photos/f.jpeg.xmp", "(in", "photos/f.jpeg)"]
    assert "create" in lines[2]
    assert "*" in lines[2]


def test_where_nothing_was_written_nothing_is_to_be_taken_back(photos: Path, tiny_model: Path) -> None:
    for photo in photos.iterdir():
        photo.with_name(f"{photo.name}.xmp").mkdir()  # no sidecar can take this name
    code, rows, said = rate(photos.parent, photos, "--model", tiny_model, "--write")
    assert code == 1
    assert all(row["error"] for row in rows)
    assert "--undo" not in said
    assert "none" not in said
