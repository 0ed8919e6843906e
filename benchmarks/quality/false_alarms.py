"""Are whole pictures called broken, are broken ones found, and what do the checks cost?

    python -m benchmarks.quality.false_alarms [--data DIR] [--photos N] [--damaged 60] [--output FILE]

Every photo of the data sets is decoded as it lies there, in a JPEG encoding and, every fourth one, in another
encoding, all drawn by a seed: Pillow, OpenCV and pillow-heif with random settings. Flat, black, white and half-black
pictures are decoded in every encoding. None may be an error. Then photos are damaged at random places, and those that
are refused are counted, whoever notices, the decoder or moslens. The cost is the time of ``load`` with the checks over
that without them, the least of several turns.
"""

import functools
import io
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks.common import add_data_option, argument_parser, interleaved, machine, write_record
from moslens.errors import ImageError
from moslens.picture.load import load

SEED = 20240611
JPEGS_PER_PHOTO, OTHERS_EVERY = 1, 4  # the others take long
TIMED_EVERY, TURNS = 25, 9
SETS = ("livec", "pristine", "cid22", "flive_voc", "clic2025", "graphics")

Encoder = Callable[[Image.Image, random.Random], bytes]
Damage = Callable[[bytes, random.Random], bytes]


def main() -> int:
    parser = argument_parser(__doc__, "false-alarms.json")
    add_data_option(parser)
    parser.add_argument("--photos", type=int, help="that many, evenly spread; default: all")
    parser.add_argument("--damaged", type=int, default=60, help="photos that are damaged in each way")
    options = parser.parse_args()
    started = time.time()
    paths = photos(options.data)
    paths = paths[:: max(1, len(paths) // options.photos)] if options.photos else paths
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    alarms: list[dict[str, str]] = []
    costs: defaultdict[str, list[float]] = defaultdict(list)

    def check(kind: str, name: str, data: bytes) -> None:
        error = refusal(data)
        counts[kind]["pictures"] += 1
        counts[kind]["errors"] += error is not None
        if error is not None:
            alarms.append({"kind": kind, "picture": name, "error": error})
            print(f"FALSE ALARM {kind} {name}: {error}", flush=True)

    for number, path in enumerate(paths):
        rng = random.Random(f"{SEED}/{path.name}")
        data = path.read_bytes()
        check(f"as it is: {path.suffix.lower()[1:]}", path.name, data)
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        drawn = rng.sample(JPEG_KINDS, JPEGS_PER_PHOTO) + rng.sample(OTHER_KINDS, number % OTHERS_EVERY == 0)
        for kind in drawn:
            encoded = ENCODERS[kind](picture, rng)
            check(kind, path.name, encoded)
            if number % TIMED_EVERY == 0:
                costs[kind].append(cost(encoded))
        if number % TIMED_EVERY == 0:
            costs["as it is"].append(cost(data))
        if number % 200 == 0:
            print(f"{number} of {len(paths)} photos, {time.time() - started:.0f} s", flush=True)
    rng = random.Random(SEED)
    for name, picture in made_up(Image.open(paths[0]).convert("RGB")):
        for kind, encode in ENCODERS.items():
            check(f"made up: {kind}", name, encode(picture, rng))
    found = detection(paths, options.damaged)
    errors = sum(count["errors"] for count in counts.values())
    write_record(
        options.output,
        {
            "seed": SEED,
            "photos": len(paths),
            "pictures": sum(count["pictures"] for count in counts.values()),
            "false_alarms": errors,
            "kinds": {kind: dict(counts[kind]) for kind in sorted(counts)},
            "alarms": alarms,
            "cost": {
                kind: {"pictures": len(ratios), "median_ratio": statistics.median(ratios)}
                for kind, ratios in sorted(costs.items())
            },
            "detection": found,
            "seconds": round(time.time() - started, 1),
            "machine": machine(),
        },
        ("pillow", "pillow-heif", "opencv-python-headless", "numpy"),
    )
    return 1 if errors else 0


def photos(data: Path) -> list[Path]:
    """All pictures of the sets that are there."""
    kinds = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
    return [path for name in SETS for path in sorted((data / name).rglob("*")) if path.suffix.lower() in kinds]


def refusal(data: bytes) -> str | None:
    """The error that a picture gets; None where it is decoded."""
    try:
        load(data)
    except ImageError as error:
        return f"{error.code}: {error}"
    return None


def cost(data: bytes) -> float:
    """The time of decoding with the checks over that without them."""

    def without() -> None:
        with ExitStack() as stack:
            for target, stand_in in (
                ("moslens.picture.formats.load_jpeg", lambda image: False),
                ("moslens.picture.formats.png_pixels", lambda stream: (stream, None)),
                ("moslens.picture.formats.refuse_missing_rows", lambda image, stream: None),
                ("moslens.picture.load.refuse_damage", lambda image, stream, name: None),
            ):
                stack.enter_context(mock.patch(target, stand_in))
            begin = time.perf_counter()
            load(data)
            seconds.append(time.perf_counter() - begin)

    seconds: list[float] = []
    with_checks = interleaved({"with": functools.partial(load, data), "without": without}, TURNS)["with"]
    return min(with_checks) / min(seconds)


def pillow(format: str, **options: Any) -> Encoder:
    """An encoder; an option that is a list is drawn from."""

    def encode(picture: Image.Image, rng: random.Random) -> bytes:
        drawn = {key: rng.choice(value) if isinstance(value, list) else value for key, value in options.items()}
        picture = picture.convert(drawn.pop("mode", "RGB"))
        file = io.BytesIO()
        picture.save(file, format, **drawn)
        return file.getvalue()

    return encode


def heic(picture: Image.Image, rng: random.Random) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=rng.choice([-1, 10, 40, 60, 80, 90, 100]))
    return file.getvalue()


def opencv(extension: str, **choices: list[int]) -> Encoder:
    """An encoder with settings drawn from ``choices``, named like OpenCV's without IMWRITE."""

    def encode(picture: Image.Image, rng: random.Random) -> bytes:
        import cv2

        settings = [
            number for name, of in choices.items() for number in (getattr(cv2, "IMWRITE_" + name), rng.choice(of))
        ]
        done, data = cv2.imencode(extension, np.asarray(picture)[..., ::-1], settings)
        assert done
        return bytes(data)

    return encode


QUALITIES = [5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98, 100]
JPEG = {"quality": QUALITIES, "subsampling": ["4:4:4", "4:2:2", "4:2:0"]}
OPENCV_JPEG = {
    "JPEG_QUALITY": QUALITIES,
    "JPEG_PROGRESSIVE": [0, 1],
    "JPEG_OPTIMIZE": [0, 1],
    "JPEG_RST_INTERVAL": [0, 0, 1, 7, 64, 1000],
}
ENCODERS: dict[str, Encoder] = {
    "jpeg baseline": pillow("JPEG", **JPEG),
    "jpeg optimised": pillow("JPEG", optimize=True, **JPEG),
    "jpeg progressive": pillow("JPEG", progressive=True, **JPEG),
    "jpeg restart rows": pillow("JPEG", restart_marker_rows=[1, 2, 5], optimize=[False, True], **JPEG),
    "jpeg restart blocks": pillow("JPEG", restart_marker_blocks=[1, 3, 8, 100], progressive=[False, True], **JPEG),
    "jpeg grey": pillow("JPEG", mode="L", quality=QUALITIES, progressive=[False, True]),
    "jpeg cmyk": pillow("JPEG", mode="CMYK", quality=QUALITIES),
    "jpeg opencv": opencv(".jpg", **OPENCV_JPEG),
    "png": pillow("PNG", mode=["RGB", "L", "P", "1", "RGBA"], compress_level=[0, 1, 6, 9], dpi=[(72, 72)]),
    "png opencv": opencv(".png", PNG_COMPRESSION=[0, 1, 3, 9], PNG_STRATEGY=[0, 1, 2, 3, 4]),
    "webp lossy": pillow("WEBP", quality=[1, 20, 50, 75, 80, 90, 100], method=[0, 2, 4]),
    "webp lossless": pillow("WEBP", lossless=True, quality=[0, 50, 80], method=[0, 2, 4]),
    "webp opencv": opencv(".webp", WEBP_QUALITY=[1, 30, 60, 80, 95, 100, 101]),
    "avif": pillow("AVIF", quality=[5, 30, 50, 75, 90, 100], speed=[8, 9, 10], subsampling=["4:4:4", "4:2:0"]),
    "heic": heic,
    "jpeg 2000": pillow("JPEG2000", irreversible=[False, True]),
    "jpeg 2000 rates": pillow("JPEG2000", quality_mode="rates", quality_layers=[[80, 40, 20, 10], [100], [30, 5]]),
    "jpeg 2000 tiles": pillow("JPEG2000", tile_size=[(128, 128), (256, 256)], num_resolutions=[2, 5, 6]),
    "jpeg 2000 precincts": pillow("JPEG2000", precinct_size=[(64, 64), (128, 128)], progression=["LRCP", "RPCL"]),
    "jpeg 2000 opencv": opencv(".jp2", JPEG2000_COMPRESSION_X1000=[20, 100, 500, 1000]),
    "tiff lzw": pillow("TIFF", compression="tiff_lzw", mode=["RGB", "L", "P"]),
    "tiff deflate": pillow("TIFF", compression="tiff_adobe_deflate"),
    "tiff packbits": pillow("TIFF", compression="packbits", mode=["RGB", "L", "1"]),
    "tiff jpeg": pillow("TIFF", compression="jpeg", quality=QUALITIES),
    "tiff raw": pillow("TIFF"),
    "tiff opencv": opencv(".tif", TIFF_COMPRESSION=[1, 5, 8, 32773]),
}
JPEG_KINDS = [kind for kind in ENCODERS if kind.startswith("jpeg ") and "2000" not in kind]
OTHER_KINDS = [kind for kind in ENCODERS if kind not in JPEG_KINDS]


def made_up(photo: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Pictures whose coded data may rightly be little but zeros, each of its own size."""
    for name, colour in (("black", 0), ("white", 255), ("grey", 128)):
        yield name, Image.new("RGB", (640, 480), (colour,) * 3)
    half = np.zeros((500, 612, 3), np.uint8)
    half[:250] = np.asarray(photo.resize((612, 250)))
    yield "lower half black", Image.fromarray(half)
    yield "upper half black", Image.fromarray(half[::-1])
    page = np.full((700, 500, 3), 255, np.uint8)
    page[60:80:4, 50:450:3] = 0
    yield "mostly white", Image.fromarray(page)
    dots = np.zeros((600, 800, 3), np.uint8)
    dots[::97, ::89] = 255
    yield "dots on black", Image.fromarray(dots)
    yield "white frame", Image.fromarray(np.pad(half[:250], ((200, 200), (200, 200), (0, 0)), constant_values=255))
    stripes = np.tile((np.arange(512) // 16 % 2 * 255).astype(np.uint8), (512, 1))
    yield "stripes", Image.fromarray(stripes).convert("RGB")


def hole(size: int) -> Damage:
    """A piece that never came: zeros in its place."""
    return lambda data, rng: replaced(data, rng, size, bytes)


def replaced(data: bytes, rng: random.Random, size: int, by: Callable[[int], bytes]) -> bytes:
    """Another content for ``size`` bytes, half of the coded ones at most, behind the header."""
    start = header_end(data)
    size = min(size, (len(data) - start) // 2)
    at = rng.randrange(start, len(data) - size - 16)
    return data[:at] + by(size) + data[at + size :]


def header_end(data: bytes) -> int:
    """About where the coded data begins."""
    for begin, mark in MARKS.items():
        if data.startswith(begin, 4 if begin == b"ftyp" else 0):
            return data.find(mark) + 32
    return len(data) // 8


MARKS = {
    b"\xff\xd8": b"\xff\xda",
    b"\x89PNG": b"IDAT",
    b"RIFF": b"VP8",
    b"ftyp": b"mdat",
    b"\0\0\0\x0cjP": b"\xff\x93",
}


def cut_and_end(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(header_end(data), len(data) - 16)] + b"\xff\xd9"


def zero_tail(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(header_end(data), len(data) - 256)
    return data[:at] + bytes(len(data) - at)


def lost(size: int) -> Damage:
    """A piece that is missing, so that the rest moved up."""
    return lambda data, rng: replaced(data, rng, size, lambda size: b"")


def noise(size: int) -> Damage:
    return lambda data, rng: replaced(data, rng, size, rng.randbytes)


def one_bit(data: bytes, rng: random.Random) -> bytes:
    return replaced(data, rng, 1, lambda size: bytes([rng.randrange(256)]))


def text_mode(data: bytes, rng: random.Random) -> bytes:
    """Line feeds became pairs, behind the header."""
    at = header_end(data)
    return data[:at] + data[at:].replace(b"\n", b"\r\n")


DAMAGE: dict[str, Damage] = {
    "a hole of 512 zeros": hole(512),
    "a hole of 4,096 zeros": hole(4096),
    "zeros from somewhere to the end": zero_tail,
    "512 bytes lost": lost(512),
    "16 bytes of noise": noise(16),
    "512 bytes of noise": noise(512),
    "one byte changed": one_bit,
    "line feeds became pairs": text_mode,
}
DAMAGED: dict[str, Encoder] = {
    "jpeg baseline": pillow("JPEG", quality=85),
    "jpeg optimised, quality 40": pillow("JPEG", quality=40, optimize=True),
    "jpeg progressive": pillow("JPEG", quality=85, progressive=True),
    "jpeg restart": pillow("JPEG", quality=85, restart_marker_rows=1),
    "png": pillow("PNG"),
    "webp lossy": pillow("WEBP", quality=80),
    "webp lossless": pillow("WEBP", lossless=True, method=2),
    "avif": pillow("AVIF", quality=75, speed=9),
    "heic": heic,
    "jpeg 2000": pillow("JPEG2000", quality_mode="rates", quality_layers=[[20]]),
    "tiff lzw": pillow("TIFF", compression="tiff_lzw"),
    "tiff deflate": pillow("TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": pillow("TIFF", compression="jpeg", quality=85),
}


def detection(paths: list[Path], number: int) -> dict[str, dict[str, dict[str, int]]]:
    """Of photos damaged in each way, how many are refused, by encoding."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    chosen = paths[:: max(1, len(paths) // number)][:number]
    for kind, encode in DAMAGED.items():
        ways = DAMAGE | ({"cut, then an end marker": cut_and_end} if kind.startswith("jpeg ") else {})
        counts = {way: {"made": 0, "refused": 0} for way in ways}
        for path in chosen:
            rng = random.Random(f"{SEED}/{kind}/{path.name}")
            with Image.open(path) as photo:
                data = encode(photo.convert("RGB").resize((512, 384)), rng)
            for way, damage in ways.items():
                broken = damage(data, rng)
                if broken != data:
                    counts[way]["made"] += 1
                    counts[way]["refused"] += refusal(broken) is not None
        found[kind] = counts
        print(kind, {way: f"{c['refused']}/{c['made']}" for way, c in counts.items()}, flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
