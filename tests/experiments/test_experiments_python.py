"""`a2v` as notebooks use it: what its tables say is what MLflow has, and what is wrong is one line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import mlflow
import numpy as np
import pytest
import soundfile
from a2v import Experiment, Recipe, UserError, load_corpus, predict
from a2v.scores import Scored, meant, scores_table, summary_table
from a2v_experiments.stages import stages
from a2v_experiments.store.database import default_uri
from experiments_world import RATE, calls, recipe_tree, waveform, write_recipe
from mlflow import MlflowClient


def one_line(call, *arguments, **named):
    with pytest.raises(UserError) as refused:
        call(*arguments, **named)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_stage_is_forced_by_name(world, first_runs, small):
    told = one_line(small.run, None, force=["evaluation"])
    assert "evaluation: no such stage; one of prepare, folds, pretrain, finetune, evaluate, refit" in told


@pytest.fixture
def small(world):
    """The small experiment, which was run by the command line."""
    return Experiment(Recipe.load(world.recipe), world.work)


def test_scores_are_those_of_the_runs_in_mlflow(world, first_runs, small):
    said = []
    before = mlflow.get_tracking_uri()
    result = small.run(said.append)
    parent = first_runs["experiment"][0]
    assert result.run_id == small.run_id == parent.info.run_id and "\nmacro " in repr(result)
    assert any("summary: reused" in line for line in said)
    assert mlflow.get_tracking_uri() == before  # what else a notebook does with MLflow goes where it went

    scores = small.scores()
    assert list(scores) == ["label_share", "fold", "class", "protocol", "metric", "value"]  # neither trials nor seeds
    told = scores.set_index(["fold", "class", "protocol", "metric"])["value"].to_dict()
    for run in first_runs["finetune"]:
        fold, metrics = int(run.data.tags["fold"]), run.data.metrics
        assert told[fold, "cc", "strict", "AP"] == metrics["strict/AP/cc"]
        assert told[fold, "micro", "paper", "AP"] == metrics["AP/micro"]
        assert told[fold, "", "strict", "any_class/AP"] == metrics["any_class/strict/AP"]
        assert told[fold, "macro", "paper", "energy/AP"] == metrics["energy/AP/macro"]
        assert told[fold, "", "", "timestep/F1"] == metrics["timestep/F1"]
        assert told[fold, "sn", "", "labels/train"] == metrics["labels/train/sn"]
        of_scores = [name for name, value in metrics.items() if "/" in name and not name.startswith("system/")]
        assert sum(key[0] == fold for key in told) == len(of_scores)

    row = small.summary().query("`class` == 'micro' and protocol == 'strict' and metric == 'AP'").iloc[0]
    means = world.store.run(parent.info.run_id).data.metrics
    assert (row["mean"], row["std_folds"]) == (means["strict/AP/micro_mean"], means["strict/AP/micro_std"])
    assert np.isnan(row["std_seeds"]) and row["folds"] == 2


def test_a_plan_is_a_table_and_says_what_is_there(small, first_runs):
    plan = small.plan(measure=False)
    assert set(plan["state"]) == {"reused"} and plan["updates"].sum() == 0
    assert list(plan["stage"]) == ["prepare", "folds", "pretrain", "finetune", "finetune"]
    more = Experiment(small.recipe.changed({"finetune.updates": 9, "folds.run": [1]}), small.work).plan(measure=False)
    assert list(more["state"]) == ["reused", "reused", "reused", "runs"] and more["updates"].sum() == 9
    new = Experiment(small.recipe, small.work.parent / "not-there").plan()
    assert set(new["state"]) == {"runs"} and new["seconds"].sum() > 0
    assert not (small.work.parent / "not-there").exists()


def test_what_was_run_is_opened_again(world, first_runs, small, tmp_path):
    small.run(None)
    parent = first_runs["experiment"][0].info.run_id
    finished = [run.info.run_id for run in world.runs("experiment") if run.info.status == "FINISHED"]
    assert Experiment.open("tones", world.work).run_id == finished[-1]  # other tests may have run variants
    again = Experiment.open(parent[:12], world.work)
    assert again.run_id == parent and again.scores().equals(small.scores())
    assert again.recipe.resolved == small.recipe.resolved and again.run(None).run_id == parent
    assert "no experiment of that name" in one_line(Experiment.open, "toness", world.work)
    assert f"open that, run {parent}" in one_line(Experiment.open, first_runs["finetune"][0].info.run_id, world.work)
    assert "run a recipe first" in one_line(Experiment.open, "tones", tmp_path)
    assert "not run yet" in one_line(Experiment(small.recipe, world.work).scores)
    assert "has no sweep" in one_line(again.trials)


def test_models_and_events_of_a_fold(world, first_runs, small):
    small.run(None)
    model = small.model(fold=1)
    held_out = world.manifest(first_runs["folds"][0], "valid_1.tsv")
    found = small.events(fold=1, threshold=0.01, all_classes=True)
    assert set(found["recording"]) <= held_out and list(found)[:4] == ["recording", "onset_s", "offset_s", "label"]
    name = found["recording"].iloc[0]
    sound = small.corpus().waveform(name)
    alone = predict(sound, model, RATE, threshold=0.01, all_classes=True)
    assert alone["onset_s"].tolist() == found.loc[found["recording"] == name, "onset_s"].tolist()
    first, second = small.model(), small.model(fold=0)
    assert all(map(np.array_equal, *([p.detach().numpy() for p in one.parameters()] for one in (first, second))))
    assert "fold=2: is not there; there are 0, 1" in one_line(small.model, fold=2)
    assert "seed=0: is not there; it has no seeds" in one_line(small.model, seed=0)
    assert "has no sweep" in one_line(small.model, trial="a")


def test_a_corpus_has_its_labels_and_sounds(csv_source, world, small, tmp_path):
    corpus = load_corpus(csv_source, RATE, tmp_path / "work", labelled="all", focal_class=False)
    with (csv_source / "annotations.csv").open(encoding="utf-8") as file:
        rows = [
            (row["file"], float(row["onset_s"]), float(row["offset_s"]), row["label"]) for row in csv.DictReader(file)
        ]
    assert sorted(corpus.labels.itertuples(index=False, name=None)) == sorted(rows)
    table = corpus.recordings.set_index("recording")
    samples, _ = soundfile.read(csv_source / "audio" / "rec03.wav", dtype="float32")
    assert table.loc["rec03.wav", "duration_s"] == len(samples) / RATE and table["events"].sum() == len(rows)
    assert np.array_equal(corpus.waveform("rec03.wav", 0.5, 1.0), samples[RATE // 2 : RATE])
    assert len(waveform(3)) == len(corpus.waveform("rec03.wav")) and len(calls(3)) == table.loc["rec03.wav", "events"]

    again = load_corpus(corpus.packed.folder)  # as it is packed
    assert again.labels.equals(corpus.labels)
    assert small.corpus().packed.folder.name == corpus.packed.folder.name  # an experiment takes it from there
    assert "expected times from 0 to" in one_line(corpus.waveform, "rec03.wav", 2.0, 1.0)
    assert "no recording 'rec99.wav'" in one_line(corpus.waveform, "rec99.wav")
    assert "say sample_rate=" in one_line(load_corpus, csv_source)
    assert "no such folder" in one_line(load_corpus, tmp_path / "none", RATE)
    assert "labeled: unknown key; did you mean 'labelled'?" in one_line(load_corpus, csv_source, RATE, labeled="all")
    assert "is packed already" in one_line(load_corpus, corpus.packed.folder, RATE)


def test_changes_are_those_of_a_recipe_that_extends(tmp_path):
    base = Recipe.load("quickstart")
    changes = {"finetune.updates": 400, "seeds": [0, 1], "folds": {"count": 3}, "model.encoder": {"depth": 2}}
    recipe = base.changed(changes)
    file = {"extends": "quickstart", "finetune": {"updates": 400}, "seeds": [0, 1], "folds": {"count": 3}}
    written = write_recipe(tmp_path / "mine.yaml", {**file, "model": {"encoder": {"depth": 2}}})
    assert recipe.resolved == Recipe.load(written).resolved == Recipe.load("quickstart", changes).resolved
    assert Recipe.of({"extends": "quickstart", **changes}).resolved == recipe.resolved
    assert (recipe["finetune.updates"], recipe["folds.run"], base["finetune.updates"]) == (400, [0, 1], 600)
    assert recipe["finetune"]["validation"]["every"] == 300
    assert "\n  seeds: None -> [0, 1]" in repr(recipe) and "finetune.updates: 600 -> 400" in repr(recipe)
    assert "with" not in repr(base) and recipe.differences(base).set_index("key").loc["folds.count", "other"] == 5
    assert "\n  pretrain: {...} -> None" in repr(recipe.changed({"pretrain": None}))
    assert recipe.changed({"model": "small"})["model.encoder.dim"] != base["model.encoder.dim"]
    recipe.save(tmp_path / "saved.yaml")
    assert Recipe.load(tmp_path / "saved.yaml").resolved == recipe.resolved
    assert "exists already" in one_line(recipe.save, tmp_path / "saved.yaml")
    assert Recipe.load("quickstart", scale="tiny")["finetune.updates"] == 8


def test_a_wrong_key_is_one_line(small):
    told = one_line(Recipe.load, "quickstart", {"finetune.update": 3})
    assert told == "quickstart.yaml: finetune.update: unknown key; did you mean 'updates'?"
    assert "did you mean 'updates'?" in one_line(small.recipe.__getitem__, "finetune.update")
    assert "name has no keys" in one_line(small.recipe.__getitem__, "name.first")
    assert "no such recipe" in one_line(Experiment, "quickstrat")
    assert UserError("what\nwhere")._render_traceback_() == ["a2v: what", "a2v: where"]  # in a notebook


def test_names_of_metrics_are_taken_apart():
    assert meant("strict/AP/a/b") == ("a/b", "strict", "AP")  # a class may have a slash in its name
    assert meant("energy/strict/AP/micro") == ("micro", "strict", "energy/AP")
    assert meant("presence/mAP/macro") == ("macro", "", "presence/mAP")
    assert meant("labels/evaluation/F1") == ("F1", "", "labels/evaluation")
    assert meant("validation/strict/mAP/micro") == ("micro", "strict", "validation/mAP")
    assert meant("validation/loss") == ("", "", "validation/loss")


def test_deviations_over_folds_and_seeds_stand_apart():
    folds = {0: {1.0: {0: {"AP/cc": 0.2}, 1: {"AP/cc": 0.6}}}, 3: {1.0: {0: {"AP/cc": 0.4}, 1: {"AP/cc": 1.0}}}}
    scores = scores_table([Scored("a", folds), Scored("b", {0: {1.0: {0: {"AP/cc": 0.5}}}})])
    assert scores[["trial", "seed", "fold", "value"]].values.tolist() == [
        ["a", 0, 0, 0.2], ["a", 0, 1, 0.6], ["a", 3, 0, 0.4], ["a", 3, 1, 1.0], ["b", 0, 0, 0.5]
    ]  # fmt: skip
    first, second = summary_table([Scored("a", folds), Scored("b", {0: {1.0: {0: {"AP/cc": 0.5}}}})]).to_dict("records")
    assert (first["mean"], first["folds"], first["seeds"]) == (pytest.approx(0.55), 2, 2)
    assert first["std_folds"] == pytest.approx(np.std([0.3, 0.8], ddof=1))
    assert first["std_seeds"] == pytest.approx(np.std([0.4, 0.7], ddof=1))
    assert second["mean"] == 0.5 and np.isnan(second["std_folds"]) and np.isnan(second["std_seeds"])
    assert len(scores_table([])) == len(summary_table([Scored(None, {})])) == 0
    holes = {0: {1.0: {0: {"precision/cc": 0.2}, 1: {}}}, 3: {1.0: {0: {}, 1: {"precision/cc": 0.6}}}}
    (row,) = summary_table([Scored(None, holes)]).to_dict("records")  # each seed lacks it in one of the folds
    assert (row["mean"], row["folds"], row["seeds"]) == (pytest.approx(0.4), 2, 0) and np.isnan(row["std_seeds"])


def test_trials_of_a_sweep(new_work):
    """From the runs that a sweep leaves; training one takes Ray."""
    work = new_work()
    client = MlflowClient(default_uri(work))
    experiment = client.create_experiment("swept")

    def run(stage, parent=None, metrics=(), status="FINISHED", **tags):
        named = {"a2v.stage": stage, **({"mlflow.parentRunId": parent} if parent else {}), **tags}
        run_id = client.create_run(experiment, tags=named).info.run_id
        for name, value in dict(metrics).items():
            client.log_metric(run_id, name, value)
        client.set_terminated(run_id, status)
        return run_id

    parent = run("experiment", **{"a2v.sweep": "grid", "a2v.best_trial": "p=2"})
    ends = {1: (0.25, "KILLED", {"a2v.pruned": "true"}), 2: (0.5, "FINISHED", {}), 3: (None, "FAILED", {})}
    for value, (score, status, more) in ends.items():
        fold = run("finetune", metrics={"strict/mAP/micro": score or 0.0}, **{"fold": "0"})
        done = {} if score is None else {"a2v.finetune_runs": json.dumps({"1": {0: fold}})}
        tags = {"trial": f"p={value}", "a2v.parameters": json.dumps({"p": value}), "a2v.folds": "1", **done, **more}
        run("trial", parent, {} if score is None else {"strict/mAP/micro_mean": score}, status, **tags)
    swept = Experiment.open("swept", work)
    assert "opened without its recipe" in one_line(swept.plan)
    trials = swept.trials()
    assert trials.attrs["metric"] == "strict/mAP/micro"
    assert trials[["trial", "p", "status"]].values.tolist() == [
        ["p=1", 1, "pruned"], ["p=2", 2, "finished"], ["p=3", 3, "failed"]
    ]  # fmt: skip
    assert trials["score"].tolist()[:2] == [0.25, 0.5] and np.isnan(trials["score"][2])
    assert swept.scores()[["trial", "value"]].values.tolist() == [["p=1", 0.25], ["p=2", 0.5]]
    assert "no trial 'p=9'; there are 'p=1', 'p=2', 'p=3'" in one_line(swept.model, trial="p=9")
    assert "no fold is done" in one_line(swept.model, trial="p=3")


def test_a_run_that_is_interrupted_goes_on(csv_source, new_work, tmp_path, monkeypatch):
    tree = recipe_tree(data__source=str(csv_source), pretrain=None, folds__run=[0])
    experiment = Experiment(write_recipe(tmp_path / "small.yaml", tree), new_work())
    said = []

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "run_training", interrupted)
        with pytest.raises(KeyboardInterrupt):
            experiment.run(said.append)
    assert said[-1] == "stopped; the same call goes on from the last checkpoint"
    client = MlflowClient(default_uri(experiment.work))

    def states():
        runs = client.search_runs([client.get_experiment_by_name("tones").experiment_id])
        return sorted((run.data.tags["a2v.stage"], run.info.status) for run in runs)

    stopped = [("experiment", "KILLED"), ("finetune", "KILLED"), ("folds", "FINISHED"), ("prepare", "FINISHED")]
    assert states() == stopped
    experiment.run(None)
    assert states() == [(stage, "FINISHED") for stage, _ in stopped]
    assert set(experiment.scores()["fold"]) == {0}


def test_imports_are_made_when_they_are_used():
    code = (
        "import sys, time; begun = time.process_time(); import a2v; took = time.process_time() - begun\n"
        "heavy = {'ray', 'mlflow', 'torch', 'pandas', 'numpy', 'pydantic'}\n"
        "first = heavy & set(sys.modules)\n"
        "from a2v import Experiment, Recipe, UserError, load_corpus\n"
        "Recipe.load('quickstart')\n"
        "print(took < 0.2, first, {'ray', 'mlflow'} & set(sys.modules), sorted(a2v.__all__) == a2v.__all__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "True set() set() True"


def test_a_script_of_a_few_lines_needs_no_main(csv_source, tmp_path):
    """Packing starts processes; they do not begin the script anew."""
    script = tmp_path / "five.py"
    script.write_text(
        f"print('begun')\nfrom a2v import load_corpus\n"
        f"print(len(load_corpus({str(csv_source)!r}, {RATE}, {str(tmp_path / 'work')!r}).labels))\n"
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (said.stdout.split(), said.returncode) == (["begun", "48"], 0), said.stderr
