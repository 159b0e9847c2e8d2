"""`data.labelled: auto` in experiments: the rule is in fingerprints, plans and suggested recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.meerkat import write_labels
from a2v_data.prepare import PrepareConfig, prepare
from a2v_experiments.overview.plan_audio import audio_of
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.recipe.sections import DataConfig
from a2v_experiments.stages import packing, stages
from a2v_experiments.stages.heard import heard_by
from a2v_experiments.stages.specs import data_spec, experiment_config
from a2v_experiments.stages.stage import Context
from a2v_experiments.store.tracking import open_store
from a2v_experiments.suggest.facts import read_facts
from a2v_experiments.suggest.suggest import suggest
from experiments_world import RATE, RECORDINGS, make_meerkat_source, make_recipe

# Of DataConfig(source=..., sample_rate=4000) and origin "origin", computed before there was `auto`.
BEFORE = "f94ded2499e1fe8087e53bf12ce36f9322920ede1f54dd1a6a9198aa4d371042"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """MeerKAT's layout: every segment has a label file, of which only the first four hold events."""
    folder = make_meerkat_source(tmp_path / "published")
    for number in range(4, RECORDINGS):
        write_labels(folder / "lbl" / f"rec{number:02d}.h5", [], RATE)
    return folder


def mark(source: Path | str, **options: object) -> str:
    data = DataConfig.model_validate({"source": str(source), "sample_rate": 4000, **options})
    return data_spec(data, "origin").fingerprint


def test_fingerprints_change_where_labels_do_and_nowhere_else(csv_source: Path, published: Path, tmp_path: Path):
    prepare(csv_source, tmp_path / "seg", PrepareConfig(sample_rate=RATE, segment_s=1))
    for source in (csv_source, tmp_path / "seg", "synthetic", "FOLDER"):
        assert mark(source) == mark(source, labelled="annotated") == BEFORE, source
    assert mark(published, labelled="annotated") == BEFORE
    assert mark(published) == mark(published, labelled="with_events") != BEFORE
    assert mark(published, annotations=AnnotationConfig(tables=["t.csv"])) == mark(
        csv_source, annotations=AnnotationConfig(tables=["t.csv"])
    )


def test_runs_say_the_rule(csv_source: Path, published: Path) -> None:
    def rules(source: Path | str, *more: str) -> list[str]:
        recipe = load_recipe("many_calls", [f"data.source={source}", *more])
        found = experiment_config(recipe)
        return [found[key]["labelled"] for key in ("data", "pretrain_data") if found[key]]

    assert rules(csv_source) == rules("synthetic") == ["annotated"] and rules(published) == ["with_events"]
    assert rules(published, "data.labelled=all") == ["all"]


def test_the_data_stage_hears_all_and_says_what_looks_wrong(published: Path, new_work, tmp_path: Path) -> None:
    """An old packed store with wrong labels is not used; pretraining on the same audio is."""
    work, said = new_work(), []
    found, origin = {}, packing.Origin(str(published), published, "origin")
    for rule in ("annotated", "auto"):
        recipe = make_recipe(tmp_path, data__source=str(published), data__labelled=rule)
        store = open_store(work, None, "rules")
        parent = store.begin("experiment", rule, rule, {}, {}, None)
        context = Context(recipe, store, work, parent, said.append)
        found[rule] = stages.prepare(context, data_spec(recipe.data, "origin"), origin)[1], recipe
    (present, one), (events, other) = found.values()
    assert present.folder != events.folder
    assert [sum(r.labelled for r in corpus.recordings) for corpus in (present, events)] == [RECORDINGS, 4]
    told = f"  {RECORDINGS - 4} of {RECORDINGS} label files hold no event: if nobody listened to those segments, say "
    assert said.count(f"{told}labelled: with_events") == 1
    assert len(heard_by(other, events).names) == RECORDINGS and heard_by(one, present) == heard_by(other, events)


def test_a_plan_counts_what_is_labelled(csv_source: Path, published: Path, tmp_path: Path) -> None:
    prepare(published, tmp_path / "seg", PrepareConfig(sample_rate=RATE, segment_s=1, labelled="annotated"))

    def share(source: Path, **options: object) -> float:
        data = DataConfig.model_validate({"source": str(source), "sample_rate": RATE, **options})
        audio = audio_of(data, tmp_path, None)
        return audio.labelled_s / audio.total_s

    seconds = [12400 + 37 * number for number in range(RECORDINGS)]  # samples of each recording
    called = sum(seconds[:4]) / sum(seconds)
    assert share(published) == pytest.approx(called)
    assert share(published, labelled="annotated") == share(published, labelled="all") == 1
    assert share(csv_source) == share(csv_source, labelled="with_events") == 1
    # every recording becomes four segments; those of a recording with a call all count
    assert share(tmp_path / "seg") == 1 and share(tmp_path / "seg", labelled="with_events") == pytest.approx(4 / 12)


def test_commands_say_the_rule_and_how_many(a2v, published: Path, tmp_path: Path) -> None:
    line = f"4 of {RECORDINGS} recordings labelled: those with events (labelled: with_events)"
    said = a2v("data", "stats", published)
    assert said.code == 0 and line in said.out.splitlines() and "note:" not in said.out
    found = json.loads(a2v("data", "stats", published, "--json").out)
    assert (found["labelled_rule"], found["labelled_recordings"], found["notices"]) == ("with_events", 4, [])
    said = a2v("data", "folds", published, "--out", tmp_path / "f", "--folds", 2, "--shares", "")
    assert said.code == 0 and line in said.out.splitlines()
    found = json.loads((tmp_path / "f" / "folds.json").read_text())
    assert (found["labelled_rule"], found["labelled_recordings"], found["recordings"]) == ("with_events", 4, RECORDINGS)
    told = f"note: {RECORDINGS - 4} of {RECORDINGS} label files hold no event: if nobody listened"
    for command in (("stats", published), ("folds", published, "--out", tmp_path / "g"), ("check", published)):
        assert told in a2v("data", *command, "--labelled", "annotated").out, command
    said = a2v("data", "check", published)
    assert f"4 of {RECORDINGS} segments labelled: those with events (labelled: with_events)" in said.out.splitlines()
    found = json.loads(a2v("data", "check", published, "--json").out)
    assert (found["labelled_rule"], found["labelled"], found["label_files"]) == ("with_events", 4, RECORDINGS)


def test_a_suggested_recipe_says_the_rule_where_events_tell(csv_source: Path, published: Path) -> None:
    bases = {name: load_recipe(name) for name in ("many_calls", "few_calls")}
    facts = read_facts(published)
    assert len(facts.labelled) == 4 and suggest(facts, bases, 20).tree["data"]["labelled"] == "with_events"
    assert "labelled" not in suggest(read_facts(csv_source), bases, 20).tree["data"]
