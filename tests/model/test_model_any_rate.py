"""One model for recordings of any sample rate: the same sound gives the same, whatever rate it was recorded at."""

import math

import pytest
import torch
from a2v_model import PRESETS, Detector, load_model, save_model
from a2v_model.config import EarConfig
from a2v_model.ear import Ear
from a2v_model.flops import inference_flop

RATES = (8000, 11000, 16000, 22000, 32000, 44100, 48000, 96000)


def sound(rate, seconds=3.0, highest_hz=7000.0, seed=0):
    """(1, N): 60 sines of slowly changing loudness below `highest_hz`, the same at every rate."""
    generator = torch.Generator().manual_seed(seed)
    time_s = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    x_N = torch.zeros_like(time_s)
    for _ in range(60):
        hz, phase, slow_hz, lag = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        loud = (1 + torch.sin(2 * math.pi * (0.5 + 4 * slow_hz) * time_s + 6 * lag)) ** 2
        x_N += loud * torch.sin(2 * math.pi * (200 + (highest_hz - 200) * hz) * time_s + 6 * phase)
    return (x_N / x_N.std()).float()[None]


def ear(seed=0, **settings):
    torch.manual_seed(seed)
    return Ear(EarConfig(any_rate=True, **settings)).eval()


def detector(seed=0, **settings):
    torch.manual_seed(seed)
    model, _, finetune, _ = PRESETS["tiny"]
    front_end = EarConfig(sample_rate=16000, any_rate=True, **settings)
    return Detector(model.model_copy(update={"front_end": front_end}), finetune, ["a", "b"]).eval()


@pytest.mark.parametrize("rate", [r for r in RATES if r > 16000])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_sound_is_equally_loud_in_every_band(rate, seed):
    """Sound below 7 kHz, of 16 kHz: every band is heard at a higher rate, too, and no frame differs by more than
    a quarter of a unit (2 dB), most by far less."""
    whole = ear(seed)
    there = whole.at(whole.config.at(rate))
    assert bool(there.filters.heard().all())
    here_FT = whole.loudness(sound(16000, seed=seed))[0]
    there_FT = there.loudness(sound(rate, seed=seed))[0]
    below = whole.filters.bands_hz()[1] < 7000  # above it there is nothing but what the window spreads
    difference = (here_FT - there_FT).detach()[below][:, 5:-5].abs()
    assert float(difference.mean()) < 0.05 and float(difference.quantile(0.99)) < 0.25


@pytest.mark.parametrize(("rate", "bands"), [(8000, 46), (11000, 54)])
def test_bands_above_half_the_rate_are_not_heard(rate, bands):
    """Mel edges: band i ends at mel edge i + 2 of 65 steps from 150 Hz to 8 kHz."""
    whole = ear()
    mel = [2595 * math.log10(1 + hz / 700) for hz in (150.0, 8000.0, rate / 2)]
    step = (mel[1] - mel[0]) / 65
    by_hand = sum(mel[0] + (band + 2) * step <= mel[2] for band in range(64))
    there = whole.at(whole.config.at(rate))
    assert int(there.filters.heard().sum()) == by_hand == bands
    assert bool(there.filters.heard()[:bands].all())
    inputs = there._inputs(there.loudness(sound(rate, highest_hz=3000.0)), None, None)[0]
    assert torch.equal(inputs[1, :, 0], there.filters.heard().float())
    assert float(inputs[0, bands:].abs().max()) == 0.0 < float(inputs[0, :bands].abs().max())


def test_a_model_without_it_is_as_it_was():
    config = EarConfig(sample_rate=8000)
    assert config.at(48000) is config and "any_rate" not in config.model_dump()
    model, _, finetune, _ = PRESETS["tiny"]
    plain = Detector(model, finetune, ["a"])
    assert plain.for_rate(48000) is plain
    assert plain.backbone.front_end.stem.convs[0].in_channels == 1
    with pytest.raises(ValueError, match=r"this model hears 8000 Hz; resample"):
        plain.likelihoods(torch.zeros(48000), 48000)


def test_a_rate_that_leaves_no_band_is_not_heard():
    """minimum_hz is 150: up to 600 Hz a recording is resampled, as for every other model."""
    config = EarConfig(any_rate=True)
    assert config.at(600) is config and config.at(700).sample_rate == 700


