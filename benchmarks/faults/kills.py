"""Kill scoring, training, evaluation and ablation at random moments, go on, and compare with an unbroken run.

    python -m benchmarks.faults.kills                       50 kills each of scoring and training, 6 of the others
    python -m benchmarks.faults.kills --kills 5 --others 1 --only score --output FILE

Every kill is a SIGKILL, SIGTERM or SIGINT to the process of the command at a random moment: one in four anywhere
between its start and its end, the others while it works. After each one the same command goes on with --resume, until
it has finished; then the next round begins. Writes the section ``kills`` of results/reliability.json.
"""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, argument_parser, moslens_command, read_lines, update_record, use_test_helpers

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class KilledCommand:
    """A command that is killed and started again; ``progress`` changes when it works."""

    def __init__(
        self,
        command: list[str],
        rng: random.Random,
        progress: Callable[[], Any],
        *,
        signals: Sequence[signal.Signals] = SIGNALS,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """``after`` is called whenever a process has ended, killed or not."""
        self.command, self.rng, self.progress = command, rng, progress
        self.signals, self.after = signals, after
        self.killed: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.rounds = 0

    @property
    def kills(self) -> int:
        return sum(self.killed.values())

    def run(self, kills: int, work: float, whole: float) -> None:
        """Start it and kill it again and again, ``kills`` times in all or until it ends; then let it end.

        One kill in four falls anywhere in the ``whole`` seconds of a start, the others up to ``work`` seconds
        behind its first sign of work.
        """
        self.rounds += 1
        while self.kills < kills:
            before = self.progress()
            process = self._start()
            if self.rng.random() < 0.25:
                delay = self.rng.uniform(0.05, whole)
            else:
                while process.poll() is None and self.progress() == before:
                    time.sleep(0.002)
                delay = self.rng.uniform(0, work)
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                number = self.rng.choice(self.signals)
                process.send_signal(number)
                self._check(process, (-number, 128 + number, 0, 1))
                self.killed[number.name] += 1
            else:
                self._check(process, (0, 1))
                return
        self._check(self._start(), (0, 1))

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=_default_interrupts,  # noqa: PLW1509 (no threads here)
        )

    def _check(self, process: subprocess.Popen[bytes], allowed: tuple[int, ...]) -> None:
        errors = process.communicate()[1].decode(errors="replace")
        if process.returncode not in allowed:
            self.complaints.append(f"exit code {process.returncode}: {errors[-500:]}")
        elif "Traceback" in errors:
            self.complaints.append(f"traceback: {errors[-500:]}")
        self.after()


