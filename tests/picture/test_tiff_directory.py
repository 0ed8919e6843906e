"""The table at the head of a TIFF file: read as it stands, refused where a decoder would drown in it."""

import io
import struct

import pytest

from helpers.hostile import encode, photo
from helpers.hostile_many import tiff
from moslens.errors import ImageTooLarge
from moslens.picture.tiff_directory import MOST_VALUES, entries, refuse_endless_entries
from moslens.picture.truncation import is_short


def big_tiff(*rows: tuple[int, int, int, int]) -> bytes:
    table = b"".join(struct.pack("<HHQQ", *row) for row in rows)
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(rows)) + table + bytes(8)


def test_entries_of_both_kinds_of_tiff() -> None:
    classic = entries(io.BytesIO(tiff((270, 2, 20, 77))))
    assert classic is not None
    found = {entry.tag: entry for entry in classic}
    assert (found[256].values, found[256].kind) == (1, 4)
    assert struct.unpack_from(found[256].layout, tiff(), found[256].at) == (64,)
    assert (found[270].at, found[270].layout) == (77, "<20s")
    data = big_tiff((256, 4, 1, 80), (273, 16, 3, 500))
    width, strips = entries(io.BytesIO(data)) or ()
    assert struct.unpack_from(width.layout, data, width.at) == (80,)
    assert strips[1:] == (16, 3, 500, "<3Q")


def test_a_table_that_breaks_off_is_none() -> None:
    whole = tiff()
    for cut in (3, 7, 4105, 4120, 4190):
        assert entries(io.BytesIO(whole[:cut])) is None
        assert is_short(io.BytesIO(whole[:cut]), "TIFF")


def test_a_real_file_passes_and_is_whole() -> None:
    data = encode(photo(), "TIFF")
    refuse_endless_entries(io.BytesIO(data))
    assert is_short(io.BytesIO(data), "TIFF") is False
    assert is_short(io.BytesIO(data[:-9]), "TIFF") is True


@pytest.mark.parametrize("make", [tiff, big_tiff])
def test_more_values_than_any_picture_has_are_refused(make) -> None:
    refuse_endless_entries(io.BytesIO(make((273, 4, MOST_VALUES, 8))))
    refuse_endless_entries(io.BytesIO(make((37724, 7, 1 << 30, 8))))  # layers of an editor: bytes, never taken apart
    with pytest.raises(ImageTooLarge, match="directory entry 273 has 1,048,577 values"):
        refuse_endless_entries(io.BytesIO(make((273, 4, MOST_VALUES + 1, 8))))


def test_places_that_are_no_numbers_say_nothing() -> None:
    text = tiff((273, 2, 9, 8), (279, 2, 9, 8))
    assert is_short(io.BytesIO(text), "TIFF") is False


def test_a_jpeg_of_fill_bytes_is_followed_at_once() -> None:
    assert is_short(io.BytesIO(b"\xff\xd8" + b"\xff" * (1 << 24)), "JPEG") is True
    assert is_short(io.BytesIO(b"\xff\xd8" + b"\xff\x01" * (1 << 20)), "JPEG") is False
