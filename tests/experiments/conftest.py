"""Fixtures: the small corpus in both forms, a tracking store, and the command called in this process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, pack
from a2v_experiments.store.tracking import Store
from experiments_runs import World, make_world
from experiments_world import (
    RATE,
    Said,
    call_command,
    make_csv_source,
    make_meerkat_source,
)
from mlflow.entities import Run

Command = Callable[..., Said]

# `make test-fast` runs these files of this folder: half a minute of processor time in all. The others train.
QUICK = frozenset(
    f"test_experiments_{name}.py"
    for name in (
        "answer", "bench_results", "cli", "code", "corpora", "data_annotations", "data_import", "evaluate",
        "fingerprint",
        "inference", "left_out", "links", "model_fetch", "model_names", "name_groups", "one_reader", "ordered",
        "pinned", "plugins",
        "predict_settings", "predict_stream", "recipe", "review_export", "review_report", "review_server",
        "review_state", "review_suggest", "scale", "segments", "short_recordings", "submission", "suggest",
        "sweep_config", "validation_split",
    )
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name not in QUICK:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for name in ("MLFLOW_TRACKING_URI", "A2V_WORK", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _figures_without_contents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What figures show is tested in tests/eval; to draw them took a third of an experiment's time here. MLflow gets
    one dot of each, calls are checked to fit; commands that write one for the user, and tests on Ray, draw all of it.
    """
    from a2v_experiments.stages import evaluation, figures, presence
    from matplotlib.figure import Figure

    dot = tmp_path_factory.mktemp("figure") / "dot.png"
    Figure((0.01, 0.01)).savefig(dot, dpi=100)

    def log_dot(self: Store, run_id: str, figure: Any, name: str) -> None:
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as place:
            shutil.copy(dot, Path(place) / file)
            self.client.log_artifact(run_id, str(Path(place) / file), folder or None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "log_figure", log_dot)
        for module in (evaluation, figures, presence):
            for name in ("precision_recall_figure", "confusion_figure", "threshold_figure", "likelihood_figure"):
                if hasattr(module, name):
                    patch.setattr(module, name, create_autospec(getattr(module, name), return_value=None))
        yield


@pytest.fixture(scope="session")
def csv_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_csv_source(tmp_path_factory.mktemp("csv") / "tones")


@pytest.fixture(scope="session")
def meerkat_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_meerkat_source(tmp_path_factory.mktemp("meerkat") / "tones")


@pytest.fixture(scope="session")
def corpus(csv_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The packed small corpus."""
    config = PackConfig(sample_rate=RATE, labelled="all", focal_class=False)
    return pack(csv_source, tmp_path_factory.mktemp("packed") / "corpus", config)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow sqlite store without experiments; making one takes seconds, a copy takes none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def new_work(empty_database: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a work folder that has its store already."""

    def make(name: str = "work") -> Path:
        work = tmp_path / name
        work.mkdir()
        shutil.copy(empty_database, work / "mlflow.db")
        return work

    return make


@pytest.fixture
def a2v(capfd: pytest.CaptureFixture[str]) -> Command:
    """Calls the `a2v` command in this process: a2v('experiment', 'run', ...) -> Said(code, out, err)."""

    def call(*arguments: object) -> Said:
        return run_command([str(argument) for argument in arguments], capfd)

    return call


def run_command(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> Said:
    capfd.readouterr()
    code = call_command(arguments)
    said = capfd.readouterr()
    return Said(code, said.out, said.err)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, csv_source: Path) -> World:
    """The small experiment, run once for all tests that look at it or call it again."""
    return make_world(tmp_path_factory.mktemp("run"), empty_database, csv_source)


@pytest.fixture(scope="session")
def first_runs(world: World) -> dict[str, list[Run]]:
    return world.first_runs()
