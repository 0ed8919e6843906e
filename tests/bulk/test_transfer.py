"""Moves and copies: sidecars, taken names, other file systems, kills at any moment, logs of others."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import moslens.bulk.transfer as module
from helpers.paths import ROOT
from moslens.bulk.inputs import outside
from moslens.bulk.transfer import LOG, TransferLog
from moslens.errors import OutputError


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "below").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "c.jpg", "below/a.jpg"):
        (folder / name).write_bytes(f"picture {name}".encode())
    return folder


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOG
    }


def transfer(folder: Path, *pictures: Path, copy: bool = False) -> TransferLog:
    with TransferLog(folder) as log:
        log.finish()
        log.plan([str(picture) for picture in pictures if picture.exists()], copy=copy)
        log.finish()
    return log


def test_pictures_move_under_their_names_and_taken_ones_get_a_number(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "B.JPG").write_text("mine")
    with TransferLog(target) as log:
        places = log.plan([str(album / name) for name in ("a.jpg", "below/a.jpg", "b.jpg")], copy=False)
        assert log.finish() == 3
    assert [path.name for path in places.values()] == ["a.jpg", "a-2.jpg", "b-2.jpg"]
    assert files(target) == {
        "a.jpg": "picture a.jpg", "a-2.jpg": "picture below/a.jpg", "b-2.jpg": "picture b.jpg", "B.JPG": "mine"
    }  # fmt: skip
    assert files(album) == {"c.jpg": "picture c.jpg"}
    assert log.problems == []


def test_sidecars_travel_with_their_picture(album: Path, tmp_path: Path) -> None:
    for name in ("a.jpg.xmp", "b.XMP", "c.xmp", "ab.xmp", "a.jpg.txt"):
        (album / name).write_text(name)
    (album / "c.png").write_text("png")
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.jpg.xmp").write_text("mine")
    transfer(target, album / "a.jpg", album / "b.jpg", album / "c.jpg")
    assert files(target) == {
        "a.jpg.xmp": "mine", "a-2.jpg": "picture a.jpg", "a-2.jpg.xmp": "a.jpg.xmp",
        "b.jpg": "picture b.jpg", "b.XMP": "b.XMP", "c.jpg": "picture c.jpg",
    }  # fmt: skip
    assert set(files(album)) == {"c.xmp", "c.png", "ab.xmp", "a.jpg.txt", "below/a.jpg"}, "c.xmp is that of the PNG too"


def test_a_sidecar_that_two_pictures_share_goes_with_the_first(album: Path, tmp_path: Path) -> None:
    (album / "a.png").write_text("png")
    (album / "a.xmp").write_text("rating")
    log = transfer(tmp_path / "out", album / "a.jpg", album / "a.png")
    assert set(files(tmp_path / "out")) == {"a.jpg", "a.png", "a.xmp"}
    assert log.problems == []


@pytest.mark.parametrize("first", ["a.jpg", "A.CR2"])
def test_a_raw_file_its_jpeg_and_their_sidecars_are_one_photo(first: str, album: Path, tmp_path: Path) -> None:
    photo = {"a.jpg": "picture a.jpg"} | {
        name: name for name in ("A.CR2", "a.xmp", "a.jpg.xmp", "A.CR2.xmp", "a_01.jpg.xmp")
    }
    for name in photo:
        (album / name).write_text(photo[name])
    for name in ("b_01.jpg", "b_01.jpg.xmp"):
        (album / name).write_text(name)
    log = transfer(tmp_path / "out", album / first, album / "b.jpg")
    assert set(files(tmp_path / "out").values()) == {*photo.values(), "picture b.jpg"}
    assert {name.lower() for name in files(tmp_path / "out")} == {name.lower() for name in photo} | {"b.jpg"}
    assert set(files(album)) == {"b_01.jpg", "b_01.jpg.xmp", "c.jpg", "below/a.jpg"}, "b_01 is a picture of its own"
    assert log.problems == []


def test_a_raw_file_stays_while_one_of_its_pictures_stays(album: Path, tmp_path: Path) -> None:
    for name in ("a.heic", "a.cr2", "a.xmp", "b.tif", "b.cr2"):
        (album / name).write_text(name)
    transfer(tmp_path / "out", album / "a.jpg", album / "b.tif")
    assert set(files(tmp_path / "out")) == {"a.jpg", "b.tif"}, "a TIFF is none that a camera makes beside its raw file"
    transfer(tmp_path / "out", album / "a.heic", album / "a.cr2")
    assert set(files(tmp_path / "out")) == {"a.jpg", "b.tif", "a.heic", "a.cr2", "a.xmp"}


def test_a_raw_file_given_beside_its_jpeg_moves_and_is_copied_once(album: Path, tmp_path: Path) -> None:
    for name in ("a.cr2", "a.heic", "a.xmp"):
        (album / name).write_text(name)
    given = [album / name for name in ("a.jpg", "a.cr2", "a.heic")]
    with TransferLog(tmp_path / "copies") as log:
        places = log.plan([str(path) for path in given], copy=True)
        assert log.finish() == 5
    assert [place.name for place in places.values()] == ["a.jpg", "a.cr2", "a-2.heic"]
    assert sorted(files(tmp_path / "copies").values()) == ["a.cr2", "a.heic", "a.xmp", "a.xmp", "picture a.jpg"]
    assert transfer(tmp_path / "out", *given).problems == []
    assert set(files(tmp_path / "out")) == {"a.jpg", "a.cr2", "a.heic", "a.xmp"}
    assert set(files(album)) == {"b.jpg", "c.jpg", "below/a.jpg"}


def test_no_folder_is_made_before_there_is_something_to_do(album: Path, tmp_path: Path) -> None:
    assert transfer(tmp_path / "deep" / "out").waiting == 0
    assert transfer(tmp_path / "deep" / "out", tmp_path / "gone.jpg").problems == []
    assert not (tmp_path / "deep").exists()
    with pytest.raises(OutputError, match="Not a directory"):
        TransferLog(album / "a.jpg" / "out")
    transfer(tmp_path / "deep" / "out", album / "a.jpg")
    assert set(files(tmp_path / "deep" / "out")) == {"a.jpg"}


@pytest.mark.parametrize("other_file_system", [False, True])
def test_where_the_source_cannot_be_removed_nothing_is_there_twice(
    other_file_system: bool, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that is read-only, at once and after a kill between the two steps."""
    unlink, name = Path.unlink, module._name

    def refuse(path: Path, *words: object, **more: object) -> None:
        if path.parent == album:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, *words, **more)  # type: ignore[arg-type]

    def far(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        name(source, target)

    monkeypatch.setattr(Path, "unlink", refuse)
    if other_file_system:
        monkeypatch.setattr(module, "_name", far)
    before = files(album)
    target = tmp_path / "out"
    for _ in range(2):
        (problem,) = transfer(target, album / "a.jpg").problems
        assert "Permission denied" in str(problem)
    with TransferLog(target) as log:
        log.plan([str(album / "b.jpg")], copy=False)
        (target / "b.jpg").hardlink_to(album / "b.jpg")
        assert log.finish() == 0
    assert files(target) == {}
    assert files(album) == before


def test_copies_leave_the_album_and_are_made_once(album: Path, tmp_path: Path) -> None:
    before = files(album)
    (album / "link.jpg").symlink_to("c.jpg")
    for _ in range(2):
        transfer(tmp_path / "out", album / "a.jpg", album / "below/a.jpg", album / "link.jpg", copy=True)
        assert set(files(tmp_path / "out")) == {"a.jpg", "a-2.jpg", "link.jpg"}
    assert files(album) == {**before, "link.jpg": "picture c.jpg"}
    assert not (tmp_path / "out/link.jpg").is_symlink()
    os.utime(album / "a.jpg", (1, 1))
    transfer(tmp_path / "out", album / "a.jpg", copy=True)
    assert set(files(tmp_path / "out")) == {"a.jpg", "a-2.jpg", "a-3.jpg", "link.jpg"}, "it is another file now"


def test_a_symbolic_link_is_not_moved(album: Path, tmp_path: Path) -> None:
    (album / "link.jpg").symlink_to("c.jpg")
    log = transfer(tmp_path / "out", album / "link.jpg")
    assert [str(problem) for problem in log.problems] == [f"{album / 'link.jpg'}: a symbolic link is not moved"]
    assert (album / "link.jpg").is_symlink()
    assert files(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["a b'\"<script>.jpg", "new\nline.jpg", "déjà-写真.jpg", os.fsdecode(b"b\xe4r.jpg")])
def test_names_of_any_kind_survive(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / name).write_text("picture")
    (folder / f"{name}.xmp").write_text("sidecar")
    transfer(tmp_path / "out", folder / name)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {LOG, name, f"{name}.xmp"}
    assert list(folder.iterdir()) == []


def test_killed_between_any_two_steps_and_repeated_nothing_is_lost(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes the disk is the last one, in turn."""
    whole = files(album)
    target = tmp_path / "out"
    pictures = [album / name for name in whole]
    kept = [Path.hardlink_to, Path.unlink, Path.rename]

    def dying(real: object, left: list[int]) -> object:
        def call(*words: object, **more: object) -> object:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*words, **more)  # type: ignore[operator]

        return call

    for run, steps in enumerate((0, 1, 2, 3, 1, 0)):
        left = [steps]
        with monkeypatch.context() as patch:
            for real in kept:
                patch.setattr(Path, real.__name__, dying(real, left))
            with pytest.raises(Killed):
                transfer(target, *pictures)
        assert set(files(album).values()) | set(files(target).values()) == set(whole.values()), f"after run {run}"
    log = transfer(target, *pictures)
    assert log.problems == []
    assert files(album) == {}
    assert sorted(files(target).values()) == sorted(whole.values())


def test_a_process_that_ends_in_the_middle_is_finished_by_the_next(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = f"""
import os
import moslens.bulk.transfer as module
from pathlib import Path
real, left = module._carry_out, [2]
def carry_out(*words):
    if not left[0]:
        os._exit(9)
    left[0] -= 1
    real(*words)
module._carry_out = carry_out
with module.TransferLog(Path({str(target)!r})) as log:
    log.plan([{str(album / "a.jpg")!r}, {str(album / "b.jpg")!r}, {str(album / "c.jpg")!r}], copy=False)
    log.finish()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 9
    assert set(files(target)) == {"a.jpg", "b.jpg"}
    with TransferLog(target) as log:
        assert log.waiting == 3
        assert log.finish() == 3
        assert log.took(str(album / "c.jpg"))
    assert set(files(target)) == {"a.jpg", "b.jpg", "c.jpg"}
    assert set(files(album)) == {"below/a.jpg"}


def test_another_file_system_gets_a_whole_copy_first(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._name

    def name(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target)

    monkeypatch.setattr(module, "_name", name)
    modified = (album / "a.jpg").stat().st_mtime_ns
    with monkeypatch.context() as patch:  # killed when the copy has its name and the source is still there
        patch.setattr(Path, "unlink", lambda *words, **more: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            transfer(tmp_path / "out", album / "a.jpg")
    assert (album / "a.jpg").exists()
    transfer(tmp_path / "out", album / "a.jpg", album / "b.jpg")
    assert {path.name for path in (tmp_path / "out").iterdir()} - {"a.jpg.partial"} == {"a.jpg", "b.jpg", LOG}
    assert (tmp_path / "out/a.jpg").stat().st_mtime_ns == modified
    assert set(files(album)) == {"c.jpg", "below/a.jpg"}


def test_a_file_that_changed_or_a_name_that_was_taken_since_is_left_alone(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with TransferLog(target) as log:
        log.plan([str(album / "a.jpg"), str(album / "b.jpg"), str(album / "c.jpg")], copy=False)
        (album / "a.jpg").write_text("edited since")
        (target / "b.jpg").write_text("of another program")
        (album / "c.jpg").unlink()
        assert log.finish() == 0
    assert [problem.path for problem in log.problems] == [str(album / f"{name}.jpg") for name in "abc"]
    assert files(target) == {"b.jpg": "of another program"}
    assert (album / "a.jpg").read_text() == "edited since"
    with TransferLog(target) as log:
        assert log.waiting == 0, "a plan is carried out once"


def test_a_link_to_the_picture_in_the_place_of_its_target_costs_nothing(album: Path, tmp_path: Path) -> None:
    with TransferLog(tmp_path / "out") as log:
        log.plan([str(album / "a.jpg")], copy=False)
        (tmp_path / "out/a.jpg").symlink_to(album / "a.jpg")
        assert log.finish() == 0
    assert (album / "a.jpg").read_text() == "picture a.jpg"


def test_a_plan_cut_short_is_dropped(album: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with TransferLog(target) as log:
        log.plan([str(album / "a.jpg"), str(album / "b.jpg")], copy=False)
    whole = (target / LOG).read_bytes()
    for end in (len(whole) - 1, whole.index(b"\n") + 1, 5):
        (target / LOG).write_bytes(whole[:end])
        with TransferLog(target) as log:
            assert log.waiting == 0
        assert (target / LOG).read_bytes() == b""
    (target / LOG).write_bytes(whole)
    with TransferLog(target) as log:
        assert log.waiting == 2


def test_the_log_says_where_each_file_came_from(album: Path, tmp_path: Path) -> None:
    transfer(tmp_path / "out", album / "a.jpg")
    rows = [json.loads(line) for line in (tmp_path / "out" / LOG).read_text().splitlines()]
    assert rows[0]["source"] == str(album / "a.jpg")
    assert rows[0]["target"] == "a.jpg"
    assert rows[1:] == [{"planned": 1}, {"done": True}]


@pytest.mark.parametrize("text", ["no log\n", '{"path": "a.jpg"}\n', "[1]\n"])
def test_a_file_of_that_name_that_is_no_log_is_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / LOG).write_text(text)
    with pytest.raises(OutputError, match="not a log"):
        TransferLog(tmp_path)
    assert (tmp_path / LOG).read_text() == text


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / LOG).touch()
    with TransferLog(tmp_path), pytest.raises(OutputError, match="another run"):
        TransferLog(tmp_path)


def test_of_two_runs_that_begin_a_log_the_second_is_refused(album: Path, tmp_path: Path) -> None:
    with TransferLog(tmp_path / "out") as first, TransferLog(tmp_path / "out") as second:
        first.plan([str(album / "a.jpg")], copy=False)
        with pytest.raises(OutputError, match="another run"):
            second.plan([str(album / "b.jpg")], copy=False)
        first.finish()
    assert set(files(tmp_path / "out")) == {"a.jpg"}


def test_what_lies_in_the_folder_is_left_out(album: Path) -> None:
    (album.parent / "link").symlink_to(album / "below")
    paths = [
        str(album / "a.jpg"),
        str(album / "below/a.jpg"),
        str(album.parent / "link/a.jpg"),
        str(album / "below.jpg"),
    ]
    assert list(outside(paths, str(album / "below"))) == [paths[0], paths[3]]
