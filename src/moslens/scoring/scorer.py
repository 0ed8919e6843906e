"""Scoring: from a picture to a calibrated score with its interval.

picture -> working size -> pieces: one whole view, or windows -> raw score of each -> mean -> calibration -> Score
                                                              '-> blocks of each  -> one map -> QualityMap
        '-> tiles at its native size, where asked for -> each like a picture -> Detail
"""

import logging
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from moslens.errors import InternalError, ModelError, NoMapsError
from moslens.picture.limits import MAX_PIXELS
from moslens.scoring.card import BlockLabels, find_model
from moslens.scoring.result import Detail, Failure, Score
from moslens.scoring.session import Model
from moslens.system.cores import available_cores
from moslens.system.ordered_pool import ordered
from moslens.system.text import readable

if TYPE_CHECKING:
    from moslens.picture.load import Picture
    from moslens.picture.source import Source
    from moslens.picture.windows import Piece
    from moslens.scoring.quality_map import QualityMap

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Scorer:
    """Scores pictures with one model. Picklable, safe to share between threads, callable on a batch of rows.

    ``model`` is a shipped name, a model folder, the id of a Hugging Face repository in the local cache
    (``owner/name``), or None for the default model. ``threads`` (None: the available cores) is how many windows of one
    picture run at once in :meth:`score`. ``maps`` False skips the quality maps of :meth:`score`, which saves time;
    scores are the same. ``providers`` are what may run the network, best first: ``cuda``, ``openvino``, ``coreml``,
    ``cpu``, or the names of onnxruntime. One that is not there is passed over with a warning; the CPU is always last.
    Raises ModelError where the model is missing, broken or altered, ConfigError for an unknown provider, ValueError for
    fewer than one thread.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        *,
        maps: bool = True,
        providers: Sequence[str] | None = None,
    ) -> None:
        self._model_name = model if model is None else os.fspath(model)
        self._threads = threads
        self._maps = maps
        self._providers = providers if providers is None or isinstance(providers, str) else tuple(providers)
        self._open()

    def _open(self) -> None:
        if self._threads is not None and self._threads < 1:
            raise ValueError(f"threads must be at least 1, not {self._threads}")
        self.model = Model(find_model(self._model_name), self._providers)
        self.threads = self._threads or available_cores()
        self._own_pool: tuple[int, ThreadPoolExecutor] | None = None

    @property
    def _pool(self) -> ThreadPoolExecutor | None:
        """Threads for the windows of one picture. A forked child makes its own: threads do not survive a fork."""
        if self.threads == 1:
            return None
        if self._own_pool is None or self._own_pool[0] != os.getpid():
            self._own_pool = os.getpid(), ThreadPoolExecutor(self.threads, "moslens-window")
        return self._own_pool[1]

    @property
    def model_id(self) -> str:
        """``name@`` and the first twelve hex digits of the SHA-256 of the weights."""
        return self.model.card.id

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers in use: the first runs the network, the next what it cannot."""
        return self.model.providers

    @property
    def has_maps(self) -> bool:
        """Whether the model gives quality maps."""
        return self.model.has_maps

    def need_maps(self) -> BlockLabels:
        """How the model's block outputs become labels. Raises NoMapsError where it gives no maps."""
        labels = self.model.card.explain
        if labels is None or not self.has_maps:
            raise NoMapsError(f"{self.model_id} gives scores alone, no quality maps")
        return labels

    def explain(self, source: "Source", *, max_pixels: int = MAX_PIXELS, detail: bool = False) -> "QualityMap":
        """The quality map of one picture. Raises ImageError, or NoMapsError where the model gives no maps."""
        return self._explain(source, max_pixels, self._pool, detail=detail)

    def explain_many(
        self,
        sources: "Source | Iterable[Source]",
        *,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        ahead: int | None = None,
        folders: bool = True,
        detail: bool = False,
    ) -> Generator["QualityMap | Failure"]:
        """:meth:`explain` for a stream of pictures, in order; arguments as for :meth:`score_many`."""
        self.need_maps()
        return self._many(partial(self._explain, detail=detail), _each(sources, folders), workers, max_pixels, ahead)

    def explain_or_failure(
        self, source: "Source", *, max_pixels: int = MAX_PIXELS, detail: bool = False
    ) -> "QualityMap | Failure":
        """:meth:`explain` without extra threads; a picture that fails gives a Failure."""
        return self._attempt(partial(self._explain, detail=detail), source, max_pixels)

    def score(self, source: "Source", *, max_pixels: int = MAX_PIXELS, detail: bool = False) -> Score:
        """Score one picture. Raises ImageError.

        A picture is a path, the bytes of a file, an open binary file, a ``PIL.Image``, an array [H, W], [H, W, 3] (RGB)
        or [H, W, 4] (RGBA), or a torch tensor [3, H, W]: uint8, uint16 of full scale, or floats in [0, 1].

        With ``detail`` a picture above twice the working size is also judged at 100 %, on at most six tiles at its
        native size (:attr:`Score.detail`). That takes a full decoding and about as long as six pictures; the score is
        the same.
        """
        return self._score(source, max_pixels, self._pool, detail=detail)

    def score_many(
        self,
        sources: "Source | Iterable[Source]",
        *,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        ahead: int | None = None,
        folders: bool = True,
        detail: bool = False,
    ) -> Generator[Score | Failure]:
        """Score a stream of pictures, one result each, in order; a picture that fails gives a Failure.

        ``sources`` is an iterable of pictures as for :meth:`score` and of folders, or one of them. A folder gives the
        pictures in and below it, those that ``moslens score`` takes; with ``folders`` False it gives a Failure.

        ``workers`` (None: as many as threads) pictures are processed at once, each by one thread; only these
        hold pixels. At most ``ahead`` (None: 8 per worker) sources are read before the oldest result is taken.
        A separate thread reads the sources, so that a slow source holds no result back.
        """
        return self._many(partial(self._score, detail=detail), _each(sources, folders), workers, max_pixels, ahead)

    def __call__(self, batch: Any) -> Any:
        """Add score columns to a batch of rows: a dict of columns, or a pandas DataFrame.

        Pictures are taken from the first column found of ``path``, ``image`` and ``bytes``; KeyError where
        there is none. Columns added: score, low, high (float64, NaN for a failure), width, height (0 for a
        failure), status, error (the message of a failure, else empty), model, version.
        """
        column = next((name for name in ("path", "image", "bytes") if name in batch), None)
        if column is None:
            raise KeyError("a batch needs a column 'path', 'image' or 'bytes'")
        import numpy as np

        results = list(self.score_many((_cell(value) for value in batch[column]), folders=False))
        good = [result if isinstance(result, Score) else None for result in results]
        columns: dict[str, Any] = {
            name: np.array([getattr(one, name) if one else math.nan for one in good], np.float64)
            for name in ("score", "low", "high")
        }
        for name in ("width", "height"):
            columns[name] = np.array([getattr(one, name) if one else 0 for one in good], np.int64)
        columns["status"] = ["ok" if one else "error" for one in good]
        columns["error"] = [readable(one.error.message) if isinstance(one, Failure) else "" for one in results]
        columns["model"] = [one.model for one in results]
        columns["version"] = [one.version for one in results]
        return batch.assign(**columns) if hasattr(batch, "assign") else {**batch, **columns}

    def __getstate__(self) -> dict[str, Any]:
        names = {"model": self._model_name, "threads": self._threads, "maps": self._maps, "providers": self._providers}
        return {**names, "id": self.model_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model_name, self._threads, self._maps = state["model"], state["threads"], state["maps"]
        self._providers = state["providers"]
        self._open()
        if self.model_id != state["id"]:
            raise ModelError(f"pickled with {state['id']}, here the same name is {self.model_id}")

    def _score(self, source: Any, max_pixels: int, pool: ThreadPoolExecutor | None, *, detail: bool = False) -> Score:
        from moslens.scoring.quality_map import in_batches

        if self._maps and self.has_maps:
            return self._explain(source, max_pixels, pool, detail=detail).to_score()
        picture = self._load(source, max_pixels, detail)
        run = pool.map if pool else map
        pieces = self.model.card.view.pieces(picture.pixels)
        raws = [raw for batch in in_batches(pieces) for raw in run(self._raw, batch)]
        value, low, high = self._calibrated(math.fsum(raws) / len(raws), source)
        size = (picture.width, picture.height)
        found = self._detail(picture, source, run, maps=False)
        return Score(_path(source), value, low, high, *size, self.model_id, notes=picture.notes, detail=found)

    def _explain(
        self, source: Any, max_pixels: int, pool: ThreadPoolExecutor | None, *, detail: bool = False
    ) -> "QualityMap":
        from moslens.picture.notes import MONOCHROME, NOT_A_PHOTO
        from moslens.scoring.quality_map import QualityMap, label_blocks, read_pieces

        labels = self.need_maps()
        picture = self._load(source, max_pixels, detail)
        run = pool.map if pool else map
        raws, stitched = read_pieces(self.model, picture.pixels, labels.temperature, run, _path(source))
        raw = math.fsum(raws) / len(raws)
        value, low, high = self._calibrated(raw, source)
        rows, columns = stitched.score.shape
        return QualityMap(
            path=_path(source),
            score=value,
            low=low,
            high=high,
            model=self.model_id,
            width=picture.width,
            height=picture.height,
            rows=rows,
            columns=columns,
            blocks=label_blocks(
                stitched,
                labels,
                self.model.card.calibration,
                picture.width,
                picture.height,
                raw=raw,
                score=None if NOT_A_PHOTO in picture.notes else value,
                monochrome=MONOCHROME in picture.notes,
            ),
            pixels=picture.pixels,
            notes=picture.notes,
            detail=self._detail(picture, source, run, maps=True),
        )

    def _load(self, source: Any, max_pixels: int, detail: bool) -> "Picture":
        """The picture with all its notes, and with its tiles where ``detail`` is asked for."""
        from moslens.picture import load, notes

        view = self.model.card.view
        picture = load.load(
            source, working_size=view.working_size, shortest=view.shortest, max_pixels=max_pixels, tiles=detail
        )
        return replace(picture, notes=picture.notes + notes.notes_of(picture.pixels, picture.height, picture.width))

    def _detail(self, picture: "Picture", source: Any, run: Any, *, maps: bool) -> Detail | None:
        """What the tiles of a picture say; None where it has none."""
        from moslens.picture.notes import MONOCHROME
        from moslens.scoring.detail import read_tile, summarize_tiles

        if not picture.tiles:
            return None
        monochrome = MONOCHROME in picture.notes
        tiles = [
            read_tile(self.model, tile, run, _path(source), maps=maps, monochrome=monochrome) for tile in picture.tiles
        ]
        return summarize_tiles(tiles, self.model.card.calibration.score)

    def _calibrated(self, raw: float, source: Any) -> tuple[float, float, float]:
        calibration = self.model.card.calibration
        value = calibration.score(raw)
        if not math.isfinite(value):
            raise InternalError("the model gave no finite score", _path(source))
        return value, *calibration.interval(value)

    def _raw(self, piece: "Piece") -> float:
        return float(self.model.run(piece)[0])

    def _many(
        self,
        work: Callable[[Any, int, ThreadPoolExecutor | None], Result],
        sources: Iterable[Any],
        workers: int | None,
        max_pixels: int,
        ahead: int | None,
    ) -> Generator[Result | Failure]:
        workers = self.threads if workers is None else workers
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        ahead = max(workers, 8 * workers if ahead is None else ahead)
        return ordered(lambda source: self._attempt(work, source, max_pixels), sources, workers, ahead)

    def _attempt(
        self, work: Callable[[Any, int, ThreadPoolExecutor | None], Result], source: Any, max_pixels: int
    ) -> Result | Failure:
        try:
            return work(source, max_pixels, None)
        except Exception as error:  # one bad picture must not end the run; its row reports the error
            return Failure.of(_path(source), error, self.model_id)


def score(source: "Source", *, max_pixels: int = MAX_PIXELS, detail: bool = False) -> Score:
    """:meth:`Scorer.score` with the released model, which is opened once and kept. Raises ImageError."""
    return _released().score(source, max_pixels=max_pixels, detail=detail)


@lru_cache(maxsize=1)
def _released() -> Scorer:
    return Scorer()


def _each(sources: Any, folders: bool) -> Iterator[Any]:
    """One source after the other; a folder gives its pictures."""
    from moslens.picture.arrays import is_one_picture
    from moslens.picture.choice import Choice
    from moslens.picture.walk import walk

    choice = Choice()
    for source in (sources,) if is_one_picture(sources) else sources:
        if folders and isinstance(source, str | os.PathLike) and os.path.isdir(source):  # noqa: PTH112
            paths = walk(os.fspath(source), choice)
            if (first := next(paths, None)) is not None:
                yield from chain([first], paths)
            else:
                logger.warning("%s: no picture in this folder", os.fspath(source))
        else:
            yield source
    for line in choice.left_out():
        logger.warning(line)


def _path(source: Any) -> str | None:
    if hasattr(source, "read"):  # an open file has its name, or the number of its descriptor
        source = getattr(source, "name", None)
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else None


def _cell(value: Any) -> Any:
    """A picture from a table cell: Hugging Face and Arrow store encoded ones as {"bytes", "path"}."""
    if isinstance(value, Mapping):
        return value.get("path") if value.get("bytes") is None else value["bytes"]
    return value
