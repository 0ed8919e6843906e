"""Every public report in the list names a test that exists, and the page on reliability shows it."""

import ast
import tomllib

import pytest

from helpers.paths import ROOT

REPORTS = tomllib.loads((ROOT / "docs" / "data" / "reports.toml").read_text("utf-8"))["report"]


def test_every_case_is_there_once_and_shown() -> None:
    cases = [one["case"] for one in REPORTS]
    assert len(cases) == len(set(cases)) >= 50
    shown = (ROOT / "docs" / "reliability-trials.md").read_text("utf-8")
    for one in REPORTS:
        assert f"| {one['kind']} | " in shown
        assert all(report.count("#") == report.count("/") == 1 for report in one["reports"]), one["case"]


@pytest.mark.parametrize("test", sorted({one["test"] for one in REPORTS}))
def test_the_test_of_a_case_exists(test: str) -> None:
    file, *names = test.split("::")
    node: ast.AST = ast.parse((ROOT / file).read_text("utf-8"))
    for name in names:
        inside = {child.name: child for child in getattr(node, "body", ()) if hasattr(child, "name")}
        assert name in inside, f"{test} is gone"
        node = inside[name]
    assert any(isinstance(part, ast.FunctionDef) and part.name.startswith("test_") for part in ast.walk(node))
