"""Recipes: what is right is read as meant; what is wrong is one line naming file, key and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from a2v_experiments.basics.errors import UserError
from a2v_experiments.recipe.files import BUNDLED, load_recipe
from a2v_experiments.store.tracking import flatten
from a2v_model.config import ConvolutionConfig, FrontEndConfig
from a2v_model.presets import PRESETS
from experiments_world import make_recipe, recipe_tree, write_recipe

BUNDLED_NAMES = sorted(str(path.relative_to(BUNDLED)) for path in BUNDLED.rglob("*.yaml"))


def problem(folder: Path, *overrides: str, **changes: object) -> str:
    """The one line with which the small recipe is refused."""
    with pytest.raises(UserError) as caught:
        make_recipe(folder, overrides, **changes)
    assert caught.value.code == 2
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_there_are_bundled_recipes():
    assert "many_calls.yaml" in BUNDLED_NAMES


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_every_bundled_recipe_validates_with_and_without_its_suffix(name):
    recipe = load_recipe(name)
    assert load_recipe(name.removesuffix(".yaml")) == recipe
    assert recipe.evaluate.overlap_s < recipe.data.segment_s


def test_values_of_a_recipe_and_defaults_of_the_rest(tmp_path):
    recipe = make_recipe(tmp_path)
    assert recipe.pretrain.updates == 6 and recipe.pretrain.clones == 2 and recipe.pretrain.mask_noise == 0.01
    assert recipe.finetune.optimizer.betas == (0.9, 0.98) and recipe.finetune.focal_gamma == 2
    assert recipe.folds.selected == [0, 1] and recipe.ray.num_workers == 0
    assert make_recipe(tmp_path, folds={"count": 4}).folds.selected == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "override, told",
    [
        ("pretrain.mask_probabilty=0.5", "pretrain.mask_probabilty: unknown key; did you mean 'mask_probability'?"),
        ("finetune.bcl.window_s[0]=1", "finetune.bcl.window_s[0]: unknown key; did you mean 'window_s'?"),
        ("finetune.bcl.[x]=1", "finetune.bcl.[x]: unknown key; known: "),
        ("finetune.optimizer.lr=1", "finetune.optimizer.lr: unknown key; "),
        ("fold.count=3", "fold: unknown key; did you mean 'folds'?"),
        ("pretrain.decoder.widht=8", "pretrain.decoder.widht: unknown key; "),
        ("data.qqqq=1", "data.qqqq: unknown key; known: sample_rate, labelled,"),
        ("pretrain.updates=many", "pretrain.updates = 'many': input should be a valid integer"),
        ("pretrain.updates=0", "pretrain.updates = 0: input should be greater than 0"),
        ("finetune.precision=half", "finetune.precision = 'half': input should be 'auto', 'float32' or 'bfloat16'"),
        ("folds.count=1", "folds.count = 1: input should be greater than or equal to 2"),
        ("folds=3", "folds = 3: input should be a valid dictionary"),
        ("folds.run=[0, 3]", "folds: fold 3 does not exist: with count 3 they are 0 to 2"),
        ("folds.label_shares=[1.5]", "folds.label_shares.0 = 1.5: input should be less than or equal to 1"),
        ("evaluate.events.threshold=loud", "evaluate.events.threshold"),
        ("folds.holdout=20", "folds.holdout: is 20; a share must be above 0 and below 1"),
        ("folds.holdout='(rec'", "folds.holdout: is not a regular expression: missing )"),
        ("folds={holdout: 0.2, run: [1]}", "folds: fold 1 does not exist: a hold-out is fold 0"),
        ("folds.group=rec", "folds.group: must have exactly one group in parentheses"),
        ("folds.group=(rec", "folds.group: is not a regular expression: missing )"),
        ("ray.num_workers=3", "ray.num_workers = 3: pretrain.micro_batches = 2 would leave workers idle"),
        ("name=a b", "name = 'a b': "),
        ("data.segment_s=.inf", "data.segment_s = inf: input should be a finite number"),
        ("pretrain.optimizer.eps=.inf", "pretrain.optimizer.eps = inf: input should be a finite number"),
        ("data.sample_rate=8000", "model.front_end.sample_rate (4000 Hz) and data.sample_rate (8000 Hz) must be equal"),
        ("data.segment_s=1.005", "data.segment_s = 1.005: must be a whole number of frames of 0.01 s"),
        ("evaluate.segment_s=2.0", "evaluate.segment_s: there is no such key any more"),
        ("evaluate.overlap_s=1.0", "evaluate.overlap_s (1.0 s) must be less than data.segment_s"),
        ("finetune.average_layers=3", "finetune.average_layers = 3: the encoder has only encoder.depth = 2"),
        ("model.encoder.heads=3", "model.encoder: encoder.dim = 16 is not divisible by encoder.heads = 3"),
        ("model.preset=huge", "model.preset = 'huge': unknown; one of: base, baseline, crnn, meerkat,"),
        ("model.front_end.filtres=3", "model.front_end.filtres: unknown key; did you mean 'sinc_filters'?"),
        ("model.front_end.kind=eer", "model.front_end.kind = 'eer': must be waveform or ear"),
        ("model.front_end=loud", "model.front_end = 'loud': input should be a valid dictionary"),
        ("model.front_end.hop=80", "model.front_end.hop: a key of kind 'ear', but model.front_end is of kind "
         "'waveform'; say model.front_end.kind: ear, or leave it out"),
        ("model={preset: crnn, front_end: {sample_rate: 4000}}", "pretrain needs a transformer"),
        ("model=huge", "model.preset = 'huge': unknown; one of: base, baseline, crnn, meerkat,"),
        ("model.preset=[tiny]", "model.preset = ['tiny']: unknown; one of: base, baseline, crnn, meerkat,"),
    ],
)  # fmt: skip
def test_one_line_names_file_key_and_what_would_be_right(tmp_path, override, told):
    message = problem(tmp_path, override)
    assert message.startswith("small.yaml: ") and told in message


@pytest.mark.parametrize("runs", [[], [0, 0]])
def test_folds_that_run_are_distinct_and_at_least_one(tmp_path, runs):
    assert problem(tmp_path, folds__run=runs).startswith("small.yaml: folds: run = ")


def test_a_missing_key(tmp_path):
    tree = recipe_tree()
    del tree["data"]["sample_rate"]
    with pytest.raises(UserError) as caught:
        load_recipe(str(write_recipe(tmp_path / "mine.yaml", tree)))
    assert str(caught.value) == "mine.yaml: data.sample_rate: missing"


def test_two_mistakes_are_two_lines(tmp_path):
    with pytest.raises(UserError) as caught:
        make_recipe(tmp_path, ["pretrain.updates=0", "folds.count=1"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 and all(line.startswith("small.yaml: ") for line in lines)


@pytest.mark.parametrize("override", ["pretrain.updates", "=5", ""])
def test_a_set_without_key_or_value(tmp_path, override):
    assert problem(tmp_path, override) == (
        f"--set {override}: expected KEY=VALUE, for example pretrain.mask_probability=0.5"
    )


def test_a_set_whose_value_is_no_yaml(tmp_path):
    assert problem(tmp_path, "folds.run=[0") == "--set folds.run=[0: the value is not readable as YAML"


def test_set_reaches_every_depth_and_makes_what_is_not_there(tmp_path):
    overrides = [
        "pretrain.optimizer.learning_rate=1e-4",
        "folds.run=[2]",
        "ray.num_workers=2",
        "finetune.bcl.per_row=true",
    ]
    recipe = make_recipe(tmp_path, overrides)
    assert recipe.pretrain.optimizer.learning_rate == 1e-4 and recipe.pretrain.optimizer.warmup_updates == 2
    assert recipe.folds.run == [2] and recipe.ray.num_workers == 2 and recipe.finetune.bcl.per_row
    assert make_recipe(tmp_path, ["pretrain=null"]).pretrain is None
    assert make_recipe(tmp_path, ["folds.count=4", "folds.count=5"]).folds.count == 5  # the last one counts


def preset_tree(model: object) -> dict[str, object]:
    tree = recipe_tree(data__sample_rate=8000, data__segment_s=2.0, model=model)
    tree["pretrain"] = {"updates": 6, "clones": 3}
    tree["finetune"] = {"updates": 6, "channel_mask_length": 8}
    return tree


def test_a_preset_is_the_base_under_what_the_recipe_says(tmp_path):
    model, pretrain, finetune, _ = PRESETS["tiny"]
    path = write_recipe(tmp_path / "p.yaml", preset_tree("tiny"))
    recipe = load_recipe(str(path))
    assert recipe.model == model
    assert recipe.pretrain.decoder == pretrain.decoder and recipe.pretrain.clones == 3
    assert recipe.finetune.average_layers == model.encoder.depth == 2
    assert recipe.finetune.channel_mask_probability == finetune.channel_mask_probability == 0
    changed = load_recipe(str(path), ["model.encoder.depth=4"])
    assert changed.model.encoder == model.encoder.model_copy(update={"depth": 4})
    assert changed.model.front_end == model.front_end and changed.finetune.average_layers == 4
    other = load_recipe(str(path), ["model=small", "model.encoder.dropout=0.2"])
    assert other.model.encoder == PRESETS["small"].model.encoder.model_copy(update={"dropout": 0.2})
    assert load_recipe(str(path), ["model.encoder.dropout=0.2", "model=small"]).model == PRESETS["small"].model


@pytest.mark.parametrize(
    "front_end, told",
    [
        ({"filtres": 3}, "model.front_end.filtres: unknown key; did you mean 'filters'?"),
        ({"sample_rate": "fast"}, "model.front_end.sample_rate = 'fast': input should be a valid integer"),
        ({"filters": 50}, "model.front_end: front_end.filters = 50: must be a multiple of 16"),
        (
            {"layers": [[4, 10, 5]], "sinc_filters": 8},
            "model.front_end.layers, model.front_end.sinc_filters: keys of kind 'waveform', but model.front_end is of "
            "kind 'ear'; say model.front_end.kind: waveform, or leave it out",
        ),
    ],
)
def test_a_key_of_an_ear_is_told_by_its_name(tmp_path, front_end, told):
    """The tag of the kind that pydantic puts into a key's place is not shown; what is known is what this kind has."""
    path = write_recipe(tmp_path / "p.yaml", preset_tree({"preset": "tiny", "front_end": front_end}))
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(f"p.yaml: {told}") and "\n" not in str(caught.value)


