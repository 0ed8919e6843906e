"""The pool and the bank: held out by file, exact labels, equal for any number of processes, resumed after a kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny_distillation import make_pool, make_teacher
from moslens.errors import CheckpointError, ConfigError, DatasetError
from moslens.train.config import BdmSection
from moslens.train.distill import composite_bank as bank_module
from moslens.train.distill.chunks import CHUNK, build_parts, merge_parts
from moslens.train.distill.composite_bank import Bank, BankBatches, CompositePlan, open_bank, plan_bank
from moslens.train.distill.pool import open_pool
from moslens.train.distill.targets import bank_targets, block_targets
from moslens.train.networks import load_teacher


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("pristine") / "pool")


@pytest.fixture(scope="module")
def plan(pool_folder: Path) -> CompositePlan:
    return make_plan(pool_folder)


@pytest.fixture(scope="module")
def bank(plan: CompositePlan, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return open_bank(tmp_path_factory.mktemp("bank"), plan, processes=1)


def make_plan(folder: Path, *, entries: int = 20, seed: int = 0, **bdm: object) -> CompositePlan:
    section = dataclasses.replace(BdmSection(root=str(folder), held_out=0.25), **bdm)
    return plan_bank(open_pool(folder, held_out=0.25), section, 512, entries, seed)


def test_pictures_are_held_out_by_name_and_stay_so(pool_folder: Path, tmp_path: Path) -> None:
    pool = open_pool(pool_folder, held_out=0.25)
    assert set(pool.train) | set(pool.held_out) == {p.name for p in pool_folder.iterdir()}
    assert not set(pool.train) & set(pool.held_out)
    assert pool.held_out
    more = make_pool(tmp_path / "pool", count=16)
    wider = open_pool(more, held_out=0.25)
    assert set(pool.held_out) <= set(wider.held_out)
    assert set(pool.train) <= set(wider.train)
    assert open_pool(pool_folder, held_out=0.25, seed=1).held_out != pool.held_out
    assert pool.hash_of(pool.train) != wider.hash_of(wider.train)
    assert pool.facts()["held_out_pictures"] == len(pool.held_out)


def test_the_share_held_out_is_near_what_was_asked(shared_data: Path) -> None:
    pool = open_pool(shared_data / "pristine", held_out=0.15)
    assert len(pool.held_out) / 1150 == pytest.approx(0.15, abs=0.03)


def test_a_pool_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        open_pool(tmp_path / "absent")
    with pytest.raises(DatasetError, match="too few"):
        open_pool(tmp_path)


def test_stored_pixels_and_labels_are_those_of_the_composites(bank: Bank, plan: CompositePlan) -> None:
    assert bank.composites.shape == (20, 3, 224, 224)
    for index in (0, 9, 15, 19):
        composite = plan.make(index)
        count = len(composite.blocks)
        assert count == plan.grids[index] ** 2
        assert np.array_equal(bank.composites[index].transpose(1, 2, 0), composite.image)
        assert bank.kinds[index, :count].tolist() == composite.kinds.tolist()
        assert bank.levels[index, :count].tolist() == composite.levels.tolist()
        assert np.all(bank.kinds[index, count:] == -1)
        assert np.all(bank.levels[index, count:] == 0)


def test_grids_have_their_shares_and_every_picture_its_turn(
    plan: CompositePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [int((plan.grids == g).sum()) for g in (2, 3, 4)] == [10, 6, 4]
    names: list[str] = []
    monkeypatch.setattr(bank_module, "pristine_crop", lambda _r, name, _s, _g: names.append(name) or 1 / 0)
    for index in range(2 * len(plan.names)):
        with pytest.raises(ZeroDivisionError):
            plan.make(index)
    half = len(plan.names)
    assert sorted(names[:half]) == sorted(names[half:]) == sorted(plan.names)
    assert names[:half] != names[half:]


def test_another_seed_makes_other_composites(plan: CompositePlan) -> None:
    other = dataclasses.replace(plan, seed=1)
    assert not np.array_equal(other.make(3).image, plan.make(3).image)


def test_global_chain_has_one_label_for_all_blocks(pool_folder: Path) -> None:
    plan = make_plan(pool_folder, mode="global-chain", p_clean=0.0)
    composite = plan.make(0)
    assert len(set(composite.kinds.tolist())) == 1


@pytest.mark.slow
def test_processes_and_interruptions_change_nothing(
    plan: CompositePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(plan, entries=2 * CHUNK + 5)
    whole = open_bank(tmp_path / "one", plan, processes=1)
    made = CompositePlan.arrays
    calls = []

    def killed(self: CompositePlan, indices: range) -> object:
        calls.append(indices)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made(self, indices)

    monkeypatch.setattr(CompositePlan, "arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        open_bank(tmp_path / "two", plan, processes=1)
    assert not (tmp_path / "two" / "composites.npy").exists()
    monkeypatch.setattr(CompositePlan, "arrays", made)
    resumed = open_bank(tmp_path / "two", plan, processes=2)
    assert calls[0] == range(CHUNK)
    assert np.array_equal(resumed.composites, whole.composites)
    assert resumed.digest == whole.digest
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [
        "composites.npy",
        "kinds.npy",
        "levels.npy",
        "plan.json",
    ]


def test_a_torn_chunk_is_made_again(tmp_path: Path) -> None:
    done: list[range] = []

    def job(indices: range) -> dict[str, np.ndarray]:
        done.append(indices)
        return {"x": np.arange(indices.start, indices.stop)}

    build_parts(tmp_path / "parts", CHUNK + 3, job, processes=1)
    second = tmp_path / "parts" / f"{CHUNK:08d}.npz"
    second.rename(second.with_suffix(".partial"))
    build_parts(tmp_path / "parts", CHUNK + 3, job, processes=1)
    assert done == [range(CHUNK), range(CHUNK, CHUNK + 3), range(CHUNK, CHUNK + 3)]
    merge_parts(tmp_path / "parts", CHUNK + 3, {"x": tmp_path / "x.npy"})
    assert np.array_equal(np.load(tmp_path / "x.npy"), np.arange(CHUNK + 3))
    assert not (tmp_path / "parts").exists()


def test_a_bank_of_another_plan_is_refused(bank: Bank, plan: CompositePlan) -> None:
    with pytest.raises(CheckpointError, match="other settings"):
        open_bank(bank.folder, dataclasses.replace(plan, seed=5))
    again = open_bank(bank.folder, plan)
    assert again.digest == bank.digest


@pytest.mark.parametrize("view", ["uniform", "reference", "composite", "isolated"])
def test_targets_are_what_the_teacher_says_of_each_block(
    view: str, bank: Bank, plan: CompositePlan, pool_folder: Path, tmp_path: Path
) -> None:
    trained_on = "reference" if view == "reference" else "uniform"
    run = make_teacher(pool_folder, tmp_path / "teacher", view=trained_on)
    targets = bank_targets(bank, run, view, "embedding", processes=1)
    assert targets.shape == (20, 16, 128)
    teacher, _ = load_teacher(run)
    for index in (0, 19):
        count = int(plan.grids[index]) ** 2
        expected = block_targets(teacher, plan.make(index), view, "embedding")
        assert np.allclose(targets[index, :count], expected, atol=1e-6)
        assert np.allclose(np.linalg.norm(targets[index, :count], axis=1), 1, atol=1e-5)
        assert not targets[index, count:].any()
    other = make_teacher(pool_folder, tmp_path / "other", seed=1, view=trained_on)
    assert not np.allclose(bank_targets(bank, other, view, "embedding", processes=1), targets, atol=1e-3)


def test_a_composite_that_cannot_be_made_again_is_an_error(
    plan: CompositePlan, pool_folder: Path, tmp_path: Path
) -> None:
    bank = open_bank(tmp_path / "bank", plan, processes=1)
    stored = np.load(bank.folder / "composites.npy", mmap_mode="r+")
    stored[7, 0, 0, 0] ^= 1
    stored.flush()
    with pytest.raises(CheckpointError, match="entry 7 cannot be made again"):
        bank_targets(bank, make_teacher(pool_folder, tmp_path / "teacher"), "uniform", "embedding", processes=1)


def test_draws_depend_on_seed_epoch_and_step_alone(bank: Bank) -> None:
    targets = np.random.default_rng(0).normal(size=(20, 16, 8)).astype(np.float32)
    batches = BankBatches(bank, targets, 4, seed=3)
    grids = set()
    for step in range(30):
        batch = batches.draw(1, step)
        count = batch["grid"] ** 2
        grids.add(batch["grid"])
        assert batch["composites"].shape == (4, 3, 224, 224)
        assert batch["kinds"].shape == batch["levels"].shape == (4, count)
        assert batch["targets"].shape == (4, count, 8)
        assert int(batch["kinds"].min()) >= -1
        assert int(batch["levels"].min()) >= 0
    assert grids == {2, 3, 4}
    again = BankBatches(bank, targets, 4, seed=3).draw(1, 29)
    assert torch.equal(again["composites"], batch["composites"])
    halves = [batches.draw(1, 29, rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.stack([h["targets"] for h in halves], 1).flatten(0, 1), batch["targets"])
    assert not torch.equal(batches.draw(2, 29)["targets"].flatten()[:8], batch["targets"].flatten()[:8])
    with pytest.raises(ConfigError, match="fewer than 5 entries of grid 4"):
        BankBatches(bank, targets, 5, seed=3)


def test_impossible_plans_are_named(plan: CompositePlan) -> None:
    with pytest.raises(ConfigError, match="must have the same length"):
        dataclasses.replace(plan, bdm=BdmSection(grids=(2, 3), shares=(1.0,)))
    with pytest.raises(ConfigError, match="at least one entry"):
        dataclasses.replace(plan, entries=0)
