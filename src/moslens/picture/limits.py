"""How large a picture may be."""

MAX_PIXELS = 200_000_000
"""Pixels of the largest picture that is read unless the caller sets another cap."""
