"""Names of classes: typed in lists, one to one in MLflow, and read back as people wrote them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.basics.names import listed, rejoined
from a2v_experiments.recipe.event_classes import check_event_classes
from a2v_experiments.recipe.files import read_recipe
from a2v_experiments.store.lookup import defined_metrics
from a2v_experiments.store.names import LONGEST, ClassNames, unique_names
from a2v_experiments.store.tracking import Store, flatten, open_store

ODD = ["wren?", "wren!", "wren_", "wren", "A*", "A+", "ä/ö", "a//b", "a/_/b", "call, juv.", "x/A_", "mean", "x" * 300]


@pytest.fixture
def store(new_work: Callable[[str], Path]) -> Store:
    return open_store(new_work("work"), None, "birds")


def test_every_class_has_a_name_of_its_own_that_stays():
    names = unique_names(ODD, 160)
    assert len(set(names.values())) == len(ODD) and names == unique_names(ODD, 160)
    assert (names["wren_"], names["wren"], names["wren?"], names["wren!"]) == ("wren_", "wren", "wren_2", "wren_3")
    assert names["ä/ö"] == "ä/ö" and max(map(len, names.values())) <= 160


@pytest.mark.parametrize("suffix", ["", "_mean", "_std"])
@pytest.mark.parametrize(
    "prefix", ["AP/", "strict/AP/", "energy/strict/AP/", "labels_0.5/AP/", "labels/train/", "presence/F1/"]
)
def test_metrics_are_read_back_as_they_were(prefix: str, suffix: str):
    named = ClassNames.of(ODD)
    again = ClassNames.from_tags({**named.tags, "fold": "0"})
    there = {name: named.to_store(f"{prefix}{name}{suffix}") for name in [*ODD, "micro"]}
    assert len(set(there.values())) == len(there) and max(map(len, there.values())) <= LONGEST
    assert {name: again.from_store(key) for name, key in there.items()} == {
        name: f"{prefix}{name}{suffix}" for name in there
    }


def test_two_classes_that_mlflow_would_make_one_are_logged(store: Store):
    """Case: `wren?` and `wren!` broke the store's uniqueness after the training, in the scores of a model."""
    run_id = store.begin("finetune", "f", "a name", {"a": 1}, {}, None)
    store.begin_model(run_id, "detector", {"classes": ", ".join(ODD) * 100})
    store.name_classes(run_id, ODD)
    scores = {f"AP/{name}": number / 100 for number, name in enumerate(ODD)}
    store.log_metrics(run_id, scores, 3, run_id)
    again = Store(store.uri, "birds", None)  # of another call, which knows the names from the run
    again.log_metrics(run_id, {"strict/AP/wren!": 0.5}, 3, run_id)
    assert defined_metrics(again.run(run_id)) == scores | {"strict/AP/wren!": 0.5}


def test_parameters_that_differ_in_odd_characters_alone_are_all_kept():
    assert flatten({"t": {"h?": 1, "h!": 2, "h_": 3}}) == {"t.h_2": "1", "t.h_3": "2", "t.h_": "3"}


def test_names_that_scores_have_are_refused_before_the_training():
    recipe = read_recipe("few_calls", ["data.source=field"]).resolve()
    with pytest.raises(UserError, match=r"a class is called 'micro', as the scores of all classes together are"):
        check_event_classes(recipe, ["a", "micro"])
    many = recipe.model_copy(
        update={
            "evaluate": recipe.evaluate.model_copy(
                update={"events": recipe.evaluate.events.model_copy(update={"threshold": {"other": 0.5}})}
            )
        }
    )
    with pytest.raises(UserError, match=r"c0, c1, .* and 60 more are missing") as caught:
        check_event_classes(many, [f"c{number}" for number in range(80)])
    assert len(str(caught.value)) < 500


def test_lists_of_classes():
    assert listed(None) is None and listed(["a, b", "c"]) == ["a", "b", "c"]
    assert listed(['"Wren, juv.",b', "ä/ö"]) == ["Wren, juv.", "b", "ä/ö"]
    known = ["Wren, juv.", "a", "b,c"]
    assert rejoined(["a", "Wren", "juv.", "b", "c", "x"], known) == ["a", "Wren, juv.", "b,c", "x"]


def numbered(folder: Path) -> Path:
    import numpy as np
    import soundfile

    (folder / "audio").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for number in range(3):
        soundfile.write(folder / "audio" / f"r{number}.wav", np.full(30_000, 0.1), 1000)
        lines = [f"{k}\t{k + 0.5}\t{'cl' if k % 2 else '-h'}{10 * number + k}\n" for k in range(9)]
        (folder / "annotations" / f"r{number}.txt").write_text("".join(lines))
    return folder


def test_numbered_labels_are_told_and_a_template_merges_them(a2v, tmp_path: Path):
    source, table = numbered(tmp_path / "field"), tmp_path / "classes.csv"
    said = a2v("data", "annotations", source, "--write-mapping", table)
    assert said.code == 0 and "27 of 27 classes have a single event" in said.out and "all right" not in said.out
    assert "27 labels, 2 classes suggested" in said.out
    before = table.read_text()
    assert a2v("data", "annotations", source, "--write-mapping", table).code and table.read_text() == before
    said = a2v("data", "annotations", source, "--mapping", table, "--out", tmp_path / "all.csv")
    assert said.code == 0 and "all right" in said.out
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert len(lines) == 28 and {line.split(",")[3] for line in lines[1:]} == {"-h", "cl"}
    assert a2v("data", "annotations", source, "--out", source / "all.csv").code  # it would be read as one more table
    assert not (source / "all.csv").exists()
    said = a2v("data", "folds", source, "--strip-numbers", "--folds", 3, "--shares", "", "--out", tmp_path / "f")
    assert said.code == 0 and "strip_numbers: 27 labels became 2" in said.out
    assert "are in one recording" not in said.out and len(said.out.splitlines()) < 30
