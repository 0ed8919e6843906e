"""Fixtures that many tests share: the data beside the repository, and a tiny real model folder; what is quick."""

import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from helpers.paths import ROOT
from helpers.quick import QUICK
from helpers.tiny_model import make_photo, make_tiny_model

TESTS = ROOT / "tests"
# A busy machine is no fault of an example.
settings.register_profile("moslens", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("moslens")


def pytest_configure(config: pytest.Config) -> None:
    # Of torch, here and in the processes that tests start: tiny networks gain nothing from more threads, and where
    # cores are shared, threads that wait for each other take many times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``pytest -m quick`` imports no file of which it runs nothing."""
    if config.option.markexpr != "quick" or collection_path.suffix != ".py":
        return None
    name = collection_path.relative_to(TESTS).as_posix()
    return None if any(name.startswith(one.partition("::")[0]) for one in QUICK) else True


def pytest_runtest_setup() -> None:
    # Or a test would draw other numbers alone than behind others.
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
    # A command that an earlier test called in this process may have raised it.
    logging.getLogger("moslens.train").setLevel(logging.NOTSET)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(QUICK) and not item.get_closest_marker("slow"):
            item.add_marker("quick")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data folder beside the repository; the test is skipped where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder in the released format around a tiny convolutional network with fixed random weights."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic photos of several sizes and formats, each with a score of its own."""
    folder = tmp_path_factory.mktemp("photos")
    sizes = {
        "a.jpg": (640, 480), "b.png": (300, 500), "c.webp": (224, 224),
        "d.bmp": (100, 60), "e.JPG": (512, 512), "f.jpeg": (900, 300),
    }  # fmt: skip
    for number, (name, (width, height)) in enumerate(sizes.items()):
        make_photo(width, height, seed=number).save(folder / name)
    return folder