def test_two_mistakes_in_an_ear_are_two_lines(tmp_path):
    wrong = {"preset": "tiny", "front_end": {"filtres": 3, "sample_rate": "fast"}}
    with pytest.raises(UserError) as caught:
        load_recipe(str(write_recipe(tmp_path / "p.yaml", preset_tree(wrong))))
    assert len(str(caught.value).splitlines()) == 2


def test_another_kind_replaces_the_presets(tmp_path):
    """Keys of an ear do not stay under a front end of convolutions; what an encoder has to average follows its kind."""
    waveform = {"kind": "waveform", "sinc_filters": 8, "layers": [[8, 10, 5], [8, 8, 8]]}
    path = str(write_recipe(tmp_path / "p.yaml", preset_tree({"preset": "tiny", "front_end": waveform})))
    front_end = load_recipe(path).model.front_end
    assert isinstance(front_end, FrontEndConfig) and front_end.filters == 8 and front_end.stride == 40
    recipe = load_recipe(path, ["model.encoder={kind: convolutions, dim: 32}", "pretrain=null"])
    assert recipe.model.encoder == ConvolutionConfig(dim=32) and recipe.finetune.average_layers == 1
    assert recipe.model.front_end == front_end
    again = yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(str(write_recipe(tmp_path / "again.yaml", again))) == recipe
    assert "kind" not in PRESETS["meerkat"].model.model_dump_json()  # so that fingerprints stay


