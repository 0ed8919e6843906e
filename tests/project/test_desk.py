"""The desk test: its plan, its faults, its figures, and a killed run that goes on."""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import programs
from benchmarks.quality import desk, desk_faults, desk_figures
from benchmarks.quality.desk_plan import PLAN, Fault, Plan, mosaics, read_plan
from helpers.paths import ROOT
from moslens.distortions import GROUPS
from moslens.errors import ConfigError, OutputError
from tools.docs import desk_table

FAULTS = [
    pytest.param(fault, functions[fault.name], id=f"{where}{fault.name}")
    for where, faults, functions in (
        ("", read_plan().faults, desk_faults.FAULTS), ("detail_", read_plan().detail, desk_faults.DETAIL),
    )
    for fault in faults
]  # fmt: skip
SEED = 77


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A photo of 144 x 192 px."""
    path = sorted((ROOT / "examples" / "photos").glob("*.jpg"))[0]
    with Image.open(path) as image:
        return np.array(image.convert("RGB").resize((192, 144)))


def pixels_of(made: desk_faults.Made) -> np.ndarray:
    return programs.decoded(made) if isinstance(made, bytes) else made


def need(program: str) -> None:
    if program == "scikit-image":
        pytest.importorskip("skimage", reason="needs scikit-image of the [dev] extra")
    elif programs.program_path(program) is None:
        pytest.skip(f"needs the program {program}")


def mean_square(made: desk_faults.Made, clean: np.ndarray) -> float:
    picture = Image.fromarray(pixels_of(made)).resize(clean.shape[1::-1], Image.Resampling.BICUBIC)
    return float(((np.asarray(picture, np.float64) - clean) ** 2).mean())


class TestPlan:
    def test_each_fault_has_groups_levels_and_a_program(self) -> None:
        plan = read_plan()
        assert len(plan.faults) == 30
        assert len(plan.harmless) == 12
        for fault in (*plan.faults, *plan.detail):
            assert set(fault.groups) <= set(GROUPS)
            assert list(fault.by_level) == list(range(6 - len(fault.levels), 6))
            rising = sorted(fault.levels)
            assert list(fault.levels) in (rising, rising[::-1]), fault.name

    def test_no_program_of_training_makes_a_fault(self) -> None:
        for folder in ("src/moslens/distortions", "src/moslens/train"):
            for path in (ROOT / folder).rglob("*.py"):
                text = path.read_text("utf-8")
                assert not re.search("skimage|magick|ffmpeg", text, re.IGNORECASE), path

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('["exposure", "brightness"]', '["exposures"]', "under_exposure has groups of .*, not exposures"),
            ("levels = [-0.8, -1.6, -2.4, -3.2, -4.0]", "levels = []", "under_exposure has 1 to 5"),
            ("levels = [-0.8, -1.6, -2.4, -3.2, -4.0]", "levels = [1, 1]", "under_exposure has 1 to 5"),
            ('program = "scikit-image"', 'program = "pillow"', "not 'pillow'"),
            ("[fault.haze]", "[fault.fog]", "fog, haze"),
            ("[harmless.mirror]", "[harmless.twin]", "mirror, twin"),
            ("monotone = false", "monotonic = false", "monotonic"),
            ("seed = 20251127", "", "seed"),
            ("dead = 20", "dark = 20", "dark"),
            ("strong = [", "strong = ", "TOMLDecodeError"),
        ],
    )
    def test_a_wrong_plan_is_refused(self, tmp_path: Path, old: str, new: str, said: str) -> None:
        text = PLAN.read_text("utf-8")
        assert old in text
        path = tmp_path / "desk.toml"
        path.write_text(text.replace(old, new), "utf-8")
        with pytest.raises(ConfigError, match=said) as caught:
            read_plan(path)
        assert caught.value.path == str(path)

    def test_mosaics_take_photos_that_are_large_enough(self, tmp_path: Path) -> None:
        sizes = [(1000, 1000), (1200, 990), (1001, 1400)]
        paths = [tmp_path / f"{number}.png" for number in range(3)]
        for path, size in zip(paths, sizes, strict=True):
            Image.new("L", size).save(path)
        first, second = mosaics(paths, 2)
        assert len(first) == 12
        assert set(first) == set(second) == {paths[0], paths[2]}
        assert first[0] != second[0]


@pytest.mark.parametrize(("fault", "make"), FAULTS)
def test_a_fault_changes_the_picture_and_grows_with_the_level(
    fault: Fault, make: desk_faults.Make, photo: np.ndarray
) -> None:
    need(fault.program)
    if fault.optional:
        try:
            make(photo, fault.levels[-1], SEED)
        except programs.ProgramError as error:
            pytest.skip(str(error))
    changes = [mean_square(make(photo, value, SEED), photo) for value in fault.levels]
    assert changes[-1] > 20
    if fault.monotone:
        assert changes[0] > 1
        assert changes == sorted(set(changes)), changes


def test_a_fault_is_the_same_again_and_another_with_another_seed(photo: np.ndarray) -> None:
    pytest.importorskip("skimage")
    one, same, other = (desk_faults.FAULTS["sensor_noise"](photo, 0.01, seed) for seed in (1, 1, 2))
    assert np.array_equal(pixels_of(one), pixels_of(same))
    assert not np.array_equal(pixels_of(one), pixels_of(other))


@pytest.mark.parametrize("change", [pytest.param(one, id=one.name) for one in read_plan().harmless])
def test_a_harmless_change_keeps_the_picture(change: Any, photo: np.ndarray) -> None:
    need(change.program)
    made = pixels_of(desk_faults.HARMLESS[change.name](photo, change.value, SEED))
    sizes = {"crop": (130, 173), "white_frame": (158, 212), "black_frame": (158, 212), "scale_down": (108, 144)}
    assert made.shape[:2] == pytest.approx(
        sizes.get(change.name, (216, 288) if change.name == "scale_up" else (144, 192)), abs=1
    )
    assert not np.array_equal(made, photo)
    if change.name == "mirror":
        assert np.array_equal(made, photo[:, ::-1])
    if change.name == "black_and_white":
        assert np.ptp(made.astype(int), axis=2).max() == 0
    if change.name.startswith("fine"):
        assert mean_square(made, photo) < 60


def test_dead_frames_show_nothing() -> None:
    need("imagemagick")
    for name in ("black", "white", "grey", "blue"):
        assert np.ptp(desk_faults.dead_frame(name), axis=(0, 1)).max() == 0
    assert desk_faults.dead_frame("white").min() == 255
    assert desk_faults.dead_frame("noise").std() > 40


def test_a_kernel_of_shake_has_the_length_of_its_path() -> None:
    short, long = desk_faults.shake_kernel(4, 3), desk_faults.shake_kernel(20, 3)
    for text, length in ((short, 4), (long, 20)):
        size, _, values = text.partition(": ")
        width, height = map(int, size.split("x"))
        rows = [row.split(",") for row in values.split(" ")]
        assert [len(row) for row in rows] == [width] * height
        assert sum(int(value) for row in rows for value in row if value != "-") == 4 * length
        assert math.hypot(width, height) <= length + 2


class TestPrograms:
    @pytest.mark.parametrize("program", ["imagemagick", "ffmpeg"])
    def test_a_missing_program_is_named(self, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(programs.ProgramError, match=f"^{program}: not installed$") as caught:
            programs.run_program(program, [], b"")
        assert caught.value.program == program
        assert programs.program_version(program) is None

    def test_a_failing_program_says_why(self, photo: np.ndarray) -> None:
        need("ffmpeg")
        with pytest.raises(programs.ProgramError, match=r"ffmpeg: ended with code .*nosuchfilter"):
            programs.filtered(photo, "nosuchfilter")

    def test_a_slow_program_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        slow = tmp_path / "ffmpeg"
        slow.write_text("#!/bin/sh\nexec sleep 60\n")
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(programs.ProgramError, match=r"ffmpeg: took longer than 0\.2 s"):
            programs.run_program("ffmpeg", [], b"", seconds=0.2)

    def test_another_convert_is_not_taken_for_imagemagick(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "convert"
        other.write_text("#!/bin/sh\necho Converts units\n")
        other.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert programs.magick() is None


def seen(score: float, *groups: str) -> dict[str, Any]:
    return {"score": score, "groups": list(groups)}


JPEG = Fault("jpeg", "imagemagick", "quality", (40.0, 30.0, 20.0, 10.0, 5.0), ("compression",))
LOST = Fault("lost_blocks", "ffmpeg", "bytes", (600.0,), ("spatial",), monotone=False)


@pytest.fixture
def plan() -> Plan:
    return read_plan()


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Two photos, one of which is not seen as compressed below level 4, and the other not as damaged."""
    levels = {"1": 0, "2": 4, "3": 8, "4": 20, "5": 30}
    first = {level: seen(70 - drop, "compression", "blur") for level, drop in levels.items()}
    second = {
        "1": seen(80),
        "2": seen(80),
        "3": seen(75, "blur", "compression"),
        "4": seen(60, "compression"),
        "5": seen(40),
    }
    return [
        {
            "photo": "a", "clean": seen(70), "harmless": {"mirror": 71.0, "crop": 63.0},
            "faults": {"jpeg": first, "lost_blocks": {"5": seen(20, "spatial")}},
        },
        {
            "photo": "b", "clean": seen(80, "noise"), "harmless": {"mirror": 80.0, "crop": 80.0},
            "faults": {"jpeg": second, "lost_blocks": {"5": seen(81)}},
        },
    ]  # fmt: skip


