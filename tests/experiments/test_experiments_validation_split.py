"""What `folds.validation` holds out: what recipes say of it, that nothing trains on it, how a sweep chooses on it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, pack
from a2v_experiments.basics.errors import UserError
from a2v_experiments.recipe.files import RecipeFile, load_recipe
from a2v_experiments.recipe.sections import Recipe
from a2v_experiments.recipe.sweep import PruningConfig
from a2v_experiments.stages import splits
from a2v_experiments.stages.heard import heard_by
from a2v_experiments.stages.specs import finetune_spec, folds_spec
from a2v_experiments.sweep.answer import answer_of
from a2v_experiments.sweep.answer_text import to_text
from a2v_experiments.sweep.pace import Pace
from a2v_experiments.sweep.report import text_report
from a2v_experiments.sweep.rows import Row, best_of
from a2v_experiments.sweep.search import scheduler
from a2v_experiments.sweep.trial import score_name
from a2v_experiments.sweep.trials import trials_of
from experiments_world import RATE, make_recipe, recipe_tree, write_recipe

GROUP = r"^rec\d(\d)"  # rec00 and rec10 are together, and rec01 and rec11
RATES = {"parameters": {"finetune.optimizer.learning_rate": [0.1, 0.01]}}


def group(name: str) -> str:
    return name[4]


# --- what a recipe says


def validation(recipe: Recipe) -> tuple[int, int | None] | None:
    assert recipe.finetune is not None
    how = recipe.finetune.validation
    return None if how is None else (how.every, how.patience)


def test_the_share_alone_validates_every_hundred_updates_and_null_does_not(tmp_path):
    recipe = make_recipe(tmp_path, ["folds.validation=0.2"])
    assert validation(recipe) == (100, None) and recipe.is_validated and recipe.validated_share == 0.2
    more = make_recipe(tmp_path, ["folds.validation=0.2", "finetune.validation={every: 2, patience: 3}"])
    assert validation(more) == (2, 3)
    for sets in ([], ["folds.validation=null"], ["folds.validation=null", "finetune.validation={every: 2}"]):
        none = make_recipe(tmp_path, sets)
        assert validation(none) is None and not none.is_validated and none.validated_share is None
    assert load_recipe("few_calls").validated_share == 0.2 and validation(load_recipe("few_calls")) == (1000, None)
    assert validation(load_recipe("few_calls", scale="tiny")) == (4, None)  # a dump that is read again


@pytest.mark.parametrize(
    "sets, said",
    [
        (
            ["finetune.validation={share: 0.3}"],
            "finetune.validation.share: which share is held out is said for the folds now: write folds.validation: 0.3"
            " instead; finetune.validation keeps every and patience",
        ),
        (["finetune.validation={every: 2}"], "finetune.validation: says how recordings are validated on, and none are"),
        (
            ["folds.validation=0.2", "finetune.validation=null"],
            "for no validation write folds.validation: null instead",
        ),
        (["folds.validation=1.0"], "folds.validation: is 1.0; must be a share above 0 and below 1, or cross"),
        (
            ["folds.validation=0.2", "finetune.validation={evry: 2}"],
            "validation.evry: unknown key; did you mean 'every'",
        ),
    ],
)
def test_one_line_says_what_to_write_instead(tmp_path, sets, said):
    with pytest.raises(UserError) as caught:
        make_recipe(tmp_path, sets)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_another_share_is_another_training_on_the_same_folds(tmp_path):
    recipes = [make_recipe(tmp_path, [f"folds.validation={share}"], data__source="x") for share in (0.2, 0.3, "null")]
    assert len({folds_spec(recipe, "data").fingerprint for recipe in recipes}) == 1
    specs = [finetune_spec(recipe, 0, 1.0, "data", "folds", None) for recipe in recipes]
    assert len({spec.training for spec in specs}) == 3


def test_given_folds_whose_validation_is_split_otherwise_are_trained_anew(tmp_path, corpus):
    """Else thresholds would be chosen on recordings that the model, which is reused, was trained on."""
    made = {"folds__manifests": "given", "folds__validation": 0.4, "data__source": "x"}
    recipes = [
        make_recipe(tmp_path, **made, **more)
        for more in ({}, {"folds__seed": 3}, {"folds__group": r"^rec\d(\d)"}, {"folds__seed": 0})
    ]
    names = [recording.name for recording in corpus.recordings]
    validated = [tuple(splits.held_out(recipe, corpus, names).validation or ()) for recipe in recipes]
    trainings = [finetune_spec(recipe, 0, 1.0, "data", "folds", None).training for recipe in recipes]
    assert validated[0] != validated[1] and validated[0] == validated[3]
    assert len(set(trainings[:3])) == 3 and trainings[0] == trainings[3]


# --- nothing trains on it


@pytest.fixture(scope="module")
def partly(csv_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Of the recordings those below rec10 are labelled, so that rec10 and rec11 are unlabelled ones of two groups."""
    folder = tmp_path_factory.mktemp("partly")
    shutil.copytree(csv_source, folder / "source")
    table = folder / "source" / "annotations.csv"
    with table.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *(row for row in rows if row[0] < "rec10")])
    return pack(folder / "source", folder / "corpus", PackConfig(sample_rate=RATE, labelled="with_events"))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("holdout", [None, 0.3])
