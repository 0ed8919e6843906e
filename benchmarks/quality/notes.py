"""Are graphics told from photos, and black-and-white photos from colour ones?

    python -m benchmarks.quality.notes --packages DIR [--data DIR] [--features FILE] [--fit] [--output FILE]

``--packages`` has a folder for each Debian package of ``TRAIN`` and ``TEST``, unpacked with ``apt-get download NAME``
and ``dpkg -x NAME_*.deb DIR/NAME``. ``--features`` keeps what was read of the pictures: where the file exists, no
picture is read again.

``--fit`` fits the network of ``moslens.picture.notes`` on graphics of ``TRAIN``, charts by matplotlib, pages of text,
and a quarter of the photos, and writes its coefficients. The hash of its file decides the part of a photo. A picture
of several packages counts once, one of a test package not at all.

Everything is then tested on graphics of ``TEST``, charts by Pillow, the graphics of the data sets, and the other
photos. Photos are also made noisy, blurred, too bright, dark, black, framed like a scan, or compressed hard (changed
photos), and get every kind of fault of ``moslens.distortions`` (faulty photos). Graphics are also compressed. Grey and
toned copies of photos have to be monochrome.
"""

import hashlib
import io
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from benchmarks.common import add_data_option, argument_parser, machine, show_targets, write_json, write_record
from moslens.distortions import KINDS, distort, draw_implementation
from moslens.errors import ImageError
from moslens.picture import notes
from moslens.picture.load import load
from moslens.picture.windows import fit as fit_size

WORKING_SIZE = 384
TRAIN = (
    "gimp-help-en", "pingus-data", "frozen-bubble-data", "tango-icon-theme", "asymptote-doc", "calligra-data", "cantor",
    "debian-handbook", "dia-common", "freeciv-data", "gnome-icon-theme", "gnucash-docs", "gnumeric-doc", "gwenview",
    "hedgewars-data", "k3b-data", "kate5-data", "kbruch", "kdenlive-data", "kgeography-data", "khangman",
    "kicad-doc-en", "kicad-doc-ja", "kig", "kile-doc", "kmymoney-common", "krusader", "kturtle", "lbreakout2-data",
    "lincity-ng-data", "lokalize", "mate-user-guide", "okular",
)  # fmt: skip
TEST = ("gnome-user-docs", "octave-doc", "inkscape-tutorials", "tuxmath-data", "solfege", "gramps")
PHOTOS = ("livec", "flive_voc", "cid22", "pristine", "clic2025")
MOST_OF_A_PACKAGE = 200
MOST_TO_TRAIN = 80  # pictures of a package
FAULTS_TO_TRAIN, FAULTS_TO_TEST = 4, 1  # versions of a photo
LARGER_SIZE = 768  # where half of the faults are made, before the picture is reduced
JPEG_SHARE = 1 / 3  # of faulty photos
MADE = 80  # charts and pages of each sort
COMPRESSED = ", JPEG"  # ends the group of a compressed graphic
TONED_EVERY = 16
LEAST_SIDE = 48  # smaller ones are parts of a user interface
FALSE_ALARMS = {"photos": 0.015, "changed": 0.02, "faulty": 0.02}
"""Of training photos, at most: the threshold is set where the last of them is met."""

HIDDEN, SEEDS, EPOCHS, BATCH, RATE, DECAY = 16, 2, 60, 256, 0.01, 1e-4
FOLDS = 5

Pixels = np.ndarray[Any, np.dtype[Any]]
Sample = tuple[str, str, Pixels]  # group, hash of the file, picture at the working size
Row = dict[str, Any]


