"""`folds.refit`: the model for new recordings, beside the folds that score it.

All tests share one work folder. So small a model finds few labels, so what counts as found is generous.
"""

from __future__ import annotations

import json
import math
from functools import reduce
from operator import add
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from a2v_eval.learned import learned
from a2v_eval.thresholds import ThresholdScores
from a2v_experiments.basics.errors import UserError
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.stages import cross_fit, pooled, refit, stages
from a2v_experiments.stages.figures import FigureData
from a2v_experiments.stages.graph import find_sources
from a2v_experiments.stages.specs import experiment_spec, finetune_spec, folds_spec, refit_spec
from a2v_experiments.stages.stage import Context, Result
from a2v_experiments.store import lookup
from a2v_experiments.store.lookup import finetune_runs
from a2v_experiments.training import loop
from a2v_model import load_model
from experiments_runs import World
from experiments_world import RECORDINGS, call_quietly, make_recipe, recipe_tree, write_recipe

UPDATES = 60
NAMES = [f"rec{number:02d}.wav" for number in range(RECORDINGS)]
# of the small recipe as it was before there was `folds.refit`
FOLDS = "8a2657a55966da2dc5c4942479d2382223611a820f61d643dd9f11de7e2e686b"
FINETUNE = "d4763511915403d740f6fc61fc7067af542bccd9281097f7426116de248a6c66"
EXPERIMENT = "12253cb75618a91dd17a2a77aa5a049a03db495b03cde589f063f070a0e72b59"
COUNTED = ("found", "predicted", "labelled", "F1", "precision", "recall")


