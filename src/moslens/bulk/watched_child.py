"""The child process of :class:`~moslens.bulk.watched.WatchedScorer`. It decodes and scores.

Standard input: a line that names the model and perhaps a folder for thumbnails, a line with the settings, then one line
a picture, all ASCII JSON. Standard output: a line of JSON when the model is open, then one line a picture, in order:
the status of its row, a space, and the row as its line of ``jsonl``.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import IO, Any

from moslens.bulk.rows import RowLine
from moslens.bulk.stores import source
from moslens.errors import MoslensError
from moslens.picture.load import Named
from moslens.system.children import end_with_parent


def main() -> None:
    """Answer until standard input ends, then exit at once, also in the middle of a picture."""
    end_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints must not print between the rows
    requests = sys.stdin.buffer
    from moslens.scoring.result import Failure
    from moslens.scoring.scorer import Scorer
    from moslens.system.malloc import give_back_large_blocks

    give_back_large_blocks()
    try:
        start = _read(requests)
        if "thumbnails" in start:
            from moslens.bulk.thumbnails import ThumbnailScorer

            scorer: Scorer = ThumbnailScorer(start["model"], start["thumbnails"])
        else:
            scorer = Scorer(start["model"])
    except MoslensError as error:
        _answer(answers, _json({"error": [type(error).__name__, error.message, error.path]}))
        return
    _answer(answers, _json({"ready": scorer.model_id}))
    settings = _read(requests)
    for result in scorer.score_many(_paths(requests), folders=False, **settings):
        try:
            row = RowLine.of(result.to_row())
        except Exception as error:  # a result that cannot be written costs its row, not the process
            row = RowLine.of(Failure.of(result.path, error, scorer.model_id).to_row())
        _answer(answers, row.status.encode("ascii") + b" " + row.line)


def _paths(requests: IO[bytes]) -> Iterator[str | Named]:
    for line in requests:
        yield source(json.loads(line))
    os._exit(0)


def _read(requests: IO[bytes]) -> dict[str, Any]:
    line = requests.readline()
    if not line:
        os._exit(0)
    settings: dict[str, Any] = json.loads(line)
    return settings


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


def _answer(answers: IO[bytes], line: bytes) -> None:
    data = memoryview(line)
    try:
        while data:  # a write to a pipe may take only a part of it
            data = data[answers.write(data) :]
    except BrokenPipeError:
        os._exit(0)
