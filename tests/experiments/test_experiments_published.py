"""The recipes of the paper have its numbers (spec.md, sections 2 and 5 to 7), written down here once more."""

from __future__ import annotations

import pytest
from a2v_experiments.recipe.files import load_recipe, read_recipe
from a2v_experiments.recipe.sections import Recipe
from a2v_experiments.store.tracking import flatten
from a2v_experiments.sweep.trials import trials_of

MEERKAT_LAYERS = ((512, 10, 5), *[(512, 3, 2)] * 3, (512, 3, 1), *[(512, 2, 1)] * 2)


def seconds(recipe: Recipe, stage: str) -> float:
    """Seconds of audio in an update."""
    settings = getattr(recipe, stage)
    data = recipe.pretrain_source if stage == "pretrain" else recipe.data
    return settings.segments * settings.micro_batches * data.segment_s


def check_pretraining(recipe: Recipe) -> None:
    stage, optimizer = recipe.pretrain, recipe.pretrain.optimizer
    assert (stage.mask_probability, stage.mask_length, stage.mask_noise, stage.clones) == (0.75, 2, 0.01, 12)
    assert stage.target_layers == 16 and stage.updates == 384_230 and 960 <= seconds(recipe, "pretrain") <= 1020
    assert (stage.ema_start, stage.ema_end, stage.ema_updates) == (0.9997, 1.0, 300_000)
    assert (stage.collapse_after, stage.min_target_variance, stage.min_prediction_variance) == (5000, 0.1, 0.01)
    assert (stage.decoder.dim, stage.decoder.kernel, stage.decoder.groups, stage.decoder.depth) == (768, 7, 16, 4)
    assert (optimizer.learning_rate, optimizer.warmup_updates, optimizer.final_learning_rate) == (1e-4, 10_000, 0)
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay, optimizer.gradient_clip) == (
        (0.9, 0.98), 1e-6, 0.01, 1,
    )  # fmt: skip
    assert optimizer.decay_sinc
    assert (stage.bcl.window_s, stage.bcl.probability, stage.bcl.min_ratio) == (0.05, 1.0, 0.5)
    encoder = recipe.model.encoder
    assert (encoder.dim, encoder.heads, encoder.depth, encoder.prenet_depth) == (1024, 16, 16, 8)


def check_finetuning(recipe: Recipe, updates: int = 30_000, learning_rate: float = 3e-5) -> None:
    stage, optimizer = recipe.finetune, recipe.finetune.optimizer
    assert stage.average_layers == 16 and stage.freeze_front_end and stage.head_only_updates == 10_000
    assert (stage.focal, stage.focal_gamma, stage.focal_alpha, stage.updates) == (True, 2, 0.25, updates)
    assert seconds(recipe, "finetune") == 1800 and stage.micro_batches % (4 * 9) == 0
    assert (stage.dropout, stage.attention_dropout, stage.head_dropout) == (0.1, 0.2, 0)
    assert (stage.activation_dropout, stage.mlp_output_dropout) == (0.1, 0.1)
    assert (stage.layerdrop, stage.prenet_layerdrop) == (0.1, 0.1)
    assert (stage.channel_mask_probability, stage.channel_mask_length) == (0.5, 64)
    assert (optimizer.learning_rate, optimizer.warmup_updates, optimizer.warmup_from) == (learning_rate, 2000, 1e-10)
    assert (optimizer.final_learning_rate, optimizer.betas, optimizer.eps) == (5e-6, (0.9, 0.98), 1e-8)
    assert optimizer.weight_decay == 0 and optimizer.gradient_clip is None  # Adam
    assert stage.bcl.window_s == 0.05 and stage.bcl.probability == 1.0 and stage.bcl.mix_targets
    assert recipe.evaluate.events.threshold == 0.15 and recipe.evaluate.events.window_s == 0.1


def test_meerkat_pretraining():
    recipe = load_recipe("meerkat/pretrain")
    check_pretraining(recipe)
    assert recipe.finetune is None and recipe.data.segment_s == 10
    front_end = recipe.model.front_end
    assert (front_end.sample_rate, front_end.frame_rate, front_end.layers) == (8000, 200, MEERKAT_LAYERS)


def test_meerkat_finetuning_on_three_shares_of_the_labels():
    recipe = load_recipe("meerkat/finetune")
    check_pretraining(recipe)
    assert recipe.folds.selected == [0, 1, 2, 3, 4] and recipe.folds.label_shares == [0.01, 0.25, 1.0]
    table = {  # p * l, l, updates, learning rate
        1.0: (0.825, 4, 30_000, 3e-5), 0.25: (1.0, 3, 18_000, 7.5e-5), 0.01: (1.1, 2, 13_000, 1e-4),
    }  # fmt: skip
    for share, (product, length, updates, rate) in table.items():
        at_share = recipe.at_share(share)
        check_finetuning(at_share, updates, rate)
        assert at_share.finetune.mask_length == length
        assert at_share.finetune.mask_probability * length == pytest.approx(product)


