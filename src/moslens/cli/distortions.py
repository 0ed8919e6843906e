"""``moslens distortions``: the table of kinds, plain labels, groups and the parameter at each level, and of groups."""

import typer

from moslens.cli.tables import align
from moslens.distortions import KINDS, LEVELS, Kind
from moslens.distortions.kinds import GROUP_LABELS, GROUPS


def run() -> None:
    """List the distortion kinds with a plain label, their group and the parameter at levels 1 to 5.

    Below them, the groups with their plain labels, which tables and maps show where the kind is only a guess.
    """
    header = ("kind", "label", "group", "parameter", *(str(level) for level in LEVELS))
    typer.echo(align([header, *(_cells(kind) for kind in KINDS)], left=4))
    typer.echo("(value): leaves a picture as it is, never drawn.  ~: levels are not in the order of their strength.")
    typer.echo("\nWhere the kind is only a guess, a fault has the label of its group:\n")
    typer.echo(align([("group", "label"), *((group, GROUP_LABELS[group]) for group in GROUPS)], left=2))


def _cells(kind: Kind) -> tuple[str, ...]:
    values = (
        f"({value:g})" if level in kind.no_op_levels else f"{value:g}"
        for level, value in zip(LEVELS, kind.levels, strict=True)
    )
    mark = "" if kind.monotone else " ~"
    return kind.name + mark, kind.label, kind.group, f"{kind.parameter}, {kind.unit}", *values