def test_no_recording_of_a_validated_group_is_trained_on_or_heard(tmp_path, partly, seed, holdout):
    recipe = make_recipe(
        tmp_path, [f"folds.group='{GROUP}'", "folds.label_shares=[0.6, 1.0]"], data__source="x",
        folds={"count": 3, "run": None, "validation": 0.3, "seed": seed, "holdout": holdout}, pretrain__hears="train",
    )  # fmt: skip
    folds = splits.split(recipe, partly)
    for fold in recipe.folds.selected:
        parts = splits.validated(recipe, partly, folds[fold])
        held: set[str] = set()
        for share, part in parts.items():
            assert part.validation, "of so many recordings some can always be spared"
            trained = {group(name) for name in part.train}
            held |= (validated := {group(name) for name in part.validation})
            assert not trained & validated
            assert not (trained | validated) & {group(one) for one in folds[fold].evaluation}
            whole = splits.of_share(recipe, folds[fold], share).train
            assert sorted([*part.train, *part.validation]) == sorted(whole)
        assert parts[0.6].validation != parts[1.0].validation
        heard = heard_by(recipe, partly, folds, None if holdout else fold)
        away = held | {group(name) for name in folds[fold].evaluation}
        assert {group(name) for name in heard.names} == set("0123456789") - away  # rec10 and rec11 go with their groups
        assert any("validated on" in notice for notice in heard.notices)
        everything = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"hears": "all"})})
        assert held <= {group(name) for name in heard_by(everything, partly, folds, None).names}  # as in the paper


# --- a sweep chooses on it


def sweep_file(folder: Path, sets: dict[str, Any], **sweep: Any) -> RecipeFile:
    tree = recipe_tree(**{key.replace(".", "__"): value for key, value in sets.items()}, sweep={**RATES, **sweep})
    write_recipe(folder / "small.yaml", tree)
    return RecipeFile("small.yaml", tree)


def test_a_sweep_chooses_on_validation_recordings_where_every_training_has_some(tmp_path):
    held = {"folds.validation": 0.2}
    chosen = sweep_file(tmp_path, held, metric="strict/AP/cc").resolve()
    assert score_name(chosen) == "validation/strict/AP/cc"
    assert score_name(sweep_file(tmp_path, held).resolve()) == "validation/strict/mAP/micro"
    assert score_name(sweep_file(tmp_path, {}, metric="strict/AP/cc").resolve()) == "strict/AP/cc"
    # what is counted at thresholds is too good on the recordings that chose these
    assert score_name(sweep_file(tmp_path, held, metric="timestep/F1").resolve()) == "timestep/F1"

    def row(name: str, of_folds: float, of_validation: float) -> Row:
        metrics = {"strict/AP/cc_mean": of_folds, "validation/strict/AP/cc_mean": of_validation}
        return Row(name, {"finetune.optimizer.learning_rate": 0.1}, "finished", "", name, 2, metrics)

    rows = [row("a", 0.9, 0.4), row("b", 0.1, 0.5)]
    best = best_of(rows, score_name(chosen), [1.0])
    assert best is not None and best.name == "b"
    assert "best trial by validation/strict/AP/cc: b, run b" in text_report(chosen, rows).splitlines()
    scores = {"a": {None: {0: 0.9}}, "b": {None: {0: 0.1}}}
    told = to_text(answer_of(chosen, rows, scores))
    assert "best trial: b" in told and "chosen on validation recordings; the folds that it is tested on" in told
    other = sweep_file(tmp_path, {}, metric="strict/AP/cc").resolve()
    assert "best trial by strict/AP/cc: a" in text_report(other, rows)
    assert "its score is somewhat too good" in to_text(answer_of(other, rows, scores))


