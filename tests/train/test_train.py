"""Training: the configuration, the crop stream, exact resume, torn checkpoints, several processes, real learning."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from helpers.paths import ROOT
from helpers.processes import run_in_two_processes
from helpers.tiny_training import make_labelled, run_fit, same_weights, tiny_config, write_quality_config
from moslens.data.labelled_views import LabelledViews, QualityBatches
from moslens.data.sets import load_dataset
from moslens.errors import CheckpointError, ConfigError, DatasetError, ImageError
from moslens.train import train
from moslens.train.checkpoint import latest_checkpoint, save_checkpoint
from moslens.train.config import OptimSection, TrainConfig, from_dict, load_config
from moslens.train.loop import body_factor, parameter_groups, rate
from moslens.train.networks import build_model
from moslens.train.predict import predict_run
from moslens.train.quality import QualityTask, labelled_stream, split_of
from moslens.train.run_folder import Run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("labelled") / "set")


@pytest.mark.parametrize("optim", [{}, {"ema": 0.9}, {"head_first": 0.5}])
@pytest.mark.parametrize("stop", [3, 4, 5])
def test_interrupted_equals_uninterrupted(table: Path, tmp_path: Path, stop: int, optim: dict[str, float]) -> None:
    config = tiny_config(table, **optim)
    run_fit(config, tmp_path / "whole")
    run_fit(config, tmp_path / "parts", stop_after=stop)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    run_fit(config, tmp_path / "parts")
    same_weights(tmp_path / "whole", tmp_path / "parts", 1e-6)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    assert steps[0] == steps[1] == list(range(1, 9))


def test_the_body_waits_while_new_layers_learn_alone(table: Path, tmp_path: Path) -> None:
    config = tiny_config(table, head_first=0.5, warmup=0.25)
    assert [body_factor(config.optim, step, 8) for step in range(8)] == [0, 0, 0, 0, 0.5, 1, 1, 1]
    assert body_factor(tiny_config(table).optim, 0, 8) == 1
    run_fit(config, tmp_path / "run", stop_after=4)
    found = latest_checkpoint(tmp_path / "run")
    assert found is not None
    torch.manual_seed(7)
    start = build_model(config.model, pretrained=True).state_dict()
    moved = {k: bool((found[1][f"task.model.{k}"] != v).any()) for k, v in start.items()}
    assert not any(moved[k] for k in moved if ".body." in k)
    assert moved["decoder.head.weight"]
    run_fit(config, tmp_path / "run")
    last = load_file(tmp_path / "run" / "model.safetensors")
    assert all((last[k] != start[k]).any() for k in start if k.endswith("conv_stem.weight"))


def test_training_changes_weights_and_the_average_lags_behind(table: Path, tmp_path: Path) -> None:
    run_fit(tiny_config(table), tmp_path / "last")
    run_fit(tiny_config(table, ema=0.9), tmp_path / "mean")
    torch.manual_seed(7)
    start = build_model(tiny_config(table).model, pretrained=True).state_dict()
    last, mean = (load_file(tmp_path / n / "model.safetensors") for n in ("last", "mean"))
    moved = sum(float((last[k] - start[k]).norm()) for k in start)
    lagged = sum(float((mean[k] - start[k]).norm()) for k in start)
    assert 0 < lagged < moved


@pytest.mark.slow
def test_sigkill_and_resume_of_the_command(table: Path, tmp_path: Path) -> None:
    config = write_quality_config(tmp_path / "config.toml", table, epochs=8)

    def start(run: str, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "moslens", "train", str(config), "--output", str(tmp_path / run), *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)

    process = start("killed", "--set", "seed=3")
    log = tmp_path / "killed" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") >= 5):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    refused = start("killed", "--set", "seed=3")
    assert refused.communicate()[1].decode().count("--resume") == 1
    assert refused.returncode == 2
    other = start("killed", "--resume", "--set", "seed=4")
    assert "another configuration" in other.communicate()[1].decode()
    resumed = start("killed", "--resume", "--set", "seed=3")
    assert resumed.communicate()[0] == b""
    assert resumed.returncode == 0
    whole = start("whole", "--set", "seed=3")
    whole.communicate()
    assert whole.returncode == 0
    # the starting weights are random here, so the two runs share them only through the seed
    same_weights(tmp_path / "killed", tmp_path / "whole", 1e-6)
    assert (tmp_path / "killed" / "predictions.csv").read_text() == (tmp_path / "whole" / "predictions.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("head_first", [0.0, 0.5])
def test_two_processes_equal_one(table: Path, tmp_path: Path, head_first: float) -> None:
    """A global batch shared by two CPU processes gives the weights of one process, to float tolerance."""
    config = tiny_config(table, head_first=head_first)
    run_fit(config, tmp_path / "one")
    run_in_two_processes(run_fit, config, tmp_path / "two")
    # a key bias has no gradient but rounding, which Adam scales up: softmax does not see it, so neither do we
    same_weights(tmp_path / "one", tmp_path / "two", 2e-5, except_for="in_proj_bias")
    assert len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == 8


def test_torn_and_altered_checkpoints_are_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 2, {"task.w": torch.ones(3)})
    for name in ("checkpoint-00000002.json", "checkpoint-00000002.safetensors"):
        (tmp_path / name.replace("2", "9", 1).replace("00000009", "00000004")).write_bytes(
            (tmp_path / name).read_bytes()
        )
    newer = tmp_path / "checkpoint-00000004.safetensors"
    newer.write_bytes(newer.read_bytes()[:-4])
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[0] == 2
    assert torch.equal(found[1]["task.w"], torch.ones(3))
    older = tmp_path / "checkpoint-00000002.safetensors"
    older.write_bytes(older.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints is whole"):
        latest_checkpoint(tmp_path)
    assert latest_checkpoint(tmp_path / "nothing") is None


def test_older_checkpoints_are_dropped(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        save_checkpoint(tmp_path, step, {"task.w": torch.full((1,), float(step))})
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-00000006.safetensors", "checkpoint-00000006.json"}


def test_crops_depend_on_nothing_but_their_address() -> None:
    pictures = [np.random.default_rng(i).integers(0, 256, (300, 320, 3), dtype=np.uint8) for i in range(6)]
    labels = [float(i) for i in range(6)]
    plain = QualityBatches(LabelledViews(pictures, labels, seed=1), batch=4, repeats=2)
    first = [(c.clone(), y) for c, y, _ in plain.epoch(0)]
    assert plain.steps == len(first) == 3
    late = list(plain.epoch(0, start=2))
    assert len(late) == 1
    assert torch.equal(late[0][0], first[2][0])
    halves = [list(plain.epoch(0, rank=r, world=2)) for r in (0, 1)]
    joined = torch.cat([halves[0][0][1], halves[1][0][1]]).sort().values
    assert torch.equal(joined, first[0][1].sort().values)
    # every picture is drawn `repeats` times in an epoch, each time another crop, and each epoch differs
    assert sorted(float(y) for _, ys in first for y in ys) == sorted(labels * 2)
    crops = torch.cat([c for c, _ in first])
    assert len({c.numpy().tobytes() for c in crops}) == 12
    other = torch.cat([c for c, _, _ in plain.epoch(1)])
    assert not {c.numpy().tobytes() for c in other} & {c.numpy().tobytes() for c in crops}


def test_rate_warms_up_and_falls_to_zero() -> None:
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 1e-3


def test_layer_decay_slows_the_early_blocks_of_a_transformer() -> None:
    body = timm.create_model("deit3_small_patch16_224", pretrained=False, depth=3, embed_dim=12, num_heads=2)
    backbone = nn.Module()
    backbone.body = body
    task = nn.Module()
    task.backbone, task.head = backbone, nn.Linear(2, 1)
    groups = parameter_groups(task, OptimSection(lr_body=1.0, lr_new=7.0, layer_decay=0.5))
    rates = {id(p): group["base"] for group in groups for p in group["params"]}
    assert rates[id(body.cls_token)] == rates[id(body.patch_embed.proj.weight)] == 0.5**4
    assert [rates[id(body.blocks[n].attn.qkv.weight)] for n in range(3)] == [0.5**3, 0.5**2, 0.5]
    assert rates[id(body.norm.weight)] == 1
    assert rates[id(task.head.weight)] == 7
    assert len(rates) == len(list(task.parameters()))
    assert len(parameter_groups(task, OptimSection())) == 4
    for wrong in (0.0, 1.5):
        with pytest.raises(ConfigError, match="layer_decay"):
            OptimSection(layer_decay=wrong)


def test_parameter_groups_separate_body_new_and_undecayed(table: Path) -> None:
    config = tiny_config(table, frozen=["body.conv_stem"])
    task = QualityTask(build_model(config.model, pretrained=True))
    groups = parameter_groups(task, config.optim)
    named = {id(p): n for n, p in task.named_parameters()}
    for group in groups:
        for p in group["params"]:
            name = named.pop(id(p))
            assert group["base"] == (config.optim.lr_body if ".body." in name else config.optim.lr_new)
            assert group["weight_decay"] == (config.optim.weight_decay if p.ndim > 1 else 0.0)
    assert named
    assert all("body.conv_stem" in name for name in named.values())


def test_copies_of_training_pictures_that_are_held_out_are_told(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(table.parent, tmp_path / "set")
    config = tiny_config(tmp_path / "set" / table.name)
    dataset = load_dataset(config.data.name, tmp_path / "set")
    split = split_of(dataset, config.data)
    labelled_stream(config, dataset, split)
    assert not caplog.messages
    held, trained = (dataset.samples[part[0]] for part in (split.test, split.train))
    shutil.copy(trained.path, held.path)
    labelled_stream(config, dataset, split)
    assert f"({held.name} is {trained.name})" in caplog.text


def test_equal_labels_are_refused_before_a_picture_is_decoded(table: Path, tmp_path: Path) -> None:
    header, *rows = table.read_text().splitlines()
    place = header.split(",").index("mos")
    cells = [row.split(",") for row in rows]
    same = table.parent / "same.csv"
    same.write_text("\n".join([header, *(",".join([*row[:place], "3", *row[place + 1 :]]) for row in cells)]) + "\n")
    config = tiny_config(same)
    with pytest.raises(DatasetError, match=r"all \d+ training labels are 3: nothing can be learned"):
        train(config, tmp_path / "run")


def test_a_trial_never_looks_at_the_test_part(table: Path, tmp_path: Path) -> None:
    tree = tiny_config(table).to_dict()
    tree["data"]["validation"] = 0.3
    config = from_dict(tree)
    train(config, tmp_path / "run")
    dataset = load_dataset(str(table), table.parent)
    split = split_of(dataset, config.data)
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [dataset.samples[i].name for i in split.validation]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["part"] == "validation"


def test_predictions_in_mos_units_are_those_of_the_run(table: Path, tmp_path: Path) -> None:
    train(tiny_config(table), tmp_path / "run")
    dataset = load_dataset(str(table), table.parent)
    split = split_of(dataset, tiny_config(table).data)
    again = list(predict_run(tmp_path / "run", dataset, split.test))
    rows = [r.split(",") for r in (tmp_path / "run" / "predictions.csv").read_text().splitlines()[1:]]
    assert [float(r[2]) for r in rows] == pytest.approx(again, abs=1e-4)
    assert [float(r[1]) for r in rows] == [dataset.samples[i].mos for i in split.test]
    assert 0 < np.mean(again) < 100


def test_an_unreadable_training_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    table = make_labelled(tmp_path / "set", count=8)
    (tmp_path / "set" / "03.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"03\.png"):
        train(tiny_config(table), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.epoch=3", "unknown setting optim.epoch"),
        ("optim.epochs=many", "optim.epochs wants int"),
        ("optim.epochs=true", "optim.epochs wants"),
        ("optim.batch=2.5", "optim.batch wants int"),
        ("stage.x=1", "'stage' is no section"),
        ("optim", "wants key=value"),
        ("data=3", "data is a section"),
        ("model.changes={drop_path=1.5}", r"model\.changes\.drop_path is a share from 0 to below 1, not 1\.5"),
        ("model.changes={dropout=-0.1}", r"model\.changes\.dropout is a share"),
        ("model.changes={dropout='much'}", r"model\.changes\.dropout is a share"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, change: str, message: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text('stage = "quality"\n[optim]\nepochs = 2\n')
    with pytest.raises(ConfigError, match=message):
        load_config(file, [change])


def test_set_reads_toml_values_and_bare_words(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("")
    changes = ["optim.lr_body=1e-5", "data.name=koniq10k", 'optim.frozen=["a","b"]', "data.split=-1", "optim.clip=3"]
    config = load_config(file, changes)
    assert config.optim.lr_body == 1e-5
    assert config.data.name == "koniq10k"
    assert config.optim.frozen == ("a", "b")
    assert config.data.split == -1
    assert isinstance(config.optim.clip, float)
    assert from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_stored_configuration_of_an_earlier_version_loads_under_the_present_names(tmp_path: Path) -> None:
    run = Run(ROOT / "results" / "0.1" / "predictions" / "livec-release-lite" / "split-0")
    old = json.loads(run.config_file.read_text("utf-8"))["config"]
    assert old["rank"]["rungs"] == 3
    new = {**old, "rank": {("versions" if k == "rungs" else k): v for k, v in old["rank"].items()}}
    assert from_dict(old) == from_dict(new) == run.config
    assert from_dict({**old, "rank": {"rungs": 5}}).rank.versions == 5
    assert run.stored_config == new
    assert "rungs" not in run.config.to_dict()["rank"]
    with pytest.raises(ConfigError, match=r"rank\.rungs is the old name of rank\.versions"):
        from_dict({"rank": {"rungs": 3, "versions": 3}})
    file = tmp_path / "c.toml"
    file.write_text("[rank]\nrungs = 4\n")
    assert load_config(file).rank.versions == load_config(file, ["rank.rungs=4"]).rank.versions == 4


def test_broken_configuration_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"broken\.toml.*not valid TOML"):
        load_config(tmp_path / "broken.toml")
    with pytest.raises(ConfigError, match="no training stage"):
        train(TrainConfig(stage="sleep"), tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "setting"), [("lite", "data.root"), ("teacher-lite", "bdm.root"), ("shdiqa-lite", "data.root")]
)
def test_a_recipe_asks_for_its_folders(tmp_path: Path, name: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting}.*is not set: --set {setting}=DIR"):
        train(load_config(ROOT / "configs" / f"{name}.toml"), tmp_path / "run")


def test_the_committed_configuration_loads() -> None:
    config = load_config(ROOT / "configs" / "lite.toml")
    assert config.stage == "quality"
    assert config.model.weights == "package"


def test_a_part_without_a_correlation_is_measured_as_null(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.store_predictions("test", ["a.png"], [50.0], [51.0])
    assert run.metrics() == {"part": "test", "srcc": None, "plcc_raw": None}
    assert [row.prediction for row in run.predictions()] == [51.0]
