"""Every other data set in a tree written as its release is laid out, a few pictures each."""

import numpy as np
import pytest
from openpyxl import Workbook
from scipy.io import savemat

from moslens.data.sets import check_dataset, load_dataset
from moslens.data.split import official_split
from moslens.errors import DatasetError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"picture")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def workbook(path, rows, sheet="Sheet1", before=0, indent=0):
    book = Workbook()
    book.active.title = sheet
    for _ in range(before):
        book.active.append(["notes"])
    for row in rows:
        book.active.append([None] * indent + list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def facts(data):
    return [(s.name, s.mos, s.std, s.reference, s.kind, s.level, s.part) for s in data.samples]


def check_is_clean_but_for_counts(name, root):
    check = check_dataset(name, root)
    assert check.missing == ()
    assert check.surplus == ()
    assert all("expected" in problem for problem in check.problems)
    return check


def cells(values):
    array = np.empty((1, len(values)), dtype=object)
    array[0, :] = values
    return array


def make_live(root):
    folders = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    names = [f"{folder}/img{i}.bmp" for folder, count in folders.items() for i in range(1, count + 1)]
    copies = np.ones((1, 982), dtype=np.uint8)
    dmos = np.zeros((1, 982))
    for i, score in ((0, 30.5), (227, -2.5), (981, 105.0)):
        copies[0, i], dmos[0, i] = 0, score
    root.mkdir(exist_ok=True)
    savemat(root / "dmos_realigned.mat", {"dmos_new": dmos, "orgs": copies, "dmos_std": np.full((1, 982), 7.0)})
    savemat(root / "refnames_all.mat", {"refnames_all": cells([f"ref{i % 29}.bmp" for i in range(982)])})
    touch(root, *names, "jp2k/info.txt")


def test_live(tmp_path):
    make_live(tmp_path)
    data = load_dataset("live", tmp_path)
    assert facts(data) == [
        ("fastfading/img174.bmp", -105.0, 7.0, "ref24.bmp", "fastfading", None, None),
        ("jp2k/img1.bmp", -30.5, 7.0, "ref0.bmp", "jp2k", None, None),
        ("jpeg/img1.bmp", 2.5, 7.0, "ref24.bmp", "jpeg", None, None),
    ]
    assert data.card.mos_range == (-120.0, 10.0)
    check_is_clean_but_for_counts("live", tmp_path)
    savemat(tmp_path / "refnames_all.mat", {"refnames_all": cells(["a.bmp"])})
    with pytest.raises(DatasetError, match="1 names, expected 982"):
        load_dataset("live", tmp_path)


CSIQ_HEADER = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]


def test_csiq(tmp_path):
    rows = [
        CSIQ_HEADER,
        [1600, 1, "noise", 1, 0.05, 0.062],
        ["aerial_city", 3, "jpeg 2000", 5, 0.08, 0.9],
        ["aerial_city", 6, "contrast", 2, 0.01, 0.2],
    ]
    workbook(tmp_path / "csiq.DMOS.xlsx", rows, "all_by_image", before=3, indent=3)
    touch(
        tmp_path / "dst_imgs",
        "awgn/1600.AWGN.1.png",
        "jpeg2000/aerial_city.JPEG2000.5.png",
        "contrast/aerial_city.contrast.2.png",
    )
    data = load_dataset("csiq", tmp_path)
    assert facts(data) == [
        ("awgn/1600.AWGN.1.png", -0.062, 0.05, "1600.png", "awgn", 1, None),
        ("contrast/aerial_city.contrast.2.png", -0.2, 0.01, "aerial_city.png", "contrast", 2, None),
        ("jpeg2000/aerial_city.jpeg2000.5.png", -0.9, 0.08, "aerial_city.png", "jpeg2000", 5, None),
    ]
    assert data.samples[2].path.name == "aerial_city.JPEG2000.5.png"
    check_is_clean_but_for_counts("csiq", tmp_path)


