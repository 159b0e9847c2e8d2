"""What a changed code, `--trust-code` and `--force` mean for a whole experiment, and what it says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from a2v_data.corpus import Corpus
from a2v_experiments.basics.errors import UserError
from a2v_experiments.stages import code, reused
from a2v_experiments.store.reuse import Reuse
from a2v_experiments.store.tags import COMMIT, DIRTY, FINGERPRINT
from experiments_runs import World, make_world
from experiments_world import Said, call_quietly
from mlflow.entities import Run

Run_ = Callable[..., Said]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, csv_source: Path) -> World:
    """One of its own, as what is forced stands in for what other tests look at."""
    return make_world(tmp_path_factory.mktemp("reuse"), empty_database, csv_source)


@pytest.fixture(scope="module")
def first_runs(world: World) -> dict[str, list[Run]]:
    return world.first_runs()


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes the code of a part read as if a module of it were edited."""

    def edit(part: str, module: str) -> None:
        before = code._here

        def here(one: str) -> tuple[dict[str, str], str]:
            modules, mark = before(one)
            return ({**modules, module: "edited"}, f"{one} edited") if one == part else (modules, mark)

        monkeypatch.setattr(code, "_here", here)

    return edit


def call(world: World, *options: str, command: str = "run") -> Said:
    said = call_quietly("experiment", command, world.recipe, "--work", world.work, *options)
    assert said.code == 0, said.err
    return said


def done(said: Said) -> dict[str, str]:
    """Stage -> 'reused' or 'run', as the command says."""
    found = re.findall(r"^(\S.*): (reused|run)\b.* ?\w{32}", said.out, re.M)
    return {name: how for name, how in found if name != "summary"}


def planned(world: World, *options: str) -> dict[str, str]:
    found = json.loads(call(world, *options, "--json", "--no-measure", command="plan").out)
    return {stage["name"]: stage["state"] for stage in found["stages"]}


def finetunings(world: World) -> list[Run]:
    return world.runs("finetune")


def test_other_code_of_an_evaluation_reuses_the_model_and_says_why_it_evaluates(world, first_runs, edited):
    edited("evaluate", "a2v_eval.matching")
    trusted = call(world, "--trust-code")
    assert set(done(trusted).values()) == {"reused"} and "its code differs and is trusted" in trusted.out
    assert set(planned(world, "--trust-code").values()) == {"reused"}
    assert planned(world)["finetune fold 0"] == "evaluates"
    before = {run.info.run_id for run in finetunings(world)}
    said = call(world)
    assert done(said) == {
        "data": "reused", "folds": "reused", "pretrain": "reused", "finetune fold 0": "run", "finetune fold 1": "run",
    }  # fmt: skip
    assert said.out.count("its model: reused, run ") == 2
    first = first_runs["finetune"][0].info.run_id
    assert f"run {first} is not reused, as code differs: a2v_eval.matching (--trust-code reuses it)" in said.out
    new = [run for run in finetunings(world) if run.info.run_id not in before]
    for run, old in zip(sorted(new, key=lambda run: run.data.tags["fold"]), first_runs["finetune"], strict=True):
        tags = old.data.tags
        assert run.data.tags["a2v.identity"] == tags["a2v.identity"] and run.data.metrics == pytest.approx(
            {name: old.data.metrics[name] for name in run.data.metrics}
        )
        assert run.data.tags["a2v.fingerprint"] != tags["a2v.fingerprint"]
        assert run.data.tags["a2v.training"] == tags["a2v.training"]
        kept = json.loads(world.fetch(run, "code.json").read_text(encoding="utf-8"))
        assert kept["evaluate"]["modules"]["a2v_eval.matching"] == "edited" and "a2v_model.losses" in str(kept)
    assert set(done(call(world)).values()) == {"reused"}  # the same edit is found again


