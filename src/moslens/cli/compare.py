"""``moslens compare A B``: two models on the same pictures, with bounds that can guard a CI."""

import json
import math
import sys
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import typer

from moslens.cli.options import Better, Direction, MosRange, Reuse, Root, parse_scale, parse_seeds
from moslens.errors import ConfigError
from moslens.system.text import printable, readable


class ReportFormat(StrEnum):
    """How the comparison is written."""

    table = "table"
    json = "json"


def run(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A model, run, CSV or JSON lines, as for moslens evaluate.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The one to compare with it.")],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Pictures, folders, globs, or - for a list.")
    ] = None,
    *,
    dataset: Annotated[str | None, typer.Option(help="A data set with opinion scores instead of PATHs.")] = None,
    root: Root = None,
    splits: Annotated[str, typer.Option(help="Seeds of the splits to compare on: 0-9 or 0,3,7.")] = "0-9",
    mos_range: MosRange = "0:100",
    direction: Direction = Better.higher,
    max_change: Annotated[float | None, typer.Option(help="Fail where a picture moves by more.")] = None,
    max_mean_change: Annotated[
        float | None, typer.Option(help="Fail where pictures move by more on average (absolute).")
    ] = None,
    min_srcc: Annotated[float | None, typer.Option(help="Fail where A and B rank pictures less alike.")] = None,
    max_loss: Annotated[
        float | None, typer.Option(help="Fail where B's median SRCC on the data set is lower by more.")
    ] = None,
    reuse: Reuse = False,
    top: Annotated[int, typer.Option(min=0, help="How many of the pictures that moved to name, most first.")] = 20,
    format: Annotated[
        ReportFormat | None, typer.Option(help="Default: table on a terminal, json elsewhere.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Compare two models: score changes, rank correlation, the pictures that moved most.

    Change is B minus A. Exit code 1 where a stated bound is passed or a picture could not be scored.
    """
    from moslens.evaluate.compare import Bounds, compare_on_dataset, compare_pictures, to_record
    from moslens.evaluate.predictors import open_source

    if (dataset is None) == (not paths):
        raise ConfigError("compare needs PATHs or --dataset, and not both")
    if dataset is None and max_loss is not None:
        raise ConfigError("--max-loss needs --dataset: there are no opinion scores to lose against")
    one, two = (open_source(each, reuse=reuse) for each in (first, second))
    if dataset is None:
        from moslens.bulk.inputs import require_pictures

        comparison = compare_pictures(one, two, list(require_pictures(paths or [], sys.stdin.buffer)))
    else:
        from moslens.data.sets import load_dataset

        scale = parse_scale(mos_range, direction)
        opened = load_dataset(dataset, root, mos_range=scale.ends, direction=scale.direction)
        comparison = compare_on_dataset(one, two, opened, parse_seeds(splits), np.random.default_rng(seed))
    broken = Bounds(max_change, max_mean_change, min_srcc, max_loss).broken(comparison)
    record = to_record(comparison, broken, top)
    if (format or (ReportFormat.table if sys.stdout.isatty() else ReportFormat.json)) is ReportFormat.json:
        typer.echo(json.dumps(_finite(record), indent=1))
    else:
        typer.echo(_table(record))
    for warning in comparison.warnings:
        typer.echo(f"note: {warning}", err=True)
    for sentence in (*broken, *comparison.failures):
        typer.echo(f"moslens: {printable(sentence)}", err=True)
    if broken or comparison.failures:
        raise typer.Exit(1)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, str):
        return readable(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(record: dict[str, Any]) -> str:
    lines = [
        f"{record['first']} -> {record['second']}, {record['pictures']} pictures",
        f"change: mean {record['mean_change']:+.3f}, mean absolute {record['mean_absolute_change']:.3f}, "
        f"largest {record['largest_change']:.3f}",
        f"rank correlation: SRCC {record['srcc']:.4f}, KRCC {record['krcc']:.4f}",
    ]
    quality = record["quality"]
    if quality is not None:
        for word in ("first", "second"):
            srcc, plcc = (float(np.median(quality[f"{word}_{name}"])) for name in ("srcc", "plcc"))
            lines.append(
                f"{record[word]} against opinion scores, median of {len(quality['seeds'])} splits: "
                f"SRCC {srcc:.4f}, PLCC {plcc:.4f}"
            )
        test, sign = quality["bootstrap"], quality["sign"]
        p = quality["t"]["p"]
        lines += [
            f"difference in SRCC {test['difference']:+.4f} ({test['low']:+.4f} to {test['high']:+.4f}, "
            f"p {test['p']:.3g}: paired bootstrap over pictures)",
            f"{record['second']} better in {sign['wins']} splits, worse in {sign['losses']}: "
            + ("" if math.isnan(p) else f"corrected t-test p {p:.3g}, ")
            + f"sign test p {sign['p']:.3g}",
        ]
    if record["moved"]:
        lines.append("moved most:")
    elif not record["largest_change"]:
        lines.append("no score moved")
    lines += [
        f"{m['change']:+9.3f}  {m['first']:9.3f} -> {m['second']:9.3f}  {printable(m['name'])}" for m in record["moved"]
    ]
    return "\n".join(lines)
