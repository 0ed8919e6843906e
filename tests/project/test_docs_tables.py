"""The generated tables of the docs agree with what they are generated from."""

import json
import re

import pytest

from helpers.paths import ROOT
from tools.docs import make_tables

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def tables():
    return make_tables


NAMES = [
    "../README.md",
    "aims.md",
    "bulk.md",
    "cli.md",
    "datasets.md",
    "evaluation.md",
    "experiments.md",
    "explain.md",
    "model-card.md",
    "pick.md",
    "reading.md",
    "reliability.md",
    "reliability-trials.md",
]


@pytest.mark.parametrize("name", [*NAMES, "severity.md"])
def test_documents_are_up_to_date(tables, name):
    text = (DOCS / name).read_text("utf-8")
    # scores differ in the sixth decimal from processor to processor
    filled, text = (
        re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.3f}", one)
        for one in (tables.fill(text, tables.TABLES[name]), text)
    )
    assert filled == text, "run: python -m tools.docs.make_tables"


def test_a_row_of_ours_is_the_median_in_its_file(tables, tmp_path, monkeypatch):
    result = {
        "splits": [{}] * 10,
        "median": {"srcc": 0.8765, "plcc": 0.9123, "plcc_raw": 0.9001},
        "std": {"srcc": 0.0154, "plcc": 0.0111},
    }
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert "moslens" not in tables.published()
    (tmp_path / "livec-quality-lite.json").write_text(json.dumps(result))
    (row,) = (line for line in tables.published().splitlines() if "moslens" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "**0.876** ± 0.015"
    assert cells[2] == "**0.912** ± 0.011 (raw 0.900)"
    assert cells[3] == "results/livec-quality-lite.json, median of 10 splits"


def test_readme_shows_medians_and_evaluation_every_split(tables, tmp_path, monkeypatch):
    splits = [{"seed": n, "srcc": 0.8 + n / 100, "plcc": 0.9 - n / 100} for n in range(3)]
    result = {"splits": splits, "median": {"srcc": 0.81, "plcc": 0.89}}
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.livec() == tables.livec_splits() == ""
    (tmp_path / "livec-quality-lite.json").write_text(json.dumps(result))
    assert tables.livec().splitlines()[2:] == ["| moslens quality-only, lite | 0.810 | 0.890 | 3 |"]
    lines = tables.livec_splits().splitlines()
    assert lines[0] == "| LIVEC | median | 0 | 1 | 2 |"
    assert lines[2] == "| moslens quality-only, lite, SRCC | **0.810** | 0.800 | 0.810 | 0.820 |"
    assert lines[3] == "| moslens quality-only, lite, PLCC | **0.890** | 0.900 | 0.890 | 0.880 |"


def test_statistics_are_shown_as_shares(tables, tmp_path, monkeypatch):
    record = {
        "protocol": "600 simulated sets",
        "coverage": {"232 pictures": {"srcc": 0.951, "plcc": 0.94}},
        "size": {"one model each": {"paired bootstrap": 0.048, "sign test": 0.15}},
    }
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.significance() == ""
    (tmp_path / "statistics.json").write_text(json.dumps(record))
    lines = tables.significance().splitlines()
    assert lines[2] == "| 232 pictures | 95.1% | 94.0% |"
    assert lines[4] == "| equally good models | paired bootstrap | sign test |"
    assert lines[6] == "| one model each | 4.8% | 15.0% |"
    assert lines[-1] == "600 simulated sets; `results/statistics.json`."


def test_classical_metrics_stand_beside_ours(tables, tmp_path, monkeypatch):
    whole = {"srcc": 0.3111, "plcc": 0.32, "srcc_interval": [0.25, 0.372], "plcc_interval": [0.26, 0.38]}
    record = {
        "model": "m@1",
        "datasets": {"flive_voc": {"pictures": 700}},
        "livec": {
            "NIQE": {"splits": [{}] * 10, "median": {"srcc": 0.4512, "plcc": 0.5}},
            "moslens, quality only": {"splits": [{}] * 10, "median": {"srcc": 0.866, "plcc": 0.893}},
        },
        "flive_voc": {"NIQE": whole, "moslens, shipped model": whole | {"srcc": 0.4}},
        "failed": {"NIQE": {"flive_voc/a.jpg": "too small"}, "PIQE": {}},
        "classical_versions": {"scikit-video": "1.1.11", "brisque": "0.2.0", "pypiqe": "1.2", "numpy": "2"},
    }
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.classical() == ""
    (tmp_path / "classical.json").write_text(json.dumps(record))
    lines = tables.classical().splitlines()
    assert lines[0] == "| | LIVEC, SRCC | LIVEC, PLCC | 700 FLIVE photos, SRCC | 700 FLIVE photos, PLCC |"
    assert lines[2] == "| NIQE | 0.451 | 0.500 | 0.311 (0.250 to 0.372) | 0.320 (0.260 to 0.380) |"
    assert lines[3] == "| moslens, quality only | 0.866 | 0.893 | – | – |"
    assert lines[4] == "| moslens, shipped model | – | – | 0.400 (0.250 to 0.372) | 0.320 (0.260 to 0.380) |"
    assert "median of 10 test parts." in lines[6]
    assert lines[6].endswith(
        "m@1. Pictures that a metric could not score: NIQE 1, PIQE 0."
        " scikit-video 1.1.11, brisque 0.2.0, pypiqe 1.2; `results/classical.json`."
    )


def test_severity_rows_say_what_fails(tables, tmp_path, monkeypatch):
    row = {"group": "blur", "monotone": True, "top_below_clean": 0.5, "mean_score": [70, 60, 61, 50, 40, 30.04]}
    record = {
        "kinds": {"lens_blur": row | {"every_level_lowers_the_mean": False}},
        "frames": {"black": 12.0},
        "livec_lowest_decile": 25.0,
        "model": "m@1",
        "photos": ["a", "b"],
    }
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    (tmp_path / "severity.json").write_text(json.dumps(record))
    text = tables.severity()
    assert "| lens_blur | blur | 70.0 | 60.0 | 61.0 | 50.0 | 40.0 | 30.0 | **no** | 50% |" in text
    assert "black 12.0; the lowest tenth of LIVEC's opinion scores ends at 25.0. Model m@1, 2 clean photos." in text


def test_the_desk_test_says_what_is_missed_and_where(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables.cost_tables, "RESULTS", tmp_path)
    assert tables.desk_table.desk() == ""

    def claim(found, wanted, met, **more):
        return {"found": found, "wanted": wanted, "at_most": False, "met": met} | more

    fault = {
        "program": "ffmpeg", "groups": ["blur", "noise"], "levels": {"5": {"mean_score": 12.34}},
        "below_clean": 1.0, "lower_by_points": 0.905, "falls": None, "first_right": 0.25,
    }  # fmt: skip
    share = {"named_right": 0.5, "lower_by_points": 1.0}
    record = {
        "model": "m@1",
        "claims": dict.fromkeys(tables.desk_table.CLAIMS, claim(0.5, 0.9, False, worst="warm_cast", worst_found=0.1))
        | {
            "dead": claim(21.04, 20, False, worst="noise") | {"at_most": True},
            "falls": claim(0.5, 1.0, False, worst=["warm_cast", "jpeg"]),
            "clean_named": claim(0.05, 0.1, True) | {"at_most": True},
        },
        "clean": {"mean_score": 74.31, "photos": 12},
        "faults": {"motion_blur": fault, "jpeg": fault | {"falls": False}},
        "harmless": {"white_frame": {"within": 0.75, "median_move": -3.21, "largest_move": 12.0}},
        "detail": {
            "photos": {"2 K": 4, "12 megapixels": 2},
            "faults": {"shake": share},
            "by_size": {"2 K": {"shake": share}, "12 megapixels": {"shake": share}},
        },
        "left_out": {"avif": "imagemagick: ended with code 1"},
        "config": {
            "programs": {"imagemagick": "Version: ImageMagick 6.9.11-60 Q16", "ffmpeg": "ffmpeg version 5.1.9 C"}
        },
        "versions": {"scikit-image": "0.26.0"},
    }
    (tmp_path / "desk.json").write_text(json.dumps(record))
    lines = tables.desk_table.desk().splitlines()
    assert lines[2] == "| below its clean twin, levels 2 to 5 | at least 90% | 50% | warm cast 10% | **no** |"
    assert (
        "| monotone faults whose mean falls at every level | at least 100% | 50% | warm cast, jpeg | **no** |" in lines
    )
    assert "| highest score of a dead frame | at most 20.0 | 21.0 | noise | **no** |" in lines
    assert "| clean photos with a name | at most 10% | 5% | – | yes |" in lines
    head, blur, jpeg = (line for line in lines if line.startswith(("| fault | by", "| motion blur", "| jpeg")))
    assert "falls from 74.3" in head
    assert blur == "| motion blur | ffmpeg | blur, noise | – | – | – | – | 12.3 | 100% | 90% | not ordered | 25% |"
    assert "| **no** |" in jpeg
    assert "| white frame | 75% | -3.2 | +12.0 |" in lines
    assert "| shake | 50% | 100% | 50% | 100% |" in lines
    assert lines[-1] == (
        "Model m@1; 12 photos, at 100 % 4 of 2 K and 2 of 12 megapixels; imagemagick 6.9.11-60, ffmpeg 5.1.9,"
        " scikit-image 0.26.0. Left out, because a program cannot make it: avif. `results/desk.json`."
    )
    (tmp_path / "notes.json").write_text(
        json.dumps({"not_a_photo": {"test graphics": {"share": 0.876}, "test photos": {"share": 0.011}}})
    )
    (tmp_path / "detail-cost.json").write_text(json.dumps({"sizes": {"12 megapixels": {"extra_over_bound": 0.85}}}))
    lines = tables.desk_table.desk().splitlines()
    assert any("| 88%, 1.1% | – | **no** |" in line for line in lines)
    assert any("| at most 115% | 85% | – | yes |" in line for line in lines)


def test_the_probe_shows_every_model_and_what_guessing_reaches(tables, tmp_path, monkeypatch):
    names = ("kind_accuracy", "group_accuracy", "pristine_recall", "level_error", "affinity_error", "affinity_srcc")
    median = {name: 0.5 + n / 100 for n, name in enumerate(names)}
    record = {
        "dataset": "composites of 9 held-out pristine photos",
        "config": {"composites": 600},
        "splits": [{"blocks": 4264}],
        "models": [{"model": "a", "median": median}, {"model": "b", "median": median | {"affinity_srcc": None}}],
        "chance": {"kind_accuracy": 0.0651, "group_accuracy": 0.154, "level_error": 1.07, "affinity_error": 0.1},
    }
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.heterogeneity() == ""
    (tmp_path / "heterogeneity-lite.json").write_text(json.dumps(record))
    lines = tables.heterogeneity().splitlines()
    assert lines[2] == "| `a` | 0.500 | 0.510 | 0.520 | 0.530 | 0.540 | 0.550 |"
    assert lines[3].endswith("| 0.540 | – |")
    assert lines[4] == "| best constant answer | 0.065 | 0.154 | – | 1.070 | 0.100 | – |"
    assert lines[6].startswith("600 composites of 9 held-out pristine photos, 4,264 degraded blocks;")


def test_published_rows_have_a_source_and_ascend(tables):
    text = tables.published()
    known = set(re.findall(r"(S\d+) ", text.splitlines()[-1]))
    figures = []
    for line in text.splitlines()[2:]:
        if line.startswith("|") and "moslens" not in line:
            _, srcc, plcc, source = (cell.strip() for cell in line.strip("|").split("|"))
            assert set(source.split(", ")) <= known
            assert 0.7 < float(plcc) < 1
            if srcc != "–":
                figures.append(float(srcc))
    assert len(figures) == 17
    assert figures == sorted(figures)


def test_a_document_without_its_place_is_refused(tables):
    with pytest.raises(ValueError, match="no single place for table published"):
        tables.fill("nothing", {"published": tables.published})


def test_what_maps_do_is_told_claim_by_claim(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.explain() == ""
    figures = {
        "auc": 0.91, "auc_of_fault_probability": 0.95, "kind_top1": 0.6, "kind_top3": 0.8, "group": 0.7,
        "named": 0.5, "named_right": 0.4, "level_spearman": None,
    }  # fmt: skip
    record = {
        "model": "m@1",
        "dataset": {"photos": 80},
        "claims": {
            "auc": {"found": 0.91, "wanted": 0.9, "met": True},
            "clean_photos_named": {"found": 0.2, "wanted": 0.1, "met": False},
        },
        "one": {"all": figures, "by_kind": {"white_noise": figures}},
        "two": figures,
        "four": figures,
        "other_programs": {"all": figures, "by_name": {}},
        "mirror": {"block_score_difference": {"median": 0.5, "p95": 1.25, "max": 3}},
    }
    (tmp_path / "explain.json").write_text(json.dumps(record))
    text = tables.explain()
    assert "planted against clean blocks | at least 0.9 | 0.91 | yes |" in text
    assert "| clean photos that get a name | at most 0.1 | 0.2 | **no** |" in text
    assert "| one: white noise | 0.91 | 0.95 | 0.60 | 0.80 | 0.70 | 0.50 | 0.40 | – |" in text


def test_benchmarks_are_shown_as_their_files_say(tables, tmp_path, monkeypatch):
    machine = {"machine": {"cores": 2, "processor": "some processor"}}
    records = {
        "benchmarks": {"ratios": {"peers": {"MUSIQ": 12.345}}, "targets_met": {"peers": {"10 x MUSIQ": False}}},
        "cluster": {
            "rows": 5000, "errors": 50, "lost": 0, "doubled": 0, "furthest": 0.0, "time_to_plain": 1.5, "model": "a@b",
            "killed": {"parts_at_worker": 2, "rows_at_driver": 2000, "rows_of_resumed_run": 3000},
        },
        "scale": {"growth_exponent": 1.0, "rows": [{"pictures": 10_000, "cpu_ms_a_picture": 55.2, "peak_mb": 301.7}]},
        "decision-scale": {
            "rows": [
                {"photos": 10_000, "command": "rate", "cost_to_score": 1.08, "memory_to_score": 1.114},
                {"photos": 10_000, "command": "rate, repeated", "cost_to_score": 0.012, "memory_to_score": 0.87},
            ],
        },
        "training-profile": {
            "by_threads": {
                "1": {
                    "shares": {"draw d": 0.0012, "forward": 0.4}, "cores_used": 0.98,
                    "streams_alone": {"q": {"pictures": 16, "to_q": 1.0}, "d": {"pictures": 4, "to_q": 0.27}},
                }
            },
            "operators": {"aten::convolution": 0.51},
            "kept": {"frozen": ["conv_dw", "conv_stem"], "to_all": 0.61},
            "depthwise_backward": {"with_ms": 29.3, "without_ms": 2.0},
            "freed_memory": {
                "kept": {"page_faults": 12}, "given_back": {"page_faults": 116_129}, "kept_to_given_back": 0.9,
            },
            "once_an_entry": {"composite_ms": 15.4},
        },
    }  # fmt: skip
    cost = tables.cost_tables
    monkeypatch.setattr(cost, "RESULTS", tmp_path)
    files = {"training": "training-profile", "decisions": "decision-scale"}
    makers = {files.get(name, name): make for name, make in cost.TABLES.items()}
    shown = {
        "benchmarks": ["| `peers.py` | MUSIQ | 12.35 |", "| `peers.py` | 10 x MUSIQ | **no** |"],
        "cluster": ["| 5,000 | 50 | 0 | 0 | 0 | 1.50 |"],
        "scale": ["| 10,000 | 55.2 | 302 |"],
        "decision-scale": ["| 10,000 | `rate` | 1.08 | 1.11 |", "| 10,000 | `rate`, repeated | 0.01 | 0.87 |"],
        "training-profile": ["| draw d | 0.1% |", "| cores used | 98% |"],
    }
    for name, make in makers.items():
        assert make() == "", "nothing was measured"
        (tmp_path / f"{name}.json").write_text(json.dumps(records[name] | machine))
        assert set(shown[name]) <= set(make().splitlines())
        assert "2 cores of some processor" in make()


def test_what_pick_finds_is_told_with_and_without_times(tables, tmp_path, monkeypatch):
    cost = tables.cost_tables
    monkeypatch.setattr(cost, "RESULTS", tmp_path)
    assert cost.pick() == ""
    found = {
        "pictures": 740,
        "planted_pairs": 600,
        "found_pairs": 570,
        "recall": 0.95,
        "false_pairs": 3,
        "precision": 0.995,
    }
    record = {
        "machine": {"cores": 2, "processor": "some processor"}, "photos": 200, "without_time": found,
        "with_time": found | {"recall": 0.99}, "grouping": {"pictures": 10_000, "processor_seconds": 4.21},
    }  # fmt: skip
    (tmp_path / "pick.json").write_text(json.dumps(record))
    text = cost.pick()
    assert "| likeness alone | 740 | 600 | 570 | 0.950 | 3 | 0.995 |" in text
    assert "| with times and cameras | 740 | 600 | 570 | 0.990 | 3 | 0.995 |" in text
    assert "10,000 pictures take 4.2 s of one core" in text


def test_the_paired_table_has_every_split_and_the_tests(tables, tmp_path, monkeypatch):
    quality = {
        "seeds": [0, 3],
        "first_srcc": [0.85, 0.84],
        "second_srcc": [0.86, 0.838],
        "sign": {"wins": 1, "losses": 1, "p": 1.0},
        "t": {"p": 0.6},
        "bootstrap": {"difference": 0.004, "low": -0.001, "high": 0.009, "p": 0.12},
    }
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.paired() == ""
    (tmp_path / "livec-paired.json").write_text(json.dumps({"quality": quality}))
    lines = tables.paired().splitlines()
    assert lines[0] == "| split | 0 | 3 |"
    assert lines[4] == "| difference | +0.010 | -0.002 |"
    assert "-0.0010 to +0.0090" in lines[-1]
    assert "ahead on 1 splits, behind on 1" in lines[-1]


def test_the_ablation_shows_every_row_with_its_spread(tables, tmp_path, monkeypatch):
    figures = {"median": {"srcc": 0.86, "plcc": 0.88}, "std": {"srcc": 0.01, "plcc": 0.02}}
    rows = [
        {"name": "all", "title": "everything", "splits": [{"seed": 0, "srcc": 0.87}, {"seed": 2, "srcc": 0.85}]},
        {"name": "less", "title": "less", "splits": [{"seed": 0, "srcc": 0.86}]},
        {"name": "none", "title": "not run", "splits": []},
    ]
    gaps = [{"0": 0.0, "2": 0.0}, {"0": -0.01}, {}]
    rows = [row | figures | {"srcc_against_main": gap} for row, gap in zip(rows, gaps, strict=True)]
    monkeypatch.setattr(tables.cost_tables, "RESULTS", tmp_path)
    assert tables.recipe_tables.ablation() == ""
    record = {"model": "all", "rows": rows, "splits": rows[0]["splits"]}
    (tmp_path / "ablation-livec-lite.json").write_text(json.dumps(record))
    lines = tables.recipe_tables.ablation().splitlines()
    assert lines[2] == "| everything | 0.860 ± 0.010 | 0.880 ± 0.020 | 0.870 | 0.850 | – | – |"
    assert lines[3] == "| less | 0.860 ± 0.010 | 0.880 ± 0.020 | 0.860 | – | -0.010 | -0.010, ahead on 0 of 1 |"
    assert lines[4] == "| not run | – | – | – | – | – | – |"


def test_fewer_labels_show_both_sides_and_their_gap(tables, tmp_path, monkeypatch):
    splits = {"quality": [0.8, 0.76], "shdiqa": [0.82, 0.75]}
    rows = [
        {"model": side, "fraction": 0.2, "splits": [{"seed": n, "srcc": value} for n, value in enumerate(values)]}
        for side, values in splits.items()
    ]
    gain = [{"fraction": 0.2, "srcc": {"0": 0.02, "1": -0.01}, "mean": 0.005}]
    monkeypatch.setattr(tables.cost_tables, "RESULTS", tmp_path)
    assert tables.recipe_tables.efficiency() == ""
    record = {"rows": rows, "gain": gain, "splits": rows[0]["splits"]}
    (tmp_path / "data-efficiency-livec-lite.json").write_text(json.dumps(record))
    lines = tables.recipe_tables.efficiency().splitlines()
    assert lines[2] == "| 20% | 0.800 0.760 | 0.820 0.750 | +0.020 -0.010 | +0.005 |"
    assert lines[-1].startswith("Splits 0, 1 in this order")


def test_preservation_shows_every_split(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables.cost_tables, "RESULTS", tmp_path)
    assert tables.recipe_tables.preservation() == ""
    rows = {"ImageNet": {"mean": 0.75, "median": 0.74, "splits": [0.7, 0.8]}}
    (tmp_path / "preservation.json").write_text(json.dumps({"rows": rows}))
    lines = tables.recipe_tables.preservation().splitlines()
    assert lines[0] == "| features of | mean SRCC | median | split 0 | split 1 |"
    assert lines[2] == "| ImageNet | 0.750 | 0.740 | 0.700 | 0.800 |"


def test_residuals_say_what_the_teacher_adds(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tables.cost_tables, "RESULTS", tmp_path)
    assert tables.recipe_tables.residuals() == ""
    mean = {"scores_srcc": 0.52461, "residual_r2": 0.0076, "srcc": 0.85481, "srcc_corrected": 0.85503}
    (tmp_path / "residuals.json").write_text(json.dumps({"mean": mean}))
    lines = tables.recipe_tables.residuals().splitlines()
    assert lines[2].endswith("| 0.525 |")
    assert lines[3].endswith("| 0.8% |")
    assert lines[5].endswith("| 0.8550 |")


def test_an_aim_is_met_or_missed_by_its_record(tables, tmp_path, monkeypatch):
    aims = tmp_path / "aims.toml"
    aims.write_text(
        """
        [[group]]
        title = "speed"
        rows = [
            { aim = "fast", wanted = 0.9, percent = true, record = "r", found = ["runs", "*", "share"] },
            { aim = "small", wanted = 10, at_most = true, record = "r", found = ["runs", 1, "size"] },
        ]
        """
    )
    record = {"runs": [{"share": 0.8, "size": 30}, {"share": 0.9, "size": 10}]}
    (tmp_path / "r.json").write_text(json.dumps(record))
    monkeypatch.setattr(tables.aims_table, "AIMS", aims)
    monkeypatch.setattr(tables.cost_tables, "RESULTS", tmp_path)
    assert tables.aims_table.aims().splitlines()[2:] == [
        "| **speed** | | | | |",
        "| fast | at least 90% | 85% | **no** | `r` |",
        "| small | at most 10 | 10 | yes | `r` |",
    ]
