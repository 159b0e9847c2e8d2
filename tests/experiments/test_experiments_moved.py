"""Work folders of any name, and such as were moved, copied or mounted elsewhere: their artifacts are their own."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.basics.places import a2v_command, ui_command
from a2v_experiments.overview.listing import rows
from a2v_experiments.store import moved
from a2v_experiments.store.database import default_uri, sqlite_path, sqlite_uri
from a2v_experiments.store.reading import existing_client
from a2v_experiments.store.tracking import Store, open_store
from experiments_store import disown
from mlflow import MlflowClient

Work = Callable[[str], Path]
NAMES = ["disk #1", "a?b", "50%25 %41", "R & D; $HOME", 'it\'s "it"', "Möwen ü", "[a]*", "back\\slash", "x:y=@z", "-x "]


def begin(work: Path, text: str = "as it was", mark: str = "f", uri: str | None = None) -> tuple[Store, str]:
    """A finished run with an artifact folder/x.txt."""
    store = open_store(work, uri, "birds")
    run_id = store.begin("folds", mark, "a name", {}, {}, None)
    store.log_text(run_id, text, "folder/x.txt")
    store.finish(run_id)
    return store, run_id


def read(store: Store, run_id: str, work: Path) -> tuple[Path, str]:
    place = Path(store.fetch(run_id, "folder", work))
    return place, (place / "x.txt").read_text()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_work_folder(new_work: Work, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = new_work(name)
    monkeypatch.chdir(tmp_path)
    store, run_id = begin(Path(name))
    assert sqlite_path(store.uri) == work / "mlflow.db"
    assert read(store, run_id, work) == (work / "artifacts" / "birds" / run_id / "artifacts" / "folder", "as it was")
    client = existing_client(Path(name), None)
    assert client is not None and client.get_run(run_id).info.status == "FINISHED"
    assert existing_client(work, store.uri) is not None  # as a printed command names it
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing was made beside it
    assert shlex.split(ui_command(work, None)) == [a2v_command(), "ui", "--work", str(work)]


@pytest.mark.parametrize("name", ["line\nbreak", "tab\there", "\udcff"])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    for call in (lambda: open_store(tmp_path / name, None, "birds"), lambda: existing_client(tmp_path / name, None)):
        with pytest.raises(UserError, match="rename the folder") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["there", "to #2? 100%"])
def test_a_moved_work_folder(new_work: Work, tmp_path: Path, name: str) -> None:
    _, run_id = begin(new_work("here"))
    there = tmp_path / name
    (tmp_path / "here").rename(there)
    client = existing_client(there, None)  # what only reads puts it right as well: MLflow's UI shows artifacts then
    assert client is not None and [item.path for item in client.list_artifacts(run_id)][-1] == "folder"
    assert rows(client) == []
    store = open_store(there, None, "birds")
    assert read(store, run_id, there)[1] == "as it was"
    store, new = begin(there, "new", "g")
    assert read(store, new, there) == (there / "artifacts" / "birds" / new / "artifacts" / "folder", "new")
    assert [path.name for path in tmp_path.iterdir()] == [name]  # and the old place was not made again


def test_a_registered_model_moves_as_well(new_work: Work, tmp_path: Path) -> None:
    store, run_id = begin(new_work("here"))
    model = store.begin_model(run_id, "detector", {})
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").write_text("{}")
    store.log_model(model, tmp_path / "m")
    store.client.create_registered_model("birds")
    store.client.create_model_version("birds", f"models:/{model}", run_id, model_id=model)
    (tmp_path / "here").rename(tmp_path / "100%_there")
    client = existing_client(tmp_path / "100%_there", None)
    assert client is not None and "here" not in client.get_model_version("birds", "1").source
    place = client.get_model_version_download_uri("birds", "1")
    expected = tmp_path / "100%_there" / "artifacts" / "birds" / "models" / model / "artifacts"
    assert place in (f"models:/{model}", expected.as_uri())
    assert client.get_logged_model(model).artifact_location == expected.as_uri()


def test_a_copy_leaves_the_original_alone(new_work: Work, tmp_path: Path) -> None:
    here = new_work("here")
    _, run_id = begin(here)
    shutil.copytree(here, tmp_path / "there")
    before = contents(here)
    there = tmp_path / "there"
    store = open_store(there, None, "birds")
    place, _ = read(store, run_id, there)
    assert place.is_relative_to(there)
    (place / "x.txt").write_text("changed")
    store.put_back(run_id, place / "x.txt", "folder")
    store.log_text(run_id, "more", "folder/y.txt")
    begin(there, "new", "g")
    assert contents(here) == before
    shutil.rmtree(there / "artifacts" / "birds" / run_id)  # what the copy lacks is not taken from the original
    with pytest.raises(UserError, match="cannot be read"):
        store.fetch(run_id, "folder", there)
    assert read(open_store(here, None, "birds"), run_id, here)[1] == "as it was"


def test_a_copy_of_the_database_alone(new_work: Work, tmp_path: Path) -> None:
    here = new_work("here")
    begin(here)
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(here / "mlflow.db", there)
    with pytest.raises(UserError, match=f"is a copy of {here} without its artifacts; copy {here}/artifacts") as caught:
        open_store(there, None, "birds")
    assert "\n" not in str(caught.value)
    assert existing_client(there, None) is not None  # its scores can be looked at


def test_another_path_to_the_same_folder_changes_nothing(new_work: Work, tmp_path: Path) -> None:
    """A link; a mount under another name is told in the same way."""
    here = new_work("here")
    begin(here)
    (tmp_path / "link").symlink_to(here)
    before = (here / "mlflow.db").read_bytes()
    assert existing_client(tmp_path / "link", f"sqlite:///{tmp_path}/link/mlflow.db") is not None
    assert (here / "mlflow.db").read_bytes() == before
    here.rename(tmp_path / "there")
    here.symlink_to(tmp_path / "there")  # moved, and the old name leads there
    moved.put_right(default_uri(tmp_path / "there"), tmp_path / "there", writing=True)
    assert (tmp_path / "there" / "mlflow.db").read_bytes() == before


def test_a_database_apart_from_the_work_folder(new_work: Work, tmp_path: Path) -> None:
    uri = sqlite_uri(new_work("db") / "mlflow.db")
    work = tmp_path / "work"
    _, run_id = begin(work, uri=uri)
    assert read(open_store(tmp_path / "db", None, "birds"), run_id, work)[0].is_relative_to(work)  # as it was made
    work.rename(tmp_path / "moved")
    store = open_store(tmp_path / "moved", uri, "birds")
    assert read(store, run_id, work)[0].is_relative_to(tmp_path / "moved")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "moved"]


def test_a_store_in_use_under_another_name_is_left_alone(
    new_work: Work, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Mounted twice: the process that trains knows another path, and must find its artifacts where it left them."""
    store = open_store(new_work("here"), None, "birds")
    run_id = store.begin("folds", "f", "a name", {}, {}, None)
    other = psutil.Process(os.getppid())
    disown(store, run_id, f"{socket.gethostname()}:{other.pid}:{other.create_time():.0f}")
    (tmp_path / "here").rename(tmp_path / "there")
    before = (tmp_path / "there" / "mlflow.db").read_bytes()
    with pytest.raises(UserError, match=f":{other.pid}:.* is using this store, whose artifacts it knows as {tmp_path}"):
        open_store(tmp_path / "there", None, "birds")
    assert existing_client(tmp_path / "there", None) is not None
    assert "is using this store" in capfd.readouterr().err
    assert (tmp_path / "there" / "mlflow.db").read_bytes() == before
    MlflowClient(default_uri(tmp_path / "there")).set_terminated(run_id, "KILLED")
    assert open_store(tmp_path / "there", None, "birds").uri.endswith("/there/mlflow.db")


def test_a_store_that_cannot_be_written_says_so(
    new_work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(new_work("here"))
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setattr(moved, "_connect", lambda path: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))
    with pytest.raises(UserError, match=r"was made in another place and cannot be put right here .*readonly") as caught:
        open_store(tmp_path / "there", None, "birds")
    assert "\n" not in str(caught.value) and caught.value.code == 1
