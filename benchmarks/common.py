"""Shared by the benchmarks: options, the machine, interleaved timing, the JSON record of a run."""

import argparse
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
from moslens.system.cores import available_cores

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())


def argument_parser(doc: str | None, output: str | None = None) -> argparse.ArgumentParser:
    """A parser described by the first line of ``doc``; with ``output``, a name in results/, it has ``--output``."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if output:
        parser.add_argument("--output", type=Path, default=ROOT / "results" / output)
    return parser


def add_data_option(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--data``: the folder of the data sets, by default that of the variable MOSLENS_DATA."""
    folder = os.environ.get("MOSLENS_DATA")
    text = "folder with the data sets livec and pristine; default: $MOSLENS_DATA"
    parser.add_argument("--data", type=Path, default=folder, required=required and folder is None, help=text)


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """``--model``: None for the released model."""
    parser.add_argument("--model", help="a shipped model's name or a model folder; default: the released one")


def moslens_command(*words: str, model: str | os.PathLike[str] | None = None) -> list[str]:
    """The command line of ``moslens WORDS`` with this Python, and with ``--model`` where one is given."""
    return [sys.executable, "-m", "moslens", *words, *(["--model", os.fspath(model)] if model else [])]


def use_test_helpers() -> None:
    """Make the package ``helpers`` of the tests importable."""
    sys.path.insert(0, str(ROOT / "tests"))


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GB, system and Python."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
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
    """``optim.frozen`` of the ablation: the layers that are not trained, to make a step cheaper."""
    plan = tomllib.loads((ROOT / "configs" / "ablation-lite.toml").read_text("utf-8"))
    return tuple(plan["changes"]["optim"]["frozen"])


def interleaved(tasks: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of each task, ``repeats`` times; tasks take turns, so that a change of load affects all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum of the values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show_targets(targets: Mapping[str, bool]) -> None:
    """Print which targets are met."""
    for name, met in targets.items():
        print(f"{'met   ' if met else 'MISSED'} {name}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, such as ``log.jsonl`` of a run."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def write_record(path: str | os.PathLike[str], facts: Mapping[str, Any], packages: Sequence[str] | None = None) -> Path:
    """Write ``facts`` with the record's name, the command, versions (of ``packages``) and the git revision."""
    found = versions() if packages is None else versions(packages)
    head = {"name": Path(path).stem, "command": command_line()}
    return write_json(path, head | dict(facts) | {"versions": found, "git": git_revision()})


def write_json(path: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write the record whole or not at all, floats to five digits."""
    target = Path(path)
    files.write_json(target, _rounded(record), indent=1)
    return target


def update_record(path: str | os.PathLike[str], section: str, entries: Mapping[str, Any]) -> Path:
    """Put entries into one section of a record that several commands share, each with the command that made it."""
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
