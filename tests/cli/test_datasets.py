"""``moslens datasets``: the list, a card, and checks of copies good and bad."""

import pytest
from PIL import Image

from helpers.command import call
from moslens.data.sets import all_cards


def run(arguments, capsys):
    return call("datasets", *arguments), *capsys.readouterr()


def test_the_list_names_every_card_with_range_and_direction(capsys):
    code, out, _ = run([], capsys)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    for card in all_cards():
        assert str(card.count) in lines[card.name]
        assert card.title in lines[card.name]
    assert "lower is better" in lines["csiq"]
    assert "higher is better" in lines["livec"]


@pytest.mark.parametrize("card", all_cards(), ids=lambda card: card.name)
def test_a_card_says_layout_licence_source_and_citation(card, capsys):
    code, out, _ = run(["show", card.name], capsys)
    assert code == 0
    for fact in (card.title, card.licence, card.source, card.citation, *card.labels):
        assert fact in out
    assert ("not verified" in out) == bool(card.unverified)


def test_the_real_livec_is_complete(shared_data, capsys):
    code, out, _ = run(["check", "livec", "--root", str(shared_data / "livec")], capsys)
    assert code == 0
    assert out.endswith("1162 labelled pictures, expected 1162\ncomplete\n")


def test_a_wrong_copy_exits_1_and_names_files(tmp_path, capsys):
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "b.jpg").write_bytes(b"")
    (tmp_path / "database" / "c.jpg").write_bytes(b"")
    (tmp_path / "labels_image.csv").write_text("name,mos\na.jpg,1\nb.jpg,2\n")
    code, out, _ = run(["check", "flive", "--root", str(tmp_path)], capsys)
    assert code == 1
    for line in (
        "wrong: 2 labelled pictures, expected 39810",
        "missing: database/a.jpg",
        "surplus: database/c.jpg",
        "not complete",
    ):
        assert line in out.splitlines()


def test_a_csv_is_checked_too(tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "good.csv").write_text("image,mos\na.png,5\n")
    (tmp_path / "bad.csv").write_text("image,mos\na.png,500\n")
    assert run(["check", str(tmp_path / "good.csv")], capsys)[:2] == (0, f"{tmp_path}/good.csv: 1 pictures, complete\n")
    code, out, _ = run(["check", str(tmp_path / "bad.csv")], capsys)
    assert code == 1
    assert "row 2, column mos: 500 is outside 0..100" in out
    assert run(["check", str(tmp_path / "bad.csv"), "--mos-range", "1:500"], capsys)[0] == 0
    code, out, _ = run(["check", str(tmp_path / "good.csv"), "--mos-range", "1:4"], capsys)
    assert (code, "column mos: 5 is outside 1..4" in out) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "livec"], "--root"),
        (["check"], "needs a data set's name"),
        (["show", "imagenet"], "no data set is called 'imagenet'"),
        (["check", "livec", "--root", "/no/such/folder"], "no such folder"),
    ],
)
def test_wrong_use(capsys, arguments, words):
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert words in err
