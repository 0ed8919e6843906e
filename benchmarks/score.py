"""What scoring costs: cold start, pictures per second, peak memory, each beside references of the same run.

    python benchmarks/score.py [--model NAME|DIR] [--quick] [--output results/score-benchmark.json]

Absolute times depend on the machine and its mood; the ratios are what to read. The references are decoding alone (the
same ``image.load`` and windows) and the bare ONNX session alone (as many windows, already in memory, and the outputs
that scoring asks for), both with as many threads as scoring has. ``scoring`` is ``Scorer.score_many``; ``command`` is
``moslens score`` on the same files, from the second one on. Decoding and inference share the same cores, so scoring
cannot be faster than both one after the other: ``of_possible`` is its share of 1 / (1 / decoding + 1 / session). Memory
is that of all processes of the command together, each at its own peak.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from _common import ROOT, command_line, git_revision, interleaved, machine, spread, versions, write_json
from moslens import Score, Scorer, views
from moslens.image import load
from moslens.runtime import BLOCK_OUTPUTS

PHOTOS = sorted((ROOT / "examples" / "photos").glob("*.jpg"))
SIZES = {"0.25": (500, 500), "1": (1152, 864), "12": (4000, 3000)}
MEMORY = {"1": (1152, 864), "12": (4000, 3000), "50": (8192, 6144), "200": (16320, 12240)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--quick", action="store_true", help="few pictures, no large ones: to try the script")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "score-benchmark.json")
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
        memory = peak_memory(options.model, folder, ("1",) if options.quick else tuple(MEMORY))
    targets = {
        "cold start under 1 s of processor time": cold["command_cpu_seconds"]["median"] < 1,
        "import under 0.3 s": cold["import_seconds"]["median"] < 0.3,
        **{
            f"{size} MP: {task} at least 70 % of the slower reference": row[f"{task}_of_slower_reference"] >= 0.7
            for size, row in speed.items()
            for task in ("scoring", "command")
        },
        **({"under 600 MB at 50 MP": memory["50"]["peak_mb"] < 600} if "50" in memory else {}),
    }
    for name, met in targets.items():
        print(f"{'met   ' if met else 'MISSED'} {name}")
    write_json(
        options.output,
        {
            "name": "score-benchmark",
            "command": command_line(),
            "model": scorer.model_id,
            "workers": scorer.threads,
            "cold_start": cold,
            "pictures_per_second": speed,
            "peak_memory": memory,
            "targets_met": targets,
            "seconds": round(time.time() - started, 1),
            "machine": state,
            "versions": versions(),
            "git": git_revision(),
        },
    )


def count(size: str, quick: bool) -> int:
    return 12 if quick else {"0.25": 60, "1": 60, "12": 24}[size]


def make_photos(folder: Path, shape: tuple[int, int], number: int) -> list[Path]:
    """``number`` JPEGs of quality 90 from the example photos, mirrored and shifted so that no two are alike."""
    folder.mkdir()
    paths = []
    for i in range(number):
        with Image.open(PHOTOS[i % len(PHOTOS)]) as photo:
            enlarged = photo.convert("RGB").resize(shape, Image.Resampling.BICUBIC)
        shifted = Image.fromarray(np.roll(np.asarray(enlarged), 7 * i, axis=1))
        paths.append(folder / f"{i:03d}.jpg")
        shifted.save(paths[-1], quality=90)
    return paths


def cold_start(model: str | None, repeats: int) -> dict[str, dict[str, float]]:
    """Processor seconds of the whole command for one photo, of its import, and of the references."""
    score = [sys.executable, "-m", "moslens", "score", str(PHOTOS[0]), "--format", "jsonl"]
    score += ["--model", model] if model else []
    session = (
        "import numpy, moslens.runtime as r;"
        f"r.Model(r.find_model({model!r})).run(numpy.zeros((224, 224, 3), numpy.uint8))"
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


# A process that is started counts the memory of the one that starts it as its own peak, so a small one starts it. A
# peak is read from the kernel's own mark, so that looking now and then misses none but that of a last instant.
STARTER = """
import glob, os, subprocess, sys, time

