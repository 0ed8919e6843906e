"""The HTTP service: uploads in, rows and maps out.

request -> limits -> upload in memory -> bounded queue -> worker threads that share one Scorer -> rows
"""

import asyncio
import base64
import dataclasses
import io
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from moslens import __version__
from moslens.errors import ImageError, InternalError
from moslens.scoring.quality_map import QualityMap
from moslens.scoring.result import Failure, Score
from moslens.scoring.scorer import Scorer
from moslens.serve import schemas
from moslens.serve.documentation import add_documentation
from moslens.serve.logs import event
from moslens.serve.metrics import CONTENT_TYPE, Metrics
from moslens.serve.middleware import RequestMiddleware
from moslens.serve.open_inference import add_open_inference
from moslens.serve.refusal import (
    AsciiJSONResponse,
    Refusal,
    http_error_response,
    is_flat,
    picture_error_response,
)
from moslens.serve.settings import Settings
from moslens.serve.static_files import add_page
from moslens.serve.upload import Reservation, Upload, UploadBuffer, UploadReader, read_uploads
from moslens.serve.workers import PictureFunction, QueueFull, Workers
from moslens.system.cores import available_cores
from moslens.system.text import name_fields

UPLOAD_CODES = (
    "bad_multipart", "no_file", "upload_timeout", "body_too_large", "too_many_files", "not_multipart", "internal",
    "busy", "timeout",
)  # fmt: skip
PictureName = Annotated[
    str | None, Query(description="The name of a picture that is the whole body; a form has its names in its parts.")
]
WithDetail = Annotated[
    bool, Query(description="Judge pictures above twice the working size also at 100 %; takes several times as long.")
]
DESCRIPTION = """Blind image quality: how good a photo is, where it is bad and what is wrong there.

Scores run from 0 to 100, higher is better. The service fetches no address and stores nothing."""


