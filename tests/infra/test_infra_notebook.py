"""docs/notebook.ipynb runs as it stands, and so do the lines of docs/python.md.

`A2V_WRITE_NOTEBOOK=1` with this file's tests writes what the cells showed into docs/notebook.ipynb.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_output

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.mark.rehearsal
def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "\n".join(output["data"]["text/plain"] for output in shown if "data" in output)
    assert re.search(r"micro( +[01]\.\d+){4}", text)  # two folds of two seeds
    assert "std_seeds" in text and "onset_s" in text and "finetune fold 1 seed 1" in text
    assert any("image/png" in output.get("data", {}) for output in shown)
    if os.environ.get("A2V_WRITE_NOTEBOOK"):
        write(notebook, tmp_path)


def write(notebook: Any, folder: Path) -> None:
    """Keep what was shown, without places of this machine, bars, and times."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            told = "".join(output["text"] for output in cell.outputs if output.get("name") == "stdout")
            shown = [output for output in cell.outputs if output.output_type != "stream"]
            first = [new_output("stream", name="stdout", text=told.replace(f"{folder}/", ""))] if told else []
            cell.outputs = first + shown
    nbformat.write(notebook, NOTEBOOK)


def test_the_notebook_names_no_place_of_some_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:])/(?:work|home|root|tmp|mnt|opt)/\w", text)
    cells = json.loads(text)["cells"]
    assert any(cell.get("outputs") for cell in cells), "shown as it ran: see above"
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.get("outputs", []))
    assert len(text) < 200_000


@pytest.mark.slow
def test_the_lines_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first lines of Python on the page, with everything small."""
    import a2v

    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    lines = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
    load = a2v.Recipe.load

    def small(name: str, changes: dict[str, Any]) -> a2v.Recipe:
        return load(name, {**changes, "pretrain": None, "folds.run": [0]}, scale="tiny")

    monkeypatch.setattr(a2v.Recipe, "load", small)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("A2V_WORK", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    names: dict[str, Any] = {}
    exec(lines, names)
    experiment = names["experiment"]
    assert set(experiment.scores()["seed"]) == {0, 1} and "std_seeds" in experiment.summary()
    assert (tmp_path / "a2v-runs" / "mlflow.db").is_file()
