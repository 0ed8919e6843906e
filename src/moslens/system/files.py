"""Files that are written whole or not at all, JSON, and hashes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from moslens.errors import CheckpointError, OutputError


def write_atomic(path: Path, data: bytes) -> None:
    """Write all of a file or nothing of it."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """JSON with a final newline, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file; CheckpointError where it is missing or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError("no such file", path) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot be read ({error})", path) from error


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, making its folder. Raises OutputError."""
    scratch = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8", errors="surrogateescape")
        scratch.replace(path)
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})", path) from error
