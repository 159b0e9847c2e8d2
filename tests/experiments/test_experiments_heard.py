"""What a pretraining hears of the recordings that scores are about; folds that are given as manifests."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter
from a2v_data.folds import Fold, Folds, label_share, shuffle_folds
from a2v_data.manifests import parse_manifest, write_manifests
from a2v_data.storage import written_aside
from a2v_experiments.basics.errors import UserError
from a2v_experiments.stages import splits
from a2v_experiments.stages.heard import heard_by
from a2v_experiments.stages.mixture import told
from experiments_runs import World
from experiments_world import RECORDINGS, call_quietly, make_recipe, recipe_tree, write_recipe

NAMES = [f"rec{number:02d}.wav" for number in range(RECORDINGS)]


@pytest.fixture(scope="module")
def world(tmp_path_factory, empty_database, csv_source) -> World:
    """A work folder in which each of two folds was pretrained for itself."""
    folder = tmp_path_factory.mktemp("heard")
    work = folder / "work"
    work.mkdir()
    shutil.copy(empty_database, work / "mlflow.db")
    recipe = write_recipe(folder / "small.yaml", recipe_tree(data__source=str(csv_source), pretrain__hears="train"))
    planned = call_quietly("experiment", "plan", recipe, "--work", work, "--no-measure", "--json")
    names = [stage["name"] for stage in json.loads(planned.out)["stages"]]
    assert names == ["data", "folds", "pretrain fold 0", "finetune fold 0", "pretrain fold 1", "finetune fold 1"]
    first = call_quietly("experiment", "run", recipe, "--work", work)
    assert first.code == 0, first.err
    return World(work, recipe, first)


def heard(world, run):
    return list(json.loads(world.fetch(run, "heard.json").read_text())["recordings"])


def test_each_fold_is_pretrained_without_its_evaluation_recordings(world):
    folds = world.runs("folds")[0]
    pretrained = world.runs("pretrain")
    finetuned = sorted(world.runs("finetune"), key=lambda run: run.data.tags["fold"])
    assert len(pretrained) == len(finetuned) == 2
    for number, (before, after) in enumerate(zip(pretrained, finetuned, strict=True)):
        assert set(heard(world, before)) == set(NAMES) - world.manifest(folds, f"valid_{number}.tsv")
        assert after.data.tags["a2v.input_run.pretrain"] == before.info.run_id
    said = "each fold's pretraining heard none of its evaluation recordings"
    assert said in world.first.out
    (parent,) = world.runs("experiment")
    assert said in world.fetch(parent, "scores.txt").read_text()


def test_the_plan_finds_the_pretrainings_of_the_folds(world):
    found = json.loads(call_quietly("experiment", "plan", world.recipe, "--work", world.work, "--json").out)
    assert {stage["state"] for stage in found["stages"]} == {"reused"} and found["finished_run"]


def test_a_hold_out_reuses_no_pretraining_that_heard_it(world):
    """Fold 0's pretraining left rec00, ... of its own out, so it serves a hold-out of just these and no other."""
    folds = world.runs("folds")[0]
    held = sorted(world.manifest(folds, "valid_0.tsv"))
    sets = ("pretrain.hears=all", "folds.run=null")
    same = world.call(*sets, f"folds.holdout='{'|'.join(held)}'")
    assert same.code == 0, same.err
    assert f"pretrain: reused, run {world.runs('pretrain')[0].info.run_id}" in same.out
    assert f"no pretraining heard any of the {len(held)} recordings that are held out" in same.out
    before = len(world.runs("pretrain"))
    other = world.call(*sets, "folds.holdout='rec00|rec11'")
    assert other.code == 0, other.err
    assert len(world.runs("pretrain")) == before + 1
    assert heard(world, world.runs("pretrain")[-1]) == NAMES[1:-1]
    assert "not heard in pretraining: 2 recordings" in other.out


