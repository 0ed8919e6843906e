"""Ratings inside photos, written by Pillow and by hand."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from helpers.tiny_model import make_photo
from moslens.errors import SidecarError
from moslens.rating.embedded import embedded_rating
from moslens.rating.xmp import MICROSOFT_RATING, OUR_RATING, RATING, Packet

EXIF_RATING = 0x4746


def packet(rating: str) -> bytes:
    return Packet().patched({RATING: rating})


def jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    make_photo(64, 48, seed=1).save(file, "JPEG", **options)
    return file.getvalue()


def png(path: Path, xmp: bytes) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    make_photo(64, 48, seed=1).save(path, "PNG", pnginfo=info)


def png_behind_the_pixels(path: Path, xmp: bytes) -> None:
    plain = io.BytesIO()
    make_photo(64, 48, seed=1).save(plain, "PNG")
    png(path, xmp)
    data, whole = plain.getvalue(), path.read_bytes()
    at = whole.index(b"iTXt") - 4
    text = whole[at : at + 12 + struct.unpack_from(">I", whole, at)[0]]
    path.write_bytes(data[:-12] + text + data[-12:])


def tiff(path: Path, xmp: bytes) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700] = xmp
    tags.tagtype[700] = 1
    make_photo(64, 48, seed=1).save(path, "TIFF", tiffinfo=tags)


def saved(suffix: str) -> Callable[[Path, bytes], None]:
    def save(path: Path, xmp: bytes) -> None:
        make_photo(64, 48, seed=1).save(path.with_suffix(suffix), xmp=xmp)
        path.with_suffix(suffix).replace(path)

    return save


def some_raw(path: Path, xmp: bytes) -> None:
    path.write_bytes(b"FUJIFILMCCD-RAW" + bytes((1 << 20) - 20) + xmp + bytes(1000))


WRITERS = {
    "jpeg": saved(".jpg"),
    "webp": saved(".webp"),
    "avif": saved(".avif"),
    "png": png,
    "png end": png_behind_the_pixels,
}
WRITERS |= {"tiff": tiff, "raw": some_raw}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("rating", "found"), [("3", "3"), ("-1", "-1"), ("0", None), ("", None)])
def test_xmp_in_every_format(kind: str, rating: str, found: str | None, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    WRITERS[kind](path, packet(rating))
    assert embedded_rating(str(path)) == found


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".tif", ".png"])
@pytest.mark.parametrize(("rating", "found"), [(4, "4"), (0, None)])
def test_exif(suffix: str, rating: int, found: str | None, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    exif = Image.Exif()
    exif[EXIF_RATING] = rating
    make_photo(64, 48, seed=1).save(path, exif=exif)
    assert embedded_rating(str(path)) == found


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif"])
def test_without_a_rating(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    make_photo(64, 48, seed=1).save(path)
    assert embedded_rating(str(path)) is None


@pytest.mark.parametrize("namespace", ["http://ns.microsoft.com/photo/1.0/", "http://ns.microsoft.com/photo/1.0"])
def test_the_rating_of_windows_counts(namespace: str, tmp_path: Path) -> None:
    """exiftool leaves the last slash out."""
    path = tmp_path / "photo.jpg"
    text = packet("0").decode().replace("<rdf:Description", f'<rdf:Description xmlns:M="{namespace}"')
    path.write_bytes(jpeg(xmp=text.replace("rdf:about", 'M:Rating="75" rdf:about').encode()))
    assert embedded_rating(str(path)) == "75"
    element = text.replace("/>", "><M:Rating>50</M:Rating></rdf:Description>", 1)
    assert Packet(element.encode()).get(MICROSOFT_RATING) == "50"


def test_extended_xmp_which_is_in_pieces_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    data = jpeg(xmp=packet("2"))
    piece = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"<rdf:RDF\xff</rdf:RDF>"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece + data[2:])
    assert embedded_rating(str(path)) == "2"


def test_a_file_that_did_not_decode_is_only_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(xmp=packet("5")))
    monkeypatch.setattr("moslens.rating.embedded.read_header", lambda *_: pytest.fail("opened"))
    assert embedded_rating(str(path), decodes=False) == "5"


@pytest.mark.parametrize("xmp", [b"<rdf:RDF", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', packet("3")[:-20]])
def test_xmp_that_cannot_be_read_is_an_error(xmp: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(xmp=xmp))
    with pytest.raises(SidecarError, match="its XMP cannot be read") as refused:
        embedded_rating(str(path))
    assert refused.value.path == str(path)


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match="cannot be read: No such file"):
        embedded_rating(str(tmp_path / "gone.jpg"))


def test_a_rating_of_moslens_that_a_program_copied_into_an_export_is_no_persons(tmp_path: Path) -> None:
    """As darktable exports a photo: the rating in EXIF and in XMP, with the properties of moslens of its sidecar."""
    exif = Image.Exif()
    cases = (("4", 4, "4", None), ("4", 4, "2", "2"), ("-1", 0, "-1", None), ("4", 3, "4", "3"))
    for ours, exif_rating, rating, found in cases:
        exif[EXIF_RATING] = exif_rating
        xmp = Packet().patched({RATING: rating, OUR_RATING: ours})
        (tmp_path / "a.jpg").write_bytes(jpeg(exif=exif, xmp=xmp))
        assert embedded_rating(str(tmp_path / "a.jpg")) == found
