"""Cost and memory of `moslens score`, `pick` and `rate` over one folder of small photos, as ratios to `score`.

    python -m benchmarks.speed.decision_scale [--model NAME|DIR] [--counts 1000 10000]

prints a table and writes ``results/decision-scale.json``. The photos are JPEGs of 320 x 240, all different; every
fourth scene is a burst of three frames. `pick` and `rate` are measured with the scoring, `pick` also with the rows of
`score` and `rate` also over the sidecars of its first run. Cost is processor time of a command and all its processes,
less that of a run over one photo; memory is the sum of the peaks of all of them. The reference is `score` over the same
photos in the same run, and the smallest count. What was measured before of the same model stays in the file
(``--fresh`` begins anew), so that an interrupted run goes on.
"""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import (
    add_model_option,
    argument_parser,
    machine,
    moslens_command,
    show_targets,
    use_test_helpers,
    write_record,
)
from benchmarks.process import child
from moslens.scoring.card import Card, find_model

COUNTS = (1000, 10_000)
REFERENCE = "score"
Row = dict[str, Any]


def main() -> None:
    parser = argument_parser(__doc__, "decision-scale.json")
    add_model_option(parser)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    use_test_helpers()
    model = Card.read(find_model(options.model)).id
    rows = [] if options.fresh else earlier(options.output, model)
    with tempfile.TemporaryDirectory() as scratch:
        start = measure(options.model, Path(scratch), 1)
        for count in sorted(set(options.counts) - {row["photos"] for row in rows}):
            rows += [compared(row, start) for row in measure(options.model, Path(scratch), count)]
            record = write(options.output, model, rows)
    record = write(options.output, model, rows)
    for row in sorted(rows, key=lambda row: row["photos"]):
        print(
            f"{row['photos']:6d} photos  {row['command']:14}  {row['cpu_ms_a_photo']:7.1f} ms a photo"
            f"  {row['cost_to_score']:5.2f} of score  {row['peak_mb']:5.0f} MB  {row['memory_to_score']:5.2f} of score"
        )
    show_targets(record["targets_met"])


def earlier(path: Path, model: str) -> list[Row]:
    """The rows of a record of the same model."""
    record = json.loads(path.read_bytes()) if path.is_file() else {}
    return list(record.get("rows", [])) if record.get("model") == model else []


def make_photos(folder: Path, count: int) -> None:
    from helpers.bursts import frame, jpeg, scene

    folder.mkdir()
    made = seed = 0
    while made < count:
        photo = scene(seed, 320, 240)
        for shot in range(3 if seed % 4 == 0 else 1):
            (folder / f"{made:05}.jpg").write_bytes(jpeg(frame(photo, across=0.02 * shot, stops=-0.3 * shot)))
            made += 1
        seed += 1
    for path in sorted(folder.iterdir())[count:]:
        path.unlink()


def measure(model: str | None, scratch: Path, count: int) -> list[Row]:
    """Every command over ``count`` photos: its processor and wall seconds and its peak MB, `score` first."""
    folder = scratch / f"{count}"
    photos, rows = str(folder / "photos"), str(folder / "rows.jsonl")
    folder.mkdir()
    make_photos(folder / "photos", count)
    rating = ("rate", photos, "--write", "--plan", str(folder / "plan"))
    commands = {
        REFERENCE: ("score", photos, "--output", rows),
        "pick": ("pick", photos),
        "pick, scored": ("pick", photos, "--scores", rows),
        "rate": rating,
        "rate, repeated": rating,
    }
    found = []
    for name, words in commands.items():
        began = time.perf_counter()
        seconds, peak = child(moslens_command(*words, model=model), "memory")
        wall = time.perf_counter() - began
        found.append({"photos": count, "command": name, "cpu_seconds": seconds, "wall_seconds": wall, "peak_mb": peak})
    reference = found[0]
    shutil.rmtree(folder)
    return [{**row, "reference": reference} for row in found]


def compared(row: Row, start: list[Row]) -> Row:
    """A row with its ratios to `score` of the same run; ``start`` are the rows over one photo."""
    least = {one["command"]: one["cpu_seconds"] for one in start}
    reference = row.pop("reference")
    seconds = row["cpu_seconds"] - least[row["command"]]
    return {
        **row,
        "cpu_ms_a_photo": 1000 * seconds / (row["photos"] - 1),
        "cost_to_score": seconds / (reference["cpu_seconds"] - least[REFERENCE]),
        "wall_to_score": row["wall_seconds"] / reference["wall_seconds"],
        "memory_to_score": row["peak_mb"] / reference["peak_mb"],
    }


def write(path: Path, model: str, rows: list[Row]) -> dict[str, Any]:
    """Write the record of what there is so far, ratios of the largest run to the smallest first."""
    counts = [row["photos"] for row in rows]
    few, many = (
        {row["command"]: row for row in rows if row["photos"] == count} for count in (min(counts), max(counts))
    )
    growth = {
        name: {
            "cost_a_photo_ratio": many[name]["cpu_ms_a_photo"] / few[name]["cpu_ms_a_photo"],
            "peak_memory_ratio": many[name]["peak_mb"] / few[name]["peak_mb"],
        }
        for name in many
    }
    record = {
        "model": model,
        "photos_ratio": many[REFERENCE]["photos"] / few[REFERENCE]["photos"],
        "growth": growth,
        "targets_met": {
            "rate: a photo costs the same in the largest run, to 10 %": growth["rate"]["cost_a_photo_ratio"] <= 1.1,
            "rate costs at most 1.25 times as much as score": many["rate"]["cost_to_score"] <= 1.25,
            "pick with the rows of score costs at most as much as score": many["pick, scored"]["cost_to_score"] <= 1,
            "no command needs more than twice the memory of score": all(
                row["memory_to_score"] <= 2 for row in many.values()
            ),
        },
        "rows": sorted(rows, key=lambda row: row["photos"]),
        "machine": machine(),
    }
    write_record(path, record)
    return record


if __name__ == "__main__":
    main()
