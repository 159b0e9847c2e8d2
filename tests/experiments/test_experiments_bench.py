"""`a2v bench`: that it measures what training does, and says it in numbers that can be checked."""

from __future__ import annotations

import json
import tempfile

import pytest
from a2v_model import PRESETS
from a2v_model.flops import inference_flop


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


def test_arithmetic_is_counted_in_closed_form(a2v):
    """Of tiny's blocks' MLPs: 2 * 2 * 96 * 192 a frame and block, in the encoder's 25 frames of a second, once for the
    teacher and 3 times for the kept frames of 4 clones; the sums agree with one another."""
    said = a2v("bench", "train", "--preset", "tiny", "--segment-s", "1", "--steps", "1", "--json")
    found = json.loads(said.out)
    by_part = found["teraflop_by_part"]
    assert found["teraflop_per_step"] == pytest.approx(sum(by_part.values()))
    kept = by_part["mlp"] * 1e12 / (2 * 4 * 96 * 192 * 3 * 4)
    assert kept == round(kept) and kept in (8, 9)  # 68 % are masked
    assert by_part["teacher"] * 1e12 > 2 * 4 * 96 * 192 * 25
    rate, share, least = found["matrix_teraflops"], found["utilisation"], found["step_s"]["least"]
    assert share["per_s"] == pytest.approx(found["teraflop_per_step"] / least / rate["per_s"])
    assert 0 < share["per_cpu_s"] < 1 and 0 < found["cpu_s"]["least"] <= found["cpu_s"]["most"]
    assert found["processor"]["name"] and found["processor"]["cores"] >= 1


def test_text_and_profile(a2v):
    said = a2v("bench", "train", "--preset", "tiny", "--segment-s", "0.5", "--steps", "1", "--gradient-checkpointing",
               "--profile")  # fmt: skip
    assert said.code == 0, said.err
    assert "tiny pretrain" in said.out and "checkpointed" in said.out and "peak memory" in said.out
    assert "mm" in said.out and "% " in said.out.replace("%  ", "% ")
    assert "attention, scores and weighted sum" in said.out and "that matrix products do here" in said.out


def test_segments_are_mixed_where_asked(a2v):
    """The same noise, so the first loss is another one; and the result says what `auto` is here."""
    step = ["bench", "train", "--preset", "tiny", "--segment-s", "0.5", "--segments", "2", "--steps", "1"]
    found = [json.loads(a2v(*step, *more, "--json").out) for more in ([], ["--bcl"])]
    assert [one["bcl"] for one in found] == [False, True] and found[0]["losses"][0] != found[1]["losses"][0]
    assert found[0]["precision"] == found[0]["auto_precision"]


@pytest.mark.parametrize(
    "command", [["train", "--segment-s"], ["predict", "--minutes"], ["detect", ".", "--cpu-seconds"]]
)
def test_sizes_are_finite(a2v, command):
    said = a2v("bench", *command, "inf")
    assert said.code == 2 and said.only_line() == f"Invalid value for '{command[-1]}': inf is no finite number"
    said = a2v("bench", *command, "nan")
    assert said.code == 2 and said.only_line().startswith(f"Invalid value for '{command[-1]}': ")


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


PREDICT = ["bench", "predict", "--preset", "tiny", "--minutes", "0.1", "--recordings", "2", "--precision",
           "float32", "--sample-rate", "16000", "--processes", "1"]  # fmt: skip


def test_prediction_is_measured(a2v, monkeypatch, tmp_path):
    """Files in, tables out: two recordings of 3 s in one process; no recordings are left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = a2v(*PREDICT, "--json")
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
    model, finetune = PRESETS["tiny"].model, PRESETS["tiny"].finetune
    heard = inference_flop(model, finetune, 1, 24_000, 12)  # of a window of 10 s that which the recording has: 3 s
    assert found["teraflop_by_part"] == pytest.approx({part: 2 * flop / 1e12 for part, flop in heard.items()})
    window = sum(inference_flop(model, finetune, 1, 80_000, 12).values()) / 1e12
    alone = window / found["window_s"] / found["matrix_teraflops"]["per_cpu_s"]
    assert found["utilisation_of_model"] == pytest.approx(alone)
    assert 0 < found["utilisation"]["per_cpu_s"] < found["utilisation_of_model"] < 1


def test_every_preset_predicts(a2v):
    """Also that which has no transformer; and what is none is named."""
    said = a2v("bench", "predict", "--preset", "crnn", *PREDICT[4:])
    assert said.code == 0, said.err
    assert "crnn, float32" in said.out and "dilated convolutions" in said.out
    said = a2v("bench", "predict", "--preset", "huge")
    assert said.code == 2 and said.only_line().startswith("--preset huge: must be one of meerkat, ")


SAME = {
    "command": "bench train", "preset": "tiny", "stage": "pretrain", "segments": 1, "segment_s": 0.5,
    "precision": "float32", "compile": False, "gradient_checkpointing": False, "device": "CPU, 1 threads",
    "parameters": 7, "step_s": {"median": 1.0},
}  # fmt: skip
STEP = ["bench", "train", "--preset", "tiny", "--segment-s", "0.5", "--steps", "1", "--precision", "float32"]


def test_a_measurement_beside_earlier_ones(a2v, tmp_path):
    """A file holds two results, of which one is of the same settings; there the step took twice as long, on another
    processor."""
    other = SAME | {"segments": 4, "step_s": {"median": 1.0, "least": 1.0}}
    then = SAME | {"step_s": {"median": 4.0, "least": 2.0}, "processor": {"name": "Z80", "cores": 1}}
    file = tmp_path / "then.json"
    file.write_text(f"{json.dumps(other)}\n{json.dumps(then, indent=1)}\n")
    said = a2v(*STEP, "--compare", file, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    (beside,) = found["compared"]
    assert beside["file"] == str(file)
    assert ["processor/name", "Z80", found["processor"]["name"]] in beside["differences"]
    least = beside["numbers"]["step_s/least"]
    assert least == {"then": 2.0, "now": found["step_s"]["least"], "ratio": 2.0 / found["step_s"]["least"]}
    assert set(beside["numbers"]) == {"step_s/least", "step_s/median"}  # what both have
    assert not [row for row in beside["differences"] if row[0] == "attention"]
    said = a2v(*STEP, "--compare", file)
    assert "processor/name is another: Z80 then" in said.out and "then / now" in said.out


@pytest.mark.parametrize(
    "content, told",
    [
        ({}, "holds something else than a result; must be what `a2v bench train` or `bench predict` printed"),
        (
            {
                "command": "bench predict",
                "preset": "tiny",
                "minutes": 1,
                "recordings": 1,
                "sample_rate": 8000,
                "precision": "float32",
                "processes": 1,
                "device": "CPU",
            },
            "was printed by `a2v bench predict`; must be by `a2v bench train`",
        ),
        (
            SAME | {"preset": "small", "segments": 2},
            "was measured with preset small, segments 2; must be preset tiny, ",
        ),
        (SAME | {"preset": "giant"}, "was measured with preset giant; must be preset tiny, as now"),
        (SAME | {"precision": "bfloat16"}, "was measured with precision bfloat16; must be precision float32, as now"),
        (SAME | {"bcl": True}, "was measured with bcl True; must be bcl False, as now"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_compared_is_refused(a2v, tmp_path, content, told):
    """Before anything is measured."""
    file = tmp_path / "then.json"
    if content is not None:
        file.write_text(json.dumps(content))
    said = a2v(*STEP, "--compare", file)
    assert said.code == 2 and said.only_line().startswith(f"--compare {file}: {told}")
