"""Messages on standard error: a line for each problem, names that were meant, packages that are missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers.command import call
from helpers.paths import ROOT
from helpers.tiny_model import make_tiny_model
from moslens.errors import DatasetError, MissingExtra, install_hint
from moslens.system.text import printable_lines

PHOTO = ROOT / "examples" / "photos" / "livec_1078.jpg"


def test_problems_of_a_data_set_are_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The case error_list_on_one_line."""
    table, predictions = tmp_path / "backslash.csv", tmp_path / "p_ok.csv"
    table.write_text("image,mos\n" + "".join(f"set\\img{n:02}.png,{n}\n" for n in range(20)))
    predictions.write_text("image,prediction\n" + "".join(f"img{n:02}.png,{n}\n" for n in range(20)))
    assert call("evaluate", predictions, "--dataset", table) == 2
    shown = capsys.readouterr().err
    assert sum(line.startswith("  row ") for line in shown.splitlines()) == 20
    assert "\\n" not in shown
    assert call("datasets", "check", table) == 1
    assert sum(line.startswith("  row ") for line in capsys.readouterr().out.splitlines()) == 20


def test_each_line_is_escaped_and_a_path_is_no_line() -> None:
    error = DatasetError("2 problems:\n  \x1b[31mone\n  two", "a\nb.csv")
    assert printable_lines(str(error), error.path) == "a\\nb.csv: 2 problems:\n  \\x1b[31mone\n  two"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["score", "PHOTO", "--model", "shdiqa-lit"], "did you mean shdiqa-lite?"),
        (["datasets", "show", "koniq10"], "did you mean koniq10k"),
        (["datasets", "show", "livecc"], "did you mean livec"),
        (["evaluate", "shdiqa-lite", "--dataset", "kadid10"], "did you mean kadid10k"),
        (["degrade", "PHOTO", "--output", "OUT", "--kinds", "motionblur"], "did you mean motion_blur"),
    ],
)
def test_names_that_were_meant_are_proposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], hint: str
) -> None:
    places = {"PHOTO": tmp_path / "a.png", "OUT": tmp_path / "out"}
    Image.new("RGB", (64, 64)).save(places["PHOTO"])
    assert call(*(places.get(word, word) for word in words)) == 2
    assert hint in capsys.readouterr().err


def test_a_name_like_no_other_gets_no_proposal(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("datasets", "show", "qqq") == 2
    assert "did you mean" not in capsys.readouterr().err


def test_the_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    wanted = [
        "numpy>=1",
        "pyarrow>=15; extra == 'bulk'",
        'fsspec>=2024.2; extra == "bulk"',
        "ray[data]>=2.40 ; extra == 'bulk'",
    ]
    there = {"numpy", "fsspec"}

    def distribution(name: str) -> None:
        if name not in there:
            raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(metadata, "distribution", distribution)
    assert str(MissingExtra("bulk", "pyarrow")) == (
        "this needs pyarrow: pip install pyarrow 'ray[data]' (the extra bulk)"
    )
    assert str(MissingExtra("bulk", "pyarrow", alone=True)) == (
        "this needs pyarrow: pip install pyarrow (the extra bulk)"
    )
    there |= {"pyarrow", "ray"}
    assert install_hint("bulk", "python_multipart") == "pip install python-multipart (the extra bulk)"

    def unknown(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    assert install_hint("bulk", "pyarrow") == "pip install pyarrow (the extra bulk)"


def test_a_missing_package_is_named_on_the_command_line(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from moslens.cli.app import main; main(sys.argv[1:])"
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    words = ("score", tmp_path / "a.png", "--output", tmp_path / "rows.parquet")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "moslens: this needs pyarrow: pip install pyarrow (the extra bulk)\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "a.jpg", "--format", "xx"], "'xx' is not one of 'table', 'jsonl', 'csv'"),
        (["degrade", "a.jpg", "--output", "b", "--grid", "9"], "'9' is not one of '2', '3', '4'"),
    ],
)
def test_a_wrong_option_is_named_without_words_of_a_library(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert call(*words) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Value error" not in shown


def test_a_teacher_is_told_from_a_quality_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("score", PHOTO, "--model", ROOT / "teachers" / "lite") == 2
    assert "a teacher, not a quality model" in capsys.readouterr().err


def test_one_row_is_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("score", PHOTO, "--format", "csv") == 0
    assert capsys.readouterr().err.startswith("1 row in ")
    assert call("score", PHOTO, PHOTO, "--format", "csv") == 0
    assert capsys.readouterr().err.startswith("2 rows in ")


def test_models_shows_figures_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads((make_tiny_model(tmp_path / "m") / "card.json").read_text())
    card["metrics"] = {"one": {"median": {"srcc": 0.85768, "rmse": 9.87}}, "two": {"median": {"srcc": 0.5}}, "old": 0.9}
    (tmp_path / "m" / "card.json").write_text(json.dumps(card))
    assert call("models", tmp_path / "m") == 0
    shown = capsys.readouterr().out
    assert "{" not in shown
    lines = [line.split() for line in shown.splitlines()]
    for line in (["metrics", "srcc", "rmse"], ["one", "0.858", "9.870"], ["two", "0.500"], ["old", "0.9"]):
        assert line in lines


def test_help_of_serve_needs_no_extra() -> None:
    missing = ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client")
    code = f"""import sys
sys.modules.update(dict.fromkeys({missing}))
from moslens.cli.app import main
main(sys.argv[1:])"""
    shown = subprocess.run([sys.executable, "-c", code, "serve", "--help"], capture_output=True, text=True, check=True)
    assert "--cors-origin" in shown.stdout
    done = subprocess.run([sys.executable, "-c", code, "serve"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("moslens: this needs fastapi: pip install")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/", "https://example.org/a", "ftp://a", ""])
def test_an_origin_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], origin: str) -> None:
    assert call("serve", "--cors-origin", origin) == 2
    assert "--cors-origin wants an origin such as https://example.org, or *" in capsys.readouterr().err
