"""A model as a Hugging Face repository: what is written, and that it is found again in the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from helpers.command import call
from helpers.tiny_model import make_photo, make_tiny_model
from moslens import Scorer
from moslens.errors import ModelError, OutputError
from moslens.release.hub import write_repository
from moslens.scoring.card import find_model

REVISION = "0123456789abcdef0123456789abcdef01234567"


def with_card(model: Path, **changes: object) -> Path:
    card = json.loads((model / "card.json").read_text())
    (model / "card.json").write_text(json.dumps(card | changes))
    return model


def in_cache(cache: Path, repository: Path, name: str = "someone/tiny") -> Path:
    """The files of a repository as ``hf download`` leaves them: blobs, links to them, a ref. Returns the snapshot."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(REVISION)
    for number, path in enumerate(sorted(repository.iterdir())):
        shutil.copyfile(path, folder / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    metric = {"dataset": "livec", "source": "s", "protocol": "five splits", "median": {"srcc": 0.8125, "rmse": 9.5}}
    model = with_card(
        make_tiny_model(tmp_path / "model"),
        metrics={"livec-tiny": metric},
        licence='Apache-2.0; "quoted": ü, see NOTICE',
        limits=["good for nothing"],
    )
    (model / "NOTICE").write_text("a notice that must travel")
    write_repository(model, tmp_path / "repository")
    return tmp_path / "repository"


class TestRepository:
    def test_the_front_matter_is_yaml_with_the_evaluation(self, repository: Path) -> None:
        _, head, body = (repository / "README.md").read_text("utf-8").split("---\n", 2)
        found = yaml.safe_load(head)
        assert found["license"] == "apache-2.0"
        assert found["library_name"] == "moslens"
        ((entry,),) = [one["results"] for one in found["model-index"]]
        assert entry["dataset"] == {"type": "livec", "name": "livec"}
        assert [(one["type"], one["value"]) for one in entry["metrics"]] == [("spearmanr", 0.8125), ("rmse", 9.5)]
        for words in ('"quoted": ü', "good for nothing", "five splits", "| SRCC | 0.812 |", "0 to 100"):
            assert words in body

    def test_the_library_of_the_hub_reads_it(self, repository: Path) -> None:
        hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
        data = hub.ModelCard.load(repository / "README.md").data
        assert data.license == "apache-2.0"
        assert [(one.dataset_type, one.metric_type, one.metric_value) for one in data.eval_results] == [
            ("livec", "spearmanr", 0.8125), ("livec", "rmse", 9.5),
        ]  # fmt: skip

    def test_it_holds_the_model_and_what_must_travel(self, repository: Path, tmp_path: Path) -> None:
        names = {path.name for path in repository.iterdir()}
        assert names == {"README.md", "config.json", "card.json", "model.onnx", "test_vector.png", "NOTICE"}
        config = json.loads((repository / "config.json").read_text())
        assert config["model_type"] == "moslens"
        assert config["id"] == Scorer(repository).model_id == Scorer(tmp_path / "model").model_id

    def test_another_licence_is_not_called_by_a_known_name(self, tmp_path: Path) -> None:
        model = with_card(make_tiny_model(tmp_path / "m"), licence="ask me", metrics={"odd": 0.5})
        write_repository(model, tmp_path / "out")
        found = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
        assert found["license"] == "other"
        assert found["model-index"][0]["results"] == []

    def test_a_folder_with_content_and_an_altered_model_are_refused(self, repository: Path, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="has content"):
            write_repository(tmp_path / "model", repository)
        (tmp_path / "model" / "model.onnx").write_bytes(b"altered")
        with pytest.raises(ModelError, match="altered weights"):
            write_repository(tmp_path / "model", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_the_command_takes_a_model(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        model = make_tiny_model(tmp_path / "m")
        assert call("export", model, "--hub", tmp_path / "out") == 0
        assert Scorer(tmp_path / "out").model_id == Scorer(model).model_id
        assert call("export", model, "--hub", tmp_path / "out") == 2
        assert "has content" in capsys.readouterr().err
        assert call("export", model) == 2
        assert "--output" in capsys.readouterr().err


class TestCache:
    def test_an_id_is_found_as_downloaded_and_scores_alike(self, cache: Path, repository: Path, tmp_path: Path) -> None:
        snapshot = in_cache(cache, repository)
        assert find_model("someone/tiny") == snapshot
        scorer = Scorer("someone/tiny")
        photo = make_photo(320, 240, seed=1)
        assert scorer.score(photo) == Scorer(tmp_path / "model").score(photo)

    def test_a_literal_folder_comes_first(
        self, cache: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        in_cache(cache, repository)
        monkeypatch.chdir(tmp_path)
        shutil.copytree(tmp_path / "model", tmp_path / "someone" / "tiny")
        assert find_model("someone/tiny") == Path("someone/tiny")

    def test_the_cache_is_where_the_environment_says(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "user"))
        snapshot = in_cache(tmp_path / "user" / ".cache" / "huggingface" / "hub", repository)
        assert find_model("someone/tiny") == snapshot
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        snapshot = in_cache(tmp_path / "hf" / "hub", repository)
        assert find_model("someone/tiny") == snapshot

    def test_a_missing_id_says_how_to_download_it(self, cache: Path) -> None:
        with pytest.raises(ModelError, match="hf download someone/else") as found:
            Scorer("someone/else")
        assert str(cache) in str(found.value)

    @pytest.mark.parametrize("name", ["../tiny", "a/b/c", "a--b/c", "a/..", "someone/ti ny", "/tiny", "someone/"])
    def test_what_is_no_id_never_reaches_the_cache(self, cache: Path, name: str) -> None:
        with pytest.raises(ModelError, match="neither a folder nor one of the shipped"):
            find_model(name)

    @pytest.mark.parametrize("ref", ["", "../../../../elsewhere", "main", "0" * 40, b"\xff\xfe"])
    def test_a_ref_that_names_no_snapshot(self, cache: Path, repository: Path, ref: str | bytes) -> None:
        in_cache(cache, repository)
        data = ref if isinstance(ref, bytes) else ref.encode()
        (cache / "models--someone--tiny" / "refs" / "main").write_bytes(data)
        with pytest.raises(ModelError, match="hf download someone/tiny"):
            find_model("someone/tiny")

    def test_a_link_out_of_the_cache_is_refused(self, cache: Path, repository: Path, tmp_path: Path) -> None:
        snapshot = in_cache(cache, repository)
        (snapshot / "model.onnx").unlink()
        (snapshot / "model.onnx").symlink_to(tmp_path / "model" / "model.onnx")
        with pytest.raises(ModelError, match=r"model\.onnx: is a link out of the cache"):
            find_model("someone/tiny")

    def test_a_card_that_names_a_file_elsewhere_is_refused(self, cache: Path, repository: Path) -> None:
        (repository / "secret").write_text("x")
        snapshot = in_cache(cache, with_card(repository, file="../secret"))
        with pytest.raises(ModelError, match="must be a name in this folder"):
            Scorer(snapshot)

    def test_code_and_pickles_of_a_repository_are_not_run(self, cache: Path, repository: Path) -> None:
        for name in ("modeling.py", "pytorch_model.bin", "__init__.py"):
            (repository / name).write_bytes(b"raise SystemExit('ran')")
        in_cache(cache, repository)
        assert Scorer("someone/tiny").score(make_photo(64, 64, seed=1))
