"""One role a folder of photos: the committed list, what the pool refuses, and that configurations respect it."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.tiny_distillation import make_pool
from helpers.tiny_training import make_labelled
from moslens.data.cards import all_cards
from moslens.data.roles import Role, all_roles, refuse_as_pool, refuse_labelled, stated_roles
from moslens.data.sets import load_dataset
from moslens.errors import ConfigError
from moslens.train.config import BdmSection
from moslens.train.distill.pool import open_pool

ROLES = {role.name: role for role in all_roles()}


def test_the_list_states_one_role_for_every_set() -> None:
    assert len(ROLES) == len(all_roles())
    assert all(ROLES[card.name].role == "labelled" for card in all_cards())
    assert ROLES["flive_voc"].role == "tests"
    assert ROLES["livec"].role == "labelled"
    assert all(role.what for role in stated_roles())
    assert [role.name for role in stated_roles() if role.held_out] == ["pristine"]
    assert ROLES["pristine"].held_out == BdmSection().held_out
    with pytest.raises(ConfigError, match="role of x is one of trains, labelled, tests"):
        Role("x", "decorates", "nothing")  # type: ignore[arg-type]


def test_every_folder_at_hand_has_a_role(shared_data: Path) -> None:
    assert {path.name for path in shared_data.iterdir() if path.is_dir()} <= set(ROLES)


@pytest.mark.parametrize("name", ["flive_voc", "clic2025", "graphics", "livec"])
def test_a_test_set_or_a_labelled_one_is_no_pool(name: str, tmp_path: Path) -> None:
    """Whether it is the folder, holds it, lies in it, or links to it."""
    folder = make_pool(tmp_path / "data" / name.upper() / "images", count=4)
    (tmp_path / "link").symlink_to(folder.parent)
    for place in (folder, folder.parent, folder.parent.parent, tmp_path / "link"):
        with pytest.raises(ConfigError, match=rf"{name} .*no pool to train from"):
            open_pool(place)


def test_other_folders_are_pools(tmp_path: Path) -> None:
    """A folder that happens to have the short name of some data set, or one far above of a test's name, is none."""
    for place in ("bid/photos", "flive_voc/a/b/photos"):
        refuse_as_pool(make_pool(tmp_path / place, count=1))


def test_a_pool_with_pictures_of_the_data_set_is_refused(tmp_path: Path) -> None:
    dataset = load_dataset(str(make_labelled(tmp_path / "set", count=6)))
    pool = make_pool(tmp_path / "pool", count=3)
    refuse_labelled(sorted(pool.iterdir()), dataset)
    with pytest.raises(ConfigError, match=r"00\.png.*picture of"):
        refuse_labelled([dataset.samples[0].path], dataset)
    (tmp_path / "copies").mkdir()
    copy = shutil.copy(dataset.samples[3].path, tmp_path / "copies")
    with pytest.raises(ConfigError, match=r"03\.png.*come in by their split alone"):
        refuse_labelled([Path(copy)], dataset)


def test_committed_configurations_respect_the_roles() -> None:
    """They name no folder that trains nothing, and learn from scores of labelled sets alone."""
    tests = [role.name for role in all_roles() if role.role == "tests"]
    for path in sorted((ROOT / "configs").rglob("*.toml")):
        text = path.read_text("utf-8")
        tree = tomllib.loads(text)
        settings = re.sub(r"#.*", "", text)
        assert not [name for name in tests if re.search(rf"\b{name}\b", settings)], path
        data = tree.get("data", {}).get("name")
        assert data is None or ROLES[data].role == "labelled", path
        held_out = tree.get("bdm", {}).get("held_out", BdmSection().held_out)
        assert held_out == ROLES["pristine"].held_out, path
