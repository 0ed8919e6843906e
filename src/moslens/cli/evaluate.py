"""``moslens evaluate RUN|MODEL|CSV --dataset NAME|CSV --root DIR``."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from moslens.cli.options import Better, Direction, MosRange, Reuse, parse_scale, parse_seeds
from moslens.cli.tables import align
from moslens.errors import ConfigError, OutputError
from moslens.system.progress import progress


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL|CSV",
            help="A run or ensemble, a folder of split-N of them, a model folder, a shipped model's name, or a CSV"
            " with columns image and prediction, or the JSON lines (.jsonl) of moslens score.",
        ),
    ],
    *,
    dataset: Annotated[
        list[str],
        typer.Option(
            help="A data set's name (moslens datasets) or a CSV image,mos[,std][,reference][,kind]. Repeatable."
        ),
    ],
    root: Annotated[
        list[Path] | None,
        typer.Option(help="The folder the data set lies in, one for each --dataset. A CSV's own folder without it."),
    ] = None,
    splits: Annotated[
        str, typer.Option(help="Seeds of the 80/20 splits to measure, 0-9 or 0,3,7; or official, the set's own.")
    ] = "0-9",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write REPORT.json and REPORT.html. A killed run goes on from REPORT.partial/."
        ),
    ] = None,
    reuse: Reuse = False,
    mos_range: MosRange = "0:100",
    direction: Direction = Better.higher,
    draws: Annotated[int, typer.Option(min=1, help="Bootstrap draws of the intervals.")] = 1000,
) -> None:
    """Measure a run, a model or anyone's predictions on a data set with opinion scores.

    Prints the figures of every split, their median, mean and standard deviation. The first --dataset is the
    main one; others are measured too and shown beside it.
    """
    from moslens.data.sets import load_dataset
    from moslens.evaluate import measure, record
    from moslens.evaluate.predictors import open_source

    seeds = parse_seeds(splits)
    scale = parse_scale(mos_range, direction)
    opened = open_source(source, reuse=reuse)
    sets = [
        load_dataset(name, folder, mos_range=scale.ends, direction=scale.direction)
        for name, folder in pair_roots(dataset, root or [])
    ]
    stem = None if output is None else report_stem(output)
    work = None if stem is None else stem.with_name(f"{stem.name}.partial")
    found = [
        measure.evaluate(
            opened, one, seeds, work=work and work / str(k), draws=draws, watch=partial(progress, one.name)
        )
        for k, one in enumerate(sets)
    ]
    name = stem.name if stem is not None else f"{opened.model} on {sets[0].name}"
    result = measure.to_result(found[0], name, others=found[1:])
    if stem is not None and work is not None:
        from moslens.evaluate.report import write_report

        write_report(stem.with_name(f"{stem.name}.html"), found[0], result, found[1:])
        record.write_result(stem.with_name(f"{stem.name}.json"), result)
        shutil.rmtree(work, ignore_errors=True)
    typer.echo(table(result))
    if stem is not None:
        typer.echo(f"wrote {stem}.json and {stem}.html", err=True)
    for warning in result["warnings"]:
        typer.echo(f"note: {warning}", err=True)


def pair_roots(datasets: Sequence[str], roots: Sequence[Path]) -> list[tuple[str, Path | None]]:
    """Each data set with its root, in order; roots may only be left out at the end. Raises ConfigError."""
    if len(roots) > len(datasets):
        raise ConfigError(f"{len(roots)} --root for {len(datasets)} --dataset")
    return list(zip(datasets, [*roots, *[None] * (len(datasets) - len(roots))], strict=True))


def report_stem(output: Path) -> Path:
    """REPORT without .json or .html. Raises OutputError for a folder."""
    stem = output.with_suffix("") if output.suffix.lower() in (".json", ".html") else output
    if not stem.name or output.is_dir():
        raise OutputError("is a folder; --output names the report in it", output)
    return stem


def table(result: Mapping[str, Any]) -> str:
    """The figures of every split and their summary, SRCC first."""
    from moslens.evaluate.record import FIGURES, split_name

    rows = [["split", "pictures", *FIGURES]]
    for split in result["splits"]:
        name = split_name(split["seed"])
        rows.append([name, str(split["n"]), *(f"{split[key]:.4f}" for key in FIGURES)])
    if len(result["splits"]) > 1:
        rows += [[word, "", *(f"{result[word][key]:.4f}" for key in FIGURES)] for word in ("median", "mean", "std")]
    if result["whole"] is not None:
        whole = result["whole"]
        rows.append(["all", str(whole["n"]), *(f"{whole[key]:.4f}" for key in FIGURES)])
    for row in result["cross"]:
        rows.append([row["dataset"], str(row["pictures"]), *(f"{row['median'][key]:.4f}" for key in FIGURES)])
    return f"{result['model']} on {result['dataset']}: {result['protocol']}\n{align(rows)}"
