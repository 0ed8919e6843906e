"""Coverage-guided fuzzing of the decoding path, by atheris: bytes in, a picture or a typed error out.

    python -m fuzz.decode CORPUS -runs=200000      (in tests; CORPUS is a folder, seeds are written into it)

The Python code of the decoding policy and of Pillow's plugins is instrumented. libFuzzer stops at any other exception,
a native crash, an input that takes more than 20 s, or memory above 2 GB, and leaves the input in ``crash-*``.
"""

import contextlib
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["moslens", "PIL"]):
    import numpy as np
    from PIL import Image

    from moslens.errors import ImageError
    from moslens.picture import load
    from moslens.picture.formats import _PLUGINS

    for module, _ in _PLUGINS.values():
        with contextlib.suppress(ImportError):
            import_module(module)

CODES = {"empty", "not_an_image", "truncated", "corrupt", "unsupported", "too_small", "too_large"}
MAX_PIXELS = 1 << 20


def one_input(data: bytes) -> None:
    """Decode, at full size or at the working size, and check whatever comes out."""
    try:
        picture = load.load(data, working_size=64 if len(data) % 2 else None, max_pixels=MAX_PIXELS)
    except ImageError as error:
        if error.code not in CODES or not error.message:
            raise AssertionError(f"an error that says nothing: {error!r}") from error
        return
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.ndim == 3
    assert picture.pixels.shape[2] == 3
    assert min(picture.width, picture.height) >= load.MIN_SIDE


def write_seeds(corpus: Path) -> None:
    """One small file of every kind of the tests' own hostile files, and every picture among the odd ones."""
    from helpers.hostile import make_odd_files
    from helpers.hostile_many import samples

    corpus.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for suffix, data in samples().items():
            (corpus / f"seed.{suffix}").write_bytes(data)
    odd = corpus.parent / "odd"
    if not odd.exists():
        odd.mkdir()
        for name in make_odd_files(odd):
            path = odd / name
            if path.is_file() and path.stat().st_size < 1 << 16:
                (corpus / f"odd_{name[:40]}").write_bytes(path.read_bytes())


def main() -> None:
    """Arguments are those of libFuzzer; the first folder among them gets the seeds."""
    folders = [word for word in sys.argv[1:] if not word.startswith("-")]
    if folders:
        write_seeds(Path(folders[0]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    Image.preinit()
    defaults = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *defaults, *sys.argv[1:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
