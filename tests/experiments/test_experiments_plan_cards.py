"""`a2v experiment plan --measured`: the paper's pretraining on cards that are not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PARAMETERS = 315_830_026  # that learn, of student and decoder


def measured(path: Path, segments: int, seconds: float, **more: object) -> Path:
    step = {"preset": "meerkat", "stage": "pretrain", "segments": segments, "segment_s": 10.0, "device": "NVIDIA H100",
            "step_s": {"median": seconds}, **more}  # fmt: skip
    path.write_text(json.dumps(step))
    return path


def cards(a2v, *given):
    said = a2v("experiment", "plan", "meerkat/pretrain", *given, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["updates"] == 384_230 and found["audio_s_per_update"] == 960
    return found["cards"]


def test_of_a_step_all_time_is_the_segments(a2v, tmp_path):
    one, eight, many = cards(a2v, "--measured", measured(tmp_path / "step.json", 32, 1.6))  # 50 ms a segment
    assert one["update_s"] == pytest.approx(96 * 0.05) and one["total_s"] == pytest.approx(384_230 * 4.8)
    sums = 2 * 7 / 8 * 4 * PARAMETERS / 300e9
    assert eight["segments"] == 12 and eight["update_s"] == pytest.approx(12 * 0.05 + sums)
    assert (many["at_work"], many["segments"]) == (48, 2)  # 96 segments, two at least
    assert many["update_s"] == pytest.approx(2 * 0.05 + 2 * 47 / 48 * 4 * PARAMETERS / 40e9)


def test_two_sizes_tell_what_an_update_costs_beside_its_segments(a2v, tmp_path):
    few, more = measured(tmp_path / "8.json", 8, 0.5), measured(tmp_path / "32.json", 32, 1.7)  # 0.1 + 0.05 each
    one = cards(a2v, "--measured", few, "--measured", more)[0]
    assert one["update_s"] == pytest.approx(0.1 + 96 * 0.05)
    results = tmp_path / "results.json"  # of infra/gpu_check.sh: with other steps, and slower ones of the same size
    found = [json.loads(path.read_text()) for path in (few, more)]
    others = [{"device": "x"}, {**found[1], "step_s": {"median": 9.0}}, {**found[0], "stage": "finetune"}, {}]
    results.write_text(json.dumps([{"found": one} for one in [*found, *others]]))
    assert cards(a2v, "--measured", results)[0] == one


def test_seconds_of_a_micro_batch_and_text(a2v):
    said = a2v("experiment", "plan", "meerkat/pretrain", "--step-s", "0.3")  # 6 segments
    assert said.code == 0 and "384,230 updates of 960 s" in said.out
    row = next(line for line in said.out.splitlines() if line.split()[:1] == ["1"])
    assert "200" in row.split()[-1] and "21 d" in row  # 16 x 0.3 s = 4.8 s


@pytest.mark.parametrize(
    "change, said",
    [({"preset": "base"}, "holds pretraining steps of base, 10 s"), ({"stage": "finetune"}, "steps of nothing")],
)
def test_what_does_not_fit_is_one_line(a2v, tmp_path, change, said):
    path = measured(tmp_path / "step.json", 8, 1.0, **change)
    found = a2v("experiment", "plan", "meerkat/pretrain", "--measured", path)
    assert found.code == 2 and said in found.only_line()
    wrong = a2v("experiment", "plan", "meerkat/pretrain", "--measured", tmp_path / "none.json")
    assert wrong.code == 2 and "none.json: No such file" in wrong.only_line()
    other = measured(tmp_path / "other.json", 8, 1.0, device="NVIDIA A100")
    here = measured(tmp_path / "here.json", 8, 1.0)
    two = a2v("experiment", "plan", "meerkat/pretrain", "--measured", other, "--measured", here)
    assert two.code == 2 and "on NVIDIA A100 and on NVIDIA H100" in two.only_line()
