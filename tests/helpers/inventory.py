"""The public API as lines of text: names, parameters, commands and options, without what a Python version words anew.

python -m helpers.inventory --write      (in tests) after a deliberate change; the list is project/public_api.txt
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import typer

from helpers.paths import ROOT

FILE = ROOT / "tests" / "project" / "public_api.txt"
MODULES = {
    "moslens": None,
    "moslens.blocks": ["BlockDegradation"],
    "moslens.distortions": None,
    "moslens.errors": None,
    "moslens.interop": None,
    "moslens.losses": ["affinity_distillation", "contrastive_distillation", "quality_loss"],
    "moslens.metrics": ["fit_logistic", "krcc", "plcc", "rmse", "srcc"],
    "moslens.model": ["SHDIQA", "build"],
}


def inventory() -> list[str]:
    """Every public thing, one a line, sorted."""
    lines = []
    for module_name, names in MODULES.items():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            continue
        for name in names or public_names(module):
            lines += describe(f"{module_name}.{name}", getattr(module, name))
    return sorted({*lines, *commands()})


def public_names(module: Any) -> list[str]:
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("__")]
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return [name for name in own if not name.startswith("_")]


def describe(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {path}({bases})"
        if issubclass(value, Exception):
            return
        for name, member in inspect.getmembers(value):
            own = any(name in vars(c) for c in value.__mro__ if c.__module__.startswith("moslens"))
            if name == "__init__" and own:
                yield from parameters(path, member)
            elif own and not name.startswith("_") and callable(member) and not inspect.isclass(member):
                yield from parameters(f"{path}.{name}", member)
            elif own and not name.startswith("_") and isinstance(member, property):
                yield f"{path}.{name}"
        for name in getattr(value, "__dataclass_fields__", ()):
            yield f"{path}.{name}"
    elif callable(value):
        yield from parameters(path, value)
    else:
        yield path


def parameters(path: str, function: Any) -> Iterator[str]:
    """One line for what a call must give, and one for each thing that it may: more of those break nobody."""
    given = inspect.signature(function).parameters.values()
    needed = [p.name for p in given if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    yield f"{path}({', '.join(needed)})"
    for parameter in given:
        if parameter.default is not parameter.empty:
            keyword = " by name" if parameter.kind is parameter.KEYWORD_ONLY else ""
            yield f"{path}({parameter.name}=){keyword}"


def commands() -> Iterator[str]:
    from moslens.cli.app import COMMANDS, build_app

    for name in COMMANDS:
        group: Any = typer.main.get_command(build_app(name))
        if name not in group.commands:
            continue
        given = group.commands[name].params
        arguments = [p.metavar or p.name.upper() for p in given if p.param_type_name == "argument"]
        yield " ".join(["$ moslens", name, *arguments])
        for parameter in given:
            if parameter.param_type_name == "option":
                yield f"$ moslens {name} {' '.join(sorted(parameter.opts + parameter.secondary_opts))}"


if __name__ == "__main__":
    lines = "".join(f"{line}\n" for line in inventory())
    if "--write" in sys.argv:
        FILE.write_text(lines, encoding="utf-8")
    else:
        sys.stdout.write(lines)
