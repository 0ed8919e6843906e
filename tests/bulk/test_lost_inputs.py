"""Pictures that were lost before they were scored: lists of other systems, odd names, queries, raw files, clutter."""

import codecs
import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image

from helpers.tiny_model import make_photo
from moslens.bulk.inputs import find_pictures, read_listing
from moslens.bulk.stores import fetch
from moslens.errors import ConfigError, CorruptImage, UnsupportedImage
from moslens.picture.load import load
from moslens.picture.names import PICTURE_SUFFIXES, RAW_SUFFIXES

NO_LIST = io.BytesIO()


def photo(path: Path, format: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_photo(80, 60, seed=1).save(path, format)
    return path


def jpeg() -> bytes:
    file = io.BytesIO()
    make_photo(80, 60, seed=1).save(file, "JPEG")
    return file.getvalue()


def found(*arguments: object) -> list[str]:
    return list(find_pictures([str(argument) for argument in arguments], NO_LIST))


def score(*words: object, **options: Any) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[bytes]]:
    command = [sys.executable, "-m", "moslens", "score", *map(str, words), "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300, **options)
    return [json.loads(line) for line in done.stdout.splitlines()], done


class TestLists:
    """The cases list_crlf and list_bom_and_crlf."""

    @pytest.mark.parametrize(
        "listing",
        [
            b"a.jpg\r\nb.jpg\r\n",
            b"\xef\xbb\xbfa.jpg\r\nb.jpg\r\n",
            b"\xef\xbb\xbfa.jpg\nb.jpg",
            codecs.BOM_UTF16_LE + "a.jpg\r\nb.jpg\r\n".encode("utf-16-le"),
            codecs.BOM_UTF16_BE + "a.jpg\nb.jpg".encode("utf-16-be"),
            b"a.jpg\r\n\r\nb.jpg\r",
        ],
    )
    def test_lists_of_other_systems_give_scores(self, tmp_path: Path, tiny_model: Path, listing: bytes) -> None:
        for name in ("a.jpg", "b.jpg"):
            photo(tmp_path / name)
        rows, done = score("-", "--model", tiny_model, cwd=tmp_path, input=listing)
        assert [(row["path"], row["status"]) for row in rows] == [("a.jpg", "ok"), ("b.jpg", "ok")]
        assert done.returncode == 0

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_a_list_in_utf16_may_come_in_any_pieces(self, size: int) -> None:
        names = ["ü.jpg", "🌄.jpg", "\u0a0a.jpg", "\u0d00.jpg"]
        for encoding in ("utf-16-le", "utf-16-be"):
            whole = ("\ufeff" + "\r\n".join(names)).encode(encoding)
            assert list(read_listing(Pieces(whole, size))) == names

    def test_a_file_of_that_very_name_goes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("a.jpg\r", "\ufeffb.jpg"):
            Path(name).touch()
        assert list(read_listing(io.BytesIO("\ufeffb.jpg\na.jpg\r\nc.jpg\r\n".encode()))) == [
            "\ufeffb.jpg", "a.jpg\r", "c.jpg"
        ]  # fmt: skip

    def test_a_nul_list_is_taken_as_it_is(self) -> None:
        assert list(read_listing(io.BytesIO("\ufeffa.jpg\0b.jpg\r\0".encode()))) == ["\ufeffa.jpg", "b.jpg\r"]


class Pieces(io.BytesIO):
    """A stream that gives ``size`` bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._size)


class TestLiteralNames:
    """The case bracket_folder_all_below."""

    def test_brackets_in_the_name_of_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = "trip [2021] {x}"
        names = [f"{folder}/b.jpg", f"{folder}/may/a.jpg"]
        for name in names:
            photo(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert found(f"{folder}/**/*.jpg") == names
        assert found(f"{folder}/*.jpg") == names[:1]
        assert found(f"{folder}/*/*.jpg") == names[1:]
        assert found(f"{folder}/**") == names
        assert found(f"{tmp_path}/{folder}/**/*.jpg") == [f"{tmp_path}/{name}" for name in names]
        assert found("*/may/a.jpg") == names[1:]
        assert found(folder) == names

    def test_question_marks_and_brackets_behind_a_wildcard(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("what?/a.jpg", "whatx/b.jpg", "d/IMG [1].jpg", "d/e?.jpg"):
            photo(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert found("what?/*.jpg") == ["what?/a.jpg"], "the literal name goes first"
        assert found("wha?x/*.jpg") == ["whatx/b.jpg"]
        assert found("*/IMG [1].jpg") == ["d/IMG [1].jpg"]
        assert found("d/e?.jpg") == ["d/e?.jpg"]
        assert found("d/IMG [1].jpg") == ["d/IMG [1].jpg"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server on the loopback that ignores queries, as one of signed URLs does for the path."""
    photo(tmp_path / "www" / "q.jpg")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "www")) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


