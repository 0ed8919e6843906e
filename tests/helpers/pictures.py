"""Pictures made in code that change under every kind of distortion."""

import numpy as np


def picture(height: int = 64, width: int = 80, seed: int = 0) -> np.ndarray:
    """Smooth color shapes with some texture, uint8: changes under every kind."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    phase = rng.uniform(0, 6, (3, 2))
    waves = [np.sin(x / 9 + a) + np.cos(y / 7 + b) + ((x // 16 + y // 16) % 2) for a, b in phase]
    smooth = np.stack(waves, axis=2) * 45 + 110
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
