"""Lists of kinds in a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from moslens.distortions import GROUPS, KIND_BY_NAME, KINDS
from moslens.errors import ConfigError
from moslens.system.text import did_you_mean


def named_kinds(names: Sequence[str], setting: str) -> tuple[str, ...]:
    """The kinds that ``names``, of kinds or groups, stand for, each once, in the order of ``KINDS``.

    ConfigError, naming the setting, for a name that is neither.
    """
    for name in names:
        if name not in KIND_BY_NAME and name not in GROUPS:
            hint = did_you_mean(name, [*KIND_BY_NAME, *GROUPS])
            raise ConfigError(
                f"{setting}: no kind or group of distortions is called {name!r}; {hint}`moslens distortions` lists them"
            )
    return tuple(kind.name for kind in KINDS if kind.name in names or kind.group in names)
