"""Work in threads over a stream: the order of the items, a bounded look-ahead, and what closing drops."""

import threading
import time
from collections.abc import Iterator

import pytest

from moslens.system.ordered_pool import ordered


def test_a_slow_first_item_does_not_change_the_order() -> None:
    def work(number: int) -> int:
        time.sleep(0.2 if number == 0 else 0)
        return number

    assert list(ordered(work, range(50), workers=4, ahead=16)) == list(range(50))


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 4), (4, 16)])
def test_look_ahead_is_bounded(workers: int, ahead: int) -> None:
    pulled = 0

    def items() -> Iterator[int]:
        nonlocal pulled
        for number in range(200):
            pulled += 1
            yield number

    for number, result in enumerate(ordered(lambda item: item, items(), workers, ahead)):
        time.sleep(0.001)
        assert result == number
        assert pulled <= number + 1 + ahead
    assert pulled == 200


def test_results_do_not_wait_for_a_slow_source() -> None:
    release = threading.Event()

    def items() -> Iterator[int]:
        yield from range(3)
        release.wait(30)
        yield 3

    results = ordered(lambda item: item, items(), workers=2, ahead=8)
    start = time.monotonic()
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert time.monotonic() - start < 10
    release.set()
    assert list(results) == [3]


def test_a_source_that_breaks_says_so_after_what_it_gave() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the list ended badly")

    results = ordered(lambda item: item, items(), workers=2, ahead=8)
    assert next(results) == 1
    with pytest.raises(OSError, match="the list ended badly"):
        next(results)


def test_closing_drops_what_has_not_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.05)
        return item

    results = ordered(work, range(10_000), workers=2, ahead=1000)
    assert next(results) == 0
    results.close()
    count = len(begun)
    assert count < 500
    time.sleep(0.1)
    assert len(begun) == count
