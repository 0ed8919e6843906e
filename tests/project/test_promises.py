"""The list of promises names tests that exist, and the page about reliability shows it."""

import ast
import tomllib

import pytest

from helpers.paths import ROOT

RECORD = tomllib.loads((ROOT / "docs" / "data" / "promises.toml").read_text("utf-8"))
PROMISES = [(one["says"], one["test"]) for one in RECORD["promise"]]


def test_the_list_is_shown() -> None:
    assert len(PROMISES) >= 20
    assert len(dict(PROMISES)) == len(PROMISES)
    lines = (ROOT / "docs" / "reliability.md").read_text("utf-8").splitlines()
    assert {f"| {says} | `{test}` |" for says, test in PROMISES} <= set(lines)


@pytest.mark.parametrize(("promise", "test"), PROMISES)
def test_every_promise_has_its_test(promise: str, test: str) -> None:
    file, *names = test.split("::")
    node: ast.AST = ast.parse((ROOT / file).read_text("utf-8"))
    for name in names:
        assert isinstance(node, ast.Module | ast.ClassDef)
        inside = {child.name: child for child in node.body if isinstance(child, ast.FunctionDef | ast.ClassDef)}
        assert name in inside, f"{promise}: {test}"
        node = inside[name]
    assert any(isinstance(part, ast.Assert | ast.With) or "assert" in ast.unparse(part) for part in ast.walk(node))