class TestQueries:
    """The case url_with_query."""

    def test_a_signed_url_gives_a_row_with_a_score(self, server: str, tiny_model: Path) -> None:
        url = f"{server}/q.jpg?sig=a*b[1]&x=?"
        rows, done = score(url, "--model", tiny_model)
        assert [(row["path"], row["status"]) for row in rows] == [(url, "ok")], done.stderr
        assert done.returncode == 0

    def test_what_the_server_does_not_have_is_named(self, server: str) -> None:
        with pytest.raises(ConfigError, match="gone"):
            found(f"{server}/gone.jpg?sig=1")

    def test_stars_in_front_of_a_query_and_literal_names(self) -> None:
        store = fsspec.filesystem("memory")
        store.store.clear()
        try:
            for name in ("a[1].jpg", "b?.jpg", "c.jpg", "a1.jpg"):
                store.pipe_file(f"/odd/{name}", jpeg())
            assert found("memory://odd/a[1].jpg") == ["memory://odd/a[1].jpg"]
            assert found("memory://odd/b?.jpg") == ["memory://odd/b?.jpg"]
            assert [path.rpartition("/")[2] for path in found("memory://odd/[ac]*.jpg")] == [
                "a1.jpg", "a[1].jpg", "c.jpg"
            ]  # fmt: skip
            assert [path.rpartition("/")[2] for path in found("memory://odd/[c].jpg")] == ["c.jpg"]
            with pytest.raises(ConfigError, match="no such object"):
                found("memory://odd/c?jpg")
        finally:
            store.store.clear()

    def test_a_version_of_an_object_in_s3(self, monkeypatch: pytest.MonkeyPatch) -> None:
        moto = pytest.importorskip("moto.server", reason="needs moto[server], in the dev extra")
        pytest.importorskip("s3fs", reason="needs s3fs, in the dev extra")
        running = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        running.start()
        try:
            host, port = running.get_host_and_port()
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.setenv(name, "test")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            store = fsspec.filesystem("s3", version_aware=True, skip_instance_cache=True)
            store.mkdir("versions")
            store.make_bucket_versioned("versions", True)
            for data in (b"first", b"second"):
                store.pipe_file("versions/a.jpg", data)
            first = store.object_version_info("versions/a.jpg")[-1]["VersionId"]
            url = f"s3://versions/a.jpg?versionId={first}"
            assert found(url) == [url]
            assert fetch(url) == b"first"
            assert fetch("s3://versions/a.jpg") == b"second"
        finally:
            running.stop()


