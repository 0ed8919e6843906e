"""Models of Hugging Face repositories that lie in the local cache, as ``hf download`` leaves them.

``models--owner--name/refs/main`` names a revision, and ``snapshots/REVISION`` holds its files as links into the cache.
Nothing is downloaded, and of a repository only its card (JSON) and its weights (ONNX) are read.
"""

import os
import re
from pathlib import Path

from moslens.errors import ModelError

HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
REVISION = re.compile(r"[0-9a-f]{40}")


def is_hub_id(name: str) -> bool:
    """Whether ``name`` is the id of a repository, ``owner/name``."""
    return HUB_ID.fullmatch(name) is not None and "--" not in name and ".." not in name


def hub_cache() -> Path:
    """The folder of the cache: HF_HUB_CACHE, else ``hub`` in HF_HOME, else in the user's ``huggingface`` cache."""
    if given := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(given).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return caches.expanduser() / "huggingface" / "hub"


def hub_folder(name: str) -> Path:
    """The newest downloaded files of a repository. Raises ModelError where there are none, or a link leaves the cache.

    The newest are those of its main branch when it was last downloaded.
    """
    cache = hub_cache()
    repository = cache / f"models--{name.replace('/', '--')}"
    download = f"to download it: hf download {name}"
    if not repository.is_dir():
        raise ModelError(f"no model {name!r}: neither a folder nor a repository in {cache}; {download}")
    try:
        revision = (repository / "refs" / "main").read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise ModelError(f"has no main branch in the cache; {download}", repository) from error
    snapshot = repository / "snapshots" / revision
    if not REVISION.fullmatch(revision) or not snapshot.is_dir():
        raise ModelError(f"lacks the files of its main branch; {download}", repository)
    root = cache.resolve()
    for entry in (snapshot, *snapshot.iterdir()):
        if not entry.resolve().is_relative_to(root):
            raise ModelError("is a link out of the cache of Hugging Face", entry)
    return snapshot