def _default_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kill_scoring(folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """A folder of pictures, some broken; the rows must be those of an unbroken run, each once and in order."""
    from helpers.tiny_model import make_photo, make_tiny_model

    model = make_tiny_model(folder / "model")
    pictures = folder / "pictures"
    pictures.mkdir()
    data = []
    for seed in range(8):
        stream = io.BytesIO()
        make_photo(320, 240, seed=seed).save(stream, "JPEG")
        data.append(stream.getvalue())
    for number in range(400):
        (pictures / f"{number:05}.jpg").write_bytes(b"broken" if number % 97 == 5 else data[number % 8])
    command = moslens_command("score", str(pictures), "--model", str(model), "--workers", "2")
    whole, work = timed([*command, "--output", str(folder / "whole.jsonl")], folder / "whole.jsonl")
    output = folder / "rows.jsonl"
    target = KilledCommand([*command, "--output", str(output), "--resume"], rng, lambda: size(output))
    expected = read_lines(folder / "whole.jsonl")
    lost = doubled = 0
    equal = True
    while target.kills < kills:
        output.unlink(missing_ok=True)
        target.run(kills, work / 4, whole)
        rows = read_lines(output)
        names = [row["path"] for row in rows]
        lost += len({row["path"] for row in expected} - set(names))
        doubled += len(names) - len(set(names))
        equal = equal and rows == expected
    return outcome(target, pictures=len(expected), lost=lost, doubled=doubled, equal=equal)


def kill_training(folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """A tiny training; log and weights must be those of an unbroken run, every step once."""
    from helpers.tiny_training import make_labelled, write_quality_config

    config = write_quality_config(folder / "tiny.toml", make_labelled(folder / "set"), epochs=60)
    command = moslens_command("train", str(config), "--output")
    whole, work = timed([*command, str(folder / "whole")], folder / "whole" / "log.jsonl")
    run = folder / "run"
    target = KilledCommand([*command, str(run), "--resume"], rng, lambda: size(run / "log.jsonl"))
    expected = [row["step"] for row in read_lines(folder / "whole" / "log.jsonl")]
    lost = doubled = 0
    equal = True
    while target.kills < kills:
        shutil.rmtree(run, ignore_errors=True)
        target.run(kills, work / 4, whole)
        steps = [row["step"] for row in read_lines(run / "log.jsonl")]
        lost += len(set(expected) - set(steps))
        doubled += len(steps) - len(set(steps))
        equal = equal and all(same(folder / "whole", run, name) for name in ("model.safetensors", "predictions.csv"))
    return outcome(target, steps=len(expected), lost=lost, doubled=doubled, equal=equal)


def kill_evaluation(folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """An evaluation that goes on from its predictions; the figures must be those of an unbroken one."""
    from helpers.tiny_model import make_tiny_model
    from helpers.tiny_training import make_labelled

    model, table = make_tiny_model(folder / "model"), make_labelled(folder / "set", 26)
    command = moslens_command("evaluate", str(model), "--dataset", str(table), "--output")
    whole, _ = timed([*command, str(folder / "whole")], folder / "whole.json")
    partial = folder / "killed.partial"
    target = KilledCommand([*command, str(folder / "killed")], rng, lambda: entries(partial))
    equal, left_over = True, False
    while target.kills < kills:
        for file in folder.glob("killed.*"):
            file.unlink()
        target.run(kills, whole / 4, whole)
        equal = equal and figures(folder / "whole.json") == figures(folder / "killed.json")
        left_over = left_over or partial.exists()
    return outcome(target, equal=equal and not left_over)


def figures(path: Path) -> list[Any]:
    """All that an evaluation measured, without how long it took."""
    record = json.loads(path.read_text("utf-8"))
    splits = [{key: value for key, value in split.items() if key != "seconds"} for split in record["splits"]]
    return [splits, record["median"], record["mean"], record["std"]]


def kill_ablation(folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """A table of two rows; its weights must be those of an unbroken one."""
    from helpers.tiny_distillation import make_pool, make_teacher, write_student_config
    from helpers.tiny_training import make_labelled

    table, pool = make_labelled(folder / "set"), make_pool(folder / "pool")
    teacher = make_teacher(pool, folder / "teacher")
    write_student_config(folder / "base.toml", table, pool, teacher, epochs=2)
    (folder / "all.toml").write_text('title = "all of it"\n')
    (folder / "plain.toml").write_text('title = "plain"\n[model.changes]\nbaf = "off"\n[distill]\nkd = "none"\n')
    plan = folder / "plan.toml"
    plan.write_text('name = "t"\nbase = "base.toml"\nsplits = [0]\nmain = "all"\nrows = ["all.toml", "plain.toml"]\n')
    command = moslens_command("ablate", str(plan), "--output")
    whole, _ = timed([*command, str(folder / "whole")], folder / "whole" / "t.json")
    killed = folder / "killed"
    target = KilledCommand([*command, str(killed), "--resume"], rng, lambda: entries(killed))
    equal = True
    while target.kills < kills:
        shutil.rmtree(killed, ignore_errors=True)
        target.run(kills, whole / 4, whole)
        weights = [f"{row}/split-0/model.safetensors" for row in ("all", "plain")]
        equal = equal and all(same(folder / "whole", killed, name) for name in weights)
    return outcome(target, equal=equal)


def timed(command: list[str], sign: Path) -> tuple[float, float]:
    """Run a command unbroken: its seconds, and those since ``sign`` appeared."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and size(sign) == 0:
        time.sleep(0.002)
    began = time.monotonic()
    if process.wait() not in (0, 1):
        raise SystemExit(f"the unbroken run failed: {command}")
    return time.monotonic() - start, time.monotonic() - began


def entries(folder: Path) -> int:
    """Files and folders below; what vanishes while they are counted does not matter."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def same(first: Path, second: Path, name: str) -> bool:
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in (first, second)]
    return digests[0] == digests[1]


def outcome(target: KilledCommand, **facts: Any) -> dict[str, Any]:
    """What is committed of one series of kills."""
    return {
        "kills": target.kills,
        "rounds": target.rounds,
        "signals": dict(sorted(target.killed.items())),
        **facts,
        "complaints": target.complaints,
    }


BAD = ("lost", "doubled", "torn", "persons_or_broken_changed", "unknown_properties_lost", "complaints")
"""Facts of an outcome that should be 0 or empty."""
SERIES = {"score": kill_scoring, "train": kill_training, "evaluate": kill_evaluation, "ablate": kill_ablation}


def run_series(
    names: Iterable[str],
    run: Callable[[str, Path, random.Random], Mapping[str, dict[str, Any]]],
    output: Path,
    seed: int,
) -> int:
    """Run series by name, each in a folder of its own; print and record the outcomes that ``run`` gives.

    The exit code: 1 where anything was lost, torn or different.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    use_test_helpers()
    sound = True
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"kill-{name}-"))
        try:
            found = run(name, folder, random.Random(f"{seed} {name}"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for title, one in found.items():
            sound = sound and one["equal"] and not any(one.get(fact) for fact in BAD)
            print(f"{title}: {json.dumps(one)}", flush=True)
        update_record(output, "kills", found)
    return 0 if sound else 1


def main() -> int:
    """Run the series, print and record what came out; 1 where anything was lost, doubled or different."""
    parser = argument_parser(__doc__, "reliability.json")
    parser.add_argument("--kills", type=int, default=50, help="of scoring and of training")
    parser.add_argument("--others", type=int, default=6, help="of evaluation and of ablation")
    parser.add_argument("--only", choices=SERIES, action="append", help="repeatable; all without it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    def run(name: str, folder: Path, rng: random.Random) -> Mapping[str, dict[str, Any]]:
        return {name: SERIES[name](folder, options.kills if name in ("score", "train") else options.others, rng)}

    return run_series(options.only or SERIES, run, options.output, options.seed)


if __name__ == "__main__":
    sys.exit(main())
