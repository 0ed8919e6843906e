"""Fuzz the decoding path for a stated time by tests/fuzz/decode.py (needs atheris).

python -m benchmarks.faults.fuzz --seconds 600        fills the section ``fuzz`` of results/reliability.json
python -m benchmarks.faults.fuzz --runs 200000        ... for so many inputs instead
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import ROOT, argument_parser, update_record, versions


def main() -> int:
    """Run it; 1 where an input crashed, hung or used too much memory (the input is then in crash-*)."""
    parser = argument_parser(__doc__, "reliability.json")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--runs", type=int)
    options = parser.parse_args()
    limit = f"-runs={options.runs}" if options.runs else f"-max_total_time={options.seconds}"
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "fuzz.decode", f"{place}/corpus/in"]
        done = subprocess.run(
            [*command, limit, "-print_final_stats=1", "-seed=1", f"-artifact_prefix={Path.cwd()}/"],
            capture_output=True, check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])},
        )  # fmt: skip
    log = done.stderr.decode(errors="replace")
    stats = {name: int(value) for name, value in re.findall(r"^stat::(\w+):\s+(\d+)", log, re.MULTILINE)}
    coverage = re.findall(r"cov: (\d+)", log)
    found = {
        "inputs": stats.get("number_of_executed_units", 0),
        "kept_in_corpus": stats.get("new_units_added", 0),
        "coverage_edges": int(coverage[-1]) if coverage else 0,
        "slowest_input_seconds": stats.get("slowest_unit_time_sec", 0),
        "peak_memory_mb": stats.get("peak_rss_mb", 0),
        "crashes": int(done.returncode != 0),
        "atheris": versions(("atheris",))["atheris"],
    }
    print(found if done.returncode == 0 else log[-3000:])
    update_record(options.output, "fuzz", {"decoding": found})
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