def peaks(pid, found):
    try:
        status = open(f"/proc/{pid}/status").read()
        found[pid] = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        children = " ".join(open(path).read() for path in glob.glob(f"/proc/{pid}/task/*/children"))
    except (OSError, IndexError, ValueError):
        return
    for child in children.split():
        peaks(int(child), found)

process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
found, ended = {}, 0
while sys.argv[1] == "memory" and not ended:
    peaks(process.pid, found)
    time.sleep(0.01)
    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
if not ended:
    _, status, usage = os.wait4(process.pid, 0)
peak = max(sum(found.values()), usage.ru_maxrss / 1024)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, peak)
"""


def child(command: list[str], watch: str = "time") -> tuple[float, float]:
    """Processor seconds and, with ``watch`` "memory", peak MB of a process and all it starts; it must succeed."""
    told = subprocess.check_output([sys.executable, "-c", STARTER, watch, *command], text=True)
    code, seconds, peak = map(float, told.split())
    if code:
        raise SystemExit(f"{command} ended with {code:.0f}")
    return seconds, peak


def throughput(model: str | None, scorer: Scorer, paths: list[Path], quick: bool) -> dict[str, float]:
    """Pictures per second of scoring, of decoding alone and of the bare session alone, medians of rounds."""
    outputs = ("score", *BLOCK_OUTPUTS) if scorer.has_maps else ("score",)
    command = [sys.executable, "-m", "moslens", "score", "--format", "jsonl"] + (["--model", model] if model else [])
    working = scorer.model.card.working_size
    windows = [views.cover(load(path, working_size=working).pixels) for path in paths]

    def in_pool(work: Callable[[int], object]) -> None:
        with ThreadPoolExecutor(scorer.threads) as pool:
            list(pool.map(work, range(len(paths))))

    def decode(i: int) -> object:
        return views.cover(load(paths[i], working_size=working).pixels)

    def infer(i: int) -> object:
        return [scorer.model.run(window, outputs) for window in windows[i]]

    def score() -> None:
        assert all(isinstance(result, Score) for result in scorer.score_many(paths))

    tasks = {
        "scoring": score,
        "decoding": lambda: in_pool(decode),
        "session": lambda: in_pool(infer),
        "command": lambda: child([*command, *map(str, paths)]),
        "start": lambda: child([*command, str(paths[0])]),
    }
    median = {name: statistics.median(values) for name, values in interleaved(tasks, 2 if quick else 5).items()}
    rate = {name: len(paths) / median[name] for name in ("scoring", "decoding", "session")}
    rate["command"] = (len(paths) - 1) / (median["command"] - median["start"])
    slower = min(rate["decoding"], rate["session"])
    possible = 1 / (1 / rate["decoding"] + 1 / rate["session"])
    row = {
        **rate,
        "windows_a_picture": float(np.mean([len(w) for w in windows])),
        "scoring_of_slower_reference": rate["scoring"] / slower,
        "command_of_slower_reference": rate["command"] / slower,
        "of_possible": rate["scoring"] / possible,
    }
    print("  ".join(f"{name} {value:.2f}" for name, value in row.items()), flush=True)
    return row


def peak_memory(model: str | None, folder: Path, sizes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Peak resident MB of the command for one JPEG of each size, and as a ratio to a process with the session alone."""
    session = f"import moslens.runtime as r; r.Model(r.find_model({model!r}))"
    reference = child([sys.executable, "-c", session], "memory")[1]
    found: dict[str, dict[str, float]] = {"session": {"peak_mb": reference}}
    for size in sizes:
        (path,) = make_photos(folder / f"memory-{size}", MEMORY[size], 1)
        command = [sys.executable, "-m", "moslens", "score", str(path), "--format", "jsonl", "--workers", "1"]
        peak = child(command + (["--model", model] if model else []), "memory")[1]
        found[size] = {"peak_mb": peak, "to_session": peak / reference}
        print(f"{size} MP: {peak:.0f} MB, {peak / reference:.2f} x the session alone", flush=True)
    return found


if __name__ == "__main__":
    main()
