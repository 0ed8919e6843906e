"""Nothing comes in by the back door: no pickle, no network, known parts, a wheel that anyone can build again."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import moslens
from helpers.paths import ROOT
from moslens.errors import ModelError
from moslens.scoring.card import Card, shipped

SOURCES = sorted((ROOT / "src").rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
NETWORK_MODULES = {
    "urllib.request",
    "requests",
    "httpx",
    "http.client",
    "ftplib",
    "smtplib",
    "aiohttp",
    "huggingface_hub",
}
SERVER = "serve"  # takes connections, never makes them
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg or "" for keyword in node.keywords}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_source_unpickles_evaluates_or_calls_out(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    names = set(imported(tree))
    assert not names & UNSAFE_MODULES
    if SERVER not in path.parts:
        assert not names & NETWORK_MODULES
    for function, keywords in called(tree):
        assert function not in {"eval", "exec", "os.system", "os.popen", "__import__", "yaml.load"}, function
        assert function not in {"torch.load", "torch.jit.load"} or "weights_only" in keywords, function
        assert function not in {"np.load", "numpy.load"} or "allow_pickle" not in keywords, function
        assert "shell" not in keywords, function
        assert function not in {"torch.hub.load", "load_state_dict_from_url", "hf_hub_download"}, function


def test_the_scan_sees_what_it_looks_for() -> None:
    tree = ast.parse("import pickle\nfrom urllib import request\ntorch.load(p)\nrun(x, shell=True)\n")
    assert {"pickle", "urllib.request"} <= set(imported(tree))
    assert dict(called(tree)) == {"torch.load": set(), "run": {"shell"}}


@pytest.mark.parametrize(
    "words",
    [("score", "examples/photos"), ("doctor",), ("models",), ("datasets",), ("distortions",),
     ("degrade", "examples/photos/livec_571.jpg", "--output", "OUT")],
    ids=lambda words: words[0],
)  # fmt: skip
def test_no_command_opens_a_connection(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    search = [str(tmp_path), str(ROOT / "src")]
    done = subprocess.run(
        [sys.executable, "-m", "moslens", *(str(tmp_path / "out") if word == "OUT" else word for word in words)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(search)},
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "connection" not in done.stderr
    blocked = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "a connection was tried" in blocked.stderr, "the block itself does not hold"


def test_the_runtime_neither_marks_its_user_nor_reports(tmp_path: Path) -> None:
    """onnxruntime 1.32 puts an identifier and what it will send into the cache folder as soon as it is imported."""
    code = f"import moslens; moslens.Scorer().score({str(ROOT / 'examples/photos/livec_571.jpg')!r})"
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    inherited = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env=inherited | places, cwd=ROOT, check=True, timeout=120)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_weights_are_those_of_their_card_and_altered_ones_give_no_score(tmp_path: Path) -> None:
    for name, folder in shipped().items():
        card = Card.read(folder)
        assert hashlib.sha256((folder / card.file).read_bytes()).hexdigest() == card.sha256
        assert card.id == f"{name}@{card.sha256[:12]}"
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        data = bytearray((copy / card.file).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / card.file).write_bytes(data)
        with pytest.raises(ModelError, match="altered weights: SHA-256 is") as refused:
            moslens.Scorer(copy)
        assert refused.value.path == str(copy / card.file)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen of OpenSSH 8.0 or newer")
def test_a_card_can_be_signed_and_an_altered_one_is_found_out(tmp_path: Path) -> None:
    """The commands of docs/reliability.md, with a key made for this test."""
    source = next(iter(shipped().values()))
    folder = shutil.copytree(source, tmp_path / "my-model")
    card, key = folder / "card.json", tmp_path / "KEY"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "allowed_signers").write_text(f"you@example.org {key.with_suffix('.pub').read_text()}")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "moslens", "-f", str(key), str(card)], check=True)
    verify = ["ssh-keygen", "-Y", "verify", "-n", "moslens", "-f", str(tmp_path / "allowed_signers")]
    verify += ["-I", "you@example.org", "-s", f"{card}.sig"]
    assert subprocess.run(verify, input=card.read_bytes(), check=False, capture_output=True).returncode == 0
    assert moslens.Scorer(folder).model_id == Card.read(source).id
    altered = card.read_bytes().replace(Card.read(source).sha256.encode(), b"0" * 64)
    assert altered != card.read_bytes()
    assert subprocess.run(verify, input=altered, check=False, capture_output=True).returncode != 0


def test_the_bill_of_materials_names_every_part() -> None:
    pytest.importorskip("cyclonedx_py", reason="needs the [dev] extra")
    command = [sys.executable, "-m", "tools.docs.make_sbom"]
    search = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    done, again = (
        subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True, check=False
        )
        for _ in range(2)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == again.stdout
    bill = json.loads(done.stdout)
    assert (bill["metadata"]["component"]["name"], bill["metadata"]["component"]["version"]) == (
        "moslens",
        moslens.__version__,
    )
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    names = {part["name"] for part in bill["components"]}
    assert {"numpy", "pillow", "onnxruntime", "typer", "rich"} <= names
    assert not {"torch", "timm", "fastapi"} & names
    models = [part for part in bill["components"] if part["type"] == "machine-learning-model"]
    assert {model["name"] for model in models} == set(shipped())
    for model in models:
        assert model["hashes"] == [{"alg": "SHA-256", "content": Card.read(shipped()[model["name"]]).sha256}]
    known = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    for entry in bill["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= known


@pytest.mark.slow
def test_two_builds_of_the_wheel_are_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        for name in ("src", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, tree / name)
        for path in tree.rglob("*"):
            os.utime(path, (1e9 + number * 1e7, 1e9 + number * 1e7))
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / f"out{number}")],
            cwd=tree, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (wheel,) = (tmp_path / f"out{number}").glob("*.whl")
        digests.append((wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()))
    assert digests[0] == digests[1]
