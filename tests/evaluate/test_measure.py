"""The protocol from predictions to figures, tables, report and command line; and that a kill costs nothing."""

import base64
import math
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from helpers.command import call
from moslens.data.sets import load_dataset
from moslens.data.split import make_split, split_hash
from moslens.evaluate import measure, record
from moslens.evaluate.predictors import TableSource, open_source
from moslens.evaluate.report import render


@pytest.fixture(scope="module")
def livec(tmp_path_factory, shared_data):
    """LIVEC and predictions of a known quality: MOS + normal noise of 10, bounds of 16.45 (90 % of that noise)."""
    dataset = load_dataset("livec", shared_data / "livec")
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("livec") / "noisy.csv"
    lines = ["image,prediction,low,high"]
    for sample in dataset.samples:
        value = sample.mos + rng.normal(0, 10)
        lines.append(f"{sample.name},{value:.6f},{value - 16.45:.6f},{value + 16.45:.6f}")
    path.write_text("\n".join(lines) + "\n")
    return dataset, path


@pytest.fixture(scope="module")
def measured(livec):
    dataset, path = livec
    return measure.evaluate(TableSource(path), dataset, [0, 1, 2], draws=200)


def column(path, name):
    import csv

    with path.open() as file:
        return {row["image"]: float(row[name]) for row in csv.DictReader(file)}


