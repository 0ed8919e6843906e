"""Fixtures that many tests share: the data beside the repository, and a tiny real model folder."""

from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.tiny_model import make_photo, make_tiny_model


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