class Service:
    """One model, its worker threads, its limits and its metrics."""

    def __init__(self, scorer: Scorer, settings: Settings) -> None:
        self.scorer, self.settings = scorer, settings
        count = settings.workers or available_cores()
        self.workers = Workers(count, settings.queue, settings.max_wait, settings.max_pixels, self._record)
        self.upload_buffer = UploadBuffer(settings.max_buffered)
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "moslens_queue_pictures": ("Pictures that wait for a worker.", lambda: self.workers.waiting),
            "moslens_pictures_in_work": ("Pictures that a worker scores.", lambda: self.workers.running),
            "moslens_buffered_bytes": ("Bytes of uploads in memory.", lambda: self.upload_buffer.used),
        }
        self.metrics = Metrics(scorer.model_id, __version__, gauges)

    @property
    def has_maps(self) -> bool:
        """Whether the model says where a picture is bad and what is wrong there."""
        return self.scorer.has_maps

    def warm_up(self) -> None:
        """Score a grey picture twice: the first run is slow, the second tells the queue how fast this machine is."""
        grey = np.full((500, 500, 3), 128, np.uint8)
        for _ in range(2):
            start = time.perf_counter()
            self.scorer.score(grey)
            self.workers.seconds_per_picture = time.perf_counter() - start

    def score_one(self, source: io.BytesIO, max_pixels: int, *, detail: bool = False) -> Score:
        """The score alone."""
        return self.scorer.score(source, max_pixels=max_pixels, detail=detail)

    def explain_one(self, source: io.BytesIO, max_pixels: int, *, detail: bool = False) -> dict[str, Any]:
        """The explain JSON with the overlay as a data URL."""
        return with_overlay(self.scorer.explain(source, max_pixels=max_pixels, detail=detail))

    def score_with_map(
        self, source: io.BytesIO, max_pixels: int, *, overlay: bool, detail: bool = False
    ) -> tuple[Score, dict[str, Any] | None]:
        """The score and the explain JSON out of one run of the model; no JSON where the model makes no maps."""
        if not self.has_maps:
            return self.scorer.score(source, max_pixels=max_pixels, detail=detail), None
        found = self.scorer.explain(source, max_pixels=max_pixels, detail=detail)
        return found.to_score(), with_overlay(found) if overlay else found.to_dict()

    async def process(
        self, request: Request, function: PictureFunction, *, one_file: bool = False, read: UploadReader = read_uploads
    ) -> list[tuple[Upload, Any]]:
        """The uploads of a request, without their bytes, and what ``function`` returned or raised for each.

        ``read`` takes them out of the body, within the limits.
        Raises Refusal, and ClientDisconnect where the client has left.
        """
        if self.workers.full:
            raise self._busy()
        with Reservation(self.upload_buffer) as reservation:
            uploads = await read(request, self.settings, reservation)
            request.scope["state"]["pictures"] = len(uploads)
            if one_file and len(uploads) > 1:
                raise Refusal("one_file")
            try:
                queued = self.workers.submit(function, [upload.data for upload in uploads])
            except QueueFull:
                raise self._busy() from None
            for upload in uploads:
                upload.data = b""
            disconnect = asyncio.create_task(_wait_for_disconnect(request))
            try:
                await asyncio.wait(
                    (queued.done, disconnect), timeout=self.settings.timeout, return_when="FIRST_COMPLETED"
                )
                if queued.done.done():
                    return list(zip(uploads, queued.done.result(), strict=True))
                if disconnect.done():
                    raise ClientDisconnect
                message = f"not ready within {self.settings.timeout:g} s"
                raise Refusal("timeout", message, retry_after=self.workers.retry_after)
            finally:
                disconnect.cancel()
                self.workers.cancel(queued)

    def row(self, upload: Upload, outcome: Any) -> dict[str, Any]:
        """The row of the contract for one upload."""
        if isinstance(outcome, Score):
            return dataclasses.replace(outcome, path=upload.name).to_row()
        return Failure(upload.name, with_name(outcome, upload.name), self.scorer.model_id).to_row()

    def _busy(self) -> Refusal:
        return Refusal("busy", retry_after=self.workers.retry_after)

    def _record(self, seconds: float, outcome: Any) -> None:
        """Count one picture in the metrics."""
        code = "ok"
        if isinstance(outcome, Exception):
            code = outcome.code if isinstance(outcome, ImageError) else "internal"
        if code == "internal":
            event("fault", logging.ERROR, error=outcome)
        self.metrics.pictures.labels(code).inc()
        self.metrics.picture_seconds.observe(seconds)


def with_overlay(found: QualityMap) -> dict[str, Any]:
    """The explain JSON of a map, and ``overlay``, its drawing as a PNG data URL."""
    file = io.BytesIO()
    # without the legend it lies over the photo pixel by pixel; the page has a legend of its own
    found.overlay(legend=False).save(file, "PNG", compress_level=3)
    return {**found.to_dict(), "overlay": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"}


def with_name(error: Exception, name: str | None) -> ImageError:
    """The error of one picture, with the name under which the picture was sent."""
    if isinstance(error, ImageError):
        return type(error)(error.message, name)
    return InternalError.of(error, name)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(scorer: Scorer, settings: Settings | None = None) -> FastAPI:
    """The application around one scorer; see :class:`moslens.serve.settings.Settings` for the limits.

    The scorer should have ``threads=1``: the workers already score several pictures at once.
    """
    service = Service(scorer, settings or Settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.warm_up)
        service.workers.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.workers.stop)

    app = FastAPI(
        title="moslens",
        summary="Blind image quality assessment",
        description=DESCRIPTION,
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,  # that page loads scripts from other servers; ours is documentation.py
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": "./"}],  # beside openapi.json, also behind a prefix
    )
    app.state.service = service
    app.add_middleware(RequestMiddleware, metrics=service.metrics)
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("X-Request-ID",),
            expose_headers=("Retry-After", "X-Request-ID"),
        )
    _add_handlers(app)
    _add_routes(app, service)
    add_open_inference(app, service)
    add_page(app)
    add_documentation(app)
    return app


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        request.scope["state"]["code"] = refusal.code
        return refusal.response(flat=is_flat(request.scope))

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, invalid: RequestValidationError) -> Response:
        error = invalid.errors()[0]
        return await refused(request, Refusal("bad_query", f"{error['loc'][-1]}: {error['msg']}"))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return http_error_response(error.status_code, error.detail, error.headers, flat=is_flat(request.scope))

    @app.exception_handler(ClientDisconnect)
    async def client_left(request: Request, error: ClientDisconnect) -> Response:
        return NoResponse()


