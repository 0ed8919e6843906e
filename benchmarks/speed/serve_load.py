"""The service under load: 64 clients with good, bad, huge and slow uploads, compared with `moslens score`.

    python -m benchmarks.speed.serve_load [--model NAME|DIR] [--seconds 60] [--clients 64] [--output FILE]

One `moslens serve` process goes through three phases:

- "steady": every client sends good photos, for a fifth of the time. The throughput is compared with that of
  `moslens score` on the same files, run before and after. So is the processor time of a picture, which other programs
  on the machine change little.
- "mixed": all kinds of requests at once.
- "overload": four times as many clients as the queue has room for. The service must answer those it has no room for
  with 503 at once.

Every answer is checked: the score of a good photo, the error code of a bad one, the status of a body over the limit. At
the end the counters of the service must agree with the answers that the clients got, and SIGTERM must end the process
with code 0 while clients are at work. Clients and service share the cores of the machine, which slows the service down.
The exit code is 1 where an answer was wrong or lost, or where nothing was refused under overload.

It takes 1.4 times --seconds, and a minute.
"""

import asyncio
import collections
import json
import os
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import add_model_option, argument_parser, machine, moslens_command, write_record
from benchmarks.pictures import PHOTOS
from moslens import Scorer
from moslens.serve import Settings

BOUNDARY = "moslens-load"
MIX = {"good": 70, "bad": 10, "slow": 10, "large": 2, "huge": 4, "leaves": 4}
TOLERANCE = 1e-4
ANSWER_SECONDS = 60.0


@dataclass
class UploadCase:
    """The body of a request, and what its answer must be: a score, an error code, or only a status."""

    body: bytes
    score: float | None = None
    code: str | None = None
    status: int = 200


@dataclass
class ClientResults:
    """The answers that the clients got."""

    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refusal_seconds: list[float] = field(default_factory=list)


