"""Quality maps of 40 LIVEC photos from the lowest to the highest opinion score: the page docs/maps.md.

    python -m tools.docs.maps --root DIR [--model NAME|DIR]

Photos are those at 40 evenly spaced ranks of the opinion score, so nobody chose them. What is right and wrong in
them to the eye is kept in ``docs/data/maps-notes.toml`` (photo name = words) and put beside them; this command does
not change that file.
"""

import argparse
import shutil
import tomllib
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, command_line
from moslens import Scorer
from moslens.data.records import Sample
from moslens.data.sets import load_dataset
from moslens.scoring.labels import distortion_label

PAGE = ROOT / "docs" / "maps.md"
NOTES = ROOT / "docs" / "data" / "maps-notes.toml"
IMAGES = ROOT / "docs" / "images" / "maps"
COUNT = 40
SIDE = 440
QUALITY = 55
MOST_BYTES = 1_500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--root", type=Path, required=True, help="folder of LIVE In the Wild")
    options = parser.parse_args()
    scorer = Scorer(options.model)
    notes = tomllib.loads(NOTES.read_text("utf-8")) if NOTES.is_file() else {}
    if IMAGES.is_dir():
        shutil.rmtree(IMAGES)
    IMAGES.mkdir(parents=True)
    notice = (ROOT / "examples" / "photos" / "NOTICE.txt").read_text("utf-8")
    (IMAGES / "NOTICE.txt").write_text(notice[notice.index("-----------COPYRIGHT") :], encoding="utf-8")
    sections = [section(scorer, sample, notes) for sample in chosen(options.root)]
    size = sum(path.stat().st_size for path in IMAGES.iterdir())
    if size > MOST_BYTES:
        raise SystemExit(f"the maps take {size:,} bytes, {MOST_BYTES:,} are allowed")
    PAGE.write_text(head(scorer) + "\n".join(sections), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(sections)} maps, {size:,} bytes")


def chosen(root: Path) -> list[Sample]:
    """The samples at evenly spaced ranks of the opinion score, the lowest first."""
    samples = sorted(load_dataset("livec", root).samples, key=lambda sample: (sample.mos, sample.name))
    return [samples[round(place)] for place in np.linspace(0, len(samples) - 1, COUNT)]


def head(scorer: Scorer) -> str:
    return f"""# Maps of 40 photos

Made by `{command_line()}` with `{scorer.model_id}`: photos of LIVE In the Wild at evenly
spaced ranks of their opinion score (MOS), the lowest first. [How to read a map](explain.md). The photos are (c) 2015
The University of Texas at Austin, shown under [this notice](images/maps/NOTICE.txt). The model learned from the scores
of these photos, but from no label of where or what: none exist for them. The words say what is right and wrong in a
map, from comparing it with the photo by eye.

"""


def section(scorer: Scorer, sample: Sample, notes: dict[str, str]) -> str:
    found = scorer.explain(sample.path)
    stem = Path(sample.name).stem
    overlay = found.overlay(SIDE)
    overlay.save(IMAGES / f"{stem}.jpg", quality=QUALITY, optimize=True)
    faults = ", ".join(
        f"{distortion_label(row)} {row['severity']:.1f} on {row['share']:.0%}" for row in found.distortions
    )
    words = notes.get(stem, "")
    return (
        f"## {sample.name}\n\nMOS {sample.mos:.1f}, score {found.score:.1f} ({found.low:.1f} to {found.high:.1f}). "
        f"Named: {faults or 'nothing'}.\n\n![map of {sample.name}](images/maps/{stem}.jpg)\n"
        + (f"\n{words.strip()}\n" if words else "")
    )


if __name__ == "__main__":
    main()
