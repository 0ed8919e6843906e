"""Fixtures of the server for language models."""

from pathlib import Path

import pytest

from helpers.linked_photos import make_linked_photos
from helpers.map_model import make_map_model


@pytest.fixture(scope="module")
def map_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_map_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_linked_photos(tmp_path)
