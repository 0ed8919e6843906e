"""Several hundred hostile files in one run: a row each, in time, in bounded memory, and nothing executed."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from helpers.hostile_many import make_hostile_files
from helpers.processes import run_for_peak
from moslens.system.text import name_in

CODES = {"unreadable", "empty", "not_an_image", "truncated", "corrupt", "unsupported", "too_small", "too_large"}
MEMORY_CAP_MB = 2048  # two workers
TIME_LIMIT = 60


@pytest.mark.slow
def test_hundreds_of_hostile_files_give_a_row_each(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    names = make_hostile_files(folder)
    assert len(names) >= 300
    before = set(os.listdir(folder))  # noqa: PTH208
    command = [sys.executable, "-m", "moslens", "score", "-", "--model", str(tiny_model), "--workers", "2"]
    listing = b"".join(os.fsencode(f"{folder}/{name}") + b"\0" for name in names)
    done, peak = run_for_peak([*command, "--time-limit", str(TIME_LIMIT)], input=listing, cwd=folder)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name_in(row) for row in rows] == [f"{folder}/{name}" for name in names]
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"started again" not in done.stderr
    codes = Counter(row["error"]["code"] if row["error"] else "ok" for row in rows)
    assert set(codes) == CODES | {"ok"}, "internal: a decoder died or took too long"
    for row in rows:
        if row["error"]:
            assert row["error"]["message"].startswith(f"{row['path']}: ")
            assert row["score"] is None
        else:
            assert 0 <= row["low"] <= row["score"] <= row["high"] <= 100
    assert peak < MEMORY_CAP_MB
    assert set(os.listdir(folder)) == before, "a hostile file was obeyed"  # noqa: PTH208
