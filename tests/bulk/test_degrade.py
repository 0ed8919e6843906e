"""``moslens degrade`` and ``moslens distortions``: files, labels, sheets, exit codes."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from helpers.command import call
from helpers.pictures import picture
from helpers.processes import alive, heed_interrupts
from moslens.blocks import BlockDegradation, grid_blocks
from moslens.bulk import degrade
from moslens.bulk.contact_sheet import PER_SHEET, Sheets, contact_sheet, draw_labels
from moslens.distortions import GROUPS, KIND_BY_NAME, KINDS
from moslens.errors import MoslensError
from moslens.picture.load import decode
from moslens.system.text import name_in

BLOCK_KEYS = ["row", "column", "x", "y", "width", "height", "kind", "group", "level"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number, (name, size) in enumerate(
        {"a.png": (96, 128), "b.png": (150, 97), "below/c.png": (64, 200), "below/d.png": (100, 100)}.items()
    ):
        Image.fromarray(picture(*size, seed=number)).save(folder / name)
    return folder


def run(photos: Path, output: Path, *words: str) -> tuple[int, list[dict[str, Any]]]:
    code = call("degrade", photos, "--output", output, "--workers", "1", *words)
    return code, [json.loads(line) for line in (output / "labels.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_and_pictures(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = run(photos, tmp_path / "out")
    assert code == 0
    assert [row["source"] for row in rows] == [
        str(photos / name) for name in ("a.png", "b.png", "below/c.png", "below/d.png")
    ]
    for row in rows:
        assert list(row) == ["path", "source", "seed", "grid", "blocks"]
        assert row["grid"] == 3
        with Image.open(row["source"]) as source:
            blocks = grid_blocks(*source.size, 3)
        for block, expected in zip(row["blocks"], blocks, strict=True):
            assert list(block) == BLOCK_KEYS
            assert [block[key] for key in BLOCK_KEYS[:6]] == [getattr(expected, key) for key in BLOCK_KEYS[:6]]
            if block["level"] == 0:
                assert block["kind"] is block["group"] is None
            else:
                assert KIND_BY_NAME[block["kind"]].group == block["group"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "4 pictures" in captured.err


def test_a_row_is_enough_to_make_the_picture_again(photos: Path, tmp_path: Path) -> None:
    _, rows = run(photos, tmp_path / "out", "--grid", "2", "--seed", "5")
    for row in rows:
        again = BlockDegradation(grid=2)(decode(row["source"]), np.random.default_rng(row["seed"]))
        assert_array_equal(decode(tmp_path / "out" / row["path"]), again.image)
        assert row["blocks"] == degrade.block_rows(again)


def test_workers_do_not_change_a_byte(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "one")
    assert call("degrade", photos, "--output", tmp_path / "two", "--workers", "2") == 0
    one = contents(tmp_path / "one")
    assert len(one) == 6
    assert one == contents(tmp_path / "two")


def test_other_pictures_do_not_matter_but_the_seed_does(photos: Path, tmp_path: Path) -> None:
    _, before = run(photos, tmp_path / "before")
    Image.fromarray(picture(80, 80)).save(photos / "aa.png")
    _, after = run(photos, tmp_path / "after")
    assert [row for row in after if not row["source"].endswith("aa.png")] == before
    _, other = run(photos, tmp_path / "other", "--seed", "1")
    assert [row["seed"] for row in other] != [row["seed"] for row in after]
    assert all(row["seed"] < 2**48 for row in other)


def test_a_broken_picture_costs_its_row(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:500])
    (photos / "c.png").write_bytes(b"")
    Image.fromarray(picture(60, 200)).save(photos / "small.png")
    code, rows = run(photos, tmp_path / "out", "--grid", "4")
    assert code == 1
    errors = {Path(row["source"]).name: row for row in rows if "error" in row}
    assert {name: row["error"]["code"] for name, row in errors.items()} == {
        "b.png": "truncated",
        "c.png": "empty",
        "small.png": "too_small",
    }
    for row in errors.values():
        assert (row["path"], row["blocks"]) == (None, [])
        assert row["error"]["message"].count(row["source"]) == 1
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == len(rows) - 3 == 3
    printed = capsys.readouterr().err.splitlines()
    assert printed[:-1] == [f"moslens: {row['error']['message']}" for row in errors.values()]
    assert "3 of them errors" in printed[-1]


def test_kinds_and_level(photos: Path, tmp_path: Path) -> None:
    _, rows = run(photos, tmp_path / "out", "--kinds", "impulse_noise, jpeg", "--level", "1")
    blocks = [block for row in rows for block in row["blocks"]]
    assert {(block["kind"], block["level"]) for block in blocks} == {("impulse_noise", 1), ("jpeg", 1), (None, 0)}
    for row in rows:
        image, clean = decode(tmp_path / "out" / row["path"]), decode(row["source"])
        for block in row["blocks"]:
            part = (
                slice(block["y"], block["y"] + block["height"]),
                slice(block["x"], block["x"] + block["width"]),
            )
            assert block["level"] == 0 or (image[part] != clean[part]).any()


def test_equal_names_get_pictures_of_their_own(photos: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(64, 64, 9)).save(photos / "a.bmp")
    Image.fromarray(picture(64, 64, 8)).save(photos / "below" / "A.png")
    _, rows = run(photos, tmp_path / "out")
    names = [Path(row["path"]).name for row in rows]
    assert names == ["a.png", "a-2.png", "b.png", "A-3.png", "c.png", "d.png"]
    assert len({row["seed"] for row in rows}) == 6


def test_output_inside_the_input_is_not_read(photos: Path) -> None:
    code, rows = run(photos, photos / "out")
    assert (code, len(rows)) == (0, 4)


def test_no_picture_is_ever_replaced(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is input and output at once, with photos where degraded ones would go."""
    (photos / "below").rename(photos / "pictures")
    before = contents(photos)
    assert call("degrade", photos, "--output", photos) == 2
    assert contents(photos) == before
    assert f"{photos / 'pictures'}: is there already" in capsys.readouterr().err


