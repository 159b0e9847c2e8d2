"""What a researcher calls first: embeddings, likelihoods, attention maps; and what they are told when it is wrong."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from a2v_model import Detector, FinetuneConfig, FrontEndConfig, ModelConfig, Pretrainer, normalise
from a2v_model.inference import checked_waveform
from model_goldens import GOLDEN_FRONT_END, facts, relative_error, tensors, tiny_model, tiny_pretrain
from torch import Tensor
from torch.nn import functional

CLASSES = ["cc", "sn", "ld"]


def _detector(seed: int = 0, **encoder: Any) -> Detector:
    torch.manual_seed(seed)
    return Detector(tiny_model(**encoder), FinetuneConfig(average_layers=2, channel_mask_length=4), CLASSES).eval()


def _pretrainer(seed: int = 0) -> Pretrainer:
    torch.manual_seed(seed)
    return Pretrainer(tiny_model(), tiny_pretrain()).eval()


def test_embeddings_of_the_golden_model(pretrainer: Pretrainer) -> None:
    """Layer results of the original, unmasked; its source is normalised already, which changes nothing here."""
    golden = tensors("g3_pretrain")
    source = golden["source"]
    embedded = pretrainer.embed(list(source), layers=-1)
    assert relative_error(normalise(source), source) < 1e-4  # so that the two may be compared
    assert relative_error(embedded[0], golden["features_layers_last"]) < 1e-3
    assert pretrainer.layer_count == 5 and embedded[0].shape == (160, 64)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_embeddings_are_the_layer_results(seed: int) -> None:
    """By hand: features, then every block in turn; layer 0 is the prenet's first."""
    model, wave = _detector(seed), torch.randn(1600)
    with torch.no_grad():
        encoder = model.backbone.encoder
        x = encoder.embed(model.backbone.features(normalise(wave[None])))
        bias, x, expected = encoder.bias(x.shape[1]), encoder.prenet.norm(x), []
        for block in [*encoder.prenet.blocks, *encoder.blocks]:
            x, result = block(x, bias)
            expected.append(result[0])
    stacked = model.embed(wave, sample_rate=8000, layers=[0, 1, 2, 3])
    torch.testing.assert_close(stacked, torch.stack(expected), rtol=1e-4, atol=1e-6)
    assert stacked.shape == (4, 80, 32) and stacked.dtype == torch.float32
    torch.testing.assert_close(model.embed(wave, layers=1), expected[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.embed(wave, layers=[-1, 0]), torch.stack([expected[3], expected[0]]))
    torch.testing.assert_close(model.embed(wave), torch.stack(expected[2:]).mean(0), rtol=1e-4, atol=1e-6)
    with torch.no_grad():  # the features that the head of a detector sees
        likelihoods = functional.linear(model.embed(wave), model.head.weight, model.head.bias).sigmoid()
    torch.testing.assert_close(model.likelihoods(wave), likelihoods, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_likelihoods(seed: int) -> None:
    model = _detector(seed)
    torch.manual_seed(seed)
    wave = 7 + 3 * torch.randn(2000)
    likelihoods = model.likelihoods(wave)
    assert likelihoods.shape == (100, 3) == (2000 * model.frame_rate / model.sample_rate, len(model.classes))
    with torch.no_grad():
        torch.testing.assert_close(likelihoods, model(normalise(wave[None]))[0].sigmoid())
    for other in (wave.numpy(), wave[None], wave.double(), (1000 * wave).round().to(torch.int16)):
        torch.testing.assert_close(model.likelihoods(other), likelihoods, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("make", [_detector, _pretrainer])
def test_a_list_of_any_lengths_is_each_alone(make: Any) -> None:
    model = make()
    torch.manual_seed(1)
    waves = [torch.randn(n) for n in (1600, 333, 4000, 80)]
    together = model.embed(waves)
    for wave, embedded in zip(waves, together, strict=True):
        assert embedded.shape == (model.model_config.front_end.frames(len(wave)), 32)
        assert torch.equal(embedded, model.embed(wave))
    if isinstance(model, Detector):
        assert [len(x) for x in model.likelihoods(waves)] == [len(x) for x in together]


def test_dropout_and_masks_are_off_and_train_mode_comes_back() -> None:
    model, wave = _detector(), torch.randn(1600)
    expected = model.likelihoods(wave)
    model.train()
    assert torch.equal(model.likelihoods(wave), expected)
    assert model.training and model.backbone.encoder.blocks[0].training
    list(model.attention_maps(wave))
    with pytest.raises(ValueError, match="NaN"):
        model.embed(torch.full((1600,), torch.nan))
    assert model.training


def test_attention_maps_are_what_attention_uses() -> None:
    """Weights times values, through the output projection, give each block's attention; rows sum to 1."""
    model = _detector()
    torch.manual_seed(2)
    wave = torch.randn(1600)
    maps = dict(model.attention_maps(wave, 8000))
    assert list(maps) == [0, 1, 2, 3]
    with torch.no_grad():
        for number, step in enumerate(model.backbone.encoder.walk(model.backbone.features(normalise(wave[None])))):
            weights, attention = maps[number], step.block.attention
            assert weights.shape == (4, 80, 80)
            torch.testing.assert_close(weights.sum(-1), torch.ones(4, 80))
            _, _, v = attention._split(step.input)
            mixed = (weights @ v[0]).transpose(0, 1).flatten(1)
            torch.testing.assert_close(
                attention.out(mixed)[None], attention(step.input, step.bias), rtol=1e-4, atol=1e-5
            )
    some = dict(model.attention_maps(wave, layers=[2, -1], heads=[3, 0]))
    assert list(some) == [2, 3]
    torch.testing.assert_close(some[2], maps[2][[3, 0]])
    torch.testing.assert_close(dict(model.attention_maps(wave, layers=0, heads=1))[0], maps[0][1:2])


def test_without_alibi_heads_can_be_chosen_too() -> None:
    maps = dict(_detector(alibi=False).attention_maps(torch.randn(800), heads=[1]))
    assert {tuple(weights.shape) for weights in maps.values()} == {(1, 40, 40)}


@pytest.mark.parametrize("make", [_detector, _pretrainer])
@pytest.mark.parametrize(
    ("waveform", "sample_rate", "needle"),
    [
        (torch.zeros(1600), 16000, r"sample_rate = 16000 Hz: this model hears 8000 Hz; resample"),
        (torch.zeros(2, 1600), 8000, r"shape \(2, 1600\): expected one channel, \(samples,\) or \(1, samples\)"),
        (np.zeros((1600, 2)), None, r"shape \(1600, 2\): expected one channel"),
        (torch.zeros(3, 1, 1600), None, r"shape \(3, 1, 1600\): expected one channel"),
        (torch.tensor([0.0, float("nan")] * 800), None, r"800 of 1600 samples that are NaN or infinite"),
        (torch.tensor([0.0, float("inf")] * 800), None, r"800 of 1600 samples that are NaN or infinite"),
        (torch.zeros(30), None, r"waveform of 30 samples: expected at least 32 \(0\.0040 s at 8000 Hz\)"),
        (torch.zeros(0), None, r"waveform of 0 samples: expected at least 32"),
        (torch.zeros(1600, dtype=torch.complex64), None, r"expected real numbers"),
        ([torch.zeros(1600), torch.zeros(2, 1600)], None, r"shape \(2, 1600\): expected one channel"),
        (torch.zeros(1600), "8000", r"sample_rate = '8000': expected a number, Hz"),
        ("song.wav", None, r"waveform is a str: expected a tensor or numpy array"),
        (None, None, r"waveform is a NoneType: expected a tensor or numpy array"),
        (np.array(["a", "b"]), None, r"waveform is a ndarray: expected a tensor or numpy array"),
    ],
)
def test_wrong_waveforms_are_refused(make: Any, waveform: Any, sample_rate: float | None, needle: str) -> None:
    model = make()
    calls = [model.embed, lambda *given: list(model.attention_maps(*given))]
    if isinstance(model, Detector):
        calls.append(model.likelihoods)
    for call in calls:
        if isinstance(waveform, list) and call is calls[1]:
            continue
        with pytest.raises(ValueError, match=needle) as error:
            call(waveform, sample_rate)
        assert "\n" not in str(error.value)


def test_attention_maps_are_of_one_waveform() -> None:
    with pytest.raises(ValueError, match="waveform is a list: expected a tensor or numpy array"):
        list(_detector().attention_maps([torch.zeros(1600), torch.zeros(1600)]))


@pytest.mark.filterwarnings("error")
def test_arrays_as_they_come_from_readers() -> None:
    """Reversed, read-only, of another byte order, every second sample: the same as a plain copy."""
    model, wave = _detector(), np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    read_only = np.frombuffer(wave.tobytes(), np.float32)
    for given in (wave[::-1], read_only, wave.astype(">f4"), wave[::2]):
        expected = model.embed(torch.tensor(given.astype("=f4").copy()))
        assert torch.equal(model.embed(given), expected)


def test_layers_and_heads_by_numpy_numbers() -> None:
    model, wave = _detector(), torch.randn(1600)
    assert torch.equal(model.embed(wave, layers=np.int64(1)), model.embed(wave, layers=1))
    assert torch.equal(model.embed(wave, layers=np.arange(2)), model.embed(wave, layers=[0, 1]))
    maps = dict(model.attention_maps(wave, layers=np.int64(0), heads=np.arange(2)))
    assert list(maps) == [0] and maps[0].shape == (2, 80, 80)


@pytest.mark.parametrize("layers", ["last", 1.5, [0.0]])
def test_layers_that_are_no_numbers(layers: Any) -> None:
    with pytest.raises(ValueError, match=r"layers = .*: expected whole numbers, 0 to 3"):
        _detector().embed(torch.zeros(1600), layers=layers)


@pytest.mark.parametrize("layers", [4, -5, [0, 4], []])
def test_layers_that_do_not_exist(layers: Any) -> None:
    for call in (_detector().embed, lambda *a, **k: list(_detector().attention_maps(*a, **k))):
        with pytest.raises(ValueError, match="0 to 3"):
            call(torch.zeros(1600), layers=layers)
    with pytest.raises(ValueError, match="head 4: this model has heads 0 to 3"):
        list(_detector().attention_maps(torch.zeros(1600), heads=4))


def test_a_pretrained_model_says_that_it_has_no_classes() -> None:
    with pytest.raises(ValueError, match="knows no classes: finetune it"):
        _pretrainer().likelihoods(torch.zeros(1600))


@pytest.mark.parametrize(
    "config",
    [
        GOLDEN_FRONT_END,
        FrontEndConfig(sample_rate=48000),
        FrontEndConfig(sinc=False),
        FrontEndConfig(sinc=False, layers=((4, 10, 5), (4, 3, 3), (4, 2, 2), (4, 4, 1))),
        FrontEndConfig(sinc=False, layers=((4, 16, 4), (4, 8, 2))),
    ],
)
def test_shortest_is_the_shortest(config: FrontEndConfig) -> None:
    assert config.frames(config.shortest) >= 1
    for samples in range(max(0, config.shortest - 40), config.shortest):
        with pytest.raises(ValueError, match="too short"):
            config.frames(samples)
    assert checked_waveform(torch.zeros(config.shortest), config).shape == (config.shortest,)
    assert facts("g2_conv_stack")["frames_for_length"]["1600"] == 40


@pytest.mark.parametrize(("sample_rate", "stride"), [(16000, 40), (24000, 80), (48000, 160), (8000, 20)])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.37])
def test_other_rates_and_lengths(sample_rate: int, stride: int, seconds: float) -> None:
    """Frames cover the waveform at the rate that the layout says, whatever sample rate and length."""
    steps = {20: (5, 2, 2), 40: (5, 2, 2, 2), 80: (5, 2, 2, 2, 2), 160: (5, 2, 2, 2, 2, 2)}[stride]
    layers = tuple((8, 10 if i == 0 else 3, step) for i, step in enumerate(steps))
    front_end = FrontEndConfig(sample_rate=sample_rate, sinc_filters=8, layers=layers)
    torch.manual_seed(0)
    config = ModelConfig(front_end=front_end, encoder=tiny_model().encoder)
    model = Detector(config, FinetuneConfig(average_layers=3, channel_mask_length=4), CLASSES).eval()
    assert model.frame_rate == sample_rate / stride
    wave = torch.randn(round(seconds * sample_rate))
    frames = model.likelihoods(wave, sample_rate).shape[0]
    assert abs(frames - seconds * model.frame_rate) <= 1


def test_a_call_moves_its_frames_not_the_rest() -> None:
    """A click in the middle of noise changes the embeddings around its own time most."""
    model = _detector()
    torch.manual_seed(3)
    wave = torch.randn(8000)
    clicked = wave.clone()
    clicked[4000:4040] += 20
    with torch.no_grad():
        change = (model.embed(clicked, layers=0) - model.embed(wave, layers=0)).norm(dim=1)
    assert abs(int(change.argmax()) - 4020 / model.sample_rate * model.frame_rate) <= 5


def test_long_waveforms_need_no_square_of_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _detector()
    torch.manual_seed(4)
    wave = torch.randn(12000)
    expected = model.likelihoods(wave)
    monkeypatch.setattr("a2v_model.attention.MOST_KEPT", 1000)
    again: Tensor = copy.deepcopy(model).likelihoods(wave)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)
