"""Does the model see faults that programs make which training never uses, and does it leave clean photos alone?

    python -m benchmarks.quality.desk [--model NAME|DIR] [--data DIR] [--photos 60] [--work DIR] [--output FILE]

ImageMagick, ffmpeg and scikit-image make 30 faults at up to five levels and 12 harmless changes (desk.toml says which,
and what is a right name for each) on photos that no training and no calibration used: clic2025 and the part of the
held-out pristine photos that measures. The same photos at about 2 K, and mosaics of them of 12 megapixels, get four
faults at 100 % for detail. Pictures go through pipes and are never written. Each photo's row is kept in a file of
``--work``, so that a killed run goes on, and a run with more photos adds to one with fewer; another model, plan or
program begins anew.
"""

import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import (
    ROOT,
    add_data_option,
    add_model_option,
    argument_parser,
    machine,
    read_lines,
    show_targets,
    write_record,
)
from benchmarks.programs import Pixels, ProgramError, program_version
from benchmarks.quality import desk_faults, desk_figures
from benchmarks.quality.desk_plan import (
    Fault,
    Plan,
    clean_photos,
    clean_picture,
    large_photos,
    mosaic,
    mosaics,
    read_plan,
)
from benchmarks.quality.notes import hash_of
from moslens import Scorer
from moslens.errors import OutputError
from moslens.evaluate.record import versions
from moslens.picture.load import decode
from moslens.system.files import file_sha256

PACKAGES = ("numpy", "pillow", "onnxruntime", "scikit-image")
Row = dict[str, Any]


