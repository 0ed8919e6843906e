"""``moslens serve``: scores over HTTP, with a web page (needs the ``serve`` extra)."""

from moslens.serve.app import create_app
from moslens.serve.settings import Settings

__all__ = ["Settings", "create_app"]
