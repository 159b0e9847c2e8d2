"""Links to MLflow's pages: of the server or port in use, without a login, to the view for training."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest
from a2v_experiments.store import links


def test_a_server_is_where_its_uri_says_without_its_login(tmp_path: Path):
    assert links.ui_address(tmp_path, "https://me:secret@mlflow.example.org:8443/lab/") == (
        "https://mlflow.example.org:8443/lab", None,
    )  # fmt: skip


def test_a_sqlite_store_is_shown_where_its_ui_listens_now(tmp_path: Path):
    address, first = links.ui_address(tmp_path, None)
    assert address == "http://127.0.0.1:5000" and first is not None and first.endswith(f"ui --work {tmp_path}")
    links.note_ui(tmp_path, None, "http://127.0.0.1:5117")
    assert links.ui_address(tmp_path, None) == ("http://127.0.0.1:5117", None)
    assert links.ui_address(Path("elsewhere"), f"sqlite:///{tmp_path}/mlflow.db") == ("http://127.0.0.1:5117", None)


@pytest.mark.parametrize("change", [{"pid": 2**22 + 1}, {"started": 0.0}, {"address": None}])
def test_a_ui_that_is_no_more_is_not_named(tmp_path: Path, change: dict[str, object]):
    said = {"address": "http://127.0.0.1:5117", "pid": os.getpid(), "started": psutil.Process().create_time(), **change}
    (tmp_path / ".a2v-ui.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    assert links.ui_address(tmp_path, None)[0] == "http://127.0.0.1:5000"


def test_links_ask_for_the_view_of_training():
    assert (
        links.run_link("http://h:1", "7", "abc") == "http://h:1/#/experiments/7/runs/abc?workflowType=machine_learning"
    )
    table = links.experiment_link("http://h:1", "7", links.below("abc", "trial"))
    assert table == (
        "http://h:1/#/experiments/7/runs?workflowType=machine_learning&searchFilter="
        "tags.%60mlflow.parentRunId%60%20%3D%20%27abc%27%20and%20tags.%60a2v.stage%60%20%3D%20%27trial%27"
    )