def form(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def make_uploads(scorer: Scorer, folder: Path, count: int) -> dict[str, list[UploadCase]]:
    """Good photos (written to ``folder`` too), broken files, a picture of 40 megapixels, a body over the limit."""
    good = []
    for number in range(count):
        with Image.open(PHOTOS[number % len(PHOTOS)]) as photo:
            shifted = Image.fromarray(np.roll(np.asarray(photo.convert("RGB")), 7 * number, axis=1))
        path = folder / f"{number:03d}.jpg"
        shifted.save(path, quality=90)
        good.append(UploadCase(form(path.read_bytes()), score=scorer.score(path).score))
    data = (folder / "000.jpg").read_bytes()
    broken = {"not_an_image": b"<html>no picture</html>", "truncated": data[: len(data) // 2], "empty": b""}
    large = folder.parent / "large.jpg"
    with Image.open(PHOTOS[0]) as photo:
        photo.convert("RGB").resize((7304, 5478)).save(large, quality=80)
    return {
        "good": good,
        "bad": [UploadCase(form(content), code=code) for code, content in broken.items()],
        "large": [UploadCase(form(large.read_bytes()), score=scorer.score(large).score)],
        "huge": [UploadCase(form(bytes(33 * 2**20)), status=413)],
    }


class Client:
    """One keep-alive connection and its requests."""

    def __init__(self, port: int, uploads: dict[str, list[UploadCase]], seed: int) -> None:
        self.port, self.uploads, self.random = port, uploads, random.Random(seed)
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def run(self, mix: dict[str, int], until: float, results: ClientResults) -> None:
        while time.monotonic() < until:
            kind = self.random.choices(list(mix), list(mix.values()))[0]
            upload = self.random.choice(self.uploads["good" if kind in ("slow", "leaves") else kind])
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    pause = await self.request(kind, upload, results)
            except TimeoutError:
                results.lost.append(f"{kind}: no answer in {ANSWER_SECONDS:g} s")
                pause = 0.0
                self.close()
            except ConnectionRefusedError:
                results.answers["refused"] += 1
                break
            except (OSError, asyncio.IncompleteReadError) as error:
                if kind != "huge":  # a client that goes on sending may be cut off
                    results.lost.append(f"{kind}: {error!r}")
                results.answers["cut off"] += kind == "huge"
                pause = 0.0
                self.close()
            await asyncio.sleep(min(pause, max(0.0, until - time.monotonic())))
        self.close()

    async def request(self, kind: str, upload: UploadCase, results: ClientResults) -> float:
        """Send one upload and check its answer. Returns the seconds to wait before the next."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(upload.body)}\r\n"
        self.writer.write(f"{head}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode())
        if kind == "leaves":
            self.writer.write(upload.body[: self.random.choice((100, len(upload.body)))])
            await self.writer.drain()
            await asyncio.sleep(0.01)
            self.close()
            results.answers["left"] += 1
            return 0.0
        if kind == "slow":
            for part in range(4):
                self.writer.write(upload.body[len(upload.body) * part // 4 : len(upload.body) * (part + 1) // 4])
                await asyncio.sleep(0.5)
        else:
            self.writer.write(upload.body)
        sent = time.monotonic()
        status, headers, body = await self.answer()
        seconds = time.monotonic() - sent
        if headers.get("connection") == "close":
            self.close()
        results.answers[str(status)] += 1
        if status == 503:
            results.refusal_seconds.append(seconds)
            return int(headers["retry-after"]) * self.random.uniform(0.5, 1.5)
        fault = check(upload, status, body)
        if fault:
            results.wrong.append(f"{kind}: {fault}")
        elif status == 200:
            results.answers["rows"] += 1
            results.seconds.append(seconds)
        return 0.0

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        assert self.reader is not None
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        return int(lines[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def check(upload: UploadCase, status: int, body: bytes) -> str | None:
    """What is wrong with an answer; None where it is right."""
    if status != upload.status:
        return f"status {status} instead of {upload.status}"
    if status != 200:
        return None
    (row,) = json.loads(body)
    if upload.code is not None:
        found = row["error"] and row["error"]["code"]
        return None if found == upload.code else f"{found} instead of {upload.code}"
    good = row["status"] == "ok" and abs(row["score"] - upload.score) <= TOLERANCE
    return None if good else f"{row['score']} instead of {upload.score}"


async def run_clients(
    port: int, uploads: dict[str, list[UploadCase]], clients: int, mix: dict[str, int], seconds: float
) -> tuple[ClientResults, float]:
    """Run the clients; their results, and the seconds until the last of them had its answer."""
    results = ClientResults()
    start = time.monotonic()
    runs = [Client(port, uploads, seed).run(mix, start + seconds, results) for seed in range(clients)]
    await asyncio.gather(*runs)
    return results, time.monotonic() - start


class Memory:
    """Resident memory of a process in MB, sampled twice a second."""

    def __init__(self, pid: int) -> None:
        self.pid, self.samples = pid, [resident(pid)]

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.samples.append(resident(self.pid))


def resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def score_folder(path: Path, model: str | None) -> tuple[float, float]:
    """Pictures per second of `moslens score`, without its start, and its processor seconds, with it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = moslens_command("score", str(path), "--format", "jsonl", model=model)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"(\d+) rows? in ([\d.]+) s", done.stderr)
    assert found is not None
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(found[1]) / max(float(found[2]), 0.05), seconds


def processor_seconds(pid: int) -> float:
    """Processor time that a running process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def batching(scorer: Scorer, windows: int = 8, repeats: int = 7) -> dict[str, float]:
    """Time of windows one by one, by the time of the same windows as one batch, on one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(scorer.model.card.verified_weights(), options, providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(0).integers(0, 256, (windows, 224, 224, 3), np.uint8)
    ratios = []
    for _ in range(repeats):
        start = time.process_time()
        session.run(["score"], {"windows": batch})
        middle = time.process_time()
        for window in batch:
            session.run(["score"], {"windows": window[None]})
        ratios.append((time.process_time() - middle) / (middle - start))
    return {"one_by_one_to_batch": statistics.median(ratios), "windows": windows}


def pictures_counted(port: int) -> float:
    """Pictures that the service says it has worked on."""
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r"^moslens_pictures_total\{.*\} (\S+)$", text, re.MULTILINE))


def quantiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)} | {"max": max(values)}


def summary(results: ClientResults, seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "answers": dict(sorted(results.answers.items())),
        "wrong": results.wrong[:20],
        "lost": results.lost[:20],
        "rows_per_second": results.answers["rows"] / seconds,
        "answer_seconds": quantiles(results.seconds),
        "refusal_seconds": quantiles(results.refusal_seconds),
    }


