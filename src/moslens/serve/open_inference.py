"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer), beside our own calls.

A request has one input, ``image``: BYTES of shape [N], each element a whole picture file, in base64 where it stands in
JSON, as it is in the binary tensor data extension. It gives ``score`` FP32 [N] and ``interval`` FP32 [N, 2], low and
high. The protocol has no row for a picture that fails, so one such picture fails its request; the message says which.
"""

import base64
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import FastAPI, Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from moslens import __version__
from moslens.errors import ImageError, InternalError
from moslens.scoring.result import DECIMALS, Score
from moslens.serve import schemas
from moslens.serve.refusal import AsciiJSONResponse, Refusal, picture_error_response
from moslens.serve.settings import Settings
from moslens.serve.upload import Reservation, Upload, receive, refuse_compressed

if TYPE_CHECKING:
    from moslens.serve.app import Service

INPUT = "image"
OUTPUTS = {"score": (), "interval": (2,)}
"""The outputs, and the shape of each for one picture."""

HEADER_LENGTH = "Inference-Header-Content-Length"
MOST_VALUES = 10_000
"""Values that the JSON of a request may have, of which a small body could otherwise hold millions."""

CODES = (
    "bad_inference", "no_model", "upload_timeout", "body_too_large", "too_many_files", "not_multipart", "bad_picture",
    "internal", "busy", "timeout",
)  # fmt: skip


@dataclass
class InferenceRequest:
    """The pictures of a request, its id, and the wanted outputs: for each whether it is wanted as binary data."""

    pictures: list[bytes] = field(default_factory=list)
    id: str | None = None
    outputs: Mapping[str, bool] = field(default_factory=lambda: dict.fromkeys(OUTPUTS, False))


def parse(body: bytes, header_length: int | None, max_pictures: int) -> InferenceRequest:
    """Take a request apart. ``header_length`` is the length of its JSON where binary data follow, else None.

    Raises Refusal for anything but a request for at least one picture and at most ``max_pictures``.
    """
    length = len(body) if header_length is None else header_length
    if not 0 < length <= len(body):
        raise _bad(f"{HEADER_LENGTH} is {length}, the body has {len(body)} bytes")
    tree = _json(body[:length])
    inputs = _entries(tree, "inputs")
    if len(inputs) != 1 or inputs[0].get("name") != INPUT or inputs[0].get("datatype") != "BYTES":
        raise _bad(f"the inputs must be one, {INPUT!r}, of datatype BYTES")
    (tensor,) = inputs
    count = _count(tensor.get("shape"))
    if count > max_pictures:
        raise Refusal("too_many_files", f"more than {max_pictures} pictures in one request")
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        pictures = list(_from_base64(tensor.get("data")))
    else:
        if type(size) is not int or size != len(body) - length:
            raise _bad(f"binary_data_size is {size!r}, {len(body) - length} bytes follow the JSON")
        pictures = list(_from_binary(memoryview(body)[length:]))
    if len(pictures) != count:
        raise _bad(f"the shape says {count}, there are {len(pictures)}")
    name = tree.get("id")
    if not isinstance(name, str | None):
        raise _bad("the id must be a text")
    return InferenceRequest(pictures, name, _wanted(tree))


def respond(request: InferenceRequest, model: str, version: str, scores: Sequence[Score]) -> Response:
    """The answer in the form that ``request`` wants it in."""
    values = {
        "score": [score.score for score in scores],
        "interval": [bound for score in scores for bound in (score.low, score.high)],
    }
    tail = b""
    outputs = []
    for name, binary in request.outputs.items():
        output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": [len(scores), *OUTPUTS[name]]}
        if binary:
            data = np.asarray(values[name], "<f4").tobytes()
            output["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            output["data"] = [round(value, DECIMALS) for value in values[name]]
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id is not None:
        answer["id"] = request.id
    if not any(request.outputs.values()):
        return AsciiJSONResponse(answer)
    head = json.dumps(answer).encode("ascii")
    return Response(head + tail, media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(head))})


def _bad(message: str) -> Refusal:
    return Refusal("bad_inference", message)


def _json(data: bytes) -> dict[str, Any]:
    # Base64 has none of these, so pictures do not count.
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise _bad("the JSON has too many values")
    try:
        tree = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON in UTF-8") from None
    if not isinstance(tree, dict):
        raise _bad("the JSON is no object")
    return tree


def _entries(tree: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = tree.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _bad(f"{key} must be a list of objects")
    return found


def _parameters(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = part.get("parameters", {})
    if not isinstance(found, dict):
        raise _bad("parameters must be an object")
    return found


def _count(shape: Any) -> int:
    """N of the shape [N], or [N, 1] as of a batch."""
    if not isinstance(shape, list) or shape[1:] not in ([], [1]) or type(shape[0] if shape else None) is not int:
        raise _bad("the shape must be [N]")
    if shape[0] < 1:
        raise _bad("no picture")
    return int(shape[0])


def _from_base64(data: Any) -> Iterator[bytes]:
    if isinstance(data, list) and all(isinstance(one, list) for one in data):  # nested, as the shape [N, 1] may be
        data = [text for one in data for text in one]
    if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
        raise _bad("data must be a list of texts, or binary_data_size be given")
    for number, text in enumerate(data):
        try:
            yield base64.b64decode(text, validate=True)
        except ValueError:
            raise _bad(f"picture {number} is not base64") from None


def _from_binary(data: memoryview) -> Iterator[bytes]:
    """Elements of BYTES: four bytes of length, little-endian, before each."""
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise _bad("the binary data end within a length")
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + size > len(data):
            raise _bad("the binary data end within a picture")
        yield bytes(data[at : at + size])
        at += size


def _wanted(tree: Mapping[str, Any]) -> dict[str, bool]:
    """Each wanted output, and whether it is wanted as binary data; all of them where none is named."""
    everything = _parameters(tree).get("binary_data_output") is True
    outputs = _entries(tree, "outputs") or [{"name": name} for name in OUTPUTS]
    wanted: dict[str, bool] = {}
    for output in outputs:
        name = output.get("name")
        if not isinstance(name, str) or name not in OUTPUTS or name in wanted:
            raise _bad(f"the outputs are {' and '.join(OUTPUTS)}, each at most once")
        wanted[name] = _parameters(output).get("binary_data", everything) is True
    return wanted


def add_open_inference(app: FastAPI, service: "Service") -> None:
    """Add the calls under ``/v2``."""
    card = service.scorer.model.card
    version = card.id.rpartition("@")[2]
    unknown = schemas.errors("no_model", flat=True)

    def check(name: str) -> None:
        if name not in (card.name, card.id):
            raise Refusal("no_model", f"the model served is {card.name}")

    async def server() -> Response:
        return AsciiJSONResponse({"name": "moslens", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live() -> Response:
        return AsciiJSONResponse({"live": True})

    async def ready() -> Response:
        return AsciiJSONResponse({"ready": True})

    async def model(name: str) -> Response:
        check(name)
        return AsciiJSONResponse(
            {
                "name": card.name,
                "versions": [version],
                "platform": "moslens",
                "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
                "outputs": [
                    {"name": output, "datatype": "FP32", "shape": [-1, *shape]} for output, shape in OUTPUTS.items()
                ],
            }
        )

    async def model_ready(name: str) -> Response:
        check(name)
        return AsciiJSONResponse({"name": card.name, "ready": True})

    async def infer(
        request: Request,
        name: str,
        header_length: Annotated[
            int | None,
            Header(alias=HEADER_LENGTH, ge=0, description="Bytes of the JSON, where binary data follow it."),
        ] = None,
    ) -> Response:
        check(name)
        asked = InferenceRequest()

        async def read(request: Request, settings: Settings, reservation: Reservation) -> list[Upload]:
            nonlocal asked
            refuse_compressed(request)
            chunks: list[bytes] = []
            await receive(request, settings, reservation, chunks.append)
            asked = parse(b"".join(chunks), header_length, settings.max_files)
            uploads = [Upload(None, picture) for picture in asked.pictures]
            asked.pictures = []
            return uploads

        outcomes = [outcome for _, outcome in await service.process(request, service.score_one, read=read)]
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Exception):
                error = _of_picture(outcome, number)
                request.scope["state"]["code"] = error.code
                return picture_error_response(error, flat=True)
        return respond(asked, card.name, version, outcomes)

    calls: tuple[tuple[str, Callable[..., Any], str, type[BaseModel], dict[int | str, dict[str, Any]]], ...] = (
        ("/v2", server, "The server, by the Open Inference Protocol", schemas.InferenceServer, {}),
        ("/v2/health/live", live, "Whether the service is alive", schemas.Live, {}),
        ("/v2/health/ready", ready, "Whether the service is ready", schemas.Ready, {}),
        ("/v2/models/{name}", model, "The model's input and outputs", schemas.InferenceModel, unknown),
        ("/v2/models/{name}/ready", model_ready, "Whether the model is ready", schemas.ModelReady, unknown),
    )
    for path, answer, summary, form, errors in calls:
        app.add_api_route(
            path, answer, summary=summary, response_model=form, responses=errors, tags=["open inference protocol"]
        )
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
    app.add_api_route(
        "/v2/models/{name}/infer",
        infer,
        methods=["POST"],
        summary="Score pictures, by the Open Inference Protocol",
        description="Pictures as BYTES: base64 in JSON, or the binary tensor data extension. A picture that cannot be"
        " used fails the request.",
        response_model=schemas.InferenceAnswer,
        responses=schemas.errors(*CODES, "bad_query", flat=True),
        openapi_extra=schemas.inference_body(),
        tags=["open inference protocol"],
    )


def _of_picture(error: Exception, number: int) -> ImageError:
    """The error of a picture that has no name, with its place among the elements."""
    if isinstance(error, ImageError):
        return type(error)(f"picture {number}: {error.message}")
    return InternalError(f"picture {number}: {InternalError.of(error).message}")
