"""The tables of bulk.md and pick.md, from what benchmarks wrote: each is empty where nothing was."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from benchmarks.common import ROOT
from moslens.scoring.card import Card, find_model

RESULTS = ROOT / "results"


def model_words(model_id: str) -> str:
    """The id of the model of a record; that of earlier weights says so."""
    return model_id if model_id == shipped_id() else f"{model_id} (earlier weights of the same network)"


@cache
def shipped_id() -> str:
    """The id of the default model in the package."""
    return Card.read(find_model()).id


def benchmarks() -> str:
    """What the run of all benchmarks found: ratios, then targets."""
    record = read_record("benchmarks")
    if not record:
        return ""
    lines = ["| benchmark | ratio | |", "|---|---|---|"]
    for name, ratios in record["ratios"].items():
        lines += [f"| `{name}.py` | {label} | {value:.2f} |" for label, value in ratios.items()]
    lines += ["", "| benchmark | wanted | met |", "|---|---|---|"]
    for name, targets in record["targets_met"].items():
        lines += [f"| `{name}.py` | {label} | {'yes' if met else '**no**'} |" for label, met in targets.items()]
    return "\n".join([*lines, "", f"{_where(record)}; `results/benchmarks.json`."])


def cluster() -> str:
    """What became of 5,000 pictures on Ray with a worker and the driver killed."""
    record = read_record("cluster")
    if not record:
        return ""
    killed = record["killed"]
    return "\n".join(
        [
            "| rows | errors | lost | doubled | furthest from the plain engine | time to the plain engine |",
            "|---|---|---|---|---|---|",
            f"| {record['rows']:,} | {record['errors']} | {record['lost']} | {record['doubled']} "
            f"| {record['furthest']:.1g} | {record['time_to_plain']:.2f} |",
            "",
            f"A worker was killed at {killed['parts_at_worker']} parts, the driver at {killed['rows_at_driver']:,}"
            f" rows; the resumed run wrote the other {killed['rows_of_resumed_run']:,}."
            f" Model {model_words(record['model'])}, {_where(record)}.",
        ]
    )


def pick() -> str:
    """Planted bursts that were found, what was grouped wrongly, and the time to group many pictures."""
    record = read_record("pick")
    if not record:
        return ""
    lines = [
        "| | pictures | planted pairs | found | recall | false pairs | precision |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, name in (("likeness alone", "without_time"), ("with times and cameras", "with_time")):
        found = record[name]
        lines.append(
            f"| {title} | {found['pictures']:,} | {found['planted_pairs']} | {found['found_pairs']} "
            f"| {found['recall']:.3f} | {found['false_pairs']} | {found['precision']:.3f} |"
        )
    grouping = record["grouping"]
    return "\n".join(
        [
            *lines,
            "",
            f"Of {record['photos']} photos, half of which chose the limit of likeness and half of which were measured."
            f" The groups of {grouping['pictures']:,} pictures take {grouping['processor_seconds']:.1f} s of one core."
            f" {_where(record)}.",
        ]
    )


def scale() -> str:
    """Cost and memory by the number of pictures, and the plot."""
    record = read_record("scale")
    if not record:
        return ""
    lines = ["![Processor time and peak memory over the number of pictures](images/scale.png)", ""]
    lines += ["| pictures | processor ms a picture | peak memory, MB |", "|---|---|---|"]
    for row in record["rows"]:
        lines.append(f"| {row['pictures']:,} | {row['cpu_ms_a_picture']:.1f} | {row['peak_mb']:.0f} |")
    lines += ["", f"Cost grows with pictures to the power {record['growth_exponent']:.2f}; {_where(record)}."]
    return "\n".join(lines)


def decisions() -> str:
    """Cost and memory of pick and rate beside score, by the number of photos."""
    record = read_record("decision-scale")
    if not record:
        return ""
    lines = ["| photos | command | cost to `score` | peak memory to `score` |", "|---|---|---|---|"]
    for row in record["rows"]:
        name, _, more = row["command"].partition(", ")
        lines.append(
            f"| {row['photos']:,} | `{name}`{f', {more}' if more else ''} | {row['cost_to_score']:.2f} "
            f"| {row['memory_to_score']:.2f} |"
        )
    return "\n".join([*lines, "", f"Cost is processor time; {_where(record)}."])


def training() -> str:
    """The parts of a training step, and what is made once."""
    record = read_record("training-profile")
    if not record:
        return ""
    runs = record["by_threads"]
    lines = ["| share of a step | " + " | ".join(f"{n} thread(s)" for n in runs) + " |", "|---|" + "---|" * len(runs)]
    for name in next(iter(runs.values()))["shares"]:
        lines.append(f"| {name} | " + " | ".join(f"{run['shares'][name]:.1%}" for run in runs.values()) + " |")
    lines.append("| cores used | " + " | ".join(f"{run['cores_used']:.0%}" for run in runs.values()) + " |")
    alone = next(iter(runs.values()))["streams_alone"]
    streams = ", ".join(
        f"{name.upper()} {row['to_q']:.2f} for {row['pictures']} pictures" for name, row in alone.items()
    )
    once = ", ".join(f"{key.removesuffix('_ms')} {value:.0f} ms" for key, value in record["once_an_entry"].items())
    heavy = ", ".join(f"`{name}` {share:.0%}" for name, share in record["operators"].items())
    lines += ["", f"Streams by themselves, to the Q stream: {streams}. Made once: {once}. Processor time by operator:"]
    names = "`, `".join(record["kept"]["frozen"])
    depthwise, memory = record["depthwise_backward"], record["freed_memory"]
    lines += [
        f"{heavy}.",
        "",
        f"One depthwise 5 x 5 convolution backward: {depthwise['with_ms']:.0f} ms with the gradient of its weights,"
        f" {depthwise['without_ms']:.0f} without. With `{names}` kept a step takes {record['kept']['to_all']:.2f} of"
        f" its time. Freed memory kept instead of given back: {memory['kept']['page_faults']:,.0f} page faults a step"
        f" of the Q stream instead of {memory['given_back']['page_faults']:,.0f},"
        f" {memory['kept_to_given_back']:.2f} of the time. {_where(record)}.",
    ]
    return "\n".join(lines)


def read_record(name: str) -> dict[str, Any]:
    """A file of results/, or nothing where it is missing."""
    path = RESULTS / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return record


def _where(record: dict[str, Any]) -> str:
    machine = record["machine"]
    return f"{machine['cores']} cores of {machine['processor']}"


TABLES: dict[str, Callable[[], str]] = {
    "cluster": cluster,
    "benchmarks": benchmarks,
    "scale": scale,
    "decisions": decisions,
    "training": training,
}
PICK: dict[str, Callable[[], str]] = {"pick": pick}
