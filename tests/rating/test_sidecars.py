"""Which sidecar belongs to which photo."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from moslens.errors import ConfigError, SidecarError
from moslens.rating.sidecars import Naming, Photo, find_photos, read_sidecar


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def sidecars(paths: Iterable[str], naming: Naming = Naming.auto, folder: str | None = None) -> list[str]:
    return [photo.sidecar for photo in find_photos(paths, ["p"], naming=naming, folder=folder)]


def test_both_namings() -> None:
    assert sidecars(["p/a.jpg", "b.c.PNG", "none"], Naming.darktable) == ["p/a.jpg.xmp", "b.c.PNG.xmp", "none.xmp"]
    assert sidecars(["p/a.jpg", "b.c.PNG", "none"], Naming.lightroom) == ["p/a.xmp", "b.c.xmp", "none.xmp"]


def test_auto_takes_what_is_there_then_the_habit_of_the_folder_then_darktable() -> None:
    touch("p/a.jpg.xmp", "p/b.xmp", "p/c.xmp", "p/c.jpg.xmp", "q/x.xmp", "r/x.jpg.xmp", "r/y.xmp", "r/z.nef.XMP")
    paths = ["p/a.jpg", "p/b.jpg", "p/c.jpg", "q/new.jpg", "r/new.jpg", "s/new.jpg"]
    assert sidecars(paths) == ["p/a.jpg.xmp", "p/b.xmp", "p/c.jpg.xmp", "q/new.xmp", "r/new.jpg.xmp", "s/new.jpg.xmp"]


def test_the_ending_that_is_there_stays() -> None:
    touch("p/a.XMP")
    assert sidecars(["p/a.jpg"]) == ["p/a.XMP"]


def test_other_sidecars_of_a_photo_are_named() -> None:
    touch("p/a.xmp", "p/a.jpg.xmp")
    (photo,) = find_photos(["p/a.jpg"], [], naming=Naming.lightroom)
    assert (photo.sidecar, photo.others) == ("p/a.xmp", ("p/a.jpg.xmp",))
    (photo,) = find_photos(["p/a.jpg"], ["p"], folder="out")
    assert (photo.sidecar, photo.others) == ("out/a.jpg.xmp", ("p/a.jpg.xmp", "p/a.xmp"))


def test_the_sidecars_of_duplicates_are_among_the_others() -> None:
    touch("p/a.jpg.xmp", "p/a_01.jpg.xmp", "p/a_02.JPG.xmp", "p/a_112.jpg.XMP", "p/a_1.jpg.xmp", "p/a_03.png.xmp")
    touch("p/b_01.jpg.xmp", "p/b_01.jpg")
    photos = find_photos(["p/a.jpg", "p/b.jpg", "p/b_01.jpg"], ["p"])
    assert [photo.others for photo in photos] == [("p/a_01.jpg.xmp", "p/a_112.jpg.XMP"), (), ()]
    assert photos[2].sidecar == "p/b_01.jpg.xmp"


def test_a_raw_file_and_its_jpeg_are_one_photo_and_the_jpeg_comes_first() -> None:
    paths = ["p/a.NEF", "p/b.jpg", "p/a.tif", "p/a.JPG", "./p/a.JPG"]
    assert find_photos(paths, [], naming=Naming.lightroom) == [
        Photo("p/a.xmp", ("p/a.JPG", "p/a.tif", "p/a.NEF"), ()),
        Photo("p/b.xmp", ("p/b.jpg",), ()),
    ]
    assert len(find_photos(paths, [], naming=Naming.darktable)) == 4


def test_raw_files_that_are_left_out_are_known_with_their_sidecars() -> None:
    touch("p/a.jpg", "p/A.NEF", "p/a.cr2", "p/b.cr2", "p/a.txt")
    (photo,) = find_photos(["p/a.jpg"], ["p"], naming=Naming.lightroom)
    assert (photo.files, photo.raws) == (("p/a.jpg",), ("p/A.NEF", "p/a.cr2"))
    (photo,) = find_photos(["p/a.cr2", "p/a.jpg"], ["p"], naming=Naming.lightroom, folder="out")
    assert (photo.files, photo.raws) == (("p/a.jpg", "p/a.cr2"), ("p/A.NEF",))
    touch("p/A.NEF.xmp", "p/a.cr2.xmp")
    (photo,) = find_photos(["p/a.jpg"], ["p"], naming=Naming.darktable)
    assert (photo.raws, photo.others) == (("p/A.NEF", "p/a.cr2"), ("p/A.NEF.xmp", "p/a.cr2.xmp"))
    one, other = find_photos(["p/a.jpg", "p/a.cr2"], ["p"], naming=Naming.darktable)
    assert (one.raws, one.others) == (("p/A.NEF",), ("p/A.NEF.xmp",))
    assert other.sidecar == "p/a.cr2.xmp"


def test_another_folder_has_the_same_folders_in_it(folder: Path) -> None:
    touch("p/a/b/1.jpg")
    paths = ["p/a/b/1.jpg", str(folder / "p/2.jpg"), "q/3.jpg"]
    assert sidecars(paths, folder="out") == ["out/a/b/1.jpg.xmp", "out/2.jpg.xmp", "out/q/3.jpg.xmp"]


def test_in_another_folder_the_naming_is_that_of_the_photos() -> None:
    touch("p/a.xmp", "out/b.jpg.xmp", "p/b.xmp")
    assert sidecars(["p/a.jpg", "p/b.jpg"], folder="out") == ["out/a.xmp", "out/b.jpg.xmp"]


def test_a_sidecar_of_two_photos_is_refused() -> None:
    touch("p/a.jpg", "q/a.jpg")
    with pytest.raises(ConfigError, match=r"would share the sidecar out/a\.jpg\.xmp"):
        find_photos(["p/a.jpg", "q/a.jpg"], ["p", "q"], folder="out")


def test_what_has_no_place_in_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name its folder for --sidecars"):
        find_photos([str(tmp_path.parent / "x.jpg")], [], folder="out")


def test_a_url_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("s3://bucket/a.jpg: sidecars are written for local files only")):
        find_photos(["s3://bucket/a.jpg"], [])


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    Path("real").write_bytes(b"x")
    Path("link").symlink_to("real")
    Path("dangling").symlink_to("nowhere")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    assert read_sidecar("real") == b"x"
    assert read_sidecar("missing") is None
    assert read_sidecar("nowhere/missing") is None
    for name, message in {
        "link": "is a symbolic link", "dangling": "is a symbolic link", "folder": "no regular file",
        "pipe": "no regular file", "real/below": "cannot be read", "x" * 300: "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(SidecarError, match=message) as refused:
            read_sidecar(name)
        assert refused.value.path == name
