"""`plugins:` of a recipe: found, loaded, hashed into what they concern, refused in one line."""

from __future__ import annotations

import copy
import math
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from a2v_experiments.basics.errors import UserError
from a2v_experiments.cluster import submission
from a2v_experiments.recipe.files import load_recipe, read_recipe
from a2v_experiments.recipe.sections import Recipe
from a2v_experiments.stages.specs import experiment_config, finetune_spec, pretrain_spec, refit_spec
from a2v_experiments.sweep.trials import trials_of
from a2v_experiments.training.spec import TrainingSpec
from a2v_model.losses import own_loss
from a2v_model.plugins import Plugin, allowed, use
from a2v_model.registry import OwnLoss
from experiments_plugins import BACKWARDS, EVENTS, LOSS, PARTS, forget, nothing_stays
from experiments_world import RATE, recipe_tree, training_spec, write_recipe

ALL = {
    "plugins": ["mine.py", "parts.py", "events.py", "augmenting.py"],
    "model__front_end": {"kind": "blocks", "sample_rate": RATE},
    "finetune__loss": {"kind": "squares", "weight": 2},
    "finetune__head": {"kind": "two_layers"},
    "finetune__augmentations": [{"kind": "louder", "factor": 2}, {"kind": "backwards"}],
    "evaluate": {"events": {"method": "steps", "options": {"least": 2}}, "overlap_s": 0.3},
}


@pytest.fixture(autouse=True)
def _nothing_stays():
    with nothing_stays():
        yield


