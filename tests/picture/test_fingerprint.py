"""What a fingerprint holds, from a path and from bytes."""

from pathlib import Path

import numpy as np
import pytest

from helpers.bursts import exif, jpeg, printed, scene
from moslens.errors import ImageError
from moslens.picture.fingerprint import BITS, SIDE, fingerprint
from moslens.picture.load import Named

pytest.importorskip("imagehash", reason="needs the [pick] extra")


def bits_apart(one: np.ndarray, two: np.ndarray) -> int:
    return int(np.unpackbits(one ^ two).sum())


def test_a_path_and_its_bytes_have_one_fingerprint(tmp_path: Path) -> None:
    data = jpeg(scene(1), exif=exif("2024:05:01 12:00:00"))
    (tmp_path / "a.jpg").write_bytes(data)
    found = fingerprint(str(tmp_path / "a.jpg"))
    same = fingerprint(Named("memory://a.jpg", lambda: data))
    assert np.array_equal(found.hashes, same.hashes)
    assert np.array_equal(found.thumbnail, same.thumbnail)
    assert found.capture == same.capture
    assert found.capture.taken is not None
    assert (found.width, found.height) == (480, 360)
    assert found.hashes.shape == (5, BITS // 8)
    assert found.thumbnail.shape == (SIDE, SIDE)


def test_encoding_changes_few_bits_and_another_picture_half_of_them() -> None:
    one, again, other = printed(scene(1), 95), printed(scene(1), 40), printed(scene(2))
    assert bits_apart(one.hashes[0], again.hashes[0]) <= 4
    assert 20 <= bits_apart(one.hashes[0], other.hashes[0]) <= 44


def test_a_shift_is_met_by_one_of_the_cuts() -> None:
    photo = scene(3, 500, 500)
    moved = printed(photo.crop((20, 20, 480, 480)))
    still = printed(photo.crop((0, 0, 460, 460)))
    nearest = min(bits_apart(still.hashes[0], cut) for cut in moved.hashes)
    assert nearest < bits_apart(still.hashes[0], moved.hashes[0])


def test_a_picture_that_cannot_be_read_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="gone"):
        fingerprint(str(tmp_path / "gone.jpg"))