def main() -> int:
    parser = argument_parser(__doc__, "notes.json")
    add_data_option(parser)
    parser.add_argument("--packages", type=Path, help="folder with the unpacked packages")
    parser.add_argument("--features", type=Path, help="file that keeps what was read of the pictures, for another fit")
    parser.add_argument("--fit", action="store_true", help="fit the coefficients and write them")
    options = parser.parse_args()
    if options.features and options.features.exists():
        table = json.loads(options.features.read_text("utf-8"))
    else:
        table = read_all(options.data, options.packages)
        if options.features:
            options.features.write_text(json.dumps(table), encoding="utf-8")
    if options.fit:
        fit(once(table["train graphics"], besides=table["test graphics"]), table["train photos"])
    parts = ("test graphics", "test photos", "changed photos", "faulty photos")
    found = {part: measure(table[part], is_graphic) for part in parts}
    faulty = found["faulty photos"]
    faulty["worst"] = worst(faulty["groups"])
    toned = {
        part: measure(table[part], lambda row: bool(row["monochrome"])) for part in ("test photos", "toned photos")
    }
    alarms, photos_seen = (
        sum(found[part][key] for part in ("test photos", "changed photos")) for key in ("noted", "pictures")
    )
    seconds = cost(options.data)
    met = {
        "not_a_photo on 90 % of other graphics": found["test graphics"]["share"] >= 0.9,
        "not_a_photo on at most 2 % of other photos": found["test photos"]["share"] <= 0.02,
        "not_a_photo on at most 2 % of other photos and changed ones": alarms / photos_seen <= 0.02,
        "not_a_photo on at most 2 % of other photos with a fault": faulty["share"] <= 0.02,
        "5 ms a picture": seconds <= 0.005,
    }
    show_targets(met)
    facts = {
        "working_size": WORKING_SIZE,
        "packages": {"train": TRAIN, "test": TEST},
        "not_a_photo": found,
        "monochrome": toned,
        "median_seconds": seconds,
        "met": met,
        "machine": machine(),
    }
    write_record(options.output, facts, ("numpy", "pillow", "matplotlib"))
    return 0 if all(met.values()) else 1


def read_all(data: Path, packages: Path) -> dict[str, list[Row]]:
    """The features of every picture, by part."""
    graphics = list(train_graphics(packages))
    parts: dict[str, Iterable[Sample]] = {
        "train graphics": chain(graphics, map(compressed, graphics)),
        "train photos": train_photos(data),
        "test graphics": test_graphics(data, packages),
    }
    table = {part: [read(sample) for sample in samples] for part, samples in parts.items()}
    table |= {"test photos": [], "changed photos": [], "faulty photos": [], "toned photos": []}
    for number, (name, digest, path) in enumerate(photo_files(data, train=False)):
        sample = name, digest, load(path, working_size=WORKING_SIZE).pixels
        table["test photos"].append(read(sample))
        table["changed photos"] += [read(one) for one in changes(sample, 4)]
        table["faulty photos"] += [read(one) for one in faults(path, digest, FAULTS_TO_TEST)]
        if number % TONED_EVERY == 0:
            table["toned photos"] += [read(one) for one in tones(sample)]
    return table


def once(rows: list[Row], *, besides: list[Row]) -> list[Row]:
    """The rows of pictures that ``besides`` lacks, those of a picture in several groups from the first alone."""
    others = {row["digest"] for row in besides}
    first: dict[str, str] = {}
    return [
        row
        for row in rows
        if row["digest"] not in others and first.setdefault(row["digest"], source_of(row)) == source_of(row)
    ]


def source_of(row: Row) -> str:
    """The group of a picture, compressed or not."""
    return str(row["group"]).removesuffix(COMPRESSED)


def read(sample: Sample) -> Row:
    group, digest, pixels = sample
    return {
        "group": group,
        "digest": digest,
        "features": notes.features(pixels).tolist(),
        "monochrome": notes.is_monochrome(pixels),
    }


def is_graphic(row: Row) -> bool:
    """What ``notes.is_graphic`` says of a picture with these features."""
    return notes.graphic_logit(np.array(row["features"])) > 0


