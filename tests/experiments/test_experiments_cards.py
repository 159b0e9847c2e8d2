"""Model cards: what a run's model says of itself, `a2v model push`, and loading what it wrote with a2v-model alone."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from a2v_experiments.card.text import card_text
from a2v_experiments.stages.cards import write_run_card
from a2v_model import load_model
from experiments_runs import World
from experiments_world import RATE, RECORDINGS, call_quietly, calls, recipe_tree, waveform, write_recipe

LICENCE = "CC BY-NC 4.0, ask the herders"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, csv_source: Path) -> World:
    """Two folds after a pretraining, with validation, and the model of all labels."""
    folder = tmp_path_factory.mktemp("cards")
    work = folder / "work"
    work.mkdir()
    shutil.copy(empty_database, work / "mlflow.db")
    tree = recipe_tree(
        data__source=str(csv_source), folds={"count": 3, "run": [0, 1], "validation": 0.25, "refit": True}
    )
    tree["evaluate"]["iou_threshold"] = 0.05
    tree["finetune"]["validation"] = {"every": 3}
    recipe = write_recipe(folder / "small.yaml", tree)
    first = call_quietly("experiment", "run", recipe, "--work", work)
    assert first.code == 0, first.err
    return World(work, recipe, first)


def fold_run(world: World, fold: int = 0) -> Any:
    return next(run for run in world.runs("finetune") if run.data.tags["fold"] == str(fold))


def parts(card: str) -> tuple[dict[str, Any], str]:
    """The YAML before a card, and its Markdown."""
    _, front, text = card.split("---\n", 2)
    return yaml.safe_load(front), text


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables, by their first cell; of several the first counts."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(first, cells)
    return found


def pushed(world: World, run: Any, out: Path, *options: str) -> Path:
    said = call_quietly("model", "push", f"runs:/{run.info.run_id}", out, "--tracking-uri", world.store.uri, *options)
    assert said.code == 0, said.err
    return out


def test_a_fold_says_its_data_and_scores(world: World) -> None:
    run = fold_run(world)
    front, text = parts((world.fetch(run, "model") / "README.md").read_text(encoding="utf-8"))
    table = rows(text)
    # by the manifests and by the sounds that the test made; no part has another corpus
    evaluated = sorted(world.manifest(world.runs("folds")[0], "valid_0.tsv"))
    lengths = [len(waveform(int(name[3:5]))) / RATE / 3600 for name in evaluated]
    assert table["evaluation: held out, its labels were never seen"] == [
        "tones", str(len(evaluated)), f"{round(sum(lengths), 3):g}", str(4 * len(evaluated)),
    ]  # fmt: skip
    counted = [int(table[name][1]) for name in table if name.startswith(("training", "validation:"))]
    assert len(counted) == 2 and sum(counted) == RECORDINGS - len(evaluated)
    of_cc = [sum(label == "cc" for label, *_ in calls(int(name[3:5]))) for name in evaluated]
    assert table["cc"][-1] == str(sum(of_cc))
    # as the evaluation wrote it into the run's artifact, which no card reads; what is counted is in the metrics only
    with world.fetch(run, "scores.csv").open(newline="") as file:
        scored = {row["class"]: row for row in csv.DictReader(file)}
    metrics = world.store.client.get_run(run.info.run_id).data.metrics
    strict = [float(scored["micro"][name]) for name in ("AP strict", "mAP strict")]
    strict += [metrics[f"strict/{name}/micro"] for name in ("F1", "precision", "recall")]
    assert table["strict"] == [f"{value:.3f}" for value in strict] and strict[0] > 0 and strict[2] > 0
    assert table["paper"][:2] == [f"{float(scored['micro']['AP paper']):.3f}", "–"]
    threshold = described(world)["thresholds"]["cc"]
    of_class = rows(text.partition("the model's threshold")[2])["cc"]
    assert of_class[0] == f"{threshold:g}" and of_class[2] == f"{float(scored['cc']['AP strict']):.3f}"
    assert text.index("| strict ") < text.index("| paper ")
    assert "at thresholds chosen on validation recordings" in text and "somewhat too good" in text
    shown = {one["name"]: one["value"] for one in front["model-index"][0]["results"][0]["metrics"]}
    assert shown["AP micro, strict"] == round(strict[0], 4)
    assert "Beforehand: pretraining heard 8 of the 8 evaluation recordings, without their labels" in text
    assert front["model-index"][0]["results"][0]["dataset"] == {"type": "tones", "name": "tones", "split": "evaluation"}


def test_what_nobody_recorded_is_said_to_be_so(world: World) -> None:
    front, text = parts((world.fetch(fold_run(world), "model") / "README.md").read_text(encoding="utf-8"))
    assert front["license"] == "unknown" and "Licence of this model: not recorded." in text
    assert "Licence of the recordings (tones): not recorded." in text
    imported = card_text({**described(world), "extra": {}, "card": {}}, "mine", ["here"])
    front, text = parts(imported)
    assert text.startswith("\n# mine\n") and "model-index" not in front
    for said in ("What it was trained on: not recorded.", "Scores: not recorded.", "How it was made: not recorded."):
        assert said in text


def described(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.fetch(fold_run(world), "model") / "model.json").read_text())
    return found


def test_it_says_where_it_comes_from_and_how_to_repeat_it(world: World) -> None:
    from importlib.metadata import version

    run, (pretrained,) = fold_run(world), world.runs("pretrain")
    text = parts((world.fetch(run, "model") / "README.md").read_text(encoding="utf-8"))[1]
    table = rows(text)
    assert f"`a2v experiment rerun {run.info.run_id}`" in text
    assert table["a2v"] == [version("a2v")] and table["run"] == [run.info.run_id]
    commit = run.data.tags.get("mlflow.source.git.commit")
    assert table["commit"][0].startswith(commit or "not recorded") and table["classes"] == ["sn, cc"]
    hours = sum(len(waveform(number)) for number in range(RECORDINGS)) / RATE / 3600
    told = f"Pretrained on: tones, {RECORDINGS} recordings, {round(hours, 3):g} hours; licence: not recorded"
    assert f"{told} (`runs:/{pretrained.info.run_id}`)." in text and table["sample rate"] == ["4000 Hz, one channel"]
    front, text = parts((world.fetch(pretrained, "model") / "README.md").read_text(encoding="utf-8"))
    assert front["pipeline_tag"] == "feature-extraction" and "model.embed(waveform, 4000)" in text
    assert rows(text)["training"][1:] == [str(RECORDINGS), f"{round(hours, 3):g}", "not read"]
    assert "None: it has no classes." in text and "sn" not in rows(text)


def test_a_model_of_all_labels_has_the_scores_of_the_folds(world: World) -> None:
    (refit,) = world.runs("refit")
    front, text = parts((world.fetch(refit, "model") / "README.md").read_text(encoding="utf-8"))
    folds = [world.store.client.get_run(fold_run(world, fold).info.run_id).data.metrics for fold in (0, 1)]
    values = [metrics["strict/AP/micro"] for metrics in folds]
    mean, std = sum(values) / 2, abs(values[0] - values[1]) / 2**0.5
    assert rows(text)["strict"][0] == f"{mean:.3f} ± {std:.3f}"
    assert "of 2 folds, held out there" in text and "trained on all labels" in text
    assert front["model-index"][0]["results"][0]["dataset"]["split"] == "evaluation, mean over folds"


def test_a_pushed_folder_is_the_model(world: World, tmp_path: Path, a2v: Any) -> None:
    run = fold_run(world)
    out = pushed(world, run, tmp_path / "hub", "--licence", "CC-BY-4.0")
    assert sorted(os.listdir(out)) == ["README.md", "config.json", "model.safetensors"]
    sound_N = waveform(3).astype(np.float32)
    before = load_model(world.fetch(run, "model")).likelihoods(sound_N, RATE)
    assert torch.equal(load_model(out).likelihoods(sound_N, RATE), before)
    np.save(tmp_path / "sound.npy", sound_N)
    # three lines, where nothing but a2v-model and what it needs can be imported
    code = f"""
