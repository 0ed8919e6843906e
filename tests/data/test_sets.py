"""The released layouts, rebuilt small by the tests, and the real LIVEC."""

import csv

import numpy as np
import pytest
from scipy.io import savemat

from moslens.data.sets import READERS, all_cards, check_dataset, find_card, load_dataset
from moslens.errors import DatasetError


def cells(values):
    """A MATLAB cell column, as the releases store names."""
    array = np.empty((len(values), 1), dtype=object)
    array[:, 0] = values
    return array


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")


def livec_released(root, rows):
    """LIVEC's layout: seven training pictures first, then ``rows`` of (name, mos, std)."""
    listed = [(f"t{i}.bmp", 50.0, 10.0) for i in range(1, 8)] + rows
    (root / "Data").mkdir(parents=True)
    for stem, column in (("AllMOS", 1), ("AllStdDev", 2)):
        savemat(
            root / f"Data/{stem}_release.mat",
            {f"{stem}_release": np.array([[row[column] for row in listed]])},
        )
    savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells([row[0] for row in listed])})
    touch(root / "Images", *(row[0] for row in rows))
    touch(root / "Images/trainingImages", *(f"t{i}.bmp" for i in range(1, 8)))


def test_cards_are_whole_and_each_has_a_reader():
    assert {card.name for card in all_cards()} == set(READERS)
    for card in all_cards():
        for field in ("title", "licence", "source", "citation", "labels", "images"):
            assert getattr(card, field), (card.name, field)
        assert card.range[0] < card.range[1]
        assert card.count > 0
    names = [name for card in all_cards() for name in (card.name, *card.aliases)]
    assert len(names) == len(set(names))


def test_names_are_found_by_alias_in_any_case():
    assert find_card("LIVEC") is find_card("clive")
    with pytest.raises(DatasetError, match=r"known: .*livec"):
        find_card("nothing")


def test_livec_released_and_repacked_give_the_same_samples(shared_data, tmp_path):
    root = shared_data / "livec"
    repacked = load_dataset("livec", root)
    with (root / "labels.csv").open(newline="") as file:
        rows = [(row["orig"], float(row["mos"]), float(row["std"])) for row in csv.DictReader(file)]
    livec_released(tmp_path, rows)
    released = load_dataset("livec", tmp_path)
    assert [(s.name, s.mos, s.std, s.group) for s in released.samples] == [
        (s.name, s.mos, s.std, s.group) for s in repacked.samples
    ]
    assert len(released.samples) == 1162
    assert released.samples[0].path == tmp_path / "Images" / released.samples[0].name


def test_livec_by_the_figures_of_its_readme(shared_data):
    data = load_dataset("livec", shared_data / "livec")
    mos = np.array([s.mos for s in data.samples])
    assert (mos.min(), mos.max()) == (pytest.approx(3.42, abs=0.01), pytest.approx(92.43, abs=0.01))
    by_name = {s.name: s for s in data.samples}
    assert by_name["246.bmp"].mos == pytest.approx(52.03, abs=0.01)
    assert by_name["246.bmp"].group == by_name["333.bmp"].group
    assert len({s.group for s in data.samples}) == 1161
    check = check_dataset("livec", shared_data / "livec")
    assert check.complete
    assert (check.labelled, check.missing, check.surplus) == (1162, (), ())


def test_check_names_missing_surplus_and_wrong_counts(tmp_path):
    livec_released(tmp_path, [("1.bmp", 40.0, 5.0), ("2.JPG", 104.0, 5.0), ("3.bmp", 60.0, 5.0)])
    (tmp_path / "Images/3.bmp").unlink()
    touch(tmp_path / "Images", "stray.png")
    check = check_dataset("livec", tmp_path)
    assert not check.complete
    assert check.missing == ("Images/3.bmp",)
    assert check.surplus == ("Images/stray.png",)
    assert check.problems == (
        "3 labelled pictures, expected 1162",
        "2.JPG: score 104 is outside 0..100",
    )
    with pytest.raises(DatasetError, match=r"missing picture .*3\.bmp"):
        load_dataset("livec", tmp_path)


def test_a_copy_with_fewer_labels_is_used_with_a_warning(tmp_path, caplog):
    livec_released(tmp_path, [("1.bmp", 40.0, 5.0), ("2.bmp", 50.0, 5.0)])
    assert len(load_dataset("livec", tmp_path).samples) == 2
    assert "2 labelled pictures, expected 1162" in caplog.text


def test_missing_and_broken_label_files(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        load_dataset("livec", tmp_path / "none")
    with pytest.raises(DatasetError, match="--root"):
        load_dataset("livec")
    check = check_dataset("livec", tmp_path)
    assert check.missing == find_card("livec").labels
    assert "AllImages_release.mat: no such file" in check.problems[0]
    livec_released(tmp_path, [("1.bmp", 40.0, 5.0)])
    savemat(tmp_path / "Data/AllMOS_release.mat", {"AllMOS_release": np.array([[1.0, np.nan]])})
    with pytest.raises(DatasetError, match="holds 2 values, expected 8 finite ones"):
        load_dataset("livec", tmp_path)
    savemat(tmp_path / "Data/AllMOS_release.mat", {"other": np.array([[1.0]])})
    with pytest.raises(DatasetError, match="no variable AllMOS_release; it holds other"):
        load_dataset("livec", tmp_path)
    (tmp_path / "Data/AllMOS_release.mat").write_bytes(b"not a mat file at all")
    with pytest.raises(DatasetError, match="not a readable MATLAB file"):
        load_dataset("livec", tmp_path)
