"""Write the generated tables of README.md and docs/*.md from the cards, the published figures and results/*.json.

    python -m tools.docs.make_tables

A table stands between ``<!-- table NAME -->`` and ``<!-- end NAME -->``; everything else is left as it is.
"""

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

from benchmarks.common import ROOT
from moslens.data.cards import all_cards
from moslens.evaluate.record import read_result
from tools.docs import aims_table, cost_tables, desk_table, front_tables, recipe_tables

DOCS = ROOT / "docs"
RESULTS = ROOT / "results"
OURS = {
    "0.1/livec-quality-lite": "moslens 0.1 quality-only, lite",
    "0.1/livec-shdiqa-lite": "moslens 0.1 SHDIQA, lite",
    "livec-quality-lite": "moslens quality-only, lite",
    "livec-ensemble-lite": "moslens quality-only, mean of two models, lite",
    "livec-shdiqa-lite": "moslens SHDIQA, lite, as released",
}


def published() -> str:
    """Published LIVEC figures in ascending order, and ours where results/ has them."""
    record = tomllib.loads((DOCS / "data" / "published-livec.toml").read_text("utf-8"))
    lines = ["| method | SRCC | PLCC | read in |", "|---|---|---|---|"]
    for row in record["row"]:
        lines.append(f"| {row['method']} | {_figure(row.get('srcc'))} | {_figure(row.get('plcc'))} | {row['source']} |")
    for name, label in OURS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            lines.append(_own_row(read_result(path), name, label))
    sources = "; ".join(f"{key} {text}" for key, text in record["sources"].items())
    return "\n".join([*lines, "", f"{sources}."])