def test_frames_of_whole_samples_a_second_are_needed():
    with pytest.raises(ValueError, match=r"22050 Hz / 220 samples are 100.227; e.g. sample_rate: 22000"):
        EarConfig(sample_rate=22050, any_rate=True)
    assert EarConfig(sample_rate=22000, any_rate=True).frame_rate == 100


def test_what_hears_one_rate_is_not_saved_as_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"a model for 8000 Hz only \(for_rate\): save the model that it was made of"):
        save_model(detector().for_rate(8000), tmp_path / "model", {})


@pytest.mark.parametrize(("rate", "heard"), [(22050, 22000), (11025, 11000), (44100, 44100), (47999, 48000)])
def test_frames_are_as_long_at_every_rate(rate, heard):
    """Of whole samples, 10 ms each: a recording of another rate is resampled to the nearest that has them."""
    model = detector().for_rate(rate)
    assert model.sample_rate == heard and model.frame_rate == 100
    if heard != rate:
        with pytest.raises(ValueError, match=f"this model hears {heard} Hz; resample"):
            model.likelihoods(torch.zeros(rate), rate)


@pytest.mark.parametrize("rate", RATES)
def test_likelihoods_of_a_recording_at_its_own_rate(rate):
    model = detector()
    own = model.for_rate(rate)
    found = model.likelihoods(sound(rate)[0], rate)
    assert found.shape == (300, 2) and own.frame_rate == 100 and own.sample_rate == rate
    assert torch.equal(found, own.likelihoods(sound(rate)[0], rate))
    if rate > 16000:  # in the middle, where no end is near
        here = model.likelihoods(sound(16000)[0], 16000)
        assert float((found - here)[20:-20].abs().max()) < 0.02
    assert model.embed(sound(rate)[0], rate).shape[0] == len(found)


def test_weights_are_shared_and_learn_at_every_rate():
    model = detector()
    own = model.for_rate(48000)
    assert [id(p) for p in own.parameters()] == [id(p) for p in model.parameters()]
    assert own.state_dict().keys() == model.state_dict().keys()
    own.train()
    own(sound(48000), torch.Generator().manual_seed(0)).square().mean().backward()
    for parameter in (*model.backbone.front_end.parameters(), *model.head.parameters()):
        assert bool(parameter.grad.isfinite().all()) and float(parameter.grad.abs().max()) > 0
    model.eval()
    with torch.no_grad():
        model.head.bias.fill_(30.0)
    assert float(own.eval()(sound(48000)).min()) > 10  # no copy


def test_it_is_saved_and_loaded(tmp_path):
    model = detector()
    save_model(model, tmp_path / "model", {})
    again = load_model(tmp_path / "model")
    x_N = sound(32000)[0]
    assert torch.equal(again.likelihoods(x_N, 32000), model.likelihoods(x_N, 32000))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_hears_narrow_recordings(seed):
    """Half of the segments lose a number of the highest bands, each number from none to half equally often; half of
    these are told so, to the others the bands are as silent as in a recording that was resampled to a higher rate."""
    mask_BFT = ear(band_masks=0, time_mask_probability=0.0).draw_mask(2000, 20, torch.Generator().manual_seed(seed))
    assert bool((mask_BFT == mask_BFT[:, :, :1]).all())
    rows_BF = mask_BFT[:, :, 0]
    lost_B, told_B = (rows_BF < 1).sum(1), (rows_BF < 0).any(1)
    for lost, told, row_F in zip(lost_B.tolist(), told_B.tolist(), rows_BF, strict=True):
        assert row_F.tolist() == [1.0] * (64 - lost) + [-1.0 if told else 0.0] * lost
    assert float((lost_B > 0).float().mean()) == pytest.approx(0.5 * 32 / 33, abs=0.04) and int(lost_B.max()) == 32
    assert float(lost_B[lost_B > 0].float().mean()) == pytest.approx(16.5, abs=1.0)
    assert float(told_B[lost_B > 0].float().mean()) == pytest.approx(0.5, abs=0.05)


def test_what_it_costs():
    """The stem's second input costs 9 products for each of 8 filters and 64 bands in each frame; another rate changes
    the Fourier transform and the product with the bands alone."""
    model, _, finetune, _ = PRESETS["tiny"]

    def front_end(**settings):
        config = model.model_copy(update={"front_end": EarConfig(sample_rate=16000, **settings)})
        return inference_flop(config, finetune, 1, 160_000, 2)["front_end"]

    assert front_end(any_rate=True) - front_end() == 2 * 9 * 8 * 64 * 1000
