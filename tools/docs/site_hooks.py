"""Hooks of mkdocs.yml: links from a page into the repository, and cross-references in docstrings."""

import os
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")
_ROLE = re.compile(r":[a-z]+:<code>~?([\w.]+)</code>")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Turn links to files outside docs/, which GitHub follows as they are, into links to the repository.

    A link to a file that does not exist stays as it is, and ends the build.
    """
    folder = Path(page.file.abs_src_path).parent
    root = Path(config.config_file_path).parent

    def to_repository(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / match[0]))
        if not target.exists() or not target.is_relative_to(root):
            return match[0]
        return f"{config.repo_url.rstrip('/')}/blob/main/{target.relative_to(root)}"

    return _LINK.sub(to_repository, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show a Sphinx role in a docstring (:meth:`score`) as the name that it refers to."""
    return _ROLE.sub(r"<code>\1</code>", html)
