"""When and by which camera: EXIF as cameras write it, as some get it wrong, and as nobody should write it."""

import io
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.bursts import exif, jpeg, scene
from moslens.picture.capture import Capture, capture_of, read_capture

PICTURE = scene(0, 64, 48)


def capture(**words: str) -> Capture:
    return read_capture(io.BytesIO(jpeg(PICTURE, exif=exif(**words))))


def test_time_fraction_offset_and_camera_are_read() -> None:
    found = capture(taken="2024:02:03 04:05:06", subseconds="25", offset="+02:00")
    assert found.taken == datetime(2024, 2, 3, 4, 5, 6, 250_000, timezone(timedelta(hours=2)))
    assert found.camera == ("Maker", "Model X")
    assert capture(taken="2024:02:03 04:05:06").taken == datetime(2024, 2, 3, 4, 5, 6)
    assert capture(taken="2024:02:03 04:05:06", offset="-03:30").taken.utcoffset() == -timedelta(hours=3, minutes=30)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "    :  :     :  :  ", "", "2024:13:01 00:00:00", "today"])
def test_a_time_that_is_none_is_missing(text: str) -> None:
    assert capture_of({0x0110: "X"}, {0x9003: text}) == Capture(None, ("X",))


def test_a_picture_without_exif_or_no_picture_has_no_capture() -> None:
    assert read_capture(io.BytesIO(jpeg(PICTURE))) == Capture()
    assert read_capture(io.BytesIO(b"no picture")) == Capture()


@given(
    main=st.dictionaries(
        st.sampled_from([0x010F, 0x0110]), st.one_of(st.text(), st.binary(), st.integers(), st.none())
    ),
    inside=st.dictionaries(
        st.sampled_from([0x9003, 0x9011, 0x9291, 0xA431]),
        st.one_of(st.text(), st.binary(), st.floats(), st.just("2024:01:01 00:00:00"), st.just("+99:99")),
    ),
)
def test_no_value_is_an_error(main: dict[int, Any], inside: dict[int, Any]) -> None:
    found = capture_of(main, inside)
    assert found.taken is None or found.taken.year > 0


def test_seconds_are_in_utc_where_both_have_an_offset() -> None:
    noon = datetime(2024, 5, 1, 12)
    east, west = noon.replace(tzinfo=timezone(timedelta(hours=2))), noon.replace(tzinfo=UTC)
    assert Capture(east, ("a",)).seconds_to(Capture(west, ("a",))) == 7200
    assert Capture(east, ("a",)).seconds_to(Capture(noon, ("a",))) == 0
    assert Capture(east, ("a",)).seconds_to(Capture(west, ("b",))) is None
    assert Capture(None, ("a",)).seconds_to(Capture(west, ("a",))) is None
