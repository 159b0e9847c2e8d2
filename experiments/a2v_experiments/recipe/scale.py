"""`--scale tiny`: any recipe, small enough to run end to end on the synthetic corpus in minutes on 2 cores.

It says whether a recipe works, from its first stage to its last figure; its scores mean nothing. Sizes are capped;
what tells rows and trials apart (strides, filterbank, masks, mixing, losses, label shares) stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .apart import keep_apart
from .sections import Recipe
from .sweep import Range

Tree = dict[str, Any]
SUFFIX = "-tiny"
SEGMENT_S, MINUTES, PRETRAIN_MINUTES = 2.0, 4.0, 2.0
GROUP = "^(r[0-9]+)_"  # segments of one recording, in the synthetic corpus
WIDTH, DIM, HEADS, DEPTH, PRENET, CLONES = 16, 32, 4, 2, 1, 2
PRETRAIN_UPDATES, FINETUNE_UPDATES, WARMUP, SEGMENTS, MICRO_BATCHES = 6, 8, 2, 4, 1
FOLDS, TRIALS, VALUES = 2, 4, 2


def tiny(recipe: Recipe, resolve: Callable[[Mapping[str, Any]], Recipe]) -> Recipe:
    """The recipe on the synthetic corpus with its sizes capped, and a name that says so. Trains in one process unless
    the recipe names a cluster, and from random weights where the recipe names a backbone, or a model to go on from:
    these have other sizes. resolve(values): the trial with these values (dotted key -> value), made tiny."""
    tree = recipe.model_dump(mode="json")
    tree["name"] += SUFFIX
    tree["backbone"] = None
    if recipe.ray.address is None:
        tree["ray"] = {}
    workers = tree["ray"].get("num_workers", 0)
    frame_s = recipe.model.front_end.stride / recipe.model.front_end.sample_rate
    _shrink_streams(tree, recipe)
    tree["data"] = _data(tree["data"], frame_s, MINUTES, seed=0)
    segment_s = tree["data"]["segment_s"]
    if isinstance(recipe.pretrain_data, dict):
        for seed, (name, data) in enumerate(tree["pretrain_data"].items(), 1):
            tree["pretrain_data"][name] = _data(data, frame_s, PRETRAIN_MINUTES, seed)
        if recipe.data_key != "data":
            del tree["data"]  # the first of them
    elif tree["pretrain_data"] is not None:
        tree["pretrain_data"] = _data(tree["pretrain_data"], frame_s, PRETRAIN_MINUTES, seed=1)
    _shrink_folds(tree["folds"])
    _shrink_model(tree["model"])
    depth, dim = tree["model"]["encoder"]["depth"], tree["model"]["encoder"]["dim"]
    if tree["pretrain"] is not None:
        _shrink_pretraining(tree["pretrain"], depth, workers)
    for stage in (tree["finetune"], *tree["finetune_by_share"].values()):
        if stage is not None:
            _shrink_finetuning(stage, depth, dim, workers)
    _shrink_evaluation(tree["evaluate"], segment_s)
    if recipe.sweep is not None:
        _shrink_sweep(tree["sweep"], recipe)
        keep_apart(tree["sweep"], resolve)
    return Recipe.model_validate(tree)


def _cap(tree: Tree, **caps: float) -> None:
    for key, most in caps.items():
        tree[key] = min(tree[key], most)


def _data(data: Tree, frame_s: float, minutes: float, seed: int) -> Tree:
    """The synthetic corpus at the same sample rate, in segments of a whole number of frames."""
    segment_s = math.floor(min(data["segment_s"], SEGMENT_S) / frame_s + 1e-6) * frame_s
    synthetic = {"minutes": minutes, "seed": seed}
    kept: Tree = {key: data[key] for key in ("sample_rate", "focal_class", "keep_rates", "weight") if key in data}
    if data.get("streams"):
        kept["streams"] = data["streams"]
        synthetic["accelerometer"] = True
    return {**kept, "source": "synthetic", "synthetic": synthetic, "segment_s": segment_s}


def _shrink_streams(tree: Tree, recipe: Recipe) -> None:
    """The one that the synthetic corpus has, an accelerometer, in place of the first, and of no other."""
    corpora = [tree["data"]]
    if isinstance(recipe.pretrain_data, dict):
        corpora += tree["pretrain_data"].values()
    elif tree["pretrain_data"] is not None:
        corpora.append(tree["pretrain_data"])
    kept = {
        name: {"columns": ["x", "y", "z"], "rate": min(one.rate, 50)}
        for name, one in [*recipe.data.streams.items()][:1]
    }
    for data in corpora:
        data["streams"] = {name: one for name, one in kept.items() if name in data.get("streams", {})}
    tree["model"]["streams"] = {name: one for name, one in kept.items() if name in recipe.model.streams}


def _shrink_folds(folds: Tree) -> None:
    if folds["group"] is not None:
        folds["group"] = GROUP
    if isinstance(folds["holdout"], str):  # an expression on names of other recordings
        folds["holdout"] = 1 / 4
    folds.pop("manifests", None)
    _cap(folds, count=FOLDS)
    folds["run"] = [0] if folds["run"] is not None and len(folds["run"]) == 1 else None


def _shrink_model(model: Tree) -> None:
    front_end, encoder = model["front_end"], model["encoder"]
    if front_end.get("kind") not in (None, "waveform", "ear"):
        pass  # a plugin's stays as it is
    elif front_end.get("kind") == "ear":
        front_end["stem"] = [min(width, WIDTH) for width in front_end["stem"]]
        halved = 2 ** len(front_end["stem"])
        front_end["filters"] = min(front_end["filters"], max(1, WIDTH // halved) * halved)
    else:
        front_end["layers"] = [[min(width, WIDTH), kernel, stride] for width, kernel, stride in front_end["layers"]]
        filters = WIDTH // 2 if front_end.get("start") == "filterbank" else WIDTH  # which has 2 channels for each
        front_end["sinc_filters"] = min(front_end["sinc_filters"] or filters, filters)
    _cap(encoder, dim=DIM, depth=DEPTH)
    if encoder.get("kind") == "convolutions":
        return
    _cap(encoder, prenet_depth=PRENET, mlp_ratio=2.0, positional_depth=2, positional_width=18)
    encoder["heads"] = math.gcd(min(encoder["heads"], HEADS), encoder["dim"])
    encoder["positional_groups"] = math.gcd(encoder["positional_groups"], encoder["dim"])


def _shrink_loop(stage: Tree, updates: int, workers: int) -> None:
    batches = max(MICRO_BATCHES, workers)  # one for each
    _cap(stage, updates=updates, segments=SEGMENTS, micro_batches=batches, log_every=2, checkpoint_every=updates)
    _cap(stage["optimizer"], warmup_updates=WARMUP)
    stage["compile"] = False


def _shrink_pretraining(stage: Tree, depth: int, workers: int) -> None:
    _shrink_loop(stage, PRETRAIN_UPDATES, workers)
    _cap(stage, clones=CLONES, target_layers=depth, ema_updates=PRETRAIN_UPDATES)
    stage["collapse_after"] = max(stage["collapse_after"], PRETRAIN_UPDATES)  # so short a training proves no collapse
    _cap(stage["decoder"], dim=DIM, depth=1)
    stage["decoder"]["groups"] = math.gcd(stage["decoder"]["groups"], stage["decoder"]["dim"])


def _shrink_finetuning(stage: Tree, depth: int, dim: int, workers: int) -> None:
    _shrink_loop(stage, FINETUNE_UPDATES, workers)
    if stage.get("validation") is not None:
        _cap(stage["validation"], every=FINETUNE_UPDATES // 2)
    _cap(stage, average_layers=depth, head_only_updates=2, channel_mask_length=dim // 4)
    stage.pop("start", None)


def _shrink_evaluation(evaluate: Tree, segment_s: float) -> None:
    _cap(evaluate, overlap_s=segment_s / 4)
    events = evaluate["events"]
    for name in ("threshold", "window_s", "min_duration_s"):
        if isinstance(events.get(name), dict):  # for classes of other recordings
            events[name] = min(events[name].values())


def _shrink_sweep(sweep: Tree, recipe: Recipe) -> None:
    """At most the first and the last value of each parameter, few trials, and pruning only where folds are left."""
    assert recipe.sweep is not None
    if sweep["trials"] is not None:
        _cap(sweep, trials=TRIALS)
    for key, choice in recipe.sweep.parameters.items():
        if not isinstance(choice, Range) and len(choice) > VALUES:
            sweep["parameters"][key] = [choice[0], choice[-1]]
    if sweep["pruning"] is not None:
        several = recipe.folds.holdout is None and len(recipe.folds.selected) > 1
        grace = "grace_validations" if sweep["pruning"].get("grace_validations") else "grace_folds"
        several = several or grace == "grace_validations"  # a training has two of them
        sweep["pruning"] = {**sweep["pruning"], grace: 1} if several else None
