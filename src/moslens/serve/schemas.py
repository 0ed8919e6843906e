"""The fields of the answers, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from moslens.serve.refusal import REASONS, error_body
from moslens.serve.upload import FIELDS

ID = "quality-lite@0123456789ab"
RAW_NAME = Field(default=None, description="The bytes of a name that is not UTF-8, only in such a row.")


class Distortion(BaseModel):
    """One kind of fault: how severe (1 to 5) and on what share of the picture (0 to 1)."""

    kind: str
    group: str
    label: str = Field(description="The kind in plain words, or its group where the kind is a guess.")
    kind_certain: bool = Field(description="False where the group alone is certain: kind is then a guess.")
    severity: float
    share: float


class Box(BaseModel):
    """A region in pixels of the upright picture, and its score."""

    x: int
    y: int
    width: int
    height: int
    score: float


class Detail(BaseModel):
    """How good a picture is at 100 %, from tiles at its native size."""

    score: float = Field(ge=0, le=100)
    tiles: list[Box]
    distortions: list[Distortion]


DETAIL = Field(default=None, description="Only with detail=true, and only above twice the model's working size.")


class Problem(BaseModel):
    """What went wrong: a code for programs, a message for people."""

    code: str
    message: str


class Block(Box):
    """One cell of the map. What says which fault it is, and how severe, is null where no fault was found."""

    weight: float
    kind: str | None
    group: str | None
    label: str | None
    kind_certain: bool | None = Field(description="False where the group alone is certain: kind is then a guess.")
    severity: float | None
    confidence: float | None


class Grid(BaseModel):
    """Blocks that tile the picture, row by row."""

    rows: int
    columns: int
    blocks: list[Block]


class QualityMap(BaseModel):
    """Where one picture is bad and what is wrong there."""

    path: str | None
    path_base64: str | None = RAW_NAME
    score: float
    low: float
    high: float
    model: str
    width: int
    height: int
    distortions: list[Distortion]
    notes: list[str]
    detail: Detail | None = DETAIL
    grid: Grid


class Explanation(QualityMap):
    """The map and its drawing."""

    overlay: str = Field(description="The picture with its map, a PNG as a data URL.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "path": "a.jpg", "score": 71.3, "low": 62.0, "high": 80.1, "model": ID, "width": 640, "height": 480,
                    "distortions": [
                        {
                            "kind": "motion_blur", "group": "blur", "label": "motion blur", "kind_certain": True,
                            "severity": 3.2, "share": 0.5,
                        }
                    ],
                    "notes": [], "detail": None,
                    "grid": {
                        "rows": 1, "columns": 2,
                        "blocks": [
                            {
                                "x": 0, "y": 0, "width": 320, "height": 480, "score": 78.0, "weight": 0.5,
                                "kind": None, "group": None, "label": None, "kind_certain": None, "severity": None,
                                "confidence": 0.9,
                            },
                            {
                                "x": 320, "y": 0, "width": 320, "height": 480, "score": 64.6, "weight": 0.5,
                                "kind": "motion_blur", "group": "blur", "label": "motion blur", "kind_certain": True,
                                "severity": 3.2, "confidence": 0.8,
                            },
                        ],
                    },
                    "overlay": "data:image/png;base64,iVBORw0KGgo=",
                }
            ]
        }
    )  # fmt: skip


class Row(BaseModel):
    """One picture of a request, the same row as ``moslens score`` writes."""

    path: str | None = Field(description="The name under which the file was sent.")
    path_base64: str | None = RAW_NAME
    status: Literal["ok", "error"]
    score: float | None = Field(ge=0, le=100, description="0 to 100, higher is better; null for an error.")
    low: float | None = Field(ge=0, le=100, description="Lower bound at 90 % coverage.")
    high: float | None = Field(ge=0, le=100, description="Upper bound at 90 % coverage.")
    width: int | None
    height: int | None
    distortions: list[Distortion]
    worst_block: Box | None
    notes: list[str] = Field(description="Codes of what a reader should know, as `not_a_photo`.")
    detail: Detail | None = DETAIL
    model: str
    version: str
    error: Problem | None
    map: Explanation | QualityMap | None = Field(
        default=None,
        description="Only with map=true. Null for an error, and where the served model makes no maps.",
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "path": "a.jpg", "status": "ok", "score": 71.3, "low": 62.0, "high": 80.1,
                    "width": 4032, "height": 3024,
                    "distortions": [
                        {
                            "kind": "motion_blur", "group": "blur", "label": "motion blur", "kind_certain": True,
                            "severity": 3.2, "share": 0.25,
                        }
                    ],
                    "worst_block": {"x": 0, "y": 1512, "width": 1008, "height": 756, "score": 41.0},
                    "notes": [], "detail": None, "model": ID, "version": "0.2.0", "error": None,
                },
                {
                    "path": "b.jpg", "status": "error", "score": None, "low": None, "high": None,
                    "width": None, "height": None, "distortions": [], "worst_block": None,
                    "notes": [], "detail": None, "model": ID, "version": "0.2.0",
                    "error": {"code": "truncated", "message": "b.jpg: the file ends after 1,024 of 5,000 bytes"},
                },
            ]
        }
    )  # fmt: skip


class ServedModel(BaseModel):
    """The card of the served model, and whether the model makes maps."""

    id: str
    name: str
    sha256: str
    licence: str | None
    range: list[float]
    direction: str
    calibration: dict[str, Any]
    trained_on: str | None
    limits: list[str]
    metrics: dict[str, Any]
    maps: bool


class Health(BaseModel):
    """The service is up."""

    status: Literal["ok"]
    model: str
    version: str
    waiting: int = Field(description="Pictures that wait for a worker.")


class Error(BaseModel):
    """Any answer that is not a result."""

    error: Problem


class FlatError(BaseModel):
    """Any answer of the Open Inference Protocol that is not a result: a message for people, a code for programs."""

    error: str
    code: str


class InferenceServer(BaseModel):
    """The server, and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The service is alive."""

    live: bool


class Ready(BaseModel):
    """The service takes pictures."""

    ready: bool


class ModelReady(Ready):
    """The model takes pictures."""

    name: str


class TensorMetadata(BaseModel):
    """A tensor of the model; -1 in its shape is the number of pictures."""

    name: str
    datatype: str
    shape: list[int]


class InferenceModel(BaseModel):
    """The model: one input, the files of N pictures; outputs score and interval (low, high) of each."""

    name: str
    versions: list[str] = Field(description="The beginning of the SHA-256 of the weights.")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(TensorMetadata):
    """An output, in ``data`` in the order of the pictures, or as binary data behind the JSON."""

    data: list[float] | None = None
    parameters: dict[str, int] | None = None


class InferenceAnswer(BaseModel):
    """The scores of the pictures of a request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_name": "quality-lite", "model_version": "0123456789ab",
                    "outputs": [
                        {"name": "score", "datatype": "FP32", "shape": [1], "data": [71.3]},
                        {"name": "interval", "datatype": "FP32", "shape": [1, 2], "data": [62.0, 80.1]},
                    ],
                }
            ]
        }
    )  # fmt: skip


