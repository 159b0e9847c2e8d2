"""Rounds: finetuning goes on from a finetuned model, and MLflow shows which came from which."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from a2v_data.pack import PackConfig, pack
from a2v_experiments.stages.specs import experiment_config, finetune_spec
from a2v_experiments.training.tasks import build_task
from a2v_model import load_model
from experiments_runs import World
from experiments_world import (
    RATE,
    RECORDINGS,
    Said,
    call_quietly,
    make_recipe,
    recipe_tree,
    training_spec,
    write_recipe,
)
from mlflow.entities import Run

SETS = ("pretrain=null", "folds.run=[0]", "finetune.updates=2")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, csv_source: Path) -> World:
    """A first model, of fold 0."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "work").mkdir()
    shutil.copy(empty_database, folder / "work" / "mlflow.db")
    recipe = write_recipe(folder / "small.yaml", recipe_tree(data__source=str(csv_source)))
    world = World(folder / "work", recipe, Said(0, "", ""))
    first = world.call(*SETS)
    assert first.code == 0, first.err
    return World(world.work, recipe, first)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory, csv_source: Path, world: World) -> Path:
    """The folder that a review gave: `cc` is kept, `sn` turned out to be `al`, a class that no model knows."""
    folder = tmp_path_factory.mktemp("reviewed")
    shutil.copytree(csv_source / "audio", folder / "audio")
    text = (csv_source / "annotations.csv").read_text(encoding="utf-8")
    (folder / "annotations.csv").write_text(text.replace(",sn", ",al"), encoding="utf-8")
    model = f"runs:/{world.runs('finetune')[0].info.run_id}"
    (folder / "review.json").write_text(json.dumps({"model": model, "round": 1, "reviewed_minutes": 0.5, "labels": 48}))
    return folder


def finetuned(world: World, variant: str) -> Run:
    (found,) = [run for run in world.runs("finetune") if run.data.tags["variant"] == variant]
    return found


def parent_of(world: World, run: Run) -> Run:
    return world.store.run(run.data.tags["mlflow.parentRunId"])


def test_a_recipe_without_a_start_has_no_word_of_it(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, ["pretrain=null"])
    assert "start" not in json.dumps(experiment_config(recipe)["finetune"])
    named = make_recipe(tmp_path, ["pretrain=null", "finetune.start=somewhere"])
    marks = [finetune_spec(one, 0, 1.0, "data", "folds", "model").fingerprint for one in (recipe, named)]
    assert marks[0] == marks[1]  # where a model lies is not what it is


@pytest.mark.parametrize(
    "sets, said",
    [
        (["finetune.start=x"], "finetune.start and pretrain exclude each other: .* --set pretrain=null$"),
        (["pretrain=null", "finetune.start=x", "backbone=y"], "finetune.start and backbone exclude each other"),
        (
            ["pretrain=null", "finetune.start=x", "finetune_by_share={0.1: {start: y}}"],
            "finetune_by_share.0.1.start = y: must be that of finetune, x",
        ),
    ],
)
def test_what_a_start_excludes(world: World, sets: list[str], said: str) -> None:
    refused = world.call(*sets)
    assert refused.code == 2
    assert re.search(said, refused.only_line()), refused.err


def test_all_weights_are_kept_and_the_rows_of_the_head_by_name(
    world: World, reviewed: Path, tmp_path: Path, csv_source: Path
) -> None:
    corpus = pack(reviewed, tmp_path / "corpus", PackConfig(sample_rate=RATE, labelled="all", focal_class=False))
    start = world.fetch(world.runs("finetune")[0], "model")
    spec = training_spec(make_recipe(tmp_path, data__source=str(csv_source)), "finetune", corpus.folder)
    spec = spec.model_copy(update={"classes": list(corpus.classes)})
    fresh = build_task(spec, torch.device("cpu")).model.state_dict()
    task = build_task(spec.model_copy(update={"backbone": str(start), "keep_head": True}), torch.device("cpu"))
    known, found = load_model(start), task.model.state_dict()
    assert corpus.classes == ("cc", "al") and known.classes == ["sn", "cc"]
    for name, tensor in known.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(found[name], tensor), name
    for name in ("head.weight", "head.bias"):
        assert torch.equal(found[name][0], known.state_dict()[name][1])
        assert torch.equal(found[name][1], fresh[name][1])


