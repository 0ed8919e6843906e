"""The fields of the answers, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from moslens.serve.refusal import REASONS

ID = "quality-lite@0123456789ab"
RAW_NAME = Field(default=None, description="The bytes of a name that is not UTF-8, only in such a row.")


class Distortion(BaseModel):
    """One kind of fault: how severe (1 to 5) and on what share of the picture (0 to 1)."""

    kind: str
    group: str
    severity: float
    share: float


class Box(BaseModel):
    """A region in pixels of the upright picture, and its score."""

    x: int
    y: int
    width: int
    height: int
    score: float


class Problem(BaseModel):
    """What went wrong: a code for programs, a message for people."""

    code: str
    message: str


class Block(Box):
    """One cell of the map. ``kind``, ``group`` and ``severity`` are null where nothing is wrong."""

    weight: float
    kind: str | None
    group: str | None
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
    grid: Grid


class Explanation(QualityMap):
    """The map and its drawing."""

    overlay: str = Field(description="The picture with its map, a PNG as a data URL.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "path": "a.jpg", "score": 71.3, "low": 62.0, "high": 80.1, "model": ID, "width": 640, "height": 480,
                    "grid": {
                        "rows": 1, "columns": 2,
                        "blocks": [
                            {
                                "x": 0, "y": 0, "width": 320, "height": 480, "score": 78.0, "weight": 0.5,
                                "kind": None, "group": None, "severity": None, "confidence": 0.9,
                            },
                            {
                                "x": 320, "y": 0, "width": 320, "height": 480, "score": 64.6, "weight": 0.5,
                                "kind": "motion_blur", "group": "blur", "severity": 3.2, "confidence": 0.8,
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
                    "distortions": [{"kind": "motion_blur", "group": "blur", "severity": 3.2, "share": 0.25}],
                    "worst_block": {"x": 0, "y": 1512, "width": 1008, "height": 756, "score": 41.0},
                    "model": ID, "version": "0.1.0", "error": None,
                },
                {
                    "path": "b.jpg", "status": "error", "score": None, "low": None, "high": None,
                    "width": None, "height": None, "distortions": [], "worst_block": None,
                    "model": ID, "version": "0.1.0",
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


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may be refused with these codes, an example each."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, message = REASONS[code]
        entry = found.setdefault(
            status, {"model": Error, "description": "", "content": {"application/json": {"examples": {}}}}
        )
        entry["description"] = f"{entry['description']} {message}".strip()
        example = {"summary": message, "value": {"error": {"code": code, "message": message}}}
        entry["content"]["application/json"]["examples"][code] = example
        if status == 503:
            entry["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return found


def multipart(description: str, *, many: bool) -> dict[str, Any]:
    """The request body of a route that takes uploads."""
    one = {"type": "string", "format": "binary"}
    kind = {"type": "array", "items": one, "minItems": 1} if many else one
    schema = {"type": "object", "required": ["file"], "properties": {"file": {**kind, "description": description}}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