def test_figures_of_each_split_are_those_of_its_test_part(livec, measured):
    dataset, path = livec
    predicted = column(path, "prediction")
    assert [one.figures["seed"] for one in measured.splits] == [0, 1, 2]
    for one in measured.splits:
        split = make_split(dataset, one.figures["seed"])
        samples = [dataset.samples[i] for i in split.test]
        x, y = [predicted[s.name] for s in samples], [s.mos for s in samples]
        assert one.figures["srcc"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
        assert one.figures["krcc"] == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-9)
        assert one.figures["plcc_raw"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
        assert one.figures["plcc"] >= one.figures["plcc_raw"] - 1e-6
        assert one.figures["plcc_5"] >= one.figures["plcc_raw"] - 1e-6
        assert one.figures["n"] == len(split.test)
        assert one.figures["split_hash"] == split_hash(split, dataset)
        low, high = one.figures["srcc_interval"]
        assert low < one.figures["srcc"] < high
    assert measured.whole.figures["n"] == 1162


def test_planted_noise_comes_back_as_rmse_and_coverage(measured):
    assert measured.whole.figures["rmse"] == pytest.approx(9, abs=0.7)  # a fit shrinks towards the mean
    assert measured.coverage.n == 1162
    assert measured.coverage.share == pytest.approx(0.9, abs=0.02)
    assert measured.coverage.width == pytest.approx(32.9, abs=0.01)


def test_ranges_split_the_scores_and_the_worst_are_the_worst(livec, measured):
    dataset, _ = livec
    assert sum(row.n for row in measured.by_range) == 1162
    assert len(measured.by_range) == 5
    assert measured.by_kind == ()
    # Shrinking makes bad pictures look better and good ones worse.
    assert measured.by_range[0].bias > 0 > measured.by_range[-1].bias
    errors = np.abs(measured.whole.mapped - measured.whole.mos)
    expected = [dataset.samples[i].name for i in np.argsort(-errors)[:20]]
    assert [miss.sample.name for miss in measured.worst] == expected


def test_result_is_the_contracts(livec, measured, tmp_path):
    made = measure.to_result(measured, "toy", command="moslens evaluate")
    record.write_result(tmp_path / "toy.json", made)
    read = record.read_result(tmp_path / "toy.json")
    assert read["dataset"] == "livec"
    assert read["data_hash"] == livec[0].data_hash()
    assert read["median"]["srcc"] == pytest.approx(np.median([s["srcc"] for s in read["splits"]]), abs=1e-6)
    assert read["predictions"] == "given"
    assert read["whole"]["n"] == 1162
    assert read["warnings"]
    again = measure.to_result(measured, "toy", command="moslens evaluate")
    assert again == made


@pytest.fixture
def synthetic(tmp_path):
    """Sixty pictures: three kinds, five references, bounds on another scale than 0-100."""
    lines, predicted = ["image,mos,reference,kind"], ["image,prediction,low,high"]
    for i in range(60):
        name, mos = f"{i:02}.png", 1 + 4 * (i * 7 % 60) / 60
        Image.new("RGB", (40, 40), (4 * i, 0, 0)).save(tmp_path / name)
        lines.append(f"{name},{mos:.4f},r{i % 5},{('blur', 'noise', 'jpeg')[i % 3]}")
        # blur is followed, noise is read backwards, jpeg is constant.
        predicted.append(f"{name},{(mos, -mos, 2.0)[i % 3]:.4f},0,{50 if mos < 3 else 100}")
    (tmp_path / "set.csv").write_text("\n".join(lines))
    (tmp_path / "p.csv").write_text("\n".join(predicted))
    return tmp_path


def test_kinds_are_measured_apart(synthetic):
    dataset = load_dataset(str(synthetic / "set.csv"), mos_range=(1, 5))
    found = measure.evaluate(TableSource(synthetic / "p.csv"), dataset, [0], draws=20)
    rows = {row.label: row for row in found.by_kind}
    assert list(rows) == ["blur", "jpeg", "noise"]
    assert [row.n for row in rows.values()] == [20, 20, 20]
    assert rows["blur"].srcc == pytest.approx(1)
    assert rows["noise"].srcc == pytest.approx(-1)
    assert math.isnan(rows["jpeg"].srcc)
    # 0-50 holds scores below the middle of 1-5, 0-100 all others.
    assert found.coverage.share == 1.0
    tested = {dataset.samples[i].reference for i in found.splits[0].part.indices}
    assert len(tested) == 1
    assert len(found.splits[0].part.indices) == 12


def test_evaluating_with_a_store_gives_the_same(synthetic):
    dataset = load_dataset(str(synthetic / "set.csv"))
    runs = [
        measure.evaluate(TableSource(synthetic / "p.csv"), dataset, [0, 1], work=work, draws=20)
        for work in (None, synthetic / "work", synthetic / "work")
    ]
    for number, run in enumerate(runs):
        record.write_result(synthetic / f"{number}.json", measure.to_result(run, "x", command="") | {"seconds": 0})
    first, *others = ((synthetic / f"{number}.json").read_bytes() for number in range(3))
    assert others == [first, first]


class Links(HTMLParser):
    """Collects what a page refers to, its text and its images' alternative texts."""

    def __init__(self, page):
        super().__init__()
        self.sources, self.alternatives, self.tags, self.text = [], [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "poster"):
                self.sources.append(value)
            if name == "alt":
                self.alternatives.append(value)

    def handle_data(self, data):
        self.text += data


def test_the_report_needs_nothing_beside_it(measured):
    page = render(measured)
    links = Links(page)
    assert links.sources
    assert all(source.startswith("data:image/") for source in links.sources)
    assert "url(" not in page
    assert "@import" not in page
    assert not {"script", "link", "iframe"} & set(links.tags)
    assert len(links.alternatives) == len(links.sources)
    assert all(links.alternatives)
    jpegs = [source for source in links.sources if source.startswith("data:image/jpeg")]
    assert len(jpegs) == 20
    import io

    assert max(Image.open(io.BytesIO(base64.b64decode(jpegs[0].partition(",")[2]))).size) <= 200
    assert sum(source.startswith("data:image/svg") for source in links.sources) == 3
    assert "Median of 3 splits" in links.text
    assert "compare a range between models" in links.text
    figure = f"{np.median([one.figures['srcc'] for one in measured.splits]):.3f}"
    assert figure in links.text
    for miss in measured.worst:
        assert miss.sample.name in links.text


def test_the_report_escapes_names(tmp_path):
    name = "<u>&amp.png"
    for i, file in enumerate((name, "b.png", "c.png", "d.png", "e.png")):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / file)
    rows = [f"{name},1", "b.png,2", "c.png,3", "d.png,4", "e.png,9"]
    (tmp_path / "set.csv").write_text("\n".join(["image,mos", *rows]))
    (tmp_path / "<i>.csv").write_text("\n".join(["image,prediction", *rows]))
    dataset = load_dataset(str(tmp_path / "set.csv"))
    found = measure.evaluate(TableSource(tmp_path / "<i>.csv"), dataset, [0], draws=5)
    links = Links(render(found))
    assert not {"u", "i"} & set(links.tags)
    assert name in links.text
    assert "<i>.csv" in links.text


def test_predictions_without_spread_have_a_report(tmp_path):
    for i in range(12):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "set.csv").write_text("\n".join(["image,mos", *(f"{i}.png,{i}" for i in range(12))]))
    (tmp_path / "same.csv").write_text("\n".join(["image,prediction", *(f"{i}.png,50" for i in range(12))]))
    dataset = load_dataset(str(tmp_path / "set.csv"))
    found = measure.evaluate(TableSource(tmp_path / "same.csv"), dataset, [0, 1], draws=5)
    assert np.isnan(found.splits[0].figures["srcc"])
    result = measure.to_result(found, "same")
    page = render(found, result)
    assert page.count("data:image/svg") == 3
    assert "nan" not in Links(page).text
    record.write_result(tmp_path / "same.json", result)
    assert record.read_result(tmp_path / "same.json")["median"]["srcc"] is None


def run(arguments, capsys):
    return call(*arguments), *capsys.readouterr()


