"""Which pictures are near-duplicates, and what makes a group."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers.bursts import frame, printed, scene
from moslens.bulk.near_duplicates import LIMITS, near_duplicates
from moslens.picture.capture import Capture
from moslens.picture.fingerprint import Fingerprint

pytest.importorskip("imagehash", reason="needs the [pick] extra")

CHANGES = [
    {},
    {"across": 0.04, "down": -0.03},
    {"across": -0.03, "down": 0.02, "turn": 1.5},
    {"stops": 1.0},
    {"stops": -1.0, "turn": -1.0},
]


@pytest.fixture(scope="module")
def bursts() -> list[list[Fingerprint]]:
    """Four scenes, five frames of each, encoded at several qualities."""
    return [
        [printed(frame(scene(seed), **change), 40 + 12 * number) for number, change in enumerate(CHANGES)]
        for seed in range(4)
    ]


def indexes(prints: list[Fingerprint]) -> list[list[int]]:
    return [[member.index for member in group] for group in near_duplicates(prints)]


def at(seconds: float, camera: str = "one") -> Capture:
    return Capture(datetime(2024, 5, 1, 12) + timedelta(seconds=seconds), (camera,))


def test_planted_bursts_are_found_and_nothing_else(bursts: list[list[Fingerprint]]) -> None:
    prints = [one for burst in bursts for one in burst] + [printed(scene(seed)) for seed in range(50, 60)]
    assert indexes(prints) == [list(range(5 * burst, 5 * burst + 5)) for burst in range(4)]


def test_the_first_of_a_group_is_its_best_and_the_likeness_is_to_it(bursts: list[list[Fingerprint]]) -> None:
    (group,) = near_duplicates(bursts[0])
    assert [member.index for member in group] == [0, 1, 2, 3, 4]
    assert group[0].likeness == 1
    assert all(LIMITS.like <= member.likeness <= 1.0001 for member in group)


def test_other_places_in_the_sequence_give_the_same_groups(bursts: list[list[Fingerprint]]) -> None:
    prints = [one for burst in bursts for one in burst]
    expected = {frozenset(group) for group in indexes(prints)}
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(prints)).tolist()
        found = indexes([prints[index] for index in order])
        assert {frozenset(order[index] for index in group) for group in found} == expected


def test_a_pan_does_not_become_one_group() -> None:
    """Neighbours of it are alike; its ends have nothing in common."""
    wide = scene(7, 2400, 360)
    pan = [printed(wide.crop((40 * step, 0, 40 * step + 480, 360))) for step in range(48)]
    groups = indexes(pan)
    assert len(groups) > 3
    for group in groups:
        assert max(abs(index - group[0]) for index in group) <= 2, "a picture that was not compared with the best"


def test_equal_copies_are_one_group() -> None:
    copies = [printed(scene(3)) for _ in range(30)]
    assert indexes(copies) == [list(range(30))]


def test_flat_black_and_clear_pictures_are_in_no_group() -> None:
    rng = np.random.default_rng(0)
    prints = []
    for level in (0, 0, 0, 128, 255):
        noisy = level + rng.normal(0, 3, (300, 400, 3))
        prints.append(printed(Image.fromarray(noisy.clip(0, 255).astype(np.uint8))))
    for top in (200, 220):
        sky = np.linspace(top, 120, 300)[:, None, None] + rng.normal(0, 2, (300, 400, 3))
        prints.append(printed(Image.fromarray(sky.clip(0, 255).astype(np.uint8))))
    assert indexes(prints) == []


def test_screens_of_one_layout_are_in_no_group() -> None:
    rng = np.random.default_rng(1)
    prints = []
    for _ in range(8):
        screen = Image.new("RGB", (390, 600), "white")
        draw = ImageDraw.Draw(screen)
        draw.rectangle((0, 0, 390, 50), fill="#225588")
        for top in range(70, 560, 22):
            draw.rectangle((20, top, int(rng.integers(30, 370)), top + 10), fill="#333333")
        prints.append(printed(screen))
    assert indexes(prints) == []


def test_corners_of_one_photo_are_in_no_group() -> None:
    photo = scene(9, 800, 600)
    boxes = [(0, 0, 480, 360), (320, 0, 800, 360), (320, 240, 800, 600), (0, 240, 480, 600)]
    assert indexes([printed(photo.crop(box)) for box in boxes]) == []


def test_another_shape_is_another_cut() -> None:
    photo = scene(2)
    assert indexes([printed(photo), printed(photo.resize((480, 480)))]) == []


def blended(share: float, capture: Capture | None = None) -> Fingerprint:
    return printed(Image.blend(scene(20), scene(21), share), capture=capture)


def test_pictures_taken_at_once_may_be_less_alike() -> None:
    assert near_duplicates([blended(0), blended(0.65)]) == []
    assert near_duplicates([blended(0, at(0)), blended(0.65, at(30))]) == []
    ((_, second),) = near_duplicates([blended(0, at(0)), blended(0.65, at(2.5))])
    assert LIMITS.at_once <= second.likeness < LIMITS.like
    assert near_duplicates([blended(0, at(0)), blended(0.65, at(2.5, "two"))]) == []
    assert near_duplicates([blended(0, at(0)), blended(0.85, at(0.5))]) == [], "time alone makes no pair"


def test_pictures_taken_apart_must_be_more_alike() -> None:
    limits = replace(LIMITS, apart=0.8)
    pair = blended(0, at(0)), blended(0.5, at(30))
    assert len(near_duplicates(pair, limits)) == 1
    assert near_duplicates((pair[0], blended(0.5, at(61))), limits) == []
    assert len(near_duplicates((pair[0], blended(0, at(61))), limits)) == 1


def test_one_or_no_picture_has_no_group() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates([printed(scene(0))]) == []
