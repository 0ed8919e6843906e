"""The loop: exact resume in the middle of an epoch, signals, averages of epochs, what a person sees."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from helpers.processes import run_in_two_processes
from helpers.small_task import SmallBatches, SmallTask, fit_and_stop_one_process, small_config, small_fit
from moslens.errors import ConfigError
from moslens.system.interrupts import Stopped
from moslens.train import loop, progress
from moslens.train.checkpoint import latest_checkpoint, save_checkpoint
from moslens.train.curves import read_log
from moslens.train.loop import EpochMean, parameter_groups, seed_step
from moslens.train.run_folder import Run


def rows(run: Path) -> list[dict[str, Any]]:
    """The log without the times."""
    return [{k: v for k, v in row.items() if k != "seconds_a_step"} for row in read_log(Run(run))]


def assert_same_run(a: Path, b: Path) -> None:
    """Bit for bit: weights, state and log."""
    first, second = latest_checkpoint(a), latest_checkpoint(b)
    assert first is not None
    assert second is not None
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    for name, value in first[1].items():
        assert torch.equal(value, second[1][name]), name
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert rows(a) == rows(b)


@pytest.mark.parametrize("optim", [{}, {"ema": 0.9, "average": 2}, {"head_first": 0.5}])
@pytest.mark.parametrize("stops", [(7,), (10,), (3, 16, 17)])
def test_a_broken_run_with_dropout_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, stops: tuple[int, ...], optim: dict[str, Any]
) -> None:
    config = small_config(**optim)
    assert small_fit(config, tmp_path / "whole")
    for stop in stops:
        assert not small_fit(config, tmp_path / "parts", stop_after=stop)
        torch.manual_seed(stop)
    assert small_fit(config, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_batches_drawn_ahead_are_the_same_and_errors_arrive() -> None:
    drawn = []

    def batches() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            yield number
        raise ValueError("no more")

    ahead = loop._ahead(batches())
    assert next(ahead) == 0
    assert next(ahead) == 1
    deadline = time.monotonic() + 5
    while drawn != [0, 1, 2] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert drawn == [0, 1, 2]
    assert [next(ahead) for _ in range(3)] == [2, 3, 4]
    with pytest.raises(ValueError, match="no more"):
        next(ahead)
    assert list(loop._ahead(iter(range(7)))) == list(range(7))


def test_dropout_differs_by_seed_step_and_process() -> None:
    def drawn(*key: int) -> float:
        seed_step(*key)
        return float(torch.rand(()))

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**40, 3, 1)]
    assert [drawn(*key) for key in keys] == [drawn(*key) for key in keys]
    assert len({drawn(*key) for key in keys}) == len(keys)


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """A shell starts what it runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    def before(epoch: int, step: int, rank: int) -> None:
        if (epoch, step) == (1, 1):
            os.kill(os.getpid(), number)

    config = small_config(ema=0.9)
    handlers = signal.getsignal(number)
    with pytest.raises(Stopped) as stop:
        small_fit(config, tmp_path / "run", batches=SmallBatches(before=before))
    assert stop.value.signal == number
    assert signal.getsignal(number) == handlers
    assert "stopped and saved after step 7 of 20: --resume" in caplog.text
    found = latest_checkpoint(tmp_path / "run")
    assert found is not None
    assert found[0] == 7
    small_fit(config, tmp_path / "run")
    small_fit(config, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_processes_stop_together_where_one_gets_the_signal(tmp_path: Path) -> None:
    run_in_two_processes(fit_and_stop_one_process, small_config(), tmp_path / "run")
    assert [(tmp_path / f"stopped-{rank}").read_text() for rank in (0, 1)] == ["15", "15"]
    found = latest_checkpoint(tmp_path / "run")
    assert found is not None
    assert found[0] == len(rows(tmp_path / "run")) == 7


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_run_leaves_the_mean_of_its_last_epochs(tmp_path: Path, ema: float) -> None:
    ends = []
    for epochs in (2, 3, 4):
        small_fit(small_config(ema=ema), tmp_path / f"{epochs}", stop_after=5 * epochs)
        found = latest_checkpoint(tmp_path / f"{epochs}")
        assert found is not None
        part = "average" if ema else "task"
        ends.append(
            {
                k: found[1].get(f"{part}.model.{k}", found[1][f"task.model.{k}"])
                for k in ("head.weight", "norm.running_mean")
            }
        )
    small_fit(small_config(ema=ema, average=3), tmp_path / "mean")
    left = load_file(tmp_path / "mean" / "model.safetensors")
    for name in ends[0]:
        assert torch.allclose(left[name], torch.stack([end[name] for end in ends]).mean(0), atol=1e-6), name
        assert not torch.allclose(left[name], ends[-1][name], atol=1e-6)


def test_a_mean_of_more_epochs_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim\.average is 0 to optim\.epochs, 4, not 5"):
        small_config(average=5)


def test_the_mean_counts_each_weight_by_itself() -> None:
    mean = EpochMean()
    mean.add({"a": torch.tensor(1.0)})
    mean.add({"a": torch.tensor(2.0), "b": torch.tensor(5.0)})
    mean.add({"a": torch.tensor(6.0), "b": torch.tensor(7.0)})
    assert {k: float(v) for k, v in mean.values.items()} == pytest.approx({"a": 3.0, "b": 6.0})


def test_the_optimiser_state_has_the_names_of_parameters_and_that_of_0_1_is_read(tmp_path: Path) -> None:
    config = small_config()
    small_fit(config, tmp_path / "run", stop_after=8)
    found = latest_checkpoint(tmp_path / "run")
    assert found is not None
    assert found[1]["optimiser.model.head.weight.exp_avg"].shape == (1, 8)
    # version 0.1 wrote the place of the parameter in the optimiser
    task = SmallTask()
    names = {id(p): n for n, p in task.named_parameters()}
    places = [names[id(p)] for group in parameter_groups(task, config.optim) for p in group["params"]]
    old = {}
    for name, value in found[1].items():
        key = name.removeprefix("optimiser.")
        if key != name:
            parameter, state = key.rsplit(".", 1)
            old[f"optimiser.{places.index(parameter)}.{state}"] = value
        else:
            old[name] = value
    save_checkpoint(tmp_path / "run", 8, old)
    small_fit(config, tmp_path / "run")
    small_fit(config, tmp_path / "whole")
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in b)


