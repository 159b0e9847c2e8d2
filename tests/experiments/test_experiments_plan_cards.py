"""`a2v experiment plan --measured`: the paper's pretraining on cards that are not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PARAMETERS = 315_830_026  # that learn, of student and decoder


def result(segments: int, seconds: float, **more: object) -> dict[str, object]:
    """What `a2v bench train --preset meerkat --bcl --json` prints, of what is read."""
    return {
        "command": "bench train", "preset": "meerkat", "stage": "pretrain", "segments": segments, "segment_s": 10.0,
        "precision": "bfloat16", "auto_precision": "bfloat16", "bcl": True, "compile": False,
        "gradient_checkpointing": False, "device": "NVIDIA H100", "parameters": PARAMETERS,
        "step_s": {"median": seconds}, **more,
    }  # fmt: skip


def measured(path: Path, segments: int, seconds: float, **more: object) -> Path:
    path.write_text(json.dumps(result(segments, seconds, **more)))
    return path


def planned(a2v, *given):
    said = a2v("experiment", "plan", "meerkat/pretrain", *given, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["updates"] == 384_230 and found["audio_s_per_update"] == 960
    return found


def test_of_a_step_all_time_is_the_segments(a2v, tmp_path):
    path = measured(tmp_path / "step.json", 32, 1.6)  # 50 ms a segment
    one, eight, many = planned(a2v, "--measured", path)["cards"]
    assert one["update_s"] == pytest.approx(96 * 0.05) and one["total_s"] == pytest.approx(384_230 * 4.8)
    sums = 2 * 7 / 8 * 4 * PARAMETERS / 300e9
    assert eight["segments"] == 12 and eight["update_s"] == pytest.approx(12 * 0.05 + sums)
    assert (many["at_work"], many["segments"]) == (48, 2)  # 96 segments, two at least
    assert many["update_s"] == pytest.approx(2 * 0.05 + 2 * 47 / 48 * 4 * PARAMETERS / 40e9)
    assert [one["as_it_is"], eight["as_it_is"], many["as_it_is"]] == [True, True, False]  # 16 x 6, two each, 48 x 2


def test_two_sizes_tell_what_an_update_costs_beside_its_segments(a2v, tmp_path):
    few, more = measured(tmp_path / "8.json", 8, 0.5), measured(tmp_path / "32.json", 32, 1.7)  # 0.1 + 0.05 each
    found = planned(a2v, "--measured", few, "--measured", more)
    one = found["cards"][0]
    assert one["update_s"] == pytest.approx(0.1 + 96 * 0.05)
    assert found["measured"] == (
        f"8 segments in 0.5 s ({few}), 32 segments in 1.7 s ({more}) on NVIDIA H100 in bfloat16, which `auto` is there"
    )


QUICKER = [
    {"precision": "float32"}, {"compile": True}, {"gradient_checkpointing": True}, {"bcl": False}, {"segment_s": 5.0},
    {"attention": "torch"}, {"parameters": PARAMETERS - 1}, {"preset": "base"}, {"preset": "baseline"},
    {"preset": "giant"}, {"stage": "finetune"},
]  # fmt: skip


def test_only_steps_like_the_recipes_count(a2v, tmp_path):
    """In results.json of infra/gpu_check.sh: of the steps there that are ten times as fast none is the recipe's."""
    others = [result(32, 0.16, **change) for change in QUICKER]
    own = [result(32, 2.0), result(32, 1.6), result(32, 9.0)]  # of the same the fastest
    steps = [{"found": {"device": "NVIDIA H100"}}, {"found": {}}, *({"found": one} for one in [*others, *own])]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(steps))
    assert planned(a2v, "--measured", path)["cards"][0]["update_s"] == pytest.approx(4.8)


