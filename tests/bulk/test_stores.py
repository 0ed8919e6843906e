"""Pictures in object stores: found in order, read when it is their turn, and one row each whatever goes wrong."""

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.command import call
from helpers.map_model import make_map_model
from helpers.ray_cluster import ray_cluster
from helpers.tiny_model import make_photo
from moslens import Score, Scorer
from moslens.bulk.inputs import find_pictures
from moslens.bulk.stores import MOST_BYTES, fetch, file_name, is_url, source
from moslens.errors import ConfigError, UnreadableImage

NO_LIST = io.BytesIO()
MEMBERS = ["a.jpg", "a/b.jpg", "a-b.jpg", "a/b/c.PNG", "z.webp", "notes.txt", "a/data.csv", "é ü.bmp"]


def picture(seed: int = 0) -> bytes:
    file = io.BytesIO()
    make_photo(80, 60, seed).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    store = fsspec.filesystem("memory")
    store.store.clear()
    for seed, name in enumerate(MEMBERS):
        store.pipe_file(f"/lake/{name}", picture(seed))
    yield store
    store.store.clear()


def found(*arguments: str) -> list[str]:
    return list(find_pictures(arguments, NO_LIST))


@pytest.mark.parametrize("given_as", ["memory://lake", "memory://lake/", "memory:///lake"])
def test_a_folder_is_walked_in_the_order_of_sorted_names(memory: fsspec.AbstractFileSystem, given_as: str) -> None:
    wanted = sorted(name for name in MEMBERS if not name.endswith(("txt", "csv")))
    assert found(given_as) == [f"{given_as.rstrip('/')}/{name}" for name in wanted]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_all_of_an_archive(tmp_path: Path, kind: str) -> None:
    archive = str(tmp_path / f"p.{kind}")
    (tmp_path / "one.jpg").write_bytes(picture())
    names = ("b.jpg", "d/a.jpg")
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for name in names:
                zipped.write(tmp_path / "one.jpg", name)
    else:
        with tarfile.open(archive, "w") as packed:
            for name in names:
                packed.add(tmp_path / "one.jpg", name)
    for place in (archive, f"file://{archive}"):
        paths = found(f"{kind}://::{place}")
        assert paths == [f"{kind}://b.jpg::{place}", f"{kind}://d/a.jpg::{place}"]
        assert [fetch(path) for path in paths] == [picture(), picture()]


def test_all_commands_read_urls(tmp_path: Path, tiny_model: Path) -> None:
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a.jpg", picture())
    maps = make_map_model(tmp_path / "maps-model")
    place = f"zip://::{archive}"
    assert call("explain", place, "--model", maps, "--output", tmp_path / "maps") == 0
    assert call("degrade", place, "--output", tmp_path / "degraded") == 0
    assert call("compare", tiny_model, tiny_model, place) == 0
    (row,) = map(json.loads, (tmp_path / "maps" / "rows.jsonl").read_text().splitlines())
    assert row["path"] == f"zip://a.jpg::{archive}"
    assert (tmp_path / "maps" / "a.png").is_file()


def test_what_a_server_says_is_told(tmp_path: Path) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(int(self.path[1:4]))

        do_HEAD = do_GET

        def log_message(self, *words: object) -> None:
            pass

    pytest.importorskip("aiohttp", reason="needs aiohttp, in the dev extra")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for code, words in ((404, "no such object"), (500, "cannot be read (500, message='Internal Server Error'")):
            with pytest.raises(UnreadableImage) as caught:
                fetch(f"{address}/{code}.jpg")
            assert words in caught.value.message
        server.shutdown()
    with pytest.raises(UnreadableImage, match="cannot be read \\(Cannot connect to host"):
        fetch(f"{address}/a.jpg")


def test_the_name_of_a_picture_in_a_url() -> None:
    urls = ["zip://d/a.jpg::file:///x/p.zip", "simplecache::s3://bucket/b.png", "https://host/c.jpg?sig=1/2", "d/e.jpg"]
    assert [file_name(url) for url in urls] == ["a.jpg", "b.png", "c.jpg", "e.jpg"]


def test_objects_globs_and_nothing(memory: fsspec.AbstractFileSystem) -> None:
    assert found("memory://lake/notes.txt") == ["memory://lake/notes.txt"], "what is named is taken"
    assert [path.rpartition("/")[2] for path in found("memory://lake/*")] == ["a-b.jpg", "a.jpg", "z.webp", "é ü.bmp"]
    with pytest.raises(ConfigError, match="memory://lake/missing: no such"):
        found("memory://lake/missing")
    with pytest.raises(ConfigError, match="nonsense://x"):
        found("nonsense://x")


