"""Figures of the desk test from its rows: shares for each fault, each level and each target.

A row of a photo has what was seen of the clean photo and of each fault at each level: the score and the groups of the
faults that were named, the largest first.

    {"photo": "a.jpg", "clean": {"score": 71.0, "groups": []},
     "faults": {"jpeg": {"5": {"score": 12.0, "groups": ["compression"]}}}, "harmless": {"mirror": 70.8}}
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from benchmarks.quality.desk_plan import Fault, Plan

Row = Mapping[str, Any]
Seen = Mapping[str, Any]
Pair = tuple[Seen, Seen]  # the clean photo, and the same with a fault
LEAST_LEVEL = 2


def fault_table(rows: Sequence[Row], faults: Iterable[Fault], plan: Plan) -> dict[str, Any]:
    """Each fault's mean scores and shares; ``falls`` is None for a fault that is not monotone."""
    return {fault.name: _fault(rows, fault, plan) for fault in faults}


def _fault(rows: Sequence[Row], fault: Fault, plan: Plan) -> dict[str, Any]:
    clean = fmean(row["clean"]["score"] for row in rows)
    levels = {}
    for level, value in fault.by_level.items():
        pairs = [(row["clean"], row["faults"][fault.name][str(level)]) for row in rows]
        levels[str(level)] = {
            "value": value,
            "mean_score": fmean(seen["score"] for _, seen in pairs),
            "below_clean": share(pairs, _below),
            "lower_by_points": share(pairs, lambda pair: _drop(pair) >= plan.targets.points),
            "first_right": share(pairs, lambda pair: pair[1]["groups"][:1] in [[one] for one in fault.groups]),
            "named_right": share(pairs, lambda pair: bool(set(pair[1]["groups"]) & set(fault.groups))),
        }
    means = [clean, *(one["mean_score"] for one in levels.values())]
    strong = [levels[str(level)] for level in fault.by_level if level in plan.strong]
    visible = [levels[str(level)] for level in fault.by_level if level >= LEAST_LEVEL]
    return {
        "program": fault.program,
        "what": fault.what,
        "groups": list(fault.groups),
        "levels": levels,
        "below_clean": fmean(one["below_clean"] for one in visible),
        "lower_by_points": fmean(one["lower_by_points"] for one in strong),
        "falls": all(low < high for high, low in pairwise(means)) if fault.monotone else None,
        "first_right": fmean(one["first_right"] for one in strong),
    }


def _drop(pair: Pair) -> float:
    return float(pair[0]["score"] - pair[1]["score"])


def _below(pair: Pair) -> bool:
    return _drop(pair) > 0


def share(values: Sequence[Any], holds: Callable[[Any], bool]) -> float:
    """The share of the values that ``holds`` is true of."""
    return sum(map(bool, map(holds, values))) / len(values)


def harmless_table(rows: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """How far each harmless change moves the score, in points."""
    table = {}
    for change in plan.harmless:
        moves = [row["harmless"][change.name] - row["clean"]["score"] for row in rows]
        table[change.name] = {
            "what": change.what,
            "value": change.value,
            "median_move": median(moves),
            "largest_move": max(moves, key=abs),
            "within": share(moves, lambda move: abs(move) <= plan.targets.harmless_points),
        }
    return table


def detail_table(rows: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Each fault at 100 %, all levels together."""
    return {
        fault.name: {
            "program": fault.program,
            "what": fault.what,
            "values": list(fault.levels),
            **{
                key: fmean(level[key] for level in _fault(rows, fault, plan)["levels"].values())
                for key in ("named_right", "lower_by_points")
            },
        }
        for fault in plan.detail
    }


def clean_named(rows: Sequence[Row]) -> float:
    """The share of clean photos in which a fault is named."""
    return share(rows, lambda row: bool(row["clean"]["groups"]))


def claims(
    faults: Mapping[str, Any],
    harmless: Mapping[str, Any],
    detail: Mapping[str, Any],
    dead: Mapping[str, float],
    named: tuple[float, float],
    plan: Plan,
) -> dict[str, Any]:
    """Each target with what was found and the worst case; ``named`` has the clean photos named, also in detail.

    The worst harmless change, the highest dead frame and the number of monotone faults that fall decide theirs; in all
    others each picture counts the same.
    """
    ordered = {name: row["falls"] for name, row in faults.items() if row["falls"] is not None}
    targets = plan.targets
    falls = _claim(share(list(ordered.values()), bool), targets.falls)
    strong = min(plan.strong)
    return {
        "below_clean": _pooled(faults, "below_clean", targets.below_clean, LEAST_LEVEL),
        "lower_by_points": _pooled(faults, "lower_by_points", targets.lower_by_points, strong),
        "falls": falls | {"worst": [name for name, one in ordered.items() if not one]},
        "dead": _claim(max(dead.values()), targets.dead, at_most=True) | {"worst": max(dead, key=dead.__getitem__)},
        "harmless": _worst(harmless, "within", targets.harmless),
        "named_right": _pooled(faults, "first_right", targets.named_right, strong),
        "clean_named": _claim(named[0], targets.clean_named, at_most=True),
        "detail_named": _mean(detail, "named_right", targets.detail_named),
        "detail_lower": _mean(detail, "lower_by_points", targets.detail_lower),
        "detail_clean_named": _claim(named[1], targets.detail_clean_named, at_most=True),
    }


def _pooled(faults: Mapping[str, Any], key: str, wanted: float, least: int) -> dict[str, Any]:
    """All pictures from a level on, and the fault with the lowest share of its own."""
    values = [one[key] for row in faults.values() for level, one in row["levels"].items() if int(level) >= least]
    return _claim(fmean(values), wanted) | _lowest(faults, key)


def _mean(table: Mapping[str, Any], key: str, wanted: float) -> dict[str, Any]:
    return _claim(fmean(row[key] for row in table.values()), wanted) | _lowest(table, key)


def _worst(table: Mapping[str, Any], key: str, wanted: float) -> dict[str, Any]:
    return _claim(min(row[key] for row in table.values()), wanted) | _lowest(table, key)


def _lowest(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    worst = min(table, key=lambda name: table[name][key])
    return {"worst": worst, "worst_found": table[worst][key]}


def _claim(found: float, wanted: float, *, at_most: bool = False) -> dict[str, Any]:
    return {
        "found": found, "wanted": wanted, "at_most": at_most, "met": found <= wanted if at_most else found >= wanted,
    }  # fmt: skip
