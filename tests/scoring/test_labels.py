"""Words for people: every kind and every note has its own."""

from moslens.distortions import KINDS
from moslens.scoring.labels import NOTES, detail_words, fault_label, note_words


def test_the_label_of_a_kind_is_that_of_its_list() -> None:
    assert [fault_label(kind.name) for kind in KINDS] == [kind.label for kind in KINDS]


def test_what_is_not_known_keeps_its_name() -> None:
    assert fault_label("of_tomorrow") == "of tomorrow"
    assert note_words(["hdr", "of_tomorrow"]) == [NOTES["hdr"], "of tomorrow"]


def test_detail_in_words() -> None:
    assert detail_words(41.26, []) == "at 100 %: 41.3"
    assert detail_words(41.26, [{"label": "noise"}, {"label": "blur"}]) == "at 100 %: 41.3, noise, blur"