# The paper's ablation table from the speech baseline to animal2vec, the field of each row with its last value (spec,
# sections 2-7; the masks of the rows between: meerkat/ladder).
LADDER = [
    "model.front_end.layers=[[512,10,5],[512,3,2],[512,3,2],[512,3,2],[512,3,1],[512,2,1],[512,2,1]]",
    "model.front_end.sinc=true",
    "model.front_end.sinc_activation=pswish",
    "pretrain.mask_probability=0.75",
    "pretrain.mask_length=2",
    "pretrain.bcl={window_s: 0.05}",
    "finetune.average_layers=16",
    "finetune.focal=true",
    "finetune.bcl={window_s: 0.05}",
    f"finetune.mask_probability={0.825 / 4}",
    "finetune.mask_length=4",
]


def test_every_row_of_the_ablation_table_is_one_field(tmp_path):
    tree = preset_tree("baseline") | {"pretrain": {"updates": 6}, "finetune": {"updates": 6}}
    path = str(write_recipe(tmp_path / "ladder.yaml", tree))
    rows = [load_recipe(path, LADDER[:row]) for row in range(len(LADDER) + 1)]
    first, last = rows[0], rows[-1]
    assert first.model == PRESETS["baseline"].model and first.pretrain.bcl is None and first.finetune.bcl is None
    assert (first.model.front_end.frame_rate, last.model.front_end.frame_rate) == (25, 200)
    for before, after, override in zip(rows, rows[1:], LADDER, strict=False):
        changed = {
            key for key, value in flatten(after.model_dump()).items() if flatten(before.model_dump()).get(key) != value
        }
        field = override.partition("=")[0]
        assert changed and all(key == field or key.startswith(f"{field}.") for key in changed), override
    assert last == load_recipe(path, ["model=meerkat", *[row for row in LADDER if "bcl" in row]])