def test_a_backbone_that_heard_the_hold_out_is_refused(world):
    """Fold 0's pretraining did not hear its evaluation recordings, and heard all others."""
    folds = world.runs("folds")[0]
    held = sorted(world.manifest(folds, "valid_0.tsv"))
    run = world.runs("pretrain")[0].info.run_id
    sets = ("pretrain=null", f"backbone=runs:/{run}", "folds.run=null")
    train = sorted(set(NAMES) - set(held))
    refused = world.call(*sets, f"folds.holdout='{train[0]}|{held[0]}'")
    assert refused.code == 2
    assert f"it heard 1 of the 2 recordings that are held out, or of the group of one ({train[0]})" in refused.err
    kept = world.call(*sets, f"folds.holdout='{'|'.join(held)}'")
    assert kept.code == 0, kept.err
    assert f"the backbone has heard none of the {len(held)} evaluation recordings" in kept.out
    # a detector that was finetuned from it has heard more: the recordings that it was trained on
    fine = sorted(world.runs("finetune"), key=lambda one: one.info.start_time)[0]
    assert fine.data.tags["a2v.input_run.pretrain"] == run and fine.data.tags["fold"] == "0"
    refused = world.call(
        "pretrain=null", f"backbone=runs:/{fine.info.run_id}", "folds.run=null", f"folds.holdout='{train[0]}'"
    )
    assert refused.code == 2 and "it heard 1 of the 1 recordings that are held out" in refused.err
    # one that heard no held out recording, but another of its group
    grouped = world.call(*sets, "folds.group='rec[0-9]([0-9])[.]wav$'", "folds.holdout='^1$'")
    assert grouped.code == (2 if set(train) & {"rec01.wav", "rec11.wav"} else 0)


def test_folds_and_subsets_that_are_given(world, csv_source, tmp_path):
    """The recordings of the manifests and no others, with another seed than theirs; pretrain.tsv too."""
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    folds = shuffle_folds(corpus, 2, 0.25, 5)
    folds = Folds(folds.folds, pretrain=tuple(NAMES[:-1]))
    write_manifests(folds, corpus, tmp_path, [0.5], 6)
    sets = ["pretrain.hears=all", "folds.count=2", "folds.run=null", f"folds.manifests={tmp_path}"]
    done = world.call(*sets, "folds.label_shares=[0.5, 1.0]")
    assert done.code == 0, done.err
    tested = {name for fold in folds for name in fold.evaluation}
    both = len(tested & set(NAMES[:-1]))
    assert f"pretraining heard {both} of the {len(tested)} evaluation recordings, without their labels" in done.out
    run = world.runs("folds")[-1]
    for number, fold in enumerate(folds):
        assert world.manifest(run, f"valid_{number}.tsv") == set(fold.evaluation)
        few = set(label_share(fold, 0.5, 6).train)
        assert world.manifest(run, f"train_{number}_50.tsv") == few
        spec = make_recipe(tmp_path, sets, data__source=str(csv_source))
        again = splits.split(spec, corpus)
        assert set(label_share(again[number], 0.5, 0).train) == few
    assert heard(world, world.runs("pretrain")[-1]) == NAMES[:-1]
    mark = run.data.tags["a2v.fingerprint"]
    finetuned = [one.data for one in world.runs("finetune") if one.data.tags["a2v.input.folds"] == mark]
    sizes = {(one.tags["fold"], one.tags["label_share"]): one.metrics["labels/train/cc"] for one in finetuned}
    assert sizes == {(f"{n}", share): 2 * count for n in range(2) for share, count in (("0.5", 4), ("1", 9))}
    path = tmp_path / "train_0.tsv"  # another manifest is another experiment
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    planned = call_quietly(
        "experiment",
        "plan",
        world.recipe,
        "--work",
        world.work,
        "--no-measure",
        "--json",
        *(part for one in sets for part in ("--set", one)),
    )
    states = {stage["name"]: stage["state"] for stage in json.loads(planned.out)["stages"]}
    assert states["folds"] == "runs" and states["pretrain"] == "reused"