class Checkpoint:
    """Rows by name in a JSON Lines file of a folder. ``settings`` choose the file, so that others begin a new one.

    ``name`` begins the name of the file; ``show`` prints a line for each row that is made.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, name: str = "desk", show: bool = True) -> None:
        """OutputError where the folder lies in the project, or cannot be made."""
        if folder.resolve().is_relative_to(ROOT):
            raise OutputError("lies in the project: the rows of a run belong elsewhere", folder)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{name}-{digest[:16]}.jsonl"
        self._show = show
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", folder) from error
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # a kill left half a line
            os.truncate(self.path, whole)
        self._rows: dict[str, Row] = {row["photo"]: row for row in read_lines(self.path)}

    def row(self, name: str, make: Callable[[], Row]) -> Row:
        """The kept row of that name, or the one that ``make`` gives, with its name and seconds, which is then kept."""
        if name not in self._rows:
            started = time.time()
            row = {"photo": name, **make(), "seconds": round(time.time() - started, 1)}
            with self.path.open("ab") as file:
                file.write(json.dumps(row).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._rows[name] = row
            if self._show:
                print(f"{name}: {row['seconds']:.0f} s", flush=True)
        return self._rows[name]


def main() -> int:
    parser = argument_parser(__doc__, "desk.json")
    add_model_option(parser)
    add_data_option(parser)
    parser.add_argument("--photos", type=int, default=60, help="clean photos; a third as many at 100 %%; default: 60")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "moslens-desk", help="kept rows")
    options = parser.parse_args()
    plan = read_plan()
    scorer = Scorer(options.model, threads=1)
    programs = {name: program_version(name) for name in ("imagemagick", "ffmpeg")}
    settings = {
        "model": scorer.model_id,
        "plan_sha256": plan.sha256,
        "faults_sha256": file_sha256(Path(desk_faults.__file__)),
        "programs": programs,
        "versions": versions(PACKAGES),
    }
    checkpoint = Checkpoint(options.work, settings)
    faults, left_out = makeable(plan.faults)
    dead = checkpoint.row("dead frames", lambda: {"scores": dead_scores(scorer)})
    paths = clean_photos(options.data, plan)[: options.photos]
    rows = [checkpoint.row(path.name, partial(photo_row, scorer, path, faults, plan)) for path in paths]
    large = large_photos(options.data, plan)
    singles = large[: -(-3 * len(paths) // 10)]
    two_k = [checkpoint.row(f"2K {path.name}", partial(two_k_row, scorer, path, plan)) for path in singles]
    made = mosaics(large, -(-len(paths) // 10))
    twelve = [checkpoint.row(f"12 MP {n}", partial(mosaic_row, scorer, of, plan)) for n, of in enumerate(made, 1)]
    facts = figures(rows, two_k, twelve, dead["scores"], faults, plan)
    show_targets({name: claim["met"] for name, claim in facts["claims"].items()})
    write_record(
        options.output,
        {
            "protocol": " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
            "model": scorer.model_id,
            "config": {"plan": "benchmarks/quality/desk.toml", **settings, "seed": plan.seed, "strong": plan.strong},
            "dataset": {
                "photos": [path.name for path in paths],
                "photos_hash": hash_of(map(file_sha256, paths)),
                "at_2k": [path.name for path in singles],
                "mosaics_of_12_megapixels": len(made),
                "large_hash": hash_of(map(file_sha256, large)),
            },
            "left_out": left_out,
            **facts,
            "seconds": sum(row["seconds"] for row in (dead, *rows, *two_k, *twelve)),
            "machine": machine(),
        },
        PACKAGES,
    )
    return 0 if all(claim["met"] for claim in facts["claims"].values()) else 1


def makeable(faults: Sequence[Fault]) -> tuple[list[Fault], dict[str, str]]:
    """The faults without the optional ones that a program here cannot make, and why it cannot."""
    kept, left_out = [], {}
    for fault in faults:
        if fault.optional:
            try:
                desk_faults.FAULTS[fault.name](desk_faults.dead_frame("grey"), fault.levels[-1], 0)
            except ProgramError as error:
                left_out[fault.name] = str(error)
                continue
        kept.append(fault)
    return kept, left_out


def photo_row(scorer: Scorer, path: Path, faults: Sequence[Fault], plan: Plan) -> Row:
    """What is seen of a clean photo, of its faults and of its harmless changes."""

    def seen(made: desk_faults.Made) -> Row:
        found = scorer.score(made)
        return _seen(found.score, found.distortions)

    pixels = clean_picture(path, plan)
    harmless = {
        change.name: scorer.score(desk_faults.HARMLESS[change.name](pixels, change.value, plan.seed)).score
        for change in plan.harmless
    }
    return {
        "clean": seen(pixels),
        "faults": with_faults(path.name, pixels, faults, desk_faults.FAULTS, seen, plan),
        "harmless": harmless,
    }


def two_k_row(scorer: Scorer, path: Path, plan: Plan) -> Row:
    """What detail sees of a photo of about 2 K."""
    return detail_row(scorer, path.name, decode(path), plan)


def mosaic_row(scorer: Scorer, paths: Sequence[Path], plan: Plan) -> Row:
    """What detail sees of a mosaic of photos."""
    return detail_row(scorer, "/".join(path.name for path in paths), mosaic(paths), plan)


def detail_row(scorer: Scorer, name: str, pixels: Pixels, plan: Plan) -> Row:
    """What detail sees of a large clean picture and of its faults at 100 %."""

    def seen(made: desk_faults.Made) -> Row:
        found = scorer.score(made, detail=True).detail
        assert found is not None
        return _seen(found.score, found.distortions) | {"tiles": len(found.tiles)}

    return {"clean": seen(pixels), "faults": with_faults(name, pixels, plan.detail, desk_faults.DETAIL, seen, plan)}


def with_faults(
    name: str,
    pixels: Pixels,
    faults: Sequence[Fault],
    functions: Mapping[str, desk_faults.Make],
    seen: Callable[[desk_faults.Made], Row],
    plan: Plan,
) -> dict[str, dict[str, Row]]:
    """What is seen of each fault at each level; the levels of a fault share the seed of the photo and the fault."""
    seeds = {fault.name: zlib.crc32(f"{plan.seed}/{name}/{fault.name}".encode()) % 2**31 for fault in faults}
    return {
        fault.name: {
            str(level): seen(functions[fault.name](pixels, value, seeds[fault.name]))
            for level, value in fault.by_level.items()
        }
        for fault in faults
    }


def dead_scores(scorer: Scorer) -> dict[str, float]:
    """The scores of frames that show nothing."""
    return {name: scorer.score(desk_faults.dead_frame(name)).score for name in desk_faults.DEAD}


def _seen(score: float, distortions: Sequence[Mapping[str, Any]]) -> Row:
    return {"score": score, "groups": list(dict.fromkeys(str(one["group"]) for one in distortions))}


def figures(
    rows: Sequence[Row],
    two_k: Sequence[Row],
    twelve: Sequence[Row],
    dead: Mapping[str, float],
    faults: Sequence[Fault],
    plan: Plan,
) -> dict[str, Any]:
    """All figures and claims of the record."""
    large = [*two_k, *twelve]
    table = desk_figures.fault_table(rows, faults, plan)
    harmless = desk_figures.harmless_table(rows, plan)
    detail = desk_figures.detail_table(large, plan)
    named = desk_figures.clean_named(rows), desk_figures.clean_named(large)
    return {
        "claims": desk_figures.claims(table, harmless, detail, dead, named, plan),
        "clean": {
            "photos": len(rows),
            "mean_score": sum(row["clean"]["score"] for row in rows) / len(rows),
            "named": {row["photo"]: row["clean"]["groups"] for row in rows if row["clean"]["groups"]},
        },
        "faults": table,
        "harmless": harmless,
        "dead": dict(dead),
        "detail": {
            "photos": {"2 K": len(two_k), "12 megapixels": len(twelve)},
            "tiles": max(row["clean"]["tiles"] for row in large),
            "faults": detail,
            "by_size": {
                size: desk_figures.detail_table(some, plan)
                for size, some in (("2 K", two_k), ("12 megapixels", twelve))
            },
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
