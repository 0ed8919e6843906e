"""Scoring in a child process, so that a decoder that crashes or hangs costs one row and not the run.

The child is a :class:`~moslens.Scorer` with its threads. This process sends it paths and reads rows, in order. When
the child dies, or gives no row for ``time_limit`` seconds and is killed, a new child gets the pictures that have no row
yet, one at a time. A picture that ends the child while it is alone in it gets an error row.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from moslens import errors
from moslens.bulk.rows import RowLine
from moslens.errors import InternalError, MoslensError
from moslens.picture.limits import MAX_PIXELS
from moslens.scoring.card import find_model
from moslens.scoring.result import Failure
from moslens.system.children import import_path
from moslens.system.cores import available_cores

logger = logging.getLogger(__name__)

TIME_LIMIT = 120.0
_TICK = 1.0
_PATIENCE = 5.0
# Not imported here: this process does not need the numpy and Pillow that the child loads.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from moslens.bulk.watched_child import main; main()"
_PIPE_BYTES = 1 << 15  # less than a pipe holds, so that sending never waits for a child that hangs


class WatchedScorer:
    """Scores paths like ``Scorer.score_many``, in a child process that is started again when it ends.

    ``thumbnails`` is a folder that gets the thumbnail of each scored picture (:mod:`moslens.bulk.thumbnails`). Use it
    in the thread that made it. Raises ModelError like ``Scorer``, MoslensError where the child does not start.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        time_limit: float = TIME_LIMIT,
        thumbnails: str | os.PathLike[str] | None = None,
    ) -> None:
        self._start = {"model": os.fspath(find_model(model))}
        if thumbnails is not None:
            self._start["thumbnails"] = os.fspath(thumbnails)
        self._limit = time_limit
        self._child = _Child(self._start)
        self.model_id = self._child.model_id

    def __enter__(self) -> "WatchedScorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._child.end()

    def score_many(
        self,
        paths: Iterable[str],
        *,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        detail: bool = False,
    ) -> Generator[RowLine | Failure]:
        """One row a path, in order, as ``Scorer.score_many`` gives them. Can be called once."""
        workers = workers or available_cores()
        settings = {"workers": workers, "max_pixels": max_pixels, "ahead": 8 * workers, "detail": detail}
        arrivals = _Arrivals(paths, 8 * workers)
        self._child.begin(settings, arrivals.queue)
        work = _Work()
        last: BaseException | None = None  # what ended the paths
        try:
            while last is None or not work.done:
                while (path := work.next_path()) is not None:
                    if self._child.ended:
                        self._restart(settings, arrivals.queue)
                    self._child.send(path)
                origin, value = work.wait(arrivals.queue)
                result: RowLine | Failure | None = None
                if origin is arrivals and isinstance(value, BaseException):
                    last = value
                elif origin is arrivals:
                    work.waiting.append(value)
                elif origin is self._child and value:
                    work.answered()
                    status, _, line = value.partition(b" ")
                    result = RowLine(status.decode("ascii"), line)
                elif origin is self._child:
                    how = self._child.end(patience=_PATIENCE)
                    result = self._failure(work.child_ended(), f"scoring it ended the process ({how})")
                elif work.silent > self._limit:
                    self._child.end()
                    result = self._failure(work.child_ended(), f"it took more than {self._limit:g} s")
                if result is not None:
                    arrivals.taken()
                    yield result
            if not isinstance(last, StopIteration):
                raise last
        finally:
            arrivals.close()
            self._child.end()

    def _restart(self, settings: Mapping[str, Any], events: "_Events") -> None:
        logger.warning("the scoring process is started again")
        self._child = _Child(self._start)
        if self._child.model_id != self.model_id:
            raise MoslensError(f"the model is another one now: {self._child.model_id}", self._start["model"])
        self._child.begin(settings, events)

    def _failure(self, path: str | None, message: str) -> Failure | None:
        return None if path is None else Failure(path, InternalError(message, path), self.model_id)