@pytest.mark.parametrize(
    "sets, said",
    [
        (["folds.count=3"], "has the folds 0, 1; folds.count = 3 must say so"),
        (["folds.count=2", "folds.label_shares=[0.1]"], "no subset with 10 % of .* those that it has: 50 %"),
        (["folds.count=2", "folds.holdout=0.2"], "no manifest train_lof.tsv of a hold-out, and its folds are 0, 1"),
    ],
)
def test_manifests_that_are_not_those_of_the_recipe(world, csv_source, tmp_path, sets, said):
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    write_manifests(shuffle_folds(corpus, 2, 0.25, 5), corpus, tmp_path, [0.5])
    sets = [*sets, "folds.run=null", f"folds.manifests={tmp_path}"]
    with pytest.raises(UserError, match=said):
        splits.split(make_recipe(tmp_path, sets, data__source=str(csv_source)), corpus)


def test_folds_that_overlap_do_not_choose_one_anothers_thresholds(world, csv_source, tmp_path):
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    sets = ["folds.scheme=shuffle", "folds.run=null", "folds.count=5"]
    folds = splits.split(make_recipe(tmp_path, sets, data__source=str(csv_source)), corpus)
    assert folds.overlap
    with pytest.raises(UserError, match=r"evaluated in several folds.*folds\.validation.*scheme: partition"):
        splits.split(
            make_recipe(
                tmp_path,
                [*sets, "evaluate.events.window_s=0.1", "evaluate.fit_events=true"],
                data__source=str(csv_source),
            ),
            corpus,
        )


def test_unlabelled_recordings_of_a_held_out_group_are_not_heard(world, csv_source, tmp_path):
    """Groups by the last digit: rec00 is held out, rec10 is of its group and in no fold; rec1 has no group's form."""
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    folds = Folds((Fold(0, NAMES[1:9], NAMES[:1]),))
    sets = ["folds.holdout=0.2", "folds.run=null", "folds.group='rec0?([0-9])[.]wav$'"]
    found = heard_by(make_recipe(tmp_path, sets, data__source=str(csv_source)), corpus, folds)
    assert found.names == NAMES[1:]  # rec10 and rec11 have no group by this expression
    assert "2 recordings are heard in pretraining in whose names folds.group finds no group" in found.notices
    sets[-1] = "folds.group='rec[0-9]([0-9])[.]wav$'"
    found = heard_by(make_recipe(tmp_path, sets, data__source=str(csv_source)), corpus, folds)
    assert found.names == [name for name in NAMES if name not in ("rec00.wav", "rec10.wav")]


def test_pretraining_alone_leaves_out_what_is_held_out(world):
    done = world.call("finetune=null", "pretrain.hears=all", "folds.run=null", "folds.holdout='rec03'")
    assert done.code == 0, done.err
    assert heard(world, world.runs("pretrain")[-1]) == [name for name in NAMES if name != "rec03.wav"]
    refused = world.call("finetune=null")
    assert refused.code == 2 and "pretrain.hears = train" in refused.only_line()


def test_the_manifests_say_what_pretraining_hears_of_a_published_corpus(world, tmp_path):
    """A recipe without finetuning hears pretrain.tsv, so that a finetuning with the same manifests reuses it."""
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    write_manifests(Folds(shuffle_folds(corpus, 2, 0.25, 5).folds, pretrain=tuple(NAMES[2:])), corpus, tmp_path)
    assert len(parse_manifest(tmp_path / "pretrain.tsv")[1]) == RECORDINGS - 2
    sets = ["pretrain.hears=all", "folds.count=2", "folds.run=null", f"folds.manifests={tmp_path}"]
    assert world.call(*sets, "finetune=null").code == 0
    (before,) = [run for run in world.runs("pretrain") if heard(world, run) == NAMES[2:]]
    done = world.call(*sets)
    assert done.code == 0 and f"pretrain: reused, run {before.info.run_id}" in done.out


