"""The tracking store: found, reused and taken over as it should be; unusable, it says so in one line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.store import database, environment, tracking
from a2v_experiments.store.logged_models import MAX_PARAM_CHARACTERS
from a2v_experiments.store.names import allowed_name
from a2v_experiments.store.tracking import Store, flatten, open_store
from experiments_store import disown
from experiments_world import recipe_tree, write_recipe
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException

Work = Callable[[str], Path]


@pytest.fixture
def store(new_work: Work) -> Store:
    return open_store(new_work("work"), None, "birds")


def begin(store: Store, mark: str = "f", stage: str = "folds", parent: str | None = None) -> str:
    return store.begin(stage, mark, "a name", {"a": {"b": 1}, "c": [1, 2]}, {"variant": "v"}, parent)


def read_json(store: Store, run: Run, name: str) -> Any:
    return json.loads(Path(store.fetch(run.info.run_id, name, Path("unused"))).read_text(encoding="utf-8"))


def test_a_finished_stage_is_found_by_stage_and_fingerprint_in_any_experiment(store):
    run_id = begin(store)
    assert store.find("folds", "f") is None  # still running
    store.finish(run_id)
    assert store.find("folds", "f").info.run_id == run_id
    assert store.find("prepare", "f") is None and store.find("folds", "g") is None
    elsewhere = Store(store.uri, "other", None)
    assert elsewhere.find("folds", "f").info.run_id == run_id


def test_a_stage_deleted_in_mlflow_is_not_found(store):
    run_id = begin(store)
    store.finish(run_id)
    store.client.delete_run(run_id)
    assert store.find("folds", "f") is None


def test_a_run_has_its_configuration_tags_and_parent(store):
    parent = begin(store, "p", "experiment")
    run = store.client.get_run(begin(store, parent=parent))
    assert run.data.params == {"a.b": "1", "c": "[1, 2]"}
    expected = {"a2v.stage": "folds", "a2v.fingerprint": "f", "variant": "v", "mlflow.parentRunId": parent}
    assert expected.items() <= run.data.tags.items() and run.info.run_name == "a name"
    assert run.data.tags["a2v.driver"].startswith(f"{socket.gethostname()}:{os.getpid()}")
    assert read_json(store, run, "config.json") == {"a": {"b": 1}, "c": [1, 2]}
    assert {"python", "packages", "cpu_cores", "gpus"} <= read_json(store, run, "environment.json").keys()


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_an_unfinished_run_is_taken_over_not_doubled(store, status):
    run_id = begin(store)
    if status != "RUNNING":
        store.finish(run_id, status)
    assert begin(store) == run_id
    assert store.client.get_run(run_id).info.status == "RUNNING"
    store.finish(run_id)
    assert [run.info.run_id for run in store.client.search_runs([store.experiment_id])] == [run_id]


@pytest.fixture
def other_process() -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def test_a_run_that_a_living_process_works_on_is_left_alone(store, other_process):
    run_id, pid = begin(store), other_process.pid
    disown(store, run_id, f"{socket.gethostname()}:{pid}:{other_process.create_time():.0f}")
    with pytest.raises(UserError, match=f":{pid}:[0-9]+ is running this stage already .*; wait for it or") as caught:
        begin(store)
    assert caught.value.code == 1 and "\n" not in str(caught.value)
    other_process.kill()
    other_process.wait()
    assert begin(store) == run_id


def test_a_later_process_with_the_same_number_is_another_one(store, other_process):
    run_id = begin(store)
    started = other_process.create_time() - 1000
    disown(store, run_id, f"{socket.gethostname()}:{other_process.pid}:{started:.0f}")
    assert begin(store) == run_id


def test_long_and_odd_parameters_are_logged(store):
    config = {"text": "x" * 20000, "none": None, "empty": {}, "list": [], "threshold": {"Lewin's (song), ä": 0.1}}
    run_id = store.begin("folds", "f", "n", config | {f"key{n}": n for n in range(250)}, {}, None)
    params = store.client.get_run(run_id).data.params
    assert params["text"] == "x" * MAX_PARAM_CHARACTERS and params["none"] == "None" and params["key249"] == "249"
    assert params["threshold.Lewin_s _song__ ä"] == "0.1" and len(params) == 254


@pytest.mark.parametrize(
    "name", ["Lewin's", "a+b", "100%", "call (long)", "a//b", "..", ".", "/x", "x/", "a, b", "été", "a=b;c"]
)
def test_scores_of_a_class_with_any_name_are_logged(store, name):
    run_id = begin(store)
    store.log_metrics(run_id, {f"AP/{name}": 0.25, f"strict/AP/{name}": 0.5, "AP/micro": 0.75}, step=3)
    metrics = store.client.get_run(run_id).data.metrics
    assert sorted(metrics.values()) == [0.25, 0.5, 0.75]
    assert sum(key.startswith("strict/AP/") for key in metrics) == 1


@pytest.mark.parametrize(
    "name", ["AP/cc", "strict/AP/Turdus merula", "audio_seconds_per_second", "a.b-c:d", "labels_0.5/AP/ä"]
)
def test_names_that_mlflow_takes_stay_as_they_are(name):
    assert allowed_name(name) == name


def test_flatten():
    assert flatten({"a": {"b": {"c": 1}}, "d": [1], "e": None, "f": {}}) == {"a.b.c": "1", "d": "[1]", "e": "None"}


def test_the_newest_finetuned_model_of_a_training_is_found(store):
    run_id = begin(store, "x", "finetune")
    store.tag(run_id, "a2v.training", "t")
    assert store.trained("t") is None
    store.tag(run_id, "a2v.model", "logged")
    assert store.trained("t") == run_id and store.trained("u") is None


def test_a_missing_artifact_is_one_line(store, tmp_path):
    run_id = begin(store)
    with pytest.raises(UserError, match=f"artifact model of run {run_id} cannot be read") as caught:
        store.fetch(run_id, "model", tmp_path)
    assert "\n" not in str(caught.value) and caught.value.code == 1


def test_a_new_database_is_complete_or_not_there(tmp_path, empty_database, monkeypatch):
    """Making one takes MLflow a hundred steps that it can neither resume nor do beside another process."""
    path = tmp_path / "mlflow.db"

    def stopped(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half of it")
        raise KeyboardInterrupt

    def overtaken(uri: str) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"the second one")
        shutil.copy(empty_database, path)

    for make in (stopped, overtaken):
        with monkeypatch.context() as patch:
            patch.setattr(database, "MlflowClient", make)
            with contextlib.suppress(KeyboardInterrupt):
                database.make_database(f"sqlite:///{path}")
        assert [file.name for file in tmp_path.iterdir()] == (["mlflow.db"] if make is overtaken else [])
    assert path.read_bytes() == empty_database.read_bytes()


def test_an_artifact_is_swapped_in_whole(store, tmp_path, monkeypatch):
    run_id = begin(store)
    place = tmp_path / "fetched" / run_id / "model"

    def download(run_id: str, name: str, folder: str) -> str:
        (Path(folder) / name).mkdir(parents=True)
        (Path(folder) / name / "model.json").write_text("new", encoding="utf-8")
        if place.exists():
            assert (place / "model.json").read_text(encoding="utf-8") == "old"  # readable until the new one is whole
        return str(Path(folder) / name)

    monkeypatch.setattr(store.client._client, "download_artifacts", download)
    place.mkdir(parents=True)
    (place / "model.json").write_text("old", encoding="utf-8")
    assert store.fetch(run_id, "model", tmp_path) == str(place)
    assert (place / "model.json").read_text(encoding="utf-8") == "new"
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == [run_id]


def set_revision(path: Path, revision: str) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute("UPDATE alembic_version SET version_num = ?", [revision]).rowcount == 1


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below one, so that anything written shows."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def recipe_file(tmp_path: Path, csv_source: Path) -> Path:
    return write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(csv_source)))


def test_a_store_from_a_newer_mlflow(a2v, new_work, recipe_file):
    work = new_work("work")
    set_revision(work / "mlflow.db", "fedcba987654")
    before = contents(work)
    said = a2v("experiment", "run", recipe_file, "--work", work)
    assert said.code == 1 and said.out == ""
    line = said.only_line()
    assert "was written by another version of MLflow" in line and "--tracking-uri" in line and "mlflow.db" in line
    assert contents(work) == before


def test_a_store_that_is_no_database(a2v, tmp_path, recipe_file):
    work = tmp_path / "work"
    work.mkdir()
    (work / "mlflow.db").write_bytes(b"this is not a database, it is a text\n" * 100)
    before = contents(work)
    said = a2v("experiment", "run", recipe_file, "--work", work)
    assert said.code == 1 and said.out == ""
    assert "mlflow.db: the tracking store cannot be opened: " in said.only_line()
    assert contents(work) == before


@pytest.mark.parametrize("uri", ["nonsense://somewhere", "sqlite:////proc/no/such/folder/mlflow.db"])
def test_a_store_that_cannot_be_there(a2v, tmp_path, recipe_file, uri):
    said = a2v("experiment", "run", recipe_file, "--work", tmp_path / "work", "--tracking-uri", uri)
    assert said.code == 1 and said.out == ""
    assert said.only_line().startswith(f"{uri}: the tracking store cannot be opened: ")
    assert contents(tmp_path / "work") == {}


def test_a_work_folder_that_cannot_be_made(a2v, tmp_path, recipe_file):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    before = contents(tmp_path)
    said = a2v("experiment", "run", recipe_file, "--work", tmp_path / "file" / "work")
    assert said.code in (1, 2) and said.out == ""
    assert said.only_line() == f"{tmp_path / 'file' / 'work'}: cannot be made: Not a directory"
    assert contents(tmp_path) == before


def test_an_experiment_that_was_deleted_in_mlflow(a2v, new_work, recipe_file):
    work = new_work("work")
    store = open_store(work, None, "tones")
    store.client.delete_experiment(store.experiment_id)
    said = a2v("experiment", "run", recipe_file, "--work", work)
    assert said.code in (1, 2)
    assert "experiment 'tones' was deleted in MLflow; restore it or rename the recipe" in said.only_line()


def test_a_run_says_what_is_not_committed_and_by_which_command(store, monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "uncommitted", lambda: "diff --git a/x b/x\n")
    monkeypatch.setattr(
        sys, "argv", ["/bin/a2v", "run", "few calls", "--tracking-uri", "http://me:s3@cret@host:5000/x"]
    )
    environment.process_tags.cache_clear()
    try:
        run = store.client.get_run(begin(store))
    finally:
        environment.process_tags.cache_clear()
    assert run.data.tags["a2v.command"] == "a2v run 'few calls' --tracking-uri http://host:5000/x"
    assert Path(store.fetch(run.info.run_id, "uncommitted.diff", tmp_path)).read_text() == "diff --git a/x b/x\n"
    said = read_json(store, run, "environment.json")
    assert f"torch=={said['packages']['torch']}" in said["installed"] and said["cpu"]
    assert run.data.tags["a2v.identity"] == "f" and len(run.data.tags["a2v.installed"]) == 64


def test_uncommitted_changes_are_those_of_the_checkout_cut_where_they_are_long(monkeypatch, tmp_path):
    package = tmp_path / "src" / "a2v_experiments"
    (package / "store").mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(package / "store" / "environment.py"))

    def git(*command: str) -> None:
        subprocess.run(["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=b", *command], check=True)

    try:
        environment.uncommitted.cache_clear()
        assert environment.uncommitted() is None  # no checkout
        git("init", "-q")
        (tmp_path / "known").write_text("a\n")
        git("add", "known")
        git("commit", "-qm", "first")
        (tmp_path / "secret").write_text("password\n")  # git does not know it
        environment.uncommitted.cache_clear()
        assert environment.uncommitted() is None
        (tmp_path / "known").write_text("b\n")
        environment.uncommitted.cache_clear()
        assert "-a\n+b\n" in environment.uncommitted() and "password" not in environment.uncommitted()
        (tmp_path / "known").write_text("ü" * 2**20)
        environment.uncommitted.cache_clear()
        cut = environment.uncommitted()
        assert len(cut.encode()) < 2**20 + 100 and "[cut: " in cut.splitlines()[-1]
    finally:
        environment.uncommitted.cache_clear()


class _Racing:
    """A client for which another trial makes the dataset between MLflow's look and its insert."""

    def __init__(self, client: Any, races: int, message: str) -> None:
        self.client, self.races, self.message = client, races, message

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def log_inputs(self, *given: Any) -> None:
        if self.races:
            self.races -= 1
            raise MlflowException(self.message)
        self.client.log_inputs(*given)


@pytest.mark.parametrize(
    "message",
    [
        "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest",
        "(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint",
    ],
)
def test_a_dataset_that_two_trials_make_at_once_is_that_of_both(store, monkeypatch, message):
    found = Dataset(name="birds", digest="d", source_type="local", source="{}")
    run_id = begin(store)
    monkeypatch.setattr(store, "client", _Racing(store.client, 2, message))
    store.log_inputs(run_id, [DatasetInput(found, [InputTag("mlflow.data.context", "training")])])
    (logged,) = store.client.get_run(run_id).inputs.dataset_inputs
    assert logged.dataset.name == "birds" and store.client.races == 0


def test_any_other_refusal_of_a_dataset_is_told(store, monkeypatch):
    monkeypatch.setattr(store, "client", _Racing(store.client, 1, "the disk is gone"))
    with pytest.raises(MlflowException, match="the disk is gone"):
        store.log_inputs(begin(store), [])
