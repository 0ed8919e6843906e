"""The tables of the desk test in severity.md, from results/desk.json; each is empty where nothing was measured."""

from collections.abc import Callable
from typing import Any

from tools.docs import cost_tables

CLAIMS = {
    "below_clean": "below its clean twin, levels 2 to 5",
    "lower_by_points": "lower by 8 points or more, levels 3 to 5",
    "falls": "monotone faults whose mean falls at every level",
    "dead": "highest score of a dead frame",
    "harmless": "harmless change moves the score by at most 6 points, worst change",
    "named_right": "first name of a right group, levels 3 to 5",
    "clean_named": "clean photos with a name",
    "detail_named": "at 100 %: a name of a right group",
    "detail_lower": "at 100 %: detail score lower by 8 points or more",
    "detail_clean_named": "at 100 %: clean photos with a name",
}
POINTS = ("dead",)


def desk() -> str:
    """Each target, and each fault with a column for each target."""
    record = cost_tables.read_record("desk")
    if not record:
        return ""
    lines = ["| asked | wanted | found | worst | met |", "|---|---|---|---|---|"]
    for key, text in CLAIMS.items():
        lines.append(_claim_row(text, record["claims"][key], points=key in POINTS))
    lines += [*_elsewhere(), "", *_faults(record), "", *_harmless(record), "", *_detail(record), ""]
    lines.append(_sizes(record))
    return "\n".join(lines)


def _sizes(record: dict[str, Any]) -> str:
    """The model, how many pictures were measured, and the programs."""
    large, left_out = record["detail"]["photos"], record["left_out"]
    programs = ", ".join(f"{name} {version}" for name, version in _programs(record).items())
    without = f" Left out, because a program cannot make it: {', '.join(left_out)}." if left_out else ""
    return (
        f"Model {record['model']}; {record['clean']['photos']} photos, at 100 % {large['2 K']} of 2 K and"
        f" {large['12 megapixels']} of 12 megapixels; {programs}.{without} `results/desk.json`."
    )


def _claim_row(text: str, claim: dict[str, Any], *, points: bool) -> str:
    def shown(value: float) -> str:
        return f"{value:.1f}" if points else f"{value:.0%}"

    sign = "at most" if claim["at_most"] else "at least"
    worst = claim.get("worst", "")
    if isinstance(worst, list):
        worst = ", ".join(_words(one) for one in worst)
    elif worst:
        worst = _words(worst) + (f" {shown(claim['worst_found'])}" if "worst_found" in claim else "")
    wanted, found = f"{sign} {shown(claim['wanted'])}", shown(claim["found"])
    return f"| {text} | {wanted} | {found} | {worst or '–'} | {_met(claim['met'])} |"


def _elsewhere() -> list[str]:
    """What other benchmarks measure of the same: the note of graphics, and the cost of detail."""
    notes, cost = cost_tables.read_record("notes"), cost_tables.read_record("detail-cost")
    lines = []
    if notes:
        found = notes["not_a_photo"]
        graphics, photos = found["test graphics"]["share"], found["test photos"]["share"]
        met = graphics >= 0.9 and photos <= 0.02
        lines.append(
            "| note `not_a_photo` on graphics, and on photos (`results/notes.json`) | at least 90%, at most 2% "
            f"| {graphics:.0%}, {photos:.1%} | – | {_met(met)} |"
        )
    if cost:
        large = cost["sizes"]["12 megapixels"]
        lines.append(
            "| cost of detail at 12 megapixels, of a full decoding and six tiles (`results/detail-cost.json`) "
            f"| at most 115% | {large['extra_over_bound']:.0%} | – | {_met(large['extra_over_bound'] <= 1.15)} |"
        )
    return lines


def _faults(record: dict[str, Any]) -> list[str]:
    clean = record["clean"]["mean_score"]
    lines = [
        f"| fault | by | right groups | 1 | 2 | 3 | 4 | 5 | below clean | 8 points lower | falls from {clean:.1f} "
        "| first name right |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in record["faults"].items():
        means = [f"{row['levels'][level]['mean_score']:.1f}" if level in row["levels"] else "–" for level in "12345"]
        falls = "not ordered" if row["falls"] is None else _met(row["falls"])
        shares = (f"{row[key]:.0%}" for key in ("below_clean", "lower_by_points"))
        cells = [
            _words(name),
            row["program"],
            ", ".join(row["groups"]),
            *means,
            *shares,
            falls,
            f"{row['first_right']:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _harmless(record: dict[str, Any]) -> list[str]:
    lines = ["| harmless change | within 6 points | median move | largest move |", "|---|---|---|---|"]
    for name, row in record["harmless"].items():
        lines.append(
            f"| {_words(name)} | {row['within']:.0%} | {row['median_move']:+.1f} | {row['largest_move']:+.1f} |"
        )
    return lines


def _detail(record: dict[str, Any]) -> list[str]:
    sizes = record["detail"]["by_size"]
    head = " | ".join(f"{size}, named right | {size}, 8 points lower" for size in sizes)
    lines = [f"| fault at 100 % | {head} |", "|---" * (1 + 2 * len(sizes)) + "|"]
    for name in record["detail"]["faults"]:
        cells = [f"{table[name][key]:.0%}" for table in sizes.values() for key in ("named_right", "lower_by_points")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _programs(record: dict[str, Any]) -> dict[str, str]:
    """The version of each program, as short as it says it."""
    found = {
        name: next((word for word in (text or "").split() if word[:1].isdigit()), "–")
        for name, text in record["config"]["programs"].items()
    }
    return found | {"scikit-image": record["versions"].get("scikit-image", "–")}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _met(met: bool) -> str:
    return "yes" if met else "**no**"


TABLES: dict[str, Callable[[], str]] = {"desk": desk}