def test_forced_stages_run_again_with_what_follows_and_are_what_is_reused_later(world, first_runs):
    assert planned(world, "--force", "finetune")["finetune fold 1"] == "runs"
    before = {run.info.run_id for run in world.runs()}
    said = call(world, "--force", "finetune")
    assert done(said) == {
        "data": "reused", "folds": "reused", "pretrain": "reused", "finetune fold 0": "run", "finetune fold 1": "run",
    }  # fmt: skip
    new = [run for run in world.runs() if run.info.run_id not in before]
    assert sorted(run.data.tags["a2v.stage"] for run in new) == ["experiment", "finetune", "finetune"]
    for run in new:
        if run.data.tags["a2v.stage"] == "finetune":
            assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]  # trained, from the start
    later = call(world)
    assert set(done(later).values()) == {"reused"}
    for run in new:
        assert run.info.run_id in later.out


def test_a_forced_evaluation_keeps_the_models(world, first_runs):
    said = call(world, "--force", "evaluate")
    assert done(said)["finetune fold 0"] == "run" and said.out.count("its model: reused, run ") == 2


def test_what_follows_from_what():
    assert Reuse.of(False, ["prepare"]).forced == {"prepare", "folds", "pretrain", "finetune", "evaluate", "refit"}
    assert Reuse.of(False, ["folds"]).forced == {"folds", "finetune", "evaluate", "refit"}
    only = Reuse.of(False, ["refit"])
    assert only.forces("refit") and only.forces("trial") and not only.forces("finetune")
    assert not any(Reuse.of(True, None).forces(stage) for stage in ("prepare", "experiment"))
    with pytest.raises(UserError, match=r"--force train: no such stage; one of prepare, folds, pretrain, finetune"):
        Reuse.of(False, ["train"])


def test_runs_name_the_recordings_that_they_are_of(world, first_runs, corpus):
    def datasets(run: Run) -> dict[str, dict[str, Any]]:
        found = world.store.client.get_run(run.info.run_id).inputs.dataset_inputs
        return {one.tags[0].value: {**json.loads(one.dataset.profile), "digest": one.dataset.digest} for one in found}

    (of_data,) = first_runs["prepare"]
    packed = Corpus.open(of_data.data.tags["a2v.corpus"])
    whole = datasets(of_data)["corpus"]
    hours = sum(one.n_samples for one in packed.recordings) / packed.sample_rate / 3600
    assert whole["digest"] == of_data.data.tags["a2v.fingerprint"][:16] and whole["labels"] == len(packed.events)
    assert whole["hours"] == pytest.approx(hours, abs=5e-4) and whole["recordings"] == len(packed.recordings)
    assert set(datasets(first_runs["pretrain"][0])) == {"training"}
    for fold, run in enumerate(first_runs["finetune"]):
        found = datasets(run)
        assert set(found) == {"training", "evaluation"}
        for context, manifest in (("training", f"train_{fold}.tsv"), ("evaluation", f"valid_{fold}.tsv")):
            names = world.manifest(first_runs["folds"][0], manifest)
            labels = sum(len(packed.labels(place)) for place in packed.indices(sorted(names)))
            assert (found[context]["recordings"], found[context]["labels"]) == (len(names), labels)
            assert found[context]["corpus"] == whole["digest"] != found[context]["digest"]


def test_a_training_says_its_precision(first_runs):
    for run in [*first_runs["pretrain"], *first_runs["finetune"]]:
        assert run.data.tags["precision"] in ("float32", "bfloat16")
        assert run.data.tags["a2v.command"] and run.data.tags["a2v.installed"]


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ({"c": "a" * 40, "d": "false"}, {"c": "a" * 40, "d": "false"}, ""),
        ({"c": "b" * 40, "d": "true"}, {"c": "a" * 40, "d": "false"}, "commit bbbbbbb, uncommitted changes; "),
        ({"c": "a" * 40, "d": "false"}, {"c": "a" * 40, "d": "true"}, "this checkout has uncommitted changes; "),
    ],
)
def test_reuse_says_where_commits_differ_or_changes_are_not_committed(monkeypatch, then, now, told):
    keys = {"c": COMMIT, "d": DIRTY}
    monkeypatch.setattr(reused, "origin", lambda: {keys[key]: value for key, value in now.items()})
    spec = SimpleNamespace(fingerprint="f")
    run = SimpleNamespace(
        data=SimpleNamespace(tags={FINGERPRINT: "f", **{keys[key]: value for key, value in then.items()}})
    )
    wanted = f" ({told}the code of this stage is the same)" if told else ""
    assert reused.whence(run, spec) == wanted
