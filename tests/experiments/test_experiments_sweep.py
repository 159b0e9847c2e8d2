"""Sweeps: how many trials run at once, when one is pruned, what MLflow holds afterwards, what a second call does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.cluster import session as ray_session
from a2v_experiments.recipe.sections import RayConfig
from a2v_experiments.recipe.sweep import PruningConfig, Range, SweepConfig
from a2v_experiments.sweep.placing import needed
from a2v_experiments.sweep.report import axis_label, records, text_report
from a2v_experiments.sweep.rows import Row, best_of
from a2v_experiments.sweep.search import bundle, optuna_search, scheduler, trials_at_once
from a2v_experiments.sweep.trial import score_of
from experiments_runs import World
from experiments_world import call_quietly, make_recipe, recipe_tree, write_recipe
from mlflow.entities import Run

# --- how many at once


@pytest.mark.parametrize(
    "ray, cluster, concurrency, expected",
    [
        ({}, {"CPU": 4}, None, 4),
        ({}, {"CPU": 4}, 2, 2),
        ({}, {"CPU": 4}, 9, 4),
        ({"cpus_per_worker": 3}, {"CPU": 8}, None, 2),
        ({"num_workers": 2}, {"CPU": 5}, None, 2),
        ({"num_workers": 2, "cpus_per_worker": 0.5}, {"CPU": 2}, None, 2),
        ({"num_workers": 2, "use_gpu": True}, {"CPU": 64, "GPU": 6}, None, 3),
        ({"use_gpu": True}, {"CPU": 2, "GPU": 4}, None, 2),
    ],
)
def test_no_more_trials_at_once_than_their_workers_have_room(ray, cluster, concurrency, expected):
    assert trials_at_once(RayConfig(**ray), cluster, concurrency) == expected


def test_a_trial_that_never_fits_is_said_so():
    with pytest.raises(UserError, match="a trial needs 4 CPU and 4 GPU, the Ray cluster has 2 CPU and 0 GPU; lower"):
        trials_at_once(RayConfig(num_workers=4, use_gpu=True), {"CPU": 2}, None)


def test_a_trial_reserves_its_processors_itself_only_without_workers():
    """With workers Ray Train reserves them: were they reserved twice, two workers would wait forever on 2 cores."""
    assert bundle(RayConfig(cpus_per_worker=2), None) == {"CPU": 2}
    assert bundle(RayConfig(num_workers=2), None).keys() == {"memory"}
    assert bundle(RayConfig(num_workers=2), "10.0.0.1") == {"node:10.0.0.1": 0.001}


def test_what_a_trial_reads_has_to_be_seen_where_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = make_recipe(tmp_path, ["data.annotations.mapping=map.csv"], data__source="/corpora/a")
    other = make_recipe(tmp_path, [], data__source="/corpora/b", backbone="runs:/1", pretrain=None)
    assert needed([one, other, one]) == [Path(p) for p in (tmp_path, "/corpora/a", tmp_path / "map.csv", "/corpora/b")]
    assert needed([other]) == [Path("/corpora/b")]  # then it does not matter where the command was called


# --- which go on, and where Optuna goes on from


class Tried:
    """What ASHA needs of a trial."""

    def __init__(self, name: str) -> None:
        self.trial_id = name


def decisions(pruning: dict[str, Any], folds: int, scores: dict[str, list[float]]) -> dict[str, int]:
    """After how many folds each trial stops; all run in step, in the order given."""
    asha = scheduler(PruningConfig(**pruning), folds)
    trials = {name: Tried(name) for name in scores}
    for trial in trials.values():
        asha.on_trial_add(None, trial)
    stopped: dict[str, int] = {}
    for fold in range(folds):
        for name, trial in trials.items():
            if name in stopped:
                continue
            result = {"training_iteration": fold + 1, "score": scores[name][fold]}
            if asha.on_trial_result(None, trial, result) == "STOP":
                stopped[name] = fold + 1
    return {name: stopped.get(name, folds) for name in scores}


def test_pruning_stops_trials_whose_mean_falls_behind_those_that_came_before():
    scores = {"a": [0.5] * 5, "b": [0.6] * 5, "c": [0.4] * 5, "d": [0.7, 0.5, 0.1, 0.1, 0.1]}
    # at fold 1, c is below the median of a and b; at fold 2, d is below that of a and b
    assert decisions({}, 5, scores) == {"a": 5, "b": 5, "c": 1, "d": 2}
    # with two folds of grace they are looked at after 2 and 4: d is at the median of a, b and c first, then below
    assert decisions({"grace_folds": 2}, 5, scores) == {"a": 5, "b": 5, "c": 2, "d": 4}
    assert scheduler(None, 5) is None


SPACE = {
    "search": "optuna",
    "trials": 4,
    "seed": 1,
    "parameters": {
        "rate": Range(low=1e-5, high=1e-2, log=True),
        "length": Range(low=1, high=9, integer=True, step=2),
        "kind": ["a", "b"],
    },
}


def test_optuna_draws_within_the_ranges_and_not_the_same_again():
    sweep = SweepConfig(**SPACE)
    first = optuna_search(sweep, [])
    drawn = [first.suggest(str(number)) for number in range(12)]
    for values in drawn:
        assert 1e-5 <= values["rate"] <= 1e-2 and values["length"] in (1, 3, 5, 7, 9) and values["kind"] in ("a", "b")
    assert [optuna_search(sweep, []).suggest("0")] == drawn[:1]
    going_on = optuna_search(sweep, [(values, 0.1) for values in drawn[:2]])
    assert going_on.suggest("x") not in drawn[:2]


def test_optuna_goes_on_from_trials_that_are_done():
    """It is told of twenty trials of which 'a' scored well and 'b' did not, and asks for 'a'."""
    sweep = SweepConfig(search="optuna", trials=30, parameters={"kind": ["a", "b"]})
    known = [({"kind": kind}, 0.9 if kind == "a" else 0.1) for kind in "ab" * 10]
    search = optuna_search(sweep, known)
    assert [search.suggest(str(n))["kind"] for n in range(8)].count("a") >= 6


# --- scores and tables


def test_the_score_is_the_mean_over_shares_of_the_mean_over_folds():
    scores = {0.1: [{"AP/micro": 0.2}, {"AP/micro": 0.4}], 1.0: [{"AP/micro": 0.8}, {"AP/micro": 0.6, "AP/cc": 0.5}]}
    assert score_of(scores, "AP/micro") == pytest.approx((0.3 + 0.7) / 2)
    with pytest.raises(UserError, match=r"sweep\.metric = AP/cx: no fold has this score; there are AP/micro"):
        score_of(scores, "AP/cx")
    nothing_predicted = {1.0: [{"strict/AP/micro": 0.0, "strict/mAP/micro": 0.0}]}
    assert score_of(nothing_predicted, "AP/micro") == 0 == score_of(nothing_predicted, "strict/precision/micro")
    with pytest.raises(UserError, match="presence/mAP/micro: no fold has this score"):
        score_of(nothing_predicted, "presence/mAP/micro")


def row(name: str, value: int, status: Any, mean: float | None, folds: int = 2) -> Row:
    metrics = {} if mean is None else {"AP/micro_mean": mean, "AP/micro_std": 0.03, "strict/AP/micro_mean": mean / 2}
    return Row(
        name,
        {"finetune.mask_length": value},
        status,
        "out of memory" if status == "failed" else "",
        "r",
        folds,
        metrics,
    )


def test_the_table_names_the_best_whole_trial_and_why_others_failed(tmp_path):
    recipe = make_recipe(tmp_path, sweep={"parameters": {"finetune.mask_length": [1, 2, 3, 4]}, "metric": "AP/micro"})
    rows = [row("a", 1, "finished", 0.5), row("b", 2, "pruned", 0.9, 1), row("c", 3, "failed", None, 0)]
    rows += [row("d", 4, "finished", 0.625), row("e", 5, "not run", None, 0)]
    assert best_of(rows, "AP/micro", [1.0]).name == "d"
    lines = text_report(recipe, rows).splitlines()
    assert lines[0].split()[:3] == ["mask_length", "micro", "strict"] and lines[0].endswith(
        "macro paper  folds    status"
    )
    assert lines[1].split() == ["1", "0.25", "–", "0.50", "±", "0.03", "–", "2", "finished"]
    assert lines[2].split()[-2:] == ["1", "pruned"]
    assert "best trial by AP/micro: d, run r" in lines and "c: failed: out of memory" in lines
    (record,) = [r for r in records(recipe, rows) if r["trial"] == "d"]
    assert record["AP/micro_mean"] == 0.625 and record["AP/micro_std"] == 0.03 and record["AP/macro_mean"] is None
    assert record["finetune.mask_length"] == 4 and record["folds"] == 2


def test_axes_have_units():
    assert axis_label("pretrain.bcl.window_s") == "pretraining: BCL window (s)"
    assert axis_label("finetune.mask_length") == "finetuning: mask length (frames)"
    assert axis_label("pretrain.mask_probability") == "pretraining: mask probability" and axis_label("model") == "model"


# --- the real thing

SWEEP = {"parameters": {"finetune.mask_length": [2, 4], "finetune.focal": [True]}}


@pytest.fixture
def _ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not a cluster that somebody else runs on this machine
    yield
    ray_session.stop_ray()


def below(world: World, run: Run) -> list[Run]:
    return [child for child in world.runs() if child.data.tags.get("mlflow.parentRunId") == run.info.run_id]


def test_a_trial_with_events_of_other_classes_stops_the_sweep_before_any_trial(
    tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path
):
    variants = {"one": {"evaluate.events.threshold": 0.2}, "two": {"evaluate.events.threshold": {"xx": 0.5}}}
    tree = recipe_tree(data__source=str(csv_source), sweep={"variants": variants})
    work = new_work("sweep")
    said = call_quietly("experiment", "run", write_recipe(tmp_path / "sweep.yaml", tree), "--work", work)
    assert said.code == 2 and said.only_line() == (
        "trial two: evaluate.events.threshold: xx is unknown and sn, cc are missing; give one number, or one for each"
        " class of the corpus: sn, cc"
    )
    assert World(work, tmp_path / "sweep.yaml", said).runs("trial") == []


@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_a_sweep_from_end_to_end(tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path):
    """One trial fails at first (no recording is as long as its segments); the same command then runs only that one."""
    variants = {
        "short masks": {"finetune.mask_length": 2},
        "long masks": {"finetune.mask_length": 4},
        "long segments": {"finetune.mask_length": 3, "data.segment_s": 5.0},
    }
    tree = recipe_tree(data__source=str(csv_source), sweep={"variants": variants})
    recipe, work = write_recipe(tmp_path / "sweep.yaml", tree), new_work("sweep")
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 1
    assert said.lines()[-1].startswith("a2v: failed: 1 of the trials (long segments); the same command runs")
    world = World(work, recipe, said)
    (parent,) = world.runs("experiment")
    assert parent.info.status == "FAILED"
    trials = {run.data.tags["trial"]: run for run in world.runs("trial")}
    assert {name: run.info.status for name, run in trials.items()} == {
        "short masks": "FINISHED", "long masks": "FINISHED", "long segments": "FAILED",
    }  # fmt: skip
    assert "no recording is that long" in trials["long segments"].data.tags["a2v.error"]
    assert all(run.info.status != "RUNNING" for run in world.runs())

    # stages that all trials share ran once: data and folds below the sweep, pretraining below the trial that ran it
    for stage, parents in (("prepare", [parent]), ("folds", [parent]), ("pretrain", list(trials.values()))):
        (run,) = world.runs(stage)
        assert run.data.tags["mlflow.parentRunId"] in [p.info.run_id for p in parents], stage
    for name, length in (("short masks", "2"), ("long masks", "4")):
        trial = trials[name]
        assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert trial.data.params["finetune.mask_length"] == length and trial.data.params["pretrain.updates"] == "6"
        folds = [run for run in below(world, trial) if run.data.tags["a2v.stage"] == "finetune"]
        assert sorted(run.data.tags["fold"] for run in folds) == ["0", "1"]
        mean = sum(run.data.metrics["strict/mAP/micro"] for run in folds) / 2
        assert (
            trial.data.metrics["strict/mAP/micro_mean"] == pytest.approx(mean)
            and "strict/mAP/micro_std" in trial.data.metrics
        )
    best = max(("short masks", "long masks"), key=lambda name: trials[name].data.metrics["strict/mAP/micro_mean"])
    assert parent.data.tags["a2v.best_trial"] == best and f"best trial by strict/mAP/micro: {best}" in said.out
    figures = {"ap_against_parameters_paper.png", "ap_against_parameters_strict.png"}
    answer = {"answer.txt", "answer.json", "sweep.html"}
    assert figures | answer | {"sweep.csv", "sweep.txt", "sweep.json"} <= world.artifacts(parent)
    words = world.fetch(parent, "answer.txt").read_text(encoding="utf-8").strip()
    assert words in said.out and parent.data.tags["a2v.answer"].splitlines()[0][:40] in words
    mask = f"effect/finetune.mask_length/{'2' if best == 'short masks' else '4'}"
    means = [trials[name].data.metrics["strict/mAP/micro_mean"] for name in ("short masks", "long masks")]
    assert parent.data.metrics[mask] == pytest.approx(abs(means[0] - means[1]))
    found = json.loads(world.fetch(parent, "sweep.json").read_text(encoding="utf-8"))
    assert [record["status"] for record in found["trials"]] == ["finished", "finished", "failed"]

    # the failed one is all that a second call runs; what was missing is put right by a file that it reads
    before = {run.info.run_id: run.info.end_time for run in world.runs()}
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 1 and "trials: 2 done already, 1 to run" in said.out and "short masks: " not in said.out
    after = {run.info.run_id: run.info.end_time for run in world.runs()}
    again = {run_id for run_id in after if after[run_id] != before.get(run_id)}
    failed = trials["long segments"]
    assert again <= {parent.info.run_id, failed.info.run_id} | {run.info.run_id for run in below(world, failed)}

    # without it, the sweep is whole
    tree["sweep"]["variants"].pop("long segments")
    write_recipe(recipe, tree)
    trained = len(world.runs("finetune"))
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 0, said.err
    assert len(world.runs("finetune")) == trained and len(world.runs("pretrain")) == 1
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 0 and "every trial: reused" in said.out and "started" not in said.out


@pytest.mark.rehearsal
@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_a_trial_that_falls_behind_is_pruned_and_stays_so(
    tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path
):
    """Beside a threshold that marks everything, one that marks nothing has no timestep right."""
    sweep = {
        "parameters": {"evaluate.events.threshold": [0.0, 0.99]},
        "metric": "timestep/F1", "pruning": {}, "concurrency": 1,
    }  # fmt: skip
    tree = recipe_tree(data__source=str(csv_source), pretrain=None, folds__run=None, finetune__updates=1, sweep=sweep)
    recipe, work = write_recipe(tmp_path / "prune.yaml", tree), new_work("prune")
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 0, said.err
    assert "threshold=0.99: pruned, timestep/F1 0.000 after 1 of 3 folds" in said.out
    world = World(work, recipe, said)
    trials = {run.data.params["evaluate.events.threshold"]: run for run in world.runs("trial")}
    assert trials["0.0"].info.status == "FINISHED" and len(below(world, trials["0.0"])) == 3
    pruned = trials["0.99"]
    assert pruned.info.status == "KILLED" and pruned.data.tags["a2v.pruned"] == "true"
    assert len(below(world, pruned)) == 1 and pruned.data.metrics["timestep/F1_mean"] == 0
    assert world.runs("experiment")[0].data.tags["a2v.best_trial"] == "threshold=0"
    # both share the training of fold 0: the model of the first serves the second
    (second,) = below(world, pruned)
    assert second.data.tags["a2v.input_run.model"] in {run.info.run_id for run in below(world, trials["0.0"])}
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 0 and "every trial: reused" in said.out and "1    pruned" in said.out


EAR = {
    "front_end": {
        "kind": "ear", "sample_rate": 4000, "filters": 16, "stem": [8, 8], "band_masks": 0, "time_mask_probability": 0,
    },
    "encoder": {"kind": "convolutions", "dim": 16, "depth": 2, "dropout": 0.0},
}  # fmt: skip
LEARNS = {
    "average_layers": 1, "channel_mask_length": 0, "mask_length": 0, "head_only_updates": 0, "freeze_front_end": False,
    "layerdrop": 0, "segments": 12, "micro_batches": 1, "bcl": None, "focal": False,
    "optimizer": {"learning_rate": 0.01, "warmup_updates": 5}, "updates": 20, "log_every": 60, "checkpoint_every": 10,
}  # fmt: skip


@pytest.mark.rehearsal
@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_a_trial_is_pruned_within_a_training_by_its_validations(
    tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path
):
    """One learns the tones at once; one whose steps are too small stops after 3 of its 4 validations of fold 0."""
    sweep = {
        "parameters": {"finetune.optimizer.learning_rate": [0.01, 1e-6]},
        "pruning": {"grace_validations": 3}, "concurrency": 1,
    }  # fmt: skip
    tree = recipe_tree(
        data__source=str(csv_source), pretrain=None, model=EAR, folds__validation=0.3, sweep=sweep,
        evaluate={"fit_events": True, "overlap_s": 0.3},
    )  # fmt: skip
    tree["finetune"] |= {**LEARNS, "validation": {"every": 5}}
    recipe, work = write_recipe(tmp_path / "prune.yaml", tree), new_work("prune")
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 0, said.err
    assert re.search(
        r"learning_rate=1e-06: pruned, validation/strict/mAP/micro 0\.\d+ after 3 of 8 validations", said.out
    )
    assert "best trial by validation/strict/mAP/micro: learning_rate=0.01" in said.out
    world = World(work, recipe, said)
    trials = {run.data.params["finetune.optimizer.learning_rate"]: run for run in world.runs("trial")}
    whole, pruned = trials["0.01"], trials["1e-06"]
    assert whole.info.status == "FINISHED" and pruned.info.status == "KILLED"
    assert pruned.data.tags["a2v.pruned"] == "true" and pruned.data.tags["a2v.folds"] == "0"
    assert whole.data.metrics["validation/strict/mAP/micro_mean"] > 0.9
    (only,) = below(world, pruned)
    assert only.info.status == "KILLED"
    history = world.store.client.get_metric_history(only.info.run_id, "validation/strict/mAP/micro")
    assert [point.step for point in history] == [5, 10, 15]
    # what Optuna would be told of it, if there were more trials to choose
    assert pruned.data.metrics["validation/strict/mAP/micro_mean"] == pytest.approx(history[-1].value, abs=0.05)
    assert not list((work / "checkpoints").glob("*"))  # nobody goes on from where it stopped
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 0 and "every trial: reused" in said.out