def errors(*codes: str, flat: bool = False) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may be refused with these codes, an example each."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, message = REASONS[code]
        entry = found.setdefault(
            status,
            {
                "model": FlatError if flat else Error,
                "description": "",
                "content": {"application/json": {"examples": {}}},
            },
        )
        entry["description"] = f"{entry['description']} {message}".strip()
        example = {"summary": message, "value": error_body(code, message, flat=flat)}
        entry["content"]["application/json"]["examples"][code] = example
        if status == 503:
            entry["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return found


def uploads(*, many: bool) -> dict[str, Any]:
    """The request body of a route that takes pictures: a form, or one picture as it is."""
    one = {"type": "string", "format": "binary"}
    kind = {"type": "array", "items": one, "minItems": 1} if many else one
    words = "One picture, or many." if many else "One picture."
    form = {
        "type": "object",
        "properties": {name: {**kind, "description": words} for name in FIELDS},
        "anyOf": [{"required": [name]} for name in FIELDS],
    }
    picture = {"schema": {**one, "description": "One picture; its name may be in the query, as path."}}
    content = {"multipart/form-data": {"schema": form}, "image/*": picture, "application/octet-stream": picture}
    return {"requestBody": {"required": True, "content": content}}


def inference_body() -> dict[str, Any]:
    """The request body of an inference: JSON with pictures in base64, or JSON and behind it pictures as they are."""
    picture = {"type": "string", "format": "byte"}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"const": "image"},
            "datatype": {"const": "BYTES"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 1},
            "data": {"type": "array", "items": picture, "minItems": 1},
        },
        "required": ["name", "datatype", "shape", "data"],
    }
    inputs = {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1, "description": "One: the pictures."}
    request = {"type": "object", "properties": {"id": {"type": "string"}, "inputs": inputs}, "required": ["inputs"]}
    words = "The JSON with binary_data_size instead of data, then the pictures, four bytes of length before each."
    binary = {"schema": {"type": "string", "format": "binary", "description": words}}
    content = {"application/json": {"schema": request}, "application/octet-stream": binary}
    return {"requestBody": {"required": True, "content": content}}
