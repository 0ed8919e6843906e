"""The bar on a terminal."""

import sys

import pytest

from moslens.system.progress import tracked


def test_a_bar_moves_on_with_the_items(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(tracked(iter("abc"), "scoring", 3)) == ["a", "b", "c"]
    shown = capsys.readouterr().err
    assert "scoring" in shown
    assert "3/3" in shown


def test_nothing_is_shown_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked([1, 2], "scoring", 2)) == [1, 2]
    assert capsys.readouterr().err == ""
