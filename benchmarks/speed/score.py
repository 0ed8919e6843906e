"""What scoring costs: cold start, pictures per second, peak memory, each beside references of the same run.

    python -m benchmarks.speed.score [--model NAME|DIR] [--quick] [--output results/score-benchmark.json]

Absolute times depend on the machine and its load; read the ratios. The references are decoding alone (the
same ``picture.load`` and windows) and the bare ONNX session alone (as many pieces, already in memory, and the outputs
that scoring asks for), both with as many threads as scoring has. ``scoring`` is ``Scorer.score_many``; ``command`` is
``moslens score`` on the same files, from the second one on. Decoding and inference share the same cores, so scoring
cannot be faster than both one after the other: ``of_possible`` is its share of 1 / (1 / decoding + 1 / session).
``straight`` is what one writes in ten lines: Pillow opens, decodes and resizes one picture after the other, a session
with its default threads scores all windows of it at once. Memory is that of all processes of the command together, each
at its own peak; ``progressive`` and ``png`` are kinds that no decoder can read at a reduced size without holding all,
and ``4 x`` are as many at once, with as many workers.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.common import (
    add_model_option,
    argument_parser,
    interleaved,
    machine,
    moslens_command,
    show_targets,
    spread,
    write_record,
)
from benchmarks.pictures import PHOTOS, make_photos
from benchmarks.process import child
from moslens import Score, Scorer
from moslens.picture.load import load
from moslens.picture.windows import Piece, fitted_size
from moslens.scoring.card import BLOCK_OUTPUTS
from moslens.scoring.session import graph_inputs

SIZES = {"0.25": (500, 500), "1": (1152, 864), "12": (4000, 3000)}
MEMORY = {"1": (1152, 864), "12": (4000, 3000), "24": (6000, 4000), "50": (8192, 6144), "200": (16320, 12240)}
WHOLE: dict[str, dict[str, Any]] = {
    "50 MP progressive": {"progressive": True},
    "50 MP png": {"format": "PNG", "compress_level": 1},
    "200 MP progressive": {"progressive": True},
    "4 x 200 MP progressive": {"progressive": True},
}
GIANTS = {"4 x 200 MP progressive": 4}


def main() -> None:
    parser = argument_parser(__doc__, "score-benchmark.json")
    add_model_option(parser)
    parser.add_argument("--quick", action="store_true", help="few pictures, no large ones: to try the script")
    options = parser.parse_args()
    started = time.time()
    scorer = Scorer(options.model)
    state = machine()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cold = cold_start(options.model, 2 if options.quick else 7)
        speed = {
            size: throughput(
                options.model, scorer, make_photos(folder / size, shape, count(size, options.quick)), options.quick
            )
            for size, shape in SIZES.items()
            if not options.quick or size != "12"
        }
        memory = peak_memory(options.model, folder, ("1",) if options.quick else (*MEMORY, *WHOLE))
    targets = {
        "cold start under 1 s of processor time": cold["command_cpu_seconds"]["median"] < 1,
        "import under 0.3 s": cold["import_seconds"]["median"] < 0.3,
        **{
            f"{size} MP: {task} at least {least:.0%} of the slower reference": row[f"{task}_of_slower_reference"]
            >= least
            for size, row in speed.items()
            for task in ("scoring", "command")
            for least in [0.85 if size == "0.25" else 0.7]
        },
    }
    if not options.quick:
        reduced = [memory[size]["peak_mb"] for size in MEMORY]
        targets |= {
            "12 MP: scoring at least 2 times the straight loop": speed["12"]["scoring_to_straight"] >= 2,
            "under 600 MB at 50 MP": memory["50"]["peak_mb"] < 600,
            "24 and 200 MP within 1.5 times of each other": memory["200"]["peak_mb"] < 1.5 * memory["24"]["peak_mb"],
            "JPEGs never above 800 MB": max(reduced) < 800,
            "four giants at once within 1.25 times of one": memory["4 x 200 MP progressive"]["peak_mb"]
            < 1.25 * memory["200 MP progressive"]["peak_mb"],
        }
    show_targets(targets)
    write_record(
        options.output,
        {
            "model": scorer.model_id,
            "workers": scorer.threads,
            "cold_start": cold,
            "pictures_per_second": speed,
            "peak_memory": memory,
            "targets_met": targets,
            "seconds": round(time.time() - started, 1),
            "machine": state,
        },
    )


def _megapixels(size: str) -> str:
    """Of "50", "50 MP png" or "4 x 200 MP progressive", the number of megapixels."""
    return size.partition(" MP")[0].split()[-1]


def count(size: str, quick: bool) -> int:
    return 12 if quick else {"0.25": 60, "1": 60, "12": 24}[size]


def bare_session(model: str | None) -> str:
    """Python code that opens the model as ``m`` and nothing else."""
    return (
        "from moslens.scoring.card import find_model; from moslens.scoring.session import Model; "
        f"m = Model(find_model({model!r}))"
    )


def cold_start(model: str | None, repeats: int) -> dict[str, dict[str, float]]:
    """Processor seconds of the whole command for one photo, of its import, and of the references."""
    score = moslens_command("score", str(PHOTOS[0]), "--format", "jsonl", model=model)
    session = (
        f"import numpy; {bare_session(model)}; "
        "m.run(next(m.card.view.pieces(numpy.zeros((m.card.working_size,) * 2 + (3,), numpy.uint8))))"
    )
    commands = {
        "command_cpu_seconds": score,
        "bare_session_cpu_seconds": [sys.executable, "-c", session],
        "bare_python_cpu_seconds": [sys.executable, "-c", ""],
    }
    found: dict[str, list[float]] = {name: [] for name in (*commands, "import_seconds")}
    timer = "import time; t = time.perf_counter(); import moslens; print(time.perf_counter() - t)"
    for _ in range(repeats):
        for name, command in commands.items():
            found[name].append(child(command)[0])
        found["import_seconds"].append(float(subprocess.check_output([sys.executable, "-c", timer])))
    result = {name: spread(values) for name, values in found.items()}
    ratio = result["command_cpu_seconds"]["median"] / result["bare_session_cpu_seconds"]["median"]
    print(f"cold start {result['command_cpu_seconds']['median']:.2f} s of processor, {ratio:.2f} x the bare session")
    return result | {"command_to_bare_session": {"ratio": ratio}}


def throughput(model: str | None, scorer: Scorer, paths: list[Path], quick: bool) -> dict[str, float]:
    """Pictures per second of scoring, of decoding alone and of the bare session alone, medians of rounds."""
    outputs = ("score", *BLOCK_OUTPUTS) if scorer.has_maps else ("score",)
    command = moslens_command("score", "--format", "jsonl", model=model)
    card = scorer.model.card
    working, shortest = card.view.working_size, card.view.shortest
    plain = onnxruntime.InferenceSession(str(card.folder / card.file), providers=["CPUExecutionProvider"])

    def in_pool(work: Callable[[int], object]) -> None:
        with ThreadPoolExecutor(scorer.threads) as pool:
            list(pool.map(work, range(len(paths))))

    def decode(i: int) -> list[Piece]:
        return list(card.view.pieces(load(paths[i], working_size=working, shortest=shortest).pixels))

    pieces = [decode(i) for i in range(len(paths))]

    def infer(i: int) -> object:
        return [scorer.model.run(piece, outputs) for piece in pieces[i]]

    def straight() -> None:
        for path in paths:
            with Image.open(path) as photo:
                height, width = fitted_size(photo.height, photo.width, working, shortest)
                small = photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            for piece in card.view.pieces(np.asarray(small)):
                plain.run(outputs, graph_inputs(card.view, piece))

    def score() -> None:
        assert all(isinstance(result, Score) for result in scorer.score_many(paths))

    tasks = {
        "scoring": score,
        "decoding": lambda: in_pool(decode),
        "session": lambda: in_pool(infer),
        "straight": straight,
        "command": lambda: child([*command, *map(str, paths)]),
        "start": lambda: child([*command, str(paths[0])]),
    }
    median = {name: statistics.median(values) for name, values in interleaved(tasks, 2 if quick else 5).items()}
    rate = {name: len(paths) / median[name] for name in ("scoring", "decoding", "session", "straight")}
    rate["command"] = (len(paths) - 1) / (median["command"] - median["start"])
    slower = min(rate["decoding"], rate["session"])
    possible = 1 / (1 / rate["decoding"] + 1 / rate["session"])
    row = {
        **rate,
        "pieces_a_picture": float(np.mean([len(each) for each in pieces])),
        "scoring_of_slower_reference": rate["scoring"] / slower,
        "command_of_slower_reference": rate["command"] / slower,
        "of_possible": rate["scoring"] / possible,
        "scoring_to_straight": rate["scoring"] / rate["straight"],
        "command_to_straight": rate["command"] / rate["straight"],
    }
    print("  ".join(f"{name} {value:.2f}" for name, value in row.items()), flush=True)
    return row


def peak_memory(model: str | None, folder: Path, sizes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Peak resident MB of the command for pictures of a size, and as a ratio to a process with the session alone."""
    reference = child([sys.executable, "-c", bare_session(model)], "memory")[1]
    found: dict[str, dict[str, float]] = {"session": {"peak_mb": reference}}
    for size in sizes:
        number = GIANTS.get(size, 1)
        paths = make_photos(folder / f"memory-{size}", MEMORY[_megapixels(size)], number, **WHOLE.get(size, {}))
        command = moslens_command("score", *map(str, paths), "--workers", str(number), model=model)
        peak = child(command, "memory")[1]
        found[size] = {"peak_mb": peak, "to_session": peak / reference}
        print(f"{size}: {peak:.0f} MB, {peak / reference:.2f} x the session alone", flush=True)
        shutil.rmtree(paths[0].parent)
    return found


if __name__ == "__main__":
    main()
