"""``moslens ablate CONFIG --output DIR``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from moslens.cli.tables import align


def run(
    config: Annotated[Path, typer.Argument(help="Ablation plan (TOML), such as configs/ablation-lite.toml.")],
    output: Annotated[Path, typer.Option(help="Folder of the runs, and of NAME.json with the table.")],
    resume: Annotated[bool, typer.Option("--resume", help="Keep finished runs, go on with the killed one.")] = False,
) -> None:
    """Run the core ablation table: every row on every split, with the same budget.

    The table is written anew after every run, so that what is finished can be read at any time.
    """
    from moslens.evaluate.ablation import ablate, read_plan

    typer.echo(table(ablate(read_plan(config), output, resume=resume)))


def table(result: Mapping[str, Any]) -> str:
    """Rows in order: median and spread over splits, and the median distance to the main row."""
    rows = [("row", "splits", "SRCC", "PLCC", "std", "against main")]
    for row in result["rows"]:
        gaps = sorted(row["srcc_against_main"].values())
        middle = f"{gaps[len(gaps) // 2]:+.4f}" if gaps else "-"
        figures = [f"{row['median'][key]:.4f}" for key in ("srcc", "plcc")] if row["splits"] else ["-", "-"]
        spread = f"{row['std']['srcc']:.4f}" if row["splits"] else "-"
        rows.append((row["title"], str(len(row["splits"])), *figures, spread, middle))
    return f"{result['name']}: {result['protocol']}\n{align(rows)}"