def test_extends_merges_key_by_key_and_replaces_lists(tmp_path):
    write_recipe(tmp_path / "parent.yaml", recipe_tree(folds__label_shares=[0.5, 1.0]))
    child = {"extends": "parent.yaml", "name": "child", "folds": {"label_shares": [0.25]}, "finetune": {"updates": 9}}
    recipe = load_recipe(str(write_recipe(tmp_path / "child.yaml", child)))
    parent = load_recipe(str(tmp_path / "parent.yaml"))
    assert recipe.name == "child" and recipe.folds.label_shares == [0.25] and recipe.folds.count == 3
    assert recipe.finetune == parent.finetune.model_copy(update={"updates": 9})
    assert recipe.pretrain == parent.pretrain and recipe.model == parent.model
    grandchild = {"extends": "child.yaml", "pretrain": None, "finetune": {"segments": 5}}
    recipe = load_recipe(str(write_recipe(tmp_path / "grandchild.yaml", grandchild)))
    assert recipe.pretrain is None and (recipe.finetune.updates, recipe.finetune.segments) == (9, 5)


def test_extends_a_parent_that_names_only_a_preset(tmp_path):
    write_recipe(tmp_path / "parent.yaml", preset_tree("tiny"))
    child = {"extends": "parent.yaml", "model": {"encoder": {"dropout": 0.3}}}
    recipe = load_recipe(str(write_recipe(tmp_path / "child.yaml", child)))
    assert recipe.model.encoder == PRESETS["tiny"].model.encoder.model_copy(update={"dropout": 0.3})
    child = {"extends": "parent.yaml", "model": "small"}
    assert load_recipe(str(write_recipe(tmp_path / "child.yaml", child))).model == PRESETS["small"].model


def test_extends_a_bundled_recipe(tmp_path):
    path = write_recipe(tmp_path / "mine.yaml", {"extends": "many_calls", "name": "mine"})
    assert load_recipe(str(path)) == load_recipe("many_calls").model_copy(update={"name": "mine"})