def _own_row(result: dict[str, Any], name: str, label: str) -> str:
    middle, spread = result["median"], result["std"]
    return (
        f"| **{label}** | **{_figure(middle['srcc'])}** ± {_figure(spread['srcc'])} "
        f"| **{_figure(middle['plcc'])}** ± {_figure(spread['plcc'])} (raw {_figure(middle['plcc_raw'])}) "
        f"| results/{name}.json, median of {len(result['splits'])} splits |"
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def datasets() -> str:
    """One row a card."""
    lines = [
        "| name | data set | pictures | references | score as released | label files | pictures in |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in all_cards():
        score = f"{card.score} {card.range[0]:g} to {card.range[1]:g}, {card.direction} is better"
        cells = (
            f"`{card.name}`",
            card.title,
            f"{card.count:,}",
            f"{card.references:,}" if card.references else "–",
            score,
            ", ".join(f"`{label}`" for label in card.labels),
            ", ".join(f"`{folder}/`" for folder in card.images),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def label_scales() -> str:
    """Which published label of each card is 0 and which is 100 in an exported model."""
    lines = ["| data set | 0 is | 100 is |", "|---|---|---|"]
    for card in all_cards():
        ends = card.scale.published
        lines.append(f"| `{card.name}` | {ends.worst:g} | {ends.best:g} |")
    return "\n".join(lines)


def open_questions() -> str:
    """What the cards themselves say could not be verified."""
    return "\n".join(f"- `{card.name}`: {card.unverified}" for card in all_cards() if card.unverified)


def _measured() -> list[tuple[str, dict[str, Any]]]:
    """The label and the result of each of our models that was measured on LIVEC."""
    return [
        (label, read_result(RESULTS / f"{n}.json")) for n, label in OURS.items() if (RESULTS / f"{n}.json").is_file()
    ]


def livec() -> str:
    """The medians of our models on LIVEC; empty while nothing was measured."""
    found = _measured()
    if not found:
        return ""
    lines = ["| LIVEC, median | SRCC | PLCC | splits |", "|---|---|---|---|"]
    for label, result in found:
        middle = result["median"]
        cells = [label, _figure(middle["srcc"]), _figure(middle["plcc"]), str(len(result["splits"]))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def livec_splits() -> str:
    """Every split of our models on LIVEC, and the median; empty while nothing was measured."""
    found = _measured()
    if not found:
        return ""
    seeds = [str(split["seed"]) for split in found[0][1]["splits"]]
    lines = ["| LIVEC | median | " + " | ".join(seeds) + " |", "|---" * (len(seeds) + 2) + "|"]
    for label, result in found:
        for figure in ("srcc", "plcc"):
            by_seed = {str(split["seed"]): split[figure] for split in result["splits"]}
            cells = [_figure(by_seed.get(seed)) for seed in seeds]
            lines.append(
                f"| {label}, {figure.upper()} | **{_figure(result['median'][figure])}** | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def severity() -> str:
    """Mean score of clean photos and of each kind at five levels, and how often the worst is below its clean twin."""
    path = RESULTS / "severity.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text("utf-8"))
    lines = [
        "| kind | group | clean | 1 | 2 | 3 | 4 | 5 | falls at every level | level 5 below clean |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in record["kinds"].items():
        means = " | ".join(f"{value:.1f}" for value in row["mean_score"])
        falls = ("yes" if row["every_level_lowers_the_mean"] else "**no**") if row["monotone"] else "not ordered"
        lines.append(f"| {name} | {row['group']} | {means} | {falls} | {row['top_below_clean']:.0%} |")
    frames = ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in record["frames"].items())
    lines += [
        "",
        f"Frames that show nothing: {frames}; the lowest tenth of LIVEC's opinion scores ends at"
        f" {record['livec_lowest_decile']:.1f}. Model {record['model']}, {len(record['photos'])} clean photos.",
    ]
    return "\n".join(lines)


CLAIMS = {
    "auc": 'AUC of "1 - block quality", planted against clean blocks',
    "kind_top1": "planted kind named first",
    "kind_top3": "planted kind among the first three",
    "group": "group of the first name right",
    "level_spearman": "Spearman of planted and predicted level",
    "clean_photos_named": "clean photos that get a name",
    "map_extra_cost": "extra time for the map, of that for the score",
    "score_difference": "largest difference of the score with and without the map",
}
AT_MOST = ("clean_photos_named", "map_extra_cost", "score_difference")


def heterogeneity() -> str:
    """What linear probes read from the blocks of every model asked, the median over its runs."""
    path = RESULTS / "heterogeneity-lite.json"
    if not path.is_file():
        return ""
    result = read_result(path)
    names = ("kind_accuracy", "group_accuracy", "pristine_recall", "level_error", "affinity_error", "affinity_srcc")
    lines = ["| model | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * 7 + "|"]
    rows = [(f"`{row['model']}`", row["median"]) for row in result["models"]]
    for label, figures in [*rows, ("best constant answer", result["chance"])]:
        lines.append(f"| {label} | " + " | ".join(_figure(figures.get(name)) for name in names) + " |")
    size = f"{result['config']['composites']} {result['dataset']}, {result['splits'][0]['blocks']:,} degraded blocks"
    return "\n".join([*lines, "", f"{size}; `results/{path.name}`."])


def explain() -> str:
    """What maps are measured to do, claim by claim, then set by set; empty while nothing was measured."""
    path = RESULTS / "explain.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text("utf-8"))
    lines = ["| one distortion, levels 3 to 5 | wanted | found | met |", "|---|---|---|---|"]
    for key, claim in record["claims"].items():
        sign = "at most" if key in AT_MOST else "at least"
        met = "yes" if claim["met"] else "**no**"
        lines.append(f"| {CLAIMS[key]} | {sign} {claim['wanted']:g} | {claim['found']:.3g} | {met} |")
    sets = {
        "one": record["one"]["all"],
        "two": record["two"],
        "four": record["four"],
        "one, by other programs": record["other_programs"]["all"],
    }
    sets |= {f"one: {name}": row for name, row in record["one"]["by_kind"].items()}
    sets |= {f"other program: {name}": row for name, row in record["other_programs"]["by_name"].items()}
    lines += [
        "",
        "| planted | AUC of 1 - quality | AUC of fault probability | first name right | in first three | group right "
        "| given a name | given the right name | Spearman of levels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = (
        "auc", "auc_of_fault_probability", "kind_top1", "kind_top3", "group", "named", "named_right", "level_spearman",
    )  # fmt: skip
    for name, row in sets.items():
        lines.append("| " + " | ".join([name.replace("_", " "), *(_figure2(row[key]) for key in keys)]) + " |")
    mirror = record["mirror"]["block_score_difference"]
    lines += [
        "",
        f"Model {record['model']}, {record['dataset']['photos']} photos. The map of a mirror image differs from the"
        f" mirrored map by {mirror['median']:.2f} points a block in the middle, {mirror['p95']:.2f} in 95 of 100,"
        f" {mirror['max']:.2f} at most.",
    ]
    return "\n".join(lines)


def _figure2(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def tried() -> str:
    """What results/reliability.json says was tried, how often, and how it ended."""
    path = RESULTS / "reliability.json"
    record = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    lines = ["| tried | how often | outcome |", "|---|---|---|"]
    for one in record.get("hostile", {}).values():
        outcomes = ", ".join(f"{count} {name}" for name, count in one["outcomes"].items())
        order = "in order" if one["in_order"] else "**not in order**"
        lines.append(
            f"| hostile files in one run | {one['files']} files | {one['rows']} rows {order} ({outcomes}), "
            f"{one['tracebacks']} tracebacks, {one['peak_memory_gb']:.2f} GB at most, 2 workers |"
        )
    for one in record.get("fuzz", {}).values():
        lines.append(
            f"| fuzzing of the decoding path (atheris {one['atheris']}) | {one['inputs']:,} inputs "
            f"| {one['crashes']} crashes or hangs; {one['coverage_edges']:,} edges covered, "
            f"{one['peak_memory_mb']} MB at most |"
        )
    for name, one in record.get("kills", {}).items():
        signals = ", ".join(f"{count} {signal}" for signal, count in one["signals"].items())
        kept = f"{one['lost']} lost, {one['doubled']} doubled, " if "lost" in one else ""
        equal = "equal to an unbroken run" if one["equal"] else "**not equal to an unbroken run**"
        lines.append(
            f"| `moslens {name}` killed at random moments | {one['kills']} kills ({signals}) in {one['rounds']} rounds "
            f"| {kept}{equal}, {len(one['complaints'])} complaints |"
        )
    for name, one in record.get("installs", {}).items():
        outcome = f"golden scores within {one['furthest_from_golden']:.1g}" if one["passed"] else "**failed**"
        lines.append(f"| bare install, {name} | once | {outcome} |")
    return "\n".join(lines)


def found() -> str:
    """What the trials found and what was changed, from findings.toml."""
    record = tomllib.loads((DOCS / "data" / "findings.toml").read_text("utf-8"))
    lines = ["| found by | what happened | what happens now |", "|---|---|---|"]
    return "\n".join(lines + [f"| {one['by']} | {one['found']} | {one['fixed']} |" for one in record["finding"]])


def promises() -> str:
    """What is promised and which test holds it, from promises.toml."""
    record = tomllib.loads((DOCS / "data" / "promises.toml").read_text("utf-8"))
    lines = ["| promise | test |", "|---|---|"]
    return "\n".join(lines + [f"| {one['says']} | `{one['test']}` |" for one in record["promise"]])


def reports() -> str:
    """Public reports, what moslens does in each case and which test holds it, from reports.toml."""
    record = tomllib.loads((DOCS / "data" / "reports.toml").read_text("utf-8"))
    lines = ["| kind | reports | what moslens does | test |", "|---|---|---|---|"]
    for one in record["report"]:
        named = ", ".join(one["reports"]) or "–"
        lines.append(f"| {one['kind']} | {named} | {one['does']} | `{one['test']}` |")
    return "\n".join(lines)


def commands() -> str:
    """The subcommands, what each does and which extra it needs."""
    from moslens.cli.app import COMMANDS, NEEDS

    lines = ["| command | does | needs the extra |", "|---|---|---|"]
    for name, text in COMMANDS.items():
        lines.append(f"| `moslens {name}` | {text} | {f'`{NEEDS[name]}`' if name in NEEDS else ''} |")
    return "\n".join(lines)


def model_card() -> str:
    """The cards of the models inside the package."""
    from moslens.scoring.card import Card, shipped

    lines = []
    for folder in shipped().values():
        card = Card.read(folder)
        record = card.record
        calibration = record["calibration"]
        lines += [
            f"**{card.id}**",
            "",
            "| | |",
            "|---|---|",
            f"| SHA-256 of the weights | `{card.sha256}` |",
            f"| trained on | {record['trained_on']} |",
            f"| calibrated on | {calibration['fitted_on']} |",
            f"| working size | {card.working_size} px |",
            f"| interval | ± {calibration['radius']:.1f} |",
            f"| licence | {record['licence']} |",
            *(f"| limit | {limit} |" for limit in record["limits"]),
            "",
        ]
    return "\n".join(lines).rstrip()


def significance() -> str:
    """How often intervals hold the true figure, and how often paired tests find a difference that is not there."""
    path = RESULTS / "statistics.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text("utf-8"))
    lines = ["| pictures of a split | interval holds SRCC | interval holds PLCC |", "|---|---|---|"]
    lines += [f"| {name} | {row['srcc']:.1%} | {row['plcc']:.1%} |" for name, row in record["coverage"].items()]
    tests = list(next(iter(record["size"].values())))
    lines += ["", f"| equally good models | {' | '.join(tests)} |", "|---" * (len(tests) + 1) + "|"]
    for name, row in record["size"].items():
        lines.append(f"| {name} | {' | '.join(f'{row[test]:.1%}' for test in tests)} |")
    return "\n".join([*lines, "", f"{record['protocol'].capitalize()}; `results/{path.name}`."])


def classical() -> str:
    """NIQE, BRISQUE and PIQE beside our models on two data sets; empty while nothing was measured."""
    path = RESULTS / "classical.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text("utf-8"))
    photos = f"{record['datasets']['flive_voc']['pictures']} FLIVE photos"
    lines = [f"| | LIVEC, SRCC | LIVEC, PLCC | {photos}, SRCC | {photos}, PLCC |", "|---|---|---|---|---|"]
    for name in dict.fromkeys([*record["livec"], *record["flive_voc"]]):
        middle = record["livec"].get(name, {}).get("median", {})
        cells = [_figure(middle.get(figure)) for figure in ("srcc", "plcc")]
        whole = record["flive_voc"].get(name)
        for figure in ("srcc", "plcc"):
            low, high = whole[f"{figure}_interval"] if whole else (None, None)
            cells.append(f"{_figure(whole[figure])} ({_figure(low)} to {_figure(high)})" if whole else "–")
        lines.append(f"| {' | '.join([name, *cells])} |")
    counts = ", ".join(f"{name} {len(pictures)}" for name, pictures in record["failed"].items())
    found = record["classical_versions"]
    versions = ", ".join(f"{name} {found[name]}" for name in ("scikit-video", "brisque", "pypiqe"))
    return "\n".join(
        [
            *lines,
            "",
            f"LIVEC: median of {len(record['livec']['NIQE']['splits'])} test parts. The FLIVE photos: 95 % bootstrap"
            f" intervals; {record['model']}. Pictures that a metric could not score: {counts}. {versions};"
            f" `results/{path.name}`.",
        ]
    )


def paired() -> str:
    """SHDIQA against the network without distillation, split by split, and the paired tests."""
    return _paired("livec-paired.json", "quality-only", "SHDIQA")


def paired_view() -> str:
    """Whole pictures against the windows of version 0.1, split by split, and the paired tests."""
    return _paired("livec-view-paired.json", "windows", "whole pictures")


def _paired(name: str, first: str, second: str) -> str:
    path = RESULTS / name
    if not path.is_file():
        return ""
    record = json.loads(path.read_text("utf-8"))["quality"]
    pairs = list(zip(record["first_srcc"], record["second_srcc"], strict=True))
    rows = {
        f"{first}, SRCC": [_figure(a) for a, _ in pairs],
        f"{second}, SRCC": [_figure(b) for _, b in pairs],
        "difference": [f"{b - a:+.3f}" for a, b in pairs],
    }
    lines = [f"| split | {' | '.join(map(str, record['seeds']))} |", "|---" * (len(pairs) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    sign, bootstrap, t = record["sign"], record["bootstrap"], record["t"]
    return "\n".join(
        [
            *lines,
            "",
            f"Mean difference {bootstrap['difference']:+.4f}, 95 % interval {bootstrap['low']:+.4f} to"
            f" {bootstrap['high']:+.4f} (paired bootstrap over pictures, p {bootstrap['p']:.3f}); ahead on"
            f" {sign['wins']} splits, behind on {sign['losses']} (sign test p {sign['p']:.3f}); corrected t-test"
            f" p {t['p']:.3f}. `results/{path.name}`.",
        ]
    )


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "aims.md": {"aims": aims_table.aims},
    "bulk.md": cost_tables.TABLES,
    "pick.md": cost_tables.PICK,
    "explain.md": {"explain": explain},
    "../README.md": {**front_tables.README, "livec": livec},
    "reading.md": front_tables.READING,
    "cli.md": {"commands": commands},
    "model-card.md": {"model-card": model_card},
    "reliability.md": {"promises": promises},
    "reliability-trials.md": {"tried": tried, "found": found, "reports": reports},
    "severity.md": {"severity": severity, **desk_table.TABLES},
    "evaluation.md": {
        "significance": significance,
        "heterogeneity": heterogeneity,
        "paired": paired,
        "paired-view": paired_view,
        "livec-splits": livec_splits,
        "published": published,
        "classical": classical,
        **recipe_tables.TABLES,
    },
    "experiments.md": recipe_tables.EXPERIMENTS,
    "datasets.md": {"datasets": datasets, "label-scales": label_scales, "open-questions": open_questions},
}


def fill(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """``text`` with every table made anew. Raises ValueError where a table's place is missing."""
    for name, make in tables.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        body = make()
        text, count = pattern.subn(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)
        if count != 1:
            raise ValueError(f"no single place for table {name}")
    return text


def main() -> None:
    """Rewrite the documents in place."""
    for name, tables in TABLES.items():
        path = DOCS / name
        path.write_text(fill(path.read_text("utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
