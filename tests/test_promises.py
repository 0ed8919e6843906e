"""The list of promises names tests that exist, and README leads to it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "reliability.md").read_text("utf-8")
PROMISES = re.findall(r"^\| (.+) \| `(tests/\S+)` \|$", TEXT.partition("<!-- end promises -->")[0], re.MULTILINE)


def test_there_is_a_list_and_readme_leads_to_it() -> None:
    assert len(PROMISES) >= 20
    assert len(dict(PROMISES)) == len(PROMISES)
    assert "docs/reliability.md" in (ROOT / "README.md").read_text("utf-8")


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
