"""The int8 twin of a model: how closely it follows, and how much faster it is on one core.

    python benchmarks/int8.py --pool ../shared/data/pristine --root ../shared/data/livec [--model NAME|DIR]

makes the twin in a scratch folder, prints both answers and writes ``results/int8.json``. Speed is processor time of the
bare sessions on the same windows in turn, so that a busy machine blurs it little; onnxruntime's profile of both says in
which operators it goes. With ``--reuse`` the agreement is
taken from the file that is there, if it is of the same model, and only the speed is measured anew.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from _common import ROOT, command_line, git_revision, machine, spread, versions, write_json
from moslens import views
from moslens.data.sets import load_dataset
from moslens.image import load
from moslens.quantise import LEAST_AGREEMENT, MOST_LOSS, compare, quantise
from moslens.runtime import Model, find_model

SHARED = ROOT.parent / "shared" / "data"
PHOTOS = sorted((ROOT / "examples" / "photos").glob("*.jpg"))
LEAST_SPEED = 1.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--pool", type=Path, default=SHARED / "pristine")
    parser.add_argument("--root", type=Path, default=SHARED / "livec")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "int8.json")
    options = parser.parse_args()
    started = time.time()
    source = find_model(options.model)
    with tempfile.TemporaryDirectory() as scratch:
        twin = Path(scratch) / "int8"
        card = quantise(source, twin, options.pool)
        full, small = Model(source), Model(twin)
        size = {name: (m.card.folder / m.card.file).stat().st_size for name, m in (("fp32", full), ("int8", small))}
        found = earlier(options.output, card.id) if options.reuse else None
        found = found or compare(source, twin, load_dataset("livec", options.root))
        speed = processor_time({"fp32": full, "int8": small}, options.rounds)
        operators = {name: by_operator(m, Path(scratch) / name) for name, m in (("fp32", full), ("int8", small))}
    ratio = speed["fp32"]["median"] / speed["int8"]["median"]
    targets = {
        f"SRCC to fp32 at least {LEAST_AGREEMENT}": found["srcc_to_full"] >= LEAST_AGREEMENT,
        f"LIVEC SRCC loss at most {MOST_LOSS}": found["srcc_loss"] <= MOST_LOSS,
        f"at least {LEAST_SPEED} times the speed on one core": ratio >= LEAST_SPEED,
    }
    print(f"int8 is {ratio:.2f} x as fast, SRCC to fp32 {found['srcc_to_full']:.4f}, loss {found['srcc_loss']:.4f}")
    for name, met in targets.items():
        print(f"{'met   ' if met else 'MISSED'} {name}")
    write_json(
        options.output,
        {
            "name": "int8",
            "command": command_line(),
            "model": full.card.id,
            "twin": card.id,
            "speed_ratio": ratio,
            "agreement": found,
            "targets_met": targets,
            "milliseconds_a_window": speed,
            "bytes": size,
            "milliseconds_by_operator": operators,
            "seconds": round(time.time() - started, 1),
            "machine": machine(),
            "versions": versions(),
            "git": git_revision(),
        },
    )


def earlier(path: Path, twin: str) -> dict[str, Any] | None:
    """The agreement measured before, if it was of this very twin."""
    record = json.loads(path.read_bytes()) if path.is_file() else {}
    return record["agreement"] if record.get("twin") == twin else None


def windows_of(model: Model) -> np.ndarray:
    """The windows of the example photos."""
    return np.concatenate([views.cover(load(photo, working_size=model.card.working_size).pixels) for photo in PHOTOS])


def by_operator(model: Model, prefix: Path) -> dict[str, float]:
    """Milliseconds a window in each kind of operator, the costliest first, by onnxruntime's own profile."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling, options.profile_file_prefix = True, str(prefix)
    weights = str(model.card.folder / model.card.file)
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    windows = windows_of(model)
    for window in windows:
        session.run(["score"], {"windows": window[None]})
    found: Counter[str] = Counter()
    for event in json.loads(Path(session.end_profiling()).read_bytes()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"]] += event["dur"] / 1000 / len(windows)
    return dict(found.most_common(8)) | {"all": sum(found.values())}


def processor_time(models: dict[str, Model], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds a window of each model, one after the other in every round."""
    windows = windows_of(next(iter(models.values())))
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            start = time.process_time()
            for window in windows:
                model.run(window)
            times[name].append(1000 * (time.process_time() - start) / len(windows))
    return {name: spread(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
