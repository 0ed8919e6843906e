"""Golden scores, drift record and reactions of a model: shown, or stored in tests/scoring/golden.json by its id.

    python -m tools.golden                     the shipped model against its record
    python -m tools.golden --write             measure the shipped model and store it; other records stay
    python -m tools.golden --write --only      ... and drop the records of other models

Needs LIVEC beside the project (../shared/data/livec). Scores are those of any processor and thread count.
"""

import argparse
import json
import sys

from benchmarks.common import ROOT

sys.path[:0] = [str(ROOT / "tests")]


def main() -> int:
    """Measure; store, or compare with what is stored: 1 where the scores differ by more than 1e-4."""
    from helpers import steady
    from moslens.scoring.scorer import Scorer

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", action="store_true", help="with --write: keep no record of other models")
    parser.add_argument("--model", help="a shipped model's name or a model folder")
    options = parser.parse_args()
    if not steady.labelled(1):
        print(f"needs the data set in {steady.LIVEC}", file=sys.stderr)
        return 2
    scorer = Scorer(options.model)
    found = steady.measure(scorer)
    print(scorer.model_id)
    print(json.dumps({**found, "drift": {**found["drift"], "scores": len(found["drift"]["scores"])}}, indent=1))
    if options.write:
        old = json.loads(steady.RECORD.read_text("utf-8")) if steady.RECORD.exists() else {}
        kept = {} if options.only else old.get("models", {})
        record = {"command": "python -m tools.golden --write", "models": {**kept, scorer.model_id: found}}
        steady.RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return 0
    wanted = steady.stored(scorer.model_id)["scores"]
    off = {name: (wanted[name], score) for name, score in found["scores"].items() if abs(wanted[name] - score) > 1e-4}
    print(f"different: {off}" if off else "the scores are the golden ones")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