def test_what_a_recipe_cannot_take_is_refused_also_where_its_folds_are_there(world, tmp_path):
    """The stage of the folds is reused, and what an earlier recipe with the same folds could do this one may not."""
    sets = ["folds.scheme=shuffle", "folds.run=null", "folds.count=3", "folds.evaluation_share=0.5", "pretrain=null"]
    done = world.call(*sets)
    assert done.code == 0, done.err
    refused = world.call(*sets, "folds.refit=true")
    assert refused.code == 2 and "some recordings are evaluated in several folds" in refused.only_line()
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    write_manifests(shuffle_folds(corpus, 2, 0.25, 5), corpus, tmp_path, [0.5])
    sets = ["folds.count=2", "folds.run=null", f"folds.manifests={tmp_path}", "pretrain=null"]
    assert world.call(*sets, "folds.label_shares=[0.5]").code == 0
    refused = world.call(*sets, "folds.label_shares=[0.1]")
    assert refused.code == 2 and "no subset with 10 %" in refused.only_line()
    refused = world.call(*sets, "folds.group='(rec)'")
    assert refused.code == 2 and "trains on 'rec'" in refused.only_line()


def test_the_same_recordings_in_another_corpus_are_known_by_their_sound(world, csv_source, tmp_path):
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    with written_aside(tmp_path / "other") as folder:
        writer = CorpusWriter(folder, corpus.sample_rate, corpus.classes)
        for name in NAMES[:4]:  # rec00's sound is called sub/rec00, rec11 has another one's
            one = corpus.recordings[corpus.indices([name])[0]]
            sound_N = np.array(corpus.audio[one.offset : one.offset + one.n_samples])
            writer.add(f"sub/{name}", sound_N, False, one.source_rate, one.source_samples, 1.0)
        writer.add("rec11.wav", sound_N[::-1].copy(), False, one.source_rate, one.source_samples, 1.0)
        writer.finish(np.empty(0, EVENT_DTYPE), source={"audio_folder": "/other"}, problems=[], notices=[])
    other = Corpus.open(tmp_path / "other")
    corpora = {"data": corpus, "pretrain_data": other}
    sets = ["folds.holdout='rec0[01]|rec11'", "folds.run=null"]
    data = {"data__source": str(csv_source), "pretrain_data": recipe_tree()["data"] | {"source": "x"}}
    recipe = make_recipe(tmp_path, sets, **data)
    folds = splits.split(recipe, corpus)
    assert heard_by(recipe, other, folds, None, corpus).names == ["sub/rec02.wav", "sub/rec03.wav", "rec11.wav"]
    assert "heard any of the 3" in told(recipe, corpora, folds)
    recipe = make_recipe(tmp_path, ["folds.count=3", "folds.run=null"], **data)
    said = told(recipe, corpora, splits.split(recipe, corpus))
    assert "pretraining heard 4 of the 12 evaluation recordings" in said


def test_nothing_is_left_to_hear(world, csv_source, tmp_path):
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    sets = ["folds.holdout=0.2", "folds.run=null", "folds.group='(rec)'"]
    recipe = make_recipe(tmp_path, sets, data__source=str(csv_source))
    with pytest.raises(UserError, match=r"would hear nothing: all 12 recordings of data are evaluated"):
        heard_by(recipe, corpus, Folds((Fold(0, NAMES[1:], NAMES[:1]),)))


def test_manifests_that_part_a_group_are_refused(world, csv_source, tmp_path):
    (data,) = world.runs("prepare")
    corpus = Corpus.open(data.data.tags["a2v.corpus"])
    write_manifests(Folds((Fold(0, NAMES[2:], NAMES[:2]), Fold(1, NAMES[:2], NAMES[2:]))), corpus, tmp_path)
    sets = ["folds.count=2", "folds.run=null", f"folds.manifests={tmp_path}", "folds.group='rec([0-9])'"]
    with pytest.raises(UserError, match=r"fold 0 trains on '0' \(rec02.wav\) and evaluates it \(rec00.wav\)"):
        splits.split(make_recipe(tmp_path, sets, data__source=str(csv_source)), corpus)
    (tmp_path / "valid_1.tsv").write_text("/wav\n")
    with pytest.raises(UserError, match=r"folds\.manifests: .*valid_1\.tsv: lists no recording"):
        splits.split(make_recipe(tmp_path, sets[:-1], data__source=str(csv_source)), corpus)
    nowhere = [*sets[:2], "folds.manifests=/nowhere"]
    refused = world.call(*nowhere)
    assert refused.code == 2 and "folds.manifests: /nowhere: no such folder" in refused.only_line()
