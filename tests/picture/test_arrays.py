"""Arrays, tensors and open files: right where they can only mean one picture, else refused with the line that helps."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.hostile import encode, photo
from moslens.errors import EmptyImage, ImageTooSmall, NotAnImage, TruncatedImage, UnreadableImage, UnsupportedImage
from moslens.picture.load import decode, load

RGB = np.asarray(photo(60, 80))
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
RGBA = np.dstack([RGB, np.linspace(0, 255, GREY.size).reshape(GREY.shape).astype(np.uint8)])


def of_file(array: np.ndarray) -> np.ndarray:
    return decode(encode(array, "PNG"))


@pytest.mark.parametrize("pixels", [RGB, GREY, RGBA], ids=["rgb", "grey", "rgba"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64", "float16"])
def test_an_array_gives_the_pixels_of_its_file(pixels: np.ndarray, kind: str) -> None:
    array = (
        pixels if kind == "uint8" else 257 * pixels.astype(kind) if kind == "uint16" else (pixels / 255).astype(kind)
    )
    assert np.array_equal(decode(array), of_file(pixels))
    if pixels.ndim == 2:
        assert np.array_equal(decode(array[..., None]), of_file(pixels))


@pytest.mark.parametrize("pixels", [RGB, GREY[..., None], RGBA], ids=["rgb", "grey", "rgba"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
def test_a_tensor_has_its_channels_first(pixels: np.ndarray, kind: torch.dtype) -> None:
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    if kind.is_floating_point:
        tensor = (tensor.float() / 255).to(kind).requires_grad_(True)
    found = decode(tensor).astype(int)
    levels = 2 if kind == torch.bfloat16 else 0
    assert np.abs(found - of_file(pixels.squeeze())).max() <= levels
    if pixels.shape[2] == 1:
        assert np.array_equal(decode(tensor[0]), decode(tensor))


@pytest.mark.parametrize("kind", [">u2", "<u2", ">f4", ">f8"])
def test_arrays_in_any_byte_order(kind: str) -> None:
    array = (257 * RGB.astype(np.uint32) if "u" in kind else RGB / 255).astype(kind)
    assert np.array_equal(decode(array), RGB)


def test_views_in_any_order_of_memory() -> None:
    wide = np.zeros((60, 160, 3), np.uint8)
    wide[:, ::2] = RGB
    turned = np.ascontiguousarray(RGB.transpose(1, 0, 2)).transpose(1, 0, 2)
    backwards = np.ascontiguousarray(RGB[::-1, ::-1])[::-1, ::-1]
    for view in (wide[:, ::2], turned, backwards, np.asfortranarray(RGB)):
        assert np.array_equal(decode(view), RGB)
    tensor = torch.from_numpy(RGB.copy()).permute(2, 0, 1)
    assert np.array_equal(decode(tensor), RGB)
    assert np.array_equal(decode(tensor.contiguous()), RGB)


def test_other_arrays_by_their_interface() -> None:
    class Array:
        ndim = 3

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return RGB

    assert np.array_equal(decode(Array()), RGB)
    for data in (bytearray(encode(RGB, "PNG")), memoryview(encode(RGB, "PNG"))):
        assert np.array_equal(decode(data), RGB)


# Where the message has a line of Python, running it gives the picture.
@pytest.mark.parametrize(
    ("x", "line"),
    [
        (np.moveaxis(RGB, -1, 0), "np.moveaxis(x, 0, -1)"),
        (torch.from_numpy(RGB.copy()), "x.permute(2, 0, 1)"),
        (RGB / 127.5 - 1, "(x + 1) / 2"),
        (RGB.astype(np.float32), "x / 255"),
        (torch.from_numpy(RGB.copy()).permute(2, 0, 1) / 127.5 - 1, "(x + 1) / 2"),
        (RGB.astype(np.int64), "x.astype(np.uint8)"),
        (RGB > 127, "255 * x.astype(np.uint8)"),
        (torch.from_numpy(RGB.copy()).permute(2, 0, 1).to_sparse(), "x.to_dense()"),
    ],
)
def test_what_would_be_guessed_is_refused_with_the_line_that_converts_it(x: Any, line: str) -> None:
    with pytest.raises(UnsupportedImage) as refused:
        load(x)
    assert f"pass {line}" in str(refused.value)
    right = decode(eval(line, {"np": np, "x": x}))
    assert np.array_equal(right, RGB) or np.array_equal(right, 255 * (RGB > 127))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 64, 64, 3), np.uint8), r"2 x 64 x 64 x 3: score_many\(x\) scores each picture of a batch"),
        (torch.zeros(2, 3, 64, 64), r"2 x 3 x 64 x 64: score_many\(x\)"),
        (np.zeros((64, 64, 2), np.uint8), "this one is 64 x 64 x 2"),
        (np.zeros(64, np.uint8), "this one is 64"),
        (np.full((64, 64), np.nan), "from nan to nan"),
        (np.full((64, 64), 1.11), "from 1.11 to 1.11"),
        (np.zeros((64, 64), "complex64"), "this one is complex64"),
        (np.full((64, 64), "a"), "this one is <U1"),
        (torch.zeros(3, 64, 64, device="meta"), "a tensor must be dense, with values"),
        ([RGB], r"from list: score_many\(x\)"),
        (io.StringIO("text"), r'open\(path, "rb"\)'),
    ],
)
def test_other_things_are_refused_in_clear_words(array: Any, words: str) -> None:
    with pytest.raises(UnsupportedImage, match=words):
        load(array)


def test_floats_a_little_outside_are_clipped() -> None:
    array = RGB / 255
    array[0, 0] = -0.1
    array[5, 6] = 1.1
    assert np.array_equal(decode(array), decode(array.clip(0, 1)))


@pytest.mark.parametrize("shape", [(0, 64), (64, 0, 3), (31, 200), (200, 31, 4)])
def test_small_arrays(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageTooSmall):
        load(np.zeros(shape, np.uint8))


def test_open_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(RGB, "PNG"))
    with path.open("rb") as file:
        assert np.array_equal(decode(file), RGB)
        with pytest.raises(EmptyImage, match=r"a\.png: no bytes"):
            load(file)  # it is at its end
    with pytest.raises(UnreadableImage, match=r"a\.png: .*closed"):
        load(file)
    with path.open(encoding="latin-1") as file, pytest.raises(UnsupportedImage, match=r'open\(path, "rb"\)'):
        load(file)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "inside.png")
        archive.writestr("short.png", path.read_bytes()[:2000])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        with archive.open("inside.png") as file:
            assert np.array_equal(decode(file), RGB)
        with archive.open("short.png") as file, pytest.raises(TruncatedImage, match=r"short\.png: "):
            load(file)


def test_a_tensor_is_known_without_an_import_of_torch() -> None:
    code = (
        "import sys, numpy as np, moslens.picture.load as l; l.load(np.zeros((64, 64, 3)));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["uint16", ">u2"])
def test_eight_bits_in_sixteen_are_refused_with_the_line_that_helps(kind: str) -> None:
    with pytest.raises(UnsupportedImage, match=r"largest value is 255: for 0 to 255 pass x.astype\(np.uint8\)"):
        decode(np.full((40, 40, 3), 255, kind))
    assert not decode(np.zeros((40, 40, 3), kind)).any()
    assert (decode(np.full((40, 40, 3), 257, kind)) == 1).all()


@pytest.mark.parametrize("cap", [None, "5", 0, -1, 2.5])
def test_a_cap_that_is_no_number_of_pixels_is_no_fault_of_the_picture(cap: Any) -> None:
    for source in (RGB, encode(RGB, "JPEG"), encode(RGB, "PNG")):
        with pytest.raises(ValueError, match="max_pixels is a number of pixels from 1 up"):
            load(source, max_pixels=cap)
    assert load(RGB, max_pixels=np.int64(10_000)).width == 80


def test_a_folder_a_closed_folder_and_no_name_say_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnreadableImage, match="is a folder, not a picture"):
        load(str(tmp_path))
    with pytest.raises(UnreadableImage, match="the name is empty"):
        load("")

    def refuse(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("moslens.picture.load.os.scandir", refuse)
    with pytest.raises(UnreadableImage, match="Permission denied"):
        load(str(tmp_path))


def test_closed_files_and_names_of_bytes(tmp_path: Path) -> None:
    closed = io.BytesIO(encode(RGB, "PNG"))
    closed.close()
    with pytest.raises(UnreadableImage, match="closed file"):
        load(closed)
    (tmp_path / "a.png").write_bytes(encode(RGB, "PNG"))
    (entry,) = os.scandir(os.fsencode(tmp_path))
    assert np.array_equal(decode(entry), RGB)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(NotAnImage) as caught:
        load(entry)
    assert caught.value.path == str(tmp_path / "a.png")
