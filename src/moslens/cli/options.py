"""Option values that several commands parse alike."""

from __future__ import annotations

from moslens.errors import ConfigError


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``0-9`` or ``0,3,7``; ``official`` is -1. Raises ConfigError."""
    if text == "official":
        return [-1]
    seeds: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"--splits wants seeds such as 0-9 or 0,3,7, or official, not {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--splits {text!r} names no seed, or one twice")
    return seeds


def parse_range(text: str) -> tuple[float, float]:
    """Bounds from ``LOW:HIGH``. Raises ConfigError."""
    low, _, high = text.partition(":")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (0.0, 0.0)
    if not bounds[0] < bounds[1]:
        raise ConfigError(f"--mos-range wants LOW:HIGH such as 1:5, not {text!r}")
    return bounds