def test_trials_all_have_validation_recordings_or_none(tmp_path):
    file = sweep_file(tmp_path, {"folds.validation": 0.2}, parameters={"folds.validation": [0.1, None]})
    with pytest.raises(UserError, match=r"trial validation=null: folds\.validation = None: trials are compared"):
        trials_of(file)


def test_a_sweep_stops_before_it_trains_where_nothing_can_be_spared(tmp_path, corpus):
    """Two groups: one evaluates, and the other is needed to train on."""
    sets = [r"folds.group=^rec(\d)", "folds.holdout=^1$", "folds.run=null", "folds.validation=0.2"]
    recipe = make_recipe(tmp_path, sets, data__source="x")
    with pytest.raises(UserError, match=r"folds\.validation = 0\.2: .* fold 0 has no validation: each of the 1 groups"):
        splits.check_validated(recipe, corpus, splits.split(recipe, corpus))
    splits.check_validated(make_recipe(tmp_path, data__source="x"), corpus, splits.split(recipe, corpus))


# --- and prunes by it


@pytest.mark.parametrize(
    "sets, said",
    [
        ({}, "grace_validations = 2: there are no validations without a share in folds.validation; say 0.2 there"),
        ({"folds.validation": 0.2, "ray.num_workers": 2}, "say ray.num_workers: 0 (they are 2), or prune by folds"),
        ({"folds.validation": 0.2}, "must be below the number of validations of a trial, 2; after the last one"),
    ],
)
def test_pruning_after_validations_needs_some_in_a_trials_own_process(tmp_path, sets, said):
    with pytest.raises(UserError) as caught:
        sweep_file(tmp_path, sets, pruning={"grace_validations": 2}).resolve()
    assert said in str(caught.value)


def test_a_trial_is_as_far_as_the_others_after_the_same_share_of_its_trainings(tmp_path):
    """Two label shares of 3 validations each where the sweep's own recipe has 2 each: a fold is worth 4."""
    sets = ["folds.validation=0.2", "folds.label_shares=[0.5, 1.0]", "finetune.updates=6", "seeds=[7, 8]"]
    pace = Pace(make_recipe(tmp_path, [*sets, "finetune.validation={every: 2}"]), "validation/AP/cc", 4)
    assert not pace.after_look(7, 0, 0.5, 1, {}) and pace.time == pytest.approx(4 / 6)
    assert pace.after_look(7, 0, 0.5, 2, {"validation/AP/cc": 0.25}) and (pace.time, pace.score) == (8 / 6, 0.25)
    assert pace.after_look(7, 0, 1.0, 1, {"validation/AP/cc": 0.75}) and pace.time == pytest.approx(16 / 6)
    assert pace.score == 0.5  # of both trainings
    found = {0.5: [{"validation/AP/cc": 0.1}], 1.0: [{"validation/AP/cc": 0.3}]}
    pace.after_fold({7: found})
    assert (pace.time, pace.folds) == (4, 1) and pace.score == pytest.approx(0.2)
    assert pace.after_look(7, 1, 0.5, 1, {"validation/AP/micro": 0.9}) and pace.time == pytest.approx(4 + 4 / 6)
    assert pace.score == pytest.approx((0.1 + 0.3 + 0) / 3)  # undefined is the worst there is
    both = {share: [*folds, {"validation/AP/cc": 0.5}] for share, folds in found.items()}
    pace.after_fold({7: both, 8: found})
    assert (pace.time, pace.folds) == (12, 3) and pace.score == pytest.approx((0.1 + 0.3 + 0.5 + 0.5 + 0.1 + 0.3) / 6)


class Tried:
    """What ASHA needs of a trial."""

    def __init__(self, name: str) -> None:
        self.trial_id = name


def test_a_trial_that_falls_behind_stops_within_a_training():
    """Looked at after 2 and 4 validations of 6: the worse half stops, whatever it was before."""
    asha = scheduler(PruningConfig(grace_validations=2), 2, 3)
    scores = {"a": [0.5] * 6, "b": [0.1, 0.6, 0.6, 0.6, 0.6, 0.6], "c": [0.9, 0.4, 0.9, 0.9, 0.9, 0.9]}
    stopped: dict[str, int] = {}
    for name, found in scores.items():
        trial = Tried(name)
        asha.on_trial_add(None, trial)
        for number, score in enumerate(found, 1):
            if asha.on_trial_result(None, trial, {"validations": number, "score": score}) == "STOP":
                stopped[name] = number
                break
    assert stopped == {"c": 2}
