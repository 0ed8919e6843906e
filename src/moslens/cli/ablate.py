"""``moslens ablate CONFIG --output DIR``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from moslens.cli.options import parse_seeds
from moslens.cli.tables import align
from moslens.cli.terminal import log_training


def run(
    config: Annotated[Path, typer.Argument(help="Plan (TOML), such as configs/ablation-lite.toml.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the runs, and of NAME.json with the table.")
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting of all rows: section.key=value. Repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished runs, go on with killed ones, try failed ones again.")
    ] = False,
    rows: Annotated[str | None, typer.Option(help="Train only these rows of the plan: a,b.")] = None,
    splits: Annotated[str | None, typer.Option(help="Train only these splits of the plan: 0-2 or 0,3.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs to train at once; they share the cores.")] = 1,
) -> None:
    """Train every row of a plan on every split: an ablation with one budget, or recipes that differ in it.

    What each row trains on is printed first. The table is written anew after every run, so that what is finished can be
    read at any time; several calls with --rows or --splits fill one table. A row that fails is recorded with its error
    and the others go on. Exit code: 0 done, 1 a row failed, 2 wrong use, 130 interrupted, 143 terminated.
    """
    from moslens.evaluate.ablation import ablate, read_plan
    from moslens.system.interrupts import signal_of

    plan = read_plan(config, changes or ())
    log_training()
    try:
        result = ablate(
            plan,
            output,
            resume=resume,
            rows=None if rows is None else [name.strip() for name in rows.split(",")],
            splits=None if splits is None else parse_seeds(splits),
            jobs=jobs,
            on_start=lambda budgets: typer.echo(budget_table(budgets), err=True),
        )
    except KeyboardInterrupt as stop:
        raise typer.Exit(128 + signal_of(stop)) from None
    typer.echo(table(result))
    failed = [(row["name"], failure) for row in result["rows"] for failure in row["failures"]]
    for name, failure in failed:
        typer.echo(f"moslens: {name}, split {failure['seed']}: {failure['error']}", err=True)
    if failed:
        raise typer.Exit(1)


def budget_table(budgets: Mapping[tuple[str, int], Any]) -> str:
    """What every row trains on: an epoch and in all; one line where splits agree."""
    rows: list[tuple[str, ...]] = [
        ("row", "splits", "photos", "steps an epoch", "crops an epoch", "epochs", "steps", "crops", "taken over")
    ]
    alike: dict[tuple[str, Any], list[str]] = {}
    for (name, split), budget in budgets.items():
        alike.setdefault((name, budget), []).append(str(split))
    for (name, b), splits in alike.items():
        counts = (b.pictures, b.steps_an_epoch, b.crops_an_epoch, b.epochs, b.steps, b.crops, b.shared_steps)
        rows.append((name, ",".join(splits), *(f"{count:,}" for count in counts)))
    return align(rows)


def table(result: Mapping[str, Any]) -> str:
    """Rows in order: the figures over splits, and the mean difference to the main row with its 95 % interval.

    Figures are means where the validation part is measured, as recipes are chosen by them, and medians elsewhere.
    """
    word = "mean" if result["part"] == "validation" else "median"
    rows = [("row", "splits", "SRCC", "PLCC", "std", "against main", "95 %", "wins")]
    for row in result["rows"]:
        figures = [f"{row[word][key]:.4f}" for key in ("srcc", "plcc")] if row["splits"] else ["-", "-"]
        spread = f"{row['std']['srcc']:.4f}" if row["splits"] else "-"
        gap = row["against_main"]
        if gap is None or row["name"] == result["model"]:
            paired = ["-", "-", "-"]
        else:
            interval = "-" if gap["splits"] < 2 else f"{gap['low']:+.4f} to {gap['high']:+.4f}"
            paired = [f"{gap['difference']:+.4f}", interval, f"{gap['wins']} of {gap['splits']}"]
        rows.append((row["title"], str(len(row["splits"])), *figures, spread, *paired))
    return f"{result['name']}: {result['protocol']}; {word} over splits\n{align(rows)}"
