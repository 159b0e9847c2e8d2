"""`a2v experiment suggest` as it is called: what it writes, says and refuses, and that `plan` takes it."""

from __future__ import annotations

import json

import pytest
import yaml
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.suggest.suggest import FEW, MANY
from experiments_suggest import corpus, crows, set_known_speed, song


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch, tmp_path):
    set_known_speed(monkeypatch)
    monkeypatch.chdir(tmp_path)


def test_few_labels_are_not_heard_more_than_200_times(a2v, tmp_path):
    """10 recordings of 6 s: 8 to train on, a fifth of them (2) for validation, 6 are 3 segments of 2.4 s each: 18, of
    which an update hears 4."""
    corpus(tmp_path / "few", {f"rec{n}.wav": (16000, 6.0) for n in range(10)}, [(1.0, 0.5, "a"), (3.0, 0.5, "b")])
    assert a2v("experiment", "suggest", "few", "--minutes", 60).code == 0
    found, text = load_recipe("few.yaml"), (tmp_path / "few.yaml").read_text(encoding="utf-8")
    assert found.finetune.updates == 200 * 18 // 4 == 900 and found.finetune.optimizer.warmup_updates == 180
    told = " ".join(text.replace("#", " ").split())
    assert "but 900 hear each second of the 36 s of labelled audio in the training part 200 times" in told
    assert a2v("experiment", "suggest", "few", "--minutes", 2, "--out", "short.yaml").code == 0
    fitting = 2 * 60 * 0.7 / 0.3 / 2  # of 0.1 s a micro-batch and 0.2 s more, a fold and the final model: fewer
    assert load_recipe("short.yaml").finetune.updates == pytest.approx(fitting, abs=1)
    assert "200 times" not in (tmp_path / "short.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("count, folds", [(3, 3), (9, 5), (10, 1), (12, 1)])
def test_all_labels_train_the_model_for_new_recordings(a2v, tmp_path, count, folds):
    """With fewer than 10 recordings all folds run and none is kept for validation; the minutes are shared out."""
    corpus(tmp_path / "few", {f"rec{n}.wav": (16000, 30.0) for n in range(count)}, [(1.0, 0.5, "a"), (3.0, 0.5, "b")])
    said = a2v("experiment", "suggest", "few", "--minutes", 2)
    assert said.code == 0, said.err
    found, text = load_recipe("few.yaml"), (tmp_path / "few.yaml").read_text(encoding="utf-8")
    told = " ".join(text.replace("#", " ").split())
    assert found.folds.refit and len(found.folds.selected) == folds
    assert found.finetune.updates == pytest.approx(2 * 60 * 0.7 / 0.3 / (folds + 1), abs=1)
    assert (found.folds.validation is None) == (count < 10)
    why_none = f"{count} labelled recordings are too few to keep some apart; thresholds are chosen across the folds"
    assert (why_none in told) == (count < 10)
    assert f"for {folds + 1} trainings ({folds} fold{'s' if folds > 1 else ''} and the final model)" in told
    assert f"the final model (folds.refit) hears all {2 * count} labelled calls" in said.out
    said = a2v("experiment", "plan", "few.yaml", "--no-measure")
    assert f"{folds} finetuning{'s' if folds > 1 else ''}, 1 refit; " in said.out, said.out + said.err


@pytest.mark.parametrize("make, parent, folds", [(song, MANY, 4), (crows, FEW, 5)])
def test_the_file_loads_and_can_be_planned(a2v, tmp_path, make, parent, folds):
    """4 groups, and 8 recordings."""
    make(tmp_path / "my animal")
    said = a2v("experiment", "suggest", "my animal", "--minutes", 10)
    assert said.code == 0, said.err
    path = tmp_path / "my_animal.yaml"
    recipe = load_recipe(str(path))
    assert recipe.name == "my_animal" and recipe.data.source == "my animal"
    assert recipe.folds.selected == list(range(folds))
    assert recipe.finetune.updates > 100 and yaml.safe_load(path.read_text())["extends"] == parent
    assert "finetune hears " in said.out
    for verb in ("plan", "run"):
        assert f"a2v experiment {verb} my_animal.yaml" in said.out and f"a2v experiment {verb}" in path.read_text()
    said = a2v("experiment", "plan", "my_animal.yaml", "--no-measure")
    assert said.code == 0 and "finetune hears " in said.out, said.err


def test_a_file_is_never_overwritten(a2v, tmp_path):
    song(tmp_path / "song")
    (tmp_path / "song.yaml").write_text("mine")
    said = a2v("experiment", "suggest", "song")
    assert said.code == 2 and said.only_line() == (
        "song.yaml: exists already, and is left as it is; name another file with --out"
    )
    assert (tmp_path / "song.yaml").read_text() == "mine"
    said = a2v("experiment", "suggest", "song", "--out", "other.yaml", "--json")
    found = json.loads(said.out)
    assert found["recipe"] == "other.yaml" and found["extends"] == MANY and found["corpus"]["calls"] == 480
    assert load_recipe("other.yaml").name == "song" and found["warnings"] == []


@pytest.mark.parametrize("name", ["few_calls", "finch"])
def test_a_folder_may_have_the_name_of_a_recipe(a2v, tmp_path, name):
    crows(tmp_path / name)
    assert a2v("experiment", "suggest", name).code == 0
    assert load_recipe(f"{name}.yaml").data.source == name


def test_mistakes_are_one_line(a2v, tmp_path):
    calls = [(0.1, 0.1, "a")]
    corpus(tmp_path / "one", {"a.wav": (8000, 1.0)}, calls)
    corpus(tmp_path / "silent", {"a.wav": (8000, 1.0), "b.wav": (8000, 1.0)}, [])
    corpus(tmp_path / "bare", {"a.wav": (8000, 1.0)}, calls)
    (tmp_path / "bare" / "annotations.csv").unlink()
    for name, told in {
        "nowhere": "nowhere: no such folder; ",
        "one": "one: only one recording is labelled (a.wav); label another, or cut it",
        "silent": "silent: no call is labelled",
        "bare": "bare: annotations.csv (file,onset_s,offset_s,label) is missing",
    }.items():
        said = a2v("experiment", "suggest", name)
        assert said.code == 2 and said.only_line().startswith(told), said.err
        assert not (tmp_path / f"{name}.yaml").exists()
    said = a2v("experiment", "suggest", "one", "--out", "recipe")
    assert said.code == 2 and "end its name in .yaml" in said.only_line()
