"""A service on a free port for tests, requests to it, and a scorer that makes maps without a model that does."""

from __future__ import annotations

import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import uvicorn
from PIL import Image

from moslens.picture.load import load
from moslens.scoring.labels import fault_label
from moslens.scoring.result import Detail, Score
from moslens.scoring.scorer import Scorer
from moslens.serve import Settings, create_app

DISTORTIONS = (
    {
        "kind": "motion_blur", "group": "blur", "label": "motion blur", "kind_certain": True,
        "severity": 3.2, "share": 1 / 3,
    },
)  # fmt: skip
DETAIL = Detail(40.0, ({"x": 0, "y": 0, "width": 64, "height": 64, "score": 40.0},), DISTORTIONS)
KINDS = ((None, None), ("motion_blur", "blur"), ("jpeg", "compression"))


@dataclasses.dataclass(frozen=True)
class MapDouble:
    """What ``Scorer.explain`` gives, by the contract."""

    score: Score
    pixels: np.ndarray
    rows: int = 2
    columns: int = 3

    def to_dict(self) -> dict[str, Any]:
        width, height = self.score.width, self.score.height
        xs = [round(i * width / self.columns) for i in range(self.columns + 1)]
        ys = [round(i * height / self.rows) for i in range(self.rows + 1)]
        blocks = []
        for row in range(self.rows):
            for column in range(self.columns):
                kind, group = KINDS[(row * self.columns + column) % len(KINDS)]
                blocks.append(
                    {
                        "x": xs[column],
                        "y": ys[row],
                        "width": xs[column + 1] - xs[column],
                        "height": ys[row + 1] - ys[row],
                        "score": max(0.0, self.score.score - 10 * column),
                        "weight": 1 / (self.rows * self.columns),
                        "kind": kind,
                        "group": group,
                        "label": None if kind is None else fault_label(kind),
                        "kind_certain": None if kind is None else True,
                        "severity": None if kind is None else 2.5 + row,
                        "confidence": 0.75,
                    }
                )
        names = ("path", "score", "low", "high", "model", "width", "height")
        grid = {"rows": self.rows, "columns": self.columns, "blocks": blocks}
        row = self.to_score().to_row()
        beside = {name: row[name] for name in ("distortions", "notes", "detail")}
        return {**{name: getattr(self.score, name) for name in names}, **beside, "grid": grid}

    def to_score(self) -> Score:
        return dataclasses.replace(self.score, distortions=DISTORTIONS)

    def overlay(self, size: int = 1024, *, legend: bool = True) -> Image.Image:
        assert not legend
        red = np.linspace(0, 255, self.pixels.shape[1]).astype(np.uint8)
        return Image.fromarray(np.dstack([np.broadcast_to(red, self.pixels.shape[:2]), self.pixels[..., 1:]]))


class MapScorer(Scorer):
    """A scorer whose pictures have named distortions and a map."""

    has_maps = True  # type: ignore[assignment]

    def __init__(self, model: Path, threads: int) -> None:
        super().__init__(model, threads, maps=False)

    def score(self, source: Any, *, max_pixels: int = 200_000_000, detail: bool = False) -> Score:
        found = super().score(source, max_pixels=max_pixels)
        return dataclasses.replace(found, distortions=DISTORTIONS, detail=DETAIL if detail else None)

    def explain(self, source: Any, *, max_pixels: int = 200_000_000, detail: bool = False) -> MapDouble:
        found = self.score(source, max_pixels=max_pixels, detail=detail)
        return MapDouble(found, load(source, max_pixels=max_pixels).pixels)


@contextmanager
def served(scorer: Scorer, settings: Settings | None = None) -> Iterator[str]:
    """The address of the service, which runs in a thread of this process."""
    config = uvicorn.Config(
        create_app(scorer, settings),
        port=0,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


BOUNDARY = "----moslens-test"


def form(files: list[tuple[str | bytes, bytes]], field: str = "file") -> bytes:
    """A multipart body of (name, bytes) files."""
    body = b""
    for name, data in files:
        shown = name if isinstance(name, bytes) else name.encode()
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="'.encode()
        body += head + shown + b'"\r\nContent-Type: application/octet-stream\r\n\r\n' + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code, after a check that the body is an error and nothing else."""
        assert self.headers["content-type"] == "application/json"
        (error,) = self.json().values()
        assert set(error) == {"code", "message"}
        assert error["message"]
        return str(error["code"])


def ask(
    url: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None, timeout: float = 90
) -> Answer:
    """One request; ``url`` with its path."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        target = parts._replace(scheme="", netloc="").geturl()
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def post(url: str, files: list[tuple[str | bytes, bytes]], **options: Any) -> Answer:
    """Upload files to ``url``."""
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return ask(url, "POST", form(files), headers, **options)
