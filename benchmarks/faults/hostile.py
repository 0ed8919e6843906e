"""Score all hostile files of the tests in one run of the command: rows, codes, time and memory.

python -m benchmarks.faults.hostile        fills the section ``hostile`` of results/reliability.json
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.common import ROOT, argument_parser, moslens_command, update_record, use_test_helpers
from moslens.system.text import name_in


def main() -> int:
    """Run it; 1 where a row is missing, a decoder died or hung, or a traceback came."""
    use_test_helpers()
    from helpers.hostile_many import make_hostile_files
    from helpers.tiny_model import make_tiny_model

    parser = argument_parser(__doc__, "reliability.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "hostile"
        names = make_hostile_files(folder)
        model = make_tiny_model(Path(place) / "model")
        command = moslens_command("score", "-", "--workers", "2", model=model)
        start = time.monotonic()
        done = subprocess.run(
            command, input=b"".join(os.fsencode(f"{folder}/{name}") + b"\0" for name in names),
            capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        seconds = time.monotonic() - start
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        in_order = [name_in(row) for row in rows] == [f"{folder}/{name}" for name in names]
    codes = Counter(row["error"]["code"] if row["error"] else "scored" for row in rows)
    found = {
        "files": len(names),
        "rows": len(rows),
        "in_order": in_order,
        "outcomes": dict(sorted(codes.items())),
        "tracebacks": done.stderr.count(b"Traceback"),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
        "seconds": seconds,
    }
    print(json.dumps(found, indent=1))
    update_record(options.output, "hostile", {"score": found})
    return 0 if in_order and not found["tracebacks"] and "internal" not in codes else 1


if __name__ == "__main__":
    sys.exit(main())