import sys
import numpy
sys.modules.update(dict.fromkeys(("a2v", "a2v_experiments", "a2v_data", "a2v_eval", "mlflow", "ray", "pandas", "yaml")))
from a2v_model import load_model
model = load_model({str(out)!r})
likelihoods = model.likelihoods(numpy.load("sound.npy"), {RATE})
numpy.save("found.npy", likelihoods.numpy())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert np.array_equal(np.load(tmp_path / "found.npy"), before.numpy())
    front, text = parts((out / "README.md").read_text(encoding="utf-8"))
    assert front["license"] == "cc-by-4.0" and "Licence of this model: CC-BY-4.0." in text
    assert front["library_name"] == "a2v" and front["pipeline_tag"] == "audio-classification"
    config = json.loads((out / "config.json").read_text())
    assert config["model_type"] == "animal2vec" and config["thresholds"] == described(world)["thresholds"]


def test_predict_and_info_take_a_pushed_folder(world: World, tmp_path: Path, a2v: Any) -> None:
    run = fold_run(world)
    out = pushed(world, run, tmp_path / "hub")
    soundfile.write(tmp_path / "new.wav", waveform(2), RATE, subtype="PCM_16")
    found = []
    for name, model in (("a", out), ("b", world.fetch(run, "model"))):
        said = a2v("predict", tmp_path / "new.wav", "--model", model, "--out", tmp_path / name, "--processes", "1",
                   "--threshold", "0.01", "--all-classes")  # fmt: skip
        assert said.code == 0, said.err
        with (tmp_path / name / "events.csv").open(newline="") as file:
            found.append([{**row, "model": ""} for row in csv.DictReader(file)])
    assert found[0] == found[1] and found[0]
    info, again = a2v("model", "info", out), a2v("model", "info", world.fetch(run, "model"))
    assert info.code == 0 and info.out.splitlines()[1:] == again.out.splitlines()[1:]


