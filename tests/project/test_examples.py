"""The notebook in ``examples`` runs from its first cell to its last, and is committed without outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.paths import ROOT

nbformat = pytest.importorskip("nbformat", reason="needs nbclient: pip install '.[dev]'")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install '.[dev]'")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install '.[dev]'")
pytest.importorskip("pandas", reason="needs the frames extra")

NOTEBOOK = ROOT / "examples" / "photos.ipynb"


@pytest.mark.filterwarnings("ignore")  # of the packages that run it
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    nbclient.NotebookClient(
        book, timeout=90, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    ).execute()
    shown = [output.get("data", {}) for cell in code for output in cell.outputs]
    assert [sorted(data) for data in shown] == [
        ["text/plain"], ["text/html", "text/plain"], ["text/html", "text/plain"], ["text/html", "text/plain"],
        ["text/plain"],
    ]  # fmt: skip
    assert "90 % interval" in shown[1]["text/html"]
    assert "not_an_image" in shown[2]["text/html"]
    assert "data:image/png;base64" in shown[3]["text/html"]
