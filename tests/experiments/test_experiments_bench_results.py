"""The one reader of what `a2v bench` printed: what it takes, and the one line for what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from a2v_experiments.basics.bench_results import PredictResult, TrainResult, read_results
from a2v_experiments.basics.errors import UserError

TRAIN: dict[str, Any] = {
    "command": "bench train", "preset": "tiny", "stage": "pretrain", "segments": 4, "segment_s": 2.5,
    "precision": "float32", "compile": False, "gradient_checkpointing": False, "device": "NVIDIA H100",
    "parameters": 7, "step_s": {"median": 0.5, "least": 0.25}, "losses": [float("nan")],
}  # fmt: skip
PREDICT: dict[str, Any] = {
    "command": "bench predict", "preset": "tiny", "minutes": 10, "recordings": 2, "sample_rate": 48000,
    "precision": "bfloat16", "processes": 2, "device": "CPU, 2 cores", "peak_memory_gib": {"process": 0.5},
}  # fmt: skip
DEVICE = {"device": "NVIDIA H100", "memory_gib": 80.0}


def step(found: object) -> dict[str, object]:
    """One of infra/gpu_check.sh, whose command is that of a shell."""
    return {"name": "x", "state": "ok", "seconds": 1.0, "command": "python -m a2v_experiments bench train",
            "found": found, "said": ""}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([TRAIN, PREDICT]),
        json.dumps(TRAIN) + "\n\n" + json.dumps(PREDICT, indent=1) + "\n",
        json.dumps([TRAIN]) + json.dumps(PREDICT),
        json.dumps([step(DEVICE), step({"passed": 3, "failed": []}), step(TRAIN), step({}), step(PREDICT)]),
    ],
)
def test_one_several_lists_and_steps(tmp_path: Path, text: str) -> None:
    (tmp_path / "then.json").write_text(text)
    train, predict = read_results("--compare", tmp_path / "then.json")
    assert isinstance(train, TrainResult) and isinstance(predict, PredictResult)
    assert (train.segments, train.segment_s, train.step_s.median) == (4, 2.5, 0.5)
    assert (train.bcl, train.auto_precision, train.attention) == (False, "bfloat16", "auto")
    assert train.leaves["step_s/least"] == 0.25 and predict.leaves["peak_memory_gib/process"] == 0.5
    assert (predict.command, predict.minutes, predict.file) == ("bench predict", 10, tmp_path / "then.json")


def test_another_versions_preset_is_read(tmp_path: Path) -> None:
    (tmp_path / "then.json").write_text(json.dumps(TRAIN | {"preset": "giant", "more": [1]}))
    assert [one.preset for one in read_results("--compare", tmp_path / "then.json")] == ["giant"]


WITHOUT = {key: value for key, value in TRAIN.items() if key != "device"}
OLDER = {key: value for key, value in TRAIN.items() if key != "command"}


@pytest.mark.parametrize(
    "content, told",
    [
        ([1, 2, 3], "holds 1 where a result should be; must be what `a2v bench train` or"),
        ("x", 'holds "x" where a result should be'),
        ([[TRAIN]], 'holds [{"command": "bench train"'),
        ([step(3)], "holds 3 where a result should be"),
        ([step([TRAIN])], "holds [{"),
        ({}, "holds something else than a result; must be"),
        ({"command": ["bench", "train"]}, "holds something else than a result; must be"),
        ({"command": "python x.py"}, "holds something else than a result; must be"),
        ([], "holds no result; must be"),
        ([step(DEVICE), step({})], "holds no result; must be"),
        (OLDER, "was printed by an older version of a2v, without `command`; measure again"),
        ([step(OLDER)], "was printed by an older version of a2v, without `command`; measure again"),
        (WITHOUT, "device: Field required; measure again"),
        (TRAIN | {"step_s": 1.5}, "step_s: Input should be"),
        (TRAIN | {"step_s": {"median": 0}}, "step_s/median: Input should be greater than 0"),
        (TRAIN | {"step_s": {"median": -1.0}}, "step_s/median is -1.0; must be a finite number, not negative"),
        (TRAIN | {"step_s": {"median": float("inf")}}, "step_s/median is inf; must be a finite"),
        (TRAIN | {"step_s": {"median": float("nan")}}, "step_s/median is nan; must be a finite"),
        (TRAIN | {"teraflops": 10**400}, "teraflops is 10000000000000000000; must be a finite"),
        (TRAIN | {"segments": 0}, "segments: Input should be greater than 0"),
        (TRAIN | {"segments": "4"}, "segments: Input should be a valid integer"),
        (TRAIN | {"segments": True}, "segments: Input should be a valid integer"),
        (TRAIN | {"preset": 3}, "preset: Input should be a valid string"),
        (PREDICT | {"processes": None}, "processes: Input should be a valid integer"),
    ],
)
def test_what_is_no_result_is_one_line(tmp_path: Path, content: object, told: str) -> None:
    check(tmp_path / "then.json", json.dumps(content).encode(), told)


@pytest.mark.parametrize(
    "text, told",
    [
        (b"", "holds no result"),
        (b" \n", "holds no result"),
        (b'{"command": ', "is no JSON (Expecting value"),
        (json.dumps(TRAIN).encode() + b"}", "is no JSON ("),
        (b"9" * 5000, "is no JSON ("),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"command": "bench train", "a": ' * 5000 + b"1" + b"}" * 5000, "is nested too deeply"),
        (b"\xff\xfe{", "is no text in UTF-8"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, text: bytes | None, told: str) -> None:
    check(tmp_path / "then.json", text, told)


@pytest.mark.parametrize("depth", range(500, 1100, 50))
def test_nothing_is_too_deep_for_one_line(tmp_path: Path, depth: int) -> None:
    """What can be parsed just so is deeper for what comes after."""
    check(tmp_path / "then.json", b'{"command": "bench train", "a": ' * depth + b"1" + b"}" * depth, "")


def test_a_folder_is_one_line(tmp_path: Path) -> None:
    check(tmp_path, None, "cannot be read (Is a directory)")


def check(path: Path, text: bytes | None, told: str) -> None:
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(UserError) as refused:
        read_results("--compare", path)
    said = str(refused.value)
    assert said.startswith(f"--compare {path}: {told}") and "\n" not in said
