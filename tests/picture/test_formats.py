"""What is said of short, broken and foreign files, and decoders that must not disturb the rest of the process."""

import io
import struct
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.hostile import (
    encode,
    photo,
)
from moslens.errors import CorruptImage, ImageError, TruncatedImage, UnsupportedImage
from moslens.picture.formats import explain_failure
from moslens.picture.load import decode, load


def test_a_short_file_says_how_short(tmp_path: Path) -> None:
    webp, jpeg = encode(photo(), "WEBP"), encode(photo(), "JPEG")
    with pytest.raises(TruncatedImage, match=rf"^the file ends after 1,024 of {len(webp):,} bytes$"):
        load(webp[:1024])
    (tmp_path / "c.jpg").write_bytes(jpeg[:1024])
    with pytest.raises(TruncatedImage) as caught:
        load(tmp_path / "c.jpg")
    assert str(caught.value) == f"{tmp_path}/c.jpg: the file ends after 1,024 bytes, before the picture does"


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(photo(), "JPEG"),
    "jpeg with a thumbnail": lambda: _with_thumbnail(encode(photo(), "JPEG")),
    "progressive": lambda: encode(photo(), "JPEG", progressive=True),
    "png": lambda: encode(photo(), "PNG"),
    "webp": lambda: encode(photo(), "WEBP"),
    "lossless webp": lambda: encode(photo(), "WEBP", lossless=True),
    "animated webp": lambda: encode(photo(), "WEBP", save_all=True, append_images=[Image.fromarray(photo(seed=1))]),
    "tiff": lambda: encode(photo(), "TIFF"),
    "lzw tiff": lambda: encode(photo(), "TIFF", compression="tiff_lzw"),
    "bmp": lambda: encode(photo(), "BMP"),
    "gif": lambda: encode(photo(), "GIF"),
    "jp2": lambda: encode(photo(), "JPEG2000"),
    "ppm": lambda: encode(photo(), "PPM"),
    "pcx": lambda: encode(photo(), "PCX"),
    "sgi": lambda: encode(photo(), "SGI"),
    "qoi": lambda: encode(photo(), "QOI"),
    "dds": lambda: encode(photo(), "DDS"),
    "avif": lambda: encode(photo(), "AVIF"),
    "heic": lambda: _heic(photo()),
}


def _with_thumbnail(jpeg: bytes) -> bytes:
    """The end marker of a thumbnail must not pass for that of the picture."""
    thumbnail = b"Exif\0\0" + encode(photo(40, 40), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + jpeg[2:]


def _heic(pixels: np.ndarray) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=90)
    return file.getvalue()


@pytest.mark.parametrize("name", CONTAINERS)
def test_files_cut_anywhere_are_truncated_and_whole_ones_are_not(name: str) -> None:
    data = CONTAINERS[name]()
    reference = photo()
    assert np.abs(decode(data).astype(int) - reference).mean() < 8
    for cut in np.linspace(24, len(data) * 0.97, 40).astype(int):
        with pytest.raises(TruncatedImage, match=r"the file ends after [\d,]+ "):
            load(data[:cut])


@settings(deadline=None, max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(CONTAINERS)))
def test_damaged_files_give_pixels_or_a_typed_error(data: st.DataObject, name: str) -> None:
    damaged = bytearray(ENCODED[name])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, 200))
        damaged[at : at + 1] = data.draw(st.binary(min_size=0, max_size=4))
    try:
        outcome = "ok" if load(bytes(damaged), max_pixels=1_000_000).pixels.size else "nothing"
    except ImageError as error:
        outcome = error.code
    possible = {"ok", "empty", "not_an_image", "truncated", "corrupt", "unsupported", "too_small", "too_large"}
    assert outcome in possible


ENCODED = {name: make() for name, make in CONTAINERS.items()}


def test_broken_is_not_short() -> None:
    jpeg = encode(photo(), "JPEG")
    table = jpeg.index(b"\xff\xc4")
    broken = jpeg[: table + 5] + b"\xff" * 16 + jpeg[table + 21 :]
    with pytest.raises(CorruptImage, match="JPEG data is broken"):
        load(broken)
    with pytest.raises(CorruptImage):
        load(broken + b"trailing bytes of some camera")


def test_heic_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        UnsupportedImage, match=r"HEIC needs pillow-heif: pip install pillow-heif \(the extra formats\)"
    ):
        load(ENCODED["heic"])


def test_the_preview_in_a_camera_raw_file_is_not_taken_for_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    for tags in ({254: 1, 271: "the maker of the camera"}, {50706: b"\1\4\0\0"}):
        with pytest.raises(UnsupportedImage, match="camera raw"):
            load(encode(photo(), "TIFF", tiffinfo=tags))


@pytest.mark.parametrize(
    ("name", "words"), [("SGI", "buffer overrun when reading image file"), ("PCX", "unknown PCX mode")]
)
def test_what_pillow_cannot_read_is_unsupported_not_corrupt(name: str, words: str) -> None:
    """SGI files of ffmpeg are whole, and Pillow cannot read their run lengths; a PCX may have four planes."""
    assert isinstance(explain_failure(OSError(words), io.BytesIO(b"data"), name), UnsupportedImage)
    assert isinstance(explain_failure(OSError("buffer overrun"), io.BytesIO(b"data"), "PPM"), CorruptImage)


def too_many_entries() -> bytes:
    """A TIFF whose width is given twice: Pillow warns and goes on."""
    return encode(photo(), "TIFF", tiffinfo={270: "x"}).replace(
        struct.pack("<HHI", 259, 3, 1), struct.pack("<HHI", 259, 3, 2)
    )


def test_decoder_warnings_are_dropped_and_those_of_others_are_not() -> None:
    data = too_many_entries()
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(data))  # what is not to leak
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode(data), photo())
        with pytest.raises(UserWarning, match="too many entries"):
            Image.open(io.BytesIO(data))


def test_threads_decode_alike_and_leave_the_warnings_of_other_threads_alone() -> None:
    data, stop, heard = too_many_entries(), threading.Event(), []

    def other_thread() -> None:
        while not stop.is_set():
            try:
                Image.open(io.BytesIO(data))
            except UserWarning:
                heard.append(True)
            else:
                heard.append(False)

    witness = threading.Thread(target=other_thread)
    witness.start()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(decode, [data] * 200))
    stop.set()
    witness.join()
    assert all(np.array_equal(result, photo()) for result in results)
    assert heard
    assert all(heard)