def test_csiq_names_the_row_and_column_of_a_wrong_cell(tmp_path):
    rows = [CSIQ_HEADER, [1600, 1, "fog", 1, 0.05, 0.06], [1600, 1, "noise", 1, 0.05, "n/a"]]
    workbook(tmp_path / "csiq.DMOS.xlsx", rows, "all_by_image")
    with pytest.raises(DatasetError, match="'fog' is not a distortion") as caught:
        load_dataset("csiq", tmp_path)
    assert "row 3, column dmos: 'n/a' is not a number" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"not a workbook"), "not a readable xlsx"),
        (lambda path: workbook(path, [CSIQ_HEADER]), "no sheet 'all_by_image'; it has Sheet1"),
        (lambda path: workbook(path, [["image", "dmos"]], "all_by_image"), "no row with the columns image"),
    ],
)
def test_broken_workbooks(tmp_path, make, words):
    make(tmp_path / "csiq.DMOS.xlsx")
    with pytest.raises(DatasetError, match=words):
        load_dataset("csiq", tmp_path)


def test_tid2013(tmp_path):
    write(tmp_path / "mos_with_names.txt", "5.51429 I01_01_1.bmp\n3.2 i25_24_5.bmp\n")
    write(tmp_path / "mos_std.txt", "0.13\n0.2\n")
    touch(tmp_path / "distorted_images", "i01_01_1.bmp", "I25_24_5.bmp")
    data = load_dataset("tid2013", tmp_path)
    assert facts(data) == [
        ("I01_01_1.bmp", 5.51429, 0.13, "I01", "additive Gaussian noise", 1, None),
        ("I25_24_5.bmp", 3.2, 0.2, "I25", "sparse sampling", 5, None),
    ]
    assert data.samples[0].path.name == "i01_01_1.bmp"
    check_is_clean_but_for_counts("tid2013", tmp_path)
    write(tmp_path / "mos_with_names.txt", "5.5 I01_25_1.bmp\nbad I01_01_1.bmp\n")
    with pytest.raises(DatasetError, match=r"line 1: 'I01_25_1\.bmp' is not named") as caught:
        load_dataset("tid2013", tmp_path)
    assert "line 2, score: 'bad' is not a number" in str(caught.value)
    write(tmp_path / "mos_with_names.txt", "5.5\n")
    with pytest.raises(DatasetError, match="line 1: 1 fields, expected 2"):
        load_dataset("tid2013", tmp_path)


def test_kadid10k(tmp_path):
    write(
        tmp_path / "dmos.csv",
        "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.496\nI02_25_05.png,I02.png,1,0\n",
    )
    touch(tmp_path / "images", "I01_01_01.png", "I02_25_05.png", "I01.png", "I02.png")
    data = load_dataset("kadid", tmp_path)
    assert facts(data) == [
        ("I01_01_01.png", 4.57, 0.496, "I01.png", "gaussian blur", 1, None),
        ("I02_25_05.png", 1.0, 0.0, "I02.png", "contrast", 5, None),
    ]
    check_is_clean_but_for_counts("kadid10k", tmp_path)


def test_koniq10k_with_and_without_its_official_split(tmp_path):
    write(
        tmp_path / "koniq10k_scores_and_distributions.csv",
        "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n"
        "1.jpg,0,0,25,73,7,105,3.8,0.5,70.5\n2.jpg,0,3,45,47,1,96,3.4,0.6,60\n3.jpg,9,9,9,9,9,45,3,1,50\n",
    )
    touch(tmp_path / "512x384", "1.jpg", "2.jpg", "3.jpg")
    data = load_dataset("koniq", tmp_path)
    assert [(s.name, s.mos, s.part) for s in data.samples] == [
        ("1.jpg", 70.5, None),
        ("2.jpg", 60.0, None),
        ("3.jpg", 50.0, None),
    ]
    with pytest.raises(DatasetError, match="no official split"):
        official_split(data)
    write(
        tmp_path / "koniq10k_distributions_sets.csv",
        "image_name,MOS,set\n1.jpg,1,training\n2.jpg,1,validation\n3.jpg,1,test\n",
    )
    split = official_split(load_dataset("koniq10k", tmp_path))
    assert (split.train, split.validation, split.test) == ((0,), (1,), (2,))
    touch(tmp_path / "1024x768", "1.jpg", "2.jpg", "3.jpg")
    assert load_dataset("koniq10k", tmp_path).samples[0].path == tmp_path / "1024x768" / "1.jpg"
    check_is_clean_but_for_counts("koniq10k", tmp_path)