class _Work:
    """The paths that wait, those that the child has, and how many of them it must get one at a time."""

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()  # taken from the source, not sent yet
        self.silent = 0.0  # seconds that the child has worked since its last row
        self._sent: deque[str] = deque()  # the child has them; their rows come in this order
        self._retries = 0  # the next so many paths are sent one at a time, since a child ended while it had them

    @property
    def done(self) -> bool:
        return not self._sent and not self.waiting

    def next_path(self) -> str | None:
        """The path to send now, if any."""
        if not self.waiting or (self._sent and (self._retries or not self._has_room())):
            return None
        if not self._sent:
            self.silent = 0.0
        self._sent.append(self.waiting.popleft())
        return self._sent[-1]

    def _has_room(self) -> bool:
        as_json = sum(12 * len(path) + 3 for path in self._sent) + 12 * len(self.waiting[0]) + 3
        return as_json <= _PIPE_BYTES

    def wait(self, events: "_Events") -> tuple[object, Any]:
        """The next event, or (None, None) after ``_TICK`` seconds without one."""
        before = time.monotonic()
        try:
            return events.get(timeout=_TICK)
        except Empty:
            return None, None
        finally:
            # At most two ticks count: a suspended process or a clock that jumps must not look like a slow picture.
            self.silent += min(time.monotonic() - before, 2 * _TICK) if self._sent else 0.0

    def answered(self) -> str:
        """The oldest path that the child has got its row: forget it, and return it."""
        self.silent = 0.0
        self._retries = max(0, self._retries - 1)
        return self._sent.popleft()

    def child_ended(self) -> str | None:
        """The child ended. Returns the path that it had alone; if it had several, all of them wait for their retry."""
        if self._retries and self._sent:
            return self.answered()
        self._retries = len(self._sent)
        self.waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        return None


class _Arrivals:
    """Takes paths from their source in a thread, so that a slow source delays no row; at most ``ahead`` without a row.

    Puts (self, path) into ``queue``, and last (self, exception): StopIteration, or the error of the source.
    """

    def __init__(self, paths: Iterable[str], ahead: int) -> None:
        self.queue: _Events = SimpleQueue()
        self._slots = threading.Semaphore(ahead)
        self._closed = False
        # A daemon: a thread that waits for standard input must not keep the program alive.
        threading.Thread(target=self._feed, args=(paths,), name="moslens-feed", daemon=True).start()

    def _feed(self, paths: Iterable[str]) -> None:
        end: BaseException = StopIteration()
        try:
            for path in paths:
                self._slots.acquire()
                if self._closed:
                    return
                self.queue.put((self, path))
        except BaseException as error:  # score_many raises it behind the rows of the paths before it
            end = error
        self.queue.put((self, end))

    def taken(self) -> None:
        self._slots.release()

    def close(self) -> None:
        self._closed = True
        self._slots.release()


class _Child:
    """A scoring process that has its model open."""

    def __init__(self, start: Mapping[str, str]) -> None:
        own_group = {"process_group": 0} if os.name == "posix" else {}  # Ctrl-C does not reach it
        self.ended = self._listening = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, json.dumps(import_path()), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                **own_group,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise MoslensError(f"the scoring process cannot be started: {error.strerror}") from error
        try:
            self.send(start)
            answer = json.loads(self._process.stdout.readline() or "{}")
        except BaseException:
            self.end()
            raise
        if "error" in answer:
            self.end()
            kind, message, path = answer["error"]
            refusal: MoslensError = getattr(errors, kind)(message)
            refusal.path = path
            raise refusal
        if "ready" not in answer:
            raise MoslensError(f"the scoring process ended while it started ({self.end()})")
        self.model_id: str = answer["ready"]

    def begin(self, settings: Mapping[str, Any], events: "_Events") -> None:
        """Send the settings; from now on put (self, line) into ``events`` for every row, and (self, b"") at the end."""
        self.send(settings)
        self._listening = True

        def listen() -> None:
            with self._process.stdout as rows:
                for line in rows:
                    if line.endswith(b"\n"):
                        events.put((self, line))
            events.put((self, b""))

        threading.Thread(target=listen, name="moslens-rows", daemon=True).start()

    def send(self, value: Any) -> None:
        """Send a value as one line. Where the process has ended, this does nothing: its output ends too."""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(value).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def end(self, patience: float = 0.05) -> str:
        """End the process if it runs; return how it ended. One that closed its pipes exits in ``patience`` seconds."""
        if not self.ended:
            self.ended = True
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
            self._process.kill()
            if not self._listening:
                self._process.stdout.close()
            with suppress(OSError):
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # the kernel cannot end it while a file system does not answer
                self._process.wait(5)
        code = self._process.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"


_Events = SimpleQueue[tuple[object, Any]]
