"""`a2v bench`: that it measures what training does, and says it in numbers that can be checked."""

from __future__ import annotations

import json
import tempfile

import pytest
from a2v_model import PRESETS
from a2v_model.masking import frame_mask


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_training_step_is_measured(a2v, stage):
    said = a2v("bench", "train", "--preset", "tiny", "--stage", stage, "--segment-s", "1", "--segments", "2",
               "--steps", "2", "--precision", "float32", "--json")  # fmt: skip
    assert said.code == 0, said.err
    found = json.loads(said.out)
    step = found["step_s"]
    assert 0 < step["least"] <= step["median"] <= step["most"]
    assert found["audio_s_per_s"] == pytest.approx(2 / step["median"])
    assert found["teraflops"] == pytest.approx(found["teraflop_per_step"] / step["median"])
    assert len(found["losses"]) == 3 and len(set(found["losses"])) == 3  # it learns, with other masks each time
    assert found["peak_memory_gib"] > 0.1


def test_arithmetic_is_counted(a2v):
    """At least the MLPs of the main blocks: 2 * 2 * D * hidden per frame and block, times 3 with the backward pass for
    the student's kept frames, once for all frames of the teacher."""
    said = a2v("bench", "train", "--preset", "tiny", "--segment-s", "1", "--steps", "1", "--json")
    model, pretrain, _, _ = PRESETS["tiny"]
    frames = model.encoder_frames(model.front_end.frames(8000))
    kept = frames - int(frame_mask(1, frames, pretrain.mask_probability, pretrain.mask_length).sum())
    blocks = model.encoder.depth + model.encoder.prenet_depth
    mlp = 4 * model.encoder.dim * model.encoder.hidden * blocks
    least = mlp * (0.8 * 3 * kept * pretrain.clones + frames) / 1e12
    assert least < json.loads(said.out)["teraflop_per_step"] < 100 * least


def test_text_and_profile(a2v):
    said = a2v("bench", "train", "--preset", "tiny", "--segment-s", "0.5", "--steps", "1", "--gradient-checkpointing",
               "--profile")  # fmt: skip
    assert said.code == 0, said.err
    assert "tiny pretrain" in said.out and "checkpointed" in said.out and "peak memory" in said.out
    assert "mm" in said.out and "% " in said.out.replace("%  ", "% ")


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--preset", "huge"], "--preset huge: must be one of meerkat, "),
        (["--stage", "evaluate"], "--stage evaluate: must be one of pretrain, finetune"),
        (["--precision", "float16"], "--precision float16: must be one of auto, float32, bfloat16"),
    ],
)
def test_wrong_choices_are_one_line(a2v, arguments, told):
    said = a2v("bench", "train", *arguments)
    assert said.code == 2 and said.only_line().startswith(told)


def test_prediction_is_measured(a2v, monkeypatch, tmp_path):
    """Files in, tables out: two recordings of 3 s in one process; no recordings are left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = a2v("bench", "predict", "--preset", "tiny", "--minutes", "0.1", "--recordings", "2", "--precision",
               "float32", "--sample-rate", "16000", "--processes", "1", "--json")  # fmt: skip
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["audio_s"] == pytest.approx(6.0) and found["recordings"] == 2
    assert found["precision"] == "float32"
    assert found["times_real_time"] == pytest.approx(6.0 / found["elapsed_s"])
    assert found["times_real_time_of_a_process"] >= 0.99 * found["times_real_time"]
    assert found["audio_s_per_cpu_s"] == pytest.approx(6.0 / found["cpu_s"])
    assert 0 < found["share_outside_model"] < 1
    assert 0.1 < found["peak_memory_gib"]["process"] <= found["peak_memory_gib"]["all"]
    assert found["events"] > 0
    assert not list(tmp_path.iterdir())
