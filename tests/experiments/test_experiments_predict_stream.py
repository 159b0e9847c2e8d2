"""Likelihoods of recordings of any length in windows and pieces; events of waveforms and files in Python."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import torch
from a2v_data.resampling import resample_blocks
from a2v_eval.events import find_events
from a2v_experiments.basics.errors import UserError
from a2v_experiments.inference import Windows
from a2v_experiments.predict import stream as predict_stream
from a2v_experiments.predict.api import events_of_waveform, predict
from a2v_experiments.predict.settings import settings_for
from a2v_experiments.predict.stream import Sound, piece_bounds, piece_frames, piece_outputs, windows_of
from a2v_model import PRESETS, Detector, EarConfig, normalise
from experiments_predict import CLASSES, THRESHOLDS, make_detector, save_detector, sound
from experiments_world import RATE, STRIDE


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return make_detector(tmp_path_factory.mktemp("detector"))


def in_pieces(model: Detector, given: Sound, size: int, batch: int) -> np.ndarray:
    """The whole recording's likelihoods, put together from its pieces, each read anew."""
    settings, _ = settings_for(model, precision="float32")
    windows = windows_of(given, model, settings)
    parts = []
    for piece in piece_bounds(windows, size):
        outputs = [out for out, _ in piece_outputs(model, given, windows, piece, settings, batch)]
        assert sum(map(len, outputs)) == piece_frames(windows, *piece)
        parts += outputs
    return np.concatenate(parts)


