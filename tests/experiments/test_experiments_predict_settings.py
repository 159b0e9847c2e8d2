"""What a model says of itself is the default of every setting, and what does not fit it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from a2v_eval.events import EventConfig
from a2v_experiments.basics.errors import UserError
from a2v_experiments.predict.options import read_thresholds, seconds_of, threshold_of
from a2v_experiments.predict.settings import settings_for
from a2v_model import Detector
from experiments_predict import THRESHOLDS, WINDOW_S, make_detector


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    return make_detector(tmp_path)


def test_the_models_own(detector):
    settings, notices = settings_for(detector)
    assert settings.events == EventConfig(method="avg", window_s=WINDOW_S, threshold=THRESHOLDS)
    assert (settings.segment_s, settings.overlap_s, settings.classes) == (1.0, 0.3, None) and notices == []


def test_a_model_without_thresholds_has_the_papers_and_says_so(detector):
    detector.thresholds, detector.thresholds_from = {}, {}
    settings, notices = settings_for(detector)
    assert settings.events == EventConfig(threshold={"cc": 0.15, "sn": 0.15})
    assert (settings.segment_s, settings.overlap_s) == (10.0, 0.5)
    assert notices == ["no threshold was chosen for cc, sn: 0.15 is used"]
    detector.thresholds = {"sn": 0.4}
    settings, notices = settings_for(detector)
    assert settings.events.threshold == {"cc": 0.15, "sn": 0.4} and notices[0].startswith(
        "no threshold was chosen for cc:"
    )
    assert settings_for(detector, threshold=0.2)[0].events.threshold == {"cc": 0.2, "sn": 0.2}


def test_thresholds_for_other_event_settings_are_pointed_out(detector):
    settings, (notice,) = settings_for(detector, method="max")
    assert settings.events == EventConfig(method="max", threshold=THRESHOLDS)  # a window for avg means nothing for max
    assert notice == "the model's thresholds were chosen for method avg, window_s 0.05; they may not fit other settings"
    assert settings_for(detector, window_s=0.2, threshold=0.3)[1] == []


def test_calls_are_parted_as_where_the_thresholds_were_chosen_or_as_asked_for(detector):
    assert settings_for(detector, peak_share=0.2)[0].events.peak_share == 0.2
    detector.thresholds_from |= {"peak_share": 0.35}
    own = EventConfig(window_s=WINDOW_S, threshold=THRESHOLDS, peak_share=0.35)
    assert settings_for(detector)[0].events == own
    settings, (notice,) = settings_for(detector, peak_share=0)
    assert settings.events == EventConfig(window_s=WINDOW_S, threshold=THRESHOLDS) and "peak_share 0.35;" in notice
    assert settings_for(detector, method="canny")[0].events == EventConfig(method="canny", threshold=THRESHOLDS)


def test_a_model_for_canny_keeps_what_belongs_to_it(detector):
    detector.thresholds_from |= {"method": "canny", "low_threshold": 0.1, "max_duration_s": 0.7}
    canny = EventConfig(method="canny", window_s=WINDOW_S, low_threshold=0.1, max_duration_s=0.7, threshold=THRESHOLDS)
    assert settings_for(detector)[0].events == canny
    assert settings_for(detector, method="avg")[0].events == EventConfig(threshold=THRESHOLDS)


def test_durations_of_users_are_no_setting_of_canny(detector):
    settings, _ = settings_for(detector, max_duration_s=2.0)
    assert settings.max_duration_s == 2.0 and settings.events.max_duration_s == 0.5


@pytest.mark.parametrize("name", ["t.json", "t.yaml", "t.csv", "model.json"])
def test_thresholds_of_a_file(tmp_path, name):
    text = {
        "t.json": json.dumps({"cc": 0.3, "sn": 0.4}),
        "t.yaml": "cc: 0.3\nsn: 0.4\n",
        "t.csv": "class,threshold\ncc,0.3\nsn,0.4\n",
        "model.json": json.dumps({"kind": "detector", "thresholds": {"cc": 0.3, "sn": 0.4}}),
    }
    (tmp_path / name).write_text(text[name])
    assert threshold_of(tmp_path / name, None) == {"cc": 0.3, "sn": 0.4}
    assert threshold_of(tmp_path / name, ["sn=0.9"]) == {"cc": 0.3, "sn": 0.9}


@pytest.mark.parametrize(
    "name, text, told",
    [
        ("t.json", "{", "not readable"),
        ("t.json", "[1]", "must hold class: threshold"),
        ("t.json", '{"cc": "high"}', "threshold of cc: 'high' should be a number"),
        ("t.csv", "label,value\ncc,0.3\n", "must have the columns class,threshold"),
        ("t.yaml", "cc: yes\n", "threshold of cc: True should be a number"),
    ],
)
def test_a_wrong_file_of_thresholds_is_one_line(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told) as error:
        read_thresholds(tmp_path / name)
    assert "\n" not in str(error.value)


def test_values_for_all_and_for_classes():
    assert seconds_of("--merge-gap", None) is None
    assert seconds_of("--merge-gap", ["0.5"]) == 0.5
    assert seconds_of("--merge-gap", ["a=b=0.5", "c=1"]) == {"a=b": 0.5, "c": 1.0}
    for given in (["0.5", "c=1"], ["c=1", "c=2"], ["-1"], ["nan"], ["c="]):
        with pytest.raises(UserError, match="--merge-gap"):
            seconds_of("--merge-gap", given)
