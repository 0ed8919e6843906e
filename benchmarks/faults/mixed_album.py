"""A folder of photos as people have them: every format, odd names, bursts, broken files, sidecars of all sorts."""

import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

LONGER_SIDE = 320
LIGHTROOM, LOCKED = "lightroom", "locked"
"""A folder whose sidecars are named as Lightroom does, and one that is read-only."""

UNKNOWN = 'xmlns:lab="urn:example:lab" lab:note="kept as it is"'
"""A property of a program that nobody knows, in all sidecars that are whole."""

_FOLDERS = (*[""] * 3, *["trip"] * 4, *[LIGHTROOM] * 2, LOCKED)
_NAMES = (
    "two words.jpg",
    "\"quoted\" 'twice'.jpg",
    "new\nline.jpg",
    "-dash.jpg",
    "写真 é.jpg",
    b"latin \xe4.jpg".decode("utf-8", "surrogateescape"),
    "a.xmp.jpg",
    "%41 &amp; <b>.jpg",
    "#1.JPG",
    "double..jpg",
)
_SIDECAR = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"%s
   %s><xmp:Label>Red</xmp:Label></rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<!-- %d -->
"""


def make_album(folder: Path, photos: Path, count: int, rng: random.Random) -> None:
    """Write ``count`` pictures or a few more from those in ``photos``, and the files that lie beside them."""
    sources = sorted(path for path in photos.iterdir() if path.suffix.lower() in (".jpg", ".png", ".webp"))
    for name in set(_FOLDERS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pictures: list[Path] = []
    while len(pictures) < count:
        place = folder / rng.choice(_FOLDERS) / f"{len(pictures):04}"
        with Image.open(rng.choice(sources)) as opened:
            photo = opened.convert("RGB")
        photo.thumbnail((LONGER_SIDE, LONGER_SIDE))
        pictures += rng.choice(_KINDS)(photo, place, rng)
    for picture in pictures:
        if rng.random() < 0.5:
            _write_sidecar(picture, rng)
    (folder / LOCKED).chmod(0o555)


def _burst(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    from helpers.bursts import exif, frame

    made = []
    for shot in range(3):
        made.append(place.with_name(f"{place.name}-{shot}.jpg"))
        moved = frame(photo, across=0.02 * shot, stops=-0.3 * shot)
        moved.save(made[-1], quality=90, exif=exif("2024:05:01 12:00:00", subseconds=str(shot)))
    return made


def _turned(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    turned = Image.Exif()
    turned[0x0112] = rng.choice((1, 3, 6, 8))
    photo.save(place.with_suffix(".jpg"), exif=turned)
    return [place.with_suffix(".jpg")]


def _with_raw(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    """A JPEG beside bytes that stand for its raw file, of which a walk reads the name alone."""
    photo.save(place.with_suffix(".jpg"))
    place.with_suffix(".cr2").write_bytes(b"II*\0\x10\0\0\0CR" + rng.randbytes(2000))
    return [place.with_suffix(".jpg")]


def _sizes(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    made = []
    for side in (320, 200):
        made.append(place.with_name(f"{place.name}-{side}.jpg"))
        photo.resize((side, side * photo.height // photo.width)).save(made[-1])
    return made


def _twins(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    made = [place.with_suffix(".jpg"), place.with_name(f"{place.name} copy.jpg")]
    photo.save(made[0])
    shutil.copy2(*made)
    return made


def _broken(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    stream = io.BytesIO()
    photo.save(stream, "JPEG")
    data = stream.getvalue()
    place.with_suffix(".jpg").write_bytes(rng.choice((b"", b"no picture", data[: len(data) // 2])))
    return [place.with_suffix(".jpg")]


def _odd_name(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    made = place / rng.choice(_NAMES)
    place.mkdir()
    photo.save(made, "JPEG")
    return [made]


def _other_format(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    made = place.with_suffix(rng.choice((".png", ".webp", ".tif", ".avif", ".heic")))
    photo.save(made)
    return [made]


def _grey(photo: Image.Image, place: Path, rng: random.Random) -> list[Path]:
    from helpers.hostile import png_16

    grey = photo.convert("L")
    if rng.random() < 0.5:
        grey.save(place.with_suffix(".jpg"))
        return [place.with_suffix(".jpg")]
    place.with_suffix(".png").write_bytes(png_16(np.asarray(grey).astype(np.uint16) * 257))
    return [place.with_suffix(".png")]


_KINDS: tuple[Callable[[Image.Image, Path, random.Random], list[Path]], ...] = (
    *(_burst, _burst, _turned, _turned, _with_raw),
    *(_sizes, _twins, _broken, _odd_name, _other_format, _grey),
)


def _write_sidecar(picture: Path, rng: random.Random) -> None:
    """A sidecar by the habit of its folder: rated by a person or not, of two versions, in UTF-16, read-only, broken."""
    rating = rng.choice(("", "", "", ' xmp:Rating="0"', ' xmp:Rating="3"', ' xmp:Rating="-1"'))
    text = _SIDECAR % (rating, UNKNOWN, rng.randrange(1 << 32))
    lightroom = picture.parent.name == LIGHTROOM
    sidecar = picture.with_suffix(".xmp") if lightroom else picture.with_name(f"{picture.name}.xmp")
    how = rng.choice((*["plain"] * 16, "versions", "utf-16", "read-only", "broken"))
    if how == "versions":
        picture.with_name(f"{picture.stem}_01{picture.suffix}.xmp").write_text(text, "utf-8")
    data = text.replace("UTF-8", "UTF-16").encode("utf-16") if how == "utf-16" else text.encode()
    sidecar.write_bytes(data[:40] if how == "broken" else data)
    if how == "read-only":
        sidecar.chmod(0o444)
