"""Sources, sizes, orientation and memory of the decoding policy, and the error of everything that is no picture."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from helpers.hostile import (
    ORIENTATION,
    STORED,
    encode,
    make_odd_files,
    photo,
)
from moslens.errors import (
    EmptyImage,
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    TruncatedImage,
    UnreadableImage,
    UnsupportedImage,
)
from moslens.picture import load as image_module
from moslens.picture.formats import Metered
from moslens.picture.load import MIN_SIDE, decode, load
from moslens.picture.windows import fit


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str | None]]:
    folder = tmp_path_factory.mktemp("odd")
    return folder, make_odd_files(folder)


# Errors


def test_every_odd_file_gives_its_pixels_or_its_error(odd: tuple[Path, dict[str, str | None]]) -> None:
    folder, expected = odd
    found: dict[str, str | None] = {}
    for name in expected:
        path = folder / name
        try:
            pixels = load(path).pixels
            found[name] = None if pixels.dtype == np.uint8 and pixels.shape[2:] == (3,) else str(pixels.shape)
        except ImageError as error:
            named = error.path == str(path) and str(error).startswith(f"{path}: ")
            found[name] = error.code if named else f"unnamed {error.code}"
    assert found == expected


def test_bytes_give_what_the_file_gives(odd: tuple[Path, dict[str, str | None]]) -> None:
    folder, expected = odd
    for name in (name for name in expected if (folder / name).is_file() and "megapixels" not in name):
        data = (folder / name).read_bytes()
        if expected[name] is None or name == "forbidden.jpg":
            assert np.array_equal(load(data).pixels, load(folder / name).pixels), name
        else:
            with pytest.raises(ImageError) as caught:
                load(data)
            assert caught.value.code == expected[name], name
            assert caught.value.path is None


@pytest.mark.parametrize("name", ["nowhere.jpg", "a\0b.jpg", "x" * 5000, "plain.jpg/inside.jpg", "lone \ud800.jpg"])
def test_paths_that_lead_nowhere_are_unreadable(odd: tuple[Path, Any], name: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        load(os.path.join(odd[0], name))  # noqa: PTH118
    assert caught.value.path is not None
    assert caught.value.path.endswith(name)


def test_sockets_and_devices_are_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        with pytest.raises(UnreadableImage, match="not a regular file"):
            load("socket.jpg")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        load("/dev/zero")


def test_a_read_error_of_the_disk_is_unreadable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Failing(io.FileIO):
        def readinto(self, buffer: object) -> int:
            if self.tell() > 0:
                raise OSError(5, "Input/output error")
            return super().readinto(memoryview(buffer)[:600])

    (tmp_path / "a.jpg").write_bytes(encode(photo(), "JPEG"))
    monkeypatch.setattr(Path, "open", lambda self, *_, **__: Failing(str(self)))
    with pytest.raises(UnreadableImage, match="Input/output error"):
        load(tmp_path / "a.jpg")


def test_no_bytes_and_other_things_than_pictures() -> None:
    with pytest.raises(EmptyImage):
        load(b"")
    with pytest.raises(UnsupportedImage, match="cannot be read from list"):
        load([[1, 2], [3, 4]])  # type: ignore[arg-type]


# Sizes and the cap


def test_the_cap_is_decided_by_the_header() -> None:
    jpeg = encode(photo(60, 100), "JPEG")
    assert load(jpeg, max_pixels=6000).width == 100
    with pytest.raises(ImageTooLarge, match=r"100 x 60 = 6,000 pixels are more than the cap of 5,999"):
        load(jpeg[:700], max_pixels=5999)  # the pixels are not even there
    with pytest.raises(ImageTooLarge):
        decode(photo(60, 100), max_pixels=5999)


def test_the_smallest_side(tmp_path: Path) -> None:
    assert load(encode(photo(MIN_SIDE, 200), "PNG")).height == MIN_SIDE
    for shape in ((MIN_SIDE - 1, 200), (200, MIN_SIDE - 1), (1, 1)):
        with pytest.raises(ImageTooSmall):
            load(encode(photo(*shape), "PNG"))
        with pytest.raises(ImageTooSmall):
            load(photo(*shape))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_the_limit_of_pillow_plays_no_part(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photo(300, 400), format)
    reference = decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    monkeypatch.setattr(image_module, "_BAND_PIXELS", 20_000)
    assert np.array_equal(decode(data), reference)
    assert Image.MAX_IMAGE_PIXELS == 40_000


def test_the_original_size_is_that_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture = load(encode(photo(600, 1000), "JPEG", exif=exif), working_size=500)
    assert (picture.width, picture.height) == (600, 1000)
    assert picture.pixels.shape == (500, 300, 3)


# Pixels


def test_load_gives_what_pillow_alone_gives_for_a_plain_photo() -> None:
    data = encode(photo(700, 900), "JPEG")
    reference = Image.open(io.BytesIO(data)).resize((512, 398), Image.Resampling.BICUBIC)
    assert np.array_equal(load(data).pixels, np.asarray(reference))


@pytest.mark.parametrize("band", [1, 3000, 1 << 30])
def test_load_is_fit_after_decode_and_the_bands_leave_no_trace(
    band: int, odd: tuple[Path, dict[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = odd
    pictures = [name for name in expected if expected[name] is None and "megapixels" not in name]
    whole = {name: decode(folder / name) for name in pictures}
    monkeypatch.setattr(image_module, "_BAND_PIXELS", band)
    for name in pictures:
        assert np.array_equal(decode(folder / name), whole[name]), name
        small = load(folder / name, working_size=70).pixels
        if name == "adobe_rgb.png":  # an opaque picture's profile is applied after the resize
            assert np.abs(small.astype(int) - fit(whole[name], 70)).mean() < 1
        else:
            assert np.array_equal(small, fit(whole[name], 70)), name


def test_twins_under_all_exif_orientations_are_identical(odd: tuple[Path, Any]) -> None:
    folder = odd[0]
    for orientation in STORED:
        path = folder / f"exif_{orientation}.png"
        assert np.array_equal(decode(path), photo()), orientation
        assert np.array_equal(load(path, working_size=50).pixels, fit(photo(), 50)), orientation


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_orientation_of_other_formats_agrees_with_pillow(format: str) -> None:
    for orientation in STORED:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        data = encode(photo(), format, exif=exif)
        with Image.open(io.BytesIO(data)) as image:
            upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert np.array_equal(decode(data), upright), orientation


def test_broken_exif_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    plain = decode(encode(photo(), "JPEG"))
    nonsense = Image.Exif()
    nonsense[ORIENTATION] = 99
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\1", b"Exif\0\0MM\0*", nonsense):
        assert np.array_equal(decode(encode(photo(), "JPEG", exif=exif)), plain)
    assert np.array_equal(decode(encode(photo(), "PNG", exif=b"neither II nor MM")), photo())
    assert "EXIF data is ignored" in caplog.text


def test_the_first_frame_of_an_animation(odd: tuple[Path, Any]) -> None:
    assert np.array_equal(decode(odd[0] / "animated.webp"), photo())
    with Image.open(odd[0] / "animated.gif") as image:
        first = np.asarray(image.convert("RGB"))
        image.seek(1)
        second = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(odd[0] / "animated.gif"), first)
    assert not np.array_equal(first, second)
    pages = encode(photo(), "TIFF", save_all=True, append_images=[Image.fromarray(photo(200, 300))])
    assert np.array_equal(decode(pages), photo())


# Sources


def test_a_pil_image_takes_the_same_path_as_its_file(odd: tuple[Path, dict[str, str | None]]) -> None:
    folder, expected = odd
    for name in (name for name in expected if expected[name] is None and "megapixels" not in name):
        with Image.open(folder / name) as image:
            assert np.array_equal(load(image).pixels, load(folder / name).pixels), name
            assert image.getpixel((0, 0)) is not None  # still open
    with Image.open(folder / "truncated.jpg") as image, pytest.raises(TruncatedImage) as caught:
        load(image)
    assert caught.value.path == str(folder / "truncated.jpg")


def test_an_array_is_taken_as_it_is() -> None:
    pixels = photo(600, 800)
    assert decode(pixels) is pixels
    assert np.array_equal(load(pixels).pixels, load(encode(pixels, "PNG")).pixels)
    assert np.array_equal(load(pixels[::-1, ::-1]).pixels, load(pixels[::-1, ::-1].copy()).pixels)


# Memory


PEAK = """
import sys
from pathlib import Path
from moslens.picture import load
if sys.argv[2] == "full":
    load.REDUCED_TO = 1000
