"""What is recorded beside sound: it adds what is there, and exactly nothing where it is not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from a2v_model import PRESETS, Detector, Pretrainer, load_model, save_model
from a2v_model.config import ModelConfig, StreamConfig
from a2v_model.original_fields import original_kinds
from a2v_model.streams import Rhythms, StreamEncoder
from a2v_model.summary import summarise

ACC = StreamConfig(columns=("x", "y", "z"), rate=50)
DEPTH = StreamConfig(columns=("depth",), rate=1)
BATCH, SECONDS = 3, 2.0


def config(streams=None, **settings):
    model, pretrain, finetune, _ = PRESETS["tiny"]
    given = {"acc": ACC, "depth": DEPTH} if streams is None else streams
    return model.model_copy(update={"streams": given} | settings), pretrain, finetune


def detector(seed=0, streams=None, learned=True, **settings):
    torch.manual_seed(seed)
    model, _, finetune = config(streams, **settings)
    made = Detector(model, finetune, ["a", "b"]).eval()
    if learned and made.backbone.streams is not None:
        for encoder in made.backbone.streams.values():
            torch.nn.init.normal_(encoder.project.weight, std=0.5)
    return made


def heard(seed=0):
    generator = torch.Generator().manual_seed(seed)
    waveform_BN = torch.randn(BATCH, round(SECONDS * 16000), generator=generator)
    streams = {"acc": torch.randn(BATCH, 100, 3, generator=generator), "depth": torch.rand(BATCH, 2, 1) * 30}
    return waveform_BN, streams


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_recording_without_streams_is_heard_as_by_a_model_that_has_none(seed):
    model, deaf = detector(seed), detector(seed, {})
    own = {name: value for name, value in model.state_dict().items() if ".streams." not in name}
    deaf.load_state_dict(own)
    waveform_BN, streams = heard(seed)
    lacking = {name: torch.full_like(values, torch.nan) for name, values in streams.items()}
    with torch.no_grad():
        alone = deaf(waveform_BN)
        assert torch.equal(model(waveform_BN), alone)
        assert torch.equal(model(waveform_BN, streams=lacking), alone)
        assert not torch.allclose(model(waveform_BN, streams=streams), alone, atol=1e-2)


def test_a_new_stream_changes_nothing_before_it_has_learned():
    model = detector(learned=False)
    waveform_BN, streams = heard()
    with torch.no_grad():
        assert torch.equal(model(waveform_BN, streams=streams), model(waveform_BN))
    model(waveform_BN, streams=streams).sum().backward()
    assert all(float(one.project.weight.grad.abs().sum()) > 0 for one in model.backbone.streams.values())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_where_values_are_missing_nothing_is_added_and_nothing_leaks(seed):
    """The first second is missing: its frames are those of sound alone, whatever the normalisation; what follows is the
    same for any value in place of NaN that is not finite."""
    torch.manual_seed(seed)
    encoder = StreamEncoder(ACC, 16, 8)
    torch.nn.init.normal_(encoder.project.weight)
    torch.nn.init.normal_(encoder.project.bias)
    encoder.mean.copy_(torch.tensor([5.0, -3.0, 100.0]))
    values_BMC = torch.randn(2, 100, 3)
    values_BMC[:, :50] = torch.nan
    with torch.no_grad():
        added_BTD = encoder(values_BMC, 200, 100.0)
        assert torch.equal(added_BTD[:, :100], torch.zeros(2, 100, 8)) and bool((added_BTD[:, 100:] != 0).any())
        values_BMC[:, :50] = torch.inf
        assert torch.equal(encoder(values_BMC, 200, 100.0), added_BTD)


@pytest.mark.parametrize(("rate", "frame_rate"), [(50.0, 100.0), (1.0, 100.0), (12.5, 100.0), (200.0, 100.0), (50, 25)])
def test_values_reach_the_frames_of_their_time(rate, frame_rate):
    """An encoder that passes values through gives a ramp over time at the frames' centres."""
    encoder = StreamEncoder(StreamConfig(columns=("t",), rate=rate), 1, 1)
    seconds = 8.0
    with torch.no_grad():
        encoder.begin.weight.zero_()
        encoder.begin.weight[0, 0] = 1.0
        encoder.begin.bias.zero_()
        for conv in encoder.convs:
            conv.weight.zero_()
            conv.bias.zero_()
        encoder.norm = torch.nn.Identity()
        encoder.project.weight.fill_(1.0)
        time_M = (torch.arange(round(seconds * rate)) + 0.5) / rate
        found_T = encoder(time_M[None, :, None], round(seconds * frame_rate), frame_rate)[0, :, 0]
    centres_T = (torch.arange(round(seconds * frame_rate)) + 0.5) / frame_rate
    inside_T = (centres_T >= time_M[0]) & (centres_T <= time_M[-1])
    torch.testing.assert_close(found_T[inside_T], centres_T[inside_T], atol=1e-4, rtol=0)
    assert float(found_T.min()) >= float(time_M[0]) - 1e-5 and float(found_T.max()) <= float(time_M[-1]) + 1e-5


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_a_swing_is_heard_at_its_rhythm(number, offset):
    """A sine of amplitude 2 at the rhythm of a filter has a power of 4 there, wherever it swings around."""
    rhythms = Rhythms(2)
    hz = 50 * (number + 1) / 15
    swing_M = offset + 2 * torch.sin(2 * math.pi * hz * torch.arange(100) / 50 + 0.3)
    with torch.no_grad():
        found_CFM = rhythms(torch.stack([swing_M, torch.full((100,), offset)])[None])[0].exp().unflatten(0, (2, 7))
    inside = found_CFM[:, :, 10:-10]
    assert int(inside[0].mean(1).argmax()) == number
    assert float(inside[0, number].mean()) == pytest.approx(4.0, rel=0.25)
    torch.testing.assert_close(inside[1], torch.full_like(inside[1], 0.01), atol=1e-5, rtol=0)


