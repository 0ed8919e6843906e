"""Pictures and folders in object stores, named by fsspec URLs: ``s3://bucket/folder``, ``gs://...``, ``memory://...``.

The package of each store finds its credentials and endpoint itself (environment, configuration files).
"""

import glob
import logging
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from moslens.errors import ConfigError, MissingExtra, UnreadableImage
from moslens.picture.choice import Choice
from moslens.picture.load import Named

logger = logging.getLogger(__name__)

MOST_BYTES = 1 << 30


def is_url(path: str) -> bool:
    """Whether this is a URL. A local file of the same name has precedence."""
    return "://" in path and not os.path.lexists(path)


def file_name(path: str) -> str:
    """The last part of a path; of a URL that of the picture, without a query."""
    return os.path.basename(_chain(path)[1].partition("?")[0] if is_url(path) else path)  # noqa: PTH119


def source(path: str) -> str | Named:
    """What a scorer takes for a path from a listing. A URL is only read when the scorer decodes it."""
    return Named(path, partial(fetch, path)) if is_url(path) else path


def fetch(url: str) -> bytes:
    """The bytes of an object. Raises UnreadableImage where it is missing, not permitted or above ``MOST_BYTES``."""
    try:
        store, name = open_store(url)
        size = store.info(name)["size"]
        if size is not None and size > MOST_BYTES:
            raise UnreadableImage(f"{size:,} bytes are more than the cap of {MOST_BYTES:,}")
        return bytes(store.cat_file(name))
    except FileNotFoundError as error:
        # fsspec raises it for every failure over HTTP, from what happened
        cause = error.__cause__
        if cause is None or getattr(cause, "status", None) in (404, 410):
            raise UnreadableImage("no such object") from None
        raise UnreadableImage(f"cannot be read ({_words(cause)})") from error
    except IsADirectoryError:
        raise UnreadableImage("is a folder") from None
    except UnreadableImage:
        raise
    except Exception as error:  # every store has exceptions of its own
        raise UnreadableImage(f"cannot be read ({_words(error)})") from error


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL and the name in it. Raises MissingExtra, or ConfigError for an unknown scheme."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise MissingExtra("bulk", "fsspec", alone=True) from None
    try:
        store, name = url_to_fs(url)
    except ImportError as error:  # fsspec names the package of that store
        raise ConfigError(str(error), url) from error
    except ValueError as error:
        raise ConfigError(f"not a place that fsspec can open: {_words(error)}", url) from error
    return store, name


def walk_url(url: str, choice: Choice) -> Iterator[str]:
    """The pictures at a URL, as ``walk`` and globs give them: an object itself, the members of a folder, a glob.

    A ``*`` in front of a query makes a glob; a ``?`` begins a query (``?versionId=``, a signature), and brackets are a
    set of letters only where no object has that name. Members have the URL as given in front. Raises ConfigError where
    there is nothing of that name.
    """
    store, root = open_store(url)
    place = root.partition("?")[0]
    try:
        if "*" not in place and store.isfile(root):
            return iter([url])
        if "*" not in place and store.isdir(root):
            return _members(store, root.rstrip("/"), url, choice)
        if glob.has_magic(place):
            names = choice.pictures(choice.without_clutter(sorted(store.glob(root)), root))
            before, own, behind = _chain(url)
            if not before + behind:
                return map(store.unstrip_protocol, names)
            scheme = own.partition("://")[0]
            return (f"{before}{scheme}://{name}{behind}" for name in names)
    except Exception as error:  # every store has exceptions of its own
        raise ConfigError(f"cannot be listed ({_words(error)})", url) from error
    raise ConfigError("no such object or folder", url)


def _chain(url: str) -> tuple[str, str, str]:
    """What is before the part of a URL that names the pictures, the part, and what is behind it.

    In ``zip://photos::file://a.zip`` it is the first one, in ``simplecache::s3://bucket/photos`` the second: the first
    with a path.
    """
    parts = url.split("::")
    at = next((place for place, part in enumerate(parts) if "://" in part), 0)
    return "".join(f"{part}::" for part in parts[:at]), parts[at], "".join(f"::{part}" for part in parts[at + 1 :])


def _members(store: Any, root: str, url: str, choice: Choice) -> Iterator[str]:
    # Folders are listed one by one, so that no more is held than the entries of some. The order is that of full names.
    before, own, behind = _chain(url)
    scheme, mark, folder = own.partition("://")  # the folder is empty for all of an archive

    def named(name: str) -> str:
        return before + scheme + mark + folder.rstrip("/") + name[len(root) :] + behind

    pending = [root + "/"]
    while pending:
        name = pending.pop()
        if not name.endswith("/"):
            yield named(name)
            continue
        try:
            entries = store.ls(name, detail=True)
        except Exception as error:
            logger.warning("cannot list %s: %s", name, _words(error))
            yield named(name)
            continue
        below = []
        for entry in entries:
            child = entry["name"].rstrip("/")
            if child != name.rstrip("/"):  # some stores list a folder's own empty object in it
                below.append(child + "/" if entry["type"] == "directory" else child)
        pending.extend(sorted(choice.pictures(choice.without_clutter(below, name)), reverse=True))


def _words(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
