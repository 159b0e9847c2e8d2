"""The synthetic corpus: the same from the same seed, imbalanced, sparse, too hard for an energy detector."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from a2v_data.corpus import Corpus
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.pack import PackConfig, pack
from a2v_data.stats import corpus_statistics
from a2v_data.storage import file_digest
from a2v_data.synth import synthesise
from a2v_data.synth_calls import SIGNATURES, VOCALISATIONS, draw_individual, event_sound, far_away
from sklearn.metrics import average_precision_score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twenty minutes, prepared."""
    folder = tmp_path_factory.mktemp("synth")
    return pack(synthesise(folder / "s", 20, 3), folder / "c", PackConfig(sample_rate=8000))


def digests(folder: Path) -> dict[str, str]:
    names = [path for part in ("wav", "lbl") for path in sorted((folder / part).iterdir())]
    return {path.name: file_digest(path) for path in names}


def test_seed_and_size_decide(tmp_path: Path) -> None:
    first = digests(synthesise(tmp_path / "a", 0.5, 7))
    assert first == digests(synthesise(tmp_path / "b", 0.5, 7)) and len(first) == 6
    other = digests(synthesise(tmp_path / "c", 0.5, 8))
    assert not {first[name] for name in first if name.endswith("wav")} & set(other.values())


def test_a_finished_corpus_is_kept_and_another_refused(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    synthesise(tmp_path / "a", 0.5, 7, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    synthesise(tmp_path / "a", 0.5, 7, lambda done, total: pytest.fail("written again"))
    for minutes, seed in ((0.5, 8), (1, 7)):
        with pytest.raises(ValueError, match="exists already"):
            synthesise(tmp_path / "a", minutes, seed)
    with pytest.raises(ValueError, match="at least one segment of 10 s"):
        synthesise(tmp_path / "b", 0, 1)
    assert "SYNTHETIC" in (tmp_path / "a" / "README.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_layout(tmp_path: Path) -> None:
    import h5py
    import soundfile

    folder = synthesise(tmp_path / "a", 1, 0)
    info = soundfile.info(folder / "wav" / "r0000_s0.wav")
    assert (info.samplerate, info.frames, info.channels, info.subtype) == (8000, 80_000, 1, "PCM_16")
    root, *rows = (folder / "manifest" / "pretrain.tsv").read_text().splitlines()
    assert root == str(folder / "wav") and len(rows) == 6
    assert all((folder / "wav" / row.split("\t")[0]).is_file() and row.endswith("\t80000") for row in rows)
    fields = ["start_time_lbl", "end_time_lbl", "start_frame_lbl", "end_frame_lbl", "lbl", "lbl_cat", "foc"]
    events = 0
    for row in rows:
        with h5py.File(folder / "lbl" / row.replace(".wav\t80000", ".h5")) as file:
            assert sorted(file) == sorted(fields)
            assert np.allclose(file["start_time_lbl"][()] * 8000, file["start_frame_lbl"][()])
            assert [MEERKAT_CLASSES[number].encode() for number in file["lbl_cat"][()]] == list(file["lbl"][()])
            events += len(file["lbl"])
    assert events > 6


def test_imbalance_length_and_sparsity(corpus: Corpus) -> None:
    found = corpus_statistics(corpus)
    classes = found["per_class"]
    assert corpus.classes == MEERKAT_CLASSES and corpus.problems == []
    assert min(entry["events"] for entry in classes.values()) >= 8  # the floor
    assert min(entry["recordings"] for entry in classes.values()) >= 5
    assert classes["cc"]["events"] == pytest.approx(607 / 3, rel=0.25)
    assert classes["sn"]["events"] == pytest.approx(367 / 3, rel=0.3)
    assert classes["cc"]["events"] > 10 * classes["ld"]["events"]
    assert 0.03 <= classes["sn"]["median_s"] <= 0.06 and 1.7 <= classes["synch"]["median_s"] <= 2.3
    assert 0.03 < found["share_vocal"] < 0.08  # about 95 % without a vocalisation
    focal = classes["focal"]["events"] / sum(classes[name]["events"] for name in VOCALISATIONS)
    assert 0.35 < focal < 0.6


def test_different_classes_overlap_and_one_class_does_not(corpus: Corpus) -> None:
    focal = corpus.classes.index("focal")
    overlaps = 0
    for number in range(len(corpus.recordings)):
        events = corpus.labels(number)
        events = events[events["class"] != focal]
        for one, other in itertools.pairwise(events):
            overlaps += other["onset_s"] < one["offset_s"]
        for kind in np.unique(events["class"]):
            same = events[events["class"] == kind]
            assert (same["onset_s"][1:] > same["offset_s"][:-1]).all()
    assert overlaps > 10


def test_a_threshold_on_energy_fails(corpus: Corpus) -> None:
    """Frames of 50 ms, scored by energy (over the segment's median too): AP of finding any vocalisation."""
    segments = corpus.segments(10.0)
    waveform, _ = corpus.waveforms(segments, 80_000)
    target = corpus.targets(segments, 20.0, 200)
    vocal = target[..., [corpus.classes.index(name) for name in VOCALISATIONS]].max(-1)
    energy = np.log(np.square(waveform.reshape(len(segments), 200, 400)).mean(-1) + 1e-9)
    assert average_precision_score(vocal.ravel(), energy.ravel()) < 0.25
    above = energy - np.median(energy, 1, keepdims=True)
    assert average_precision_score(vocal.ravel(), above.ravel()) < 0.35


def test_the_sound_is_where_the_label_is_and_nothing_is_clipped_away(corpus: Corpus) -> None:
    """Beeps are alone in their band, 2.9 kHz: its energy inside the label is far above that outside."""
    number = corpus.classes.index("beep")
    ratios = []
    for event in corpus.events[corpus.events["class"] == number]:
        segment = corpus.segments(10.0, recordings=[event["recording"]])
        spectrum = np.abs(np.fft.rfft(corpus.waveforms(segment, 80_000)[0][0].reshape(-1, 400), axis=1)) ** 2
        band = spectrum[:, 140:151].sum(1)  # 2.8 to 3 kHz in steps of 20 Hz, windows of 50 ms
        inside = slice(int(event["onset_s"] * 20) + 1, int(event["offset_s"] * 20))
        outside = np.r_[band[: inside.start - 1], band[inside.stop + 1 :]]
        ratios.append(band[inside].mean() / np.median(outside))
    assert min(ratios) > 10
    assert np.mean(np.abs(corpus.audio.astype(int)) >= 32767) < 1e-3


@pytest.mark.parametrize("name", SIGNATURES)
def test_calls_are_finite_and_of_unit_level(name: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sound = event_sound(name, 2000, draw_individual(rng), rng)
        assert sound.shape == (2000,) and np.isfinite(sound).all()
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(1, abs=1e-6)
        far = far_away(sound, rng)
        assert len(far) > 2000 and np.sqrt(np.mean(far[:2000] ** 2)) == pytest.approx(1, abs=1e-6)
