"""Readers of the sets made from reference pictures: LIVE, CSIQ, TID2013, KADID-10k, PIPAL.

A reader turns a folder in its released layout into samples. It does not open pictures or check that they exist.
Scores that fall with quality (DMOS of LIVE and CSIQ) are negated.
"""

import re
from pathlib import Path

from moslens.data.cards import find_card
from moslens.data.csv_set import cell_number, raise_problems, read_rows
from moslens.data.label_files import PictureFinder, load_mat, mat_strings, mat_vector, read_fields, read_sheet
from moslens.data.records import Sample
from moslens.errors import DatasetError

_LIVE_FOLDERS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))
_CSIQ_KINDS = {
    "noise": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}
_NUMBERED = re.compile(r"([A-Z]\d+)_(\d+)_(\d+)\.\w+", re.IGNORECASE)


def live(root: Path) -> list[Sample]:
    """LIVE release 2 with the realigned DMOS; copies of the references in the folders are left out."""
    path = root / "dmos_realigned.mat"
    dmos, flags, spread = load_mat(path, "dmos_new", "orgs", "dmos_std")
    names = [f"{folder}/img{i}.bmp" for folder, count in _LIVE_FOLDERS for i in range(1, count + 1)]
    references = mat_strings(load_mat(root / "refnames_all.mat", "refnames_all")[0])
    if len(references) != len(names):
        raise DatasetError(f"{len(references)} names, expected {len(names)}", root / "refnames_all.mat")
    scores, stds, original = (mat_vector(column, len(names), path) for column in (dmos, spread, flags))
    return [
        Sample(root / name, name, -score, std, reference, kind=name.partition("/")[0])
        for name, score, std, reference, copy in zip(names, scores, stds, references, original, strict=True)
        if not copy
    ]


def csiq(root: Path) -> list[Sample]:
    """CSIQ: csiq.DMOS.xlsx and dst_imgs/KIND/PICTURE.KIND.LEVEL.png."""
    path = root / "csiq.DMOS.xlsx"
    columns = ("image", "dst_type", "dst_lev", "dmos_std", "dmos")
    places = {folder: PictureFinder(root, f"dst_imgs/{folder}") for folder, _ in _CSIQ_KINDS.values()}
    problems: list[str] = []
    samples = []
    for n, row in read_sheet(path, columns, "all_by_image"):
        if not row["image"]:
            continue
        if row["dst_type"] not in _CSIQ_KINDS:
            problems.append(f"row {n}, column dst_type: {row['dst_type']!r} is not a distortion of CSIQ")
            continue
        folder, token = _CSIQ_KINDS[row["dst_type"]]
        dmos = cell_number(row["dmos"], f"row {n}, column dmos", problems)
        std = cell_number(row["dmos_std"], f"row {n}, column dmos_std", problems, 0.0)
        name = f"{row['image']}.{token}.{row['dst_lev']}.png"
        level = int(row["dst_lev"]) if row["dst_lev"].isdecimal() else None
        samples.append(
            Sample(places[folder][name], f"{folder}/{name}", -dmos, std, f"{row['image']}.png", folder, level)
        )
    raise_problems(problems, path)
    return samples


def tid2013(root: Path) -> list[Sample]:
    """TID2013: mos_with_names.txt (score, name), mos_std.txt in the same order, distorted_images/."""
    path = root / "mos_with_names.txt"
    rows, spread = read_fields(path, 2), read_fields(root / "mos_std.txt", 1)
    if len(rows) != len(spread):
        raise DatasetError(f"{len(spread)} lines for {len(rows)} scores", root / "mos_std.txt")
    pictures, kinds = PictureFinder(root, "distorted_images"), find_card("tid2013").kinds
    problems: list[str] = []
    samples = []
    for (n, (score, written)), (m, (deviation,)) in zip(rows, spread, strict=True):
        # The label file and the file names spell I01_01_1.bmp with an upper or lower case i.
        name = written[:1].upper() + written[1:]
        reference, kind, level = _numbered(name, kinds, f"line {n}", problems)
        mos = cell_number(score, f"line {n}, score", problems)
        std = cell_number(deviation, f"mos_std.txt line {m}", problems, 0.0)
        samples.append(Sample(pictures[name], name, mos, std, reference, kind, level))
    raise_problems(problems, path)
    return samples


def kadid10k(root: Path) -> list[Sample]:
    """KADID-10k: dmos.csv (dist_img, ref_img, dmos, var) and images/.

    The column dmos rises with quality, so it is a MOS. The column var holds standard deviations: thirty integer
    ratings with mean 4.57 can have a standard deviation of 0.496 but not that variance, and so with 4.33 and 0.869.
    """
    path = root / "dmos.csv"
    pictures, kinds = PictureFinder(root, "images"), find_card("kadid10k").kinds
    problems: list[str] = []
    samples = []
    for n, row in read_rows(path, ("dist_img", "ref_img", "dmos", "var")):
        name = row["dist_img"]
        _, kind, level = _numbered(name, kinds, f"row {n}, column dist_img", problems)
        mos = cell_number(row["dmos"], f"row {n}, column dmos", problems)
        std = cell_number(row["var"], f"row {n}, column var", problems, 0.0)
        samples.append(Sample(pictures[name], name, mos, std, row["ref_img"], kind, level))
    raise_problems(problems, path)
    return samples


def pipal(root: Path) -> list[Sample]:
    """PIPAL's public training part: Train_Label/*.txt (name,Elo score) and the distortion folders."""
    labels = sorted((root / "Train_Label").rglob("*.txt"))
    if not labels:
        raise DatasetError("no .txt file with labels", root / "Train_Label")
    pictures = PictureFinder(root, *(f"Distortion_{i}" for i in range(1, 5)), "Train_Dist", recursive=True)
    samples = []
    for path in labels:
        problems: list[str] = []
        for n, (name, score) in read_fields(path, 2, ","):
            match = _NUMBERED.fullmatch(name)
            if match is None:
                problems.append(f"line {n}: {name!r} is not named A0000_00_00.bmp")
                continue
            mos = cell_number(score, f"line {n}, score", problems)
            samples.append(Sample(pictures[name], name, mos, None, f"{match[1]}.bmp", match[2]))
        raise_problems(problems, path)
    return samples


def _numbered(
    name: str, kinds: tuple[str, ...], where: str, problems: list[str]
) -> tuple[str | None, str | None, int | None]:
    """Reference, kind and level from a name such as I01_02_3.bmp."""
    match = _NUMBERED.fullmatch(name)
    if match is None or not 1 <= int(match[2]) <= len(kinds):
        problems.append(f"{where}: {name!r} is not named REFERENCE_KIND_LEVEL with a kind of 1..{len(kinds)}")
        return None, None, None
    return match[1].upper(), kinds[int(match[2]) - 1], int(match[3])
