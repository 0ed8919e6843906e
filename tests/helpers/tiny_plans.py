"""Plans of an ablation and of recipes, small enough to train in a test."""

from __future__ import annotations

from pathlib import Path

from helpers.tiny_distillation import make_pool, make_teacher, write_student_config
from helpers.tiny_training import make_labelled, write_quality_config


def write_parts_plan(folder: Path) -> Path:
    """An ablation of two rows on two splits of a tiny set, with distillation."""
    table, pool = make_labelled(folder / "set"), make_pool(folder / "pool")
    teacher = make_teacher(pool, folder / "teacher")
    write_student_config(folder / "base.toml", table, pool, teacher, epochs=3)
    (folder / "plain.toml").write_text('title = "plain"\n[model.changes]\nbaf = "off"\n[distill]\nkd = "none"\n')
    (folder / "full.toml").write_text('title = "full"\n')
    path = folder / "plan.toml"
    path.write_text(
        """name = "ablation-tiny"
base = "base.toml"
splits = [0, 1]
main = "full"
rows = ["plain.toml", "full.toml"]
[changes.optim]
epochs = 1
""",
        encoding="utf-8",
    )
    return path


def write_recipe_plan(folder: Path, rows: dict[str, str], *, more: str = "validation = true\n") -> Path:
    """Recipes of the quality stage on two splits of 20 photos, main row "main"; ``rows``: what the others change."""
    table = make_labelled(folder / "set")
    write_quality_config(folder / "base.toml", table, epochs=1)
    for name, changes in {"main": "", **rows}.items():
        (folder / f"{name}.toml").write_text(f'title = "the {name} row"\n{changes}')
    named = ", ".join(f'"{name}.toml"' for name in ("main", *rows))
    path = folder / "recipes.toml"
    path.write_text(
        f"""name = "recipes"
kind = "recipe"
base = "base.toml"
splits = [0, 1]
main = "main"
rows = [{named}]
{more}""",
        encoding="utf-8",
    )
    return path