class TestFigures:
    def test_each_fault_has_its_shares(self, rows: list[dict[str, Any]], plan: Plan) -> None:
        table = desk_figures.fault_table(rows, [JPEG, LOST], plan)
        jpeg, lost = table["jpeg"], table["lost_blocks"]
        assert jpeg["levels"]["2"]["mean_score"] == 73
        assert [one["below_clean"] for one in jpeg["levels"].values()] == [0, 0.5, 1, 1, 1]
        assert jpeg["below_clean"] == pytest.approx(3.5 / 4)  # level 1 does not count
        assert [one["lower_by_points"] for one in jpeg["levels"].values()] == [0, 0, 0.5, 1, 1]
        assert jpeg["lower_by_points"] == pytest.approx(2.5 / 3)
        assert [one["first_right"] for one in jpeg["levels"].values()] == [0.5, 0.5, 0.5, 1, 0.5]
        assert jpeg["levels"]["3"]["named_right"] == 1
        assert jpeg["first_right"] == pytest.approx(2 / 3)
        assert jpeg["falls"] is False  # level 1 leaves the mean as it is
        assert lost["falls"] is None
        assert (lost["below_clean"], lost["first_right"]) == (0.5, 0.5)

    def test_a_mean_that_falls_at_every_level_falls(self, rows: list[dict[str, Any]], plan: Plan) -> None:
        rows[0]["faults"]["jpeg"]["1"]["score"] = 69
        assert desk_figures.fault_table(rows, [JPEG], plan)["jpeg"]["falls"] is True

    def test_claims_name_the_worst(self, rows: list[dict[str, Any]], plan: Plan) -> None:
        table = desk_figures.fault_table(rows, [JPEG, LOST], plan)
        changes = {"mirror": {"within": 1.0}, "crop": {"within": 0.5}}
        detail = {
            "blur": {"named_right": 0.9, "lower_by_points": 1.0},
            "noise": {"named_right": 0.8, "lower_by_points": 0.9},
        }
        dead = {"black": 5.0, "noise": 21.0}
        found = desk_figures.claims(table, changes, detail, dead, (desk_figures.clean_named(rows), 0.2), plan)
        below = found["below_clean"]
        assert (below["found"], below["worst"], below["worst_found"]) == (pytest.approx(4 / 5), "lost_blocks", 0.5)
        assert not below["met"]
        assert found["lower_by_points"]["found"] == pytest.approx(3 / 4)
        assert found["named_right"]["found"] == pytest.approx(2.5 / 4)
        assert found["falls"]["worst"] == ["jpeg"]
        assert (found["dead"]["found"], found["dead"]["worst"], found["dead"]["met"]) == (21, "noise", False)
        assert (found["harmless"]["found"], found["harmless"]["worst"]) == (0.5, "crop")
        assert (found["clean_named"]["found"], found["clean_named"]["met"]) == (0.5, False)
        assert found["detail_named"]["met"]
        assert found["detail_named"]["found"] == pytest.approx(0.85)
        assert found["detail_clean_named"]["met"]

    def test_harmless_moves_are_in_points(self, rows: list[dict[str, Any]], plan: Plan) -> None:
        for row in rows:
            row["harmless"] = {change.name: row["clean"]["score"] for change in plan.harmless} | row["harmless"]
        crop = desk_figures.harmless_table(rows, plan)["crop"]
        assert (crop["within"], crop["median_move"], crop["largest_move"]) == (0.5, -3.5, -7)


