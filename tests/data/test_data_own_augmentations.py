"""Augmentations of plugins: what they are given, what they may give back."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_data.registry import AUGMENTATIONS, OwnAugmentation, augmented, register_augmentation
from pydantic import BaseModel


class Section(BaseModel):
    shift: int = 4


@pytest.fixture(autouse=True)
def _registered():
    @register_augmentation("roll", config=Section)
    def roll(waveform, target, sample_rate, config, rng):
        assert sample_rate == 8 and waveform.dtype == target.dtype == np.float32
        return np.roll(waveform, config.shift) + rng.random() * 0, np.roll(target, config.shift // 2, 0)

    @register_augmentation("noise")
    def noise(waveform, target, sample_rate, config, rng):
        return waveform + rng.normal(size=len(waveform)), target

    @register_augmentation("cut")
    def cut(waveform, target, sample_rate, config, rng):
        return waveform[1:], target

    yield
    AUGMENTATIONS.parts.clear()


def apply(*parts, seed=(0, 9, 1, 0)):
    waveform_BN = np.arange(16, dtype=np.float32).reshape(2, 8)
    waveform_BN[1, 5:] = 0
    target_BTC = np.zeros((2, 4, 1), np.float32)
    target_BTC[:, 0] = 1
    own = [OwnAugmentation.model_validate(part) for part in parts]
    out = augmented(own, waveform_BN, np.array([8, 5]), target_BTC, 2, 8, seed)
    assert waveform_BN[0, 0] == 0 and target_BTC[0, 0] == 1  # the given ones stay
    return out


def test_waveform_and_targets_change_together_and_padding_stays():
    waveform_BN, target_BTC = apply({"kind": "roll"})
    assert waveform_BN[0].tolist() == [4, 5, 6, 7, 0, 1, 2, 3] and target_BTC[0, :, 0].tolist() == [0, 0, 1, 0]
    assert waveform_BN[1].tolist() == [9, 10, 11, 12, 8, 0, 0, 0]  # 5 samples, 3 frames
    assert target_BTC[1, :, 0].tolist() == [0, 0, 1, 0]


def test_chance_is_that_of_the_place_in_training():
    first, again, other = (apply({"kind": "noise"}, seed=seed)[0] for seed in ((0, 1), (0, 1), (0, 2)))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first[0, :5] - np.arange(5), first[1, :5] - np.arange(8, 13))


def test_another_length_is_told():
    with pytest.raises(ValueError, match=r"augmentation cut of plugin .*: gives a waveform of shape \(7,\); must be"):
        apply({"kind": "cut"})
