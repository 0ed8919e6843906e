"""Splits: whole groups, nested fractions, a test part that nothing but the seed moves."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moslens.data.records import Dataset, DatasetCard, Sample
from moslens.data.sets import load_dataset
from moslens.data.split import Split, copies_across, make_split, official_split, parse_split, split_hash, split_text
from moslens.errors import DatasetError


def dataset(groups, parts=None):
    """A data set without files: one sample for each entry of ``groups`` (None: a group of its own)."""
    samples = tuple(
        Sample(
            Path(f"{i:03}.png"),
            f"{i:03}.png",
            float(i),
            reference=None if group is None else f"ref{group}",
            part=parts[i] if parts else None,
        )
        for i, group in enumerate(groups)
    )
    return Dataset("toy", Path(), samples, DatasetCard("toy", "toy", "custom", len(samples), "MOS", (0, 100)))


GROUPS = st.lists(st.none() | st.integers(0, 12), min_size=40, max_size=80)
SHARES = st.sampled_from([0.1, 0.2, 0.5])


@settings(deadline=None)
@given(GROUPS, st.integers(0, 99), SHARES, SHARES, st.sampled_from([0.2, 0.4, 0.6, 1.0]))
def test_parts_are_disjoint_by_group_and_the_test_part_is_the_seeds_own(groups, seed, test, validation, fraction):
    data = dataset(groups)
    split = make_split(data, seed, test=test, validation=validation, fraction=fraction)
    parts = [split.train, split.validation, split.test]
    for part in parts:
        assert list(part) == sorted(set(part))
    names = [{data.samples[i].group for i in part} for part in parts]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]
    count = len({sample.group for sample in data.samples})
    assert len(names[2]) == round(test * count)
    assert split.test == make_split(data, seed, test=test).test
    assert split.validation == make_split(data, seed, test=test, validation=validation).validation
    if fraction == 1.0:
        assert sorted(sum(parts, ())) == list(range(len(groups)))


@settings(deadline=None)
@given(GROUPS, st.integers(0, 99), st.sampled_from([0.0, 0.2]))
def test_fractions_are_nested(groups, seed, validation):
    data = dataset(groups)
    trains = [
        set(make_split(data, seed, validation=validation, fraction=share).train) for share in (0.2, 0.4, 0.6, 0.8, 1)
    ]
    assert all(small <= large for small, large in pairwise(trains))
    assert len(trains[0]) < len(trains[-1])


def test_the_draw_is_frozen():
    split = make_split(dataset([None] * 10), 0, validation=0.25, fraction=0.5)
    assert split == Split(0, (2, 3, 7), (1, 8), (4, 6))


def test_seeds_differ_and_repeat():
    data = dataset([None] * 100)
    splits = [make_split(data, seed) for seed in range(10)]
    assert len({split_hash(split, data) for split in splits}) == 10
    assert splits == [make_split(data, seed) for seed in range(10)]


@pytest.mark.parametrize("share", [{"test": 1.5}, {"validation": -0.1}, {"fraction": 2.0}])
def test_shares_outside_the_unit_interval_are_refused(share):
    with pytest.raises(DatasetError, match="share from 0 to 1"):
        make_split(dataset([None] * 10), 0, **share)


def test_too_few_groups_are_refused():
    with pytest.raises(DatasetError, match="1 groups"):
        make_split(dataset([1, 1, 1]), 0)


@settings(deadline=None)
@given(GROUPS, st.integers(0, 99))
def test_text_round_trip(groups, seed):
    data = dataset(groups)
    split = make_split(data, seed, validation=0.2, fraction=0.6)
    assert parse_split(split_text(split, data), data) == split


def test_hash_names_pictures_not_positions():
    data, other = dataset([None] * 20), dataset([None] * 21)
    split = make_split(data, 3)
    assert split_hash(split, data) == split_hash(split, other)
    moved = Split(split.seed, split.test, split.validation, split.train)
    assert split_hash(moved, data) != split_hash(split, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("# moslens split 1", "split"), "first line"),
        (lambda text: text.replace("# seed 0\n", ""), "seed"),
        (lambda text: text.replace("# seed 0", "# seed zero"), "line 3"),
        (lambda text: text.replace("train\t", "school\t", 1), "line 4: .*no such part"),
        (lambda text: text + "test\tnobody.png\n", "not in the data set"),
        (lambda text: text + "test\t000.png\n", "listed twice"),
    ],
)
def test_broken_split_texts_are_refused(change, words):
    data = dataset([None] * 10)
    with pytest.raises(DatasetError, match=words):
        parse_split(change(split_text(make_split(data, 0), data)), data)


def test_held_out_pictures_that_are_training_pictures_are_found(tmp_path):
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"three", "e": b"two", "f": b"six"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    samples = tuple(Sample(tmp_path / name, name, 1.0) for name in [*contents, "missing"])
    data = Dataset("toy", tmp_path, samples, DatasetCard("toy", "toy", "custom", 7, "MOS", (0, 100)))
    split = Split(0, train=(0, 1, 3, 6), validation=(2,), test=(4, 5))
    assert copies_across(data, split) == [("c", "a"), ("e", "b")]
    assert copies_across(data, Split(0, train=(0, 2, 5), validation=(), test=(3,))) == []


def test_official_split_and_its_validation_part():
    parts = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5
    split = official_split(dataset([None] * 30, parts))
    assert (split.seed, split.train) == (-1, tuple(range(20)))
    assert (split.validation, split.test) == (tuple(range(20, 25)), tuple(range(25, 30)))
    half = official_split(dataset([None] * 30, parts), fraction=0.5)
    assert set(half.train) < set(split.train)
    assert len(half.train) == 10
    held = official_split(dataset([None] * 25, parts[:20] + ["test"] * 5), validation=0.2)
    assert len(held.validation) == 4
    assert set(held.validation) | set(held.train) == set(range(20))
    with pytest.raises(DatasetError, match="no official split"):
        official_split(dataset([None] * 10))


def test_livec_twins_are_never_parted(shared_data):
    data = load_dataset("livec", shared_data / "livec")
    twins = {i for i, sample in enumerate(data.samples) if sample.name in ("246.bmp", "333.bmp")}
    assert len(twins) == 2
    for seed in range(10):
        split = make_split(data, seed, validation=0.1)
        assert any(twins <= set(part) for part in (split.train, split.validation, split.test))
        assert len(split.test) in (232, 233)
        assert len(split.train) + len(split.validation) + len(split.test) == 1162