@pytest.mark.parametrize("size, batch", [(1, 1), (2, 3), (5, 2), (100, 4)])
def test_every_frame_of_every_piece_in_its_place(monkeypatch, detector, size, batch):
    """The stand-in model hears a ramp, the number of each sample, and says which frame each of its own is."""

    def frame_numbers(model, waveform_BN, lengths_B, precision, with_features, streams):
        assert waveform_BN.shape[1] == RATE and len(waveform_BN) <= batch
        for waveform_N, length in zip(waveform_BN, lengths_B, strict=True):
            assert (np.diff(waveform_N[:length]) == 1).all() and (waveform_N[length:] == 0).all()
        return waveform_BN[:, ::STRIDE, None] / STRIDE, None

    monkeypatch.setattr(predict_stream, "window_outputs", frame_numbers)
    for samples in (1, STRIDE, 2001, 4000, 4001, 9999, 40_003):
        ramp = Sound.of_waveform(np.arange(samples, dtype=np.float32), RATE)
        out = in_pieces(detector, ramp, size, batch)
        assert np.array_equal(out[:, 0], np.arange(-(-samples // STRIDE)))


@pytest.mark.parametrize("rate", [RATE, 3000, 11025])
def test_pieces_are_the_whole_recording_resampled_and_windowed(detector, rate):
    """Against windows of the recording that was resampled at once, put together by hand."""
    wave = sound(6.3, seed=1, rate=rate)
    whole = np.concatenate(list(resample_blocks([wave], rate, RATE)))
    frames = -(-len(whole) // STRIDE)
    windows = Windows(frames, RATE // STRIDE, 30)
    expected = np.full((frames, 2), np.nan, np.float32)
    for index in range(len(windows)):
        start = windows.start(index)
        piece = whole[start * STRIDE : start * STRIDE + RATE]
        padded = np.pad(normalise(torch.from_numpy(piece)[None])[0].numpy(), (0, -len(piece) % STRIDE))
        with torch.inference_mode():
            likelihood = torch.sigmoid(detector(torch.from_numpy(padded)[None]))[0].numpy()
        first, last = windows.own(index)
        expected[first:last] = likelihood[first - start : last - start]
    assert expected.std(0).min() > 0.05
    given = Sound.of_waveform(wave, rate)
    for size, batch in ((1, 1), (3, 2), (100, 8)):
        np.testing.assert_allclose(in_pieces(detector, given, size, batch), expected, atol=1e-4)


@pytest.fixture(scope="module")
def any_rate() -> Detector:
    """One that hears every rate, with thresholds amid its likelihoods."""
    torch.manual_seed(0)
    model, _, finetune, _ = PRESETS["tiny"]
    front_end = EarConfig(sample_rate=RATE, any_rate=True)
    found = Detector(model.model_copy(update={"front_end": front_end}), finetune, CLASSES).eval()
    with torch.no_grad():
        logits_TC = found(normalise(torch.from_numpy(sound(6.0))[None]))[0]
        scale_C = 2 / logits_TC.std(0)
        found.head.weight.mul_(scale_C[:, None])
        found.head.bias.copy_((found.head.bias - logits_TC.mean(0)) * scale_C)
    found.thresholds_from = {"method": "avg", "window_s": 0.05, "segment_s": 1.0, "overlap_s": 0.3}
    return found


@pytest.mark.parametrize("rate", [2 * RATE, 44_100, 48_000])
def test_a_model_that_hears_any_rate_hears_recordings_as_they_are(monkeypatch, any_rate, rate):
    """Nothing is resampled, and the calls are those of the same sound at the model's own rate, to a frame."""
    given = Sound.of_waveform(sound(6.3, seed=1, rate=rate), rate)
    read = predict_stream.stretch_blocks

    def not_resampled(*given):
        assert given[2] == given[5] == rate
        return read(*given)

    monkeypatch.setattr(predict_stream, "stretch_blocks", not_resampled)
    settings, _ = settings_for(any_rate, precision="float32")
    assert len(windows_of(given, any_rate, settings)) == 9 and windows_of(given, any_rate, settings).frames == 630
    whole = in_pieces(any_rate, given, 3, 2)
    np.testing.assert_allclose(whole, in_pieces(any_rate, given, 100, 8), atol=1e-5)
    events = events_of_waveform(any_rate, sound(6.3, seed=1, rate=rate), rate, settings)
    expected = find_events(whole, 100.0, settings.events, classes=CLASSES)
    assert len(events) == len(expected) > 3 and events["offset_s"].max() <= 6.3


def test_a_rate_without_whole_samples_in_a_frame_is_resampled_by_little(any_rate):
    given = Sound.of_waveform(sound(6.3, seed=1, rate=22_050), 22_050)
    settings, _ = settings_for(any_rate, precision="float32")
    assert any_rate.for_rate(22_050).sample_rate == 22_000
    assert len(in_pieces(any_rate, given, 3, 2)) == windows_of(given, any_rate, settings).frames == 630


def test_reading_in_other_blocks_changes_nothing(monkeypatch, detector):
    wave = sound(5, rate=11025)
    whole = in_pieces(detector, Sound.of_waveform(wave, 11025), 2, 1)
    monkeypatch.setattr(predict_stream, "BLOCK_SAMPLES", 777)
    np.testing.assert_allclose(in_pieces(detector, Sound.of_waveform(wave, 11025), 2, 1), whole, atol=1e-5)


def test_only_a_piece_is_read(detector):
    """A middle piece of an hour reads its windows and what the filter needs, in little memory."""
    read: list[tuple[int, int]] = []

    def silence(start: int, stop: int) -> Iterator[np.ndarray]:
        read.append((start, stop))
        yield np.zeros(stop - start, np.float32)

    hour = Sound(3600 * 12_000, 12_000, silence)
    settings, _ = settings_for(detector)
    windows = windows_of(hour, detector, settings)
    list(piece_outputs(detector, hour, windows, (1000, 1002), settings, 1))
    ((start, stop),) = read
    first_s, last_s = windows.start(1000) / 100, windows.start(1001) / 100 + 1
    assert 0 < first_s - start / 12_000 < 0.2 and 0 < stop / 12_000 - last_s < 0.1


def test_events_are_those_of_the_likelihoods_with_the_models_own_settings(detector):
    wave = sound(7, seed=3)
    settings, notices = settings_for(detector, precision="float32")
    found = events_of_waveform(detector, wave, RATE, settings)
    likelihoods = in_pieces(detector, Sound.of_waveform(wave, RATE), 3, 2)
    expected = find_events(likelihoods, RATE / STRIDE, settings.events, classes=CLASSES)
    expected = expected[np.lexsort((expected["class"], expected["onset_s"]))]
    assert notices == [] and settings.events.threshold == THRESHOLDS and len(found) > 5
    for name in ("class", "start", "stop", "onset_s", "offset_s"):
        assert np.array_equal(found[name], expected[name]), name
    np.testing.assert_allclose(found["likelihood"], expected["likelihood"], atol=1e-4)


def test_the_same_sound_in_any_form_has_the_same_events(detector, tmp_path):
    steps = np.round(sound(4, seed=5, rate=8000) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", steps, 8000)
    as_float = steps.astype(np.float32) / 32768
    whole = events_of_waveform(detector, as_float, 8000)
    assert len(whole) > 3
    for form in (steps, as_float.astype(np.float64), torch.from_numpy(as_float), as_float[None], list):
        given = as_float if form is list else form
        assert np.array_equal(events_of_waveform(detector, given, 8000.0), whole)
    folder = save_detector(detector, tmp_path / "model")
    for model in (detector, folder, str(folder)):
        table = predict(tmp_path / "a.wav", model)
        assert list(table) == ["file", "onset_s", "offset_s", "label", "likelihood", "threshold"]
        assert (table.file == "a.wav").all() and np.array_equal(table.likelihood, whole["likelihood"])
        assert table.label.tolist() == [CLASSES[number] for number in whole["class"]]
        assert table.threshold.tolist() == [THRESHOLDS[label] for label in table.label]
    assert predict(as_float, folder, sample_rate=8000).equals(table.drop(columns="file"))


def test_predict_takes_folders_and_settings(detector, tmp_path):
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", sound(3, seed=number), RATE)
    everything = predict(tmp_path, detector)
    assert set(everything.file) == {"0.wav", "1.wav"}
    one = predict([tmp_path / "1.wav"], detector, classes=["sn"], min_duration_s=0.1)
    expected = everything[(everything.file == "1.wav") & (everything.label == "sn")]
    expected = expected[expected.offset_s - expected.onset_s > 0.0999]
    assert len(one) and np.allclose(one[["onset_s", "offset_s"]], expected[["onset_s", "offset_s"]])


def test_silence_and_sound_of_one_frame_are_no_mistake(detector):
    events_of_waveform(detector, np.zeros(RATE * 3, np.float32), RATE)
    events_of_waveform(detector, np.zeros(detector.model_config.front_end.shortest, np.float32), RATE)


@pytest.mark.parametrize(
    "waveform, rate, told",
    [
        (np.zeros((2, 5000)), RATE, "expected one channel"),
        (np.r_[np.zeros(5000), np.nan], RATE, "1 of 5001 samples that are NaN"),
        (np.zeros(3), RATE, "waveform of 3 samples"),
        (np.zeros(60), 48_000, "waveform of 60 samples at 48000 Hz"),
        (np.zeros(5000), 0, "sample_rate = 0"),
        (np.zeros(5000), "8000", "sample_rate = '8000'"),
        (np.zeros(5000), 8000.5, "expected a whole number"),
        (np.zeros(5000), float("nan"), "expected Hz"),
    ],
)
def test_a_wrong_waveform_is_one_line(detector, waveform, rate, told):
    with pytest.raises(ValueError, match=told) as error:
        events_of_waveform(detector, waveform, rate)
    assert "\n" not in str(error.value)


def test_a_bad_recording_is_named(detector, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio at all")
    with pytest.raises(UserError, match=r"a\.wav: is not readable as audio"):
        predict(tmp_path / "a.wav", detector)
