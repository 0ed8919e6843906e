"""The command line, called in this process."""

import pytest

from moslens.cli.app import main


def call(*words: object) -> int:
    """The exit code of ``moslens WORDS``."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)