def test_only_the_same_models_folder_is_written_again(world: World, tmp_path: Path) -> None:
    run, other = fold_run(world), fold_run(world, 1)
    out = pushed(world, run, tmp_path / "hub", "--licence", "my own terms")
    front = parts((out / "README.md").read_text(encoding="utf-8"))[0]
    assert front["license"] == "other" and front["license_name"] == "my-own-terms"
    (out / "LICENSE").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    pushed(world, run, out)  # what is there stays, the licence too
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    store = ("--tracking-uri", world.store.uri)
    said = call_quietly("model", "push", f"runs:/{other.info.run_id}", out, *store)
    assert said.code == 2 and "exists already and does not hold this model" in said.only_line()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    edited = (out / "README.md").read_text(encoding="utf-8") + "\nHeard at night only.\n"
    (out / "README.md").write_text(edited, encoding="utf-8")
    said = call_quietly("model", "push", f"runs:/{run.info.run_id}", out, *store, "--licence", "mit")
    assert said.code == 0 and "was edited and stays" in said.out
    assert (out / "README.md").read_text(encoding="utf-8") == edited
    assert json.loads((out / "config.json").read_text())["card"]["licence"] == "mit"


def test_a_folder_keeps_what_is_known_where_no_store_is(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A2V_WORK", str(tmp_path / "nowhere"))
    said = call_quietly("model", "push", world.fetch(fold_run(world), "model"), tmp_path / "hub")
    assert said.code == 0 and f"hf upload USER/hub {tmp_path / 'hub'} ." in said.out
    assert "the model's licence is not recorded" in said.out and not (tmp_path / "nowhere").exists()
    run_card = (world.fetch(fold_run(world), "model") / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "hub" / "README.md").read_text(encoding="utf-8") == run_card
    again = call_quietly("model", "push", tmp_path / "hub", tmp_path / "twice")
    assert again.code == 0 and (tmp_path / "twice" / "README.md").read_text(encoding="utf-8") == run_card


def test_a_model_without_a_card_has_it_from_the_store(world: World, tmp_path: Path) -> None:
    """One of an a2v that wrote none."""
    folder, bare = world.fetch(fold_run(world), "model"), tmp_path / "bare"
    bare.mkdir()
    shutil.copy(folder / "model.safetensors", bare)
    (bare / "model.json").write_text(json.dumps({k: v for k, v in described(world).items() if k != "card"}))
    said = call_quietly("model", "push", bare, tmp_path / "hub", "--tracking-uri", world.store.uri)
    assert said.code == 0, said.err
    assert (tmp_path / "hub" / "README.md").read_text() == (folder / "README.md").read_text()


def test_a_card_is_put_where_a_server_keeps_the_model(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The description alone is fetched, not the weights, and put back."""
    folder, run_id = world.fetch(fold_run(world), "model"), fold_run(world).info.run_id
    before = {name: (folder / name).read_text() for name in ("model.json", "README.md")}
    (folder / "model.json").write_text(json.dumps({k: v for k, v in described(world).items() if k != "card"}))
    (folder / "README.md").unlink()
    monkeypatch.setattr("a2v_experiments.store.tracking.local_place", lambda *of: None)
    context: Any = SimpleNamespace(store=world.store, work=tmp_path)
    assert write_run_card(context, run_id)["run_id"] == run_id
    assert {name: (folder / name).read_text() for name in before} == before
    assert sorted(os.listdir(tmp_path / "fetched" / run_id / "model")) == ["README.md", "model.json"]


def test_a_licence_that_is_said_later_is_in_no_fingerprint(world: World, tmp_path: Path) -> None:
    known = {run.info.run_id for run in world.runs()}
    said = world.call(f"data.licence={LICENCE!r}")
    assert said.code == 0, said.err
    assert {run.info.run_id for run in world.runs()} == known and "summary: reused" in said.out
    (pretrained,) = world.runs("pretrain")
    for run in (fold_run(world), pretrained):
        text = parts((pushed(world, run, tmp_path / run.info.run_id) / "README.md").read_text(encoding="utf-8"))[1]
        assert f"Licence of the recordings (tones): {LICENCE}." in text
    assert (
        f"hours; licence: {LICENCE} ("
        in parts((tmp_path / fold_run(world).info.run_id / "README.md").read_text(encoding="utf-8"))[1]
    )


def test_mistakes_are_lines(world: World, tmp_path: Path) -> None:
    model = world.fetch(fold_run(world), "model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for source, out, options, told in (
        (tmp_path / "empty", "out", (), "no model.json there"),
        (tmp_path / "file", "out", (), "is a file, not a model's folder"),
        (model, "file", (), "exists already"),
        (model, "full", (), "exists already and does not hold this model"),
        (model, "out", ("--licence", " "), "--licence: is empty"),
    ):
        said = call_quietly("model", "push", source, tmp_path / out, *options)
        assert said.code == 2 and told in said.only_line() and said.out == "", told
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "full"]
    recipe = call_quietly("experiment", "plan", world.recipe, "--set", "data.licence=' '", "--work", world.work)
    assert recipe.code == 2 and re.search(r"data\.licence", recipe.only_line())