def test_units_do_not_matter_once_statistics_are_known():
    model, other = detector(), detector()
    waveform_BN, streams = heard()
    scaled = {"acc": streams["acc"] * 9.81 + 4, "depth": streams["depth"]}
    other.backbone.streams.set_statistics({"acc": ([4.0] * 3, [9.81] * 3)})
    with torch.no_grad():
        torch.testing.assert_close(
            model(waveform_BN, streams=streams), other(waveform_BN, streams=scaled), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_streams_are_dropped_as_a_whole_and_with_that_probability(rate):
    model = detector(stream_dropout=rate)
    kept_SB = model.backbone.draw_streams(2000, torch.Generator().manual_seed(1))
    assert kept_SB.shape == (2, 2000)
    assert float(kept_SB.float().mean()) == pytest.approx(1 - rate, abs=0.03)
    waveform_BN, streams = heard()
    with torch.no_grad():
        sound_BTD = model.backbone.features(waveform_BN)
        only_depth = torch.tensor([[True, False, False], [True, True, False]])
        found = model.backbone.with_streams(sound_BTD, streams, only_depth)
        depth = model.backbone.features(waveform_BN, streams={"depth": streams["depth"]})
        whole = model.backbone.features(waveform_BN, streams=streams)
    assert torch.equal(found[0], whole[0]) and torch.equal(found[1], depth[1])
    assert torch.equal(found[2], sound_BTD[2])


def test_pretraining_predicts_what_all_streams_say_from_those_that_are_kept():
    torch.manual_seed(0)
    model, pretrain, _ = config(stream_dropout=0.5)
    made = Pretrainer(model, pretrain)
    for encoder in made.student.streams.values():
        torch.nn.init.normal_(encoder.project.weight, std=0.5)
    waveform_BN, streams = heard()
    generator = torch.Generator().manual_seed(3)
    made.eval()
    masks = made.draw(BATCH, waveform_BN.shape[1], generator, training=True)
    assert masks.streams is not None and masks.streams.shape == (2, BATCH)
    targets = []
    score = made._score
    made._score = lambda predictions, target, masked: (targets.append(target), score(predictions, target, masked))[1]
    fill = torch.zeros(BATCH * pretrain.clones, masks.masked.shape[1], model.encoder.dim)
    masks = replace(masks, bands=None)
    losses = [
        float(made(waveform_BN, masks=replace(masks, streams=kept), fill_RMD=fill, streams=streams).loss_sum.detach())
        for kept in (torch.ones(2, BATCH, dtype=torch.bool), torch.zeros(2, BATCH, dtype=torch.bool))
    ]
    assert torch.equal(targets[0], targets[1]) and losses[0] != losses[1]


def test_a_model_of_sound_alone_is_where_one_with_streams_begins():
    deaf, model = detector(1, {}), detector(2)
    model.load_backbone(deaf.state_dict())
    waveform_BN, streams = heard()
    with torch.no_grad():
        assert torch.equal(model.backbone(waveform_BN), deaf.backbone(waveform_BN))
    again = detector(3)
    again.load_backbone(model.state_dict())
    with torch.no_grad():
        given = model.backbone(waveform_BN, streams=streams)
        assert torch.equal(again.backbone(waveform_BN, streams=streams), given)
    with pytest.raises(ValueError, match="unexpected streams"):
        detector(4, {}).load_backbone(model.state_dict())


def test_a_saved_model_hears_them_again(tmp_path):
    model = detector()
    model.backbone.streams.set_statistics({"acc": ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])})
    save_model(model, tmp_path / "model", {})
    again = load_model(tmp_path / "model")
    waveform_BN, streams = heard()
    one = {name: values[0].numpy() for name, values in streams.items()}
    assert np.array_equal(
        model.likelihoods(waveform_BN[0], streams=one), again.likelihoods(waveform_BN[0], streams=one)
    )
    assert again.model_config.streams == {"acc": ACC, "depth": DEPTH}
    both = again.likelihoods([waveform_BN[0], waveform_BN[1]], streams=[one, None])
    assert torch.equal(both[1], again.likelihoods(waveform_BN[1]))
    torch.testing.assert_close(both[0], again.likelihoods(waveform_BN[0], streams=one))
    assert not torch.allclose(again.embed(waveform_BN[0], streams=one), again.embed(waveform_BN[0]), atol=1e-3)