def test_extends_in_a_circle_and_extends_nothing(tmp_path):
    for name, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("self", "self"), ("lost", "nowhere")):
        write_recipe(tmp_path / f"{name}.yaml", {"extends": f"{parent}.yaml"})
    for name in ("a", "self"):
        with pytest.raises(UserError, match=r"\.yaml: extends: the recipes extend each other in a circle"):
            load_recipe(str(tmp_path / f"{name}.yaml"))
    with pytest.raises(UserError, match=r"^nowhere\.yaml: no such recipe; give a YAML file or one of: .*many_calls"):
        load_recipe(str(tmp_path / "lost.yaml"))


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "a recipe is a mapping of keys (name, data, model, ...), not NoneType"),
        (b"- a\n- b\n", "a recipe is a mapping of keys (name, data, model, ...), not list"),
        (b"a: [1\n", "not readable as YAML: "),
        (b"\xff\xfe\x00", "not readable as YAML: "),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, content, told):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(f"odd.yaml: {told}") and "\n" not in str(caught.value)


def test_an_unknown_recipe_lists_the_bundled_ones_and_a_folder_is_none(tmp_path):
    with pytest.raises(UserError) as caught:
        load_recipe("meny_calls")
    assert str(caught.value).startswith("meny_calls: no such recipe; give a YAML file or one of: ")
    assert "many_calls" in str(caught.value)
    with pytest.raises(UserError, match="is a folder; a recipe is a YAML file"):
        load_recipe(str(tmp_path))


@pytest.mark.parametrize("old, new", [("finch", "many_calls"), ("sparse_mix.yaml", "few_calls")])
def test_a_former_name_is_the_new_recipe(tmp_path, monkeypatch, old, new):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finch").mkdir()  # recordings, not the recipe that was meant
    for name in (old, str(write_recipe(tmp_path / "mine.yaml", {"extends": old, "name": "mine"}))):
        assert load_recipe(name, ["name=mine"]) == load_recipe(new, ["name=mine"])


def test_a_folder_of_recordings_hides_no_bundled_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few_calls").mkdir()
    assert load_recipe("few_calls").folds.group is None and load_recipe("few_calls").folds.selected == [0]


def test_a_recipe_can_run_no_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"name: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"evil\.yaml: not readable as YAML"):
        load_recipe(str(path))
    assert not (tmp_path / "made").exists()


def test_a_validated_recipe_survives_yaml(tmp_path):
    recipe = make_recipe(tmp_path)
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["no-such-recipe"], "no-such-recipe: no such recipe"),
        (
            ["small.yaml", "--set", "pretrain.updtes=3"],
            "small.yaml: pretrain.updtes: unknown key; did you mean 'updates'?",
        ),
        (
            ["small.yaml", "--set", "pretrain.updates=soon"],
            "small.yaml: pretrain.updates = 'soon': input should be a valid integer",
        ),
        (["small.yaml", "--set", "data.sample_rate=8000"], "small.yaml: model.front_end.sample_rate (4000 Hz)"),
        (["small.yaml", "--set", "nothing"], "--set nothing: expected KEY=VALUE"),
        (["circle.yaml"], "circle.yaml: extends: the recipes extend each other in a circle"),
    ],
)
def test_the_command_says_it_in_one_line_with_exit_code_2_and_writes_nothing(
    tmp_path, monkeypatch, a2v, arguments, told
):
    write_recipe(tmp_path / "small.yaml", recipe_tree())
    write_recipe(tmp_path / "circle.yaml", {"extends": "circle.yaml"})
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    said = a2v("experiment", "run", *arguments)
    assert said.code == 2 and said.out == ""
    assert said.only_line().startswith(told)
    assert sorted(tmp_path.rglob("*")) == before


def test_extends_finds_a_file_beside_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    folder = tmp_path / "recipes"
    folder.mkdir()
    write_recipe(folder / "mine.yaml", recipe_tree(finetune__updates=11))
    for name in ("mine", "mine.yaml"):
        child = folder / "child.yaml"
        child.write_text(f"extends: {name}\n")
        assert load_recipe(str(child)).finetune.updates == 11
    own = folder / "quickstart.yaml"
    own.write_text("extends: quickstart\nfinetune: {updates: 12}\n")  # the bundled one, not itself
    assert load_recipe(str(own)).finetune.updates == 12
