"""What every benchmark needs: machine, versions, git revision, interleaved timing, the JSON file."""

import json
import math
import os
import platform
import shlex
import statistics
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moslens.evaluate.record import git_revision, versions
from moslens.system import files

__all__ = [
    "ROOT", "command_line", "git_revision", "interleaved", "kept_layers", "machine", "spread", "update_record",
    "versions", "write_json",
]  # fmt: skip

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GB, system and Python."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def command_line() -> str:
    """The command that started this script, relative to the project root, as one would type it."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).with_suffix("")
    return shlex.join(["python", "-m", ".".join(script.parts), *sys.argv[1:]])


def kept_layers() -> tuple[str, ...]:
    """``optim.frozen`` of the ablation: what keeps its weights where a cheap step is wanted."""
    plan = tomllib.loads((ROOT / "configs" / "ablation-lite.toml").read_text("utf-8"))
    return tuple(plan["changes"]["optim"]["frozen"])


def interleaved(tasks: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of each task, ``repeats`` times, one of each per round so that drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def write_json(path: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write the record, floats to five digits, in one step, so that a kill leaves no half file."""
    target = Path(path)
    files.write_json(target, _rounded(record), indent=1)
    return target


def update_record(path: str | os.PathLike[str], section: str, entries: Mapping[str, Any]) -> Path:
    """Put entries into one section of a record that several commands share, each with what made it."""
    target = Path(path)
    record = json.loads(target.read_text("utf-8")) if target.exists() else {"name": target.stem}
    made = {"command": command_line(), "machine": machine(), "versions": versions(), "git": git_revision()}
    record[section] = {**record.get(section, {}), **{key: {**entry, "made": made} for key, entry in entries.items()}}
    return write_json(target, record)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None