def listening_port(server: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the line that says where the service listens. Exits with its message where it ends instead."""
    while True:
        code = server.poll()
        text = log.read_text(encoding="utf-8")
        if found := re.search(r'"url": "[^"]*:(\d+)"', text):
            return int(found[1])
        if code is not None:
            sys.exit(f"the service ended with code {code}: {text.strip()}")
        time.sleep(0.1)


async def run_phases(
    server: subprocess.Popen[bytes], port: int, options: Any, uploads: dict[str, list[UploadCase]], log: Path
) -> Any:
    memory = Memory(server.pid)
    watching = asyncio.create_task(memory.watch())
    good, short = {"good": 1}, max(2, options.seconds / 5)
    began = processor_seconds(server.pid)
    steady = summary(*await run_clients(port, uploads, options.clients, good, short))
    steady["processor_seconds_a_picture"] = (processor_seconds(server.pid) - began) / steady["answers"]["rows"]
    before, edge = pictures_counted(port), len(memory.samples)
    results, seconds = await run_clients(port, uploads, options.clients, MIX, options.seconds)
    mixed = summary(results, seconds)
    await asyncio.sleep(2)  # pictures of clients that left are finished or dropped
    mixed["rows_by_service"] = pictures_counted(port) - before
    watching.cancel()
    samples = memory.samples[edge:]
    third = max(1, len(samples) // 3)
    parts = [statistics.median(part) for part in (samples[:third], samples[third:-third], samples[-third:]) if part]
    mixed["memory_mb"] = {"thirds": parts, "max": max(samples), "growth": parts[-1] - parts[1]}
    overload = summary(*await run_clients(port, uploads, 4 * max(options.clients, Settings.queue), good, short))
    return steady, mixed, overload, await terminate(server, port, options, uploads, log)


async def terminate(
    server: subprocess.Popen[bytes], port: int, options: Any, uploads: dict[str, list[UploadCase]], log: Path
) -> dict[str, Any]:
    """SIGTERM while clients are at work: they must have every answer that the service logged."""
    earlier = len(log.read_text(encoding="utf-8").splitlines())
    late = asyncio.create_task(run_clients(port, uploads, options.clients, {"good": 1}, 10))
    await asyncio.sleep(2)
    server.send_signal(signal.SIGTERM)
    results, seconds = await late
    code = await asyncio.to_thread(server.wait, 60)
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines()[earlier:])
    served = collections.Counter(str(line["status"]) for line in lines if line.get("path") == "/v1/score")
    rows = results.answers["rows"]
    whole = served["200"] == rows and not set(served) - {"200", "503"} and not results.wrong and code == 0
    return {
        "code": code,
        "rows": rows,
        "served": served,
        "wrong": results.wrong,
        "seconds": seconds,
        "nothing_lost": whole,
    }


def main() -> None:
    parser = argument_parser(__doc__, "serve-load.json")
    add_model_option(parser)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--photos", type=int, default=120)
    options = parser.parse_args()
    scorer = Scorer(options.model)
    state = machine()
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch) / "good", Path(scratch) / "log"
        folder.mkdir()
        uploads = make_uploads(scorer, folder, options.photos)
        runs = [score_folder(folder, options.model)]
        with log.open("wb") as stream:
            command = moslens_command("serve", "--port", "0", model=options.model)
            server = subprocess.Popen(command, stderr=stream)
        try:
            port = listening_port(server, log)
            steady, mixed, overload, ended = asyncio.run(run_phases(server, port, options, uploads, log))
        finally:
            server.kill()
        runs.append(score_folder(folder, options.model))
        _, start = score_folder(folder / "000.jpg", options.model)
    rates = [rate for rate, _ in runs]
    cost = (statistics.fmean(seconds for _, seconds in runs) - start) / (options.photos - 1)
    steady["of_bulk"] = steady["rows_per_second"] / statistics.fmean(rates)
    steady["processor_of_bulk"] = steady["processor_seconds_a_picture"] / cost
    record = {
        "model": scorer.model_id,
        "clients": options.clients,
        "mix": MIX,
        "bulk_pictures_per_second": rates,
        "bulk_processor_seconds_a_picture": cost,
        "steady": steady,
        "mixed": mixed,
        "overload": overload,
        "sigterm": ended,
        "batching": batching(scorer),
        "machine": state,
    }
    print(json.dumps(record, indent=1, default=str))
    write_record(options.output, record, ("fastapi", "starlette", "uvicorn", "onnxruntime", "pillow"))
    faults = [fault for phase in (steady, mixed, overload) for kind in ("wrong", "lost") for fault in phase[kind]]
    refused = overload["answers"].get("503", 0)
    sys.exit(1 if faults or not refused or not ended["nothing_lost"] else 0)


if __name__ == "__main__":
    main()