def test_meerkat_pretraining_is_the_one_that_finetuning_reuses():
    alone, before = load_recipe("meerkat/pretrain"), load_recipe("meerkat/finetune")
    for key in ("data", "model", "pretrain"):
        assert getattr(alone, key) == getattr(before, key)


def test_meerkat_holdout_is_the_baseline_and_animal2vec_with_all_labels_on_one_split():
    baseline, animal2vec = (one.recipe for one in trials_of(read_recipe("meerkat/holdout")))
    check_pretraining(animal2vec)
    check_finetuning(animal2vec)
    for recipe in (baseline, animal2vec):
        assert recipe.folds.selected == [0] and recipe.folds.holdout == 0.2 and recipe.folds.label_shares == [1.0]
    ladder = trials_of(read_recipe("meerkat/ladder"))[0].recipe  # the baseline of the 5 folds
    for part in ("model", "pretrain", "finetune", "data", "evaluate"):
        assert getattr(baseline, part) == getattr(ladder, part)
    alone = load_recipe("meerkat/holdout", ["sweep=null"])
    aside = {"variant", "sweep"}
    assert alone.model_dump(exclude=aside) == animal2vec.model_dump(exclude=aside)


def test_the_ladder_leads_from_the_baseline_to_animal2vec_one_part_at_a_time():
    rows = [one.recipe for one in trials_of(read_recipe("meerkat/ladder"))]
    fields = [
        "model.front_end.layers", "model.front_end.sinc", "model.front_end.sinc_activation",
        "pretrain.mask_probability", "pretrain.mask_length", "pretrain.bcl", "finetune.average_layers",
        "finetune.focal", "finetune.bcl", "finetune.mask_probability", "finetune.mask_length",
    ]  # fmt: skip
    assert len(rows) == len(fields) + 1 == 12
    baseline = rows[0]
    assert baseline.model.front_end.stride == 320 and not baseline.model.front_end.sinc
    assert (baseline.pretrain.mask_probability, baseline.pretrain.mask_length, baseline.pretrain.bcl) == (0.1, 5, None)
    assert (baseline.finetune.mask_probability, baseline.finetune.mask_length) == (0.065, 10)
    assert (baseline.finetune.average_layers, baseline.finetune.focal, baseline.finetune.bcl) == (1, False, None)
    for before, after, field in zip(rows, rows[1:], fields, strict=False):
        old, new = (flatten(row.model_dump(exclude={"variant"})) for row in (before, after))
        changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        # a row of another length has the same product p * l, so another p
        own = (field, field.replace("mask_length", "mask_probability"))
        assert changed and all(key in own or key.startswith(f"{field}.") for key in changed), field
    products = {"pretrain": [(0.5, 5), (1.5, 5), (1.5, 2)], "finetune": [(0.65, 10), (0.825, 10), (0.825, 4)]}
    for stage, published in products.items():  # mask_prob = p * l, and l
        masks = [(getattr(row, stage).mask_probability, getattr(row, stage).mask_length) for row in rows]
        found = [(round(p * length, 9), length) for p, length in dict.fromkeys(masks)]
        assert found == published, stage
    meerkat = load_recipe("meerkat/finetune", ["folds.label_shares=[1.0]"])
    aside = {"name", "variant", "finetune_by_share"}
    assert rows[-1].model_dump(exclude=aside) == meerkat.model_dump(exclude=aside)


def test_nips4bplus_is_pretrained_on_xeno_canto():
    recipe = load_recipe("nips4bplus")
    check_pretraining(recipe)
    check_finetuning(recipe)
    front_end = recipe.model.front_end
    assert (front_end.sample_rate, front_end.frame_rate, front_end.stride) == (24_000, 300, 80)
    assert (front_end.kernel, front_end.filters) == (109, 220)
    assert recipe.pretrain_source.source == "xeno-canto" and recipe.data.source == "nips4bplus"


def test_the_ablation_tries_masks_and_the_mixing_window_around_the_published_values():
    trials = trials_of(read_recipe("ablation"))
    assert len(trials) == 18
    published = {"pretrain.mask_probability": 0.75, "pretrain.mask_length": 2, "pretrain.bcl.window_s": 0.05}
    (same,) = [one for one in trials if one.parameters == published]
    check_pretraining(same.recipe)
    check_finetuning(same.recipe)


def test_the_ablation_as_its_comment_says_it_for_one_gpu():
    sets = ["model=base", "pretrain.updates=40000", "finetune.updates=10000"]
    sets += ["finetune.head_only_updates=3000", "sweep.search=random", "sweep.trials=8"]
    trials = trials_of(read_recipe("ablation", [*sets, "sweep.pruning={grace_folds: 2}"]))
    assert len(trials) == 8
    assert trials[0].recipe.model.encoder.dim == 256 and trials[0].recipe.pretrain.target_layers == 6