def test_lines_away_from_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "moslens.train")
    small_fit(small_config(), tmp_path / "run")
    lines = [r.message for r in caplog.records if r.name == "moslens.train.progress"]
    assert [line.partition(":")[0] for line in lines] == [f"step {5 * e} of 20 (epoch {e} of 4)" for e in (1, 2, 3, 4)]
    last = rows(tmp_path / "run")[-1]
    assert f"loss {last['loss']:.4f}, rate {1e-3 * last['rate']:.1e}, 0 s left" in lines[-1]
    caplog.clear()
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    small_fit(small_config(), tmp_path / "talkative")
    assert len([r for r in caplog.records if r.name == "moslens.train.progress"]) == 20


def test_a_bar_on_a_terminal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "moslens.train.progress")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    small_fit(small_config(), tmp_path / "a-run")
    shown = capsys.readouterr().err
    assert "training a-run" in shown
    assert "20/20" in shown
    assert f"loss {rows(tmp_path / 'a-run')[-1]['loss']:.4f}" in shown
    assert not caplog.records


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words


def test_the_curves_are_a_picture_of_a_finished_run(tmp_path: Path) -> None:
    small_fit(small_config(), tmp_path / "run", stop_after=4)
    assert not (tmp_path / "run" / "curves.png").exists()
    small_fit(small_config(), tmp_path / "run")
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert picture.size == (1200, 360)
        colours = picture.convert("RGB").getcolors(1 << 16)
    assert colours is not None
    assert len(colours) > 20  # lines and words, not an empty sheet


def test_tensorboard_gets_every_row_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None:
            self.folder, self.first, self.values, self.open = folder, purge_step, [], True
            made.append(self)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            assert self.open
            self.values.append((name, value, step))

        def close(self) -> None:
            self.open = False

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    small_fit(small_config(), tmp_path / "run", stop_after=6)
    small_fit(small_config(), tmp_path / "run")
    assert [(one.folder, one.first, one.open) for one in made] == [
        (tmp_path / "run" / "tensorboard", first, False) for first in (1, 7)
    ]
    losses = [(step, value) for one in made for name, value, step in one.values if name == "loss"]
    assert [step for step, _ in losses] == list(range(1, 21))
    assert [value for _, value in losses] == pytest.approx([r["loss"] for r in rows(tmp_path / "run")], abs=1e-6)
    assert {name for name, _, _ in made[0].values} == {"loss", "gradient", "rate", "epoch", "seconds_a_step"}


def test_training_goes_on_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert small_fit(small_config(), tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()
