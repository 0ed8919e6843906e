"""Plans: what they hold, and what undo does with them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from moslens.errors import ConfigError, OutputError, SidecarError
from moslens.rating.plan import Change, Plan, Undone, read_plan, undo, write_sidecar

PHOTO = __file__
"""A photo that stays where it is."""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "plan.jsonl")


def change(plan: Plan, path: Path, data: bytes) -> None:
    made = Change.to(str(path), PHOTO, path.read_bytes() if path.exists() else None, data)
    plan.add(made)
    write_sidecar(str(path), data)


def test_undo_restores_bytes_times_and_permissions_and_removes_what_was_made(plan: Plan, tmp_path: Path) -> None:
    old, new = tmp_path / "old.xmp", tmp_path / "deep" / "er" / "new.xmp"
    old.write_bytes(b"before")
    old.chmod(0o640)
    os.utime(old, ns=(1, 1_234_567_890_123_456_789))
    change(plan, old, b"after")
    assert (old.read_bytes(), old.stat().st_mode & 0o777) == (b"after", 0o640)
    assert old.stat().st_mtime_ns != 1_234_567_890_123_456_789
    change(plan, new, b"first")
    change(plan, new, b"second")
    plan.close()
    assert [outcome for _, outcome in undo(plan.path)] == [Undone.restored, Undone.removed, Undone.restored]
    assert (old.read_bytes(), old.stat().st_mode & 0o777) == (b"before", 0o640)
    assert old.stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert not (tmp_path / "deep").exists()
    assert [outcome for _, outcome in undo(plan.path)] == [Undone.same] * 3, "it can be repeated"
    assert (old.read_bytes(), old.stat().st_mtime_ns) == (b"before", 1_234_567_890_123_456_789)


def test_what_was_changed_since_is_left(plan: Plan, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("edited.xmp", "removed.xmp", "link.xmp", "neighbour/made.xmp")]
    for path in paths[:2]:
        path.write_bytes(b"before")
    for path in paths:
        change(plan, path, b"after")
    plan.close()
    paths[0].write_bytes(b"by a person")
    paths[1].unlink()
    paths[2].unlink()
    paths[2].symlink_to("edited.xmp")
    (tmp_path / "neighbour" / "kept").touch()
    found = dict(undo(plan.path))
    assert (found[str(paths[0])], found[str(paths[1])], found[str(paths[3])]) == (
        Undone.left,
        Undone.left,
        Undone.removed,
    )
    assert isinstance(found[str(paths[2])], SidecarError)
    assert paths[0].read_bytes() == b"by a person"
    assert (tmp_path / "neighbour" / "kept").exists()


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_sidecar_that_moved_with_its_photo_is_missing(plan: Plan, tmp_path: Path, before: bytes | None) -> None:
    (tmp_path / "album").mkdir()
    photo, sidecar = tmp_path / "album" / "a.jpg", tmp_path / "album" / "a.jpg.xmp"
    photo.touch()
    for data in (b"first", b"second"):
        if before is not None and data == b"first":
            sidecar.write_bytes(before)
        now = sidecar.read_bytes() if sidecar.exists() else None
        plan.add(Change.to(str(sidecar), str(photo), now, data))
        write_sidecar(str(sidecar), data)
    plan.close()
    (tmp_path / "album").rename(tmp_path / "elsewhere")
    assert [outcome for _, outcome in undo(plan.path)] == [Undone.missing] * 2
    (tmp_path / "elsewhere").rename(tmp_path / "album")
    list(undo(plan.path))
    assert (sidecar.read_bytes() if sidecar.exists() else None) == before


def test_killed_before_the_write_nothing_is_undone(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    plan.add(Change.to(str(path), PHOTO, None, b"after"))
    plan.close()
    (tmp_path / "a.xmp.partial").touch()
    with plan.path.open("ab") as file:
        file.write(b'{"sidecar": "half')
    assert [outcome for _, outcome in undo(plan.path)] == [Undone.same]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.jsonl"]


@pytest.mark.parametrize("steps", range(4))
def test_undo_killed_between_any_two_steps_and_repeated_brings_all_back(
    steps: int, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes the disk is the last one, in turn; the scratch files of the killed run are there too."""
    old, new = tmp_path / "folder" / "old.xmp", tmp_path / "folder" / "new.xmp"
    old.parent.mkdir()
    old.write_bytes(b"before")
    old.chmod(0o640)
    os.utime(old, ns=(1, 1_234_567_890_123_456_789))
    for data in (b"first", b"second"):
        change(plan, old, data)
        change(plan, new, data)
    plan.close()
    for path in (old, new):
        path.with_name(f"{path.name}.partial").write_bytes(b"half")

    class KilledError(BaseException):
        """The process is gone."""

    with monkeypatch.context() as patch:
        left = [steps]

        def dying(real: Any) -> Any:
            def call(*words: Any, **more: Any) -> Any:
                if not left[0]:
                    raise KilledError
                left[0] -= 1
                return real(*words, **more)

            return call

        for real in (Path.replace, Path.write_bytes):
            patch.setattr(Path, real.__name__, dying(real))
        with pytest.raises(KilledError):
            list(undo(plan.path))
    assert all(outcome in (Undone.same, Undone.restored, Undone.removed) for _, outcome in undo(plan.path))
    assert [path.name for path in old.parent.iterdir()] == ["old.xmp"]
    assert (old.read_bytes(), old.stat().st_mode & 0o777) == (b"before", 0o640)
    assert old.stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_a_scratch_file_goes_though_its_sidecar_was_not_changed(plan: Plan, tmp_path: Path) -> None:
    old = tmp_path / "old.xmp"
    old.write_bytes(b"before")
    plan.add(Change.to(str(old), PHOTO, b"before", b"after"))
    plan.close()
    (tmp_path / "old.xmp.partial").write_bytes(b"aft")
    assert [outcome for _, outcome in undo(plan.path)] == [Undone.same]
    assert not (tmp_path / "old.xmp.partial").exists()


