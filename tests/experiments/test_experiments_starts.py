"""Where finetuning starts: pretraining on its own or on other recordings, and models that are there already."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from experiments_runs import World
from experiments_world import Said, call_quietly, recipe_tree, write_recipe

FOLD = ("folds.run=[0]", "finetune.updates=2")


@pytest.fixture
def start(tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path) -> World:
    """The small recipe, not run yet."""
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(csv_source)))
    return World(new_work("work"), recipe, Said(0, "", ""))


def test_pretraining_alone_then_finetuning_by_recipe_by_uri_and_by_folder(start: World, tmp_path: Path):
    said = start.call("finetune=null", "name=alone")
    assert said.code == 0, said.err
    store = start.store
    alone = store.client.get_experiment_by_name("alone").experiment_id
    (pretrained,) = store.client.search_runs([alone], "tags.`a2v.stage` = 'pretrain'")
    (parent,) = store.client.search_runs([alone], "tags.`a2v.stage` = 'experiment'")
    uri = f"runs:/{pretrained.info.run_id}"
    assert f"--set backbone={uri}" in said.out and parent.data.tags["a2v.pretrained"] == pretrained.info.run_id
    assert parent.data.metrics["pretrain/loss"] == pretrained.data.metrics["loss"]
    assert not store.client.search_runs([alone], "tags.`a2v.stage` = 'folds'")

    assert start.call(*FOLD).code == 0  # the recipe's own pretraining is that one
    (usual,) = start.runs("finetune")
    assert usual.data.tags["a2v.input_run.pretrain"] == pretrained.info.run_id and not start.runs("pretrain")
    said = start.call(*FOLD, "pretrain=null", f"backbone={uri}", "variant=uri")
    assert said.code == 0, said.err
    folder = shutil.copytree(start.fetch(pretrained, "model"), tmp_path / "model")
    said = start.call(*FOLD, "pretrain=null", f"backbone={folder}", "variant=folder")
    assert said.code == 0 and "finetune fold 0 folder: reused" in said.out  # the same content
    (by_uri,) = [run for run in start.runs("finetune") if run.data.tags["variant"] == "uri"]
    assert by_uri.data.tags["a2v.backbone"] == uri and start.losses(by_uri) == start.losses(usual)
    assert len(start.runs("finetune")) == 2

    said = start.call(*FOLD, "pretrain=null", f"backbone={folder}", "model.encoder.mlp_ratio=3")
    assert said.code == 2
    assert said.only_line() == (
        f"backbone: {folder}: its model has encoder.mlp_ratio = 2.0, the recipe model.encoder.mlp_ratio = 3.0;"
        " they must be equal"
    )
    said = start.call(*FOLD, "pretrain=null", "backbone=nowhere")
    assert said.code == 2 and said.only_line().startswith("backbone: nowhere: no such folder")


def test_pretraining_on_other_recordings_than_those_that_have_labels(start: World, tmp_path: Path, csv_source: Path):
    """Half of the recordings without a single label: pretraining hears these and no other."""
    other = tmp_path / "other"
    (other / "audio").mkdir(parents=True)
    for number in range(6):
        shutil.copy(csv_source / "audio" / f"rec{number:02d}.wav", other / "audio" / f"xc{number}.wav")
    (other / "annotations.csv").write_text("file,onset_s,offset_s,label\n", encoding="utf-8")
    sets = [f"pretrain_data={{source: {other}, sample_rate: 4000, segment_s: 0.5}}", *FOLD]
    said = start.call(*sets)
    assert said.code == 0, said.err
    data, heard = start.runs("prepare")
    assert (data.info.run_name, heard.info.run_name) == ("data", "pretraining data")
    assert (data.data.metrics["recordings"], heard.data.metrics["recordings"]) == (12, 6)
    (pretrained,) = start.runs("pretrain")
    (finetuned,) = start.runs("finetune")
    assert pretrained.data.params["segment_s"] == "0.5" and finetuned.data.params["segment_s"] == "1.0"
    said = start.call("pretrain_data={source: nowhere, sample_rate: 4000}")
    assert said.code == 2 and said.only_line() == "pretrain_data.source: nowhere: no such folder"


def test_tiny_says_so_in_its_name_and_at_its_end(new_work: Callable[[str], Path]):
    work = new_work("work")
    said = call_quietly("experiment", "run", "many_calls", "--scale", "tiny", "--work", work, "--set", "folds.run=[0]")
    assert said.code == 0, said.err
    assert "experiment many_calls-tiny, tracked in" in said.out and "its scores mean nothing" in said.out
