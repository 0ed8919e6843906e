"""``moslens serve`` as a process: start, stop, wrong use; and the queue by itself."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the serve extra")

from helpers.hostile import encode
from helpers.processes import wait_for
from helpers.serving import ask, post
from moslens.errors import ImageTooLarge
from moslens.serve.workers import LARGE, QueueFull, Workers


@contextmanager
def process(log: Path, *words: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running ``moslens serve`` on a free port and its address; standard error goes to ``log``."""
    command = [sys.executable, "-m", "moslens", "serve", "--port", "0", *map(str, words)]
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as running:
        try:
            deadline = time.monotonic() + 120
            while not log.read_bytes().endswith(b"\n"):
                assert running.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            (started,) = events(log)
            assert started["event"] == "listening"
            yield running, started["url"]
        finally:
            running.kill()


def events(log: Path) -> list[Any]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def refuses(url: str) -> bool:
    """Whether it takes no new connection."""
    try:
        ask(f"{url}/healthz", timeout=5)
    except OSError:
        return True
    return False


def ask_on(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status


class TestProcess:
    def test_it_listens_on_this_machine_alone_and_ends_well(self, tiny_model: Path, tmp_path: Path) -> None:
        with process(tmp_path / "log", "--model", tiny_model) as (running, url):
            assert url.startswith("http://127.0.0.1:")
            assert ask(f"{url}/healthz").status == 200
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
        assert events(tmp_path / "log")[-1]["event"] == "stopped"

    def test_what_was_accepted_is_finished_after_sigterm(self, tiny_model: Path, tmp_path: Path) -> None:
        photo = encode(Image.effect_noise((40, 30), 60).resize((4000, 3000)), "JPEG")
        assert 12 * len(photo) < 30 * 2**20
        answers: list[Any] = []
        with process(tmp_path / "log", "--model", tiny_model, "--workers", 1) as (running, url):
            send = threading.Thread(
                target=lambda: answers.append(post(f"{url}/v1/score", [("a.jpg", photo)] * 12, timeout=60))
            )
            send.start()
            deadline = time.monotonic() + 60
            while ask(f"{url}/healthz").json()["waiting"] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            running.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(url))
            assert running.poll() is None, "it did not wait for its work"
            send.join(60)
            assert running.wait(60) == 0
        assert [row["status"] for row in answers[0].json()] == ["ok"] * 12

    def test_headers_that_never_end_are_ended_and_idle_connections_are_not(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        with process(tmp_path / "log", "--model", tiny_model, "--timeout", 1) as (_, url):
            where = url.removeprefix("http://").split(":")
            kept = http.client.HTTPConnection(where[0], int(where[1]))
            kept.connect()
            rests = kept.sock
            beginnings = (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / HT")
            for beginning in beginnings:
                assert ask_on(kept) == 200
                with socket.create_connection((where[0], int(where[1])), timeout=10) as connection:
                    connection.sendall(beginning)
                    start = time.monotonic()
                    connection.settimeout(0.2)
                    while True:
                        try:
                            if connection.recv(65536) == b"":
                                break
                        except TimeoutError:
                            if beginning:
                                connection.sendall(b"a")  # one more byte of a header, now and then
                        except ConnectionError:
                            break
                        assert time.monotonic() - start < 30, "it waits for headers without end"
            assert kept.sock is rests, "a connection that rests between two requests was closed"
            kept.close()

    def test_a_port_in_use_is_one_line(self, tiny_model: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            command = [sys.executable, "-m", "moslens", "serve", "--port", str(port), "--model", str(tiny_model)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith(f"moslens: cannot listen on 127.0.0.1 port {port}: ")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart", "prometheus_client"])
    def test_without_its_extra_it_says_which(self, package: str) -> None:
        code = f"import sys; sys.modules['{package}'] = None; from moslens.cli.app import main; main(['serve'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert (
            done.stderr == f"moslens: this needs {package}: pip install {package.replace('_', '-')} (the extra serve)\n"
        )

    def test_the_same_score_by_command_line_and_service(
        self, photo_folder: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "moslens", "score", str(photo_folder), "--model", str(tiny_model)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        with process(tmp_path / "log", "--model", tiny_model) as (_, url):
            paths = [Path(json.loads(line)["path"]) for line in lines]
            rows = post(f"{url}/v1/score", [(path.name, path.read_bytes()) for path in paths]).json()
        assert [row["score"] for row in rows] == [json.loads(line)["score"] for line in lines]


class TestWorkers:
    def test_large_pictures_are_in_work_one_at_a_time(self) -> None:
        at_once, most, order = 0, 0, []
        lock = threading.Lock()

        def work(stream: io.BytesIO, max_pixels: int) -> bytes:
            nonlocal at_once, most
            source = stream.read()
            if source == b"large" and max_pixels <= LARGE:
                raise ImageTooLarge("more than the cap")
            with lock:
                at_once += source == b"large"
                most = max(most, at_once)
                order.append(source)
            time.sleep(0.05)
            with lock:
                at_once -= source == b"large"
            return source

        async def run() -> list[Any]:
            workers = Workers(4, 100, 60, 200_000_000, lambda seconds, outcome: None)
            workers.start()
            request = workers.submit(work, [b"large"] * 4 + [b"small"] * 4)
            outcomes = await asyncio.wait_for(request.done, 20)
            await asyncio.to_thread(workers.stop)
            assert (workers.waiting, workers.running) == (0, 0)
            return outcomes

        assert asyncio.run(run()) == [b"large"] * 4 + [b"small"] * 4
        assert most == 1
        assert order.index(b"small") < 4, "small pictures waited for the large ones"

    def test_stopping_finishes_the_queue_and_takes_nothing_more(self) -> None:
        def work(stream: io.BytesIO, max_pixels: int) -> int:
            source = stream.read()
            time.sleep(0.01)
            if source == b"7":
                raise ZeroDivisionError
            return int(source)

        async def run() -> list[Any]:
            workers = Workers(2, 10, 60, 1, lambda seconds, outcome: None)
            workers.start()
            request = workers.submit(work, [str(i).encode() for i in range(20)])
            with pytest.raises(QueueFull):
                workers.submit(work, [b"1"])
            await asyncio.to_thread(workers.stop)
            with pytest.raises(QueueFull):
                workers.submit(work, [b"1"])
            return await asyncio.wait_for(request.done, 5)

        outcomes = asyncio.run(run())
        assert isinstance(outcomes.pop(7), ZeroDivisionError)
        assert outcomes == [i for i in range(20) if i != 7]

    def test_the_pause_it_asks_for_grows_with_the_queue(self) -> None:
        workers = Workers(2, 1000, 15, 1, lambda seconds, outcome: None)
        assert workers.retry_after == 1
        workers.waiting = 200  # of 0.1 s each, by two workers
        assert workers.retry_after == 6
        assert not workers.full
        workers.waiting = 301  # longer than 15 s, though far from the limit of pictures
        assert workers.full
        workers.waiting = 10_000
        assert workers.retry_after == 60
