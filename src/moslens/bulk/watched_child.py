"""The process that decodes and scores for ``guard.py``. It may die; what it had in work is known outside.

Standard input: a line that names the model, a line with the settings, then one line a picture. Standard output: a
line when the model is open, then one row a picture, in order. All lines are ASCII JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import IO, Any

from moslens.bulk.stores import source
from moslens.errors import MoslensError
from moslens.picture.load import Named


def main() -> None:
    """Answer until standard input ends; then leave at once, whatever is in work."""
    _leave_with(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not get between the rows
    requests = sys.stdin.buffer
    from moslens.scoring.scorer import Scorer
    from moslens.system.malloc import give_back_large_blocks

    give_back_large_blocks()
    try:
        scorer = Scorer(_read(requests)["model"])
    except MoslensError as error:
        _answer(answers, {"error": [type(error).__name__, error.message, error.path]})
        return
    _answer(answers, {"ready": scorer.model_id})
    settings = _read(requests)
    for result in scorer.score_many(_paths(requests), **settings):
        _answer(answers, result.to_row())


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


def _answer(answers: IO[bytes], value: dict[str, Any]) -> None:
    data = memoryview(json.dumps(value).encode("ascii") + b"\n")
    try:
        while data:  # a write to a pipe may take only a part
            data = data[answers.write(data) :]
    except BrokenPipeError:
        os._exit(0)


def _leave_with(parent: int) -> None:
    """End with the parent also where a decoder never gives the interpreter back (Linux)."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)
