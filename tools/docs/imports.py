"""Draw which package of moslens imports which, as docs/images/imports.svg.

    python -m tools.docs.imports

grimp reads the imports of all modules; those that only type checkers follow are left out. A package stands above all
that it imports, and an arrow that a chain of other arrows implies is not drawn.
"""

from collections.abc import Mapping
from graphlib import TopologicalSorter
from statistics import fmean

import grimp

from benchmarks.common import ROOT

FILE = ROOT / "docs" / "images" / "imports.svg"
PAPER = ("blocks", "data", "distortions", "evaluate", "losses", "metrics", "model", "release", "train")
PRODUCT = ("bulk", "cli", "scoring", "serve")
FILL = {**dict.fromkeys(PAPER, "#dbe7f6"), **dict.fromkeys(PRODUCT, "#fbe5cf")}
WIDTH, HEIGHT, GAP, RISE, MARGIN = 96, 30, 24, 40, 12

Imports = Mapping[str, set[str]]


def package_imports() -> dict[str, set[str]]:
    """For each package or module right below ``moslens``, those that it imports."""
    graph = grimp.build_graph("moslens", exclude_type_checking_imports=True, cache_dir=None)
    names = {name: name.split(".")[1] for name in graph.modules if "." in name}
    found: dict[str, set[str]] = {short: set() for short in names.values() if short != "__main__"}
    for module, short in names.items():
        if short in found:
            targets = graph.find_modules_directly_imported_by(module)
            found[short] |= {names[target] for target in targets if target in names} - {short}
    return found


def below(imports: Imports, name: str) -> set[str]:
    """All that ``name`` imports, by whatever way."""
    return imports[name].union(*(below(imports, target) for target in imports[name]))


def essential(imports: Imports) -> dict[str, set[str]]:
    """The imports that no chain of others implies."""
    return {
        name: {target for target in targets if not any(target in below(imports, other) for other in targets)}
        for name, targets in imports.items()
    }


def levels(imports: Imports) -> dict[str, int]:
    """How high each package stands. Raises graphlib.CycleError where imports form a circle."""
    level: dict[str, int] = {}
    for name in TopologicalSorter(imports).static_order():
        level[name] = 1 + max((level[target] for target in imports[name]), default=-1)
    return level


def stepwise(imports: Imports) -> tuple[Imports, dict[str, int]]:
    """Arrows from one row to the next only: a long one gets a bend, named ``FROM>TO>ROW``, in each row it passes."""
    level = levels(imports)
    steps: dict[str, set[str]] = {name: set() for name in imports}
    for name, targets in essential(imports).items():
        for target in targets:
            here = name
            for row in range(level[name] - 1, level[target], -1):
                bend = f"{name}>{target}>{row}"
                steps[here].add(bend)
                steps[bend], level[bend], here = set(), row, bend
            steps[here].add(target)
    return steps, level


def places(steps: Imports, level: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """The centre of each box and bend: in a row by the mean place of the neighbours."""
    rows = [sorted(name for name in level if level[name] == n) for n in reversed(range(max(level.values()) + 1))]
    above = {name: {other for other, targets in steps.items() if name in targets} for name in steps}
    x: dict[str, float] = {}

    def arrange(row: list[str], neighbours: Imports) -> None:
        mean = {n: fmean(x[o] for o in neighbours[n]) if neighbours[n] else x.get(n, 0.0) for n in row}
        row.sort(key=lambda n: (mean[n], n))
        left = -sum(map(room, row)) / 2
        for name in row:
            x[name] = left + room(name) / 2
            left += room(name)

    for turn in range(24):
        for row in rows:
            arrange(row, above if turn else {name: set() for name in row})
        for row in reversed(rows):
            arrange(row, steps)
    left = min(x[name] - room(name) / 2 for name in x)
    return {
        name: (MARGIN + x[name] - left, MARGIN + HEIGHT / 2 + n * (HEIGHT + RISE))
        for n, row in enumerate(rows)
        for name in row
    }


def room(name: str) -> float:
    """How much of a row a box or a bend takes."""
    return GAP if ">" in name else WIDTH + GAP


def draw(imports: Imports) -> str:
    """The drawing as SVG text, the same for the same imports."""
    steps, level = stepwise(imports)
    centre = places(steps, level)
    width = round(MARGIN + max(x + room(name) / 2 for name, (x, _) in centre.items()))
    height = round(MARGIN + HEIGHT / 2 + max(y for _, y in centre.values()))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="13" text-anchor="middle">',
        "<title>Imports between the packages of moslens, from top to bottom</title>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for name in sorted(steps):
        for target in sorted(steps[name]):
            (x, y), (u, v) = centre[name], centre[target]
            y, v = y + (">" not in name) * HEIGHT / 2, v - (">" not in target) * HEIGHT / 2
            bend = (y + v) / 2
            lines.append(
                f'<path d="M{x:.0f} {y:.0f}C{x:.0f} {bend:.0f} {u:.0f} {bend:.0f} {u:.0f} {v:.0f}"'
                ' fill="none" stroke="#777"/>'
            )
            if ">" not in target:
                lines.append(
                    f'<path d="M{u - 4:.0f} {v - 7:.0f}L{u:.0f} {v:.0f}L{u + 4:.0f} {v - 7:.0f}Z" fill="#777"/>'
                )
    for name in sorted(imports):
        x, y = centre[name]
        lines.append(
            f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="4"'
            f' fill="{FILL.get(name, "#eeeeee")}" stroke="#555"/><text x="{x:.0f}" y="{y + 4.5:.0f}">{name}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Write the drawing."""
    FILE.write_text(draw(package_imports()), encoding="utf-8")


if __name__ == "__main__":
    main()
