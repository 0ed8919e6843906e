"""Room: never more than there is, first come, first served, given back whatever happens; load() asks for it."""

import io
import os
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from moslens import image
from moslens.room import Room


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=12))
def test_never_more_than_there_is_and_all_get_their_turn(amounts: list[int]) -> None:
    room, seen, done = Room(10), [], []

    def work(amount: int) -> None:
        with room.take(amount):
            seen.append(room.used)
            time.sleep(0.001)
        done.append(amount)

    threads = [threading.Thread(target=work, args=(amount,)) for amount in amounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(done) == sorted(amounts)
    assert max(seen) <= 10
    assert room.used == 0


def test_a_giant_is_not_overtaken_for_ever() -> None:
    room, order = Room(10), []

    def work(name: str, amount: int) -> None:
        with room.take(amount):
            order.append(name)

    with room.take(5):
        threads = []
        for name, amount in (("giant", 10), ("small", 1)):
            threads.append(threading.Thread(target=work, args=(name, amount)))
            threads[-1].start()
            while len(room._waiting) < len(threads):
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == ["giant", "small"]


def test_an_error_gives_back_what_was_held() -> None:
    room = Room(10)
    with pytest.raises(ValueError, match="broken"), room.take(7):
        raise ValueError("broken")
    assert room.used == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_all_of_it() -> None:
    room = Room(10)
    with room.take(10):
        child = os.fork()
        if child == 0:
            os._exit(0 if room.used == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert room.used == 10


@pytest.mark.parametrize(
    ("how", "whole"),
    [({"format": "PNG"}, True), ({"format": "JPEG", "progressive": True}, True), ({"format": "JPEG"}, False)],
)
def test_a_picture_takes_what_its_decoder_holds(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, object], whole: bool
) -> None:
    room = Room(10**9)
    taken = []
    take = room.take
    monkeypatch.setattr(room, "take", lambda amount: taken.append(amount) or take(amount))
    monkeypatch.setattr(image, "_ROOM", room)
    stream = io.BytesIO()
    Image.new("RGB", (1600, 1200), (90, 120, 60)).save(stream, **how)
    image.load(stream.getvalue(), working_size=200)
    assert taken == [1600 * 1200 if whole else 400 * 300]
