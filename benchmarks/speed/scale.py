"""Cost and memory of `moslens score` from 100 to 10,000 pictures.

    python -m benchmarks.speed.scale [--model NAME|DIR] [--counts 100 300 1000 3000 10000]

prints a table, writes ``results/scale.json`` and draws ``docs/images/scale.png``. The pictures are JPEGs of 500 x 500,
all different. Cost is processor time of the command and all its processes, less that of a run over one picture; memory
is the sum of the peaks of all of them. What was measured before of the same model stays in the file (``--fresh`` begins
anew), so that an interrupted run goes on. The reference is the smallest count.
"""

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import (
    ROOT,
    add_model_option,
    argument_parser,
    machine,
    moslens_command,
    show_targets,
    write_record,
)
from benchmarks.pictures import make_photos
from benchmarks.process import child
from moslens.scoring.card import Card, find_model

SHAPE = (500, 500)
COUNTS = (100, 300, 1000, 3000, 10_000)
PLOT = ROOT / "docs" / "images" / "scale.png"


def main() -> None:
    parser = argument_parser(__doc__, "scale.json")
    add_model_option(parser)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args()
    model = Card.read(find_model(options.model)).id
    rows = {} if options.fresh else earlier(options.output, model)
    command = moslens_command("score", "--format", "jsonl", model=options.model)
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        paths = make_photos(photos, SHAPE, max(options.counts))
        start = child([*command, str(paths[0])])[0]
        for count in sorted(options.counts):
            if count not in rows:
                rows[count] = measure(command, paths[:count], Path(scratch), start)
                write(options.output, model, rows)
            row = rows[count]
            print(
                f"{count:6d} pictures: {row['cpu_ms_a_picture']:.1f} ms a picture, {row['peak_mb']:.0f} MB", flush=True
            )
    record = write(options.output, model, rows)
    show_targets(record["targets_met"])
    draw(rows, options.plot)


def earlier(path: Path, model: str) -> dict[int, dict[str, float]]:
    """The rows of a record of the same model, by their count."""
    record = json.loads(path.read_bytes()) if path.is_file() else {}
    return {row["pictures"]: row for row in record.get("rows", [])} if record.get("model") == model else {}


def measure(command: list[str], paths: list[Path], scratch: Path, start: float) -> dict[str, float]:
    """One run over a folder with these pictures; ``start`` is the processor time of a run over one."""
    folder = scratch / f"{len(paths)}"
    folder.mkdir()
    for path in paths:
        (folder / path.name).hardlink_to(path)
    began = time.perf_counter()
    seconds, peak = child([*command, str(folder), "--output", str(scratch / f"{len(paths)}.jsonl")], "memory")
    return {
        "pictures": len(paths),
        "cpu_seconds": seconds - start,
        "cpu_ms_a_picture": 1000 * (seconds - start) / (len(paths) - 1),
        "wall_seconds": time.perf_counter() - began,
        "peak_mb": peak,
    }


def write(path: Path, model: str, rows: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Write the record of what there is so far, ratios of the largest run to the smallest first."""
    least, most = rows[min(rows)], rows[max(rows)]
    times = most["pictures"] / least["pictures"]
    cost = most["cpu_ms_a_picture"] / least["cpu_ms_a_picture"]
    memory = most["peak_mb"] / least["peak_mb"]
    record = {
        "model": model,
        "pictures_ratio": times,
        "cost_a_picture_ratio": cost,
        "growth_exponent": 1 + math.log(cost) / math.log(times) if times > 1 else 1.0,
        "peak_memory_ratio": memory,
        "targets_met": {
            "a picture costs the same in the largest run, to 10 %": abs(cost - 1) <= 0.1,
            "memory of the largest run is that of the smallest, to 10 %": memory <= 1.1,
        },
        "rows": [rows[count] for count in sorted(rows)],
        "machine": machine(),
    }
    write_record(path, record)
    return record


def draw(rows: dict[int, dict[str, float]], path: Path) -> None:
    """Processor time and peak memory over the number of pictures."""
    from matplotlib.figure import Figure

    counts = sorted(rows)
    figure = Figure(figsize=(8, 3), layout="constrained")
    panels = (("cpu_seconds", "processor seconds", "log"), ("peak_mb", "peak memory, MB", "linear"))
    for place, (key, label, scale) in enumerate(panels, 1):
        axis = figure.add_subplot(1, 2, place, xscale="log", yscale=scale, xlabel="pictures", ylabel=label)
        values = [rows[count][key] for count in counts]
        axis.plot(counts, values, "o-", color="#2f6db3")
        if scale == "log":
            linear = [values[0] * count / counts[0] for count in counts]
            axis.plot(counts, linear, ":", color="#8a8f98", label="proportional")
            axis.legend(frameon=False)
        else:
            axis.set_ylim(0, 1.3 * max(values))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e8eb", linewidth=0.7)
    figure.savefig(path, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
