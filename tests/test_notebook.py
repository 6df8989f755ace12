"""The notebook: it only uses the package, and runs from top to bottom."""

import ast
import base64
import importlib
import io
import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_keras.runs.log import read_log

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "ddpm_flowers.ipynb"
# The number of pictures that each code cell shows.
PICTURES = [0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 0, 5, 1, 1, 1]


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cells(notebook):
    """The source of each code cell, without IPython's own commands."""
    return [
        re.sub(r"^( *)[%!].*", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)
        for cell in code_cells(notebook)
    ]


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_installs_from_the_clone_and_no_package_of_that_name(notebook):
    cells = ["".join(cell["source"]) for cell in code_cells(notebook)]
    [installs] = re.findall(r"%pip install .*", "\n".join(cells))
    assert "./{root}" in installs  # pip takes a bare word for a name on PyPI


def test_outputs_of_one_run_are_stored(notebook):
    cells = code_cells(notebook)
    numbers = [cell["execution_count"] for cell in cells]
    assert numbers == list(range(1, len(cells) + 1))
    assert [len(pictures(cell)) for cell in cells] == PICTURES
    assert NOTEBOOK.stat().st_size < 2e6


def test_stored_outputs_tell_nothing_of_the_machine(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"  # where warnings go
            text = "".join(
                output.get("text", output.get("data", {}).get("text/plain", ""))
            )
            assert not re.search(r"(?i)warning|(^|[\s'\"(])/\w|\w:\\\\", text)
            assert socket.gethostname() not in text.split()


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
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook shows its figures
    (tmp_path / "weights").symlink_to(NOTEBOOK.parents[1] / "weights")
    place = tmp_path / "notebooks"
    place.mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=900,  # per cell; all together take about 300 s on two idle cores
        kernel_name="python3",
        resources={"metadata": {"path": str(place)}},
    ).execute()

    shown = [pictures(cell) for cell in code_cells(notebook)]
    assert [len(images) for images in shown] == PICTURES
    for image in sum(shown, []):
        assert np.asarray(image.convert("L")).std() > 10  # neither blank nor one colour
    film = shown[-1][0]
    assert film.format == "GIF" and film.n_frames == 12

    [run] = (place / "runs" / "notebook").iterdir()
    assert {path.name for path in (run / "samples").iterdir()} == {
        f"epoch-{epoch:04d}.png" for epoch in (3, 6, 9, 12, 15)
    }
    assert (run / "weights.safetensors").is_file()
    assert (run / "report.html").is_file()
    loss = read_log(run / "log.csv")[1]["loss"]
    assert len(loss) == 15 and loss[-1] < 0.08 < loss[0]


def pictures(cell):
    """The images among a cell's outputs."""
    return [
        Image.open(io.BytesIO(base64.b64decode("".join(content))))
        for output in cell["outputs"]
        for kind, content in output.get("data", {}).items()
        if kind in ("image/png", "image/jpeg", "image/gif")
    ]