@pytest.mark.parametrize(
    ("streams", "told"),
    [
        ({"gps": np.zeros((100, 1))}, r"streams: 'gps' is none that this model hears \(acc, depth\)"),
        (
            {"acc": np.zeros((100, 2))},
            r"acc has the shape \(1, 100, 2\); must be \(1, values, 3\): .* 50 Hz .* x, y, z",
        ),
        ({"acc": np.zeros(100)}, r"acc has the shape"),
    ],
)
def test_streams_that_do_not_fit_are_one_line(streams, told):
    with pytest.raises(ValueError, match=told):
        detector().likelihoods(torch.randn(16000), streams=streams)


def test_models_without_streams_say_nothing_of_them():
    described = config({})[0].model_dump(mode="json")
    assert not any("stream" in key for key in described)


def test_they_are_counted_as_a_part_and_not_exported_to_the_original(tmp_path):
    model = detector()
    save_model(model, tmp_path / "model", {})
    parts = summarise(tmp_path / "model")["parameters"]["parts"]
    assert parts["streams"] == sum(value.numel() for value in model.backbone.streams.state_dict().values())
    with pytest.raises(ValueError, match="streams = acc, depth: the original hears sound alone"):
        original_kinds(ModelConfig(streams={"acc": ACC, "depth": DEPTH}))
