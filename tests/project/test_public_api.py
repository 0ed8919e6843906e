"""What users call today they can call tomorrow."""

from helpers.inventory import FILE, inventory


def test_nothing_public_is_gone_or_changed() -> None:
    promised = FILE.read_text("utf-8").splitlines()
    assert promised == sorted(promised)
    missing = sorted(set(promised) - set(inventory()))
    assert missing == [], "if this is meant: python -m helpers.inventory --write (in tests), and a line in CHANGELOG.md"


def test_the_inventory_sees_what_matters() -> None:
    lines = inventory()
    for line in (
        "moslens.Scorer.score(self, source)",
        "moslens.Scorer.score(max_pixels=) by name",
        "moslens.Score.low",
        "class moslens.errors.CorruptImage(ImageError)",
        "moslens.metrics.srcc",
        "$ moslens score PATH",
        "$ moslens score --resume",
    ):
        assert any(one.startswith(line) for one in lines), line
