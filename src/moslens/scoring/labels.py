"""Plain words for people: the label of every kind and group of faults, and what each note means."""

from collections.abc import Iterable, Mapping
from typing import Any

NOTES: Mapping[str, str] = {
    "not_a_photo": "not a photo: the score is outside what this model knows",
    "monochrome": "black and white or toned",
    "tiny": "fewer than 0.1 megapixel",
    "hdr": "high dynamic range, brought to the range of a screen",
    "preview": "the preview inside a raw file",
}

NO_FAULT = "no fault named"
"""Of a picture without named faults: the model may be unsure, or not know what is wrong."""


def fault_label(kind: str) -> str:
    """The label of a kind of fault, such as ``out of focus``; a kind that is not known here keeps its name."""
    from moslens.distortions.kinds import KIND_BY_NAME  # here, because this module is imported where numpy is not

    found = KIND_BY_NAME.get(kind)
    return kind.replace("_", " ") if found is None else found.label


def group_label(group: str) -> str:
    """The label of a group of faults, such as ``blurred``; a group that is not known here keeps its name."""
    from moslens.distortions.kinds import GROUP_LABELS

    return GROUP_LABELS.get(group, group)


def distortion_label(distortion: Mapping[str, Any]) -> str:
    """The label of an entry of ``distortions``, or its kind where it has none, as in rows of version 0.1."""
    return str(distortion.get("label") or str(distortion["kind"]).replace("_", " "))


def detail_words(score: float, distortions: Iterable[Mapping[str, Any]]) -> str:
    """How good a picture is at 100 %, in words, from a detail's score and distortions."""
    return ", ".join([f"at 100 %: {score:.1f}", *map(distortion_label, distortions)])


def note_words(notes: Iterable[str]) -> list[str]:
    """What each note says, in words; a code that is not known here keeps its name."""
    return [NOTES.get(note, note.replace("_", " ")) for note in notes]