def test_very_long_names_are_cut(photos: Path, tmp_path: Path) -> None:
    for name in ("x" * 251 + ".png", "x" * 251 + ".bmp", "\N{SNOWMAN}" * 83 + ".png"):
        Image.fromarray(picture(64, 64)).save(photos / name)
    code, rows = run(photos, tmp_path / "out")
    assert (code, len(rows)) == (0, 7)
    names = [Path(row["path"]).name for row in rows if "x" in row["path"] or "\N{SNOWMAN}" in row["path"]]
    assert names == ["x" * 239 + ".png", "x" * 237 + "-2.png", "\N{SNOWMAN}" * 79 + ".png"]
    assert all((tmp_path / "out" / row["path"]).exists() for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8(photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (photos / "a.png").rename(photos / name)
    code, rows = run(photos, tmp_path / "out")
    assert code == 0
    (row,) = [row for row in rows if "caf" in row["source"]]
    assert (row["source"], row["path"]) == (f"{photos}/caf\ufffd.png", "pictures/caf\ufffd.png")
    assert name_in(row, "source") == str(photos / name)
    assert name_in(row) == f"pictures/{name}"
    assert [key for other in rows if other is not row for key in other if "base64" in key] == []
    assert (tmp_path / "out" / "pictures" / name).exists()
    assert (tmp_path / "out" / "labels.jsonl").read_bytes().isascii()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--kinds", "motionblur"], "did you mean motion_blur"),
        (["--kinds", "gaussian_blur", "--level", "1"], "no kind"),
        (["--kinds", ","], "no kind"),
        (["--level", "6"], "--level"),
        (["--grid", "5"], "--grid"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_options(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert call("degrade", photos, "--output", tmp_path / "out", *words) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_paths(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("degrade", tmp_path / "none", "--output", tmp_path / "out") == 2
    (tmp_path / "empty").mkdir()
    assert call("degrade", tmp_path / "empty", "--output", tmp_path / "out") == 2
    assert call("degrade", photos, "--output", photos / "a.png") == 2
    assert not (tmp_path / "out").exists()
    run(photos, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert call("degrade", photos, "--output", tmp_path / "out") == 2
    assert contents(tmp_path / "out") == before
    assert "give another folder" in capsys.readouterr().err


def test_interrupted_keeps_what_was_done(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = degrade.degrade_all

    def cut_short(*arguments: Any) -> Iterator[degrade.Degraded]:
        for number, result in enumerate(real(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(degrade, "degrade_all", cut_short)
    code, rows = run(photos, tmp_path / "out")
    assert (code, len(rows)) == (130, 2)


def slow_run(photos: Path, output: Path) -> subprocess.Popen[str]:
    """A run in two processes, seen with its first row and with pictures that take long still in work."""
    large = Image.fromarray(np.tile(picture(200, 200), (12, 12, 1)))
    for number in range(4):
        large.save(photos / f"z{number}.bmp")
    words = [sys.executable, "-m", "moslens", "degrade", str(photos), "--output", str(output), "--workers", "2"]
    process = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    )
    while not ((output / "labels.jsonl").exists() and (output / "labels.jsonl").stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    return process


def children(process: subprocess.Popen[str]) -> list[int]:
    """The workers: those of the child processes that would do a job, not Python's own helper."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in pids if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@pytest.mark.parametrize("whole_group", [True, False])
def test_control_c_ends_at_once_and_leaves_no_picture_without_a_row(
    photos: Path, tmp_path: Path, whole_group: bool
) -> None:
    process = slow_run(photos, tmp_path / "out")
    workers = children(process)
    assert len(workers) == 2
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert not any(alive(pid) for pid in workers)
    rows = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    assert 1 <= len(rows) < 8
    pictures = sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir())
    assert pictures == sorted(Path(row["path"]).name for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_workers_do_not_outlive_a_killed_run(photos: Path, tmp_path: Path) -> None:
    process = slow_run(photos, tmp_path / "out")
    workers = children(process)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_a_killed_worker_ends_the_run_with_a_reason(photos: Path, tmp_path: Path) -> None:
    process = slow_run(photos, tmp_path / "out")
    os.kill(children(process)[0], signal.SIGKILL)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "try fewer --workers" in printed
    assert "Traceback" not in printed


def test_a_worker_killed_in_the_middle_of_an_answer_is_named_as_one() -> None:
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"the first bytes")
    theirs.close()
    with pytest.raises(MoslensError, match="try fewer --workers"):
        degrade._receive(ours)


def test_a_full_disk_ends_the_run_with_a_reason(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Image.Image.save

    def no_space(image: Image.Image, target: object, **words: Any) -> None:
        if isinstance(target, Path):
            raise OSError(28, "No space left on device")
        save(image, target, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", no_space)
    assert call("degrade", photos, "--output", tmp_path / "out", "--workers", "1") == 2
    assert (
        f"{tmp_path / 'out' / 'pictures' / 'a.png'}: cannot be written: No space left on device"
        in capsys.readouterr().err
    )


def test_a_codec_that_fails_costs_one_row(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def fails_once(image: Image.Image, target: object, **words: Any) -> None:
        if words.get("format") == "JPEG" and image.size == (128, 96):
            raise OSError("encoder error -2")
        save(image, target, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", fails_once)
    code, rows = run(photos, tmp_path / "out", "--kinds", "jpeg")
    assert code == 1
    assert [row.get("error", {}).get("code") for row in rows] == ["internal", None, None, None]


def test_label_drawing_marks_cuts_and_blocks() -> None:
    grey = np.full((280, 280, 3), 90, np.uint8)
    bdm = BlockDegradation(grid=2, kinds=("mean_shift", "jpeg"), p_clean=0.0, feather=0.0, level=4)
    result = bdm(grey, np.random.default_rng(0))
    drawn = np.asarray(draw_labels(result))
    assert drawn.shape == (560, 560, 3)
    cut = result.blocks[1].x * 2
    assert (drawn[100:200, cut : cut + 1] == 255).all()
    assert (drawn[cut : cut + 1, 100:200] == 255).all()
    for block in result.blocks:
        corner = drawn[block.y * 2 + 4 : block.y * 2 + 40, block.x * 2 + 4 : block.x * 2 + 90]
        assert (corner > 200).any()
        assert (corner < 60).any()


def test_sheets_hold_twelve(tmp_path: Path) -> None:
    sheets = Sheets(tmp_path)
    for number in range(PER_SHEET + 1):
        sheets.add(Image.new("RGB", (560, 300), (number, 0, 0)), f"photo {number}")
    sheets.close()
    sheets.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact-sheet-1.png", "contact-sheet-2.png"]
    with Image.open(tmp_path / "contact-sheet-1.png") as full:
        assert full.height > 4 * 300
        assert full.width > 3 * 560
    red = Image.new("RGB", (560, 300), "red")
    sheet = contact_sheet([red], ["long/" * 60 + "\udce9.png"])
    assert sheet.width < 600
    assert sheet.getpixel((300, 200)) == (255, 0, 0)
    broken, whole = (np.asarray(contact_sheet([red], [title])) for title in ("two\nlines", "two?lines"))
    assert_array_equal(broken, whole)


def test_distortions_lists_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("distortions") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[len(KINDS) + 1].startswith("(value)")
    assert [line.split()[0] for line in lines[-len(GROUPS) :]] == list(GROUPS)
    for line, kind in zip(lines[1:], KINDS, strict=False):
        words = line.split()
        assert words[0] == kind.name
        assert kind.group in words
        assert kind.group in GROUPS
        assert [float(word.strip("()")) for word in words[-5:]] == list(kind.levels)
        assert [word.startswith("(") for word in words[-5:]] == [n in kind.no_op_levels for n in range(1, 6)]


def test_degrading_needs_no_extra(photos: Path, tmp_path: Path) -> None:
    """numpy and Pillow are enough: every other package is hidden."""
    script = (
        "import sys\n"
        "for name in ('torch', 'scipy', 'cv2', 'skimage', 'matplotlib', 'timm'): sys.modules[name] = None\n"
        "from moslens.cli.app import main\n"
        f"main(['degrade', {str(photos)!r}, '--output', {str(tmp_path / 'out')!r}, '--workers', '1'])\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert len((tmp_path / "out" / "labels.jsonl").read_text().splitlines()) == 4
