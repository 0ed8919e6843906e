"""A thread pool over a stream: results in order, bounded look-ahead, and no result held back by a slow source."""

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(work: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int) -> Generator[Result]:
    """``map(work, items)`` by ``workers`` threads, in order.

    At most ``ahead`` items are taken beyond the results already yielded. A separate thread takes the items, so a
    result is yielded as soon as it and those before it are ready, even while the next item is awaited. An exception
    of ``work`` or of ``items`` is raised in its place. Closing the generator cancels the calls that have not
    started and waits for the others.
    """
    pool = ThreadPoolExecutor(workers, "moslens-worker")
    slots = threading.Semaphore(ahead)
    closed = threading.Event()
    queue: SimpleQueue[Future[Result] | BaseException | None] = SimpleQueue()

    def feed() -> None:
        try:
            remaining = iter(items)
            while True:
                slots.acquire()
                if closed.is_set():
                    return
                try:
                    item = next(remaining)
                except StopIteration:
                    break
                queue.put(pool.submit(work, item))
            queue.put(None)
        except BaseException as error:  # raised again where the results are taken
            queue.put(error)

    # A daemon thread, because one that waits for standard input must not keep the program alive.
    threading.Thread(target=feed, name="moslens-feed", daemon=True).start()
    try:
        while (entry := queue.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            result = entry.result()
            slots.release()
            yield result
    finally:
        closed.set()
        slots.release()
        pool.shutdown(cancel_futures=True)
