"""Readers of the photo sets LIVEC, KonIQ-10k, LIVE-FB, SPAQ, CID2013, BID, and of the generated AGIQA-3K.

A reader turns a folder in its released layout into samples. It does not open pictures or check that they exist.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from moslens.data.csv_set import cell_number, raise_problems, read_rows
from moslens.data.label_files import PictureFinder, load_mat, mat_strings, mat_vector, read_sheet
from moslens.data.records import Sample

# 246.bmp and 333.bmp of LIVEC are byte for byte the same picture.
_LIVEC_TWINS = {"246.bmp": "246.bmp", "333.bmp": "246.bmp"}
_LIVEC_TRAINING = 7
_KONIQ_PARTS = {"training": "train", "validation": "validation", "test": "test"}


def livec(root: Path) -> list[Sample]:
    """LIVEC as released, or repacked as images/ and labels.csv; both give the released names."""
    rows = _livec_repacked(root) if (root / "labels.csv").is_file() else _livec_released(root)
    return [Sample(path, name, mos, std, reference=_LIVEC_TWINS.get(name)) for path, name, mos, std in rows]


def _livec_released(root: Path) -> Iterator[tuple[Path, str, float, float]]:
    data = root / "Data"
    listed = mat_strings(load_mat(data / "AllImages_release.mat", "AllImages_release")[0])
    (mos,) = load_mat(data / "AllMOS_release.mat", "AllMOS_release")
    (std,) = load_mat(data / "AllStdDev_release.mat", "AllStdDev_release")
    scores = mat_vector(mos, len(listed), data / "AllMOS_release.mat")
    spreads = mat_vector(std, len(listed), data / "AllStdDev_release.mat")
    for name, score, spread in list(zip(listed, scores, spreads, strict=True))[_LIVEC_TRAINING:]:
        yield root / "Images" / name, name, score, spread


def _livec_repacked(root: Path) -> Iterator[tuple[Path, str, float, float]]:
    path = root / "labels.csv"
    problems: list[str] = []
    for n, row in read_rows(path, ("image", "mos", "std", "part", "orig")):
        if row["part"] == "test":
            score = cell_number(row["mos"], f"row {n}, column mos", problems)
            spread = cell_number(row["std"], f"row {n}, column std", problems, 0.0)
            yield root / "images" / row["image"], row["orig"], score, spread
    raise_problems(problems, path)


def koniq10k(root: Path) -> list[Sample]:
    """KonIQ-10k: MOS_zscore of koniq10k_scores_and_distributions.csv, pictures in 1024x768/ or 512x384/.

    If koniq10k_distributions_sets.csv lies beside it, its column ``set`` is the official split. The column SD is
    left out, because it is on the five-point scale of the raw ratings and not on that of MOS_zscore.
    """
    path = root / "koniq10k_scores_and_distributions.csv"
    pictures = PictureFinder(root, "1024x768", "512x384")
    sets = root / "koniq10k_distributions_sets.csv"
    parts = {}
    if sets.is_file():
        parts = {row["image_name"]: _KONIQ_PARTS.get(row["set"]) for _, row in read_rows(sets, ("image_name", "set"))}
    return _rows(
        path,
        read_rows(path, ("image_name", "MOS_zscore")),
        "MOS_zscore",
        lambda row: Sample(pictures[row["image_name"]], row["image_name"], 0.0, part=parts.get(row["image_name"])),
    )


def livefb(root: Path) -> list[Sample]:
    """LIVE-FB (FLIVE): labels_image.csv (name, mos), pictures below database/.

    If labels>640.csv and labels<=640_padded.csv lie beside it, they give the official split: pictures with
    a side above 640 px are the test part, ``is_valid`` marks the validation part.
    """
    path = root / "labels_image.csv"
    held, tested = root / "labels<=640_padded.csv", root / "labels>640.csv"
    parts: dict[str, str] = {}
    if held.is_file() and tested.is_file():
        for _, row in read_rows(held, ("name_image", "is_valid")):
            parts[row["name_image"]] = "validation" if row["is_valid"].lower() == "true" else "train"
        parts |= {row["name_image"]: "test" for _, row in read_rows(tested, ("name_image",))}
    return _rows(
        path,
        read_rows(path, ("name", "mos")),
        "mos",
        lambda row: Sample(root / "database" / row["name"], row["name"], 0.0, part=parts.get(row["name"])),
    )


def spaq(root: Path) -> list[Sample]:
    """SPAQ: Annotations/MOS and Image attribute scores.xlsx, pictures in TestImage/."""
    path = root / "Annotations" / "MOS and Image attribute scores.xlsx"
    pictures = PictureFinder(root, "TestImage")
    return _rows(
        path,
        read_sheet(path, ("Image name", "MOS")),
        "MOS",
        lambda row: Sample(pictures[row["Image name"]], row["Image name"], 0.0),
    )


def cid2013(root: Path) -> list[Sample]:
    """CID2013: the realigned MOS of the published workbook, pictures below IS1..IS6.

    The scene (IS_I_C01 of IS_I_C01_D01) is the reference, because its pictures show one scene with different cameras.
    """
    path = root / "CID2013 data - version 12112014.xlsx"
    pictures = PictureFinder(root, *(f"IS{i}" for i in range(1, 7)), recursive=True)
    return _rows(
        path,
        read_sheet(path, ("Source_ID", "Realigned MOS"), "CID2013 MOS"),
        "Realigned MOS",
        lambda row: Sample(
            pictures[f"{row['Source_ID']}.jpg"],
            f"{row['Source_ID']}.jpg",
            0.0,
            reference=row["Source_ID"].rpartition("_")[0],
        ),
    )


def bid(root: Path) -> list[Sample]:
    """BID: DatabaseGrades.xlsx; pictures DatabaseImage0001.JPG in ImageDatabase/ or elsewhere below the root."""
    path = root / "DatabaseGrades.xlsx"
    pictures = PictureFinder(root, "ImageDatabase", ".", recursive=True)

    def sample(row: dict[str, str]) -> Sample:
        name = f"DatabaseImage{row['Image Number']:0>4}.JPG"
        return Sample(pictures[name], name, 0.0)

    rows = read_sheet(path, ("Image Number", "Average Subjective Grade"))
    return _rows(path, rows, "Average Subjective Grade", sample)


def agiqa3k(root: Path) -> list[Sample]:
    """AGIQA-3K: mos_quality of data.csv; the kind is the generator, the first word of the name."""
    path = root / "data.csv"
    pictures = PictureFinder(root, "AGIQA-3K", ".", recursive=True)
    return _rows(
        path,
        read_rows(path, ("name", "mos_quality", "std_quality")),
        "mos_quality",
        lambda row: Sample(pictures[row["name"]], row["name"], 0.0, kind=row["name"].partition("_")[0]),
        "std_quality",
    )


def _rows(
    path: Path,
    rows: list[tuple[int, dict[str, str]]],
    score: str,
    make: Callable[[dict[str, str]], Sample],
    spread: str | None = None,
) -> list[Sample]:
    """Samples of a table: ``make`` fills all but the numbers, which are read and checked here."""
    problems: list[str] = []
    samples = []
    for n, row in rows:
        mos = cell_number(row[score], f"row {n}, column {score}", problems)
        std = None if spread is None else cell_number(row[spread], f"row {n}, column {spread}", problems, 0.0)
        samples.append(replace(make(row), mos=mos, std=std))
    raise_problems(problems, path)
    return samples
