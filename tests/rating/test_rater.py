"""Rows of scores to sidecars: whose rating stays, which files are one photo, what costs an error."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_model import make_photo
from moslens.bulk.rows import RowLine
from moslens.errors import CorruptImage, OutputError
from moslens.rating.plan import Plan, read_plan, undo
from moslens.rating.rater import Action, Rated, Rater
from moslens.rating.sidecars import Naming, find_photos
from moslens.rating.stars import Stars
from moslens.rating.xmp import OUR_MODEL, OUR_RATING, OUR_SCORE, RATING, Packet
from moslens.scoring.result import Failure, Score

MODEL = "m@1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    return tmp_path


def photo(name: str, **options: Any) -> str:
    path = Path("p") / name
    make_photo(64, 48, seed=1).save(path, "JPEG", **options)
    return str(path)


def sidecar(name: str, rating: str | None = None, ours: str | None = None) -> Path:
    path = Path("p") / name
    properties = {key: value for key, value in ((RATING, rating), (OUR_RATING, ours)) if value is not None}
    path.write_bytes(Packet().patched(properties))
    return path


def names() -> list[str]:
    return sorted(path.name for path in Path("p").iterdir())


class Run:
    """A run over files with given scores, None for a file that cannot be scored."""

    def __init__(
        self, scores: dict[str, float | None], *, write: bool = True, model: str = MODEL, **options: Any
    ) -> None:
        self.scored: list[str] = []
        self.rated: list[Rated] = []
        naming = options.pop("naming", Naming.auto)
        self.plan = Plan(Path("plan")) if write else None
        photos = find_photos(scores, ["p"], naming=naming)
        stars = options.pop("stars", Stars())
        rater = Rater(photos, stars, model, plan=self.plan, on_photo=self.rated.append, **options)
        for path in rater.to_score():
            self.scored.append(path)
            score = scores[path]
            result: Score | Failure
            if score is None:
                result = Failure(path, CorruptImage("broken", path), model)
            else:
                result = Score(path, score, score, score, 64, 48, model, notes=("not_a_photo",))
            rater.write(RowLine.of(result.to_row()))
        rater.finish()
        rater.close()

    @property
    def actions(self) -> Sequence[str | None]:
        return [one.action for one in self.rated]

    @property
    def ratings(self) -> Sequence[int | None]:
        return [one.rating for one in self.rated]


def rating_in(path: str | Path) -> str | None:
    return Packet(Path(path).read_bytes()).get(RATING)


def test_without_a_plan_nothing_is_written() -> None:
    paths = {photo("a.jpg"): 70.0, photo("b.jpg"): 10.0}
    run = Run(paths, write=False)
    assert (run.actions, run.ratings) == ([Action.create] * 2, [4, -1])
    assert names() == ["a.jpg", "b.jpg"]
    assert not any(one.written for one in run.rated)


def test_ratings_scores_and_the_model_are_written_and_repeating_scores_nothing() -> None:
    paths = {photo("a.jpg"): 70.0, photo("b.jpg"): 10.0}
    run = Run(paths)
    assert all(one.written for one in run.rated)
    packet = Packet(Path("p/a.jpg.xmp").read_bytes())
    assert [packet.get(name) for name in (RATING, OUR_RATING, OUR_SCORE, OUR_MODEL)] == ["4", "4", "70.000000", MODEL]
    before = Path("p/a.jpg.xmp").stat()
    again = Run(paths)
    assert (again.scored, again.actions, again.ratings) == ([], [Action.same] * 2, [4, -1])
    assert Path("p/a.jpg.xmp").stat() == before
    assert len(read_plan(Path("plan"))) == 2


def test_other_limits_need_no_new_scores_but_another_model_or_another_file_does() -> None:
    paths = {photo("a.jpg"): 70.0}
    Run(paths)
    stricter = Run(paths, stars=Stars((40, 60, 75, 90)))
    assert (stricter.scored, stricter.actions, stricter.ratings) == ([], [Action.change], [3])
    assert Run(paths, model="m@2").scored == ["p/a.jpg"]
    photo("a.jpg", quality=30)
    assert Run(paths, model="m@2").scored == ["p/a.jpg"]


@pytest.mark.parametrize(
    ("rating", "ours", "stays"),
    [
        ("3", None, True),
        ("-1", None, True),
        ("by hand", None, True),
        ("0", None, False),
        ("", None, False),
        (None, None, False),
        ("2", "2", False),  # ours
        ("2.0", "2", False),
        ("5", "2", True),  # a person changed it
        ("0", "2", True),  # a person removed it
        (None, "2", True),
    ],
)
def test_the_rating_of_a_person_stays_unless_overwritten(rating: str | None, ours: str | None, stays: bool) -> None:
    path = photo("a.jpg")
    beside = sidecar("a.jpg.xmp", rating, ours)
    before = beside.read_bytes()
    run = Run({path: 70.0})
    assert run.actions == [Action.keep if stays else Action.change]
    assert run.scored == ([] if stays else [path])
    if stays:
        assert beside.read_bytes() == before
        assert (run.rated[0].where, run.rated[0].score) == ("p/a.jpg.xmp", None)
    assert Run({path: 70.0}, overwrite=True).ratings == [4]
    assert rating_in(beside) == "4"


@pytest.mark.parametrize(
    "options",
    [
        {"xmp": Packet().patched({RATING: "2"})},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0FG\x03\0\x01\0\0\0\x02\0\0\0\0\0\0\0"},
    ],
)
def test_a_rating_inside_the_photo_is_of_a_person(options: dict[str, bytes]) -> None:
    path = photo("a.jpg", **options)
    run = Run({path: 70.0})
    assert (run.actions, run.rated[0].before, run.rated[0].where) == ([Action.keep], "2", path)
    assert names() == ["a.jpg"]
    assert Run({path: 70.0}, overwrite=True).actions == [Action.create]


def test_a_rating_in_the_sidecar_of_the_other_naming_is_of_a_person() -> None:
    path = photo("a.jpg")
    sidecar("a.xmp", "1")
    run = Run({path: 70.0}, naming=Naming.darktable)
    assert (run.actions, run.rated[0].where) == ([Action.keep], "p/a.xmp")


def test_a_raw_file_and_its_jpeg_get_one_rating_by_the_jpeg() -> None:
    raw, path = "p/a.CR2", photo("a.jpg")
    Path(raw).write_bytes(b"II*\0" + bytes(100))
    run = Run({raw: None, path: 90.0}, naming=Naming.lightroom)
    (one,) = run.rated
    assert (one.path, one.rating, one.files, one.sidecar) == (path, 5, (path, raw), "p/a.xmp")
    assert run.scored == [path, raw]
    assert rating_in("p/a.xmp") == "5"
    assert Run({raw: None, path: 90.0}, naming=Naming.lightroom).scored == []


def test_a_rating_inside_the_raw_file_counts() -> None:
    raw, path = "p/a.RAF", photo("a.jpg")
    Path(raw).write_bytes(b"FUJIFILMCCD-RAW " + Packet().patched({RATING: "3"}))
    run = Run({raw: None, path: 90.0}, naming=Naming.lightroom)
    assert (run.actions, run.rated[0].where) == ([Action.keep], raw)
    assert Run({path: 90.0}, naming=Naming.lightroom).actions == [Action.keep]
    assert Run({path: 90.0}, naming=Naming.darktable).actions == [Action.keep]


@pytest.mark.parametrize("naming", [Naming.darktable, Naming.auto])
def test_a_rating_in_the_sidecar_of_the_raw_file_counts(naming: Naming) -> None:
    raw, path = Path("p/a.NEF"), photo("a.jpg")
    raw.touch()
    Path("p/a.NEF.xmp").write_bytes(Packet().patched({RATING: "3"}))
    run = Run({path: 90.0}, naming=naming)
    assert (run.actions, run.rated[0].where) == ([Action.keep], "p/a.NEF.xmp")
    both = Run({path: 90.0, str(raw): 80.0}, naming=Naming.darktable)
    assert both.actions == [Action.create, Action.keep], "a raw file that is named is a photo of its own"


def test_a_photo_without_a_score_gets_the_error_of_its_row_and_no_rating() -> None:
    run = Run({photo("a.jpg"): None, photo("b.jpg"): 50.0})
    assert run.actions == [None, Action.create]
    assert run.rated[0].error == {"code": "corrupt", "message": "p/a.jpg: broken"}
    assert not Path("p/a.jpg.xmp").exists()


@pytest.mark.parametrize("text", [b"", b"<a", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"\xff\xff", b"<svg/>"])
def test_a_sidecar_that_cannot_be_read_costs_one_error_and_stays(text: bytes) -> None:
    paths = {photo("a.jpg"): 70.0, photo("b.jpg"): 70.0}
    Path("p/a.jpg.xmp").write_bytes(text)
    run = Run(paths)
    assert run.actions == [None, Action.create]
    error = run.rated[0].error
    assert error is not None
    assert error["code"] == "sidecar"
    assert error["message"].startswith("p/a.jpg.xmp: ")
    assert Path("p/a.jpg.xmp").read_bytes() == text


def test_links_stay_and_say_so() -> None:
    path = photo("a.jpg")
    target = sidecar("target", "0")
    Path("p/a.jpg.xmp").symlink_to("target")
    before = target.read_bytes()
    run = Run({path: 70.0})
    assert run.rated[0].error == {
        "code": "sidecar",
        "message": "p/a.jpg.xmp: is a symbolic link: it and what it points to are left alone",
    }
    assert (target.read_bytes(), Path("p/a.jpg.xmp").is_symlink()) == (before, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_read_only_files_and_folders_cost_an_error() -> None:
    paths = {photo("a.jpg"): 70.0, photo("b.jpg"): 70.0}
    sidecar("a.jpg.xmp", "0").chmod(0o444)
    Path("p").chmod(0o555)
    try:
        run = Run(paths)
    finally:
        Path("p").chmod(0o755)
    assert [one.error and one.error["code"] for one in run.rated] == ["sidecar", "output"]


def test_a_sidecar_that_cannot_be_written_costs_an_error_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {photo("a.jpg"): 70.0, photo("b.jpg"): 70.0}
    from moslens.rating import rater

    def refuse_one(path: str, data: bytes) -> None:
        if path == "p/a.jpg.xmp":
            raise OutputError("cannot be written: Permission denied", path)
        Path(path).write_bytes(data)

    monkeypatch.setattr(rater, "write_sidecar", refuse_one)
    run = Run(paths)
    assert run.actions == [None, Action.create]
    assert run.rated[0].error == {"code": "output", "message": "p/a.jpg.xmp: cannot be written: Permission denied"}


def test_without_the_plan_no_sidecar_is_written() -> None:
    path = photo("a.jpg")
    Path("plan").write_text("something else\n")
    with pytest.raises(OutputError, match="not a plan"):
        Run({path: 70.0})
    assert names() == ["a.jpg"]


def test_what_a_person_does_meanwhile_is_seen_and_stays() -> None:
    path = photo("a.jpg")
    photos = find_photos([path], ["p"])
    rated: list[Rated] = []
    plan = Plan(Path("plan"))
    rater = Rater(photos, Stars(), MODEL, plan=plan, on_photo=rated.append)
    assert list(rater.to_score()) == [path]
    beside = sidecar("a.jpg.xmp", "1")
    rater.write(RowLine.of(Score(path, 70, 70, 70, 64, 48, MODEL).to_row()))
    rater.close()
    assert (rated[0].action, rating_in(beside)) == (Action.keep, "1")


def test_rows_have_the_notes_of_a_new_score() -> None:
    path = photo("a.jpg")
    assert Run({path: 60.0}).rated[0].to_row()["notes"] == ["not_a_photo"]
    assert Run({path: 60.0}).rated[0].to_row()["notes"] == []  # the score is from the sidecar


def test_undo_brings_back_what_was_there() -> None:
    paths = {photo("a.jpg"): 70.0, photo("b.jpg"): 20.0, photo("c.jpg"): 50.0}
    sidecar("b.jpg.xmp", "0")
    before = {name: Path("p", name).read_bytes() for name in names()}
    Run(paths)
    Run(paths, stars=Stars((40, 60, 75, 90), 30))
    assert len(names()) == 6
    list(undo(Path("plan")))
    assert {name: Path("p", name).read_bytes() for name in names()} == before


def test_rows_are_json_also_for_names_that_are_not_utf8() -> None:
    path = photo(os.fsdecode(b"\xff.jpg"))
    row = Run({path: 70.0}).rated[0].to_row()
    assert (row["path"], row["sidecar"], row["rating"]) == ("p/\ufffd.jpg", "p/\ufffd.jpg.xmp", 4)
    assert row["sidecar_base64"]


def test_a_rating_in_a_duplicate_of_darktable_is_a_persons() -> None:
    paths = {photo("a.jpg"): 70.0, photo("b.jpg"): 70.0}
    duplicate = sidecar("a_01.jpg.xmp", "5")
    before = duplicate.read_bytes()
    run = Run(paths)
    assert run.actions == [Action.keep, Action.create]
    assert (run.rated[0].before, run.rated[0].where) == ("5", str(duplicate))
    assert duplicate.read_bytes() == before
    assert not Path("p/a.jpg.xmp").exists()
    assert Run(paths, overwrite=True).actions == [Action.create, Action.same]
    assert duplicate.read_bytes() == before, "it is never written"


def test_a_duplicate_that_was_made_with_the_rating_of_moslens_changes_nothing() -> None:
    paths = {photo("a.jpg"): 70.0}
    Run(paths)
    sidecar("a_01.jpg.xmp", "4")
    run = Run(paths, stars=Stars((15, 20, 30, 40)))
    assert (run.actions, run.ratings) == ([Action.change], [5])