def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
before = peak()
picture = load.load(sys.argv[1])
print((peak() - before) / (picture.width * picture.height))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize(
    ("mode", "format", "orientation", "size", "least", "most"),
    [
        ("RGB", "JPEG", 1, "full", 3.9, 5.0),
        ("RGB", "JPEG", 6, "full", 3.9, 5.5),
        ("CMYK", "JPEG", 1, "full", 3.9, 5.5),
        ("RGBA", "PNG", 8, "full", 3.9, 5.5),
        ("RGB", "JPEG", 6, "reduced", 0, 1.2),  # a quarter of its size at 512
    ],
)
def test_memory_is_that_of_one_decoded_picture(
    mode: str, format: str, orientation: int, size: str, least: float, most: float, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.new(mode, (6000, 4000), (90,) * len(mode))
    image.save(tmp_path / "large", format, exif=exif)
    result = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "large"), size],
        capture_output=True,
        text=True,
        check=True,
    )
    assert least < float(result.stdout) < most


def test_no_file_stays_open_whatever_is_in_it(
    odd: tuple[Path, dict[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Metered] = []

    class Kept(Metered):
        def __init__(self, raw: Any) -> None:
            super().__init__(raw)
            opened.append(self)

    monkeypatch.setattr(image_module, "Metered", Kept)
    folder, expected = odd
    held: list[object] = []
    for name in expected:
        try:
            held.append(load(folder / name))
        except ImageError as error:
            held.append(error)  # with its traceback, as a caller may keep it
    assert len(opened) > len(expected) / 2 > 10
    assert [file.raw.name for file in opened if not file.closed] == []
