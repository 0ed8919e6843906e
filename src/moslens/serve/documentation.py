"""``/docs``: the OpenAPI document as a plain page, which needs no script and nothing from elsewhere."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI

from moslens.serve.static_files import MEDIA_TYPES, add_file

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>moslens: API</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="static/style.css">
<header><h1>moslens {version}: API</h1></header>
<main class="api">
<p>{description}</p>
<p>Programs read <a href="openapi.json">openapi.json</a>. Photos can be tried on <a href="./">the page</a>.</p>
"""


def add_documentation(app: FastAPI) -> None:
    """Serve the page at ``/docs``. Every route must be there already."""
    add_file(app, "/docs", documentation(app.openapi()).encode(), MEDIA_TYPES[".html"])


def documentation(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document: each call with its parameters, bodies, answers and examples."""
    info = document["info"]
    head = HEAD.format(version=escape(info["version"]), description=escape(info["description"]))
    schemas = document["components"]["schemas"]
    calls = [
        "\n".join(_call(method.upper(), path, call, schemas))
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    ]
    return head + "\n".join(calls) + "\n</main>\n</html>\n"


def _call(method: str, path: str, call: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield f"<section><h2><code>{method} {escape(path)}</code></h2><p>{escape(call['summary'])}.</p>"
    if "description" in call:
        yield f"<p>{escape(call['description'])}</p>"
    yield from _table(
        "Parameters", [(each["name"], each.get("description", "")) for each in call.get("parameters", ())]
    )
    bodies = call.get("requestBody", {}).get("content", {})
    yield from _table("Body", [(kind, _fields(body["schema"])) for kind, body in bodies.items()])
    yield from _table("Answers", [(status, answer["description"]) for status, answer in call["responses"].items()])
    yield from _example(call["responses"]["200"], schemas)
    yield "</section>"


def _fields(schema: dict[str, Any]) -> str:
    properties = schema.get("properties", {}).items()
    fields = [f"{name}: {field['description']}" for name, field in properties if "description" in field]
    return " or ".join(fields) or str(schema.get("description", ""))


def _table(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    if rows:
        lines = (f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
        yield f"<table><caption>{title}</caption>{''.join(lines)}</table>"


def _example(answer: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """The examples of the schema that an answer is made of."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    name = schema.get("items", schema).get("$ref", "").rpartition("/")[2]
    for example in schemas.get(name, {}).get("examples", ()):
        yield f"<pre>{escape(json.dumps(example, indent=1))}</pre>"