def test_the_recipes_settings_are_what_counts(a2v, tmp_path):
    path = tmp_path / "steps.json"
    ways = {"compile": True, "gradient_checkpointing": True, "bcl": False, "precision": "float32"}
    path.write_text(json.dumps([result(32, 0.16), result(32, 1.6, **ways)]))
    settings = ["compile=true", "gradient_checkpointing=true", "bcl=null", "precision=float32"]
    given = [word for setting in settings for word in ("--set", f"pretrain.{setting}")]
    found = planned(a2v, "--measured", path, *given)
    assert found["cards"][0]["update_s"] == pytest.approx(4.8) and found["measured"].endswith("H100 in float32")
    there = measured(tmp_path / "old.json", 32, 1.6, precision="float32", auto_precision="float32", device="Tesla T4")
    said = planned(a2v, "--measured", there)["measured"]
    assert said.endswith("on Tesla T4 in float32, which `auto` is there")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"preset": "base"}, "step.json, base: another model"),
        ({"preset": "giant"}, "step.json, giant: a preset that this a2v does not have"),
        ({"stage": "finetune"}, "they hold no pretraining"),
        ({"bcl": False}, "step.json, meerkat: bcl.window_s None, the recipe's 0.05"),
        (
            {"precision": "float32", "compile": True},
            "meerkat: precision float32, the recipe's bfloat16, compile True, the recipe's False",
        ),
        ({"segment_s": 5.0}, "segment_s 5.0, the recipe's 10"),
        ({"parameters": 7}, f"trained parameters 7, the recipe's {PARAMETERS}"),
        ({"attention": "torch"}, "A2V_ATTENTION torch, the recipe's auto"),
    ],
)
def test_what_does_not_fit_is_one_line(a2v, tmp_path, change, said):
    path = measured(tmp_path / "step.json", 8, 1.0, **change)
    found = a2v("experiment", "plan", "meerkat/pretrain", "--measured", path)
    assert found.code == 2 and found.only_line().startswith("--measured: no step is like the recipe's (")
    assert said in found.only_line()
    how = "`a2v bench train --preset meerkat --segments 6 --segment-s 10 --precision auto --bcl --json`"
    assert found.only_line().endswith(f"; measure one there with {how}")


def test_how_to_measure_is_of_the_recipe(a2v, tmp_path):
    path = measured(tmp_path / "step.json", 8, 1.0)
    own = a2v("experiment", "plan", "quickstart", "--measured", path, "--set", "pretrain.compile=true")
    how = "`a2v bench train --preset tiny --segments 4 --segment-s 2.5 --precision auto --compile --json`"
    assert own.code == 2 and own.only_line().endswith(f"measure one there with {how}")
    for setting in ("clones=8", "mask_length=3", "mask_probability=0.5", "decoder.depth=1", "bcl.window_s=0.1"):
        none = a2v("experiment", "plan", "meerkat/pretrain", "--measured", path, "--set", f"pretrain.{setting}")
        name = setting.partition("=")[0].replace("decoder.depth", "another decoder")
        assert none.code == 2 and f"step.json, meerkat: {name}" in none.only_line()
        assert none.only_line().endswith("has no preset like it: give --step-s, what a micro-batch of the recipe takes "
                                         "there")  # fmt: skip


def test_files_that_cannot_be_read_and_two_devices_are_one_line(a2v, tmp_path):
    wrong = a2v("experiment", "plan", "meerkat/pretrain", "--measured", tmp_path / "none.json")
    assert wrong.code == 2 and "none.json: cannot be read (No such file" in wrong.only_line()
    other = measured(tmp_path / "other.json", 8, 1.0, device="NVIDIA A100")
    here = measured(tmp_path / "here.json", 8, 1.0)
    two = a2v("experiment", "plan", "meerkat/pretrain", "--measured", other, "--measured", here)
    assert two.code == 2 and "on NVIDIA A100 and on NVIDIA H100" in two.only_line()


def test_seconds_of_a_micro_batch_and_text(a2v):
    said = a2v("experiment", "plan", "meerkat/pretrain", "--step-s", "0.3")  # 6 segments
    assert said.code == 0 and "384,230 updates of 960 s" in said.out
    row = next(line for line in said.out.splitlines() if line.split()[:1] == ["1"])
    assert "200" in row.split()[-1] and "21 d" in row  # 16 x 0.3 s = 4.8 s
    last = "64 cards so need segments: 2 and micro_batches: 48; the recipe has 6 and 16"
    assert said.out.splitlines()[-1] == last and said.out.count(" so need ") == 1


@pytest.mark.parametrize(
    "given, told",
    [
        (["--step-s", "inf"], "'--step-s': inf is no finite number"),
        *((["--step-s", value], "'--step-s': Input should be greater than or equal") for value in ("nan", "0", "-1")),
        (["--step-s", "1", "--measured", "there.json"], "--measured, --step-s: both say how long a step takes"),
    ],
)
def test_seconds_that_are_none_are_one_line(a2v, given, told):
    said = a2v("experiment", "plan", "meerkat/pretrain", *given)
    assert said.code == 2 and told in said.only_line()
