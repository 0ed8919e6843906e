"""Scores to stars."""

import pytest

from moslens.errors import ConfigError
from moslens.rating.stars import Stars, parse_stars


@pytest.mark.parametrize(
    ("score", "rating"),
    [(0, -1), (14.9, -1), (15, 1), (29.9, 1), (30, 2), (49.9, 2), (50, 3), (65, 4), (79.9, 4), (80, 5), (100, 5)],
)
def test_each_limit_begins_a_rating(score: float, rating: int) -> None:
    assert Stars().rating(score) == rating


def test_without_reject_no_photo_is_rejected() -> None:
    assert Stars(reject=0).rating(0) == 1


def test_limits_are_parsed() -> None:
    assert parse_stars("10, 20,30.5,100", 10) == Stars((10, 20, 30.5, 100), 10)


@pytest.mark.parametrize(
    "text",
    ["", "a", "1,2,3", "1,2,3,4,5", "30,50,50,80", "80,65,50,30", "-1,2,3,4", "1,2,3,101", "nan,2,3,4", "1,2,3,nan"],
)
def test_wrong_limits_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--stars wants four ascending scores"):
        parse_stars(text, 0)


@pytest.mark.parametrize("reject", [-1, 30.1, float("nan")])
def test_a_wrong_reject_is_refused(reject: float) -> None:
    with pytest.raises(ConfigError, match="--reject wants"):
        parse_stars("30,50,65,80", reject)
