"""The bounded queue between the requests and the threads that score.

The pictures of all requests share one queue. A worker takes one picture of the oldest request, then one of the next
request, and so on: a request with a hundred pictures does not hold up a request with one. Every picture is run by
itself. Running the windows of several pictures as one batch gains nothing on a CPU (``batching`` in
results/serve-load.json), and a score would depend on the other pictures of its batch.

A large picture takes hundreds of megabytes of memory. A worker that finds one, by the size in its header, puts it into
a second queue, and only one picture of that queue is scored at a time.

A small file can take minutes to decode. The decoder reads its bytes from a stream that raises an error once the request
has ended, so the time limit of a request also limits the decoding.
"""

import asyncio
import io
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from moslens.errors import ImageError, ImageTooLarge

PictureFunction = Callable[[io.BytesIO, int], Any]
"""What is done with one picture, called with its bytes and the highest number of pixels."""

DoneCallback = Callable[[float, Any], None]
"""Called with the seconds that a picture took, and its outcome."""

LARGE = 30_000_000


class QueueFull(Exception):
    """More pictures wait than the queue takes."""


class Abandoned(ImageError):
    """The request of a picture ended before its decoding did. It is counted; no client sees it."""

    code = "abandoned"


class QueuedRequest:
    """The pictures of one request.

    ``done`` is a future of their outcomes, in order: what ``function`` returned, or the exception that it raised.
    """

    def __init__(self, function: PictureFunction, pictures: Sequence[bytes]) -> None:
        self.function = function
        self.pending = deque(enumerate(pictures))
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[Any]] = self.loop.create_future()
        self._outcomes: list[Any] = [None] * len(pictures)
        self._left = len(pictures)

    def set_outcome(self, index: int, outcome: Any) -> None:
        """Store the outcome of one picture; called in the event loop."""
        self._outcomes[index] = outcome
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.done.set_result(self._outcomes)


class CancellableStream(io.BytesIO):
    """The bytes of a picture; ``read`` raises Abandoned once the request has ended."""

    def __init__(self, data: bytes, request: QueuedRequest) -> None:
        super().__init__(data)
        self._request = request

    def read(self, size: int | None = -1, /) -> bytes:
        if self._request.done.cancelled():
            raise Abandoned("the request has ended")
        return super().read(size)


class Workers:
    """``count`` threads and their queue.

    At most ``max_waiting`` pictures wait, and no longer than about ``max_wait`` seconds. A picture may have
    ``max_pixels``. ``on_done`` is called in the event loop, once for every picture.
    """

    def __init__(self, count: int, max_waiting: int, max_wait: float, max_pixels: int, on_done: DoneCallback) -> None:
        self.count, self.max_waiting, self.max_wait, self.max_pixels = count, max_waiting, max_wait, max_pixels
        self.waiting = 0
        self.running = 0
        self.seconds_per_picture = 0.1  # a moving average
        self._on_done = on_done
        self._changed = threading.Condition()
        self._requests: deque[QueuedRequest] = deque()
        self._large: deque[tuple[QueuedRequest, int, bytes]] = deque()
        self._large_running = False
        self._closing = False
        self._threads = [threading.Thread(target=self._run, name=f"moslens-serve-{n}") for n in range(count)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is queued, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def full(self) -> bool:
        """Whether one more picture would be too many, or would wait too long."""
        return self.waiting >= self.max_waiting or (self.waiting > 0 and self.expected_wait > self.max_wait)

    @property
    def expected_wait(self) -> float:
        """Seconds until all pictures that wait now are done, if they take as long as recent ones did."""
        return self.waiting * self.seconds_per_picture / self.count

    @property
    def retry_after(self) -> int:
        """Whole seconds, 1 to 60, until half of the queue is done: clients come back before it is empty."""
        return min(60, 1 + int(self.expected_wait / 2))

    def submit(self, function: PictureFunction, pictures: Sequence[bytes]) -> QueuedRequest:
        """Queue ``function`` for every picture. Raises QueueFull; an empty queue takes any number of pictures."""
        request = QueuedRequest(function, pictures)
        with self._changed:
            if self._closing or self.full or (self.waiting and self.waiting + len(pictures) > self.max_waiting):
                raise QueueFull
            self.waiting += len(pictures)
            self._requests.append(request)
            self._changed.notify(len(pictures))
        return request

    def cancel(self, request: QueuedRequest) -> None:
        """Drop the pictures that wait. Those being decoded are given up; other outcomes are ignored."""
        with self._changed:
            others = deque(entry for entry in self._large if entry[0] is not request)
            self.waiting -= len(request.pending) + len(self._large) - len(others)
            self._large = others
            request.pending.clear()
            if request in self._requests:
                self._requests.remove(request)
        request.done.cancel()

    def _take(self) -> tuple[QueuedRequest, int, bytes, bool] | None:
        """Wait for the next picture: its request, index, bytes and whether it is large. None once all is done."""
        with self._changed:
            while True:
                if self._large and not self._large_running:
                    self._large_running = True
                    self.waiting -= 1
                    self.running += 1
                    return (*self._large.popleft(), True)
                if self._requests:
                    request = self._requests.popleft()
                    index, data = request.pending.popleft()
                    if request.pending:
                        self._requests.append(request)
                    self.waiting -= 1
                    self.running += 1
                    return request, index, data, False
                if self._closing and not self._large:
                    return None
                self._changed.wait()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            request, index, data, large = taken
            start = time.perf_counter()
            max_pixels = self.max_pixels if large else min(self.max_pixels, LARGE)
            outcome: Any
            try:
                outcome = request.function(CancellableStream(data, request), max_pixels)
            except Exception as error:
                outcome = error
            postponed = isinstance(outcome, ImageTooLarge) and max_pixels < self.max_pixels
            with self._changed:
                self.running -= 1
                if large:
                    self._large_running = False
                if postponed and not request.done.cancelled():
                    self._large.append((request, index, data))
                    self.waiting += 1
                self._changed.notify_all()
            if not postponed:
                self._finish(request, index, outcome, time.perf_counter() - start)
            del taken, request, data, outcome  # a thread that waits must not keep an upload in memory

    def _finish(self, request: QueuedRequest, index: int, outcome: Any, seconds: float) -> None:
        def deliver() -> None:
            self.seconds_per_picture += 0.1 * (seconds - self.seconds_per_picture)
            self._on_done(seconds, outcome)
            request.set_outcome(index, outcome)

        try:
            request.loop.call_soon_threadsafe(deliver)
        except RuntimeError:  # the event loop is closed, so no client waits
            return
