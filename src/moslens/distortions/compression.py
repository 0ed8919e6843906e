"""Compression: the real JPEG and JPEG 2000 codecs of Pillow (libjpeg-turbo, OpenJPEG)."""

import io
from typing import Any

import numpy as np
from PIL import Image

from moslens.distortions.planes import Array, from_planes, to_planes

_MOST_RESOLUTIONS = 6


def jpeg(stack: Array, quality: float, rng: np.random.Generator) -> Array:
    """JPEG at ``quality`` 1 to 100, chroma halved both ways (4:2:0)."""
    return _through_codec(stack, "JPEG", quality=int(quality), subsampling="4:2:0")


def jpeg2000(stack: Array, ratio: float, rng: np.random.Generator) -> Array:
    """JPEG 2000 at a compression ratio, with the lossy 9-7 wavelet.

    The code stream has about 150 bytes of headers, so very small pictures cannot reach the high ratios.
    """
    # OpenJPEG refuses more decompositions than the shorter side can be halved.
    resolutions = min(_MOST_RESOLUTIONS, int(min(stack.shape[1:])).bit_length())
    return _through_codec(
        stack,
        "JPEG2000",
        no_jp2=True,
        quality_mode="rates",
        quality_layers=[ratio],
        irreversible=True,
        num_resolutions=resolutions,
    )


def _through_codec(stack: Array, codec: str, **settings: Any) -> Array:
    file = io.BytesIO()
    Image.fromarray(from_planes(stack, np.uint8)).save(file, format=codec, **settings)
    with Image.open(file) as decoded:
        return to_planes(np.asarray(decoded.convert("RGB")))
