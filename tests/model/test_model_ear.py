"""The ear: band energies against filtering in time, what it does not hear, its masks; and batch statistics that are
the same for any number of workers."""

from typing import Any

import numpy as np
import pytest
import torch
from a2v_model import PRESETS, Detector, EarConfig, Pretrainer, set_gradient_checkpointing, settle_batch_norms
from a2v_model.config import PretrainConfig
from a2v_model.ear import LEVELS, SMALLEST_ENERGY, BandEnergies, Ear, rectified_maxima
from a2v_model.layers import BatchNorm
from a2v_model.sinc import mel_edges_hz
from a2v_model.summary import receptive_field
from torch import Tensor, nn
from torch.nn import functional

SMALL: dict[str, Any] = {"sample_rate": 8000, "filters": 16, "stem": (4, 6)}


def _ear(seed: int = 0, **fields: Any) -> Ear:
    torch.manual_seed(seed)
    return Ear(EarConfig(**(SMALL | fields)))


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fields", [{}, {"sample_rate": 22050, "hop": 100, "window": 301, "kernel": 101}])
def test_energies_are_those_of_the_filters_in_time(fields: dict[str, Any]) -> None:
    """Every frame cut out by hand, windowed, filtered by numpy's convolution, wrapped around the transform's points."""
    config = EarConfig(**(SMALL | fields))
    energies, samples = BandEnergies(config), 2000
    wave = _noise(1, samples)
    found_FT = energies(wave)[0].detach().double().numpy()
    taps_FK = energies.filters.filters().detach().double().numpy()
    width, stride, points = config.energy_window, config.stride, config.transform
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    middle = (points - stride) // 2 - (points - width) // 2  # what the window reaches before its frame
    padded = np.concatenate([np.zeros(points), wave[0].double().numpy(), np.zeros(points)])
    assert found_FT.shape == (16, samples // stride)
    for frame in range(samples // stride):
        start = points + frame * stride - middle
        cut = padded[start : start + width] * window
        for band in (0, 7, 15):
            wrapped = np.zeros(points)
            long = np.convolve(cut, taps_FK[band])
            for place in range(0, len(long), points):
                part = long[place : place + points]
                wrapped[: len(part)] += part
            expected = (wrapped**2).sum() / (window**2).sum()
            assert found_FT[band, frame] == pytest.approx(expected, rel=1e-4)


def test_filters_have_unit_energy_and_white_noise_the_same_in_every_band() -> None:
    """The mean energy of noise of variance 1 behind a filter of unit energy is 1."""
    energies = BandEnergies(EarConfig(sample_rate=8000))
    torch.testing.assert_close(energies.filters.filters().square().sum(1), torch.ones(64))
    torch.testing.assert_close(energies(_noise(8, 80_000)).mean((0, 2)), torch.ones(64), rtol=0.1, atol=0)


@pytest.mark.parametrize("band", [10, 40, 60])
def test_a_sine_is_loudest_in_its_band_and_as_loud_as_it_is(band: int) -> None:
    """Power 1/2 times the filter's gain at its frequency, in a window that is long against the filter; band i reaches
    from mel edge i to i + 2."""
    energies = BandEnergies(EarConfig(sample_rate=8000, window=1600))
    edges = mel_edges_hz(65, 150.0, 4000.0)
    low, high = energies.filters.bands_hz()
    torch.testing.assert_close(low.double(), edges[:-2], rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(high.double(), edges[2:], rtol=1e-5, atol=1e-3)
    middle = float(low[band] + high[band]) / 2
    wave = torch.sin(2 * torch.pi * middle * torch.arange(8000) / 8000)[None]
    found_F = energies(wave)[0, :, 10:-10].mean(1)
    assert int(found_F.argmax()) == band
    taps = energies.filters.filters()[band].detach().double().numpy()
    gain = abs((taps * np.exp(-2j * np.pi * middle * np.arange(len(taps)) / 8000)).sum()) ** 2
    assert float(found_F[band]) == pytest.approx(gain / 2, rel=0.02)
    assert float(found_F[abs(torch.arange(64) - band) > 8].max()) < 0.02 * float(found_F[band])


@pytest.mark.parametrize("rate", [8000, 22050])
def test_a_frame_hears_its_own_samples(rate: int) -> None:
    """An impulse in the middle of frame t is loudest in frame t, and as loud before as after it."""
    ear = _ear(sample_rate=rate)
    stride = ear.config.stride
    for frame in (0, 1, 25, 49):
        wave = torch.zeros(1, 50 * stride)
        wave[0, frame * stride + stride // 2] = 1.0
        heard_T = ear.energies(wave)[0].sum(0)
        assert int(heard_T.argmax()) == frame
        if 0 < frame < 49:
            assert float(heard_T[frame - 1]) == pytest.approx(float(heard_T[frame + 1]), abs=0.1 * float(heard_T.max()))


def test_receptive_field_of_an_ear() -> None:
    """Samples whose change is heard in a frame in the middle; its level is set aside, and what is loud is not cut."""
    ear = _ear().eval()
    wave = _noise(1, 8000).requires_grad_()
    x_BFT = torch.log(ear.energies(wave) + SMALLEST_ENERGY)
    ear.stem(x_BFT[:, None])[0, 50].square().sum().backward()
    assert wave.grad is not None
    moved = wave.grad[0].nonzero().flatten()
    assert abs(int(moved[-1] - moved[0]) + 1 - receptive_field(ear.config)) <= 1  # the window's first sample is 0


@pytest.mark.parametrize("quantile", [0.0, 0.29, 0.3, 1.0])
def test_padding_changes_nothing(quantile: float) -> None:
    """Whatever stands there; also where a begun frame is heard by the last whole one."""
    ear = _ear(level_quantile=quantile).eval()
    with torch.no_grad():
        for norm in ear.stem.norms:
            norm.mean.normal_()
            norm.bias.normal_()
    lengths = torch.tensor([8000, 4001, 80, 7999])
    wave = _noise(4, 8000)
    together = ear(wave, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone = ear(wave[item : item + 1, :length])[0]
        assert len(alone) == length // 80
        torch.testing.assert_close(together[item, : len(alone)], alone, rtol=1e-4, atol=1e-4)
        assert not together[item, len(alone) :].any()


def test_the_gain_of_a_recorder_is_not_heard() -> None:
    """And of silence nothing is. Relative loudness moves by less than what SMALLEST_ENERGY adds to the least energy."""
    ear = _ear().eval()
    wave = _noise(1, 16_000) * (1 + 5 * (torch.arange(16_000) > 9000))
    least = float(ear.energies(wave).min())
    plain, quiet = ear.loudness(wave), ear.loudness(0.1 * wave)
    torch.testing.assert_close(plain, quiet, rtol=0, atol=100 * SMALLEST_ENERGY / least)
    assert float((plain - quiet).abs().max()) > 0  # there is a floor
    assert not ear.loudness(torch.zeros(1, 8000)).any()
    assert float(plain.min()) >= LEVELS[0] and float(plain.max()) <= LEVELS[1]


def test_loudness_is_log_energy_over_its_quantile() -> None:
    """In units of exp(2): a sound 20 dB above the level is at ln(100) / 2; the level is the quantile of its frames."""
    ear = _ear(level_quantile=0.5)
    wave = _noise(1, 8000)
    found = ear.loudness(wave)[0].detach().double().numpy()
    log_FT = np.log(ear.energies(wave)[0].detach().double().numpy() + 1e-6)
    level_F1 = np.sort(log_FT, axis=1)[:, 49:50]
    np.testing.assert_allclose(found, np.clip((log_FT - level_F1) / 2, -4, 8), atol=1e-4)


@pytest.mark.parametrize("learned", [True, False])
def test_band_edges_learn_where_they_may(learned: bool) -> None:
    ear = _ear(learned=learned).train()
    ear(_noise(2, 8000)).square().mean().backward()
    for edge in (ear.filters.low_khz, ear.filters.band_khz):
        assert (edge.grad is not None and bool((edge.grad != 0).all())) == learned
    assert all(conv.weight.grad.any() for conv in ear.stem.convs)


def test_masks_depend_on_the_generator_alone_and_hide_no_more_than_they_say() -> None:
    ear = _ear(filters=32, band_masks=2, time_mask_probability=0.5)

    def masks(seed: int) -> Tensor:
        return ear.draw_mask(64, 100, torch.Generator().manual_seed(seed))

    torch.manual_seed(1)
    first = masks(0)
    torch.manual_seed(2)
    assert torch.equal(first, masks(0)) and not torch.equal(first, masks(1))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    bands_B = (first.amax(2) == 0).sum(1)
    frames_B = (first.amax(1) == 0).sum(1)
    assert int(bands_B.max()) <= 2 * 4 and int(frames_B.max()) <= 6
    assert 0.3 < float((frames_B > 0).float().mean()) < 0.7 and 0.5 < float((bands_B > 0).float().mean()) < 0.85
    shaped = (first.amax(2, keepdim=True) * first.amax(1, keepdim=True)).expand_as(first)
    assert torch.equal(first, shaped)  # whole bands and whole frames
    none = _ear(band_masks=0, time_mask_probability=0.0)
    assert bool((none.draw_mask(64, 100, torch.Generator()) == 1).all())


def test_only_training_masks() -> None:
    ear = _ear()
    wave, generator = _noise(4, 8000), torch.Generator().manual_seed(0)
    ear.eval()
    assert torch.equal(ear(wave, None, generator), ear(wave))
    ear.train()
    assert torch.equal(ear(wave), ear(wave)) and not torch.equal(ear(wave, None, generator), ear(wave))


@pytest.mark.parametrize(
    "rate, stride, taps, points", [(8000, 80, 127, 256), (16000, 160, 255, 512), (22050, 220, 351, 512),
                                   (44100, 441, 705, 1024)],
)  # fmt: skip
def test_any_sample_rate(rate: int, stride: int, taps: int, points: int) -> None:
    """10 ms of samples a frame; impulse responses of just below 16 ms, odd."""
    config = EarConfig(sample_rate=rate, filters=16, stem=(4, 6))
    assert (config.stride, config.taps, config.energy_window, config.transform) == (stride, taps, 2 * stride, points)
    assert config.frame_rate == rate / stride and config.width == 6 * 4
    for samples in (stride, 2 * stride - 1, rate // 2):
        assert config.frames(samples) == samples // stride
        assert Ear(config)(_noise(1, samples)).shape == (1, samples // stride, config.width)
    with pytest.raises(ValueError, match=f"a segment of {stride - 1} samples is too short: one frame needs {stride}"):
        config.frames(stride - 1)


@pytest.mark.parametrize(
    "fields, told",
    [
        ({"filters": 24, "stem": (1, 1, 1, 1)}, "filters = 24: must be a multiple of 16, since each of the 4 layers"),
        ({"stem": ()}, "front_end.stem"),
        ({"kernel": 128}, "front_end.kernel = 128: must be odd, e.g. 129"),
        ({"minimum_hz": 2000}, "front_end.minimum_hz = 2000: must be below a quarter of the sample rate, 2000 Hz"),
        ({"window": 79}, r"front_end.window = 79: must be at least a frame \(80 samples\)"),
        ({"sinc_filters": 3}, "sinc_filters"),
        ({"level_quantile": 1.5}, "level_quantile"),
    ],
)
def test_what_makes_no_ear_is_told(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        EarConfig(**(SMALL | fields))


@pytest.mark.parametrize("shape, oracle", [((6, 5, 40), nn.BatchNorm1d), ((6, 5, 8, 9), nn.BatchNorm2d)])
def test_batch_norm_is_torchs_with_its_averages_made_later(shape: tuple[int, ...], oracle: Any) -> None:
    """After updates of one micro-batch nothing differs from torch's, in train mode, in eval mode and in gradients."""
    ours, theirs = BatchNorm(5), oracle(5)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(_noise(5, seed=1))
            norm.bias.copy_(_noise(5, seed=2))
    for update in range(3):
        x = (3 * _noise(*shape, seed=update) + 1).requires_grad_()
        y = x.detach().clone().requires_grad_()
        before = ours.mean.clone()
        out, expected = ours(x), theirs(y)
        torch.testing.assert_close(out, expected)
        (out**3).sum().backward()
        (expected**3).sum().backward()
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-3)
        assert torch.equal(ours.mean, before)
        settle_batch_norms(ours, lambda total: total)
        torch.testing.assert_close(ours.mean, theirs.running_mean)
        torch.testing.assert_close(ours.var, theirs.running_var)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-3, atol=1e-3)
    x = _noise(*shape, seed=9)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_frozen_batch_norm_uses_its_averages_and_leaves_them() -> None:
    norm = BatchNorm(3).train()
    norm.mean.fill_(1.0)
    norm.var.fill_(4.0)
    x = _noise(4, 3, 10)
    norm.requires_grad_(False)
    torch.testing.assert_close(norm(x), (x - 1) / 2, rtol=1e-4, atol=1e-4)
    settle_batch_norms(norm, lambda total: total)
    assert bool((norm.mean == 1).all()) and bool((norm.var == 4).all())


def test_two_workers_have_the_averages_of_one() -> None:
    """4 micro-batches by one, or 2 by each of two: the mean of the 4 statistics, as numpy has it."""
    alone, (first, second) = BatchNorm(3), (BatchNorm(3), BatchNorm(3))
    rounds = [[_noise(4, 3, 7, seed=10 * update + micro) + micro for micro in range(4)] for update in range(3)]
    mean, var = np.zeros(3), np.ones(3)
    for batches in rounds:
        for batch in batches:
            alone(batch)
        for batch in batches[:2]:
            first(batch)
        for batch in batches[2:]:
            second(batch)
        total = first.pending + second.pending
        settle_batch_norms(alone, lambda own: own)
        settle_batch_norms(first, lambda own, total=total: total)
        settle_batch_norms(second, lambda own, total=total: total)
        arrays = [batch.double().numpy().transpose(1, 0, 2).reshape(3, -1) for batch in batches]
        mean = 0.9 * mean + 0.1 * np.mean([array.mean(1) for array in arrays], 0)
        var = 0.9 * var + 0.1 * np.mean([array.var(1, ddof=1) for array in arrays], 0)
    assert torch.equal(first.mean, second.mean) and torch.equal(first.var, second.var)
    for norm in (alone, first):
        np.testing.assert_allclose(norm.mean, mean, atol=1e-5)
        np.testing.assert_allclose(norm.var, var, atol=1e-5)
        assert not norm.pending.any()


def test_gradient_checkpointing_changes_no_average() -> None:
    """The forward pass that is made a second time counts like the first, in every micro-batch."""
    plain, again = _ear().train(), _ear().train()
    set_gradient_checkpointing(again, True)
    for micro in range(3):
        for ear in (plain, again):
            ear(_noise(2, 4000, seed=micro)).square().mean().backward()
    for ear in (plain, again):
        settle_batch_norms(ear, lambda total: total)
    for one, other in zip(plain.stem.norms, again.stem.norms, strict=True):
        torch.testing.assert_close(one.mean, other.mean)
        torch.testing.assert_close(one.var, other.var)
    torch.testing.assert_close(plain.filters.low_khz.grad, again.filters.low_khz.grad)


def test_the_supervised_baseline_has_no_pretraining_and_ignores_padding() -> None:
    model, _, finetune, _ = PRESETS["crnn"]
    with pytest.raises(ValueError, match=r"^pretrain needs a transformer \(encoder\.kind = transformer\)[^\n]*$"):
        Pretrainer(model, PretrainConfig(target_layers=1))
    torch.manual_seed(0)
    detector = Detector(model, finetune, ["a", "b"]).eval()
    wave, lengths = _noise(2, 8000), torch.tensor([8000, 4000])
    with torch.no_grad():
        for norm in detector.backbone.encoder.norms:
            norm.bias.normal_()
        together, alone = detector(wave, lengths=lengths), detector(wave[1:, :4000])
    assert together.shape == (2, 100, 2)
    torch.testing.assert_close(together[1, :50], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", ["tiny", "small", "crnn"])
@pytest.mark.slow
def test_a_preset_learns_in_a_few_steps(preset: str) -> None:
    """A call of 50 ms at 2 kHz in noise, against noise alone."""
    model, _, finetune, _ = PRESETS[preset]
    torch.manual_seed(0)
    detector = Detector(model, finetune, ["call"]).train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    wave = _noise(4, 8000)
    target = torch.zeros(4, 100, 1)
    for item in range(4):
        start = 10 + 20 * item
        time_s = torch.arange(5 * 80) / 8000
        wave[item, start * 80 : (start + 5) * 80] += 2 * torch.sin(2 * torch.pi * 2000 * time_s)
        target[item, start : start + 5] = 1
    for update in range(25):
        loss, frames = detector.loss(detector(wave, torch.Generator().manual_seed(update)), target)
        (loss / frames).backward()
        optimizer.step()
        optimizer.zero_grad()
        settle_batch_norms(detector, lambda total: total)
    likelihood = detector.train(True)(wave).sigmoid()
    assert float(likelihood[target == 1].mean()) > 4 * float(likelihood[target == 0].mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rectified_maxima_are_torchs_pooling_of_relu(dtype: torch.dtype) -> None:
    """Also the gradient where two neighbours are equal, 0 or negative."""
    x = torch.randint(-2, 3, (2, 3, 8, 50), generator=torch.Generator().manual_seed(0)).to(dtype)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = rectified_maxima(one), functional.max_pool2d(functional.relu(other), (2, 1))
    assert torch.equal(found, expected)
    outer = torch.randn(found.shape).to(dtype)
    found.backward(outer)
    expected.backward(outer)
    assert torch.equal(one.grad, other.grad)
    with torch.no_grad():
        assert torch.equal(rectified_maxima(x), expected)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_without_a_gradient_the_normalisation_in_the_filters_changes_nothing(bfloat16: bool) -> None:
    """Nor does telling that nothing is padding."""
    ear = _ear().eval()
    with torch.no_grad():
        for seed, norm in enumerate(ear.stem.norms):
            norm.mean.copy_(_noise(len(norm.mean), seed=seed))
            norm.var.copy_(_noise(len(norm.var), seed=seed).square() + 0.1)
            norm.weight.copy_(_noise(len(norm.weight), seed=seed + 7))
            norm.bias.copy_(_noise(len(norm.bias), seed=seed + 9))
    wave = _noise(2, 8000)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        with torch.enable_grad():
            expected = ear(wave).detach()
        with torch.inference_mode():
            found, told = ear(wave), ear(wave, torch.tensor([8000, 8000]))
    assert found.dtype == expected.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < (2e-2 if bfloat16 else 1e-6)
    assert torch.equal(found, told)
