"""Scoring in a process of its own, so that a decoder that dies or hangs costs one row and not the run.

The child is the ordinary :class:`~moslens.Scorer` with its threads; this side hands it paths and takes rows, in order.
Where the child dies, or is ended because no row came for ``time_limit`` seconds, what it had in work is tried
again, one picture at a time: the one that does it again, alone, gets an error row.
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
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from moslens import errors
from moslens.errors import InternalError, MoslensError
from moslens.picture.limits import MAX_PIXELS
from moslens.scoring.card import find_model
from moslens.scoring.result import Failure
from moslens.system.cores import available_cores

logger = logging.getLogger(__name__)

TIME_LIMIT = 120.0
_TICK = 1.0
# By name and not imported: what the child needs, numpy and Pillow, would be loaded by this process for nothing.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from moslens.bulk.watched_child import main; main()"
_PIPE_BYTES = 1 << 15  # less than a pipe holds: handing out work never waits for a child that hangs


@dataclass(frozen=True)
class Row:
    """A row as the child gave it."""

    row: Mapping[str, Any]

    def to_row(self) -> dict[str, Any]:
        return dict(self.row)


class GuardedScorer:
    """Scores paths like ``Scorer.score_many``, in a child process that is started again when it ends.

    Use it in the thread that made it. Raises ModelError like ``Scorer``, MoslensError where no child comes up.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, *, time_limit: float = TIME_LIMIT) -> None:
        self._model = os.fspath(find_model(model))
        self._limit = time_limit
        self._child = _Child(self._model)
        self.model_id = self._child.model_id

    def __enter__(self) -> "GuardedScorer":
        return self

    def __exit__(self, *error: object) -> None:
        self._child.end()

    def score_many(
        self, paths: Iterable[str], *, workers: int | None = None, max_pixels: int = MAX_PIXELS
    ) -> Generator[Row | Failure]:
        """One result a path, in order, as for ``Scorer.score_many``. Can be called once."""
        workers = workers or available_cores()
        settings = {"workers": workers, "max_pixels": max_pixels, "ahead": 8 * workers}
        arrivals = _Arrivals(paths, 8 * workers)
        self._child.begin(settings, arrivals.queue)
        work = _Work()
        last: BaseException | None = None  # how the paths ended
        try:
            while last is None or not work.done:
                while (path := work.next_path()) is not None:
                    if self._child.ended:
                        self._restart(settings, arrivals.queue)
                    self._child.send(path)
                origin, value = work.wait(arrivals.queue)
                result: Row | Failure | None = None
                if origin is arrivals and isinstance(value, BaseException):
                    last = value
                elif origin is arrivals:
                    work.waiting.append(value)
                elif origin is self._child and value:
                    work.answered()
                    result = Row(json.loads(value))
                elif origin is self._child:
                    how = self._child.end()
                    result = self._failure(work.broken_off(), f"decoding it ended the process ({how})")
                elif work.silent > self._limit:
                    self._child.end()
                    result = self._failure(work.broken_off(), f"it took more than {self._limit:g} s")
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
        self._child = _Child(self._model)
        if self._child.model_id != self.model_id:
            raise MoslensError(f"the model is another one now: {self._child.model_id}", self._model)
        self._child.begin(settings, events)

    def _failure(self, path: str | None, message: str) -> Failure | None:
        return None if path is None else Failure(path, InternalError(message, path), self.model_id)


class _Work:
    """Which paths wait, which are with the child, and which of them are under suspicion."""

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()  # taken, not handed out
        self.silent = 0.0  # seconds of work without a row
        self._sent: deque[str] = deque()  # handed out; their rows come in this order
        self._suspects = 0  # so many of both together are tried one by one

    @property
    def done(self) -> bool:
        return not self._sent and not self.waiting

    def next_path(self) -> str | None:
        """The path to hand out now, if any."""
        if not self.waiting or (self._sent and (self._suspects or not self._has_room())):
            return None
        if not self._sent:
            self.silent = 0.0
        self._sent.append(self.waiting.popleft())
        return self._sent[-1]

    def _has_room(self) -> bool:
        as_json = sum(12 * len(path) + 3 for path in self._sent) + 12 * len(self.waiting[0]) + 3
        return as_json <= _PIPE_BYTES

    def wait(self, events: "_Events") -> tuple[object, Any]:
        """What happens next, (None, None) where that is nothing for a while."""
        before = time.monotonic()
        try:
            return events.get(timeout=_TICK)
        except Empty:
            return None, None
        finally:
            # Neither a process that was stopped nor a clock that leaps may look like a picture that takes long.
            self.silent += min(time.monotonic() - before, 2 * _TICK) if self._sent else 0.0

    def answered(self) -> str:
        """The oldest picture in work has its row."""
        self.silent = 0.0
        self._suspects = max(0, self._suspects - 1)
        return self._sent.popleft()

    def broken_off(self) -> str | None:
        """The child is gone. The picture that is to blame, if it was alone; else all that were in work wait again."""
        if self._suspects and self._sent:
            return self.answered()
        self._suspects = len(self._sent)
        self.waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        return None


class _Arrivals:
    """Takes paths in a thread of its own, so that a slow source holds no row back, and only so many at a time.

    Puts (self, path) into ``queue``, and at last (self, what ended them): StopIteration or an error.
    """

    def __init__(self, paths: Iterable[str], ahead: int) -> None:
        self.queue: _Events = SimpleQueue()
        self._slots = threading.Semaphore(ahead)
        self._closed = False
        # A daemon, since one that waits for standard input must not keep the program from ending.
        threading.Thread(target=self._feed, args=(paths,), name="moslens-feed", daemon=True).start()

    def _feed(self, paths: Iterable[str]) -> None:
        end: BaseException = StopIteration()
        try:
            for path in paths:
                self._slots.acquire()
                if self._closed:
                    return
                self.queue.put((self, path))
        except BaseException as error:  # raised again when the rows of those before it are out
            end = error
        self.queue.put((self, end))

    def taken(self) -> None:
        self._slots.release()

    def close(self) -> None:
        self._closed = True
        self._slots.release()


class _Child:
    """One scoring process, its model open."""

    def __init__(self, model: str) -> None:
        own_group = {"process_group": 0} if os.name == "posix" else {}  # out of reach of Ctrl-C
        self.ended = self._listening = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                **own_group,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise MoslensError(f"the scoring process cannot be started: {error.strerror}") from error
        try:
            self.send({"model": model})
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
        """Send the settings, and from now on put (self, line) for every row, and (self, b"") at its end."""
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
        """Hand over one line. That the process has ended is heard where its rows come from."""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(value).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def end(self) -> str:
        """Make sure that it is gone, and say how it ended."""
        if not self.ended:
            self.ended = True
            with suppress(subprocess.TimeoutExpired):  # one whose pipes are closed is about to leave by itself
                self._process.wait(0.05)
            self._process.kill()
            if not self._listening:
                self._process.stdout.close()
            with suppress(OSError):
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # stuck in the kernel, in a file system that does not answer
                self._process.wait(5)
        code = self._process.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"


_Events = SimpleQueue[tuple[object, Any]]
