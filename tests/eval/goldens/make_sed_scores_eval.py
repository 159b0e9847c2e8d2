"""Writes sed_scores_eval.json: scores of another library, for test_eval_oracle.py.

sed_scores_eval (J. Ebbers et al., ICASSP 2022) is no development dependency: it is compiled from source and brings
dcase_util, librosa and the obsolete `pathlib` package, and cannot read pandas 3's arrays.
Made with version 0.0.4 and NumPy 2.4.6 by

    pip install --no-deps --target site sed_scores_eval==0.0.4 sed_eval dcase_util lazy_dataset einops future \\
        validators pydot-ng "pandas<2.3" pytz && touch site/librosa.py
    PYTHONPATH=site python tests/eval/goldens/make_sed_scores_eval.py

Where definitions agree: `intersection_based` with tolerance 0.5 and `collar_based` with a collar of 0.1 s count the
same events as `strict` when each label meets at most one prediction, which is either close to it or far away, and when
events keep their bounds at every threshold; `segment_based` with segments of one frame counts the same timesteps.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RATE, FRAMES, CLASSES = 100, 1000, ("a", "b", "c")
THRESHOLDS = [0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]


def events(seed: int) -> tuple[list, list]:
    """Labels (class, start, stop) and bumps (class, start, stop, height) of a recording, in frames."""
    rng = np.random.default_rng(seed)
    labels, bumps = [], []
    for class_ in range(len(CLASSES)):
        at = int(rng.integers(5, 60))
        while at < FRAMES - 120:
            length = int(rng.integers(30, 60))
            if rng.random() < 0.8:
                labels.append((class_, at, at + length))
            if rng.random() < 0.8:
                shift, longer = (int(v) for v in rng.integers(-4, 5, 2))
                height = round(float(rng.uniform(0.1, 1)), 3)
                bumps.append((class_, at + shift, at + shift + length + longer, height))
            at += length + int(rng.integers(20, 200))
    return labels, bumps


def score_frames(bumps: list) -> np.ndarray:
    scores = np.full((FRAMES, len(CLASSES)), 0.01)
    for class_, start, stop, height in bumps:
        scores[start:stop, class_] = height
    return scores


def smooth_scores(seed: int) -> np.ndarray:
    noise = np.convolve(np.random.default_rng(seed).normal(size=FRAMES + 20), np.ones(21), "valid")
    return np.round(1 / (1 + np.exp(-0.4 * noise)), 4)


def main() -> None:
    from sed_scores_eval import collar_based, intersection_based, segment_based
    from sed_scores_eval.base_modules.scores import create_score_dataframe

    times = np.arange(FRAMES + 1) / RATE
    recordings = [events(seed) for seed in range(4)]
    names = [f"r{n}" for n in range(4)]
    scores = {
        name: create_score_dataframe(score_frames(bumps), times, list(CLASSES))
        for name, (_, bumps) in zip(names, recordings, strict=True)
    }
    truth = {
        name: [(start / RATE, stop / RATE, CLASSES[c]) for c, start, stop in labels]
        for name, (labels, _) in zip(names, recordings, strict=True)
    }
    smooth = {
        name: create_score_dataframe(smooth_scores(seed)[:, None], times, ["any"]) for seed, name in enumerate(names)
    }
    one = {
        name: [(start / RATE, stop / RATE, "any") for c, start, stop in labels if c == 0]
        for name, (labels, _) in zip(names, recordings, strict=True)
    }
    lengths = dict.fromkeys(names, FRAMES / RATE)
    curves: dict[str, list] = {"intersection_based": [], "collar_based": [], "segment_based": []}
    for threshold in THRESHOLDS:
        for found, call in (
            (
                "intersection_based",
                lambda t: intersection_based.fscore(scores, truth, t, dtc_threshold=0.5, gtc_threshold=0.5),
            ),
            (
                "collar_based",
                lambda t: collar_based.fscore(
                    scores, truth, t, onset_collar=0.1, offset_collar=0.1, offset_collar_rate=0.0
                ),
            ),
            ("segment_based", lambda t: segment_based.fscore(smooth, one, lengths, t, segment_length=1 / RATE)),
        ):
            f1, precision, recall, counts = call(threshold)
            curves[found].append(
                {
                    name: {"F1": f1[name], "precision": precision[name], "recall": recall[name]}
                    | {key: int(counts[name][key]) for key in ("tps", "fps", "n_ref")}
                    for name in counts
                }
            )
    record = {
        "made_by": "make_sed_scores_eval.py with sed_scores_eval 0.0.4",
        "frame_rate": RATE,
        "frames": FRAMES,
        "classes": CLASSES,
        "thresholds": THRESHOLDS,
        "recordings": [{"labels": labels, "bumps": bumps} for labels, bumps in recordings],
        "smooth": [smooth_scores(seed).tolist() for seed in range(4)],
        "curves": curves,
    }
    path = Path(__file__).with_name("sed_scores_eval.json")
    path.write_text(json.dumps(record, allow_nan=False).replace('{"labels"', '\n{"labels"') + "\n")


if __name__ == "__main__":
    main()
