"""`a2v explain`: what it writes equals what model and recordings say, and what a user is told who gets it wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.corpus import Corpus
from a2v_data.stretch import read_stretch
from a2v_experiments.basics.errors import UserError
from a2v_experiments.explain.drawing import Recordings, event_config, explain_attention
from a2v_experiments.training.spec import part
from a2v_model import PRESETS, Detector, Pretrainer, load_model, save_model, write_thresholds
from a2v_model.config import FinetuneConfig, PretrainConfig
from a2v_model.explain import cumulative_response, mean_attention
from experiments_world import CLASSES, RATE, calls, make_recipe


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """An untrained detector of the small recipe, as a folder."""
    recipe = make_recipe(tmp_path)
    torch.manual_seed(0)
    model = Detector(recipe.model, part(recipe.finetune, FinetuneConfig), CLASSES)
    with torch.no_grad():
        model.head.bias.fill_(-1)
        model.backbone.front_end.sinc.filters.low_hz.add_(100)  # as if it had learned something
    save_model(model, tmp_path / "detector", {})
    return tmp_path / "detector"


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    recipe = make_recipe(tmp_path)
    save_model(Pretrainer(recipe.model, part(recipe.pretrain, PretrainConfig)), tmp_path / "pretrained", {})
    return tmp_path / "pretrained"


def test_attention_of_a_stretch_with_labels_and_predictions(a2v, detector, csv_source, tmp_path):
    file, out, npz = csv_source / "audio" / "rec03.wav", tmp_path / "new" / "at.png", tmp_path / "at.npz"
    write_thresholds(detector, {"sn": 0.3, "cc": 0.2}, {"method": "avg", "window_s": 0.03})
    said = a2v(
        "explain", "attention", file, "--model", detector, "--start", 0.5, "--end", 2.5, "--out", out, "--npz", npz,
        "--annotations", csv_source / "annotations.csv",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert f"figure: {out}" in said.out and f"arrays: {npz}" in said.out and out.read_bytes().startswith(b"\x89PNG")
    with np.load(npz, allow_pickle=False) as found:
        model = load_model(detector)
        waveform = read_stretch(file, 0.5, 2.5, RATE)
        np.testing.assert_array_equal(found["waveform"], waveform)
        np.testing.assert_allclose(found["attention"], mean_attention(model, waveform, RATE), atol=1e-7)
        np.testing.assert_allclose(found["likelihood"], model.likelihoods(waveform, RATE), atol=1e-6)
        assert found["attention"].shape == (200, 200) and found["frame_rate"] == 100 and found["start_s"] == 0.5
        assert list(found["classes"]) == CLASSES
        inside = [(label, a / RATE, b / RATE) for label, a, b in calls(3) if b > 0.5 * RATE and a < 2.5 * RATE]
        labels = [(CLASSES[row["class"]], row["onset_s"], row["offset_s"]) for row in found["labels"]]
        assert sorted(labels) == sorted(inside)
        predictions = found["predictions"]
        assert len(predictions) and predictions["onset_s"].min() >= 0.5 and predictions["offset_s"].max() <= 2.5
        above = found["likelihood"][:, 1] > 0.2  # the class's own threshold decides
        assert above.any() == bool((predictions["class"] == 1).any())
    assert f"200 frames, {len(inside)} labels, {len(predictions)} predictions" in said.out


def test_its_help_says_what_attention_is_not(a2v):
    said = a2v("explain", "attention", "--help")
    assert "not by itself an explanation" in " ".join(said.out.split())


def test_one_layer_and_one_head(a2v, detector, csv_source, tmp_path):
    file = csv_source / "audio" / "rec00.wav"
    said = a2v(
        "explain", "attention", file, "--model", detector, "--start", 0, "--end", 1, "--layer", -1, "--head", 1,
        "--out", tmp_path / "one.pdf", "--npz", tmp_path / "one.npz",
    )  # fmt: skip
    assert said.code == 0, said.err
    ((_, maps),) = load_model(detector).attention_maps(read_stretch(file, 0, 1, RATE), layers=2, heads=1)
    with np.load(tmp_path / "one.npz") as found:
        np.testing.assert_allclose(found["attention"], maps[0], atol=1e-7)
        assert len(found["labels"]) == 0
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")


def test_channel_and_rate_of_the_recording(a2v, detector, tmp_path):
    """A stereo recording at another rate: the model hears the chosen channel, resampled."""
    noise = np.random.default_rng(0).normal(0, 0.1, (3 * 22050, 2))
    soundfile.write(tmp_path / "stereo.flac", noise, 22050)
    said = a2v(
        "explain", "attention", tmp_path / "stereo.flac", "--model", detector, "--start", 1, "--end", 2, "--channel", 1,
        "--out", tmp_path / "s.png", "--npz", tmp_path / "s.npz", "--threshold", 0.9,
    )  # fmt: skip
    assert said.code == 0, said.err
    with np.load(tmp_path / "s.npz") as found:
        np.testing.assert_array_equal(found["waveform"], read_stretch(tmp_path / "stereo.flac", 1, 2, RATE, 1))
        assert len(found["predictions"]) == 0  # nothing is that likely


def test_a_pretrained_model_has_attention_but_no_predictions(a2v, pretrained, csv_source, tmp_path):
    file = csv_source / "audio" / "rec00.wav"
    call = ("explain", "attention", file, "--model", pretrained, "--start", 0, "--end", 1)
    said = a2v(*call, "--out", tmp_path / "a.png", "--annotations", csv_source / "annotations.csv")
    assert said.code == 0, said.err
    assert "0 predictions" in said.out and "0 labels" not in said.out
    said = a2v(*call, "--out", tmp_path / "b.png", "--threshold", 0.2)
    assert said.code == 2 and "pretrained only" in said.only_line()


def test_labels_of_classes_that_the_model_does_not_know_are_shown_too(detector, csv_source, tmp_path):
    file = csv_source / "audio" / "rec00.wav"
    (tmp_path / "mine.csv").write_text(
        "file,onset_s,offset_s,label\nrec00.wav,0.2,0.4,owl\nrec00.wav,0.6,0.7,cc\nrec01.wav,0.2,0.4,bat\n"
    )
    found = explain_attention(load_model(detector), file, 0, 1, annotations=tmp_path / "mine.csv")
    assert found.classes == [*CLASSES, "owl"] and found.labels["class"].tolist() == [2, 1]
    (tmp_path / "rec00.txt").write_text("0.2\t0.4\tOwl\n")  # a label track, in another program's words
    (tmp_path / "map.yaml").write_text("Owl: owl\n")
    reading = AnnotationConfig(mapping="map.yaml")
    found = explain_attention(load_model(detector), file, 0, 1, annotations=tmp_path / "rec00.txt", reading=reading)
    assert found.classes == [*CLASSES, "owl"] and found.labels["class"].tolist() == [2]


def test_event_settings_are_those_that_the_thresholds_were_chosen_with(detector):
    assert event_config(load_model(detector)).threshold == 0.15
    write_thresholds(detector, {"cc": 0.3}, {"method": "max", "window_s": 0.03, "recordings": "fold 0"})
    config = event_config(load_model(detector))
    assert (config.method, config.window_s) == ("max", 0.03)
    assert config.threshold == {"sn": 0.15, "cc": 0.3}  # where none was chosen, the usual one


@pytest.mark.parametrize(
    "change, code, told",
    [
        ({"--start": 2, "--end": 1}, 2, "should be 0 <= start < end"),
        ({"--end": 50}, 2, "end 50 s: the recording is 3.1"),
        ({"--channel": 1}, 2, "has 1 channel(s), channel 1"),
        ({"--layer": 9}, 2, "layer 9: this model has layers 0 to 2"),
        ({"--head": 2}, 2, "head 2: this model has heads 0 to 1"),
        ({"--end": 0.001}, 2, "expected at least 22 (0.0055 s"),
        ({"--model": "nowhere"}, 2, "nowhere: no model.json there"),
        ({"--annotations": "none.csv"}, 2, "none.csv: no such file"),
        ({"--out": "picture.gif"}, 2, "picture.gif: a figure's name ends with .png, .pdf, .svg"),
        ({"--npz": "a.csv"}, 2, "a.csv: a file of arrays ends with .npz"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    a2v, detector, csv_source, tmp_path, monkeypatch, change, code, told
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    options = {"--model": detector, "--start": 0, "--end": 1, "--out": "out.png"} | change
    said = a2v("explain", "attention", csv_source / "audio" / "rec00.wav", *(x for o in options.items() for x in o))
    assert said.code == code and told in said.only_line(), said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stretch_that_memory_cannot_hold_is_refused_before_it_is_read(detector, csv_source):
    with pytest.raises(UserError, match=r"100000 s: maps of attention need .* choose a stretch of"):
        explain_attention(load_model(detector), csv_source / "audio" / "rec00.wav", 0, 100_000)


def test_nothing_is_overwritten(a2v, detector, csv_source, tmp_path):
    (tmp_path / "mine.png").write_text("mine")
    call = ("--model", detector, "--out", tmp_path / "mine.png")
    for command in (
        ("filters",), ("attention", csv_source / "audio" / "rec00.wav", "--start", 0, "--end", 1)
    ):  # fmt: skip
        said = a2v("explain", *command, *call)
        assert said.code == 2 and "mine.png: exists already" in said.only_line()
    assert (tmp_path / "mine.png").read_text() == "mine"


def test_filters_beside_mel_and_the_spectrum_of_recordings(a2v, detector, corpus, csv_source, tmp_path):
    """The tones of the small corpus stand out of the spectrum, whether they are read packed or from files."""
    spectra = {}
    for name, audio in (
        ("packed", [corpus.folder]),
        ("folder", [csv_source / "audio"]),
        ("files", [csv_source / "audio" / f"rec{n:02d}.wav" for n in range(12)]),
    ):
        paths = [part for path in audio for part in ("--audio", path)]
        said = a2v(
            "explain", "filters", "--model", detector, *paths, "--out", tmp_path / f"{name}.png",
            "--npz", tmp_path / f"{name}.npz",
        )  # fmt: skip
        assert said.code == 0, said.err
        assert "mean spectrum of 12 of 12 stretches of up to 10 s" in said.out and " dB at " in said.out
        with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as found:
            spectra[name] = found["spectrum"]
            level_db = 10 * np.log10(found["spectrum"] / np.median(found["spectrum"]))
            for tone_hz in (500, 1300):
                assert level_db[np.argmin(np.abs(found["spectrum_hz"] - tone_hz))] > 15
            expected = cumulative_response(load_model(detector))
            np.testing.assert_allclose(found["response"], expected.learned)
            np.testing.assert_allclose(found["mel"], expected.initial)
            assert found["frequency_hz"][-1] == RATE / 2 and not np.allclose(found["response"], found["mel"], atol=0.01)
    np.testing.assert_array_equal(spectra["files"], spectra["folder"])
    np.testing.assert_allclose(spectra["packed"], spectra["folder"], rtol=1e-3)  # but for rounding to 16 bit


def test_filters_alone(a2v, pretrained, tmp_path):
    said = a2v("explain", "filters", "--model", pretrained, "--out", tmp_path / "f.svg", "--npz", tmp_path / "f.npz")
    assert said.code == 0, said.err
    with np.load(tmp_path / "f.npz") as found:
        assert sorted(found) == ["frequency_hz", "mel", "response"]
    assert "<svg" in (tmp_path / "f.svg").read_text()


def test_a_bad_recording_is_named_and_harms_no_other(a2v, detector, csv_source, tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "good.wav").write_bytes((csv_source / "audio" / "rec00.wav").read_bytes())
    (tmp_path / "audio" / "bad.wav").write_text("no audio")
    (tmp_path / "audio" / "empty.flac").write_bytes(b"")
    call = ("explain", "filters", "--model", detector, "--audio", tmp_path / "audio", "--out")
    said = a2v(*call, tmp_path / "f.png")
    assert said.code == 1 and (tmp_path / "f.png").is_file() and "1 of 1 stretches" in said.out
    lines = [line for line in said.lines() if "left out" in line]
    assert len(lines) == 2 and "bad.wav" in lines[0] and "empty.flac: is empty" in lines[1]
    (tmp_path / "audio" / "good.wav").unlink()
    said = a2v(*call, tmp_path / "g.png")
    assert said.code == 2 and "no recording there that can be read" in said.err and not (tmp_path / "g.png").exists()


@pytest.mark.parametrize("minutes, expected", [(60.0, 12), (1.0, 6), (0.1, 1)])
def test_stretches_are_spread_evenly_and_no_more_than_asked_for(csv_source, minutes, expected):
    found = Recordings([csv_source / "audio"], RATE, 0, minutes)
    assert len(found) == expected and found.found == 12 and len(list(found)) == expected


@pytest.mark.parametrize("samples, expected", [(100, 1), (40_000, 1), (40_001, 1), (80_001, 2), (88_000, 3)])
def test_no_stretch_is_too_short_to_be_read(tmp_path, samples, expected):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, samples), RATE)
    found = Recordings([tmp_path], RATE, 0, 60.0)
    waveforms = list(found)
    assert len(waveforms) == expected and found.problems == []
    assert all(len(waveform) >= min(samples, 400) for waveform in waveforms)


def test_paths_that_do_not_fit(csv_source, corpus: Corpus, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        Recordings([tmp_path / "nowhere"], RATE, 0, 1.0)
    with pytest.raises(UserError, match="packed at 4000 Hz, this model hears 8000 Hz"):
        Recordings([corpus.folder], 8000, 0, 1.0)


def test_an_ear_has_filters_to_show_and_convolutions_no_attention(a2v, csv_source, tmp_path):
    preset = PRESETS["crnn"]
    save_model(Detector(preset.model, preset.finetune, ["cc"]), tmp_path / "crnn", {})
    said = a2v("explain", "filters", "--model", tmp_path / "crnn", "--out", tmp_path / "f.png")
    assert said.code == 0 and "+0 dB" in said.out  # its bands are fixed
    info = a2v("model", "info", tmp_path / "crnn")
    assert info.code == 0 and "7 dilated convolutions, no transformer" in info.out
    file, out = csv_source / "audio" / "rec03.wav", tmp_path / "at.png"
    said = a2v("explain", "attention", file, "--model", tmp_path / "crnn", "--start", 0, "--end", 1, "--out", out)
    assert said.code == 2 and said.only_line().startswith("this model has no transformer (encoder.kind = convolutions)")
    assert not out.exists()
    model = load_model(tmp_path / "crnn")
    assert model.embed(torch.randn(8000)).shape == (100, 96)
    with pytest.raises(ValueError, match="no transformer"):
        model.embed(torch.randn(8000), layers=0)