class TestExtensions:
    """The case hif_extension, and raw files."""

    def test_pictures_under_other_extensions(self, tmp_path: Path, tiny_model: Path) -> None:
        heif = pytest.importorskip("pillow_heif", reason="needs the [formats] extra")
        for name in ("DSC0001.HIF", "DSC0002.HEIC"):
            heif.from_pillow(make_photo(80, 60, seed=1)).save(tmp_path / name, format="HEIF")
        for name in ("P1.JPG", "x.jpeg_large", "y.jps", "z.jpg_large", "noext"):
            photo(tmp_path / name)
        rows, done = score(tmp_path, "--model", tiny_model)
        assert [Path(row["path"]).name for row in rows] == [
            "DSC0001.HIF", "DSC0002.HEIC", "P1.JPG", "x.jpeg_large", "y.jps", "z.jpg_large"
        ]  # fmt: skip
        assert {row["status"] for row in rows} == {"ok"}, done.stderr
        assert rows[0]["score"] == rows[1]["score"]

    @pytest.mark.parametrize("suffix", sorted(RAW_SUFFIXES))
    def test_raw_files_of_all_makers_need_rawpy_and_are_never_scored_without_it(
        self, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "rawpy", None)
        tiff = photo(tmp_path / f"preview{suffix}", "TIFF")
        other = tmp_path / f"other{suffix.upper()}"
        other.write_bytes(b"of no known format")
        assert found(tmp_path) == [str(other), str(tiff)]
        for path in (tiff, other):
            with pytest.raises(
                UnsupportedImage, match=r"(preview|other)\.\w+: a camera raw file needs rawpy: pip install rawpy"
            ):
                load(path)

    def test_a_jpeg_that_is_called_raw_is_scored(self, tmp_path: Path) -> None:
        assert load(photo(tmp_path / "a.nef")).width == 80

    def test_a_raw_file_beside_its_own_jpeg_is_left_out_and_counted(self, tmp_path: Path, tiny_model: Path) -> None:
        for name in ("IMG_1.JPG", "img_2.jpg", "d/IMG_4.heic.jpg"):
            photo(tmp_path / name)
        for name in ("IMG_1.CR3", "IMG_2.CR3", "IMG_1.x.CR3", "d/IMG_1.CR3", "d/IMG_4.CR3"):
            (tmp_path / name).write_bytes(b"raw")
        rows, done = score(tmp_path, "--model", tiny_model)
        codes = {os.path.relpath(row["path"], tmp_path): row["error"] and row["error"]["code"] for row in rows}
        broken = "unsupported" if importlib.util.find_spec("rawpy") is None else "truncated"
        assert codes == {
            "IMG_1.JPG": None, "img_2.jpg": None, "d/IMG_4.heic.jpg": None,
            "IMG_1.x.CR3": broken, "d/IMG_1.CR3": broken, "d/IMG_4.CR3": broken,
        }  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.count(b"left out 2 raw files with a JPEG or HEIC of the same name beside it") == 1
        for path in [*(tmp_path / "d").glob("*.CR3"), tmp_path / "IMG_1.x.CR3"]:
            path.unlink()
        rows, done = score(tmp_path, "--model", tiny_model)
        assert (len(rows), done.returncode) == (3, 0)
        assert b"left out 2 raw files" in done.stderr
        rows, done = score(tmp_path / "IMG_1.CR3", f"{tmp_path}/*.CR3", "--model", tiny_model)
        assert [row["error"]["code"] for row in rows] == [broken] * 3, "what is named is not left out"

    def test_a_glob_without_an_extension_takes_what_a_walk_takes(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "a.nef", "b.nef", "c.hif", "d.txt", "._a.jpg"):
            (tmp_path / name).touch()
        assert (
            found(f"{tmp_path}/*") == found(tmp_path) == [f"{tmp_path}/{name}" for name in ("a.jpg", "b.nef", "c.hif")]
        )

    def test_no_extension_is_of_pictures_and_of_raw_files(self) -> None:
        assert not PICTURE_SUFFIXES & RAW_SUFFIXES


MAC = [
    ".DS_Store", "._IMG_1.jpg", ".thumbnails/IMG_1.jpg", ".trashed-170-IMG_2.jpg",
    "@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg", "IMG_1.jpg", "IMG_1.jpg.xmp", "IMG_3.JPG", "IMG_4.jpeg~",
    "IMG_5.jpg.part", "IMG_6.jpg.crdownload", "Thumbs.db", "__MACOSX/._IMG_1.jpg", "img_3.jpg",
]  # fmt: skip