@pytest.fixture(scope="module")
def world(tmp_path_factory, empty_database, csv_source) -> World:
    """Three folds and the refit, from random weights, with events as the labels ask for."""
    import shutil

    folder = tmp_path_factory.mktemp("refit")
    work = folder / "work"
    work.mkdir()
    shutil.copy(empty_database, work / "mlflow.db")
    tree = recipe_tree(data__source=str(csv_source), pretrain=None, folds={"count": 3, "refit": True})
    tree["evaluate"] = {"fit_events": True, "overlap_s": 0.3, "iou_threshold": 0.2}
    tree["finetune"] |= {"updates": UPDATES, "checkpoint_every": 20, "weight_average": 0.5, "layerdrop": 0, "bcl": None}
    tree["finetune"]["optimizer"] = {"learning_rate": 0.02, "warmup_updates": 2}
    recipe = write_recipe(folder / "small.yaml", tree)
    heard: dict[str, list[str]] = {}
    train = stages._train

    def spied(context, spec, run_id, name, label, *rest):
        heard[label] = list(spec.recordings)
        assert spec.validation == []
        train(context, spec, run_id, name, label, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_train", spied)
        first = call_quietly("experiment", "run", recipe, "--work", work)
    assert first.code == 0, first.err
    assert heard.pop("refit on all labels") == NAMES
    assert {label: len(names) for label, names in heard.items()} == {f"finetune fold {n}": 8 for n in range(3)}
    return World(work, recipe, first)


def threshold_scores(world, run):
    return FigureData.from_plain(json.loads(world.fetch(run, "figure_data.json").read_text())).thresholds


def refits(world):
    return world.runs("refit")


def everything(world):
    """What the store has of every run, as text, in which NaN is equal to NaN; each metric with all its values."""
    found = {}
    for run in world.runs():
        history = {key: len(world.store.client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics}
        metrics = sorted((key, repr(value), history[key]) for key, value in run.data.metrics.items())
        found[run.info.run_id] = (run.info.end_time, run.data.tags, metrics)
    return found


def folds_of(world, variant="default"):
    found = [run for run in world.runs("finetune") if run.data.tags["variant"] == variant]
    return sorted(found, key=lambda run: run.data.tags["fold"])


def test_it_is_a_run_of_its_own_and_no_fold(world):
    (parent,), (refit,) = world.runs("experiment"), refits(world)
    assert refit.info.status == "FINISHED" and refit.data.tags["fold"] == "refit"
    assert refit.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.tags["a2v.refit_run"] == refit.info.run_id
    folds = folds_of(world)
    assert finetune_runs(parent) == {1.0: {n: run.info.run_id for n, run in enumerate(folds)}}
    assert refit.data.metrics["labels/train/cc"] == 2 * RECORDINGS and len(world.losses(refit)) == UPDATES
    listed = json.loads(call_quietly("experiment", "list", "--work", world.work, "--json").out)
    assert [(row["folds_done"], row["folds"], row["refit"]) for row in listed] == [(3, 3, refit.info.run_id)]
    compared = call_quietly("experiment", "compare", refit.info.run_id, "tones", "--work", world.work)
    assert compared.code == 2 and "is a run of the stage 'refit'" in compared.only_line()


def test_its_thresholds_are_the_best_over_all_folds(world):
    (refit,) = refits(world)
    model = load_model(world.fetch(refit, "model"))
    together = reduce(add, (threshold_scores(world, run) for run in folds_of(world)))
    assert together.labelled.tolist() == [2 * RECORDINGS, 2 * RECORDINGS]
    assert model.thresholds and model.thresholds == together.best(10.0)
    told = model.thresholds_from
    assert told["recordings"].startswith(
        f"{RECORDINGS} recordings, out of fold: the evaluation recordings of folds 0, 1"
    )
    for name, threshold in model.thresholds.items():
        place = together.classes.index(name), together.thresholds.tolist().index(threshold)
        f1 = 2 * together.hits[place] / (together.predicted[place] + 2 * RECORDINGS)
        assert told["F1"][name] == pytest.approx(f1, abs=1e-4)
    assert told["labels"] == {"sn": 2 * RECORDINGS, "cc": 2 * RECORDINGS}
    lengths_s = [(600 + 40 * number) / 4000 for number in range(RECORDINGS) for _ in range(2)]
    assert max(told["window_s"].values()) <= max(lengths_s)  # fitted to the labels, per class
    assert f"the model for new recordings, trained on all labels: runs:/{refit.info.run_id}\n" in world.first.out
    assert f"predict NEW --model runs:/{refit.info.run_id}" in world.first.out


def test_calls_are_counted_at_thresholds_of_the_other_folds(world):
    """Found anew here: the threshold from the sum of the others, the counts from the fold's own numbers."""
    runs = folds_of(world)
    scores = [threshold_scores(world, run) for run in runs]
    totals = dict.fromkeys(("found", "predicted"), 0)
    logged = [world.store.client.get_metric_history(run.info.run_id, "strict/predicted/micro") for run in runs]
    # first counted at the threshold that ranks; again where the others' gives other counts, which chance decides here
    assert all(1 <= len(values) <= 2 for values in logged)
    for number, (run, own) in enumerate(zip(runs, scores, strict=True)):
        best = reduce(add, [one for n, one in enumerate(scores) if n != number]).best(10.0)
        for c, name in enumerate(own.classes):
            k = own.thresholds.tolist().index(best.get(name, 0.15))
            hits, predicted, labelled = own.hits[c, k], own.predicted[c, k], own.labelled[c]
            metrics = run.data.metrics
            assert [metrics[f"strict/{what}/{name}"] for what in COUNTED[:3]] == [hits, predicted, labelled]
            assert metrics[f"strict/F1/{name}"] == pytest.approx(2 * hits / (predicted + labelled))
            assert metrics[f"strict/recall/{name}"] == pytest.approx(hits / labelled)
            if predicted:
                assert metrics[f"strict/precision/{name}"] == pytest.approx(hits / predicted)
            totals["found"] += hits
            totals["predicted"] += predicted
    row = next(line.split() for line in world.first.out.splitlines() if line.startswith("micro"))
    assert row[1:4] == [str(totals["found"]), str(totals["predicted"]), str(4 * RECORDINGS)]
    assert "calls under strict at thresholds chosen on the other folds" in world.first.out
    parent = world.runs("experiment")[0].data.metrics
    mean = sum(run.data.metrics["strict/F1/micro"] for run in runs) / 3
    assert parent["strict/F1/micro_mean"] == pytest.approx(mean)


def test_what_is_no_longer_defined_is_left_out(tmp_path, monkeypatch):
    """At the others' threshold fold 0 predicts nothing: its precision, that evaluation logged, is none."""
    thresholds = np.array([0.05, 0.5])
    quiet = ThresholdScores(("a",), thresholds, np.array([[1, 0]]), np.array([[9, 0]]), np.array([2]))
    loud = ThresholdScores(("a",), thresholds, np.array([[2, 2]]), np.array([[9, 2]]), np.array([2]))
    monkeypatch.setattr(cross_fit, "threshold_scores", lambda context, run_id: {"q": quiet, "l": loud}[run_id])
    logged = {}
    store = MagicMock(log_metrics=lambda run_id, metrics, step, scored: logged.update({run_id: (metrics, step)}))
    recipe = make_recipe(tmp_path, folds__refit=True)
    before = {"AP/a": 0.5, "strict/precision/a": 1 / 9, "strict/F1/a": 2 / 11, "strict/labelled/a": 2.0}
    results = [Result("", run_id, False) for run_id in "ql"]
    scores = cross_fit.cross_fit(Context(recipe, store, tmp_path, "p", print), {1.0: results}, {1.0: [before, before]})
    assert scores[1.0][0].items() >= {"AP/a": 0.5, "strict/F1/a": 0, "strict/labelled/a": 2}.items()
    assert "strict/precision/a" not in scores[1.0][0] and scores[1.0][0]["strict/predicted/a"] == 0
    metrics, step = logged["q"]
    assert math.isnan(metrics["strict/precision/a"]) and metrics["strict/F1/a"] == 0 and step == 6
    assert "strict/labelled/a" not in metrics  # as it was
    # of fold 1, fold 0 alone chooses .05
    assert scores[1.0][1]["strict/predicted/a"] == 9
    run = MagicMock(data=MagicMock(metrics={"strict/F1/a": 0.0, "strict/precision/a": math.nan}))
    assert lookup.defined_metrics(run) == {"strict/F1/a": 0.0}


@pytest.mark.parametrize(
    "sets, wanted",
    [(["folds.refit=true"], True), (["evaluate={fit_events: true}"], True), ([], False),
     (["folds.refit=true", "folds.run=[1]"], False), (["folds.refit=true", "folds.validation=0.2"], False)],
)  # fmt: skip
def test_where_folds_choose_for_one_another(tmp_path, sets, wanted):
    """Where there are several, no validation, and no threshold that the recipe says to count at."""
    assert make_recipe(tmp_path, sets).is_cross_fitted(1.0) == wanted


def test_a_second_call_reuses_it_and_logs_nothing(world):
    before = everything(world)
    again = world.call()
    assert again.code == 0 and f"refit on all labels: reused, run {refits(world)[0].info.run_id}" in again.out
    assert everything(world) == before
    table = world.first.out.index("100% of the labels")
    assert again.out[again.out.index("100% of the labels") :] == world.first.out[table:]


def test_folds_are_the_same_without_it(world):
    """Another experiment finds the same folds."""
    said = world.call("folds.refit=false", "variant=bare")
    assert said.code == 0 and len(folds_of(world)) == len(world.runs("finetune")) == 3
    (bare,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "bare"]
    assert "a2v.refit_run" not in bare.data.tags and "folds.refit" not in bare.data.params


def test_with_other_folds_the_same_weights_get_their_thresholds(world):
    """Of one fold: the model is copied, and the first one stays as it was."""
    (first,) = refits(world)
    kept = world.fetch(first, "model") / "model.json"
    before = kept.read_bytes()
    plan = call_quietly(
        "experiment", "plan", world.recipe, "--work", world.work, "--no-measure", "--set", "folds.run=[1]"
    )
    assert "only its thresholds" in plan.out, plan.out + plan.err
    said = world.call("folds.run=[1]", "variant=one")
    assert said.code == 0, said.err
    second = next(run for run in refits(world) if run.info.run_id != first.info.run_id)
    old, new = (load_model(world.fetch(run, "model")) for run in (first, second))
    assert kept.read_bytes() == before and world.losses(second) == []
    assert all((old.state_dict()[key] == value).all() for key, value in new.state_dict().items())
    assert new.thresholds == threshold_scores(world, folds_of(world)[1]).best(10.0)
    assert new.thresholds_from["recordings"].startswith(
        "4 recordings, out of fold: the evaluation recordings of fold 1,"
    )
    assert f"predict NEW --model runs:/{second.info.run_id}" in said.out


def test_one_that_is_stopped_goes_on(world, monkeypatch):
    """In its fifth update, after those of the folds; there is a checkpoint after the fourth."""
    rate, count = loop.learning_rate, iter(range(1000))

    def learning_rate(*arguments):
        if next(count) == 3 * 6 + 4:
            raise KeyboardInterrupt
        return rate(*arguments)

    settings = ("finetune.seed=3", "finetune.updates=6", "finetune.checkpoint_every=2", "variant=stopped")
    known = {run.info.run_id for run in refits(world)}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", learning_rate)
        assert world.call(*settings).code == 130
    (run,) = [run for run in refits(world) if run.info.run_id not in known]
    assert run.info.status == "KILLED" and [step for step, _ in world.losses(run)] == [1, 2, 3, 4]
    said = world.call(*settings)
    assert said.code == 0 and "going on from update 4" in said.out
    (run,) = [run for run in refits(world) if run.info.run_id not in known]
    assert run.info.status == "FINISHED" and [step for step, _ in world.losses(run)] == list(range(1, 7))


def test_recipes_without_it_have_the_fingerprints_that_they_had(tmp_path):
    """Of a finetuning and of a whole experiment, as they were before there was `folds.refit`."""
    recipe = make_recipe(tmp_path, data__source="recordings")
    assert "refit" not in recipe.model_dump(mode="json")["folds"]
    split = folds_spec(recipe, "data").fingerprint
    assert split == FOLDS == folds_spec(make_recipe(tmp_path, folds__refit=True), "data").fingerprint
    assert finetune_spec(recipe, 0, 1.0, "data", split, None).fingerprint == FINETUNE
    assert experiment_spec(recipe, ["source"]).fingerprint == EXPERIMENT


def test_a_run_is_of_the_folds_that_choose_its_thresholds(tmp_path):
    """Two experiments that count calls differently must not write into one run; they train once."""

    def spec(*sets):
        return finetune_spec(
            make_recipe(tmp_path, ("folds.count=4", "folds.run=null", *sets)), 0, 1.0, "data", "folds", None
        )

    alone, all_, some = spec(), spec("folds.refit=true"), spec("folds.refit=true", "folds.run=[1,0]")
    assert len({alone.fingerprint, all_.fingerprint, some.fingerprint}) == 3
    assert alone.training == all_.training == some.training
    assert some.fingerprint == spec("folds.refit=true", "folds.run=[0,1]").fingerprint
    assert alone.fingerprint == spec("folds.refit=true", "folds.run=[0]").fingerprint


def test_its_model_depends_on_the_data_and_not_on_the_folds(tmp_path):
    recipe = make_recipe(tmp_path, folds__validation=0.2, folds__refit=True).for_refit()
    assert recipe.finetune.validation is None
    one, other = refit_spec(recipe, ["a", "b"], "data", None), refit_spec(recipe, ["a"], "data", None)
    assert one.fingerprint != other.fingerprint and one.training == other.training
    assert refit_spec(recipe, ["a", "b"], "other", None).training != one.training


def test_where_it_makes_no_sense(tmp_path, csv_source):
    path = str(write_recipe(tmp_path / "r.yaml", recipe_tree(data__source=str(csv_source), folds__refit=True)))
    with pytest.raises(UserError, match=r"r.yaml: .*folds.refit = true: a sweep compares trials"):
        load_recipe(path, ["sweep={parameters: {finetune.updates: [1, 2]}}"])
    with pytest.raises(UserError, match=r"folds\.refit is true and finetune is null"):
        load_recipe(path, ["finetune=null"])
    assert find_sources(load_recipe(path), tmp_path, "sqlite:///x").backbone is None


def test_a_class_that_a_folds_model_never_heard_is_not_judged_by_it(monkeypatch):
    """'rare' has labels in recording 0 alone, 'often' in both: fold 0 evaluates 0, fold 1 evaluates 1."""
    events = np.array([(0, 0), (0, 1), (1, 0)], dtype=[("recording", "<i4"), ("class", "<i2")])
    corpus = SimpleNamespace(
        classes=["often", "rare"], recordings=["0", "1"], events=events, indices=lambda names: [int(n) for n in names],
        meta={},
    )  # fmt: skip
    folds = [SimpleNamespace(train=["1"], evaluation=["0"]), SimpleNamespace(train=["0"], evaluation=["1"])]
    thresholds = np.array([0.2, 0.5])
    of_run = {  # hits and predicted (C, K), labelled (C,); of 'rare' fold 0 finds nothing, fold 1 one too many at .2
        run: ThresholdScores(
            ("often", "rare"), thresholds, np.array([[1, 1], [0, 0]]), np.array(predicted), np.array(labelled)
        )
        for run, predicted, labelled in (("a", [[3, 1], [0, 0]], [1, 1]), ("b", [[1, 1], [1, 0]], [1, 0]))
    }
    monkeypatch.setattr(pooled, "threshold_scores", lambda context, run: of_run[run])
    monkeypatch.setattr(refit, "holds_for", lambda fitted, told: {"recordings": told})
    said: list[str] = []
    context = SimpleNamespace(recipe=SimpleNamespace(folds=SimpleNamespace(selected=[0, 1])), say=said.append)
    chosen = refit.out_of_fold(context, None, corpus, folds, [SimpleNamespace(run_id="a"), SimpleNamespace(run_id="b")])
    assert chosen["thresholds"] == {"often": 0.5, "rare": 0.5}  # that of all classes together, for the rare one
    assert chosen["thresholds_from"]["labels"] == {"often": 2} and "rare" not in chosen["thresholds_from"]["F1"]
    assert learned(["often", "rare"], chosen["thresholds"], chosen["thresholds_from"]) == {"often": True, "rare": True}
    assert "never scored" in said[0] and "rare" in said[0]