class NoResponse(Response):
    """Sends nothing: the client has left."""

    async def __call__(self, *_: Any) -> None:
        return


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/score",
        summary="Score pictures",
        description="One row for each file, in order. A file that cannot be scored gives a row with its error.",
        response_model=list[schemas.Row],
        responses=schemas.errors(*UPLOAD_CODES, "one_file", "bad_query"),
        openapi_extra=schemas.uploads(many=True),
        tags=["quality"],
    )
    async def score(
        request: Request,
        add_map: Annotated[bool, Query(alias="map", description="Add the answer of /v1/explain to the row.")] = False,
        overlay: Annotated[
            bool, Query(description="Whether the map has its drawing; a request that draws takes one picture.")
        ] = True,
        detail: WithDetail = False,
        path: PictureName = None,
    ) -> Response:
        if not add_map:
            outcomes = await service.process(request, partial(service.score_one, detail=detail))
            return AsciiJSONResponse([service.row(upload, outcome) for upload, outcome in outcomes])
        rows = []
        function = partial(service.score_with_map, overlay=overlay, detail=detail)
        for upload, outcome in await service.process(request, function, one_file=overlay):
            result, found = outcome if isinstance(outcome, tuple) else (outcome, None)
            rows.append({**service.row(upload, result), "map": found and {**found, **name_fields("path", upload.name)}})
        return AsciiJSONResponse(rows)

    @app.post(
        "/v1/explain",
        summary="Say where a picture is bad and what is wrong there",
        description="Blocks that tile the upright picture, and an overlay. 409 where the served model makes no maps.",
        response_model=schemas.Explanation,
        responses=schemas.errors(*UPLOAD_CODES, "one_file", "bad_picture", "no_map"),
        openapi_extra=schemas.uploads(many=False),
        tags=["quality"],
    )
    async def explain(request: Request, detail: WithDetail = False, path: PictureName = None) -> Response:
        if not service.has_maps:
            raise Refusal("no_map")
        ((upload, outcome),) = await service.process(
            request, partial(service.explain_one, detail=detail), one_file=True
        )
        if isinstance(outcome, Exception):
            error = with_name(outcome, upload.name)
            request.scope["state"]["code"] = error.code
            return picture_error_response(error)
        return AsciiJSONResponse({**outcome, **name_fields("path", upload.name)})

    @app.get("/v1/models", summary="The model served", response_model=list[schemas.ServedModel], tags=["service"])
    async def models() -> Response:
        card = service.scorer.model.card
        record = card.record
        return AsciiJSONResponse(
            [
                {
                    "id": card.id,
                    "name": card.name,
                    "sha256": card.sha256,
                    "licence": card.licence,
                    "range": record.get("range", [0, 100]),
                    "direction": record.get("direction", "higher is better"),
                    "calibration": record["calibration"],
                    "trained_on": record.get("trained_on"),
                    "limits": record.get("limits", []),
                    "metrics": record.get("metrics", {}),
                    "maps": service.has_maps,
                }
            ]
        )

    @app.get("/healthz", summary="Whether the service is up", response_model=schemas.Health, tags=["service"])
    async def healthz() -> Response:
        waiting = service.workers.waiting
        return AsciiJSONResponse(
            {"status": "ok", "model": service.scorer.model_id, "version": __version__, "waiting": waiting}
        )

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text"}},
        tags=["service"],
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    for path, answer in (("/v1/models", models), ("/healthz", healthz), ("/metrics", metrics)):
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
