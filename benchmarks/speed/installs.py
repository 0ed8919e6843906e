"""Install the core in bare environments, at the lowest and the newest versions it allows, and check what it must do.

    python -m benchmarks.speed.installs           every Python at hand from 3.11 on; writes results/reliability.json
    python -m benchmarks.speed.installs --lowest  only the lowest versions, without a record: for CI

The lowest versions are those of pyproject.toml, on Python 3.11, the oldest one that is supported.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, argument_parser, update_record

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def interpreter(version: str) -> str | None:
    """A Python of that version that is installed here; nothing is downloaded."""
    for candidate in (sys.executable, f"python{version}", str(Path.home() / f".pyenv/versions/{version}")):
        found = shutil.which(candidate)
        if found and _version(found) == version:
            return found
    versions = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    return str(versions[-1]) if versions else None


def _version(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def check(python: str, wheel: Path, *, lowest: bool) -> dict[str, Any]:
    """Install the wheel into a new environment and run tests/helpers/core_check.py there."""
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
        environment.pop("PYTHONPATH", None)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--python", python, place], check=True, env=environment)
        inside = Path(place) / ("Scripts" if os.name == "nt" else "bin") / "python"
        # By name: uv called as a module would else install where it is itself installed.
        install = [*uv, "pip", "install", "--quiet", "--python", str(inside)]
        resolution = ["--resolution", "lowest-direct"] if lowest else []
        # From the project's own file: of a wheel, only the wheel itself would count as direct.
        subprocess.run([*install, *resolution, "-r", str(ROOT / "pyproject.toml")], check=True, env=environment)
        subprocess.run([*install, "--no-deps", str(wheel)], check=True, env=environment)
        done = subprocess.run(
            [str(inside), "-m", "helpers.core_check"],
            cwd=ROOT / "tests", capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
    if done.returncode:
        return {"passed": False, "error": done.stderr[-1500:]}
    return {"passed": True, **json.loads(done.stdout.splitlines()[-1])}


def main() -> int:
    """Run the checks; 1 where one fails."""
    parser = argument_parser(__doc__, "reliability.json")
    parser.add_argument("--lowest", action="store_true")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as place:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place]
        subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
        (wheel,) = Path(place).glob("*.whl")
        for version in PYTHONS:
            python = interpreter(version)
            if python is None:
                print(f"Python {version}: not here")
                continue
            for lowest in (True, False):
                if (lowest and version != PYTHONS[0]) or (options.lowest and not lowest):
                    continue
                name = f"Python {version}, {'lowest' if lowest else 'newest'} versions"
                found[name] = check(python, wheel, lowest=lowest)
                print(f"{name}: {json.dumps(found[name])}", flush=True)
    if not options.lowest:
        update_record(options.output, "installs", found)
    return 0 if found and all(one["passed"] for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