def write(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in (("mine", LOSS), ("parts", PARTS), ("events", EVENTS), ("augmenting", BACKWARDS)):
        (folder / f"{name}.py").write_text(text)
    return write_recipe(folder / "small.yaml", recipe_tree(data__source="tones", **copy.deepcopy(changes)))


def marks(recipe: Recipe) -> dict[str, str | None]:
    tuned = finetune_spec(recipe, 0, 1.0, "d", "f", "p")
    return {
        "pretrain": pretrain_spec(recipe, "a").fingerprint,
        "training": tuned.training,
        "finetune": tuned.fingerprint,
        "refit": refit_spec(recipe, ["x"], "d", "p").fingerprint,
    }


def test_an_edited_plugin_changes_the_fingerprints_of_what_it_concerns(tmp_path):
    before = marks(load_recipe(str(write(tmp_path, **ALL))))

    def changed(name: str, text: str) -> set[str]:
        write(tmp_path, **ALL)
        (tmp_path / name).write_text(text)
        after = marks(load_recipe(str(tmp_path / "small.yaml")))
        return {stage for stage in before if after[stage] != before[stage]}

    assert changed("mine.py", LOSS) == set()
    assert changed("mine.py", LOSS.replace("** 2", "** 4")) == {"training", "finetune", "refit"}
    assert changed("parts.py", PARTS + "\n") == {"pretrain", "training", "finetune", "refit"}
    edited = BACKWARDS.replace("[::-1]", "[::1]")
    assert changed("augmenting.py", edited) == {"training", "finetune", "refit"}
    assert changed("events.py", EVENTS + "\n") == {"finetune", "refit"}  # of the model that is there


def test_without_plugins_there_is_nothing_of_them_in_what_is_hashed(tmp_path):
    text = yaml.safe_dump(experiment_config(load_recipe(str(write(tmp_path)))))
    assert not any(word in text for word in ("plugins", "loss:", "augmentations", "options"))
    unused = load_recipe(str(write(tmp_path, plugins=["mine.py"])))
    assert marks(unused) == marks(load_recipe(str(write(tmp_path))))


def test_files_lie_beside_the_recipe_that_names_them_whichever_extends_it(tmp_path, monkeypatch):
    write(tmp_path / "lab", **ALL)
    (tmp_path / "own").mkdir()
    child = tmp_path / "own/child.yaml"
    child.write_text("extends: ../lab/small.yaml\nname: child\nfinetune: {loss: {weight: 7}}\n")
    recipe = load_recipe(str(child))
    assert recipe.finetune.loss.config.weight == 7 and set(recipe.plugins) == {"mine", "parts", "events", "augmenting"}
    monkeypatch.chdir(tmp_path / "lab")
    assert load_recipe(str(child), ["plugins=[mine.py, parts.py, events.py, augmenting.py]"]).plugins == recipe.plugins


def test_a_folder_may_have_a_colon_in_its_name(tmp_path):
    recipe = load_recipe(str(write(tmp_path / "a:b", plugins=["mine.py"])))
    assert list(recipe.plugins) == ["mine"]
    package = tmp_path / "a:b/c:d/birds"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(LOSS.replace("squares", "others"))
    for name in ("c:d/birds:losses", f"{package}:losses"):
        assert list(load_recipe(str(write(tmp_path / "a:b", plugins=[name]))).plugins) == ["birds"]


def test_packages_modules_and_entry_points(tmp_path, monkeypatch):
    package = tmp_path / "site/birds_for_a2v"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(LOSS + "\nfrom .more import x\n")
    (package / "more.py").write_text("x = 1")
    info = tmp_path / "site/birds-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: birds\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[a2v.plugins]\nbirds = birds_for_a2v.losses\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    digests = set()
    for said in ("birds", "birds_for_a2v.losses", "site/birds_for_a2v:losses"):
        forget()
        recipe = load_recipe(str(write(tmp_path, plugins=[said], finetune__loss={"kind": "squares"})))
        digests |= set(recipe.plugins.values())
    assert len(digests) == 1 and "birds_for_a2v" not in sys.modules


def test_what_is_submitted_has_the_same_plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "birds"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(LOSS)
    file = submission.for_cluster(read_recipe(str(write(tmp_path, **{**ALL, "plugins": [
        "birds:losses", "parts.py", "events.py", "augmenting.py"]}))))  # fmt: skip
    chosen = file.resolve()
    upload = tmp_path / "upload"
    upload.mkdir()
    submission.write_upload(upload, file, "job-1")
    for name in ("parts.py", "events.py", "augmenting.py", "birds/losses.py"):
        (tmp_path / name).unlink()
    forget()
    assert load_recipe(str(upload / "recipe.yaml")) == chosen


def test_a_training_brings_its_plugins(tmp_path, corpus):
    recipe = load_recipe(str(write(tmp_path, **ALL)))
    assert TrainingSpec.model_validate(training_spec(recipe, "finetune", corpus.folder).model_dump(mode="json"))
    from a2v_experiments.recipe.plugins import plugins_for

    own = tuple(plugins_for(recipe, "finetune", "evaluate"))
    spec = training_spec(recipe, "finetune", corpus.folder).model_copy(update={"plugins": own})
    text = spec.model_dump(mode="json")
    forget()
    again = TrainingSpec.model_validate(text)
    assert again.finetune.loss.config.weight == 2 and again.model.front_end.stride == 40


def test_trials_change_keys_of_a_plugins_section(tmp_path):
    sweep = {"parameters": {"finetune.loss.weight": [1.0, 4.0]}}
    trials = trials_of(read_recipe(str(write(tmp_path, **ALL, sweep=sweep))))
    assert [one.recipe.finetune.loss.config.weight for one in trials] == [1, 4]
    with pytest.raises(UserError, match="plugins: cannot differ between trials"):
        load_recipe(str(write(tmp_path, sweep={"parameters": {"plugins": ["a", "b"]}})))


def test_a_tiny_recipe_keeps_its_parts(tmp_path):
    path = write(tmp_path, **ALL)
    tiny = load_recipe(str(path), scale="tiny")
    assert tiny.plugins == load_recipe(str(path)).plugins and tiny.finetune.loss.kind == "squares"


@pytest.mark.parametrize(
    ("changes", "edit", "told"),
    [
        ({"plugins": ["no.py"]}, {}, "plugins: no.py: no such Python file, neither beside the recipe nor where"),
        ({"plugins": ["nowhere_at_all"]}, {}, "plugins: nowhere_at_all: no file of this name, no entry point"),
        ({"plugins": "mine.py"}, {}, "plugins = 'mine.py': must be a list"),
        ({"plugins": ["mine.py", "./mine.py"]}, {}, "there is another plugin of the name mine"),
        ({}, {"mine.py": "def f(:\n"}, "small.yaml: plugin mine: mine.py, line 1: invalid syntax"),
        ({}, {"mine.py": LOSS.replace("squares", "focal")}, "mine: mine.py, line 8: loss 'focal': is the name of"),
        ({}, {"parts.py": PARTS + LOSS}, "parts.py, line 44: loss 'squares': is registered already, by mine"),
        ({"finetune__loss": {"kind": "sqares"}}, {}, "finetune.loss.kind = 'sqares': must be squares, or the name"),
        ({"finetune__loss": {"weight": 3}}, {}, "small.yaml: finetune.loss.kind: missing"),
        (
            {"finetune__loss": {"kind": "squares", "wait": 3}}, {},
            "small.yaml: finetune.loss: loss squares of plugin mine: wait: unknown key; did you mean 'weight'?",
        ),
        (
            {"finetune__augmentations": [{"kind": "louder", "factor": "much"}]}, {},
            "finetune.augmentations.0: augmentation louder of plugin parts: factor = 'much': input should be a valid",
        ),
        ({"finetune__head": "bent"}, {}, "finetune.head = 'bent': input should be 'linear', 'temporal' or 'boxes'"),
        ({"model__front_end__stride": 41}, {}, "must be a whole number of frames of 0.01025 s"),
        ({"evaluate__events__method": "stairs"}, {}, "events.method: is 'stairs'; must be one of avg, max"),
        ({"plugins": ["parts.py", "events.py", "augmenting.py"]}, {}, "kind = 'squares': must be the name of a loss"),
        (
            {}, {"mine.py": LOSS.replace("(logits.sigmoid() - targets) ** 2", "logits.mean()")},
            "small.yaml: finetune.loss: loss squares of plugin mine: gives a tensor (); must be the loss of each",
        ),
        (
            {}, {"mine.py": LOSS.replace("logits.sigmoid() - targets", "logits.detach() - targets")},
            "finetune.loss: squares of plugin mine: gives a loss without a gradient",
        ),
        (
            {}, {"mine.py": LOSS.replace("targets, config):", "config):")},
            "finetune.loss: squares of plugin mine fails on a tiny input: TypeError: squares() takes 2 positional",
        ),
        (
            {}, {"parts.py": PARTS.replace("nn.Linear(3, classes)", "nn.Linear(3, 1)")},
            "finetune.head: head two_layers of plugin parts: self.classify gives 1 logits",
        ),
        (
            {}, {"parts.py": PARTS.replace(".abs()", ".mean(2)")},
            "model.front_end: blocks of plugin parts: gives a tensor (2, 1); must be (2, 1, 6), frames of",
        ),
        (
            {}, {"parts.py": PARTS.replace("    width: int = 6\n", "")},
            "front_end blocks of plugin parts: its config has width = None; must be a whole number",
        ),
        (
            {}, {"parts.py": PARTS.replace("waveform * config.factor", "waveform[1:]")},
            "finetune.augmentations.0: augmentation louder of plugin parts: gives a waveform of shape (3999,)",
        ),
        (
            {}, {"events.py": EVENTS.replace("stop[long]\n", "start[long]\n")},
            "evaluate.events: event_method steps of plugin events: gives an event outside of the 2 rows of 24 frames",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_before_anything_runs(tmp_path, changes, edit, told):
    path = write(tmp_path, **{**ALL, **changes})
    for name, text in edit.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        load_recipe(str(path))
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_part_of_a_plugin_that_the_recipe_does_not_name_is_refused(tmp_path):
    load_recipe(str(write(tmp_path, **ALL)))  # and it is loaded from now on
    with pytest.raises(UserError, match="squares is registered by mine, which is none of the recipe's plugins"):
        load_recipe(str(write(tmp_path, **{**ALL, "plugins": ["parts.py", "events.py", "augmenting.py"]})))


def test_agreement_ends_with_the_command(a2v, tmp_path, monkeypatch):
    monkeypatch.delenv("A2V_ALLOW_PLUGINS", raising=False)
    said = a2v("model", "export", str(tmp_path / "none"), str(tmp_path / "out.pt"), "--allow-plugins")
    assert said.code == 2 and not allowed()


def test_the_loss_of_the_documentation_is_what_it_says():
    page = (Path(__file__).parents[2] / "docs/plugins.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    use([Plugin(name="my_loss", files={"__init__.py": text})])
    logits = torch.full((2,), math.log(3))  # likelihoods of 3/4
    loss = own_loss(OwnLoss(kind="focal_asymmetric", gamma_positive=1), logits, torch.tensor([0.0, 1.0]))
    assert loss.tolist() == pytest.approx([0.75**4 * -math.log(0.25), 0.25 * -math.log(0.75)])
