"""The command line as a user meets it: rows, streams, formats, exit codes, speed of start."""

import csv
import io
import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import moslens
from helpers.command import call
from helpers.tiny_model import make_tiny_model
from moslens.bulk.rows import FLAT_COLUMNS
from moslens.cli import app, score
from moslens.cli.tables import align
from moslens.distortions.kinds import GROUP_LABELS, GROUPS, KINDS
from moslens.errors import MissingExtra
from moslens.scoring.scorer import Scorer
from moslens.system.text import name_in

FAST = ("score", "doctor", "models")


def run(*words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "moslens", *map(str, words)], capture_output=True, timeout=120, check=False, **options
    )


def on_terminal(*words: object) -> tuple[str, int]:
    """Run the command with both output streams on a pseudo-terminal; what it showed and its exit code."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "moslens", *map(str, words)], stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), process.returncode


@pytest.fixture
def names(photo_folder: Path) -> list[str]:
    return [str(path) for path in sorted(photo_folder.iterdir())]


class TestRows:
    def test_jsonl_is_the_default_away_from_a_terminal(
        self, photo_folder: Path, tiny_model: Path, names: list[str]
    ) -> None:
        done = run("score", photo_folder, "--model", tiny_model)
        assert done.returncode == 0
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        scorer = Scorer(tiny_model)
        assert rows == [scorer.score(name).to_row() for name in names]
        assert b"6 rows" in done.stderr

    def test_the_table_is_the_default_on_a_terminal(
        self, photo_folder: Path, tiny_model: Path, names: list[str]
    ) -> None:
        shown, code = on_terminal("score", photo_folder, photo_folder / "a.jpg", "--model", tiny_model)
        head, *lines, summary = shown.splitlines()
        assert code == 0
        assert head.split() == ["score", "90", "%", "interval", "size", "faults", "path"]
        assert all(name in line for name, line in zip([*names, names[0]], lines, strict=True))
        score = Scorer(tiny_model).score(names[0])
        assert lines[0].split()[:7] == [
            f"{score.score:.1f}",
            f"{score.low:.1f}",
            "-",
            f"{score.high:.1f}",
            "640",
            "x",
            "480",
        ]
        assert summary.startswith("7 rows")

    def test_the_bar_shows_on_a_terminal_when_rows_go_elsewhere(
        self, photo_folder: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        shown, code = on_terminal("score", photo_folder, "--model", tiny_model, "--output", tmp_path / "rows.jsonl")
        assert code == 0
        assert "6/6" in shown
        assert b"6/6" not in run("score", photo_folder, "--model", tiny_model).stderr

    @pytest.mark.parametrize(("most", "shown"), [(1_000_000, "6/6"), (4, "6/?")])
    def test_pictures_are_listed_once_for_the_bar_and_the_rows(
        self,
        photo_folder: Path,
        tiny_model: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        most: int,
        shown: str,
    ) -> None:
        listed: list[str] = []
        scandir = os.scandir

        def counting(path: str) -> Any:
            listed.append(os.fspath(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", counting)
        monkeypatch.setattr(score, "MOST_COUNTED", most)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        output = tmp_path / "rows.jsonl"
        assert call("score", photo_folder, "--model", tiny_model, "--output", output) == 0
        assert [path for path in listed if path.startswith(str(photo_folder))] == [f"{photo_folder}/"]
        assert shown in capsys.readouterr().err
        assert [json.loads(line)["path"] for line in output.read_bytes().splitlines()] == sorted(
            map(str, photo_folder.iterdir())
        )

    def test_a_resumed_run_moves_the_bar_on_for_rows_it_keeps(
        self, photo_folder: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        words = ("score", photo_folder, "--model", tiny_model, "--output", tmp_path / "rows.jsonl", "--resume")
        assert call("score", photo_folder / "a.jpg", *words[2:]) == 0
        shown, code = on_terminal(*words)
        assert code == 0
        assert "6/6" in shown
        assert "5 rows" in shown
        assert "1 had their row" in shown

    def test_same_rows_in_every_format_and_with_any_number_of_workers(
        self, photo_folder: Path, tiny_model: Path, tmp_path: Path, names: list[str]
    ) -> None:
        outputs = {}
        for workers in (1, 2, 5):
            for suffix in ("jsonl", "csv"):
                output = tmp_path / f"rows{workers}.{suffix}"
                words = ("--model", tiny_model, "--workers", workers, "--output", output)
                assert call("score", photo_folder, *words) == 0
                outputs[workers, suffix] = output.read_bytes()
        assert len({outputs[workers, "jsonl"] for workers in (1, 2, 5)}) == 1
        assert len({outputs[workers, "csv"] for workers in (1, 2, 5)}) == 1
        by_csv = list(csv.DictReader(io.StringIO(outputs[1, "csv"].decode(), newline="")))
        by_json = [json.loads(line) for line in outputs[1, "jsonl"].splitlines()]
        assert tuple(by_csv[0]) == FLAT_COLUMNS
        assert [row["path"] for row in by_csv] == [row["path"] for row in by_json] == names
        assert [float(row["score"]) for row in by_csv] == [row["score"] for row in by_json]

    def test_some_errors_give_exit_code_1_and_all_rows(
        self, photo_folder: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        bad = tmp_path / "bad.jpg"
        bad.write_bytes(b"not a picture")
        done = run("score", photo_folder / "a.jpg", bad, photo_folder / "b.png", "--model", tiny_model)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["status"] for row in rows] == ["ok", "error", "ok"]
        assert rows[1]["error"]["code"] == "not_an_image"
        assert done.returncode == 1
        assert b"3 rows" in done.stderr
        assert b"1 of them" in done.stderr

    def test_max_pixels(self, photo_folder: Path, tiny_model: Path) -> None:
        done = run("score", photo_folder / "a.jpg", "--model", tiny_model, "--max-pixels", 1000)
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"]["code"] == "too_large"

    def test_lists_on_standard_input(self, photo_folder: Path, tiny_model: Path, tmp_path: Path) -> None:
        odd = [os.fsdecode(b"\xff\xfe.jpg"), "new\nline.jpg", " spaces .jpg", "no"]
        for name in odd[:3]:
            shutil.copy(photo_folder / "a.jpg", tmp_path / name)
        listing = b"\0".join(os.fsencode(tmp_path / name) for name in odd)
        done = run("score", "-", "--model", tiny_model, input=listing)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [name_in(row) for row in rows] == [str(tmp_path / name) for name in odd]
        assert [row["status"] for row in rows] == ["ok", "ok", "ok", "error"]
        assert rows[3]["error"]["code"] == "unreadable"
        assert done.returncode == 1
        lines = run("score", "-", "--model", tiny_model, input=b"\n".join(listing.split(b"\0")[2:]) + b"\n")
        assert [json.loads(line)["path"] for line in lines.stdout.splitlines()] == [
            str(tmp_path / name) for name in odd[2:]
        ]

    def test_odd_names_as_arguments_and_in_a_folder(self, photo_folder: Path, tiny_model: Path, tmp_path: Path) -> None:
        name = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9t\xe9.jpg")
        shutil.copy(photo_folder / "a.jpg", name)
        for argument, format in ((name, "jsonl"), (tmp_path, "csv"), (f"{tmp_path}/*.jpg", "table")):
            done = run("score", argument, "--model", tiny_model, "--format", format)
            assert done.returncode == 0, done.stderr
            if format == "jsonl":
                assert json.loads(done.stdout)["path"] == f"{tmp_path}/\ufffdt\ufffd.jpg"
                assert name_in(json.loads(done.stdout)) == name
            else:
                assert rb"\udce9t\udce9" in done.stdout

    def test_a_resumed_run_keeps_the_exit_code_of_its_rows(
        self, photo_folder: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.jpg").write_bytes(b"")
        words = ("score", tmp_path / "bad.jpg", "--model", tiny_model, "--output", tmp_path / "rows.csv", "--resume")
        assert call(*words) == 1
        before = (tmp_path / "rows.csv").read_bytes()
        assert call(*words) == 1
        assert (tmp_path / "rows.csv").read_bytes() == before


class TestWrongUse:
    def complains(self, capsys: pytest.CaptureFixture[str], *words: object) -> str:
        assert call(*words) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "Traceback" not in shown.err
        return shown.err

    def test_one_line_and_exit_code_2(
        self, capsys: pytest.CaptureFixture[str], photo_folder: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        def line(*words: object) -> str:
            text = self.complains(capsys, *words)
            assert text.startswith("moslens: ")
            assert text.count("\n") == 1
            return text

        photo = photo_folder / "a.jpg"
        model = ("--model", tiny_model)
        assert "gone.jpg: no such file" in line("score", "gone.jpg", *model)
        assert f"no picture found in {tmp_path}\n" in line("score", tmp_path, *model)
        assert f"no picture found in {tmp_path}/*.jpg, {tmp_path}" in line(
            "score", f"{tmp_path}/*.jpg", tmp_path, *model
        )
        assert "install gcsfs" in line("score", "gs://bucket/key.jpg", *model)
        assert "no model 'nonesuch'" in line("score", photo, "--model", "nonesuch")
        assert "no model here" in line("score", photo, "--model", tmp_path)
        assert "--resume needs --output" in line("score", photo, *model, "--resume")
        table = (*model, "--output", tmp_path / "x", "--resume", "--format", "table")
        assert "jsonl, csv or html" in line("score", photo, *table)
        assert "parquet needs --output" in line("score", photo, *model, "--format", "parquet")
        (tmp_path / "rows.jsonl").write_text("kept\n")
        assert "has content" in line("score", photo, *model, "--output", tmp_path / "rows.jsonl")
        assert (tmp_path / "rows.jsonl").read_text() == "kept\n"
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize(
        "words",
        [["score"], ["nonesuch"], ["score", "x", "--workers", "0"], ["score", "x", "--format", "xml"], ["--nonesuch"]],
    )
    def test_usage_errors(self, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
        assert "Usage: moslens" in self.complains(capsys, *words)

    def test_altered_weights(self, capsys: pytest.CaptureFixture[str], photo_folder: Path, tmp_path: Path) -> None:
        model = make_tiny_model(tmp_path / "m")
        with (model / "model.onnx").open("ab") as file:
            file.write(b" ")
        assert "altered weights" in self.complains(capsys, "score", photo_folder, "--model", model)

    @pytest.mark.parametrize("package", ["torch", "fastapi", "pyarrow"])
    def test_a_missing_extra_is_named(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
    ) -> None:
        def needs_it() -> None:
            raise ModuleNotFoundError(f"No module named '{package}'", name=f"{package}.nn")

        stand_in = ModuleType("moslens.cli.models")
        monkeypatch.setattr(stand_in, "run", needs_it, raising=False)
        monkeypatch.setitem(sys.modules, "moslens.cli.models", stand_in)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        text = self.complains(capsys, "models")
        assert text == f"moslens: {MissingExtra(app.EXTRA_OF[package], package)}\n"

    def test_a_module_that_no_extra_has_is_a_fault_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> None:
            raise ModuleNotFoundError("No module named 'moslens.gone'", name="moslens.gone")

        monkeypatch.setattr("moslens.cli.models.shipped", broken)
        with pytest.raises(ModuleNotFoundError):
            app.main(["models"])


class TestTables:
    def test_words_are_aligned_left_and_figures_right(self) -> None:
        rows = [("kind", "n", "srcc"), ("jpeg", "12", "0.9"), ("motion blur", "3", "")]
        assert align(rows).splitlines() == [
            "kind          n  srcc",
            "jpeg         12   0.9",
            "motion blur   3",
        ]
        assert align(rows, left=3).splitlines()[1] == "jpeg         12  0.9"

    def test_distortions_shows_every_label_that_tables_show(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("distortions") == 0
        kinds, groups = capsys.readouterr().out.split("Where the kind is only a guess", 1)
        for kind in KINDS:
            assert re.search(rf"^{kind.name}( ~)? +{re.escape(kind.label)} +{kind.group} ", kinds, re.MULTILINE), kind
        for group in GROUPS:
            assert re.search(rf"^{group} +{re.escape(GROUP_LABELS[group])}$", groups, re.MULTILINE), group


class TestDoctorAndModels:
    def test_doctor_is_content_with_a_sound_model(self, tiny_model: Path) -> None:
        done = run("doctor", "--model", tiny_model)
        assert done.returncode == 0, done.stdout
        for word in (moslens.__version__, "onnxruntime", Scorer(tiny_model).model_id, "all is well", "cores"):
            assert word in done.stdout.decode()

    def test_doctor_finds_a_wrong_score_an_altered_file_and_a_missing_model(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = make_tiny_model(tmp_path / "m")
        card = json.loads((model / "card.json").read_text())
        for change, word in (
            ({"score": card["test_vector"]["score"] + 0.002}, "scores"),
            ({"score": None}, "malformed"),
        ):
            (model / "card.json").write_text(json.dumps(card | {"test_vector": card["test_vector"] | change}))
            assert call("doctor", "--model", model) == 1
            assert word in capsys.readouterr().out
        (model / "test_vector.png").unlink()
        assert call("doctor", "--model", model) == 1
        (model / "model.onnx").write_bytes(b"")
        assert call("doctor", "--model", model) == 1
        assert "altered weights" in capsys.readouterr().out
        assert call("doctor", "--model", tmp_path / "none") == 1
        assert "FAILED" in capsys.readouterr().out

    def test_models_shows_the_card(self, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("models", tiny_model) == 0
        shown = capsys.readouterr().out
        card = json.loads((tiny_model / "card.json").read_text())
        for word in (card["id"], card["sha256"], "Apache-2.0", "its weights are random", "90% coverage"):
            assert word in shown


class TestStart:
    def test_help_names_every_command_and_loads_none(self) -> None:
        code = "import sys; from moslens.cli.app import main\ntry:\n main(['--help'])\nfinally:\n print(*sys.modules)"
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        help_text, loaded = shown.rsplit("\n", 2)[0], shown.split()
        for name in FAST:
            assert f"\n  {name} " in help_text
        assert not {"numpy", "PIL", "onnxruntime", "torch"} & set(loaded)

    @pytest.mark.parametrize("name", FAST)
    def test_every_command_has_help(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert call(name, "--help") == 0
        assert f"Usage: moslens {name}" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("--version") == 0
        assert capsys.readouterr().out == f"moslens {moslens.__version__}\n"

    def test_import_is_light(self) -> None:
        code = (
            "import time; start = time.process_time(); import moslens; took = time.process_time() - start\n"
            "import sys; print(took, *sys.modules)"
        )
        runs = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
            for _ in range(3)
        ]
        assert min(float(words[0]) for words in runs) < 0.3
        assert not {"numpy", "PIL", "onnxruntime", "torch", "typer"} & set(runs[0])

    def test_scoring_one_picture_starts_fast_and_without_torch(self, photo_folder: Path, tiny_model: Path) -> None:
        code = (
            "import sys\nfrom moslens.cli.app import main\n"
            f"try:\n    main(['score', {str(photo_folder / 'a.jpg')!r}, '--model', {str(tiny_model)!r}])\n"
            "finally:\n    print(*sys.modules, file=sys.stderr)"
        )
        used = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            assert json.loads(done.stdout)["status"] == "ok"
            assert not {"torch", "scipy", "matplotlib", "pyarrow"} & set(done.stderr.split())
        assert min(used) < 2.0
