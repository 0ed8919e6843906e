"""The table of docs/aims.md: every figure that was aimed at beside what a record in results/ says."""

import tomllib
from statistics import fmean
from typing import Any

from benchmarks.common import ROOT
from tools.docs.cost_tables import read_record

AIMS = ROOT / "docs" / "data" / "aims.toml"


def aims() -> str:
    """A row for each aim of ``docs/data/aims.toml``. KeyError and IndexError for a record without the figure."""
    lines = ["| aim | wanted | found | met | record |", "|---|---|---|---|---|"]
    for group in tomllib.loads(AIMS.read_text("utf-8"))["group"]:
        lines.append(f"| **{group['title']}** | | | | |")
        for row in group["rows"]:
            found = figure(read_record(row["record"]), row["found"])
            at_most, percent = row.get("at_most", False), row.get("percent", False)
            met = found <= row["wanted"] if at_most else found >= row["wanted"]
            lines.append(
                f"| {row['aim']} | {'at most' if at_most else 'at least'} {_shown(row['wanted'], percent)} "
                f"| {_shown(found, percent)} | {'yes' if met else '**no**'} | `{row['record']}` |"
            )
    return "\n".join(lines)


def figure(record: Any, way: list[str | int]) -> float:
    """The number at the end of ``way``; "*" takes the mean over a list."""
    for place, key in enumerate(way):
        if key == "*":
            return fmean(figure(entry, way[place + 1 :]) for entry in record)
        record = record[key]
    return float(record)


def _shown(value: float, percent: bool) -> str:
    return f"{value * 100:.3g}%" if percent else f"{value:.3g}"
