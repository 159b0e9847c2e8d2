"""A stage's fingerprint changes with everything that its result depends on, and with nothing else."""

import hashlib

import pytest
from a2v_experiments.basics.fingerprint import fingerprint

CONFIG = {"updates": 10, "optimizer": {"learning_rate": 0.1, "betas": [0.9, 0.98]}, "bcl": None, "precision": "auto"}


def test_it_is_the_sha256_of_the_sorted_json():
    text = '{"config": {"a": 1, "b": [true, null]}, "inputs": ["x"], "stage": "folds"}'
    assert fingerprint("folds", {"b": [True, None], "a": 1}, "x") == hashlib.sha256(text.encode()).hexdigest()


def test_key_order_does_not_matter_at_any_depth():
    turned = {key: CONFIG[key] for key in reversed(CONFIG)}
    turned["optimizer"] = {"betas": [0.9, 0.98], "learning_rate": 0.1}
    assert list(turned) != list(CONFIG)
    assert fingerprint("pretrain", turned, "a", "b") == fingerprint("pretrain", CONFIG, "a", "b")


@pytest.mark.parametrize(
    "stage, config, inputs",
    [
        ("finetune", CONFIG, ("a", "b")),
        ("pretrain", CONFIG, ("b", "a")),
        ("pretrain", CONFIG, ("a",)),
        ("pretrain", CONFIG, ("ab",)),
        ("pretrain", CONFIG, ("a", "b", "")),
        ("pretrain", {**CONFIG, "updates": 11}, ("a", "b")),
        ("pretrain", {**CONFIG, "updates": "10"}, ("a", "b")),
        ("pretrain", {**CONFIG, "bcl": {}}, ("a", "b")),
        ("pretrain", {**CONFIG, "optimizer": {"learning_rate": 0.1, "betas": [0.98, 0.9]}}, ("a", "b")),
        ("pretrain", {**CONFIG, "optimizer": {"learning_rate": 0.1 + 1e-16, "betas": [0.9, 0.98]}}, ("a", "b")),
        ("pretrain", {key: CONFIG[key] for key in CONFIG if key != "bcl"}, ("a", "b")),
    ],
)
def test_any_other_stage_value_or_input_has_another_one(stage, config, inputs):
    assert fingerprint(stage, config, *inputs) != fingerprint("pretrain", CONFIG, "a", "b")


def test_what_json_cannot_say_exactly_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        fingerprint("pretrain", {"learning_rate": float("inf")})
