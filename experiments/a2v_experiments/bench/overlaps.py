"""Calls of one class that overlap: head `temporal`, which says what sounds in a frame, against head `boxes`.

    python -m a2v_experiments.bench.overlaps WORK --cpu-seconds 60 --seeds 3

For each share of overlapping calls one synthetic corpus (`a2v_data.synth_overlaps`), and for each seed both heads with
the same processor time on the same recordings, scored against the same labels, each call for itself. The heads have the
recipe `few_calls` without what mixes recordings; `temporal` has windows that fit the labels and parts runs at their
dips, `boxes` its matched onsets and offsets. Thresholds are chosen on valid; what is printed are strict scores on test,
with an IoU above .5.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, pack
from a2v_data.recording_names import RecordingNames
from a2v_data.sources import open_source
from a2v_data.synth_overlaps import synthesise_overlaps
from a2v_eval.evaluation import EvaluationConfig

from ..recipe.sections import Recipe
from ..stages.stages import fitted
from ..training.spec import part
from .detect import specs_of
from .detect_recipe import recipe_for
from .detect_scores import Windows, score
from .detect_training import Budget, train_within
from .splits import Splits, read_splits

RECORDINGS = {"train": 40, "valid": 12, "test": 40}
SHARES = (0.0, 0.25, 0.5)
COMMON = (
    "data.sample_rate=8000", "model.front_end.sample_rate=8000", "data.overlaps=keep", "evaluate.iou_threshold=0.5",
    "finetune.augment={gain_db: 6.0}",
)  # fmt: skip
HEADS = {
    "temporal": ("finetune.head=temporal",),
    "boxes": ("finetune.head=boxes", "evaluate.fit_events=false", "evaluate.events={method: boxes}"),
}
SHOWN = ("strict/F1/micro", "strict/AP/micro", "strict/precision/micro", "strict/recall/micro")


def measure(
    work: Path,
    seconds: float,
    seeds: int,
    shares: tuple[float, ...],
    heads: tuple[str, ...],
    overrides: list[str],
    noise: float = 0.2,
) -> dict[str, Any]:
    """Score each head on each share with each seed: share -> head -> list of metrics, by their names in MLflow."""
    found: dict[str, Any] = {}
    for share in shares:
        folder = work / f"overlaps-{share:g}-noise-{noise:g}"
        if not folder.is_dir():
            synthesise_overlaps(folder, share, RECORDINGS, 0, noise)
        for head in heads:
            recipe = recipe_for("few_calls", [*COMMON, *HEADS[head], *overrides], folder)
            corpus, splits = _corpus(folder, recipe)
            recipe = fitted(recipe, corpus, splits.train)
            for seed in range(seeds):
                row = _one(recipe, corpus, splits, seconds, seed)
                found.setdefault(f"{share:g}", {}).setdefault(head, []).append(row)
                told = "  ".join(f"{name.removesuffix('/micro')} {row[name]:.3f}" for name in SHOWN)
                print(f"{share:g}  {head}  seed {seed}  {row['updates']:.0f} updates  {told}", flush=True)
    return found


def _corpus(folder: Path, recipe: Recipe) -> tuple[Corpus, Splits]:
    packed = folder.with_name(f"{folder.name}-packed")  # not with_suffix: shares have a dot
    config = PackConfig(**recipe.data.model_dump(include=set(PackConfig.model_fields)))
    corpus = Corpus.open(packed) if packed.is_dir() else pack(folder, packed, config)
    source = open_source(folder, recipe.data.annotations)
    return corpus, read_splits(folder, RecordingNames(source.audio_folder, source.names))


def _one(recipe: Recipe, corpus: Corpus, splits: Splits, seconds: float, seed: int) -> dict[str, float]:
    assert recipe.finetune is not None
    trained = train_within(Budget(seconds), *specs_of(recipe, corpus, splits, seed, None))
    windows = Windows(recipe.data.segment_s, recipe.evaluate.overlap_s, recipe.finetune.precision)
    scored = score(trained.model, corpus, (splits.valid, splits.test), windows, part(recipe.evaluate, EvaluationConfig))
    return scored.metrics | {"updates": float(trained.updates), "cpu_seconds": trained.cpu_s}


def main() -> None:
    """Print a line for each training, then the means; WORK/overlaps.json has all metrics."""
    parser = argparse.ArgumentParser(prog="python -m a2v_experiments.bench.overlaps", description=__doc__)
    parser.add_argument("work", type=Path, help="folder for corpora and results")
    parser.add_argument("--cpu-seconds", type=float, default=60.0, help="of the processor, for each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, action="append", help="of overlapping calls; default: 0, .25 and .5")
    parser.add_argument("--noise", type=float, default=0.2, help="level of the background; of calls about 1")
    parser.add_argument("--head", choices=list(HEADS), action="append", help="default: both")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    found = measure(
        given.work, given.cpu_seconds, given.seeds, tuple(given.share or SHARES), tuple(given.head or HEADS),
        given.overrides, given.noise,
    )  # fmt: skip
    (given.work / "overlaps.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    for share, heads in found.items():
        for head, rows in heads.items():
            means = "  ".join(
                f"{name.removesuffix('/micro')} {statistics.mean(row[name] for row in rows):.3f}" for name in SHOWN
            )
            print(f"mean  {share}  {head}  {means}")


if __name__ == "__main__":
    main()
