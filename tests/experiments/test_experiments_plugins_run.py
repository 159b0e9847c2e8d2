"""An experiment whose front end, head, loss, augmentation and event method are all of plugins, and what its model
does in another process."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from a2v_experiments.models import load_model
from a2v_experiments.training.tasks import FinetuneTask
from experiments_plugins import EVENTS, LOSS, PARTS, nothing_stays
from experiments_runs import World
from experiments_world import RATE, call_quietly, make_recipe, recipe_tree, training_spec, write_recipe

OWN = {
    "plugins": ["mine.py", "parts.py", "events.py"],
    "model__front_end": {"kind": "blocks", "sample_rate": RATE},
    "finetune__loss": {"kind": "squares", "weight": 2},
    "finetune__head": {"kind": "two_layers"},
    "finetune__augmentations": [{"kind": "louder", "factor": 2}],
    "evaluate": {"events": {"method": "steps", "threshold": 0.3, "options": {"least": 2}}, "overlap_s": 0.3},
    "folds": {"count": 3, "run": [0]},
}


def write(folder: Path, source: Path | str, **changes: object) -> Path:
    for name, text in (("mine", LOSS), ("parts", PARTS), ("events", EVENTS)):
        (folder / f"{name}.py").write_text(text)
    return write_recipe(folder / "own.yaml", recipe_tree(data__source=str(source), **{**OWN, **changes}))


@pytest.fixture(scope="module")
def ran(tmp_path_factory, empty_database, csv_source):
    folder = tmp_path_factory.mktemp("own")
    (folder / "work").mkdir()
    shutil.copy(empty_database, folder / "work/mlflow.db")
    with nothing_stays():
        said = call_quietly("experiment", "run", write(folder, csv_source), "--work", folder / "work")
        assert said.code == 0, said.err
        yield World(folder / "work", folder / "own.yaml", said)


def elsewhere(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which knows no plugin."""
    return subprocess.run(
        [sys.executable, "-m", "a2v_experiments", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def test_a_second_call_reuses_it_and_an_edited_event_method_only_evaluates(ran):
    again = ran.call()
    assert "reused" in again.err + again.out and len(ran.runs("finetune")) == 1
    (ran.recipe.parent / "events.py").write_text(EVENTS.replace("return row[long]", "pass\n    return row[long]"))
    with_events = ran.call()
    (ran.recipe.parent / "events.py").write_text(EVENTS)
    assert with_events.code == 0, with_events.err
    assert "its model: reused" in with_events.out + with_events.err
    assert [len(ran.runs(stage)) for stage in ("pretrain", "finetune")] == [1, 2]


def test_its_model_predicts_in_another_process_once_that_may_run_its_code(ran, csv_source, tmp_path):
    run = ran.runs("finetune")[0]
    model = tmp_path / "model"
    shutil.copytree(ran.fetch(run, "model"), model)
    description = json.loads((model / "model.json").read_text())
    recordings = [csv_source / "audio/rec00.wav", csv_source / "audio/rec01.wav"]
    call = (
        "predict",
        *recordings,
        "--model",
        model,
        "--out",
        tmp_path / "out",
        "--threshold",
        "0.386",
        "--all-classes",
    )
    refused = elsewhere(*call)
    assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1
    assert str(model / "plugins/") in refused.stderr and "--allow-plugins" in refused.stderr
    done = elsewhere(*call, "--allow-plugins", "--processes", "2", "--likelihoods", "npz")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out/events.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert "plugins" in description and set(description["plugins"]) == {"mine", "parts", "events"}
    found = [(row["file"], row["label"], float(row["onset_s"]), float(row["offset_s"])) for row in rows]
    chosen = description["thresholds_from"]
    assert chosen["method"] == "steps" and chosen["options"] == {"least": 2}
    assert load_model(str(model)).config.head.kind == "two_layers"  # which this process may: it trained it
    expected = []
    for recording in recordings:
        tracks = np.load(next((tmp_path / "out").rglob(f"{recording.stem}*.npz")))
        likelihood_TC = tracks["likelihoods"]
        for number, name in enumerate(description["classes"]):
            above = np.flatnonzero(likelihood_TC[:, number] >= np.float32(0.386))
            for own in np.split(above, np.flatnonzero(np.diff(above) > 1) + 1):
                if len(own) >= 2:
                    expected.append((recording.name, name, own[0] / 100, (own[-1] + 1) / 100))
    assert len(found) == len(expected) > 0
    assert sorted(found) == sorted(expected)


def test_what_to_look_at_is_still_there_where_the_model_came_from_a_store(ran):
    """The folder that it was fetched into is gone when the line is read."""
    uri = f"runs:/{ran.runs('finetune')[0].info.run_id}"
    said = elsewhere("model", "export", uri, ran.work / "o.pt", "--tracking-uri", ran.store.uri)
    assert said.returncode == 2 and len(said.stderr.strip().splitlines()) == 1
    assert said.stderr.startswith(f"a2v: {uri}/model: the model brings code of its own")
    named = said.stderr.partition("look at ")[2].partition(",")[0]
    from mlflow.artifacts import download_artifacts

    assert Path(download_artifacts(named, tracking_uri=ran.store.uri)).read_text() == PARTS


@pytest.mark.rehearsal
def test_the_command_that_predicts_next_agrees_to_the_models_code(ran, csv_source, tmp_path):
    said = ran.call()  # all of it is there
    (next_,) = [line for line in said.out.splitlines() if " predict NEW " in line]
    assert next_.endswith(" --allow-plugins")
    out, model = tmp_path / "out", ran.fetch(ran.runs("finetune")[0], "model")
    said = elsewhere("adapt", csv_source, "--model", model, "--out", out, "--minutes", "0.1", "--labelled", "all",
                     "--work", tmp_path / "work", "--allow-plugins")  # fmt: skip
    assert said.returncode == 0, said.stderr
    (next_,) = [line for line in said.stdout.splitlines() if " predict NEW " in line]
    given = {"NEW": str(csv_source / "audio/rec00.wav"), "calls": str(tmp_path / "calls")}
    done = elsewhere("predict", *(given.get(word, word) for word in next_.partition(" predict ")[2].split()))
    assert done.returncode == 0, done.stderr


def test_model_info_names_the_code_without_running_it(ran):
    run = ran.runs("finetune")[0]
    said = elsewhere("model", "info", ran.fetch(run, "model"), "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["plugins"]["parts"]["registers"] == {
        "front_end": ["blocks"], "head": ["two_layers"], "augmentation": ["louder"],
    }  # fmt: skip
    assert "parts" in elsewhere("model", "info", ran.fetch(run, "model")).stdout


def test_a_backbone_that_brings_code_asks_first(ran, csv_source, tmp_path):
    backbone = ran.fetch(ran.runs("pretrain")[0], "model")
    recipe = write(tmp_path, csv_source, pretrain=None, backbone=str(backbone))
    (tmp_path / "parts.py").write_text(PARTS + "\n# another source of the same name")
    said = elsewhere("experiment", "plan", recipe, "--work", tmp_path / "work")
    assert said.returncode == 2 and "the model brings code of its own" in said.stderr
    said = elsewhere("experiment", "plan", recipe, "--work", tmp_path / "work", "--allow-plugins")
    assert said.returncode == 2 and "another source of it is loaded in this process" in said.stderr
    (tmp_path / "parts.py").write_text(PARTS)  # that of the recipe itself
    said = elsewhere("experiment", "plan", recipe, "--work", tmp_path / "work")
    assert said.returncode == 0, said.stderr


def test_examples_of_a_training_are_augmented_and_its_loss_is_that_of_the_plugin(corpus, tmp_path):
    with nothing_stays():
        (tmp_path / "mine.py").write_text(LOSS)
        (tmp_path / "parts.py").write_text(PARTS.replace("waveform * config.factor", "waveform[::-1]"))
        plain = make_recipe(tmp_path, ["finetune.bcl=null"])
        own = make_recipe(
            tmp_path,
            ["plugins=[mine.py, parts.py]", "finetune.bcl=null", "finetune.augmentations=[{kind: louder}]",
             "finetune.loss={kind: squares, weight: 2}"],
        )  # fmt: skip
        first, second = (
            FinetuneTask(training_spec(recipe, "finetune", corpus.folder), torch.device("cpu"))
            for recipe in (plain, own)
        )
        (before, targets_BTC), (after, same_BTC) = first.examples(0, 0), second.examples(0, 0)
        waveform_BN = second.normalised(after)
        whole = int(before.samples[0]) == before.waveform.shape[1]
        assert whole and torch.allclose(waveform_BN[0], first.normalised(before)[0].flip(0), atol=1e-5)
        assert torch.equal(targets_BTC, same_BTC)
        generator = torch.Generator().manual_seed(0)
        step = second.step(0, 0, generator)
        second.model.eval()
        with torch.no_grad():
            logits_BTC = second.model(waveform_BN)
            total, frames = second.model.loss(logits_BTC, targets_BTC)
        by_hand = 2 * (1 / (1 + np.exp(-logits_BTC.double().numpy())) - targets_BTC.numpy()) ** 2
        assert float(total) == pytest.approx(by_hand.sum(), rel=1e-5) and frames == step.frames
        assert float(step.loss_sum.detach()) > 0 and step.loss_sum.requires_grad


@pytest.mark.rehearsal
@pytest.mark.ray
def test_trials_workers_and_prediction_tasks_of_a_cluster_have_them(tmp_path, csv_source, empty_database):
    """In processes of their own, each of which knows no plugin at first."""
    (tmp_path / "work").mkdir()
    shutil.copy(empty_database, tmp_path / "work/mlflow.db")
    sweep = {"parameters": {"finetune.loss.weight": [1.0, 4.0]}}
    recipe = write(tmp_path, csv_source, ray={"num_workers": 1}, sweep=sweep, pretrain=None)
    said = elsewhere("experiment", "run", recipe, "--work", tmp_path / "work")
    assert said.returncode == 0, said.stderr
    world = World(tmp_path / "work", recipe, None)
    model = world.fetch(world.runs("finetune")[0], "model")
    call = ("predict", csv_source / "audio/rec00.wav", "--model", model, "--out", tmp_path / "out", "--ray")
    done = elsewhere(*call, "--allow-plugins", "--likelihoods", "npz")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").rglob("*.npz"))
