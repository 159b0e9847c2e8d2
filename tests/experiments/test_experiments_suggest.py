"""`a2v experiment suggest`: the recipe for a corpus, its reasons, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from a2v_experiments.overview.plan_costs import WORKERS_START_S
from a2v_experiments.recipe.files import RecipeFile, load_recipe, merge, read_recipe
from a2v_experiments.suggest.budget import updates_for
from a2v_experiments.suggest.facts import ClassFacts, Lengths, read_facts
from a2v_experiments.suggest.suggest import FEW, MANY, Trainable, front_end_at, suggest
from a2v_experiments.suggest.text import to_yaml
from a2v_experiments.training.spec import part
from a2v_model import Detector, FinetuneConfig
from experiments_suggest import WAVEFORM, crows, facts_with, keys, set_known_speed, some, song, value, why


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch, tmp_path):
    set_known_speed(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def bases():
    return {name: load_recipe(name) for name in (MANY, FEW)}


@pytest.fixture(scope="module")
def waveform_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("waveform") / "waveform.yaml"
    path.write_text(f"name: waveform\n{WAVEFORM}", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def waveform_bases(waveform_file):
    """Bases on the waveform, with pretraining, and with events and windows that the recipe itself gives."""
    return dict.fromkeys((MANY, FEW), load_recipe(waveform_file))


def test_facts_of_a_corpus(tmp_path):
    facts = read_facts(song(tmp_path / "song"))
    assert len(facts.labelled) == 12 and facts.calls == 480 and {one.rate for one in facts.recordings} == {44100}
    assert facts.classes["a"].calls == 240 and facts.classes["a"].lengths.median_s == pytest.approx(0.08)
    assert facts.lengths.p5_s == pytest.approx(0.04) and facts.called_share == pytest.approx(0.6)


def test_many_short_calls(tmp_path, bases):
    found = suggest(read_facts(song(tmp_path / "song")), bases, 20)
    assert found.extends.value == MANY and "60 %" in found.extends.why
    assert value(found, "data.sample_rate") == 32000  # of 44100
    assert value(found, "folds.group") == "^([^_/]+)_" and value(found, "folds.count") == 4
    assert "4 groups (bird0, bird1, bird2, bird3)" in why(found, "folds.group")
    assert value(found, "data.segment_s") == pytest.approx(2.4)  # the base's: calls are shorter
    assert keys(found, "model.") == ["model.front_end.sample_rate"]  # an ear's frames are 10 ms at any rate
    assert value(found, "model.front_end.sample_rate") == 32000
    assert keys(found, "evaluate.") == []  # windows and thresholds of events follow from the labels


def test_many_short_calls_where_the_base_says_the_window(tmp_path, waveform_bases):
    found = suggest(read_facts(song(tmp_path / "song")), waveform_bases, 20)
    assert value(found, "data.segment_s") == pytest.approx(2.4)  # the base's
    # frames of 7.5 ms are 240 samples at 32 kHz: the first layer is twice as long
    assert value(found, "model.front_end.layers")[:2] == [[64, 20, 10], [64, 5, 4]]
    frame_s = 0.0075  # of the base; a quarter of 40 ms is nearest to one of them
    assert keys(found, "evaluate.") == ["evaluate.events.window_s"]
    assert value(found, "evaluate.events.window_s") == pytest.approx(frame_s)
    assert "calls last 0.04 to 0.08 s (5 % to 95 %)" in why(found, "evaluate.events.window_s")


def test_few_calls_in_recordings_of_two_rates(tmp_path, bases):
    found = suggest(read_facts(crows(tmp_path / "crows")), bases, 20)
    assert found.extends.value == FEW
    assert value(found, "data.sample_rate") == 8000 and "62 % of the audio has 8000" in why(found, "data.sample_rate")
    assert "22050 Hz are resampled" in why(found, "data.sample_rate")
    assert value(found, "data.segment_s") == pytest.approx(2.4)  # once 2 s; the base has more
    assert "(rooster) last 2 s (95 %); 240 frames of 10 ms" in why(found, "data.segment_s")
    assert value(found, "folds.count") == 5 and value(found, "folds.group") is None
    assert keys(found, "model.") == ["model.front_end.sample_rate"] and keys(found, "evaluate.") == []


def test_few_calls_where_the_base_says_the_window(tmp_path, waveform_bases):
    found = suggest(read_facts(crows(tmp_path / "crows")), waveform_bases, 20)
    assert value(found, "data.segment_s") == pytest.approx(3.9)  # twice 2 s, in steps of 0.3 s: 40 frames of 7.5 ms
    assert value(found, "evaluate.events.window_s") == pytest.approx(0.0975)  # 0.1 s in frames


@pytest.mark.parametrize(
    "rates, expected",
    [([8000], 8000), ([16000], 16000), ([22050], 16000), ([24000], 24000), ([31999], 24000), ([44100], 32000),
     ([4000], 8000), ([250_000], 32000), ([44100, 8000], 8000), ([8000, 44100], 8000)],
)  # fmt: skip
def test_the_sample_rate_is_the_highest_that_is_not_above_the_common_one(bases, rates, expected):
    """Where two hold equally much, the lower one counts."""
    found = suggest(facts_with([one for rate in rates for one in some(rate)]), bases, 20)
    assert value(found, "data.sample_rate") == expected


def test_the_common_rate_holds_most_of_the_audio_not_most_files(bases):
    found = suggest(facts_with([*some(8000, 5.0, 9), *some(16000, 60.0, 2)]), bases, 20)
    assert value(found, "data.sample_rate") == 16000


@pytest.mark.parametrize("rate, stride, first", [(8000, 60, None), (24000, 180, None), (32000, 240, (64, 20, 10))])
def test_frames_last_as_long_at_every_rate(waveform_bases, rate, stride, first):
    """7.5 ms, the base's. first: the first layer, where its stride of 5 stays whole."""
    base = waveform_bases[MANY].model.front_end
    changed = front_end_at(base, rate)
    assert changed.stride == stride and changed.sample_rate == rate
    assert changed.stride / rate == base.stride / base.sample_rate
    assert [layer[0] for layer in changed.layers] == [layer[0] for layer in base.layers]
    assert changed.layers[0] == (first or base.layers[0])
    # half and one and a half of the second layer's stride of 4, kernel 5, rounded up
    assert changed.layers[1] == {8000: (64, 3, 2), 24000: (64, 8, 6), 32000: (64, 5, 4)}[rate]
    assert changed.layers[2:] == base.layers[2:]


