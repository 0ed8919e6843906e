"""Write the bill of materials of the core install as CycloneDX 1.5 JSON: packages, versions, licences, weights.

    python -m tools.docs.make_sbom --output moslens.cdx.json      in the environment that is to be described

Lists what ``pip install moslens`` brings, as installed here. No package is needed for it, and nothing is asked on a
network. The same environment gives the same bytes.
"""

import argparse
import hashlib
import json
import re
import sys
import uuid
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = "moslens"


def requirements(package: Distribution) -> list[str]:
    """Names that a package needs here, those of extras and of other systems left out."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in package.requires or []]
    return sorted({normal(one.name) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})})


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name: str) -> dict[str, Distribution]:
    """The package and all that it needs, by normal name."""
    found: dict[str, Distribution] = {}
    pending = [name]
    while pending:
        current = pending.pop()
        if current not in found:
            found[current] = distribution(current)
            pending += requirements(found[current])
    return dict(sorted(found.items()))


def component(name: str, package: Distribution) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "application" if name == ROOT else "library",
        "bom-ref": reference(name, package),
        "name": name,
        "version": package.version,
        "purl": reference(name, package),
    }
    licence = package.metadata.get("License-Expression") or package.metadata.get("License")
    if licence and "\n" not in licence and len(licence) < 60:
        entry["licenses"] = [{"license": {"name": licence}}]
    return entry


def reference(name: str, package: Distribution) -> str:
    return f"pkg:pypi/{name}@{package.version}"


def weights() -> list[dict[str, Any]]:
    """The models inside the package, each with the hash on its card."""
    from moslens.scoring.card import Card, shipped

    found = []
    for folder in shipped().values():
        card = Card.read(folder)
        data = hashlib.sha256((folder / card.file).read_bytes()).hexdigest()
        if data != card.sha256:
            raise SystemExit(f"{folder}: the weights are not those of the card")
        hashes = [{"alg": "SHA-256", "content": data}]
        found.append(
            {
                "type": "machine-learning-model",
                "bom-ref": card.id,
                "name": card.name,
                "version": card.id.partition("@")[2],
                "hashes": hashes,
            }
        )
    return found


def make() -> dict[str, Any]:
    """The whole document."""
    packages = closure(ROOT)
    models = weights()
    libraries = [component(name, package) for name, package in packages.items() if name != ROOT]
    dependencies = [
        {
            "ref": reference(name, package),
            "dependsOn": [reference(other, packages[other]) for other in requirements(package)],
        }
        for name, package in packages.items()
    ]
    body = {
        "metadata": {"component": component(ROOT, packages[ROOT])},
        "components": libraries + models,
        "dependencies": dependencies,
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return head | body


def main() -> int:
    """Write or show the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    try:
        text = json.dumps(make(), indent=1) + "\n"
    except PackageNotFoundError as error:
        sys.stderr.write(f"not installed here: {error}\n")
        return 2
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
