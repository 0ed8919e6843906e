"""``moslens distortions``: the table of kinds, groups and the parameter at each level."""

import typer

from moslens.distortions import KINDS, LEVELS, Kind


def run() -> None:
    """List the distortion kinds with their group and the parameter at levels 1 to 5."""
    header = ("kind", "group", "parameter", *(str(level) for level in LEVELS))
    rows = [header, *(_cells(kind) for kind in KINDS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        typer.echo("  ".join(words + numbers))
    typer.echo("(value): leaves a picture as it is, never drawn.  ~: levels are not in the order of their strength.")


def _cells(kind: Kind) -> tuple[str, ...]:
    values = (
        f"({value:g})" if level in kind.no_op_levels else f"{value:g}"
        for level, value in zip(LEVELS, kind.levels, strict=True)
    )
    mark = "" if kind.monotone else " ~"
    return kind.name + mark, kind.group, f"{kind.parameter}, {kind.unit}", *values
