"""The page in a real browser: every function, by mouse, keyboard and touch, on desktop and phone.

Needs playwright and Debian's chromium. With MOSLENS_SCREENSHOTS=FOLDER pictures of the page are left there.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the serve extra")
pytest.importorskip("playwright.sync_api", reason="browser tests need playwright: pip install '.[dev]'")

from playwright import sync_api

from helpers.hostile import encode, photo
from helpers.map_model import RED, make_map_model, plain
from helpers.serving import MapScorer, served
from moslens.bulk.rows import FLAT_COLUMNS
from moslens.scoring.draw_map import colour
from moslens.scoring.scorer import Scorer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("browser tests need chromium: apt-get install chromium", allow_module_level=True)

OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
expect = sync_api.expect
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tiny_model: Path) -> Iterator[str]:
    with served(MapScorer(tiny_model, threads=1)) as address:
        yield address


@pytest.fixture
def open_page(browser: Any, url: str) -> Iterator[Open]:
    """Opens the page in a fresh profile; fails the test on a script error or a request to anywhere else."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_it(address: str = url, *, viewport: dict[str, int] = DESKTOP, **options: Any) -> Any:
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "blob:", "data:")) else faults.append(request.url),
        )
        page.goto(address)
        expect(page.locator("#model")).to_contain_text("@")
        return page

    open_it.faults = faults  # type: ignore[attr-defined]
    yield open_it
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="module")
def photos(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The six photos that browsers can show, and a file that is none."""
    bad = tmp_path_factory.mktemp("bad") / "notes.jpg"
    bad.write_bytes(b"not a picture")
    return [*sorted(photo_folder.iterdir()), bad]


def pick(page: Any, paths: list[Path]) -> None:
    before = page.locator(".card").count()
    page.set_input_files("#pick", [str(path) for path in paths])
    expect(page.locator(".card .word, .card .error")).to_have_count(before + len(paths))


def wait_for_length(page: Any, held: list[Any], length: int) -> None:
    for _ in range(500):
        if len(held) == length:
            return
        page.wait_for_timeout(20)
    assert len(held) == length


def names(page: Any) -> list[str]:
    return [str(name) for name in page.locator(".card .name").all_inner_texts()]


def labels_of(page: Any) -> list[str]:
    return [block.get_attribute("aria-label") or "" for block in page.locator(".block").all()]


def scores(page: Any) -> list[int]:
    return [int(text.split()[0]) for text in page.locator(".card .word").all_inner_texts()]


def screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("MOSLENS_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


class TestAdding:
    def test_one_photo_picked_shows_score_interval_faults_and_map(
        self, open_page: Open, photos: list[Path], tiny_model: Path
    ) -> None:
        page = open_page()
        screenshot(page, "empty")
        pick(page, photos[:1])
        result = Scorer(tiny_model).score(photos[0])
        expect(page.locator("#verdict")).to_have_text(
            re.compile(rf"^{result.score:.0f} of 100, (bad|poor|fair|good|ex)")
        )
        interval = f"90 % range: {result.low:.0f} to {result.high:.0f}. 640 x 480 pixels."
        expect(page.locator("#meaning")).to_have_text(interval)
        expect(page.locator("#faults")).to_have_text("Motion blur, moderate: in the middle, 33\xa0% of the photo")
        expect(page.locator("#faults button")).to_have_attribute("title", "motion blur, severity 3.2 of 5")
        expect(page.locator("#story")).to_have_text("What hurts most: motion blur, moderate, in the middle.")
        expect(page.locator("#tint")).to_be_visible()
        expect(page.locator("#tools")).to_be_hidden()
        expect(page.locator(".block")).to_have_count(6)
        expect(page.locator(".card .thumb img")).to_have_count(1)
        expect(page.locator("#status")).to_contain_text(f"a.jpg: {result.score:.0f} of 100")

    def test_many_photos_and_one_that_is_none(self, open_page: Open, photos: list[Path], tiny_model: Path) -> None:
        page = open_page()
        pick(page, photos)
        assert names(page) == [path.name for path in photos]
        expected = [round(Scorer(tiny_model).score(path).score) for path in photos[:-1]]
        assert scores(page) == expected
        expect(page.locator(".card .thumb img")).to_have_count(6)
        expect(page.locator(".card").last).to_contain_text("not a picture in any format")
        expect(page.locator(".card").last.locator(".thumb")).to_have_text("JPG")
        expect(page.locator("#status")).to_contain_text("(7 of 7 done)")
        page.locator(".card .choose").nth(2).click()
        expect(page.locator("#viewer-name")).to_have_text(photos[2].name)
        page.locator(".card .choose").last.click()
        expect(page.locator("#verdict")).to_have_text("No score")
        expect(page.locator("#meaning")).to_contain_text("not a picture in any format")

    def test_dropped_and_pasted(self, open_page: Open) -> None:
        page = open_page()
        make = """([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
            return data;
        }"""
        data = list(encode(photo(), "PNG"))
        dropped = page.evaluate_handle(make, ["dropped.png", data])
        page.dispatch_event("body", "dragover", {"dataTransfer": dropped})
        expect(page.locator("#drop-here")).to_be_visible()
        page.dispatch_event("body", "drop", {"dataTransfer": dropped})
        expect(page.locator("#drop-here")).to_be_hidden()
        expect(page.locator(".word")).to_have_count(1)
        pasted = page.evaluate_handle(make, ["pasted.png", data])
        page.evaluate(
            "data => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))",
            pasted,
        )
        expect(page.locator(".word")).to_have_count(2)
        assert names(page) == ["dropped.png", "pasted.png"]
        text = page.evaluate_handle("() => { const d = new DataTransfer(); d.setData('text/plain', 'x'); return d; }")
        page.dispatch_event("body", "drop", {"dataTransfer": text})
        expect(page.locator(".card")).to_have_count(2)

    def test_names_are_text_whatever_is_in_them(self, open_page: Open, tmp_path: Path) -> None:
        page = open_page()
        odd = tmp_path / "<img src=x onerror=alert(1)>.png"
        odd.write_bytes(encode(photo(), "PNG"))
        pick(page, [odd])
        assert names(page) == [odd.name]
        expect(page.locator("#viewer-name")).to_have_text(odd.name)

    def test_a_picture_the_browser_cannot_show_is_scored_all_the_same(self, open_page: Open, tmp_path: Path) -> None:
        page = open_page()
        path = tmp_path / "scan.tiff"
        path.write_bytes(encode(photo(300, 400), "TIFF"))
        pick(page, [path])
        expect(page.locator(".card .thumb")).to_have_text("TIFF")
        expect(page.locator("#overlay")).to_be_visible()
        expect(page.locator("#photo")).to_be_hidden()
        box = page.locator("#overlay").bounding_box()
        page.locator(".block").last.hover()
        block = page.locator(".block").last.bounding_box()
        assert block["x"] + block["width"] == pytest.approx(box["x"] + box["width"], abs=1.5)
        assert block["y"] + block["height"] == pytest.approx(box["y"] + box["height"], abs=1.5)


class TestRequests:
    def test_one_request_a_picture_and_a_drawing_only_where_it_is_shown(
        self, open_page: Open, photos: list[Path], tmp_path: Path
    ) -> None:
        page = open_page()
        scan = tmp_path / "scan.tiff"
        scan.write_bytes(encode(photo(300, 400), "TIFF"))
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        shown = photos[:3]
        pick(page, [*shown, scan])
        for card in page.locator(".card .choose").all():
            card.click()
            expect(page.locator(".block")).to_have_count(6)
        expect(page.locator("#overlay")).to_be_visible()
        page.locator(".card .choose").first.click()
        expect(page.locator("#overlay")).to_be_hidden()
        expect(page.locator("#photo")).to_be_visible()
        queries = sorted(url.partition("/v1/")[2] for url in sent)
        assert queries == ["score?map=true&detail=true&overlay=false"] * 3 + ["score?map=true&detail=true&overlay=true"]


class TestMap:
    def test_regions_by_hover_keyboard_and_tap(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page(viewport=PHONE, has_touch=True)
        pick(page, photos[:1])
        blocks, region = page.locator(".block"), page.locator("#region")
        blocks.nth(1).hover()
        expect(region).to_have_text(
            re.compile(r"^Motion blur, moderate \(2\.5 of 5\), 75\s% sure, this part scores \d+$")
        )
        blocks.nth(3).tap()
        expect(region).to_contain_text("No fault here")
        screenshot(page, "phone")
        blocks.nth(3).focus()
        page.keyboard.press("ArrowRight")
        expect(blocks.nth(4)).to_be_focused()
        expect(region).to_contain_text("Motion blur, strong (3.5 of 5)")
        for key, wanted in (("ArrowUp", 1), ("ArrowUp", 1), ("End", 5), ("ArrowRight", 5), ("Home", 0)):
            page.keyboard.press(key)
            expect(blocks.nth(wanted)).to_be_focused()
        assert [block.get_attribute("tabindex") for block in blocks.all()].count("0") == 1
        assert (blocks.nth(1).get_attribute("aria-label") or "").startswith("Row 1, column 2: Motion blur")

    def test_blocks_lie_where_their_pixels_are(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:1])
        picture = page.locator("#photo").bounding_box()
        for index, block in enumerate(page.locator(".block").all()):
            box = block.bounding_box()
            assert box["x"] == pytest.approx(picture["x"] + (index % 3) * picture["width"] / 3, abs=1.5)
            assert box["y"] == pytest.approx(picture["y"] + (index // 3) * picture["height"] / 2, abs=1.5)

    def test_the_slider_sets_how_much_of_the_map_shows(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:1])
        tint, labels, slider = page.locator("#tint"), page.locator("#labels"), page.get_by_label("Map over the photo")
        expect(tint).to_have_css("opacity", "0.35")
        slider.fill("100")
        expect(tint).to_have_css("opacity", "0.7")
        expect(page.locator("#photo")).to_have_css("filter", "grayscale(1)")
        slider.focus()
        page.keyboard.press("Home")
        for part in (tint, labels):
            expect(part).to_have_css("opacity", "0")
        expect(page.locator("#photo")).to_have_css("filter", "grayscale(0)")
        assert slider.get_attribute("aria-valuetext") == "0 %"

    def test_the_colours_are_those_of_the_overlay(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:1])
        expect(page.locator(".block")).to_have_count(6)
        found = page.evaluate("() => import('/static/map.js').then(map => [0, 12.5, 50, 99, 100].map(map.colour))")
        assert [tuple(each) for each in found] == [colour(score) for score in (0, 12.5, 50, 99, 100)]
        drawn = page.evaluate("[...document.getElementById('tint').getContext('2d').getImageData(0, 0, 3, 2).data]")
        scores = [float(label.split()[-1]) for label in labels_of(page)]
        for index, score in enumerate(scores):  # which labels round to whole numbers
            assert drawn[4 * index : 4 * index + 3] == pytest.approx(colour(score), abs=2)

    def test_faults_are_outlined_and_named_where_they_are(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:1])
        blocks = page.locator(".block")
        expect(blocks).to_have_count(6)
        edges = [sorted(re.findall(r"edge-(\w+)", block.get_attribute("class") or "")) for block in blocks.all()]
        assert edges == [
            [],
            ["left", "right", "top"],
            ["right", "top"],
            [],
            ["bottom", "left", "right"],
            ["bottom", "right"],
        ]
        assert page.locator(".label").all_inner_texts() == ["motion blur", "JPEG artefacts"]
        photo_box = page.locator("#photo").bounding_box()
        for label, column in zip(page.locator(".label").all(), (1, 2), strict=True):
            box = label.bounding_box()
            middle = (box["x"] + box["width"] / 2 - photo_box["x"]) / photo_box["width"]
            assert column / 3 < middle < (column + 1) / 3
            assert box["x"] + box["width"] <= photo_box["x"] + photo_box["width"]

    def test_names_on_the_photo_never_cover_each_other(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page(viewport={"width": 320, "height": 640}, has_touch=True)
        kinds = ["non_eccentricity", "impulse_noise", "color_block", "jpeg2000", "mean_shift", "color_diffusion"]
        blocks = [
            {"x": 50 * (i % 6), "y": 50 * (i // 6), "width": 50, "height": 50, "score": 50, "kind": kinds[i % 6]}
            | {"severity": 3, "confidence": 0.9}
            for i in range(12)
        ]
        pick(page, photos[:1])
        expect(page.locator(".block")).to_have_count(6)
        draw = "map => import('/static/map.js').then(module => module.drawMap(map, null))"
        page.evaluate(draw, {"width": 300, "height": 100, "grid": {"rows": 2, "columns": 6, "blocks": blocks}})
        boxes = [label.bounding_box() for label in page.locator(".label").all()]
        assert len(boxes) >= 3
        for one, other in itertools.combinations(boxes, 2):
            apart_x = abs(one["x"] - other["x"]) >= (one["width"] if one["x"] < other["x"] else other["width"]) - 0.5
            apart_y = abs(one["y"] - other["y"]) >= (one["height"] if one["y"] < other["y"] else other["height"]) - 0.5
            assert apart_x or apart_y

    def test_the_worst_part_is_framed(self, open_page: Open, tmp_path: Path) -> None:
        picture = plain(600, 300)
        picture[:, 300:] = RED
        (tmp_path / "half.png").write_bytes(encode(picture, "PNG"))
        scorer = Scorer(make_map_model(tmp_path / "colours"), threads=1)
        worst = scorer.score(tmp_path / "half.png").worst_block
        with served(scorer) as address:
            page = open_page(address)
            pick(page, [tmp_path / "half.png"])
            expect(page.locator(".block.worst")).to_have_count(1)
            stage, box = page.locator("#stage").bounding_box(), page.locator(".block.worst").bounding_box()
            assert (box["x"] - stage["x"]) / stage["width"] == pytest.approx(worst["x"] / 600, abs=0.01)
            expect(page.locator("#story")).to_have_text(re.compile(r"^What hurts most: JPEG artefacts, \w+, right\.$"))

    def test_places_and_stories(self, open_page: Open) -> None:
        page = open_page()
        ask = "([name, args]) => import('/static/words.js').then(words => words[name](...args))"

        def place(*boxes: tuple[int, int, int, int]) -> str:
            blocks = [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in boxes]
            return str(page.evaluate(ask, ["place", [blocks, 300, 300]]))

        assert place((0, 0, 100, 100)) == "top left"
        assert place((200, 200, 100, 100), (200, 100, 100, 100)) == "bottom right"
        assert place((0, 0, 300, 60)) == "top"
        assert place((0, 0, 60, 300)) == "left"
        assert place((100, 100, 100, 100)) == "in the middle"
        frame = [(50 * i, 50 * j, 50, 50) for i in range(6) for j in range(6) if {i, j} & {0, 5}]
        assert place(*frame) == "around the middle"
        assert place((0, 0, 100, 100), (200, 200, 100, 100), (100, 100, 100, 100)) == "in several places"
        assert place((0, 0, 300, 200)) == "nearly everywhere"
        assert place((0, 0, 300, 300)) == "everywhere"
        row = {"distortions": [], "score": 20, "width": 300, "height": 300}
        row["worst_block"] = {"x": 200, "y": 0, "width": 100, "height": 100}
        story = "([row]) => import('/static/words.js').then(words => words.story(row, () => null))"
        assert page.evaluate(story, [row]) == "No fault named. The weakest part: top right."
        assert page.evaluate(story, [{**row, "score": 70}]) == "No fault named."
        assert page.evaluate(story, [{**row, "worst_block": None}]) == ""
        row["distortions"] = [
            {"kind": "jpeg", "label": "JPEG artefacts", "severity": 5, "share": 0.1},
            {"kind": "darken", "label": "too dark", "severity": 2, "share": 0.9},
        ]
        assert page.evaluate(story, [row]) == "What hurts most: too dark, mild."

    def test_detail_and_notes_in_words(self, open_page: Open) -> None:
        page = open_page()
        ask = "([name, row]) => import('/static/words.js').then(words => words[name](row))"
        fault = {"kind": "white_noise", "label": "noise", "severity": 4.2, "share": 0.7}
        row = {"notes": ["not_a_photo"], "detail": {"score": 33.2, "tiles": [], "distortions": [fault]}}
        assert page.evaluate(ask, ["atFullSize", row]) == "At 100\xa0%, pixel for pixel: 33 of 100 (noise, strong)."
        assert page.evaluate(ask, ["atFullSize", {"detail": None}]) == ""
        assert page.evaluate(ask, ["noteWords", row]) == "Not a photo: the score is outside what this model knows."
        assert page.evaluate(ask, ["noteWords", {"notes": []}]) == ""
        assert page.evaluate(ask, ["plain", {"kind": "new_kind"}]) == "new kind"

    def test_detail_is_a_line_beside_the_score(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:1])
        expect(page.locator("#full-size")).to_have_text(
            "At 100\xa0%, pixel for pixel: 40 of 100 (motion blur, moderate)."
        )

    def test_a_real_map_names_the_fault_where_it_is(self, open_page: Open, tmp_path: Path) -> None:
        picture = plain(600, 300)
        picture[:, 300:] = RED
        (tmp_path / "half.png").write_bytes(encode(picture, "PNG"))
        with served(Scorer(make_map_model(tmp_path / "colours"), threads=1)) as address:
            page = open_page(address)
            pick(page, [tmp_path / "half.png"])
            expect(page.locator("#faults")).to_contain_text("JPEG artefacts, ")
            expect(page.locator(".block").first).to_be_attached()
            stage = page.locator("#stage").bounding_box()
            for across, words in ((0.9, "JPEG artefacts, "), (0.1, "No fault here")):
                page.mouse.move(stage["x"] + across * stage["width"], stage["y"] + stage["height"] / 2)
                expect(page.locator("#region")).to_contain_text(words)
            screenshot(page, "real-map")

    def test_a_named_fault_shows_its_regions(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        held: list[Any] = []
        page.route("**/v1/score*", lambda route: held.append(route))  # noqa: PLW0108 (it gets attributes)
        page.set_input_files("#pick", str(photos[0]))
        wait_for_length(page, held, 1)
        expect(page.locator("#verdict")).to_have_text("Scoring\u2026")
        expect(page.locator("#faults button")).to_have_count(0)
        held[0].continue_()
        fault = page.locator("#faults").get_by_role("button", name="Motion blur, moderate")
        expect(fault).to_have_text("Motion blur, moderate: in the middle, 33\xa0% of the photo")
        fault.click()
        expect(fault).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".block.marked")).to_have_count(2)
        page.locator(".card .choose").click()  # the photo in view stays as it is
        expect(fault).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".block.marked")).to_have_count(2)
        fault.click()
        expect(fault).to_be_focused()
        expect(page.locator(".block.marked")).to_have_count(0)

    def test_a_model_without_maps_shows_the_score_alone(
        self, open_page: Open, photos: list[Path], tiny_model: Path
    ) -> None:
        with served(Scorer(tiny_model, threads=1)) as address:
            page = open_page(address)
            pick(page, photos[:2])
            expect(page.locator("#verdict")).to_contain_text("of 100")
            expect(page.locator("#map-note")).to_contain_text("does not say where")
            expect(page.locator("#map-control")).to_be_hidden()
            expect(page.locator("#tint")).to_be_hidden()
            expect(page.locator("#story")).to_be_hidden()
            screenshot(page, "no-map")


class TestList:
    def test_sorting(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, list(reversed(photos)))
        page.get_by_label("Sort").select_option("worst first")
        assert scores(page) == sorted(scores(page))
        assert names(page)[-1] == "notes.jpg"
        page.get_by_label("Sort").select_option("best first")
        assert scores(page) == sorted(scores(page), reverse=True)
        assert names(page)[-1] == "notes.jpg"
        page.get_by_label("Sort").select_option("by name")
        assert names(page) == sorted((path.name for path in photos), key=str.lower)
        page.get_by_label("Sort").select_option("as added")
        assert names(page) == [path.name for path in reversed(photos)]
        screenshot(page, "desktop")

    def test_turning_over_follows_the_list(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:1])
        expect(page.locator("#next")).to_be_hidden()
        pick(page, photos[1:4])
        page.get_by_label("Sort").select_option("worst first")
        order, shown = names(page), page.locator("#viewer-name")
        page.locator(".card .choose").first.click()
        for wanted in (*order[1:], order[0]):
            page.get_by_role("button", name="Next photo").click()
            expect(shown).to_have_text(wanted)
        page.get_by_role("button", name="Previous photo").click()
        expect(shown).to_have_text(order[-1])
        page.get_by_label("Name has").fill("nothing like it")
        page.get_by_role("button", name="Next photo").click()
        expect(shown).to_have_text(order[-1])
        page.get_by_label("Name has").fill(order[1])
        page.get_by_role("button", name="Previous photo").click()
        expect(shown).to_have_text(order[1])

    def test_filters(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos)
        page.get_by_label("Show").select_option("errors")
        assert names(page) == ["notes.jpg"]
        page.get_by_label("Show").select_option("scored")
        assert len(names(page)) == 6
        expect(page.locator("#count")).to_have_text("6 of 7 shown")
        page.get_by_label("Show").select_option("motion blur")
        assert len(names(page)) == 6
        page.get_by_label("Show").select_option("all")
        middle = sorted(scores(page))[3]
        page.get_by_label("Score up to").fill(str(middle))
        assert 3 <= len(names(page)) <= 4
        assert max(scores(page)) <= middle
        page.get_by_label("Score up to").fill("")
        page.get_by_label("Name has").fill("JPE")
        assert names(page) == ["f.jpeg"]

    def test_export_holds_what_is_shown_and_runs_nothing(
        self, open_page: Open, tmp_path: Path, tiny_model: Path, photos: list[Path]
    ) -> None:
        page = open_page()
        data = photos[0].read_bytes()
        odd = ["=cmd|'/C calc'!A0.jpg", "+1.jpg", "-1.jpg", "@sum.jpg", 'quo"te, comma.jpg', "plain.jpg"]
        for name in odd:
            (tmp_path / name.replace("/", "\u2215")).write_bytes(data)
        paths = [tmp_path / name.replace("/", "\u2215") for name in odd]
        pick(page, [*paths, photos[-1]])
        with page.expect_download() as download:
            page.get_by_role("button", name="Export CSV").click()
        assert download.value.suggested_filename == "moslens.csv"
        text = Path(download.value.path()).read_text("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        first = [f"'{path.name}" for path in paths[:4]]
        assert [row["path"] for row in rows] == [*first, paths[4].name, "plain.jpg", "notes.jpg"]
        result = Scorer(tiny_model).score(photos[0])
        for row in rows[:-1]:
            assert float(row["score"]) == pytest.approx(result.score, abs=1e-4)
            assert json.loads(row["distortions"])[0]["kind"] == "motion_blur"
            assert (row["fault"], row["fault_group"], row["fault_label"]) == ("motion_blur", "blur", "motion blur")
            assert row["fault_kind_certain"] == "true"
        assert tuple(rows[0]) == FLAT_COLUMNS, "the columns of moslens score"
        assert rows[-1]["status"] == "error"
        assert json.loads(rows[-1]["error"])["code"] == "not_an_image"
        assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for row in rows for cell in row.values())

    def test_removing_keeps_the_focus_at_hand(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:3])
        page.get_by_role("button", name="Remove a.jpg").focus()
        page.keyboard.press("Enter")
        assert names(page) == ["b.png", "c.webp"]
        expect(page.get_by_role("button", name="Remove b.png")).to_be_focused()
        expect(page.locator("#viewer-name")).to_have_text("b.png")
        page.get_by_role("button", name="Remove all").click()
        expect(page.locator("#panes")).to_be_hidden()
        expect(page.locator("#pick")).to_be_focused()
        pick(page, photos[3:4])
        assert names(page) == ["d.bmp"]
        expect(page.locator("#viewer")).to_be_visible()


class TestTrouble:
    def test_a_busy_server_is_asked_again(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        calls = []

        def busy(route: Any) -> None:
            calls.append(route)
            if len(calls) > 1:
                route.continue_()
                return
            body = json.dumps({"error": {"code": "busy", "message": "later"}})
            route.fulfill(status=503, headers={"Retry-After": "1"}, content_type="application/json", body=body)

        page.route("**/v1/score*", busy)
        pick(page, photos[:1])
        assert len(calls) == 2
        assert scores(page)
        open_page.faults.clear()  # type: ignore[attr-defined]  # the browser notes the 503 as an error

    def test_a_file_that_went_away_is_not_blamed_on_the_server(self, open_page: Open, tmp_path: Path) -> None:
        page = open_page()
        held: list[Any] = []
        page.route("**/v1/score*", lambda route: held.append(route))  # noqa: PLW0108 (it gets attributes)
        paths = [tmp_path / name for name in ("a.png", "b.png", "gone.png")]
        for path in paths:
            path.write_bytes(encode(photo(), "PNG"))
        page.set_input_files("#pick", [str(path) for path in paths])
        expect(page.locator(".card .thumb img")).to_have_count(3)
        wait_for_length(page, held, 2)
        paths[-1].unlink()  # two at a time: it has not been read yet
        for route in held:
            route.continue_()
        expect(page.locator(".card .word")).to_have_count(2)
        expect(page.locator(".card .error")).to_contain_text("cannot read this file")

    def test_a_server_out_of_reach_and_another_try(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        page.route("**/v1/score*", lambda route: route.abort())
        pick(page, photos[:1])
        expect(page.locator(".card .error")).to_have_text("the server cannot be reached")
        page.unroute("**/v1/score*")
        page.get_by_role("button", name="Try again: a.jpg").click()
        expect(page.locator(".card .word")).to_have_count(1)
        expect(page.locator(".card .again")).to_be_hidden()
        open_page.faults.clear()  # type: ignore[attr-defined]  # the browser notes the failed request as an error


class TestForAll:
    def test_light_and_dark(self, open_page: Open) -> None:
        page = open_page(color_scheme="dark")
        dark, light = "rgb(17, 19, 24)", "rgb(246, 247, 249)"
        body, button = page.locator("body"), page.locator("#theme")
        expect(body).to_have_css("background-color", dark)
        for label, back in (("light", light), ("dark", dark), ("system", dark), ("light", light)):
            button.click()
            expect(button).to_have_text(f"Theme: {label}")
            expect(body).to_have_css("background-color", back)
        page.reload()
        expect(body).to_have_css("background-color", light)

    def test_the_keyboard_reaches_everything(self, open_page: Open, photos: list[Path]) -> None:
        page = open_page()
        pick(page, photos[:2])
        expect(page.locator(".block")).to_have_count(6)
        page.evaluate("document.activeElement.blur()")
        reached = []
        for _ in range(25):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.classList[0]"))
        order = ["theme", "pick", "previous", "next", "block", "opacity", "export", "clear"]
        order += ["sort", "show", "at-most", "search", "choose"]
        assert [name for name in dict.fromkeys(reached) if name in order] == order
        page.locator(".card .choose").nth(1).focus()
        page.keyboard.press("Enter")
        expect(page.locator("#viewer-name")).to_have_text(photos[1].name)
        outline = page.locator(".card .choose").nth(1).evaluate("element => getComputedStyle(element).outlineStyle")
        assert outline == "solid"

    def test_nothing_sticks_out_on_a_narrow_phone(self, open_page: Open, tmp_path: Path, photos: list[Path]) -> None:
        long = tmp_path / f"{'a' * 120}.jpg"
        long.write_bytes(photos[0].read_bytes())
        page = open_page(viewport={"width": 320, "height": 640}, has_touch=True)
        pick(page, [long, *photos])
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        for button in page.locator("button:visible, select:visible, input[type=range]:visible").all():
            if button.get_attribute("class") != "block":
                assert button.bounding_box()["height"] >= 24

    @pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", PHONE)])
    def test_axe_finds_nothing_serious(
        self, open_page: Open, photos: list[Path], scheme: str, viewport: dict[str, int]
    ) -> None:
        axe = pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install '.[dev]'")
        source = (Path(axe.__file__).parent / "axe.min.js").read_text("utf-8")
        page = open_page(color_scheme=scheme, viewport=viewport)
        for filled in (False, True):
            if filled:
                pick(page, photos)
                expect(page.locator(".block")).to_have_count(6)
                screenshot(page, f"axe-{scheme}")
            page.evaluate(source)
            report = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
            assert len(report["passes"]) > 10
            found = [
                f"{rule['impact']} {rule['id']}: {[node['html'] for node in rule['nodes']][:3]}"
                for rule in report["violations"]
            ]
            assert found == []
