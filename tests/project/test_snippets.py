"""What README and the documents show works: every snippet is executed, or parsed where it needs a data set or hours."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from helpers.paths import ROOT
from moslens.cli.app import COMMANDS, build_app
from moslens.scoring.card import Card, find_model

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Their shell blocks run as they are, one after the other, in test_tutorials.py.
TUTORIALS = "docs/tutorials/"
EXECUTED = {"score", "explain", "degrade", "distortions", "models", "doctor"}
# What a snippet takes for granted.
PRELUDE = {"(images)": "import torch\nimages = torch.rand(2, 3, 224, 224)\n"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A fenced block and where it is."""

    place: str
    language: str
    text: str


def snippets() -> list[Snippet]:
    found = []
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Snippet(f"{path.relative_to(ROOT)}:{line}", match[1], match[2]))
    return found


def of(*languages: str) -> list[object]:
    return [
        pytest.param(one, id=one.place)
        for one in snippets()
        if one.language in languages and not one.place.startswith(TUTORIALS)
    ]


def commands_of(text: str) -> list[str]:
    """Commands of a shell block: comments off, continued lines joined, ``a && b`` parted."""
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.replace("\\\n", " ").splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that snippets name: the project's own files, ``photos``, and a few pictures."""
    for name in ("examples", "configs", "docs", "benchmarks", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(["a.jpg", "b.jpg", "photo.jpg", "photos/one.jpg", "photos/two.jpg"]):
        source = sorted((ROOT / "examples" / "photos").glob("*.jpg"))[number]
        shutil.copy(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def has_maps() -> bool:
    return "explain" in Card.read(find_model()).record


def parse(words: list[str]) -> None:
    """Let the command line itself parse ``moslens ...`` without running it."""
    name, *rest = words
    assert name in COMMANDS
    command: Any = typer.main.get_command(build_app(name))
    command.commands[name].make_context(name, rest).close()


@pytest.mark.parametrize("snippet", of("python"))
def test_python_runs(snippet: Snippet, place: Path) -> None:
    ast.parse(snippet.text)
    code = "import moslens\n" + "".join(PRELUDE[word] for word in PRELUDE if word in snippet.text) + snippet.text
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    if "explain(" in code and not has_maps():
        assert "NoMapsError" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", of("sh", "bash"))
def test_commands_run(snippet: Snippet, place: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for line in commands_of(snippet.text):
        words = shlex.split(line)
        if "moslens" in words and (words[0] == "moslens" or words[:2] == ["accelerate", "launch"]):
            words = words[words.index("moslens") + 1 :]
            if words[0] in EXECUTED:
                execute(words)
            else:
                parse(words)
        elif words[0] == "pip":
            for named in re.findall(r"\[([\w,]+)\]", line):
                assert set(named.split(",")) <= set(extras), line
        elif words[0] == "python" and not words[1].startswith("-"):
            assert (ROOT / words[1]).is_file(), line
            ast.parse((ROOT / words[1]).read_text("utf-8"))
        else:
            assert words[0] in (
                "pytest",
                "python",
                "python3",
                ".",
                "curl",
                "uv",
                "mkdocs",
                "git",
                "hf",
                "sha256sum",
                "docker",
                "cd",
                "pip-audit",
                "ssh-keygen",
            ), line


def execute(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moslens", *words], capture_output=True, text=True, check=False, timeout=300
    )
    if words[0] == "explain" and not has_maps():
        assert done.returncode == 2
        assert "cannot say where or what" in done.stderr
    elif "--model" in words:
        assert "no model" in done.stderr, "a model that only the reader has"
    elif "--min-score" in words:
        below = re.search(r"(\d+) pictures? below", done.stderr)
        assert below is not None, done.stderr
        assert done.returncode == (below[1] != "0")
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", of("console"))
def test_sessions_show_what_comes_out(snippet: Snippet, place: Path) -> None:
    command, _, shown = snippet.text.partition("\n")
    if command.startswith("$ curl ") and "127.0.0.1:8000/v1/" in command:
        return  # tests/test_serve*.py ask the server itself
    assert command.startswith("$ moslens ")
    words = shlex.split(command[2:])
    if "--format" not in words:
        words += ["--format", "table"]  # what a terminal gets
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    if words[-1] == "table":
        same_table(done.stdout, shown)
        return
    real, expected = (
        [json.loads(line) for line in text.splitlines() if line.startswith("{")] for text in (done.stdout, shown)
    )
    assert len(real) == len(expected) > 0
    for ours, theirs in zip(real, expected, strict=True):
        assert list(ours) == list(theirs)
        assert ours["model"] == theirs["model"], "shown with another model"
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-3)


def same_table(ours: str, theirs: str) -> None:
    """Two tables have the same words, and numbers that differ by no more than their rounding."""
    first, second = ours.split(), theirs.split()
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert a == b or float(a) == pytest.approx(float(b), abs=0.11), f"{a} and {b}"


def test_every_block_says_its_language() -> None:
    known = {"python", "sh", "bash", "console", "json", "toml", "text"}
    assert [one.place for one in snippets() if one.language not in known] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_text_exist(path: Path) -> None:
    for words in re.findall(r"`moslens ([a-z]+)[^`]*`", path.read_text("utf-8")):
        assert words in COMMANDS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