@pytest.mark.parametrize("rate, stride", [(8000, 80), (24000, 240), (32000, 320)])
def test_frames_of_an_ear_last_as_long_at_every_rate(bases, rate, stride):
    """10 ms, whether the base leaves its samples to the rate or says them; the kernel stays odd."""
    base = bases[MANY].model.front_end
    changed = front_end_at(base, rate)
    assert changed == base.model_copy(update={"sample_rate": rate}) and changed.stride == stride
    said = front_end_at(base.model_copy(update={"hop": 160, "window": 400, "kernel": 201}), rate)
    kernel = {8000: 101, 24000: 303, 32000: 403}[rate]  # of 100.5, 301.5 and 402
    assert (said.hop, said.window, said.kernel, said.sample_rate) == (stride, 5 * stride // 2, kernel, rate)


@pytest.mark.parametrize("rate, p5_s, hop", [(16000, 0.029, 80), (44100, 0.012, 160), (16000, 0.03, None)])
def test_calls_of_fewer_than_three_frames_have_frames_of_5_ms(bases, rate, p5_s, hop):
    """The model is built: 1 s are 200 frames (100 without), and the file says why. A class of 4 calls says nothing."""
    classes = {
        "song": ClassFacts(90, 6, Lengths(0.3, 0.4, 0.5)), "click": ClassFacts(50, 6, Lengths(p5_s, 0.04, 0.05)),
        "odd": ClassFacts(4, 2, Lengths(0.001, 0.001, 0.001)),
    }  # fmt: skip
    found = suggest(facts_with(some(rate), classes=classes), bases, 20)
    said = {setting.key: setting.value for setting in found.settings}
    assert said.get("model.front_end.hop") == hop
    recipe = RecipeFile("some.yaml", merge(read_recipe(found.extends.value).tree, found.tree)).resolve()
    model = Detector(recipe.model, part(recipe.finetune, FinetuneConfig), ["click", "song"]).eval()
    frames = model(torch.zeros(1, recipe.data.sample_rate)).shape[1]
    assert frames == (200 if hop else 100)
    if hop:
        told = why(found, "model.front_end.hop")
        assert f"(click) last {1000 * p5_s:g} ms (5 %), fewer than 3 of the usual 10 ms" in told
        assert "480 frames of 5 ms" in why(found, "data.segment_s")
    else:
        told = "240 frames of 10 ms (the shortest calls, click, have 3 or more: 0.03 s, 5 %)"
        assert told in why(found, "data.segment_s")


@pytest.mark.parametrize(
    "share, median_s, expected", [(0.16, 0.49, MANY), (0.14, 0.49, FEW), (0.16, 0.51, FEW), (0.02, 2.0, FEW)]
)
def test_which_recipe_is_the_base(bases, share, median_s, expected):
    facts = facts_with(some(16000), called_share=share, lengths=Lengths(0.1, median_s, 3.0))
    assert suggest(facts, bases, 20).extends.value == expected


def test_a_segment_is_no_longer_than_recordings_are(bases):
    """But twice as long as what the windows share in which recordings are heard, 0.8 s."""
    for seconds, expected in ((2.0, 2.0), (1.5, 1.6), (0.2, 1.6)):
        found = suggest(facts_with(some(16000, seconds)), bases, 20)
        assert value(found, "data.segment_s") == pytest.approx(expected)


@pytest.mark.parametrize("longest_s, expected", [(1.7, 2.4), (3.14, 3.1), (8.0, 8.0), (30.0, 10.0)])
def test_a_segment_has_room_for_the_longest_calls(bases, longest_s, expected):
    """Once, in steps of 0.1 s (10 frames of 10 ms), from the base's 2.4 s to 10 s: an ear's level is the segment's."""
    classes = {"a": ClassFacts(50, 6, Lengths(1.0, 1.5, longest_s))}
    assert value(suggest(facts_with(some(16000), classes=classes), bases, 20), "data.segment_s") == expected


def test_segments_where_recordings_are_heard_in_them(waveform_bases, waveform_file):
    """Steps of 0.3 s, 40 frames of 7.5 ms; twice the longest calls."""
    for seconds, expected in ((1.5, 1.5), (0.2, 0.9)):
        found = suggest(facts_with(some(16000, seconds)), waveform_bases, 20)
        assert value(found, "data.segment_s") == pytest.approx(expected)
    for longest_s, expected in ((1.0, 2.4), (1.8, 3.6), (30.0, 9.9)):
        long = {"a": ClassFacts(50, 6, Lengths(0.5, 0.8, longest_s))}
        found = suggest(facts_with(some(16000), classes=long), waveform_bases, 20)
        assert value(found, "data.segment_s") == pytest.approx(expected)
    wide = load_recipe(waveform_file, ["evaluate.overlap_s=0.9"])  # a segment stays twice as long
    found = suggest(facts_with(some(16000, 0.2)), {MANY: wide, FEW: wide}, 20)
    assert value(found, "data.segment_s") == pytest.approx(1.8)


def test_a_class_of_few_calls_does_not_shorten_the_window(waveform_bases):
    classes = {
        "click": ClassFacts(4, 1, Lengths(0.01, 0.01, 0.01)), "song": ClassFacts(90, 6, Lengths(0.3, 0.4, 0.5)),
    }  # fmt: skip
    found = suggest(facts_with(some(16000), classes=classes), waveform_bases, 20)
    assert value(found, "evaluate.events.window_s") == pytest.approx(0.075)  # a quarter of 0.3 s


def test_updates_fill_their_shares_of_the_minutes(waveform_file):
    recipe = load_recipe(waveform_file, ["ray.num_workers=2"])
    fits = updates_for(20, recipe)
    # an update: 2 micro-batches of a worker, 0.1 s each, and 0.2 s; the first 10 of finetuning 0.3 s; workers start
    assert fits["finetune"].update_s == pytest.approx(0.4) == fits["pretrain"].update_s
    assert fits["pretrain"].updates == pytest.approx((0.15 * 1200 - WORKERS_START_S) / 0.4, abs=1)
    after_the_head = (0.7 * 1200 - WORKERS_START_S - 10 * 0.3) / 0.4
    assert fits["finetune"].updates == pytest.approx(10 + after_the_head, abs=1)
    assert "pretrain" not in updates_for(20, recipe.model_copy(update={"pretrain": None}))
    assert updates_for(0.1, recipe)["finetune"].updates >= 1


def test_a_base_without_pretraining_is_given_none(bases):
    fits = updates_for(20, bases[FEW])
    assert set(fits) == {"finetune"}
    found = suggest(facts_with(some(16000)), bases, 20, fits)
    assert keys(found, "pretrain") == [] and value(found, "finetune.updates") == fits["finetune"].updates


@pytest.mark.parametrize("updates, warm_up", [(40, 8), (999, 199), (1000, None)])
def test_a_short_training_has_a_short_warm_up(bases, updates, warm_up):
    """1 in 5, where the base's 200 are more."""
    found = suggest(facts_with(some(16000)), bases, 20, {"finetune": Trainable(updates, 1.0)})
    said = {setting.key: setting.value for setting in found.settings if setting.key.startswith("finetune.")}
    expected = {} if warm_up is None else {"finetune.optimizer.warmup_updates": warm_up}
    assert said == {"finetune.updates": updates, **expected}


def test_each_stage_has_a_warm_up_of_its_own(waveform_bases):
    fits = {"pretrain": Trainable(1000, 1.0), "finetune": Trainable(40, 1.0)}
    found = suggest(facts_with(some(16000)), waveform_bases, 20, fits)
    assert value(found, "pretrain.updates") == 1000
    assert value(found, "finetune.updates") == 40 and value(found, "finetune.optimizer.warmup_updates") == 8
    assert keys(found, "pretrain.optimizer") == []


def test_every_value_stands_below_its_reason(tmp_path, bases):
    text = to_yaml(suggest(read_facts(song(tmp_path / "song")), bases, 20))
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if ": " in line and not line.lstrip().startswith("#"):
            assert lines[number - 1].lstrip().startswith("#"), line
    assert max(map(len, lines)) <= 120
