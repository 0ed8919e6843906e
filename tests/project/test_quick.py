"""The quick selection of tests has some of every package."""

import subprocess
import sys

import pytest

from helpers.paths import ROOT
from helpers.quick import QUICK

SOURCE = ROOT / "src" / "moslens"
PACKAGES = sorted(str(file.parent.relative_to(SOURCE)) for file in SOURCE.glob("*/**/__init__.py"))


@pytest.fixture(scope="module")
def selected() -> list[str]:
    """The names of the tests that it runs, without the folder ``tests``."""
    command = [sys.executable, "-m", "pytest", "-m", "quick", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.removeprefix("tests/") for line in done.stdout.splitlines() if line.startswith("tests/")]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_quick_test(selected: list[str], package: str) -> None:
    outer, _, name = package.rpartition("/")
    beginnings = (f"{package}/", f"{outer}/test_{name}.py") if outer else f"{package}/"
    assert any(test.startswith(beginnings) for test in selected)


@pytest.mark.parametrize("beginning", QUICK)
def test_every_line_of_the_table_means_something(selected: list[str], beginning: str) -> None:
    assert any(test.startswith(beginning) for test in selected)
