"""Processes that tests start."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT


def heed_interrupts() -> None:
    """A background job of a shell, and all its children, would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_in_two_processes(code: str, test_file: str, folder: Path) -> None:
    """Run ``code`` in two CPU processes that train together; it may import from ``test_file`` by its module name."""
    script = folder / "two.py"
    script.write_text(code, encoding="utf-8")
    search = os.pathsep.join([str(ROOT / "tests"), str(Path(test_file).parent)])
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
