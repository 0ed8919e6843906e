"""A model that sees whole pictures, from training to the row: the folder scores and maps as the run does."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from helpers.tiny_distillation import make_pool, make_teacher, student_config
from helpers.tiny_model import make_photo
from helpers.tiny_student import HELD_OUT, export_tiny_student
from helpers.tiny_training import make_labelled
from moslens import Scorer
from moslens.interop import QualityScore
from moslens.release import block_labels
from moslens.release.export import WHOLE_MAP_GRID
from moslens.train import train
from moslens.train.networks import load_run
from moslens.train.predict import predict
from moslens.train.run_folder import Run

pytestmark = pytest.mark.slow

SIZES = [(240, 180), (180, 240), (500, 500), (900, 100), (64, 64), (161, 97)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    pool = make_pool(folder / "pool")
    config = student_config(
        make_labelled(folder / "set"), pool, make_teacher(pool, folder / "teacher"), folder / "bank"
    )
    config = dataclasses.replace(
        config,
        bdm=dataclasses.replace(config.bdm, held_out=HELD_OUT),
        data=dataclasses.replace(config.data, view="whole", working_size=192),
        optim=dataclasses.replace(config.optim, mirror=1.0),
    )
    train(config, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def folder(run: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_labels, "PICTURES", 9)
        return export_tiny_student(run, run.parent / "model", head="trained")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("photos")
    for number, size in enumerate(SIZES):
        make_photo(*size, seed=number).save(place / f"{number}.png")
    return sorted(place.iterdir())


def test_the_run_is_measured_and_logs_the_mirror_term(run: Path) -> None:
    assert len(Run(run).predictions()) == 4
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(row["mirror"] >= 0 for row in rows)


def test_the_folder_scores_as_the_run_predicts(run: Path, folder: Path, photos: list[Path]) -> None:
    scorer, run_scorer = Scorer(folder), load_run(run)[0]
    assert scorer.model.card.record["preprocessing"] == {
        "working_size": 192, "view": "whole", "shortest": 128, "multiple": 32, "resample": "bicubic",
        "layout": "uint8 NHWC RGB, normalised inside the graph",
    }  # fmt: skip
    calibration = scorer.model.card.calibration
    ours = [calibration.score(raw) for raw in predict(run_scorer, photos)]
    assert [scorer.score(photo).score for photo in photos] == pytest.approx(ours, abs=1e-3)
    assert len({round(score, 2) for score in ours}) == len(photos)


def test_batch_neighbours_and_threads_change_nothing(folder: Path, photos: list[Path]) -> None:
    alone = [Scorer(folder, threads=1).score(photo).score for photo in photos]
    together = [result.score for result in Scorer(folder, threads=3).score_many(photos[::-1])][::-1]
    assert together == pytest.approx(alone, abs=1e-4)


def test_maps_tile_pictures_of_every_shape(folder: Path, photos: list[Path]) -> None:
    scorer = Scorer(folder)
    for photo, (width, height) in zip(photos, SIZES, strict=True):
        found = scorer.explain(photo)
        # 900 x 100 is read in five passes of 192 x 100, each with 6 x 6 blocks
        columns = round(900 / 192 * WHOLE_MAP_GRID) if width == 900 else WHOLE_MAP_GRID
        assert (found.rows, found.columns) == (WHOLE_MAP_GRID, columns)
        seen = np.zeros((height, width), int)
        for block in found.blocks:
            seen[block.y : block.y + block.height, block.x : block.x + block.width] += 1
        assert (seen == 1).all()
        assert sum(block.weight for block in found.blocks) == pytest.approx(1, abs=1e-6)
        assert found.score == pytest.approx(scorer.score(photo).score, abs=1e-4)


def test_the_torch_metric_agrees_with_the_file_path(run: Path, folder: Path, photos: list[Path]) -> None:
    scorer, metric = Scorer(folder), QualityScore(folder)
    for photo in photos:
        assert float(metric.quality.score_file(photo)) == pytest.approx(scorer.score(photo).score, abs=0.1)
