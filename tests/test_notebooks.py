"""The notebooks: each is one text in two files, holds no outputs, and runs from its first cell to its last."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupytext.compare import NotebookDifference, compare_cells
from nbclient import NotebookClient

import neurolens

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 600  # for a cell: a machine may have more to do
SYNC = "run 'jupytext --sync notebooks/*.py', from the file that is right"
OTHERS = {"numpy", "pandas", "IPython"}  # what notebooks import beside the package

each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_every_notebook_is_a_pair() -> None:
    assert len(NOTEBOOKS) == 6
    assert [path.with_suffix(".py") for path in NOTEBOOKS] == sorted((ROOT / "notebooks").glob("*.py"))
    page = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in page for path in NOTEBOOKS)


def differ(notebook: Path, script: Path) -> bool:
    """Whether the cells of a pair say different things, as jupytext compares them."""
    try:
        cells = [jupytext.read(path).cells for path in (script, notebook)]
        compare_cells(*cells, compare_outputs=False, compare_ids=False, allow_filtered_cell_metadata=True)
    except NotebookDifference:
        return True
    return False


@each
def test_pairs_are_in_sync(notebook: Path, tmp_path: Path) -> None:
    script = notebook.with_suffix(".py")
    assert not differ(notebook, script), SYNC
    assert script.read_text(encoding="utf-8").startswith("# %% [markdown]\n# # ")
    text, changed = script.read_text(encoding="utf-8"), tmp_path / script.name
    for old, new in (("# # ", "# # not "), ("nl.open", "nl.reopen")):
        changed.write_text(text.replace(old, new, 1), encoding="utf-8")
        assert differ(notebook, changed)


@each
def test_notebooks_hold_no_outputs(notebook: Path) -> None:
    found = json.loads(notebook.read_text(encoding="utf-8"))
    assert found["metadata"]["kernelspec"]["name"] == "python3"
    for cell in found["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None, f"clear the outputs of {notebook.name}"


@each
def test_notebooks_call_the_package_only(notebook: Path) -> None:
    """No function or class of their own, and nothing else imported than what shows a result."""
    nodes = list(ast.walk(ast.parse(notebook.with_suffix(".py").read_text(encoding="utf-8"))))
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= {"neurolens", *OTHERS, *sys.stdlib_module_names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks, beside the checkpoints that they name: what one of them makes, the next one opens."""
    root = tmp_path_factory.mktemp("clone")
    (root / "checkpoints").symlink_to(ROOT / "checkpoints")
    (root / "notebooks").mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, root / "notebooks")
    return root / "notebooks"


@each
def test_notebooks_run(notebook: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this interpreter as kernel, whatever kernels and settings the machine has."""
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "this Python", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    package = Path(neurolens.__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH")))))
    found = nbformat.read(folder / notebook.name, as_version=4)
    client = NotebookClient(found, timeout=SECONDS, resources={"metadata": {"path": str(folder)}})
    client.execute()
    codes = [cell for cell in found.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))
    assert any(cell.outputs for cell in codes)