def test_rounds_are_a_chain(world: World, reviewed: Path, tmp_path: Path) -> None:
    first = world.runs("finetune")[0]
    uri = f"runs:/{first.info.run_id}"
    assert not {"round", "previous_run", "a2v.start"} & first.data.tags.keys()

    second = world.call(*SETS, f"data.source={reviewed}", f"finetune.start={uri}", "variant=second")
    assert second.code == 0, second.err
    said = "goes on with 1 of the 2 classes of its model's head; new: al; dropped, as no label has them: sn"
    assert f"finetune.start: {said}" in second.out
    run = finetuned(world, "second")
    for one in (run, parent_of(world, run)):
        assert (one.data.tags["round"], one.data.tags["previous_run"]) == ("1", first.info.run_id)
        metrics = one.data.metrics
        assert (metrics["round"], metrics["labels"], metrics["reviewed_minutes"]) == (1, 4 * RECORDINGS, 0.5)
    assert run.data.tags["a2v.start"] == uri and "a2v.backbone" not in run.data.tags
    tested = world.manifest(folds_of(world, run), "valid_0.tsv")
    trained = set(json.loads(world.fetch(first, "heard.json").read_text())["recordings"])
    assert not tested & trained  # the same fold of the same sounds
    assert f"finetune.start was finetuned on none of the {len(tested)} evaluation recordings" in second.out
    assert parent_of(world, run).data.tags["a2v.start_heard"] == "0"

    # the third knows by the second what the first was trained on; from a folder it is the same training
    folder = shutil.copytree(world.fetch(run, "model"), tmp_path / "model")
    sets = (*SETS, f"data.source={reviewed}", "folds.run=[1]")
    third = world.call(*sets, f"finetune.start=runs:/{run.info.run_id}", "variant=third")
    assert third.code == 0, third.err
    again = world.call(*sets, f"finetune.start={folder}", "variant=folder")
    assert again.code == 0 and "finetune fold 1 folder: reused" in again.out
    named = [part for one in (*sets, f"finetune.start={folder}") for part in ("--set", one)]
    planned = call_quietly("experiment", "plan", world.recipe, "--work", world.work, "--no-measure", "--json", *named)
    assert {stage["state"] for stage in json.loads(planned.out)["stages"]} == {"reused"}
    last = finetuned(world, "third")
    assert last.data.tags["round"] == "2" and last.data.tags["previous_run"] == run.info.run_id
    tested = world.manifest(folds_of(world, last), "valid_1.tsv")
    trained |= set(json.loads(world.fetch(run, "heard.json").read_text())["recordings"])
    assert tested & trained
    assert (
        f"finetune.start was finetuned on {len(tested & trained)} of the {len(tested)} evaluation recordings, so the"
        " scores of fold 1 are too good"
    ) in third.out

    listed = call_quietly("experiment", "list", "--work", world.work)
    assert "round" in listed.out.splitlines()[0].split()
    rows = json.loads(call_quietly("experiment", "list", "--work", world.work, "--json").out)
    assert {row["variant"]: row["round"] for row in rows} == {"default": None, "second": 1, "third": 2, "folder": 2}


def test_a_model_that_is_not_of_this_store_is_said_to_be_unknown(world: World, tmp_path: Path) -> None:
    folder = shutil.copytree(world.fetch(world.runs("finetune")[0], "model"), tmp_path / "model")
    about = json.loads((folder / "model.json").read_text())
    about["extra"] = {}
    (folder / "model.json").write_text(json.dumps(about))
    said = world.call(*SETS, f"finetune.start={folder}", "variant=unknown")
    assert said.code == 0, said.err
    assert "which recordings finetune.start was finetuned on is not known" in said.out
    run = finetuned(world, "unknown")
    assert run.data.tags["round"] == "1" and "previous_run" not in run.data.tags
    assert parent_of(world, run).data.tags["a2v.start_heard"] == "unknown"


def test_a_start_that_does_not_fit_is_told(world: World, tmp_path: Path, csv_source: Path) -> None:
    folder = world.fetch(world.runs("finetune")[0], "model")
    said = world.call(*SETS, f"finetune.start={folder}", "model.encoder.mlp_ratio=3")
    assert said.code == 2 and said.only_line() == (
        f"finetune.start: {folder}: its model has encoder.mlp_ratio = 2.0, the recipe model.encoder.mlp_ratio = 3.0;"
        " they must be equal"
    )
    said = world.call(*SETS, f"finetune.start={folder}", "finetune.head=temporal")
    assert said.code == 2 and "its model has head = linear, the recipe finetune.head = temporal" in said.only_line()
    said = world.call(*SETS, "finetune.start=nowhere")
    assert said.code == 2 and said.only_line().startswith("finetune.start: nowhere: no such folder")
    other = tmp_path / "other"
    shutil.copytree(csv_source / "audio", other / "audio")
    with (csv_source / "annotations.csv").open(newline="") as file, (other / "annotations.csv").open("w") as to:
        for row in csv.reader(file):
            to.write(",".join(row).replace(",sn", ",x").replace(",cc", ",y") + "\n")
    said = world.call(*SETS, f"data.source={other}", f"finetune.start={folder}", "variant=none")
    assert said.code == 2 and "it knows none of the classes (x, y), but sn, cc; name it as backbone" in said.err


def folds_of(world: World, run: Run) -> Run:
    mark = run.data.tags["a2v.input.folds"]
    return next(one for one in world.runs("folds") if one.data.tags["a2v.fingerprint"] == mark)