class TestClutter:
    """The case apple_double."""

    @pytest.fixture
    def mac(self, tmp_path: Path) -> Path:
        for name in MAC:
            photo(tmp_path / "mac" / name)
        for name in (".Trash-1000/files/a.jpg", "$RECYCLE.BIN/S-1/b.jpg", ".hidden/kept.jpg"):
            photo(tmp_path / "mac" / name)
        return tmp_path / "mac"

    def test_a_walk_leaves_it_out_and_counts_it(self, mac: Path, tiny_model: Path) -> None:
        rows, done = score(mac, "--model", tiny_model)
        names = [os.path.relpath(row["path"], mac) for row in rows]
        assert names == [".hidden/kept.jpg", "IMG_1.jpg", "IMG_3.JPG", "img_3.jpg"]
        assert done.returncode == 0
        assert done.stderr.count(b"left out 2 files and 5 folders of thumbnails, maps, trash or macOS attributes") == 1

    def test_globs_leave_it_out_as_well(self, mac: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            names = [os.path.relpath(path, mac) for path in found(f"{mac}/**/*.jpg")]
        assert names == ["IMG_1.jpg", "img_3.jpg"]
        assert "left out 2 files of thumbnails, maps, trash or macOS attributes" in caplog.text

    def test_what_is_named_is_scored(self, mac: Path) -> None:
        for name in ("._IMG_1.jpg", ".thumbnails/IMG_1.jpg", ".trashed-170-IMG_2.jpg"):
            assert found(mac / name) == [str(mac / name)]
        assert found(mac / ".thumbnails") == [f"{mac}/.thumbnails/IMG_1.jpg"]
        assert found(mac / "@eaDir") == [f"{mac}/@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg"]
        assert found(f"{mac}/@eaDir/*/*.jpg") == [f"{mac}/@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg"]
        assert found(f"{mac}/$RECYCLE.BIN/**/*.jpg") == [f"{mac}/$RECYCLE.BIN/S-1/b.jpg"]

    def test_pictures_that_are_not_opened_get_a_row_and_drawings_are_counted(
        self, tmp_path: Path, tiny_model: Path
    ) -> None:
        photo(tmp_path / "a.jpg")
        (tmp_path / "b.jxl").write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20))
        for name in ("c.psd", "d.SVG", "e.txt"):
            (tmp_path / name).write_bytes(b"8BPS")
        rows, done = score(tmp_path, "--model", tiny_model)
        assert [(row["path"], row["status"]) for row in rows] == [
            (f"{tmp_path}/a.jpg", "ok"),
            (f"{tmp_path}/b.jxl", "error"),
        ]
        assert rows[1]["error"]["code"] == "unsupported"
        assert b"left out 2 drawings and documents" in done.stderr

    def test_a_name_that_is_gone_costs_one_row(self, tmp_path: Path, tiny_model: Path) -> None:
        photo(tmp_path / "a.jpg")
        rows, done = score(tmp_path / "gone.jpg", tmp_path / "a.jpg", "--model", tiny_model)
        assert [row["status"] for row in rows] == ["error", "ok"]
        assert rows[0]["error"]["code"] == "unreadable"
        assert done.returncode == 1

    def test_nothing_is_said_where_nothing_is_left_out(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        photo(tmp_path / "a.jpg")
        assert len(found(tmp_path)) == 1
        assert caplog.text == ""

    def test_folders_and_globs_inside_an_archive(self, tmp_path: Path) -> None:
        archive = tmp_path / "p.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for name in ("a.jpg", "photos/one.jpg", "photos/more/two.jpg"):
                file.writestr(name, b"x")
        place = f"::file://{archive}"
        assert found(f"zip://photos{place}") == [f"zip://photos/more/two.jpg{place}", f"zip://photos/one.jpg{place}"]
        assert found(f"zip://photos/*.jpg{place}") == [f"zip://photos/one.jpg{place}"]
        assert found(f"zip://photos/one.jpg{place}") == [f"zip://photos/one.jpg{place}"]
        for url in found(f"zip://photos/**/*.jpg{place}"):
            with fsspec.open(url) as stream:
                assert stream.read() == b"x"

    def test_folders_and_globs_behind_a_cache(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"x")
        for url in (f"simplecache::file://{tmp_path}", f"simplecache::file://{tmp_path}/*.jpg"):
            assert found(url) == [f"simplecache::file://{tmp_path}/a.jpg"]
        with fsspec.open(f"simplecache::file://{tmp_path}/a.jpg") as stream:
            assert stream.read() == b"x"

    def test_stores_leave_it_out_too(self, caplog: pytest.LogCaptureFixture) -> None:
        store = fsspec.filesystem("memory")
        store.store.clear()
        try:
            for name in ("a.jpg", "a.cr2", "._a.jpg", ".thumbnails/a.jpg", "d/b.cr2", "d/Thumbs.db"):
                store.pipe_file(f"/nas/{name}", b"x")
            assert found("memory://nas") == ["memory://nas/a.jpg", "memory://nas/d/b.cr2"]
            assert "left out 1 file and 1 folder of thumbnails" in caplog.text
            assert "left out 1 raw file with" in caplog.text
            assert [path.rpartition("/")[2] for path in found("memory://nas/**/*.jpg")] == ["a.jpg"]
            assert [path.rpartition("/")[2] for path in found("memory://nas/.thumbnails/*.jpg")] == ["a.jpg"]
            assert found("memory://nas/.thumbnails") == ["memory://nas/.thumbnails/a.jpg"]
        finally:
            store.store.clear()


def raw_segments() -> bytes:
    return b"\xff\xe8\0\x20SPIFF\0" + bytes(24) + b"\xff\xe8\0\x08\0\0\0\1\xff\xd8"


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("colour.pfm", b"PF\n40 40\n-1.0\n" + bytes(40 * 40 * 12), UnsupportedImage),
        ("ls.jpg", b"\xff\xd8\xff\xf7\0\x11\x08\0\x28\0\x28" + bytes(500), UnsupportedImage),
        ("spiff.jpg", b"\xff\xd8" + raw_segments() + b"\xff\xf7\0\x11\x08\0\x28\0\x28" + bytes(500), UnsupportedImage),
        ("doubled.jpg", b"\xff\xd8" + jpeg(), CorruptImage),
    ],
)
def test_faults_have_their_own_class(tmp_path: Path, name: str, data: bytes, error: type[Exception]) -> None:
    """The case wrong_class."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error):
        load(tmp_path / name)


def test_grey_pfm_is_still_opened(tmp_path: Path) -> None:
    Image.new("F", (40, 40), 100.0).save(tmp_path / "grey.pfm")
    assert load(tmp_path / "grey.pfm").width == 40


@pytest.mark.parametrize(
    ("words", "listing", "names"),
    [
        (["--", "-a.jpg", "--model.jpg"], b"", ["-a.jpg", "--model.jpg"]),
        (["."], b"", ["./--model.jpg", "./-.jpg", "./-a.jpg"]),
        (["-"], b"-a.jpg\n-.jpg\n", ["-a.jpg", "-.jpg"]),
    ],
)
def test_names_that_begin_with_a_dash(
    tmp_path: Path, tiny_model: Path, words: list[str], listing: bytes, names: list[str]
) -> None:
    for name in ("-a.jpg", "--model.jpg", "-.jpg"):
        photo(tmp_path / name)
    command = [sys.executable, "-m", "moslens", "score", "--model", str(tiny_model), "--format", "jsonl", *words]
    done = subprocess.run(command, input=listing, capture_output=True, check=False, timeout=300, cwd=tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["path"], row["status"]) for row in rows] == [(name, "ok") for name in names]
    assert done.returncode == 0