def measure(rows: list[Row], holds: Callable[[Row], bool]) -> dict[str, Any]:
    """How many pictures of each group ``holds`` is true of, and the hash of the list of their hashes."""
    groups: dict[str, list[bool]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(holds(row))
    every = [one for results in groups.values() for one in results]
    return {
        "pictures": len(every),
        "noted": sum(every),
        "share": sum(every) / max(1, len(every)),
        "groups": {group: {"pictures": len(of), "noted": sum(of)} for group, of in sorted(groups.items())},
        "list_hash": hash_of(row["digest"] for row in rows),
    }


def fit(graphics: list[Row], others: list[Row]) -> None:
    """Fit the network and write its coefficients, with the counts and hashes of what they come from.

    Its threshold comes from scores of pictures that a network has not seen, one fit for each of ``FOLDS`` parts.
    """
    rows = np.array([row["features"] for row in [*graphics, *others]])
    labels = np.r_[np.ones(len(graphics)), np.zeros(len(others))]
    folds = np.array([fold_of(row) for row in [*graphics, *others]])
    scores = np.zeros(len(rows))
    for fold in range(FOLDS):
        part = folds == fold
        if part.any():
            scores[part] = notes.logits(network(rows[~part], labels[~part]), rows[part])
    kinds = np.array(["graphics"] * len(graphics) + [kind_of(row) for row in others])
    shift = max(float(np.quantile(scores[kinds == kind], 1 - most)) for kind, most in FALSE_ALARMS.items())
    weights = network(rows, labels)
    weights = weights._replace(bias=weights.bias - shift)
    caught = float((scores[: len(graphics)] > shift).mean())
    alarms = {kind: float((scores[kinds == kind] > shift).mean()) for kind in FALSE_ALARMS}
    record = {
        "command": "python -m benchmarks.quality.notes --packages DIR --fit",
        "features": {
            name: {"mean": mean, "deviation": deviation, "hidden": hidden}
            for name, mean, deviation, hidden in zip(
                notes.FEATURES,
                weights.mean.tolist(),
                weights.deviation.tolist(),
                weights.hidden.tolist(),
                strict=True,
            )
        },
        "hidden_bias": weights.hidden_bias.tolist(),
        "output": weights.output.tolist(),
        "bias": weights.bias,
        "working_size": WORKING_SIZE,
        "graphics": {"pictures": len(graphics), "list_hash": hash_of(row["digest"] for row in graphics)},
        "photos": {"pictures": len(others), "list_hash": hash_of(row["digest"] for row in others)},
        "caught_in_other_folds": caught,
        "false_alarms_in_other_folds": alarms,
    }
    write_json(notes.WEIGHTS, record)
    notes._weights.cache_clear()
    print(f"fitted on {len(graphics)} graphics and {len(others)} photos; of other folds {caught:.1%} noted, {alarms}")


def worst(groups: dict[str, dict[str, int]]) -> dict[str, float]:
    """The three groups with the largest share of notes, and that share."""
    shares = {name: row["noted"] / row["pictures"] for name, row in groups.items()}
    return dict(sorted(shares.items(), key=lambda one: -one[1])[:3])


def fold_of(row: Row) -> int:
    """The part of the training pictures for cross-validation: by package for graphics, by file for photos."""
    name = source_of(row) if source_of(row) in TRAIN else row["digest"]
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % FOLDS


def kind_of(row: Row) -> str:
    if row["group"] in PHOTOS:
        return "photos"
    return "changed" if row["group"] in CHANGES else "faulty"


def network(rows: Pixels, labels: Pixels) -> notes.Weights:
    """A network of one hidden layer, both classes of equal weight, fitted by Adam with a falling rate.

    The hidden units of ``SEEDS`` fits are put side by side, so that the output is the mean of theirs.
    """
    mean, deviation = rows.mean(0), rows.std(0) + 1e-9
    inputs = notes.standardised(rows, mean, deviation)
    share = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    fits = [_layers(_trained(inputs, labels, share, np.random.default_rng(seed))) for seed in range(SEEDS)]
    hidden, hidden_bias, output, bias = zip(*fits, strict=True)
    return notes.Weights(
        mean,
        deviation,
        np.concatenate(hidden, axis=1),
        np.concatenate(hidden_bias),
        np.concatenate(output) / SEEDS,
        float(np.mean(bias)),
    )


def _layers(values: Pixels) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """The weights of the hidden layer, its biases, the weights of the output and its bias, out of one row of values."""
    hidden, hidden_bias, output, bias = np.split(values, np.cumsum([-(2 * HIDDEN + 1) + len(values), HIDDEN, HIDDEN]))
    return hidden.reshape(-1, HIDDEN), hidden_bias, output, bias


def _trained(inputs: Pixels, labels: Pixels, share: Pixels, rng: np.random.Generator) -> Pixels:
    width = inputs.shape[1]
    values = np.concatenate([rng.normal(0, width**-0.5, width * HIDDEN), np.zeros(2 * HIDDEN + 1)])
    values[-HIDDEN - 1 : -1] = rng.normal(0, HIDDEN**-0.5, HIDDEN)
    slope, square = np.zeros((2, len(values)))
    steps = EPOCHS * -(-len(inputs) // BATCH)
    orders = (rng.permutation(len(inputs)) for _ in range(EPOCHS))
    batches = (order[start : start + BATCH] for order in orders for start in range(0, len(order), BATCH))
    for step, batch in enumerate(batches):
        gradient = _gradient(values, inputs[batch], labels[batch], share[batch])
        slope += 0.1 * (gradient - slope)
        square += 0.001 * (gradient**2 - square)
        rate = 0.5 * RATE * (1 + math.cos(math.pi * step / steps)) / (1 - 0.9 ** (step + 1))
        values -= rate * slope / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
    return values


def _gradient(values: Pixels, inputs: Pixels, labels: Pixels, share: Pixels) -> Pixels:
    """Of the logistic loss, with a penalty on weights."""
    hidden, hidden_bias, output, bias = _layers(values)
    inner = np.tanh(inputs @ hidden + hidden_bias)
    chance = 1 / (1 + np.exp(-np.clip(inner @ output + bias, -30, 30)))
    error = share * (chance - labels) / len(labels)
    back = np.outer(error, output) * (1 - inner**2)
    of_hidden = (inputs.T @ back + DECAY * hidden).ravel()
    return np.concatenate([of_hidden, back.sum(0), inner.T @ error + DECAY * output, [error.sum()]])


def photo_files(data: Path, *, train: bool) -> Iterator[tuple[str, str, Path]]:
    """Folder, hash and path of the photos of a part: a quarter for training, by the hash of the file."""
    for name in PHOTOS:
        for path in files(data / name):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if (int(digest[:8], 16) % 4 == 0) == train:
                yield name, digest, path


def train_photos(data: Path) -> Iterator[Sample]:
    """Photos, changed ones and faulty ones."""
    for name, digest, path in photo_files(data, train=True):
        sample = name, digest, load(path, working_size=WORKING_SIZE).pixels
        yield sample
        yield from changes(sample, 2)
        yield from faults(path, digest, FAULTS_TO_TRAIN)


def faults(path: Path, digest: str, count: int) -> Iterator[Sample]:
    """Versions of a photo with one fault each, all of different kinds.

    The hash of its file draws kinds, levels and programs, whether the fault is made before the picture is reduced, and
    whether a JPEG is made of the result.
    """
    rng = np.random.default_rng(int(digest[:16], 16))
    large = load(path, working_size=LARGER_SIZE).pixels
    small = fit_size(large, WORKING_SIZE)
    for number in rng.choice(len(KINDS), count, replace=False):
        kind = KINDS[number]
        level = int(rng.choice(kind.active_levels))
        program = draw_implementation(kind, rng, "all")
        source = large if rng.random() < 0.5 else small
        pixels = fit_size(distort(source, kind, level, rng, implementation=program), WORKING_SIZE)
        if rng.random() < JPEG_SHARE:
            pixels = jpeg(pixels, int(rng.integers(50, 96)))
        yield kind.name, digest, pixels


def train_graphics(packages: Path) -> Iterator[Sample]:
    for name in TRAIN:
        yield from of_package(packages, name, MOST_TO_TRAIN)
    for number in range(MADE):
        yield made("charts by matplotlib", matplotlib_chart(np.random.default_rng(number)))
        yield made("text by Pillow", text_page(np.random.default_rng(number)))
        yield made("scanned text", scanned_page(np.random.default_rng(20_000 + number)))


def test_graphics(data: Path, packages: Path) -> Iterator[Sample]:
    for name in TEST:
        for sample in of_package(packages, name, MOST_OF_A_PACKAGE):
            yield sample
            yield compressed(sample)
    for path in files(data / "graphics"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield "graphics of CID22 and CLIC", digest, load(path, working_size=WORKING_SIZE).pixels
    for number in range(MADE):
        yield made("charts by Pillow", pillow_chart(np.random.default_rng(10_000 + number)))


def of_package(packages: Path, name: str, most: int) -> Iterator[Sample]:
    """At most so many distinct pictures of a package, spread evenly over their hashes."""
    found = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files(packages / name)}
    usable = []
    for digest, path in sorted(found.items()):
        try:
            with Image.open(path) as image:
                large = min(image.size) >= LEAST_SIDE
        except OSError:
            continue
        if large:
            usable.append((digest, path))
    for digest, path in usable[:: max(1, -(-len(usable) // most))]:
        try:
            yield name, digest, load(path, working_size=WORKING_SIZE).pixels
        except ImageError:
            continue


def made(group: str, image: Image.Image) -> Sample:
    pixels = load(image, working_size=WORKING_SIZE).pixels
    return group, hashlib.sha256(pixels.tobytes()).hexdigest(), pixels


def compressed(sample: Sample) -> Sample:
    """The picture as a JPEG, its quality drawn by its hash."""
    group, digest, pixels = sample
    return f"{group}{COMPRESSED}", digest, jpeg(pixels, 40 + int(digest[:4], 16) % 56)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def changes(sample: Sample, every: int) -> Iterator[Sample]:
    """One changed copy of one photo of so many, the kind drawn by its hash."""
    _, digest, pixels = sample
    draw = int(digest[8:12], 16)
    if draw % every:
        return
    kind = list(CHANGES)[draw // every % len(CHANGES)]
    yield kind, digest, CHANGES[kind](pixels, np.random.default_rng(draw))


def _noisy(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return (pixels + rng.normal(0, rng.uniform(8, 40), pixels.shape)).clip(0, 255).astype(np.uint8)


def _blurred(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(2, 12))))


def _bright(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return (pixels * rng.uniform(1.6, 3.5)).clip(0, 255).astype(np.uint8)


def _dark(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    dark = pixels * rng.uniform(0.05, 0.3) + rng.normal(0, 2, pixels.shape)
    return jpeg(dark.clip(0, 255).astype(np.uint8), 85)


def _black(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    black = np.abs(rng.normal(0, rng.uniform(1.0, 4), pixels.shape)).clip(0, 255)
    return jpeg(black.astype(np.uint8), 85)


def _compressed_hard(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return jpeg(pixels, int(rng.integers(8, 30)))


def _scanned(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A print on the white ground of a scanner, with its paper grain."""
    framed = np.array(ImageOps.expand(Image.fromarray(pixels), int(rng.integers(8, 30)), (246, 244, 238)))
    return jpeg((framed + rng.normal(0, 1.5, framed.shape)).clip(0, 255).astype(np.uint8), 88)


CHANGES: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "noisy": _noisy, "blurred": _blurred, "overexposed": _bright, "night": _dark, "black": _black,
    "compressed hard": _compressed_hard, "scanned": _scanned,
}  # fmt: skip


def tones(sample: Sample) -> Iterator[Sample]:
    """A grey copy, a sepia one and one with blue shadows, all through a JPEG with subsampled colour."""
    _, digest, pixels = sample
    grey = Image.fromarray(pixels).convert("L")
    yield "grey", digest, jpeg(np.array(grey.convert("RGB")), 75)
    yield "sepia", digest, jpeg(np.array(ImageOps.colorize(grey, (30, 18, 8), (255, 240, 210))), 75)
    blue = ImageOps.colorize(grey, (8, 14, 34), (250, 248, 240), mid=(120, 126, 136))
    yield "blue shadows", digest, jpeg(np.array(blue), 75)


def matplotlib_chart(rng: np.random.Generator) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(rng.uniform(4, 9), rng.uniform(3, 6)), dpi=int(rng.integers(70, 130)))
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    kind = int(rng.integers(5))
    values = rng.normal(size=(int(rng.integers(2, 5)), int(rng.integers(5, 60)))).cumsum(1)
    if kind == 0:
        axes.plot(values.T)
    elif kind == 1:
        axes.bar(range(values.shape[1]), values[0])
    elif kind == 2:
        axes.scatter(values[0], values[1], c=values[0])
    elif kind == 3:
        axes.imshow(rng.random((12, 12)), cmap="viridis")
    else:
        axes.pie(rng.random(int(rng.integers(3, 8))))
    axes.set_title(f"Series {int(rng.integers(100))}")
    if rng.random() < 0.5:
        axes.grid()
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


WORDS = (
    "the", "score", "of", "a", "photo", "is", "what", "people", "think", "when", "they", "see", "it", "on", "screens",
)  # fmt: skip


def text_page(rng: np.random.Generator) -> Image.Image:
    """A page of words, dark on light or light on dark."""
    width, height = (int(side) for side in rng.integers(400, 1600, 2))
    light, dark = (int(rng.integers(*span)) for span in ((225, 256), (0, 60)))
    ground, ink = (light, dark) if rng.random() < 0.75 else (dark, light)
    page = Image.new("RGB", (width, height), (ground,) * 3)
    pen = ImageDraw.Draw(page)
    size = int(rng.integers(11, 34))
    font = ImageFont.load_default(size)
    top = size
    while top < height - 2 * size:
        words = rng.choice(WORDS, int(width / size / 3) + 1)
        if rng.random() < 0.85:
            pen.text((size, top), " ".join(words), fill=(ink,) * 3, font=font)
        top += int(1.5 * size)
    return page


def scanned_page(rng: np.random.Generator) -> Image.Image:
    """A page of words on paper with a tint and a grain, turned a little and slightly out of focus."""
    page = text_page(rng).rotate(rng.uniform(-2, 2), Image.Resampling.BICUBIC, expand=False, fillcolor="white")
    page = page.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    shade = np.linspace(1, rng.uniform(0.8, 1), page.width)[:, None]
    grained = np.array(page) * rng.uniform(0.85, 1, 3) * shade + rng.normal(0, rng.uniform(1, 6), (*page.size[::-1], 3))
    return Image.fromarray(jpeg(grained.clip(0, 255).astype(np.uint8), int(rng.integers(50, 95))))


def pillow_chart(rng: np.random.Generator) -> Image.Image:
    """Bars, a line or boxes with arrows, and a caption."""
    width, height = (int(side) for side in rng.integers(300, 1400, 2))
    image = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(230, 256, 3)))
    pen = ImageDraw.Draw(image)

    def ink() -> tuple[int, ...]:
        return tuple(int(value) for value in rng.integers(0, 220, 3))

    kind = int(rng.integers(3))
    if kind == 0:
        count = int(rng.integers(3, 20))
        for number in range(count):
            left = width * (number + 0.2) / count
            pen.rectangle((left, height * rng.uniform(0.1, 0.8), left + 0.6 * width / count, height * 0.9), fill=ink())
    elif kind == 1:
        for _ in range(int(rng.integers(1, 5))):
            heights = height / 2 + rng.normal(0, height / 30, 80).cumsum()
            pen.line(list(zip(np.linspace(0, width, 80), heights, strict=True)), fill=ink(), width=3)
    else:
        for _ in range(int(rng.integers(3, 9))):
            x, y = rng.uniform(0, width * 0.8), rng.uniform(0, height * 0.8)
            pen.rectangle((x, y, x + width * 0.18, y + height * 0.15), fill=ink(), outline="black", width=2)
            pen.line((x, y, width / 2, height / 2), fill="black", width=2)
    pen.text((width // 20, height // 40), " ".join(rng.choice(WORDS, 5)), fill="black", font=ImageFont.load_default(18))
    return image


def cost(data: Path) -> float:
    """The median processor time of all notes of a picture."""
    seconds = []
    for path in files(data / "livec")[:60]:
        pixels = load(path, working_size=WORKING_SIZE).pixels
        start = time.process_time()
        notes.notes_of(pixels, 3000, 4000)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def files(folder: Path) -> list[Path]:
    kinds = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp"}
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in kinds and path.is_file()]


def hash_of(digests: Any) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]


if __name__ == "__main__":
    raise SystemExit(main())
