"""Processes that tests start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.paths import ROOT

if TYPE_CHECKING:
    from moslens.train.config import TrainConfig

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Until ``condition()`` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def children_of(parent: int) -> list[int]:
    """The processes that ``parent`` started and that are alive (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, above = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(above) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(process: int) -> bool:
    """Whether a process exists and is no zombie (Linux)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def heed_interrupts() -> None:
    """A background job of a shell, and all its children, would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_in_two_processes(training: Callable[[TrainConfig, Path], object], config: TrainConfig, run: Path) -> None:
    """``training(config, run)`` in two CPU processes that train together; ``training`` is a function of a helper."""
    script = run.with_name(f"{run.name}.py")
    script.write_text(
        f"""import json
from pathlib import Path
from moslens.train.config import from_dict
from {training.__module__} import {training.__name__}
{training.__name__}(from_dict(json.loads({json.dumps(config.to_dict())!r})), Path({str(run)!r}))
""",
        encoding="utf-8",
    )
    search = os.pathsep.join(path for path in (str(ROOT / "tests"), os.environ.get("PYTHONPATH")) if path)
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr


# The peak is that of all children that ended so far: a process of its own has only this one.
_PEAK = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
unit = 2**20 if sys.platform == "darwin" else 2**10
with open(sys.argv[1], "w") as file:
    json.dump([done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit], file)
"""


def run_for_peak(command: list[str], **options: Any) -> tuple[subprocess.CompletedProcess[bytes], float]:
    """Run ``command``; what came of it, and the peak memory in MB of the largest of its processes."""
    with tempfile.NamedTemporaryFile("r") as told:
        words = [sys.executable, "-c", _PEAK, told.name, *command]
        done = subprocess.run(words, capture_output=True, check=True, timeout=550, **options)
        code, peak = json.load(told)
    return subprocess.CompletedProcess(command, code, done.stdout, done.stderr), peak