def test_the_command_writes_both_reports_and_a_table(synthetic, capsys, monkeypatch):
    monkeypatch.chdir(synthetic)
    code, out, err = run(
        ["evaluate", "p.csv", "--dataset", "set.csv", "--splits", "0,3-4", "--draws", "5", "--output", "r/toy.json"],
        capsys,
    )
    assert code == 0
    assert sorted(path.name for path in (synthetic / "r").iterdir()) == ["toy.html", "toy.json"]
    read = record.read_result(synthetic / "r" / "toy.json")
    assert read["name"] == "toy"
    assert [split["seed"] for split in read["splits"]] == [0, 3, 4]
    assert re.search(rf"median +{read['median']['srcc']:.4f} ", out)
    assert "not known whether these pictures were used in training" in err
    assert "wrote r/toy.json and r/toy.html" in err


def test_several_data_sets_are_shown_together(synthetic, capsys, monkeypatch):
    monkeypatch.chdir(synthetic)
    (synthetic / "other.csv").write_text((synthetic / "set.csv").read_text())
    arguments = ["evaluate", "p.csv", "--dataset", "set.csv", "--dataset", "other.csv", "--draws", "5", "--output", "x"]
    code, out, _ = run([*arguments, "--splits", "0"], capsys)
    assert code == 0
    read = record.read_result(synthetic / "x.json")
    assert [row["dataset"] for row in read["cross"]] == ["other"]
    assert read["cross"][0]["median"]["srcc"] == read["whole"]["srcc"]
    assert "other" in out
    assert "Over data sets" in (synthetic / "x.html").read_text()


def test_the_official_split_can_be_asked_for(synthetic, capsys, monkeypatch):
    monkeypatch.chdir(synthetic)
    rows = (synthetic / "set.csv").read_text().splitlines()
    parts = ["part", *(("train", "test")[i % 2] for i in range(60))]
    (synthetic / "own.csv").write_text("\n".join(f"{row},{part}" for row, part in zip(rows, parts, strict=True)))
    arguments = ["evaluate", "p.csv", "--splits", "official", "--draws", "5", "--dataset"]
    code, out, _ = run([*arguments, "own.csv"], capsys)
    assert code == 0
    assert re.search(r"^official +30 ", out, re.MULTILINE)
    code, _, err = run([*arguments, "set.csv"], capsys)
    assert code == 2
    assert "has no official split" in err


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--dataset", "nothing"], "no data set is called 'nothing'"),
        (["--dataset", "livec"], "--root"),
        (["--dataset", "set.csv", "--splits", "x"], "--splits wants seeds"),
        (["--dataset", "set.csv", "--splits", "1,1"], "one twice"),
        (["--dataset", "set.csv", "--mos-range", "5:1"], "--mos-range wants LOW:HIGH"),
        (["--dataset", "set.csv", "--mos-range", "2:5"], "column mos"),
        (["--dataset", "set.csv", "--root", ".", "--root", "."], "2 --root for 1 --dataset"),
        (["--dataset", "set.csv", "--output", "."], "is a folder"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(synthetic, capsys, monkeypatch, extra, words):
    monkeypatch.chdir(synthetic)
    code, out, err = run(["evaluate", "p.csv", *extra], capsys)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_evaluation_goes_on_and_ends_the_same(tmp_path, tiny_model):
    rng = np.random.default_rng(0)
    rows = ["image,mos"]
    for i in range(120):
        Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(tmp_path / f"{i:03}.png")
        rows.append(f"{i:03}.png,{rng.uniform(0, 100):.2f}")
    (tmp_path / "set.csv").write_text("\n".join(rows))

    def start():
        command = [sys.executable, "-m", "moslens", "evaluate", str(tiny_model), "--dataset", "set.csv", "--draws", "5"]
        return subprocess.Popen([*command, "--output", "toy"], cwd=tmp_path, stderr=subprocess.PIPE)

    kept = tmp_path / "toy.partial" / "0" / "predictions.jsonl"
    process = start()
    deadline = time.monotonic() + 120
    while (not kept.exists() or kept.read_bytes().count(b"\n") < 10) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = kept.read_bytes().count(b"\n")
    assert 10 <= done < 120
    assert not (tmp_path / "toy.json").exists()
    process = start()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"continuing with {done} predictions" in err.decode()
    assert not (tmp_path / "toy.partial").exists()
    dataset = load_dataset(str(tmp_path / "set.csv"))
    never_killed = measure.to_result(measure.evaluate(open_source(str(tiny_model)), dataset, draws=5), "toy")
    record.write_result(tmp_path / "whole.json", never_killed)
    killed, whole = (record.read_result(tmp_path / f"{name}.json") for name in ("toy", "whole"))
    for read in (killed, whole):
        for key in ("command", "seconds", "git"):
            del read[key]
    assert killed == whole
