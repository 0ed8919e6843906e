"""What the documents say of the code is true: files and names exist, and the drawing of imports is up to date."""

import ast
import re
from pathlib import Path

import pytest

from helpers.paths import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docs").rglob("*.toml"))]
NAME_OF = re.compile(r"\[`(\w[\w.]*)`\]\((\.\./src/[\w/]+\.py)\)")
FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*\.(?:py|toml|txt|js|svg|json|yml|yaml))`")
FOLDER = re.compile(r"`((?:src|tests|docs|benchmarks|tools|configs|results|teachers|examples)(?:/[\w.-]+)*)/?`")
# Files that a run, a build or a reader makes.
MADE = re.compile(
    r"^(card|config|metrics|report|REPORT|rows|plan|ensemble)\.json$|^OUTPUT/|^recipes\.toml$|^(my|mine|my-card|student|predictions|messages)\.\w+$|^BANK|index\.html|^(a|b)\.\w+$"
)
# Files of other projects.
FOREIGN = ("IQA/", "scripts/", "codes/", "mos_with_names.txt", "mos_std.txt")


def paths_in_rows(document: str) -> list[tuple[str, str]]:
    """(row, path) for the table "paper term, file, test" of a document."""
    found = []
    text = (ROOT / document).read_text("utf-8")
    for line in re.findall(r"(?:\| (?:paper )?term \| file \| test \|\n\|[-|]+\|\n)((?:\|.*\n)+)", text)[
        0
    ].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 3, line
        for cell in cells[1:]:
            paths = re.findall(r"`([^`]+)`", cell)
            assert paths, line
            found += [(cells[0], path) for path in paths]
    return found


def test_every_file_of_the_map_from_paper_to_code_exists() -> None:
    rows = paths_in_rows("docs/method.md")
    assert len({term for term, _ in rows}) >= 9
    missing = [(term, path) for term, path in rows if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_documents_name_exist(path: Path) -> None:
    missing = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        for name in FILE.findall(line) + FOLDER.findall(line):
            if not MADE.search(name) and not name.startswith(FOREIGN) and not exists(name):
                missing.append(f"{path.relative_to(ROOT)}:{number}: {name}")
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_the_project_that_documents_name_exist(path: Path) -> None:
    for module in re.findall(r"python -m ((?:tools|benchmarks)(?:\.\w+)*)", path.read_text("utf-8")):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_files_named_in_the_figure_of_the_method_exist() -> None:
    figure = (ROOT / "docs" / "images" / "method.svg").read_text("utf-8")
    names = re.findall(r"[\w/]+\.py", figure)
    assert len(names) > 10
    assert [name for name in names if not (ROOT / "src" / "moslens" / name).is_file()] == []


def test_statements_of_the_method_that_code_cites_exist() -> None:
    text = (ROOT / "docs" / "method.md").read_text("utf-8")
    known = set(re.findall(r"^(?:## |\*\*)(\d+(?:\.\d+)?)\b", text, re.MULTILINE))
    cited: dict[str, str] = {}
    for folder in ("src", "tests", "benchmarks", "tools", "configs"):
        for path in sorted((ROOT / folder).rglob("*.[pt][yo]*")):
            if path.suffix in (".py", ".toml"):
                for places in re.findall(
                    r"method(?:\.md)?`* (\d[\d., ]*\d|\d)", path.read_text("utf-8"), re.IGNORECASE
                ):
                    cited |= dict.fromkeys(re.findall(r"\d+(?:\.\d+)?", places), str(path.relative_to(ROOT)))
    assert len(cited) > 10
    assert {place: path for place, path in cited.items() if place not in known} == {}


def exists(name: str) -> bool:
    """Whether a file is there by its path from the root or from the package, or, given by its name alone, anywhere."""
    places = [ROOT / name, ROOT / "src" / "moslens" / name, ROOT / "docs" / name]
    if any(place.exists() for place in places):
        return True
    folders = ("src", "tests", "tools", "benchmarks", "configs", "results", "examples", "docs")
    return "/" not in name and any(next((ROOT / folder).rglob(name), None) for folder in folders)


def test_names_in_the_architecture_are_defined_where_its_links_lead() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    links = NAME_OF.findall(text)
    assert len(links) > 30
    for name, target in links:
        node: ast.AST = ast.parse((ROOT / "docs" / target).read_text("utf-8"))
        for part in name.split("."):
            assert isinstance(node, ast.Module | ast.ClassDef)
            inside = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef | ast.ClassDef)}
            assert part in inside, f"{name} in {target}"
            node = inside[part]


def test_the_architecture_names_every_folder_and_module_of_the_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for path in (ROOT / "src" / "moslens").iterdir():
        if path.is_dir() and not path.name.startswith("_"):
            assert f"`{path.name}/`" in text
        elif path.suffix == ".py" and not path.name.startswith("_"):
            assert f"`{path.name}`" in text


def test_the_drawing_of_imports_is_up_to_date() -> None:
    pytest.importorskip("grimp", reason="needs the [dev] extra")
    from tools.docs import imports

    found = imports.package_imports()
    assert found["errors"] == set()
    assert "picture" in found["scoring"]
    assert imports.FILE.read_text("utf-8") == imports.draw(found), "run: python -m tools.docs.imports"


def test_a_circle_of_imports_cannot_be_drawn() -> None:
    pytest.importorskip("grimp", reason="needs the [dev] extra")
    from graphlib import CycleError

    from tools.docs import imports

    with pytest.raises(CycleError):
        imports.draw({"a": {"b"}, "b": {"a"}})
