"""`a2v experiment run`, whole: what it leaves in MLflow and what it reuses.

One small experiment is run once (fixture `world`); tests that call the command again share its work folder, each with
settings of its own.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest
from a2v_data.corpus import Corpus
from a2v_data.folds import Fold
from a2v_data.manifests import read_manifests
from a2v_eval import EvaluationConfig, EventConfig, evaluate
from a2v_experiments.inference import recording_likelihoods
from a2v_experiments.stages import stages
from a2v_experiments.stages.figures import FigureData
from a2v_experiments.training import loop
from a2v_experiments.training.spec import TrainingSpec
from a2v_model import Detector, Pretrainer, load_model
from experiments_world import RECORDINGS

STAGES = ["experiment", "prepare", "folds", "pretrain", "finetune", "finetune"]
NAMES = {f"rec{number:02d}.wav" for number in range(RECORDINGS)}


def test_one_parent_run_and_a_child_for_every_stage(first_runs):
    assert sorted(stage for stage, runs in first_runs.items() for _ in runs) == sorted(STAGES)
    assert all(run.info.status == "FINISHED" for runs in first_runs.values() for run in runs)
    assert "mlflow.parentRunId" not in first_runs["experiment"][0].data.tags
    assert [run.data.tags["fold"] for run in first_runs["finetune"]] == ["0", "1"]
    assert all(run.data.tags["label_share"] == "1" for run in first_runs["finetune"])
    assert all(run.data.tags["variant"] == "default" for runs in first_runs.values() for run in runs)


def test_every_run_says_what_it_was_made_with(world, first_runs):
    code = str(Path(loop.__file__).parent)
    in_git = (
        shutil.which("git") is not None and subprocess.run(["git", "-C", code, "rev-parse", "HEAD"]).returncode == 0
    )
    for runs in first_runs.values():
        for run in runs:
            assert re.fullmatch(r"[0-9a-f]{64}", run.data.tags["a2v.fingerprint"])
            assert bool(re.fullmatch(r"[0-9a-f]{40}", run.data.tags.get("mlflow.source.git.commit", ""))) == in_git
            assert run.data.tags.get("git.dirty") in (("true", "false") if in_git else (None,))
            assert {"config.json", "environment.json"} <= world.artifacts(run)
            environment = json.loads(world.fetch(run, "environment.json").read_text(encoding="utf-8"))
            assert {"a2v", "a2v-model", "torch", "ray", "mlflow"} <= environment["packages"].keys()
            assert environment["cpu_cores"] == os.cpu_count() and environment["memory_gib"] > 0
    fingerprints = [run.data.tags["a2v.fingerprint"] for runs in first_runs.values() for run in runs]
    assert len(set(fingerprints)) == len(fingerprints)


def test_parameters_are_the_resolved_configuration_of_the_stage(first_runs):
    pretrain = first_runs["pretrain"][0].data.params
    assert pretrain["pretrain.updates"] == "6" and pretrain["model.encoder.dim"] == "16"
    assert pretrain["pretrain.mask_noise"] == "0.01"  # a default that the recipe does not mention
    assert not any(key.startswith(("finetune.", "evaluate.", "ray.")) for key in pretrain)
    for fold, run in enumerate(first_runs["finetune"]):
        params = run.data.params
        assert (params["fold"], params["label_share"], params["finetune.layerdrop"]) == (str(fold), "1.0", "0.3")
        assert params["evaluate.iou_threshold"] == "0.3"
    parent = first_runs["experiment"][0].data.params
    assert parent["name"] == "tones" and parent["folds.count"] == "3"
    assert {key for key in pretrain if key.startswith("pretrain.")} <= parent.keys()


def test_training_metrics_stand_at_every_step_once(world, first_runs):
    for run in [*first_runs["pretrain"], *first_runs["finetune"]]:
        assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]
        metrics = run.data.metrics
        assert metrics["audio_seconds_per_second"] > 0 and metrics["gradient_norm"] > 0 and "learning_rate" in metrics
    assert any(key.startswith("system/") for key in first_runs["pretrain"][0].data.metrics)


def test_scores_have_the_same_names_in_every_fold_and_their_mean_and_spread_stand_in_the_parent(first_runs):
    folds = [run.data.metrics for run in first_runs["finetune"]]
    parent = first_runs["experiment"][0].data.metrics
    needed = ["AP/micro", "AP/macro", "AP/cc", "AP/sn", "strict/AP/micro", "strict/AP/cc", "energy/AP/micro"]
    for name in needed:
        values = [fold[name] for fold in folds]
        assert all(0 <= value <= 1 for value in values)
        assert parent[f"{name}_mean"] == pytest.approx(statistics.mean(values))
        assert parent[f"{name}_std"] == pytest.approx(statistics.stdev(values))


def test_sample_sizes_and_scores_whatever_the_class_are_metrics_too(world, first_runs, corpus):
    for fold, run in enumerate(first_runs["finetune"]):
        metrics = run.data.metrics
        for part, manifest in (("train", f"train_{fold}.tsv"), ("evaluation", f"valid_{fold}.tsv")):
            names = world.manifest(world.runs("folds")[0], manifest)
            held = [corpus.labels(i) for i, r in enumerate(corpus.recordings) if r.name in names]
            for c, name in enumerate(corpus.classes):
                assert metrics[f"labels/{part}/{name}"] == sum((labels["class"] == c).sum() for labels in held)
        found, predicted, labelled = (metrics[f"strict/{of}/micro"] for of in ("found", "predicted", "labelled"))
        assert labelled == sum(metrics[f"labels/evaluation/{name}"] for name in corpus.classes)
        assert found <= min(predicted, labelled) and found == pytest.approx(metrics["strict/recall/micro"] * labelled)
        assert {"any_class/AP", "any_class/strict/recall", "timestep/recall", "strict/mAP/micro"} <= metrics.keys()
        record = json.loads(world.fetch(run, "evaluation.json").read_text(encoding="utf-8"))
        assert record["timesteps"]["recall"] == metrics["timestep/recall"]
        assert record["any_class"]["AP strict"] == metrics["any_class/strict/AP"]


def test_artifacts(world, first_runs):
    figures = {"precision_recall_paper.png", "precision_recall_strict.png", "confusion.png", "f1_threshold.png"}
    numbers = {"confusion.csv", "thresholds.json"}
    assert {"statistics.json"} <= world.artifacts(first_runs["prepare"][0])
    assert {"manifest"} <= world.artifacts(first_runs["folds"][0])
    for run in first_runs["finetune"]:
        own = {"evaluation.json", "scores.csv", "confidence_intervals.csv", "example.png", "figure_data.json"}
        assert own | figures | numbers <= world.artifacts(run)
        model = load_model(world.fetch(run, "model"))
        assert isinstance(model, Detector) and list(model.classes) == ["sn", "cc"]
    parent = first_runs["experiment"][0]
    assert {"scores.txt", "scores.csv", "ap_per_class_paper.png", "ap_per_class_strict.png"} <= world.artifacts(parent)
    assert figures | numbers <= world.artifacts(parent)
    assert {"model_against_energy.txt", "model_against_energy.csv"} <= world.artifacts(parent)
    assert "label_shares.txt" not in world.artifacts(parent)  # there is one share
    assert isinstance(load_model(world.fetch(first_runs["pretrain"][0], "model")), Pretrainer)
    for run in (parent, *first_runs["finetune"]):
        for name in world.artifacts(run):
            path = world.fetch(run, name)
            if name.endswith(".png"):
                assert path.read_bytes().startswith(b"\x89PNG")
            elif name.endswith(".json"):
                json.loads(path.read_text(encoding="utf-8"))
            elif name == "confusion.csv":
                rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
                assert rows[0] == ["class", "sn", "cc", "missed"]
                assert [row[0] for row in rows[1:]] == ["sn", "cc", "false"]
            elif name.endswith(".csv"):
                rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
                of = {row["class"] if "class" in row else row["metric"].rpartition("/")[2] for row in rows}
                assert {"sn", "cc", "micro", "macro"} <= of and None not in rows[0]


def test_thresholds_are_chosen_on_the_evaluation_recordings_and_stand_in_the_model(world, first_runs):
    """At the chosen thresholds the model's F1 on its fold is what `thresholds.json` says, and nowhere higher. After so
    few updates only a low IoU finds anything."""
    assert world.call("evaluate.iou_threshold=0.02", "finetune.updates=7", "folds.run=[1]", "variant=loose").code == 0
    (run,) = [run for run in world.runs("finetune") if run.data.tags["variant"] == "loose"]
    chosen = json.loads(world.fetch(run, "thresholds.json").read_text(encoding="utf-8"))
    model = load_model(world.fetch(run, "model"))
    assert model.thresholds and model.thresholds == chosen["thresholds"]
    assert model.thresholds_from == chosen["thresholds_from"]
    assert (model.thresholds_from["window_s"], model.thresholds_from["iou_threshold"]) == (0.03, 0.02)
    assert "4 evaluation recordings of fold 1" in model.thresholds_from["recordings"]

    data = first_runs["prepare"][0].data.tags["a2v.corpus"]
    corpus = Corpus.open(data)
    folds = read_manifests(world.fetch(first_runs["folds"][0], "manifest"), corpus)
    recordings = corpus.indices(folds[1].evaluation)
    pairs = [
        (likelihood, corpus.labels(recording))
        for recording, likelihood in recording_likelihoods(model, corpus, recordings, 1.0, 0.3, precision="float32")
    ]
    for name, threshold in model.thresholds.items():
        f1 = {}
        for tried in (threshold, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5):
            config = EvaluationConfig(events=EventConfig(window_s=0.03, threshold=tried), iou_threshold=0.02)
            f1[tried] = evaluate(pairs, corpus.classes, 100, config).strict.per_class[name].f1
        assert f1[threshold] == max(f1.values()) > 0
        assert model.thresholds_from["F1"][name] == pytest.approx(f1[threshold], abs=1e-4)
    assert model.thresholds_from["labels"] == {"sn": 8, "cc": 8}


def test_figures_over_folds_show_the_folds_together(world, first_runs):
    folds = [
        FigureData.from_plain(json.loads(world.fetch(run, "figure_data.json").read_text(encoding="utf-8")))
        for run in first_runs["finetune"]
    ]
    for fold, run in zip(folds, first_runs["finetune"], strict=True):
        assert fold.classes == ("sn", "cc")
        for prefix, protocol in (("", "paper"), ("strict/", "strict")):
            for name in ("sn", "cc", "micro"):
                assert fold.curves["model"][protocol][name].ap == pytest.approx(run.data.metrics[f"{prefix}AP/{name}"])
                energy = fold.curves["energy"][protocol][name].ap
                assert energy == pytest.approx(run.data.metrics[f"energy/{prefix}AP/{name}"])
        assert fold.confusion[:2].sum() == fold.thresholds.labelled.sum() == 16  # 4 recordings of 4 calls
    parent = first_runs["experiment"][0]
    rows = list(csv.reader(world.fetch(parent, "confusion.csv").read_text(encoding="utf-8").splitlines()))
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == (folds[0].confusion + folds[1].confusion).tolist()
    both = json.loads(world.fetch(parent, "thresholds.json").read_text(encoding="utf-8"))
    assert both["thresholds"] == (folds[0].thresholds + folds[1].thresholds).best()


def test_no_recording_is_in_train_and_evaluation_of_a_fold(world, first_runs):
    run = first_runs["folds"][0]
    evaluated: list[str] = []
    for fold in range(3):
        train, evaluation = world.manifest(run, f"train_{fold}.tsv"), world.manifest(run, f"valid_{fold}.tsv")
        assert not train & evaluation and train | evaluation == NAMES
        evaluated += evaluation
    assert sorted(evaluated) == sorted(NAMES)


def test_every_run_names_the_runs_and_the_data_that_it_came_from(first_runs):
    data, folds, pretrain = (first_runs[stage][0] for stage in ("prepare", "folds", "pretrain"))
    for run in first_runs["finetune"]:
        for name, source in (("data", data), ("folds", folds), ("pretrain", pretrain)):
            assert run.data.tags[f"a2v.input_run.{name}"] == source.info.run_id
            assert run.data.tags[f"a2v.input.{name}"] == source.data.tags["a2v.fingerprint"]
    assert folds.data.tags["a2v.input_run.data"] == data.info.run_id
    assert data.data.tags["a2v.input.source"] and pretrain.data.tags["a2v.input.audio"]


def test_the_work_folder_keeps_one_corpus_and_no_checkpoints(world):
    corpora = [path for path in (world.work / "corpora").iterdir()]
    assert [path for path in corpora if path.name.startswith(".")] == [] and (corpora[0] / "corpus.json").is_file()
    assert [path for path in (world.work / "checkpoints").rglob("*") if path.is_file()] == []


def test_the_command_ends_with_table_store_and_how_to_look_at_it(world):
    out = world.first.out
    rows = [line.split()[0] for line in out.splitlines() if line.split()[:1] in (["cc"], ["sn"], ["micro"], ["macro"])]
    assert sorted(rows) == ["cc", "macro", "micro", "sn"] and " ± " in out
    assert f"tracking store: sqlite:///{world.work}/mlflow.db" in out
    assert "in MLflow, while `" in out and f"a2v ui --work {world.work}` runs:" in out
    assert f"/runs/{world.first_runs()['experiment'][0].info.run_id}?workflowType=machine_learning" in out
    assert "synthetic" not in out


def test_a_second_call_reuses_every_stage_and_says_the_same(world, first_runs):
    before = {run.info.run_id: (run.info.end_time, run.data.tags, run.data.metrics) for run in world.runs()}
    again = world.call()
    assert again.code == 0, again.err
    assert {run.info.run_id: (run.info.end_time, run.data.tags, run.data.metrics) for run in world.runs()} == before
    said = ["summary", "data", "folds", "pretrain", "finetune fold 0"]
    for name, stage in zip(said, dict.fromkeys(STAGES), strict=True):
        assert f"{name}: reused, run {first_runs[stage][0].info.run_id}" in again.out
    assert (
        again.out[again.out.index("100% of the labels") :]
        == world.first.out[world.first.out.index("100% of the labels") :]
    )


def test_how_it_runs_and_logs_is_not_part_of_what_it_is(world):
    before = {run.info.run_id for run in world.runs() if run.data.tags["a2v.stage"] != "experiment"}
    said = world.call("ray.max_failures=1", "finetune.log_every=3", "pretrain.checkpoint_every=5")
    assert said.code == 0, said.err
    assert {run.info.run_id for run in world.runs() if run.data.tags["a2v.stage"] != "experiment"} == before


def test_another_evaluation_reuses_the_training(world, first_runs):
    before = {run.info.run_id for run in world.runs()}
    said = world.call("evaluate.iou_threshold=0.9", "variant=stern")
    assert said.code == 0, said.err
    new = [run for run in world.runs() if run.info.run_id not in before]
    assert sorted(run.data.tags["a2v.stage"] for run in new) == ["experiment", "finetune", "finetune"]
    assert all(run.info.status == "FINISHED" and run.data.tags["variant"] == "stern" for run in new)
    for run in (run for run in new if run.data.tags["a2v.stage"] == "finetune"):
        trained = first_runs["finetune"][int(run.data.tags["fold"])]
        assert run.data.tags["a2v.input_run.model"] == trained.info.run_id and "model" not in world.artifacts(run)
        assert world.losses(run) == []
        assert load_model(world.fetch(trained, "model")).thresholds_from["iou_threshold"] == 0.3  # it stays as it was
        own = json.loads(world.fetch(run, "thresholds.json").read_text(encoding="utf-8"))
        assert own["thresholds_from"]["iou_threshold"] == 0.9
        # The IoU threshold is the strict protocol's: what `paper` says of the same model is the same.
        paper = {
            key: value for key, value in trained.data.metrics.items() if re.match(r"(AP|F1|precision|recall)/", key)
        }
        assert paper and paper.items() <= run.data.metrics.items()
        assert run.data.metrics["strict/AP/micro"] <= trained.data.metrics["strict/AP/micro"]


def test_variants_that_differ_in_finetuning_share_the_pretraining(world, first_runs):
    pretrained = len(world.runs("pretrain"))  # those of tests that share the work folder among them
    said = world.call("finetune.updates=4", "variant=short", "folds.run=[0]")
    assert said.code == 0, said.err
    assert f"pretrain: reused, run {first_runs['pretrain'][0].info.run_id}" in said.out
    short = [run for run in world.runs("finetune") if run.data.tags["variant"] == "short"]
    assert len(short) == 1 and len(world.losses(short[0])) == 4 and len(world.runs("pretrain")) == pretrained
    (parent,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "short"]
    assert parent.data.metrics["AP/micro_mean"] == short[0].data.metrics["AP/micro"]
    assert not any(key.endswith("_std") for key in parent.data.metrics)  # one fold has no spread


def test_fewer_labels_train_on_a_part_of_the_recordings_and_share_everything_else(world, first_runs, monkeypatch):
    trained: list[TrainingSpec] = []
    evaluated: list[Fold] = []
    train, evaluate = stages.run_training, stages.evaluate_model
    monkeypatch.setattr(stages, "run_training", lambda spec, *rest: trained.append(spec) or train(spec, *rest))
    monkeypatch.setattr(stages, "evaluate_model", lambda *rest: evaluated.append(rest[4]) or evaluate(*rest))
    said = world.call("folds.label_shares=[0.5, 1.0]", "folds.run=[1]", "variant=few")
    assert said.code == 0, said.err
    assert f": reused, run {first_runs['finetune'][1].info.run_id}" in said.out  # all the labels: known already
    folds = world.runs("folds")[0]
    assert len(trained) == 1 and set(trained[0].recordings) < world.manifest(folds, "train_1.tsv")
    assert len(trained[0].recordings) == 4 and set(evaluated[0].evaluation) == world.manifest(folds, "valid_1.tsv")

    (few,) = [run for run in world.runs("finetune") if run.data.tags["variant"] == "few"]
    (parent,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "few"]
    for share, run in (("0.5", few), ("1", first_runs["finetune"][1])):
        assert run.data.tags["label_share"] == share
        assert parent.data.metrics[f"labels_{share}/AP/micro_mean"] == run.data.metrics["AP/micro"]
    assert {"precision_recall_shares_strict.png", "labels_0.5", "labels_1"} <= world.artifacts(parent)
    assert {"labels_0.5/confusion.png"} <= {
        item.path for item in world.store.client.list_artifacts(parent.info.run_id, "labels_0.5")
    }
    assert "50% of the labels" in said.out and "100% of the labels" in said.out
    # and the two shares side by side, with what there was to learn from
    assert "50 % of labels" in said.out and "strict protocol, mean" in said.out
    rows = json.loads(world.fetch(parent, "label_shares.json").read_text(encoding="utf-8"))
    for share, run in ((0.5, few), (1.0, first_runs["finetune"][1])):
        (row,) = [r for r in rows if (r["protocol"], r["class"], r["label_share"]) == ("strict", "cc", share)]
        assert row["AP_mean"] == run.data.metrics["strict/AP/cc"] and row["folds"] == 1
        assert row["train_labels"] == run.data.metrics["labels/train/cc"]
    assert {"label_shares.txt", "label_shares.csv"} <= world.artifacts(parent)


def test_folds_that_an_earlier_a2v_evaluated_have_no_figures_together_and_it_says_so(world, first_runs):
    """Another summary of the same folds, one of them without the numbers behind its figures."""
    path = world.fetch(first_runs["finetune"][0], "figure_data.json")
    content = path.read_text(encoding="utf-8")
    path.unlink()
    try:
        said = world.call("folds.run=[0, 1]", "finetune.log_every=2", "variant=old")
    finally:
        path.write_text(content, encoding="utf-8")
    assert said.code == 0, said.err
    run_id = first_runs["finetune"][0].info.run_id
    assert f"no figures over folds: run {run_id} has no figure_data.json" in said.out
    (parent,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "old"]
    assert "ap_per_class_strict.png" in world.artifacts(parent) and "confusion.png" not in world.artifacts(parent)


def test_recordings_of_a_group_stay_together(world):
    """Groups by the last digit: rec00 and rec10, rec01 and rec11; the other eight are alone."""
    settings = ("folds.run=[0]", "finetune.updates=1", "variant=groups")
    said = world.call("folds.group=^rec[0-9]([0-9])", *settings)
    assert said.code == 0, said.err
    (run,) = [run for run in world.runs("folds") if run.data.tags["variant"] == "groups"]
    for fold in range(3):
        train, evaluation = world.manifest(run, f"train_{fold}.tsv"), world.manifest(run, f"valid_{fold}.tsv")
        assert not {name[4] for name in train} & {name[4] for name in evaluation} and train | evaluation == NAMES
    said = world.call("folds.group=^(bird)", *settings)
    told = "folds.group: '^(bird)' does not match the recording rec00.wav; it must match every name"
    assert said.code == 2 and said.only_line().startswith(told)


def test_a_hold_out_is_fold_0(world):
    """Named recordings are evaluated, all others trained on, in one finetuning."""
    settings = ("folds.run=null", "finetune.updates=1", "variant=holdout")
    said = world.call("folds.holdout=^rec0[1-3]", *settings)
    assert said.code == 0, said.err
    (run,) = [run for run in world.runs("folds") if run.data.tags["variant"] == "holdout"]
    held = {f"rec0{number}.wav" for number in (1, 2, 3)}
    assert world.manifest(run, "valid_0.tsv") == held and world.manifest(run, "train_0.tsv") == NAMES - held
    (trained,) = [run for run in world.runs("finetune") if run.data.tags["variant"] == "holdout"]
    assert trained.data.tags["fold"] == "0"
    said = world.call("folds.holdout=^bird", *settings)
    assert said.code == 2 and said.only_line().startswith("folds.holdout: '^bird' is found in none of 12 groups")


def test_without_pretraining_it_starts_from_random_weights(world):
    pretrained = len(world.runs("pretrain"))
    said = world.call("pretrain=null", "folds.run=[0]", "variant=scratch")
    assert said.code == 0, said.err
    scratch = [run for run in world.runs("finetune") if run.data.tags["variant"] == "scratch"]
    assert len(scratch) == 1 and len(world.runs("pretrain")) == pretrained
    assert not any(line.startswith("pretrain") for line in said.out.splitlines())
    usual = [
        run for run in world.runs("finetune") if run.data.tags["variant"] == "default" and run.data.tags["fold"] == "0"
    ]
    assert world.losses(scratch[0])[0][0] == 1 and world.losses(scratch[0]) != world.losses(usual[0])


def test_the_same_recordings_in_meerkats_form_give_the_same_scores(world, first_runs, meerkat_source):
    said = world.call(f"data.source={meerkat_source}", "variant=meerkat")
    assert said.code == 0, said.err
    runs = [run for run in world.runs("finetune") if run.data.tags["variant"] == "meerkat"]
    for run, usual in zip(sorted(runs, key=lambda run: run.data.tags["fold"]), first_runs["finetune"], strict=True):
        assert world.losses(run) == world.losses(usual)
        scores = {key: value for key, value in usual.data.metrics.items() if "AP/" in key}
        assert scores and scores.items() <= run.data.metrics.items()


def test_changed_recordings_are_another_experiment(world, csv_source, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(csv_source, changed)
    rows = (changed / "annotations.csv").read_text(encoding="utf-8").splitlines()
    (changed / "annotations.csv").write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    before = len(world.runs("prepare"))
    said = world.call(f"data.source={changed}", "folds.run=[0]", "finetune.updates=1", "variant=changed")
    assert said.code == 0, said.err
    assert len(world.runs("prepare")) == before + 1
    assert "pretrain: reused" in said.out  # a label that changes is nothing to pretraining
