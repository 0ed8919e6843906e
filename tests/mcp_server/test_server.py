"""The Model Context Protocol server: its tools over a real connection, and what it must never read, say or write."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("mcp", reason="needs the mcp extra: pip install '.[mcp]'")

from mcp import Client, StdioServerParameters

from helpers.linked_photos import SECRET, tools_over
from moslens import Scorer
from moslens.mcp_server import tools as tools_module
from moslens.mcp_server.server import create_server
from moslens.mcp_server.tools import FAULT
from moslens.scoring.result import Score


class TestOverStdio:
    """The command in a process of its own, asked by the package's own client."""

    def talk(self, root: Path, model: Path, work: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "moslens", "mcp", "--root", str(root), "--model", str(model)],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        )

        async def run() -> None:
            async with Client(server, read_timeout_seconds=60) as client:
                await work(client)

        asyncio.run(run())

    def test_every_tool(self, photos: Path, map_model: Path) -> None:
        before = {path: path.lstat().st_mtime_ns for path in sorted(photos.parent.rglob("*"))}

        async def work(client: Client) -> None:
            found = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"score_photos", "explain_photo", "compare_photos", "list_models"} <= set(found)
            assert all(tool.annotations and tool.annotations.read_only_hint for tool in found.values())

            scored = (await client.call_tool("score_photos", {"paths": ["."]})).structured_content
            assert scored is not None
            assert [row["path"] for row in scored["photos"]] == [
                "./broken.jpg", "./good.png", "./trip/blocky.png", "./trip/noisy.png",
            ]  # fmt: skip
            assert [row["status"] for row in scored["photos"]] == ["error", "ok", "ok", "ok"]
            assert scored["photos"][1]["score"] == pytest.approx(Scorer(map_model).score(photos / "good.png").score)
            assert scored["left_out"] == ["left out 1 links to files outside the folders that may be read"]

            explained = await client.call_tool("explain_photo", {"path": "trip/noisy.png"})
            text, picture = explained.content
            assert text.type == "text"
            assert json.loads(text.text)["photo"]["distortions"][0]["kind"] == "white_noise"
            assert picture.type == "image"
            assert picture.mime_type == "image/jpeg"
            overlay = Image.open(io.BytesIO(base64.b64decode(picture.data)))
            assert max(overlay.size) >= 1000

            compared = (
                await client.call_tool("compare_photos", {"paths": ["trip/noisy.png", "good.png", "broken.jpg"]})
            ).structured_content
            assert compared is not None
            assert [row["path"] for row in compared["photos"]] == ["good.png", "trip/noisy.png", "broken.jpg"]
            assert compared["photos"][0]["points_below_best"] == 0
            assert compared["photos"][1]["points_below_best"] > 10
            assert compared["photos"][1]["interval_overlaps_best"] is False

            models = (await client.call_tool("list_models", {})).structured_content
            assert models is not None
            assert models["in_use"] == Scorer(map_model).model_id
            assert str(map_model) not in json.dumps(models)

            for name, arguments in (
                ("score_photos", {"paths": [f"../{SECRET}/private.png"]}),
                ("score_photos", {"paths": []}),
                ("explain_photo", {"path": "link.png"}),
                ("explain_photo", {"path": "broken.jpg"}),
                ("explain_photo", {"path": "trip"}),
                ("compare_photos", {"paths": ["good.png"]}),
            ):
                refused = await client.call_tool(name, arguments)
                assert refused.is_error, (name, arguments)
                words = refused.content[0].text
                assert "Traceback" not in words
                assert str(photos.parent) not in words

        self.talk(photos, map_model, work)
        assert before == {path: path.lstat().st_mtime_ns for path in sorted(photos.parent.rglob("*"))}


class TestTools:
    def test_an_internal_error_says_nothing_of_the_machine(
        self, photos: Path, map_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tools = tools_over(map_model, photos)

        def fail(*_: Any) -> Score:
            raise RuntimeError(f"in /home/{SECRET}")

        monkeypatch.setattr(tools.scorer, "_score", fail)
        (row,) = tools.score(["good.png"])["photos"]
        assert row["error"] == {"code": "internal", "message": FAULT}

    def test_pick_is_there_where_its_module_is(
        self, photos: Path, map_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Pick:
            def __init__(self, path: str, row: dict[str, Any]) -> None:
                self.path, self.row = path, row

            def to_row(self) -> dict[str, Any]:
                return {"group": 1, "place": 1, "keep": True, **self.row}

        def pick(paths: list[str], rows: list[dict[str, Any]], *, keep: int, max_pixels: int) -> list[Pick]:
            assert keep == 1
            assert all(os.path.isabs(path) for path in paths)  # noqa: PTH117
            return [Pick(path, row) for path, row in zip(paths, rows, strict=True)][::-1]

        tools = tools_over(map_model, photos)
        for found, names in ((pick, True), (None, False)):
            monkeypatch.setattr(tools_module, "find_pick", lambda found=found: found)
            monkeypatch.setattr("moslens.mcp_server.server.find_pick", lambda found=found: found)
            listed = asyncio.run(create_server(tools).list_tools())
            assert ("pick_photos" in {tool.name for tool in listed}) is names
        monkeypatch.setattr(tools_module, "find_pick", lambda: pick)
        rows = tools.pick(["good.png", "trip", "trip/../good.png"], 1)["photos"]
        assert [row["path"] for row in rows] == ["trip/noisy.png", "trip/blocky.png", "trip/../good.png"]
