"""What a core install must do, without pytest or any extra: for bare environments.

Golden scores of the committed photos, odd files, the command, bulk rows and resume. In the folder ``tests``:
``python -m helpers.core_check``.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from helpers.paths import ROOT

PHOTOS = ROOT / "examples" / "photos"
# Bytes that newer Pillows read, or name better.
PILLOW_DECIDES = {"rgb_16.png", "one_colour_100_megapixels.png", "palette_transparent.gif", "twelve_bits.jpg"}


def main() -> None:
    """Raise AssertionError where anything is not as it should be; print the versions and what was found."""
    import moslens
    from helpers.hostile import make_odd_files

    assert "torch" not in sys.modules
    golden = json.loads((ROOT / "tests" / "scoring" / "golden.json").read_text("utf-8"))["models"]
    scorer = moslens.Scorer()
    wanted = golden[scorer.model_id]["scores"]
    found = {path.name: scorer.score(path).score for path in sorted(PHOTOS.glob("*.jpg"))}
    furthest = max(abs(wanted[name] - score) for name, score in found.items())
    assert furthest <= 1e-4, found

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "odd").mkdir()
        expected = make_odd_files(folder / "odd")
        results = scorer.score_many((str(folder / "odd" / name) for name in expected), folders=False)
        codes = {Path(r.path or "").name: r.error.code if isinstance(r, moslens.Failure) else None for r in results}
        differing = {name: code for name, code in codes.items() if code != expected[name]}
        assert len(codes) == len(expected)
        assert set(differing) <= PILLOW_DECIDES, differing
        assert "internal" not in codes.values()

        rows = folder / "rows.jsonl"
        for _ in range(2):
            run("score", str(PHOTOS), "--output", str(rows), "--resume")
        assert len(rows.read_text("utf-8").splitlines()) == len(found)
        assert run("score", str(PHOTOS), "--format", "csv").count("\n") == len(found) + 1
        run("doctor")
        run("models")
        name = scorer.model_id.partition("@")[0]
        ranks = json.loads(run("compare", name, name, str(PHOTOS)))
        assert ranks["srcc"] > 1 - 1e-9, ranks
        run("degrade", str(PHOTOS / "livec_571.jpg"), "--output", str(folder / "degraded"))
    names = ("numpy", "pillow", "onnxruntime", "typer", "rich")
    sys.stdout.write(
        json.dumps(
            {
                "python": ".".join(map(str, sys.version_info[:3])),
                "versions": {name: version(name) for name in names},
                "furthest_from_golden": furthest,
                "odd_files": len(expected),
                "read_otherwise": sorted(differing),
            }
        )
    )


def run(*words: str) -> str:
    """The output of ``moslens WORDS``, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "moslens", *words], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, (words, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout


if __name__ == "__main__":
    main()
