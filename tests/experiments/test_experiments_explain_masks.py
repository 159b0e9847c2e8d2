"""`a2v explain masks`: against closed forms, the original's statistics (golden g8), and what recipes say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

GOLDENS = Path(__file__).parents[1] / "model" / "goldens"
STATS = json.loads((GOLDENS / "g8_mask_stats.json").read_text())["stats"]
EQUAL = [golden for golden in STATS if golden["require_same_masks"]]  # as training draws them


def masks(a2v, *options):
    said = a2v("explain", "masks", *options, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_of_one_frame_are_a_random_subset_of_p_of_them(a2v, p):
    found = masks(a2v, "--mask-probability", p, "--mask-length", 1, "--frames", 2000, "--rows", 20)
    assert found["product"] == p and found["masked_share"]["mean"] == pytest.approx(p, abs=0.5 / 2000)
    # each next frame is masked with p: spans of length n have the share (1 - p) p^(n-1), gaps p (1 - p)^(n-1)
    for kind, end in (("spans", 1 - p), ("gaps", p)):
        assert found[kind]["mean"] == pytest.approx(1 / end, rel=0.02)
        for length in (1, 2, 3):
            share = found[kind]["lengths"].get(str(length), 0) / found[kind]["count"]
            assert share == pytest.approx(end * (1 - end) ** (length - 1), abs=0.01)


@pytest.mark.parametrize("golden", EQUAL, ids=lambda g: f"{g['mask_prob']}-{g['mask_length']}")
def test_statistics_are_those_of_the_original(a2v, golden):
    length = golden["mask_length"]
    found = masks(
        a2v, "--mask-probability", golden["mask_prob"] / length, "--mask-length", length,
        "--frames", golden["T"], "--rows", golden["B"], "--draws", golden["seeds"],
    )  # fmt: skip
    assert found["product"] == pytest.approx(golden["mask_prob"])
    spread = golden["fraction_std_between_batches"]
    assert abs(found["masked_share"]["mean"] - golden["fraction_mean"]) < 2 * spread
    assert found["spans"]["mean"] == pytest.approx(golden["span_mean"], rel=0.03)
    assert found["gaps"]["mean"] == pytest.approx(golden["gap_mean"], rel=0.03)
    assert abs(found["spans"]["median"] - golden["span_median"]) <= 1


def test_a_recipe_says_masks_segments_and_batch(a2v, tmp_path):
    found = masks(a2v, "meerkat/pretrain")
    keys = ("probability", "length", "frames", "rows", "frame_rate", "product")
    assert [found[key] for key in keys] == [0.75, 2, 2000, 6 * 12, 200, 1.5]
    assert found["masked_share"]["mean"] == pytest.approx(0.927, abs=0.003)  # spec 5: about 93 %
    found = masks(a2v, "meerkat/pretrain", "--set", "model.encoder.downsampling=2")  # masks are of the encoder's frames
    assert [found[key] for key in keys] == [0.75, 2, 1000, 6 * 12, 100, 1.5]
    over = ("--set", "finetune.mask_length=3", "--set", "finetune.segments=5", "--set", "data.segment_s=4")
    found = masks(a2v, "meerkat/finetune", "--stage", "finetune", "--mask-probability", 0.25, *over)
    assert [found[key] for key in keys] == [0.25, 3, 800, 5, 200, 0.75]


def test_text_figure_and_arrays(a2v, tmp_path):
    out, npz = tmp_path / "new" / "masks.png", tmp_path / "masks.npz"
    said = a2v("explain", "masks", "meerkat/pretrain", "--draws", 3, "--out", out, "--npz", npz)
    assert said.code == 0, said.err
    assert "published mask_prob = p * l = 1.5" in said.out and "masked: 92." in said.out
    rows = {tuple(line.split()[:3]) for line in said.out.splitlines()}
    assert {("masked", "spans", "frames"), ("visible", "gaps", "ms")} <= rows
    assert out.read_bytes().startswith(b"\x89PNG")
    with np.load(npz) as found:
        assert found["share"].shape == (3,) and found["example"].shape == (6, 200) and found["rows"] == 72
        # every frame is in a span, in a gap, or before the first or behind the last span of its row
        inside = sum(int(np.arange(len(found[name])) @ found[name]) for name in ("spans", "gaps"))
        assert 0.99 < inside / (3 * 72 * 2000) <= 1


@pytest.mark.parametrize(
    "options, told",
    [
        ([], "--mask-probability: is needed where no recipe is named"),
        (["--mask-probability", 0.5], "--mask-length: is needed where no recipe is named"),
        (["--mask-probability", 1.5, "--mask-length", 2], "--mask-probability"),
        (["--mask-probability", 0, "--mask-length", 2], "these settings have mask_probability or mask_length 0"),
        (["--mask-probability", 0.5, "--mask-length", 9, "--frames", 9], "mask length = 9: must be at least 1"),
        (["few_calls"], "few_calls: has no pretrain; --stage says"),
        (["quickstart", "--stage", "finetune"], "quickstart: finetune has mask_probability or mask_length 0"),
        (["--set", "data.segment_s=4"], "--set: changes a recipe, and none is named"),
        (["meerkat/pretrain", "--out", "masks.gif"], "masks.gif: a figure's name ends with .png, .pdf, .svg"),
    ],
)
def test_mistakes_are_one_line(a2v, options, told):
    said = a2v("explain", "masks", *options)
    assert said.code == 2 and told in said.only_line() and said.out == ""
