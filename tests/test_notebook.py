"""The notebook: it only uses the package, and runs from top to bottom."""

import ast
import base64
import importlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_keras.runs.log import read_log

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "ddpm_flowers.ipynb"


@pytest.fixture(scope="module")
def cells():
    """The source of each code cell, without IPython's own commands."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = ["".join(cell["source"]).splitlines() for cell in code]
    return [
        "\n".join(line.replace("%pip", "pass  # %pip") for line in cell)
        for cell in lines
    ]


def test_outputs_are_not_committed():
    """They would go stale, and each run would change the file."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")


def test_notebook_defines_nothing(cells):
    defined = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
    for cell in cells:
        assert not [n for n in ast.walk(ast.parse(cell)) if isinstance(n, defined)]


def test_its_imports_from_the_package_exist(cells):
    imported = [
        (node.module, name.name)
        for cell in cells
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("ddpm_keras")
        for name in node.names
    ]
    assert len(imported) > 10
    for module, name in imported:
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("DDPM_QUICK", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook shows its figures
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=600,  # per cell; all together take less than 300 s on two idle cores
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()

    # The number of pictures of each cell that shows any.
    shown = [pictures(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert [len(images) for images in shown if images] == [1, 1, 1, 3, 1, 1, 1, 1]
    for image in sum(shown, []):
        assert np.asarray(image.convert("L")).std() > 10  # neither blank nor one colour
    film = shown[-2][0]
    assert film.format == "GIF" and film.n_frames == 50

    [run] = (tmp_path / "runs" / "notebook").iterdir()
    assert {path.name for path in (run / "samples").iterdir()} == {
        f"epoch-000{epoch}.png" for epoch in (2, 4, 6)
    }
    assert (run / "weights.safetensors").is_file()
    assert (run / "report.html").is_file()
    loss = read_log(run / "log.csv")[1]["loss"]
    assert len(loss) == 6 and loss[-1] < 0.15 < loss[0]  # 1: nothing learnt


def pictures(cell):
    """The images among a cell's outputs."""
    return [
        Image.open(io.BytesIO(base64.b64decode(content)))
        for output in cell.outputs
        for kind, content in output.get("data", {}).items()
        if kind in ("image/png", "image/gif")
    ]