def test_a_parquet_file_is_a_list(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    names = ["memory://lake/a.jpg", "local é.jpg", None]
    pq.write_table(pa.table({"path": names, "other": [1, 2, 3]}), tmp_path / "list.parquet")
    assert found(str(tmp_path / "list.parquet")) == names[:2]
    with memory.open("/lists/list.parquet", "wb") as file:
        file.write((tmp_path / "list.parquet").read_bytes())
    assert found("memory://lists/list.parquet") == names[:2]
    pq.write_table(pa.table({"file": ["x"]}), tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    for name in ("other", "broken"):
        with pytest.raises(ConfigError, match=f"{name}.parquet"):
            found(str(tmp_path / f"{name}.parquet"))


def test_rows_are_those_of_the_bytes(memory: fsspec.AbstractFileSystem, tiny_model: Path) -> None:
    memory.pipe_file("/lake/empty.jpg", b"")
    memory.pipe_file("/lake/text.jpg", b"hello")
    scorer = Scorer(tiny_model)
    paths = [f"memory://lake/{name}" for name in ("a.jpg", "gone.jpg", "empty.jpg", "text.jpg", "a", "a/b/c.PNG")]
    rows = [result.to_row() for result in scorer.score_many(map(source, paths))]
    assert [row["path"] for row in rows] == paths
    codes = [row["error"] and row["error"]["code"] for row in rows]
    assert codes == [None, "unreadable", "empty", "not_an_image", "unreadable", None]
    assert all(row["error"]["message"].startswith(row["path"]) for row in rows if row["error"])
    assert rows[0]["score"] == round(scorer.score(picture(0)).score, 6)
    assert rows[5]["score"] == round(scorer.score(picture(3)).score, 6)


def test_a_huge_object_is_not_read(memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(memory), "info", lambda self, name: {"size": MOST_BYTES + 1})
    with pytest.raises(UnreadableImage, match="more than the cap"):
        fetch("memory://lake/a.jpg")


def test_a_local_file_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_url("s3://bucket/a.jpg")
    Path("s3:").mkdir()
    Path("s3:/bucket").mkdir()
    Path("s3:/bucket/a.jpg").write_bytes(b"")
    assert not is_url("s3://bucket/a.jpg")
    assert source("s3://bucket/a.jpg") == "s3://bucket/a.jpg"


@pytest.fixture(scope="module")
def s3() -> Iterator[fsspec.AbstractFileSystem]:
    """An S3 server on the loopback, its address and keys in the environment as a user would put them."""
    moto = pytest.importorskip("moto.server", reason="needs moto[server], in the dev extra")
    pytest.importorskip("s3fs", reason="needs s3fs, in the dev extra")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("bucket")
        for seed, name in enumerate(MEMBERS):
            store.pipe_file(f"bucket/lake/{name}", picture(seed))
        yield store
    server.stop()


def test_s3_from_listing_to_rows(s3: fsspec.AbstractFileSystem, tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "moslens", "score", "s3://bucket/lake", "--format", "jsonl", "--model"]
    done = subprocess.run([*command, str(tiny_model)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = sorted(name for name in MEMBERS if not name.endswith(("txt", "csv")))
    assert [row["path"] for row in rows] == [f"s3://bucket/lake/{name}" for name in wanted]
    expected = [Scorer(tiny_model).score(picture(MEMBERS.index(name))) for name in wanted]
    assert [row["score"] for row in rows] == [round(one.score, 6) for one in expected if isinstance(one, Score)]
    missing = subprocess.run([*command[:4], "s3://bucket/none"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == "moslens: s3://bucket/none: no such object or folder\n"


@pytest.fixture
def ray_with_s3(s3: fsspec.AbstractFileSystem) -> Iterator[dict[str, str]]:
    """The environment of a run on a cluster whose processes know the server."""
    pytest.importorskip("ray", reason="needs moslens[bulk]: ray")
    with ray_cluster() as (environment, _):
        yield environment


@pytest.mark.slow
def test_s3_on_ray_from_a_parquet_list_to_parts_in_the_store(
    s3: fsspec.AbstractFileSystem, ray_with_s3: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    names = [f"s3://bucket/lake/{name}" for name in ("a.jpg", "notes.txt", "missing.jpg", "z.webp")]
    pq.write_table(pa.table({"path": names}), tmp_path / "list.parquet")
    s3.put_file(str(tmp_path / "list.parquet"), "bucket/list.parquet")
    command = [
        sys.executable,
        "-m",
        "moslens",
        "score",
        "s3://bucket/list.parquet",
        "--engine",
        "ray",
        "--workers",
        "1",
    ]
    command += ["--model", str(tiny_model), "--output", "s3://bucket/rows"]
    done = subprocess.run(command, env=ray_with_s3, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    s3.invalidate_cache()
    (part,) = s3.ls("bucket/rows", detail=False)
    with s3.open(part) as file:
        rows = pq.read_table(file).to_pylist()
    scorer = Scorer(tiny_model)
    assert [row["path"] for row in rows] == names
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok"]
    for row, member in ((rows[0], "a.jpg"), (rows[3], "z.webp")):
        assert row["score"] == pytest.approx(scorer.score(picture(MEMBERS.index(member))).score, abs=1e-4)
    assert (rows[2]["error"]["code"], rows[2]["score"]) == ("unreadable", None)
    again = subprocess.run([*command, "--resume"], env=ray_with_s3, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.partition(" in ")[0]) == (1, "0 rows")
    assert s3.ls("bucket/rows", detail=False, refresh=True) == [part]
