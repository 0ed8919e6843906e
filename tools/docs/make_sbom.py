"""Write the bill of materials of the core install as CycloneDX 1.5 JSON: packages, versions, licences, weights.

    python -m tools.docs.make_sbom --output moslens.cdx.json      in the environment that is to be described

cyclonedx-py (cyclonedx-bom, in the ``dev`` extra) lists the environment. Kept of it is what ``pip install moslens``
brings; added are the models inside the package. The same environment gives the same bytes, and nothing is downloaded.
"""

import argparse
import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

import moslens
from benchmarks.common import ROOT
from moslens.scoring.card import Card, shipped

SPECIFICATION = "1.5"


def installed() -> dict[str, Any]:
    """Every package of this environment, with moslens as the component that is described."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "library", "--sv", SPECIFICATION]
    # Validating hundreds of packages takes half a minute; what is kept of them is validated at the end.
    done = subprocess.run([*command, "--output-reproducible", "--no-validate"], check=True, capture_output=True)
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def needs(package: str) -> set[str]:
    """Normal names of what a package needs here, without any extra."""
    wanted = [Requirement(text) for text in requires(package) or []]
    return {normal(one.name) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def core_only(bill: dict[str, Any]) -> dict[str, Any]:
    """The bill without what only an extra or another program needs."""
    version = moslens.__version__
    root = bill["metadata"]["component"] | {"version": version, "purl": f"pkg:pypi/moslens@{version}"}
    graph: dict[str, set[str]] = {}
    pending = ["moslens"]
    while pending:
        name = pending.pop()
        if name not in graph:
            graph[name] = needs(name)
            pending += graph[name]
    parts = {normal(part["name"]): part for part in bill["components"] if normal(part["name"]) in graph}
    references = {name: part["bom-ref"] for name, part in parts.items()} | {"moslens": root["bom-ref"]}
    return bill | {
        "metadata": bill["metadata"] | {"component": root},
        "components": [part for name, part in sorted(parts.items()) if name != "moslens"],
        "dependencies": [
            {"ref": references[name], "dependsOn": sorted(references[other] for other in graph[name])}
            for name in sorted(graph)
        ],
    }


def weights() -> list[dict[str, Any]]:
    """The models inside the package, each with the hash on its card. Raises ModelError for altered weights."""
    cards = [Card.read(folder) for folder in shipped().values()]
    for card in cards:
        card.verified_weights()
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": card.id,
            "name": card.name,
            "version": card.id.partition("@")[2],
            "hashes": [{"alg": "SHA-256", "content": card.sha256}],
        }
        for card in cards
    ]


def main() -> None:
    """Write or show the document. Exits with a message where it is not valid CycloneDX."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    bill = core_only(installed())
    text = json.dumps(bill | {"components": bill["components"] + weights()}, indent=1) + "\n"
    fault = JsonStrictValidator(SchemaVersion.from_version(SPECIFICATION)).validate_str(text)
    if fault is not None:
        raise SystemExit(f"not a valid bill of materials: {fault}")
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