class TestCheckpoint:
    def test_rows_are_made_once_and_half_a_line_again(self, tmp_path: Path) -> None:
        made: list[str] = []

        def make(name: str) -> dict[str, Any]:
            made.append(name)
            return {"score": len(made)}

        first = desk.Checkpoint(tmp_path, {"model": "m@1"})
        for name in ("a", "b"):
            first.row(name, lambda name=name: make(name))  # type: ignore[misc]
        with first.path.open("rb+") as file:  # a kill in the middle of the second line
            file.truncate(first.path.stat().st_size - 5)
        again = desk.Checkpoint(tmp_path, {"model": "m@1"})
        assert again.row("a", lambda: make("a"))["score"] == 1
        assert again.row("b", lambda: make("b"))["score"] == 3
        assert made == ["a", "b", "b"]
        assert [row["photo"] for row in desk.read_lines(first.path)] == ["a", "b"]

    def test_an_error_keeps_no_row(self, tmp_path: Path) -> None:
        rows = desk.Checkpoint(tmp_path, {})

        def fail() -> dict[str, Any]:
            raise programs.ProgramError("ffmpeg", "gone")

        with pytest.raises(programs.ProgramError):
            rows.row("a", fail)
        assert desk.Checkpoint(tmp_path, {}).row("a", lambda: {"score": 1})["score"] == 1

    def test_other_settings_begin_anew(self, tmp_path: Path) -> None:
        one, other = (desk.Checkpoint(tmp_path, {"model": model}) for model in "ab")
        one.row("a", lambda: {"score": 1})
        assert other.row("a", lambda: {"score": 2})["score"] == 2

    def test_the_project_stays_clean(self) -> None:
        with pytest.raises(OutputError, match="lies in the project"):
            desk.Checkpoint(ROOT / "results" / "desk", {})
        assert not (ROOT / "results" / "desk").exists()


