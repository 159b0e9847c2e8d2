"""Scores that do not ask for the class: by hand, and against scikit-learn over frames."""

import numpy as np
import pytest
from a2v_eval import LABEL, EvaluationConfig, EventConfig, evaluate
from a2v_eval.any_class import TimestepCounter, one_class, one_class_config
from sklearn.metrics import precision_recall_fscore_support

SHORT = EventConfig(window_s=0.01)


def recording(seed, n_frames=500, n_classes=3):
    rng = np.random.default_rng(seed)
    likelihood_TC = (rng.random((n_frames, n_classes)) * 0.1).astype(np.float32)
    rows = []
    for _ in range(8):
        start, length, class_ = (
            rng.integers(0, n_frames - 60),
            rng.integers(5, 60),
            rng.integers(0, n_classes),
        )
        rows.append((class_, start / 100, (start + length) / 100))
        shift = rng.integers(-5, 5)
        likelihood_TC[max(start + shift, 0) : start + length, (class_ + rng.integers(0, 2)) % n_classes] = rng.random()
    return likelihood_TC, np.array(rows, LABEL)


def test_one_class_merges_labels_of_all_classes():
    labels = np.array([(1, 0.5, 0.9), (0, 0.1, 0.2), (2, 0.8, 1.0), (0, 1.0, 1.1), (0, 2.0, 2.5), (1, 2.1, 2.2)], LABEL)
    likelihood_TC = np.random.default_rng(0).random((300, 3)).astype(np.float32)
    likelihood_T1, merged = one_class(likelihood_TC, labels)
    assert merged.tolist() == [(0, 0.1, 0.2), (0, 0.5, 1.1), (0, 2.0, 2.5)]
    np.testing.assert_array_equal(likelihood_T1[:, 0], likelihood_TC.max(axis=1))
    assert len(one_class(likelihood_TC, labels[:0])[1]) == 0


def test_a_call_of_the_wrong_class_counts_as_found():
    likelihood_TC = np.zeros((100, 2), np.float32)
    likelihood_TC[20:40, 1] = 0.9
    data = [(likelihood_TC, np.array([(0, 0.2, 0.4)], LABEL))]
    config = EvaluationConfig(events=SHORT)
    assert evaluate(data, ["a", "b"], 100, config).strict.micro.recall == 0
    per_class = config.model_copy(update={"events": EventConfig(window_s=0.01, threshold={"a": 0.95, "b": 0.2})})
    for chosen in (config, one_class_config(per_class)):
        assert evaluate([one_class(*data[0])], ["any"], 100, chosen).strict.micro.recall == 1


@pytest.mark.parametrize("seed", range(6))
def test_timesteps_equal_scikit_learn_over_frames(seed):
    data = [recording(seed), recording(seed + 100, n_frames=300)]
    true, said = [], []
    for likelihood_TC, labels in data:
        said.append((likelihood_TC > 0.15).any(axis=1))
        frames = np.zeros(len(likelihood_TC), bool)
        for label in labels:
            frames[round(label["onset_s"] * 100) : round(label["offset_s"] * 100)] = True
        true.append(frames)
    wanted = precision_recall_fscore_support(np.concatenate(true), np.concatenate(said), average="binary")
    counter = TimestepCounter("abc", 100, SHORT)
    for likelihood_TC, labels in data:
        counter.add(likelihood_TC, labels)
    found = counter.scores()
    assert (found.precision, found.recall, found.f1) == pytest.approx(wanted[:3])
    assert found.frames == 800 and 0 < found.precision < 1


def test_silence_is_undefined_and_bad_labels_are_refused():
    silent = (np.zeros((100, 1), np.float32), np.zeros(0, LABEL))
    counter = TimestepCounter(["a"], 100)
    counter.add(*silent)
    assert np.isnan(counter.scores().f1)
    assert counter.scores().to_dict() == {
        "precision": None, "recall": None, "F1": None, "labelled_s": 0, "predicted_s": 0, "total_s": 1,
    }  # fmt: skip
    wrong = (silent[0], np.array([(0, 0.4, 0.2)], LABEL))
    with pytest.raises(ValueError, match="label row 0: offset_s"):
        counter.add(*wrong)
    with pytest.raises(ValueError, match="offset_s of each label"):
        one_class(*wrong)
