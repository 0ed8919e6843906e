"""How many large pictures are decoded at once; what a decoder holds; an interrupt leaves no lock taken."""

import io
import os
import signal
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.processes import run_for_peak
from helpers.tiny_model import make_photo
from moslens.errors import ImageTooLarge, UnsupportedImage
from moslens.picture import load
from moslens.picture.memory_budget import HUGE_PIXELS, LARGE_PIXELS, MemoryBudget


def most_at_once(budget: MemoryBudget, pixels: int, expected: int, threads: int = 8) -> int:
    """Of many threads that come at the same time, how many are in; each stays until ``expected`` have been."""
    inside, most, change = 0, 0, threading.Condition()

    def work() -> None:
        nonlocal inside, most
        with budget.reserve(pixels):
            with change:
                inside += 1
                most = max(most, inside)
                change.notify_all()
                change.wait_for(lambda: most >= expected, 10)
            time.sleep(0.05)  # time for one too many to come in
            with change:
                inside -= 1

    crew = [threading.Thread(target=work) for _ in range(threads)]
    for one in crew:
        one.start()
    for one in crew:
        one.join(100)
    return most


@pytest.mark.parametrize(
    ("pixels", "most"), [(LARGE_PIXELS, 8), (LARGE_PIXELS + 1, 3), (HUGE_PIXELS, 3), (HUGE_PIXELS + 1, 1), (10**9, 1)]
)
def test_the_larger_the_fewer(pixels: int, most: int) -> None:
    assert most_at_once(MemoryBudget(3), pixels, most) == most


def test_small_pictures_do_not_wait_for_huge_ones() -> None:
    budget = MemoryBudget()
    with budget.reserve(10**9):
        assert most_at_once(budget, 1000, 8) == 8
        assert most_at_once(budget, LARGE_PIXELS + 1, 4) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_free_locks() -> None:
    budget = MemoryBudget()
    with budget.reserve(10**9):
        child = os.fork()
        if child == 0:
            os._exit(0 if budget.reserve(10**9).acquire(blocking=False) else 1)  # type: ignore[attr-defined]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def encoded(picture: Image.Image, **how: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, **how)
    return stream.getvalue()


def one_scan_a_component(data: bytes) -> bytes:
    """A JPEG whose frame has three components and whose first scan claims only one, as in a file of several scans."""
    at = data.index(b"\xff\xda")
    length = struct.unpack_from(">H", data, at + 2)[0]
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + data[at + 5 : at + 7] + b"\x00\x3f\x00"
    return data[:at] + scan + data[at + 2 + length :]


@pytest.mark.parametrize(
    ("how", "whole"),
    [({"format": "PNG"}, True), ({"format": "JPEG", "progressive": True}, True), ({"format": "JPEG"}, False)],
)
def test_a_picture_counts_as_what_its_decoder_holds(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], whole: bool
) -> None:
    budget, asked = MemoryBudget(), []
    monkeypatch.setattr(load, "_MEMORY_BUDGET", budget)
    reserve = budget.reserve
    monkeypatch.setattr(budget, "reserve", lambda pixels: asked.append(pixels) or reserve(pixels))
    photo = make_photo(1600, 1200, seed=0)
    load.load(encoded(photo, **how), working_size=200)
    assert asked == [1600 * 1200 if whole else 400 * 300]
    if how == {"format": "JPEG"}:
        with suppress(load.ImageError):
            load.load(one_scan_a_component(encoded(photo, **how)), working_size=200)
        assert asked[1:] == [1600 * 1200], "a baseline JPEG of several scans keeps its coefficients"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_interrupts_leave_no_lock_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(1)
    monkeypatch.setattr(load, "_MEMORY_BUDGET", budget)
    monkeypatch.setattr("moslens.picture.memory_budget.LARGE_PIXELS", 1)
    data = encoded(make_photo(64, 64, seed=0), format="PNG")

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # the timer of processor time: that of wall time belongs to whatever limits the tests
    before = signal.signal(signal.SIGVTALRM, interrupt)
    held: list[BaseException] = []  # as an interactive session keeps its last traceback, and all frames with it
    try:
        for turn in range(300):
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005 + turn * 1e-6)
                for _ in range(1000):  # an interrupt may fall where Python has to drop it
                    load.load(data)
            except KeyboardInterrupt as error:
                held.append(error)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert len(held) > 200
    with ThreadPoolExecutor(1) as other:
        assert other.submit(budget.reserve(64 * 64).acquire, blocking=False).result()  # type: ignore[attr-defined]


def test_an_icon_is_refused_by_the_headers_in_it() -> None:
    inside = encoded(Image.new("L", (3000, 2000)), format="PNG")
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22) + inside
    with pytest.raises(UnsupportedImage, match="3000 x 2000"):
        load.load(icon)
    bitmap = struct.pack("<IiiHH", 40, 20_000, 20_000, 1, 32) + bytes(24)
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(bitmap), 22) + bitmap
    with pytest.raises((UnsupportedImage, ImageTooLarge)):
        load.load(icon)
    assert load.load(encoded(make_photo(128, 128, seed=0), format="ICO")).width == 128


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told otherwise elsewhere")
def test_four_giants_at_once_need_no_more_memory_than_one_after_the_other(tiny_model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9000, 6000)).save(tmp_path / "0.png", compress_level=1)
    for number in range(1, 4):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
    peaks = []
    for workers in ("1", "4"):
        words = ["-m", "moslens", "score", tmp_path, "--model", tiny_model, "--workers", workers]
        done, peak = run_for_peak([sys.executable, *map(str, words)])
        assert done.returncode == 0, done.stderr
        peaks.append(peak)
    assert peaks[0] > 9000 * 6000 * 4 / 2**20, "a giant was held"
    assert peaks[1] < 1.3 * peaks[0]
