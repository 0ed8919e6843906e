"""The bounded queue between requests and the threads that score.

Pictures of all requests go through one queue. A worker takes one picture of the oldest request, then one of the
next, so that the pictures in work at a time are a small batch over requests and one with a hundred pictures does not
hold up one with a single picture. They are not put into one run of the network: on a CPU that gains nothing
(``batching`` in results/serve-load.json) and a score would depend on its neighbours.

Large pictures take memory by the hundred megabytes. A worker that meets one by its header puts it aside, and at most
one of them is in work at a time.

A small file can ask for minutes of decoding. The decoder is given its bytes by a stream that ends it as soon as nobody
waits for the answer, so the time limit of a request also bounds what it costs.
"""

import asyncio
import io
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from moslens.errors import ImageError, ImageTooLarge

Work = Callable[[io.BytesIO, int], Any]
Observe = Callable[[float, Any], None]

LARGE = 30_000_000


class Busy(Exception):
    """More pictures wait than the queue takes."""


class Abandoned(ImageError):
    """The request of a picture ended before its decoding did. Counted, and told to nobody."""

    code = "abandoned"


class Job:
    """The pictures of one request. ``done`` holds their outcomes in order: what the work gave, or what it raised."""

    def __init__(self, work: Work, sources: Sequence[bytes]) -> None:
        self.work = work
        self.pending = deque(enumerate(sources))
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[list[Any]] = self.loop.create_future()
        self._outcomes: list[Any] = [None] * len(sources)
        self._left = len(sources)

    def deliver(self, index: int, outcome: Any) -> None:
        """Take one outcome; called in the event loop."""
        self._outcomes[index] = outcome
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.done.set_result(self._outcomes)


class Waited(io.BytesIO):
    """The bytes of a picture for as long as somebody waits for it; then ``read`` raises Abandoned."""

    def __init__(self, data: bytes, job: Job) -> None:
        super().__init__(data)
        self._job = job

    def read(self, size: int | None = -1, /) -> bytes:
        if self._job.done.cancelled():
            raise Abandoned("nobody waits for it any more")
        return super().read(size)


class Workers:
    """``count`` threads over one queue of at most ``limit`` waiting pictures and about ``patience`` seconds of work.

    ``observe`` is called in the event loop with the seconds and the outcome of every picture.
    """

    def __init__(self, count: int, limit: int, patience: float, max_pixels: int, observe: Observe) -> None:
        self.count, self.limit, self.patience, self.max_pixels = count, limit, patience, max_pixels
        self.waiting = 0
        self.running = 0
        self._observe = observe
        self.pace = 0.1  # seconds a picture, a moving average
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._large: deque[tuple[Job, int, bytes]] = deque()
        self._large_in_work = False
        self._closing = False
        self._threads = [threading.Thread(target=self._run, name=f"moslens-serve-{n}") for n in range(count)]

    def start(self) -> None:
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
        return self.waiting >= self.limit or (self.waiting > 0 and self.wait > self.patience)

    @property
    def wait(self) -> float:
        """Seconds until what waits now is done, by the pace of late."""
        return self.waiting * self.pace / self.count

    @property
    def retry_after(self) -> int:
        """Seconds until half of the queue is done, whole, 1 to 60: clients come back before it runs dry."""
        return min(60, 1 + int(self.wait / 2))

    def submit(self, work: Work, sources: Sequence[bytes]) -> Job:
        """Queue ``work(source, max_pixels)`` for every source. Raises Busy; an empty queue takes any number."""
        job = Job(work, sources)
        with self._changed:
            if self._closing or self.full or (self.waiting and self.waiting + len(sources) > self.limit):
                raise Busy
            self.waiting += len(sources)
            self._jobs.append(job)
            self._changed.notify(len(sources))
        return job

    def cancel(self, job: Job) -> None:
        """Drop what has not begun; what has is finished and its outcome ignored."""
        with self._changed:
            others = deque(entry for entry in self._large if entry[0] is not job)
            self.waiting -= len(job.pending) + len(self._large) - len(others)
            self._large = others
            job.pending.clear()
            if job in self._jobs:
                self._jobs.remove(job)
        job.done.cancel()

    def _take(self) -> tuple[Job, int, bytes, bool] | None:
        with self._changed:
            while True:
                if self._large and not self._large_in_work:
                    self._large_in_work = True
                    self.waiting -= 1
                    self.running += 1
                    return (*self._large.popleft(), True)
                if self._jobs:
                    job = self._jobs.popleft()
                    index, source = job.pending.popleft()
                    if job.pending:
                        self._jobs.append(job)
                    self.waiting -= 1
                    self.running += 1
                    return job, index, source, False
                if self._closing and not self._large:
                    return None
                self._changed.wait()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            job, index, source, large = taken
            start = time.perf_counter()
            outcome: Any
            try:
                outcome = job.work(Waited(source, job), self.max_pixels if large else min(self.max_pixels, LARGE))
            except Exception as error:
                outcome = error
            aside = isinstance(outcome, ImageTooLarge) and not large and self.max_pixels > LARGE
            with self._changed:
                self.running -= 1
                if large:
                    self._large_in_work = False
                if aside and not job.done.cancelled():
                    self._large.append((job, index, source))
                    self.waiting += 1
                self._changed.notify_all()
            if not aside:
                self._finish(job, index, outcome, time.perf_counter() - start)
            del taken, job, source, outcome  # a waiting thread must not keep an upload in memory

    def _finish(self, job: Job, index: int, outcome: Any, seconds: float) -> None:
        def deliver() -> None:
            self.pace += 0.1 * (seconds - self.pace)
            self._observe(seconds, outcome)
            job.deliver(index, outcome)

        try:
            job.loop.call_soon_threadsafe(deliver)
        except RuntimeError:  # the loop is closed: nobody waits for the answer
            return
