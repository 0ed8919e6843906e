"""The habits of the project: one list of checks, valid house files, plain words."""

import re
import shutil
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import moslens
from helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BANNED = [
    line.split("\t")
    for line in (ROOT / "tests" / "project" / "banned_words.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]
DOCUMENTS = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docs").rglob("*.toml"))]
SOURCES = [path for folder in ("src", "tools", "benchmarks", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


def prose_of_document(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a document without code: fenced blocks and what stands in backticks."""
    fenced = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", "", line)


def prose_of_source(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and docstrings of a Python file, line by line."""
    before = tokenize.NEWLINE
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            starts = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and starts):
                for offset, line in enumerate(token.string.splitlines()):
                    yield token.start[0] + offset, re.sub(r"``[^`]*``", "", line)
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                before = token.type


def found_in(lines: Iterator[tuple[int, str]], name: str) -> list[str]:
    return [
        f"{name}:{number}: {found[0]!r}, better: {better}"
        for number, line in lines
        for pattern, better in BANNED
        if (found := re.search(pattern, line, re.IGNORECASE))
    ]


def test_documents_docstrings_and_comments_have_no_word_of_the_list() -> None:
    found: list[str] = []
    for path in [*DOCUMENTS, *SOURCES]:
        lines = prose_of_source(path) if path.suffix == ".py" else prose_of_document(path)
        found += found_in(lines, str(path.relative_to(ROOT)))
    assert found == [], "\n".join(["", *found])


def test_the_search_finds_words_where_people_read_them(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text(
        '"""Two\nlanes."""\nlanes = "rung"  # be it so\n\n\ndef f():\n    "A suspect."\n    return "lane"\n'
    )
    assert [line.split(",")[0] for line in found_in(prose_of_source(source), "a.py")] == [
        "a.py:2: 'lanes'", "a.py:3: 'be it'", "a.py:7: 'suspect'"
    ]  # fmt: skip
    document = tmp_path / "a.md"
    document.write_text("`rank.rungs`\n```sh\nlanes\n```\nThe pace of late.\n")
    assert [line.split(",")[0] for line in found_in(prose_of_document(document), "a.md")] == ["a.md:5: 'of late'"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("name", ["schemas", "spelling", "imports"])
def test_checks_of_the_house_pass(name: str) -> None:
    for tool in ("check-jsonschema", "codespell", "lint-imports"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool} of the [dev] extra")
    done = subprocess.run([ROOT / ".ci" / "checks", name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_hooks_and_recipes_run_the_same_checks() -> None:
    known = re.findall(r"^        (\w+)\)", (ROOT / ".ci" / "checks").read_text("utf-8"), re.MULTILINE)
    assert known == ["ruff", "format", "mypy", "imports", "spelling", "schemas"]
    hooks = re.findall(r"- id: (\w+)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert hooks == known
    for name in (".ci/run", "justfile", ".github/workflows/ci.yml"):
        assert re.search(r"^\s*(- run: )?\.ci/checks$", (ROOT / name).read_text("utf-8"), re.MULTILINE), name


def test_versions_agree() -> None:
    minor = re.compile(r"Programming Language :: Python :: 3\.(\d+)")
    versions = [f"3.{found[1]}" for text in PROJECT["classifiers"] if (found := minor.match(text))]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert re.findall(r"python: \[(.*)\]", workflow) == [", ".join(f'"{one}"' for one in versions)] * 2
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert f"\nversion: {moslens.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_the_first_page_is_short_and_the_site_links_to_the_repository() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
    site = re.search(r"^repo_url: (\S+)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert site is not None
    assert site[1] == PROJECT["urls"]["Repository"]


def test_the_changelog_has_its_form_and_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    for heading in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading), heading
    sections = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert f"## [{moslens.__version__}]" in text


def test_recipes_are_readable() -> None:
    if shutil.which("just") is None:
        pytest.skip("needs just of the [dev] extra")
    done = subprocess.run(["just", "--summary"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert {"setup", "test", "quick", "lint", "types", "docs", "bench"} <= set(done.stdout.split()), done.stderr


def test_every_tool_of_the_checks_is_installed_by_the_dev_extra() -> None:
    names = {re.split(r"[\[>=]", one)[0] for one in PROJECT["optional-dependencies"]["dev"]}
    tools = {"ruff", "mypy", "import-linter", "codespell", "check-jsonschema", "pre-commit", "pytest-cov", "rust-just"}
    assert tools <= names
