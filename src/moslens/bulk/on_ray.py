"""``--engine ray``: the same rows by Ray Data, on the cores of one machine or of many.

The driver lists pictures and hands out pieces of the listing. Actors, one a core, score a piece in a child process and
write it as one Parquet part; only counts come back. Ray runs a piece again when its actor dies; the names of the parts
(:mod:`moslens.bulk.parquet_parts`) make sure that no row is then doubled or lost.
"""

import json
import logging
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from moslens.bulk.engine import RunCounts
from moslens.bulk.parquet_parts import ParquetParts, chunks, part_name
from moslens.bulk.stores import is_url
from moslens.bulk.watched import TIME_LIMIT, WatchedScorer
from moslens.errors import ConfigError, MissingExtra, OutputError
from moslens.picture.limits import MAX_PIXELS
from moslens.scoring.card import Card, find_model, shipped
from moslens.system.children import PathWithoutCurrentFolder, without_current_folder
from moslens.system.cores import available_cores

PART_ROWS = 500
FETCHERS = 4
MOST_BLOCKS = 2000
_OBJECT_STORE = 200 << 20


@dataclass(frozen=True)
class RayJob:
    """What every actor needs. It is sent to other machines, so ``model`` is a name or path and not the model."""

    parts: ParquetParts
    model: str | None
    model_id: str
    max_pixels: int
    time_limit: float
    detail: bool = False


class Actor:
    """Scores pieces of the listing and writes their parts. Ray makes one a core and calls it with batches of pieces."""

    def __init__(self, job: RayJob) -> None:
        self._job = job

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """From columns ``start`` and ``paths`` (JSON) to columns ``rows`` and ``errors``, the counts of each part."""
        pieces = zip(batch["start"], batch["paths"], strict=True)
        found = [self._score(int(start), json.loads(paths)) for start, paths in pieces]
        rows, errors = zip(*found, strict=True)
        return {"rows": list(rows), "errors": list(errors)}

    def _score(self, start: int, paths: list[str]) -> tuple[int, int]:
        job = self._job
        # Several at a time where they come over a network: one is scored while others are fetched.
        workers = FETCHERS if any(map(is_url, paths)) else 1
        with WatchedScorer(job.model, time_limit=job.time_limit) as scorer:
            if scorer.model_id != job.model_id:
                raise RuntimeError(f"this node has {scorer.model_id}, the run is for {job.model_id}")
            found = scorer.score_many(paths, workers=workers, max_pixels=job.max_pixels, detail=job.detail)
            rows = [result.to_row() for result in found]
        job.parts.write(part_name(start, paths, job.model_id), rows)
        return len(rows), sum(row["status"] != "ok" for row in rows)


def score_on_ray(
    paths: Iterable[str],
    output: str,
    *,
    resume: bool = False,
    model: str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    time_limit: float = TIME_LIMIT,
    detail: bool = False,
    part_rows: int = PART_ROWS,
) -> tuple[RunCounts, int]:
    """Score every path that has no row by this model in the folder or URL ``output``; a path named twice gets one row.

    ``RAY_ADDRESS`` names a cluster. Without it Ray starts on this machine with ``workers`` processes (None: one a
    core). Returns the counts and the signal that interrupted the run (0: none). Raises MissingExtra without Ray,
    ModelError, OutputError where ``output`` has parts and ``resume`` is False, ConfigError where Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send nothing to anyone
    os.environ.setdefault("RAY_agent_register_timeout_ms", "300000")  # a busy machine starts slowly
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtra("bulk", "ray") from None
    folder = find_model(model)
    card = Card.read(folder)
    card.verified_weights()
    parts = ParquetParts(output)
    if parts and not resume:
        raise OutputError("has parts: --resume continues it, or name another", output)
    # Every machine finds a shipped model by its name, and another model by its full path on a shared disk.
    named = model if model is None or model in shipped() else str(folder.resolve())
    job = RayJob(parts, named, card.id, max_pixels, time_limit, detail)
    done, errors = parts.done(card.id)
    counts = RunCounts(kept=len(done), kept_errors=errors)
    pieces = [{"start": start, "paths": json.dumps(piece)} for start, piece in chunks(paths, done, part_rows)]
    try:
        if pieces:
            _run(ray, job, pieces, workers, counts)
            parts.tidy()
    except KeyboardInterrupt:
        return counts, signal.SIGINT
    return counts, 0


def _run(ray: Any, job: RayJob, pieces: list[dict[str, Any]], workers: int | None, counts: RunCounts) -> None:
    with _session(ray, workers) as cores:
        found = ray.data.from_items(pieces, override_num_blocks=min(len(pieces), MOST_BLOCKS)).map_batches(
            Actor, fn_constructor_args=(job,), batch_size=1, num_cpus=1, concurrency=min(len(pieces), cores)
        )
        for part in found.iter_rows():
            counts.written += int(part["rows"])
            counts.written_errors += int(part["errors"])


@contextmanager
def _session(ray: Any, workers: int | None) -> Iterator[int]:
    """Yield how many workers a running, quiet Ray has room for. A Ray that was started here is stopped at the end."""
    ours = not ray.is_initialized()
    if ours:
        place = {} if "RAY_ADDRESS" in os.environ else {
            "address": "local",  # never the cluster of another program on this machine
            "num_cpus": workers or available_cores(),
            "object_store_memory": _OBJECT_STORE,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",  # other machines cannot reach it
        }  # fmt: skip
        try:
            with without_current_folder():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, job_config=_job_config(), **place)
        except Exception as error:  # Ray has many: no such cluster, no memory, a start that took too long
            raise ConfigError(f"Ray did not start: {str(error).strip().splitlines()[0]}") from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield min(cores, workers or cores)
    finally:
        if ours:
            ray.shutdown()


def _job_config() -> Any:
    """What Ray tells its workers. Ray itself would put the current folder first on their import path."""
    from ray.job_config import JobConfig

    config = JobConfig()
    config._py_driver_sys_path = PathWithoutCurrentFolder()
    return config
