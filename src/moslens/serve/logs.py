"""Logs as JSON, one object a line, on standard error. They never hold file names or pictures."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("moslens.serve")


class JsonLines(logging.Formatter):
    """time, level, logger, event, and the fields given as ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def event(name: str, level: int = logging.INFO, *, error: BaseException | None = None, **fields: Any) -> None:
    """Log one event with its fields."""
    logger.log(level, name, exc_info=error, extra={"fields": fields})


def set_up(level: int = logging.INFO) -> None:
    """Write all logs of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(level)
    logging.getLogger("python_multipart").setLevel(
        logging.ERROR
    )  # it warns of every broken form, which our own line has as bad_multipart