class StandIn:
    """A scorer whose score is the mean of the picture; it ends at the call ``last``."""

    model_id = "m@1"

    def __init__(self, last: int | None = None) -> None:
        self.calls, self.last = 0, last

    def score(self, made: np.ndarray, *, detail: bool = False) -> SimpleNamespace:
        self.calls += 1
        if self.calls == self.last:
            raise KeyboardInterrupt
        named = [{"group": "noise"}, {"group": "blur"}, {"group": "noise"}] if detail else []
        value = float(made.mean())
        tiles = SimpleNamespace(score=value, distortions=named, tiles=(1, 2)) if detail else None
        return SimpleNamespace(score=value, distortions=named, detail=tiles)


class TestRun:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[StandIn, int], int]:
        """The command on three small photos, with faults and programs that cost nothing."""
        paths = [tmp_path / f"{name}.png" for name in "abc"]
        for number, path in enumerate(paths):
            Image.new("RGB", (64, 48), (100 + 10 * number,) * 3).save(path)
        for functions in (desk_faults.FAULTS, desk_faults.DETAIL):
            for name in functions:
                monkeypatch.setitem(functions, name, lambda pixels, value, seed: pixels - np.uint8(10))
        for name in desk_faults.HARMLESS:
            monkeypatch.setitem(desk_faults.HARMLESS, name, lambda pixels, value, seed: pixels + np.uint8(7))
        monkeypatch.setattr(desk_faults, "dead_frame", lambda name: np.zeros((48, 64, 3), np.uint8))
        monkeypatch.setattr(desk, "program_version", lambda name: f"{name} 1.0")
        monkeypatch.setattr(desk, "clean_photos", lambda data, plan: paths)
        monkeypatch.setattr(desk, "large_photos", lambda data, plan: paths)
        monkeypatch.setattr(desk, "mosaics", lambda large, count: [tuple(large)] * count)
        monkeypatch.setattr(desk, "mosaic", lambda of: np.full((48, 64, 3), 90, np.uint8))

        def command(scorer: StandIn, photos: int) -> int:
            monkeypatch.setattr(desk, "Scorer", lambda model, threads: scorer)
            words = [
                str(ROOT / "benchmarks" / "quality" / "desk.py"), "--data", str(tmp_path), "--photos", str(photos),
                "--work", str(tmp_path / "work"), "--output", str(tmp_path / "desk.json"),
            ]  # fmt: skip
            monkeypatch.setattr(sys, "argv", words)
            return desk.main()

        return command

    def test_a_killed_run_goes_on_and_one_with_more_photos_adds_to_it(
        self, run: Callable[[StandIn, int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = read_plan()
        each = 1 + sum(len(fault.levels) for fault in plan.faults) + len(plan.harmless)
        large = 1 + sum(len(fault.levels) for fault in plan.detail)
        dead = len(desk_faults.DEAD)
        with pytest.raises(KeyboardInterrupt):
            run(StandIn(last=dead + each + 10), 2)  # in the second photo
        assert not (tmp_path / "desk.json").exists()
        second = StandIn()
        assert run(second, 2) == 1
        assert second.calls == each + 2 * large  # the first photo and the dead frames are not made again
        third = StandIn()
        run(third, 3)
        assert third.calls == each
        record = json.loads((tmp_path / "desk.json").read_text("utf-8"))
        assert record["dataset"]["photos"] == ["a.png", "b.png", "c.png"]
        claims = record["claims"]
        assert claims["below_clean"]["found"] == claims["lower_by_points"]["found"] == 1
        assert claims["falls"]["found"] == pytest.approx(1 / 29, rel=1e-3)  # only negative has a single level
        assert (claims["harmless"]["found"], claims["harmless"]["met"]) == (0, False)
        assert (claims["dead"]["found"], claims["dead"]["met"]) == (0, True)
        assert claims["named_right"]["found"] == 0
        assert claims["detail_named"]["found"] == pytest.approx(3 / 4)  # noise and two kinds of blur, no compression
        assert claims["detail_clean_named"]["found"] == 1
        assert record["detail"]["tiles"] == 2
        assert record["config"]["plan_sha256"] == plan.sha256
        monkeypatch.setattr(desk_table.cost_tables, "RESULTS", tmp_path)
        assert "Model m@1; 3 photos, at 100 % 1 of 2 K and 1 of 12 megapixels" in desk_table.desk()