def test_a_plan_is_continued_without_its_half_line(plan: Plan, tmp_path: Path) -> None:
    change(plan, tmp_path / "a.xmp", b"1")
    plan.close()
    with plan.path.open("ab") as file:
        file.write(b'{"sidecar": "half')
    again = Plan(plan.path)
    change(again, tmp_path / "b.xmp", b"2")
    again.close()
    assert [Path(one.sidecar).name for one in read_plan(plan.path)] == ["a.xmp", "b.xmp"]


@pytest.mark.parametrize("begun", [b"", b'{"moslens": "plan of'])
def test_a_plan_that_was_hardly_begun_is_begun_again(plan: Plan, tmp_path: Path, begun: bytes) -> None:
    plan.path.write_bytes(begun)
    change(plan, tmp_path / "a.xmp", b"1")
    plan.close()
    assert len(read_plan(plan.path)) == 1


def test_a_file_that_is_no_plan_is_not_written(plan: Plan, tmp_path: Path) -> None:
    plan.path.write_bytes(b"mine\n")
    with pytest.raises(OutputError, match="not a plan"):
        plan.add(Change.to(str(tmp_path / "a.xmp"), PHOTO, None, b"1"))
    plan.close()
    assert plan.path.read_bytes() == b"mine\n"


def test_two_runs_do_not_write_one_plan(plan: Plan, tmp_path: Path) -> None:
    plan.add(Change.to(str(tmp_path / "a.xmp"), PHOTO, None, b"1"))
    other = Plan(plan.path)
    with pytest.raises(OutputError, match="another run"):
        other.add(Change.to(str(tmp_path / "b.xmp"), PHOTO, None, b"1"))
    other.close()
    plan.close()


def test_a_plan_names_sidecars_alone(plan: Plan, tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"after")
    plan.add(Change.to(str(victim), PHOTO, None, b"after"))
    plan.close()
    with pytest.raises(ConfigError, match="line 2 is not of a plan, so nothing was undone"):
        list(undo(plan.path))
    assert victim.exists()


def test_a_plan_in_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the plan cannot be written: No such file"):
        Plan(tmp_path / "missing" / "plan").add(Change.to(str(tmp_path / "a.xmp"), PHOTO, None, b"1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan"),
        ("hello\n", "not a plan"),
        ("HEADER\n{}\n", "line 2"),
        ("HEADER\nnonsense\nnonsense\n", "line 2"),
        ('HEADER\n{"sidecar": "a", "before": "AAAA", "modified": 1, "new_folders": [], "after": ""}\n', "line 2"),
        ("OTHER\n", "another version"),
    ],
)
def test_undo_of_what_is_no_plan_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan"
    header = {"moslens": "plan of moslens rate", "version": 1}
    text = text.replace("HEADER", json.dumps(header)).replace("OTHER", json.dumps({**header, "version": 2}))
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        list(undo(path))


def test_undo_of_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        list(undo(tmp_path / "missing"))


def test_names_that_are_not_utf8_come_back(plan: Plan, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.xmp"))
    change(plan, path, b"1")
    plan.close()
    assert [outcome for _, outcome in undo(plan.path)] == [Undone.removed]
    assert not path.exists()
