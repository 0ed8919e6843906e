"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Processor cores for this process: its CPU affinity, at most the quota of its container (cgroup v1 or v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Cores that each control group around this process allows. A group without a limit gives none."""
    for folder in _cgroup_folders():
        with suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no number
            quota, period = (folder / "cpu.max").read_text("ascii").split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
            if int(quota) > 0:  # -1: no limit
                yield int(quota) / int(period)


def _cgroup_folders() -> Iterator[Path]:
    """The folders of the control groups of this process and of all above them.

    Inside a container the own group is often at the root of the mount, whatever its path says.
    """
    try:
        lines = _OWN_CGROUPS.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in ["0::/", "1:cpu:/", *lines]:
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if controllers in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
            group = PurePosixPath(path.lstrip("/"))
            yield from (_CGROUPS / controllers / part for part in (group, *group.parents))
