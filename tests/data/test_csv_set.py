"""CSV data sets: what is read, and that every wrong cell is named by row and column."""

import csv

import pytest

from moslens.data.csv_set import read_csv
from moslens.data.label_files import PictureFinder
from moslens.data.records import LabelScale
from moslens.data.sets import load_dataset
from moslens.data.split import make_split, official_split
from moslens.errors import DatasetError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c d.png", "ü.png", "sub/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    return tmp_path


def write(folder, text, name="set.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_every_column_is_read_and_samples_are_sorted(folder):
    path = write(
        folder,
        "mos,image,std,reference,kind,level,part,extra\n"
        "20.5,sub/e.png,3,r1,blur,2,test,x\n"
        '70, ./a.png ,,,,,train,\n\n100,"c d.png",0,r1\n',
    )
    data = load_dataset(str(path))
    assert data.name == "set"
    assert data.root == folder
    assert [(s.name, s.mos, s.std, s.reference, s.kind, s.level, s.part) for s in data.samples] == [
        ("a.png", 70.0, None, None, None, None, "train"),
        ("c d.png", 100.0, 0.0, "r1", None, None, None),
        ("sub/e.png", 20.5, 3.0, "r1", "blur", 2, "test"),
    ]
    assert data.samples[2].path == folder / "sub" / "e.png"
    assert [s.group for s in data.samples] == ["a.png", "r1", "r1"]
    assert (data.card.count, data.card.mos_range) == (3, (0.0, 100.0))
    assert official_split(data).test == (2,)


def test_other_root_bom_and_unicode_names(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = write(elsewhere, "image,mos\r\nü.png,1\r\nb.png,2\r\n", encoding="utf-8-sig")
    data = load_dataset(str(path), folder)
    assert [s.name for s in data.samples] == ["b.png", "ü.png"]
    with pytest.raises(DatasetError, match=r"row 2, column image: no file ü\.png"):
        load_dataset(str(path))


def test_every_wrong_cell_is_named_in_one_error(folder):
    path = write(
        folder,
        "image,mos,std,level,part\n"
        "nobody.png,50,,,\n"
        "a.png,nan,,,\n"
        "b.png,101,,,\n"
        "a.png,50,-1,,\n"
        "./a.png,50,,1.5,school\n"
        ",5,,,\n"
        "ü.png,good,inf,,\n"
        "c d.png,,,,\n",
    )
    with pytest.raises(DatasetError) as caught:
        read_csv(path)
    text = str(caught.value)
    for line in (
        "row 2, column image: no file nobody.png in",
        "row 3, column mos: nan is not a finite number",
        "row 4, column mos: 101 is outside 0..100",
        "row 5, column std: -1 is outside 0..inf",
        "row 5, column image: a.png is already in row 3",
        "row 6, column image: a.png is already in row 3",
        "row 6, column level: '1.5' is not a whole number",
        "row 6, column part: 'school' is none of train, validation, test",
        "row 7, column image: empty",
        "row 8, column mos: 'good' is not a number",
        "row 8, column std: inf is not a finite number",
        "row 9, column mos: empty",
    ):
        assert line in text
    assert "12 problems" in text
    assert caught.value.path == str(path)


def test_long_lists_of_problems_are_cut(folder):
    path = write(folder, "image,mos\n" + "".join(f"{i}.png,1\n" for i in range(50)))
    with pytest.raises(DatasetError, match="50 problems") as caught:
        read_csv(path)
    assert str(caught.value).count("no file") == 20
    assert "and 30 more" in str(caught.value)


def test_another_range_may_be_stated(folder):
    path = write(folder, "image,mos\na.png,-3\nb.png,4.5\n")
    with pytest.raises(DatasetError, match=r"row 2, column mos: -3 is outside 0\.\.100"):
        load_dataset(str(path))
    assert [s.mos for s in load_dataset(str(path), mos_range=(-5, 5)).samples] == [-3.0, 4.5]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column image and no column mos; the header is empty"),
        (b"image,mos\n", "no rows"),
        (b"file,score\na.png,3\n", "no column image and no column mos; the header is file, score"),
        (b"image,mos,mos\na.png,3,4\n", "column mos appears twice"),
        (b"image,mos\na.png,3,4\n", "row 2: 3 cells for 2 columns"),
        (b"image,mos\n\xff\xfe.png,3\n", "not a UTF-8 CSV"),
        (b'image,mos\n"a.png,3\n', "not a UTF-8 CSV"),
        (b"image,mos\na\x00.png,3\n", "row 2"),
    ],
)
def test_files_that_are_no_data_set(folder, content, words):
    (folder / "set.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        read_csv(folder / "set.csv")


def test_missing_file_and_unknown_name(folder):
    with pytest.raises(DatasetError, match="No such file"):
        load_dataset(str(folder / "none.csv"))
    with pytest.raises(DatasetError, match=r"no data set is called 'imagenet'; known: .*livec"):
        load_dataset("imagenet", folder)


def test_row_order_does_not_change_splits_or_hash(folder):
    rows = ["a.png,1", "b.png,2", "c d.png,3", "ü.png,4", "sub/e.png,5"]
    one = read_csv(write(folder, "\n".join(["image,mos", *rows]), "one.csv"))
    two = read_csv(write(folder, "\n".join(["image,mos", *reversed(rows)]), "two.csv"))
    assert one.samples == two.samples
    assert make_split(one, 1) == make_split(two, 1)
    before = one.data_hash()
    assert before == two.data_hash()
    (folder / "a.png").write_bytes(b"encoded anew")
    assert one.data_hash() != before


def test_names_written_on_other_systems(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("sub/a.png", "sub/cafe\u0301.png", "\u00fc.png", "b\\c.png", "0012.png", "1e3"):
        (tmp_path / name).write_bytes(name.encode())
    rows = ["sub\\a.png", "sub\\caf\u00e9.png", "u\u0308.png", "b\\c.png", "0012.png", "1e3"]
    path = write(tmp_path, "image,mos\n" + "".join(f"{name},{n}\n" for n, name in enumerate(rows)))
    found = {sample.mos: sample.path for sample in read_csv(path).samples}
    assert [found[n].read_bytes().decode() for n in range(6)] == [
        "sub/a.png", "sub/cafe\u0301.png", "\u00fc.png", "b\\c.png", "0012.png", "1e3",
    ]  # fmt: skip
    twice = write(tmp_path, "image,mos\nsub/a.png,1\nsub\\a.png,2\n")
    with pytest.raises(DatasetError, match=r"row 3, column image: sub/a\.png is already in row 2"):
        read_csv(twice)


@pytest.mark.parametrize("text", ['"7,5"', "7_5", "7;5", "1'000", "7.5.1", "0x7"])
def test_numbers_of_other_languages_are_refused(folder, text):
    path = write(folder, f"image,mos\na.png,{text}\n")
    with pytest.raises(DatasetError, match=r"row 2, column mos: .* is not a number"):
        read_csv(path)


@pytest.mark.parametrize("text", ["image;mos\na.png;7,5\n", "sep=;\nimage;mos\na.png;7,5\n", "image\tmos\na.png\t7\n"])
def test_other_separators_are_refused(folder, text):
    with pytest.raises(DatasetError, match="no column image"):
        read_csv(write(folder, text))


def test_columns_that_are_not_read_may_have_long_cells(folder):
    limit = csv.field_size_limit()
    path = write(folder, f"image,mos,boxes\na.png,7,{'x' * 300_000}\n")
    assert [sample.mos for sample in read_csv(path).samples] == [7.0]
    assert csv.field_size_limit() == limit


def test_pictures_of_released_sets_in_either_form_of_unicode(tmp_path):
    (tmp_path / "e\u0301.BMP").write_bytes(b"x")
    assert PictureFinder(tmp_path, ".")["\u00c9.bmp"] == tmp_path / "e\u0301.BMP"


def test_one_picture_by_other_ways_to_write_its_path_is_one_picture(folder):
    (folder / "sub").mkdir(exist_ok=True)
    for other in (str(folder / "a.png"), "sub/../a.png"):
        with pytest.raises(DatasetError, match=r"row 3, column image: .*a\.png is already in row 2"):
            read_csv(write(folder, f"image,mos\na.png,1\n{other},5\n"))


def test_labels_that_fill_little_of_their_range_are_asked_about(folder, caplog):
    for number in range(6):
        (folder / f"{number}.png").write_bytes(b"")
    path = write(folder, "image,mos\n" + "".join(f"{number}.png,{1 + 0.7 * number:g}\n" for number in range(6)))
    read_csv(path, scale=LabelScale(1, 5))
    assert not caplog.records
    read_csv(path)
    assert "between 1 and 4.5, which is little of the stated 0 to 100: is this their range?" in caplog.text
