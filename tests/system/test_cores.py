"""How many cores a process counts: its affinity, and quotas of control groups of both versions."""

import os
import re
from pathlib import Path

import pytest

from helpers.paths import ROOT
from moslens.system import cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """64 cores and no control group."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path / "cgroup"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_quota_it_is_the_affinity(groups: Path) -> None:
    assert cores.available_cores() == 64
    write(groups / "cpu.max", "max 100000\n")
    write(groups / "cpu" / "cpu.cfs_quota_us", "-1\n")
    write(groups / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert cores.available_cores() == 64


@pytest.mark.parametrize(("quota", "expected"), [("200000", 2), ("150000", 2), ("1000", 1)])
def test_a_quota_of_either_version_counts(groups: Path, quota: str, expected: int) -> None:
    write(groups / "cpu.max", f"{quota} 100000\n")
    assert cores.available_cores() == expected
    (groups / "cpu.max").unlink()
    write(groups / "cpu" / "cpu.cfs_quota_us", f"{quota}\n")
    write(groups / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert cores.available_cores() == expected


@pytest.mark.parametrize(
    ("own", "folder"),
    [
        ("0::/system.slice/job.service\n", "system.slice/job.service"),
        ("0::/system.slice/job.service\n", "system.slice"),
        ("12:memory:/x\n4:cpu,cpuacct:/docker/abc\n0::/\n", "cpu,cpuacct/docker/abc"),
        ("4:cpu,cpuacct:/docker/abc\n", "cpu,cpuacct"),
    ],
)
def test_the_groups_of_this_process_and_all_above_them_count(groups: Path, own: str, folder: str) -> None:
    write(groups.with_name("own"), own)
    if "cpuacct" in folder:
        write(groups / folder / "cpu.cfs_quota_us", "300000\n")
        write(groups / folder / "cpu.cfs_period_us", "100000\n")
    else:
        write(groups / folder / "cpu.max", "300000 100000\n")
    assert cores.available_cores() == 3


def test_nothing_takes_all_cores_of_the_machine() -> None:
    """``moslens doctor`` alone shows how many there are."""
    users = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "src").rglob("*.py"))
        if re.search(r"\bcpu_count\b", path.read_text("utf-8"))
    ]
    assert users == ["src/moslens/cli/doctor.py", "src/moslens/system/cores.py"]