def test_livefb_with_its_official_split(tmp_path):
    write(tmp_path / "labels_image.csv", "name,mos,top\nvoc/a.jpg,70.1,0\nvoc/b.jpg,60,0\nblur/c.jpg,20,0\n")
    touch(tmp_path / "database", "voc/a.jpg", "voc/b.jpg", "blur/c.jpg")
    assert [s.part for s in load_dataset("flive", tmp_path).samples] == [None, None, None]
    write(tmp_path / "labels<=640_padded.csv", "name_image,is_valid\nvoc/a.jpg,False\nvoc/b.jpg,True\n")
    write(tmp_path / "labels>640.csv", "name_image\nblur/c.jpg\n")
    data = load_dataset("livefb", tmp_path)
    assert facts(data) == [
        ("blur/c.jpg", 20.0, None, None, None, None, "test"),
        ("voc/a.jpg", 70.1, None, None, None, None, "train"),
        ("voc/b.jpg", 60.0, None, None, None, None, "validation"),
    ]
    check_is_clean_but_for_counts("livefb", tmp_path)


def test_spaq(tmp_path):
    rows = [["Image name", "MOS", "Brightness"], ["00001.jpg", 63.6, 60], ["00002.jpg", 29, 41]]
    workbook(tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx", rows)
    touch(tmp_path / "TestImage", "00001.jpg", "00002.jpg")
    data = load_dataset("SPAQ", tmp_path)
    assert [(s.name, s.mos) for s in data.samples] == [("00001.jpg", 63.6), ("00002.jpg", 29.0)]
    check_is_clean_but_for_counts("spaq", tmp_path)


def test_cid2013(tmp_path):
    rows = [
        ["Source_ID", "Image set specific  MOS", "Realigned MOS"],
        ["IS_I_C01_D01", 1, 70.5],
        ["IS_I_C01_D02", 1, 30],
        ["IS_VI_C08_D14", 1, 52],
    ]
    workbook(tmp_path / "CID2013 data - version 12112014.xlsx", rows, "CID2013 MOS")
    touch(tmp_path, "IS1/co1/IS_I_C01_D01.jpg", "IS1/co1/IS_I_C01_D02.JPG", "IS6/co8/IS_VI_C08_D14.jpg")
    data = load_dataset("cid2013", tmp_path)
    assert [(s.name, s.mos, s.reference) for s in data.samples] == [
        ("IS_I_C01_D01.jpg", 70.5, "IS_I_C01"),
        ("IS_I_C01_D02.jpg", 30.0, "IS_I_C01"),
        ("IS_VI_C08_D14.jpg", 52.0, "IS_VI_C08"),
    ]
    check_is_clean_but_for_counts("cid2013", tmp_path)


def test_thirty_ratings_of_kadid10k_have_its_var_as_deviation_only():
    # two released rows: dmos and var to the digits they are written in
    for dmos, var in ((4.57, 0.496), (4.33, 0.869)):
        total = round(30 * dmos)
        squares = np.arange(total, 25 * 30 + 1)  # of thirty whole ratings
        spread = np.maximum(squares / 30 - (total / 30) ** 2, 0)
        assert np.any(np.abs(np.sqrt(spread) - var) <= 0.0005)
        for divisor in (30, 29):
            assert not np.any(np.abs(spread * 30 / divisor - var) <= 0.0005)


@pytest.mark.parametrize("folder", ["ImageDatabase", "ImageDatabase/ImageDatabase", "."])
def test_bid(tmp_path, folder):
    rows = [["Image Number", "Average Subjective Grade", "std"], [1, 2.25, 0.4], [586.0, 4, 0.3]]
    workbook(tmp_path / "DatabaseGrades.xlsx", rows, "Plan1")
    touch(tmp_path / folder, "DatabaseImage0001.JPG", "DatabaseImage0586.jpg")
    data = load_dataset("bid", tmp_path)
    assert [(s.name, s.mos) for s in data.samples] == [
        ("DatabaseImage0001.JPG", 2.25),
        ("DatabaseImage0586.JPG", 4.0),
    ]
    check_is_clean_but_for_counts("bid", tmp_path)


def test_pipal(tmp_path):
    write(tmp_path / "Train_Label" / "A0001.txt", "A0001_00_00.bmp,1520.25\nA0001_06_12.bmp,1100\n")
    write(tmp_path / "Train_Label" / "A0185.txt", "A0185_03_01.bmp,1400.5\n")
    touch(
        tmp_path,
        "Distortion_1/A0001_00_00.bmp",
        "Distortion_1/Distortion_1/A0001_06_12.bmp",
        "Distortion_4/A0185_03_01.bmp",
    )
    data = load_dataset("pipal", tmp_path)
    assert facts(data) == [
        ("A0001_00_00.bmp", 1520.25, None, "A0001.bmp", "00", None, None),
        ("A0001_06_12.bmp", 1100.0, None, "A0001.bmp", "06", None, None),
        ("A0185_03_01.bmp", 1400.5, None, "A0185.bmp", "03", None, None),
    ]
    check_is_clean_but_for_counts("pipal", tmp_path)
    write(tmp_path / "Train_Label" / "A0002.txt", "strange.bmp,1\n")
    with pytest.raises(DatasetError, match=r"A0002\.txt.*\n.*line 1: 'strange\.bmp' is not named"):
        load_dataset("pipal", tmp_path)


@pytest.mark.parametrize("folder", ["AGIQA-3K", "Images", "."])
def test_agiqa3k(tmp_path, folder):
    write(
        tmp_path / "data.csv",
        "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"
        'AttnGAN_normal_000.jpg,"statue, of a man",,,,1.2,0.4,2,0.1\n'
        "midjourney_lowstep_004.jpg,sushi,,,,4.5,0.2,3,0.1\n",
    )
    touch(tmp_path / folder, "AttnGAN_normal_000.jpg", "midjourney_lowstep_004.jpg")
    data = load_dataset("agiqa", tmp_path)
    assert facts(data) == [
        ("AttnGAN_normal_000.jpg", 1.2, 0.4, None, "AttnGAN", None, None),
        ("midjourney_lowstep_004.jpg", 4.5, 0.2, None, "midjourney", None, None),
    ]
    check_is_clean_but_for_counts("agiqa3k", tmp_path)


@pytest.mark.parametrize(
    ("name", "first"),
    [("live", "dmos_realigned.mat"), ("csiq", "csiq.DMOS.xlsx"), ("tid2013", "mos_with_names.txt"),
     ("kadid10k", "dmos.csv"), ("koniq10k", "koniq10k_scores_and_distributions.csv"),
     ("livefb", "labels_image.csv"), ("spaq", "Annotations/MOS and Image attribute scores.xlsx"),
     ("cid2013", "CID2013 data - version 12112014.xlsx"), ("bid", "DatabaseGrades.xlsx"),
     ("pipal", "Train_Label"), ("agiqa3k", "data.csv")],
)  # fmt: skip
def test_an_empty_folder_lacks_every_label_file(tmp_path, name, first):
    check = check_dataset(name, tmp_path)
    assert check.missing == check.card.labels
    assert check.missing[0] == first
    assert len(check.problems) == 1
    with pytest.raises(DatasetError, match=r"(?i)no "):
        load_dataset(name, tmp_path)


def test_scores_outside_the_card_are_named(tmp_path):
    write(tmp_path / "labels_image.csv", "name,mos\na.jpg,170\nb.jpg,50\n")
    touch(tmp_path / "database", "a.jpg", "b.jpg")
    with pytest.raises(DatasetError, match=r"a\.jpg: score 170 is outside 0\.\.100"):
        load_dataset("livefb", tmp_path)
